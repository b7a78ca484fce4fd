"""The outer loop: many outer steps per compiled dispatch, shared over devices, saved and resumed."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import PartitionSpec as P

from ddjax import checks, optimizers, parallel
from ddjax import distilled as forms
from ddjax.checkpoint import PreemptionGuard, Store
from ddjax.data import Dataset, to_device
from ddjax.report import MetricsWriter
from ddjax.types import Distilled, Form, Info, Method, PyTree, RealData, Schedule

DISPATCH_CAPACITY = 200
"""Most outer steps in one dispatch: the length of the buffer that brings their diagnostics back."""

DISPATCH_SECONDS = 2.0
"""How long a dispatch should take: long enough that its cost vanishes, short enough to report and stop."""


class StepInfo(NamedTuple):
    """Diagnostics of one outer step; means over the M slots where a slot has its own.

    Attributes:
        loss: `[]`, the method's loss before φ moved.
        grad_norm: `[]`, global norm of its gradient, before clipping.
        clipped: `[]` bool, whether that norm was above the bound.
        lrs: `[E, S]`, η before φ moved; None for a schedule without.
        method: the method's own `Info`.
    """

    loss: jax.Array
    grad_norm: jax.Array
    clipped: jax.Array
    lrs: jax.Array | None
    method: Info


class EngineState(NamedTuple):
    """What one outer step hands to the next.

    Attributes:
        step: `[]` int32, outer steps done.
        params: φ's parameters.
        opt_state: of the outer optimiser.
        slots: the method's states, each leaf `[M, ...]`.
    """

    step: jax.Array
    params: PyTree
    opt_state: optax.OptState
    slots: PyTree


class Best(NamedTuple):
    """The φ that validated best so far.

    Attributes:
        params: φ's parameters.
        accuracy: `[]` float64, percent on validation; -inf before the first validation.
        step: `[]` int64, outer steps done at the time.
    """

    params: PyTree
    accuracy: np.ndarray
    step: np.ndarray


class Snapshot(NamedTuple):
    """All that a resumed run needs.

    Attributes:
        state: of the engine.
        best: so far.
        seconds: `[]` float64, of distilling so far.
        key: `[...]` uint32, the data of the run's key.
    """

    state: EngineState
    best: Best
    seconds: np.ndarray
    key: np.ndarray


@dataclasses.dataclass(frozen=True)
class Problem:
    """What one outer step computes.

    Attributes:
        method: defines the loss of one slot.
        form: unfolds φ's parameters.
        optimizer: moves them.
        num_inits: M.
        clip_norm: bound on the gradient's global norm; None for no bound.
        slots_per_chunk: how many slots are vmapped; the rest follow one chunk after the other.
    """

    method: Method
    form: Form
    optimizer: optax.GradientTransformation
    num_inits: int = 1
    clip_norm: float | None = 1.0
    slots_per_chunk: int = 1


@dataclasses.dataclass(frozen=True)
class Validation:
    """How the best φ is chosen.

    Attributes:
        score: `schedule -> percent`, on data and initial weights that the test never sees.
        every: outer steps from one validation to the next; the last step is always validated.
    """

    score: Callable[[Schedule], jax.Array | float]
    every: int = 100


class Cost(NamedTuple):
    """What the compiled outer steps take, before the first one has run.

    Attributes:
        compile_seconds: of XLA.
        temporary_bytes: XLA's buffers on one device; 0 where the backend does not say.
        resident_bytes: real data, φ and states on one device.
    """

    compile_seconds: float
    temporary_bytes: int
    resident_bytes: int


@dataclasses.dataclass(frozen=True)
class Reporting:
    """What a run tells while it goes.

    Attributes:
        every: outer steps from one record of the metrics to the next.
        listener: called with each record.
        announce: called once, after compiling.
        tensorboard: whether records go to `WORKDIR/tensorboard` too.
    """

    every: int = 10
    listener: Callable[[Mapping[str, Any]], None] | None = None
    announce: Callable[[Cost], None] | None = None
    tensorboard: bool = False


@dataclasses.dataclass(frozen=True)
class Run:
    """What `distill` returns.

    Attributes:
        distilled: the best φ by validation, or the last where there is none.
        num_outer_steps: done in all.
        best_step: outer steps behind `distilled`.
        val_accuracy: its percent on validation; None without validation.
        seconds: `compile`, of this process; `distil`, of all processes that worked on the run.
        history: one record per outer step that was reported, as in `metrics.jsonl`.
    """

    distilled: Distilled
    num_outer_steps: int
    best_step: int
    val_accuracy: float | None
    seconds: Mapping[str, float]
    history: Sequence[Mapping[str, Any]]


class DivergedError(RuntimeError):
    """The loss, its gradient or φ stopped being finite; the message says where and what to change."""


class PreemptedError(RuntimeError):
    """A signal asked the run to stop; it was saved and the same call continues it."""


def slot_keys(key: jax.Array, slot_ids: jax.Array) -> jax.Array:
    """One key for each slot, `[m]`, from its number alone, so that the share of devices changes none."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, slot_ids)


def mean_and_grad(
    problem: Problem, params: PyTree, slots: PyTree, batch: Any, keys: jax.Array
) -> tuple[tuple[jax.Array, Info], PyTree]:
    """The loss averaged over this device's m slots, its diagnostics, and its gradient in φ's parameters.

    Slots of one chunk are vmapped; chunks follow each other, and each is differentiated before the next
    starts, so that the memory is that of one chunk.

    Args:
        problem: what to compute.
        params: φ's parameters.
        slots: the method's states, `[m, ...]`.
        batch: shared by all slots.
        keys: `[m]`.

    Returns:
        `((loss, info), gradient)`.
    """
    num_slots = len(keys)
    chunk = math.gcd(problem.slots_per_chunk, num_slots)

    def one(params: PyTree, slot: PyTree, key: jax.Array) -> tuple[jax.Array, Info]:
        return problem.method.loss(problem.form.unfold(params), slot, batch, key)

    def mean(params: PyTree, slots: PyTree, keys: jax.Array) -> tuple[jax.Array, Info]:
        if chunk == 1:  # A vmapped axis of one would still turn every product into a batched one.
            return one(params, jax.tree.map(lambda leaf: leaf[0], slots), keys[0])
        results = jax.vmap(one, (None, 0, 0))(params, slots, keys)
        return jax.tree.map(lambda leaf: leaf.mean(0), results)

    def of_chunk(slots: PyTree, keys: jax.Array) -> tuple[tuple[jax.Array, Info], PyTree]:
        return jax.value_and_grad(mean, has_aux=True)(params, slots, keys)

    if chunk == num_slots:
        return of_chunk(slots, keys)
    chunked = jax.tree.map(
        lambda leaf: leaf.reshape(num_slots // chunk, chunk, *leaf.shape[1:]), (slots, keys)
    )
    zero = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
        jax.eval_shape(of_chunk, *jax.tree.map(lambda leaf: leaf[0], chunked)),
    )

    def add(total: PyTree, now: tuple[PyTree, jax.Array]) -> tuple[PyTree, None]:
        return jax.tree.map(jnp.add, total, of_chunk(*now)), None

    total, _ = jax.lax.scan(add, zero, chunked)
    return jax.tree.map(lambda leaf: leaf * (chunk / num_slots), total)


def _all_finite(tree: PyTree) -> jax.Array:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))


def outer_step(
    problem: Problem, state: EngineState, data: RealData, key: jax.Array
) -> tuple[EngineState, StepInfo, jax.Array]:
    """One outer step on one device of the mesh; call it inside `shard_map`.

        g = mean over slots of ∇_φ L,   φ ← φ - optimizer(g · min(1, clip_norm / ‖g‖))

    Args:
        problem: what to compute.
        state: with this device's share of the slots.
        data: the real training data.
        key: of the whole run; the step's own keys are folded from it and the step's number.

    Returns:
        The next state, the diagnostics, and whether all of it is finite; where it is not, the state is
        the one that came in.
    """
    num_local = problem.num_inits // jax.lax.axis_size(parallel.AXIS)
    slot_ids = jax.lax.axis_index(parallel.AXIS) * num_local + jnp.arange(num_local)
    sample_key, loss_key, advance_key = jax.random.split(jax.random.fold_in(key, state.step), 3)
    batch = problem.method.sample(data, sample_key)
    results = mean_and_grad(problem, state.params, state.slots, batch, slot_keys(loss_key, slot_ids))
    (loss, info), grads = jax.lax.pmean(results, parallel.AXIS)

    norm = optax.global_norm(grads)
    bound = jnp.inf if problem.clip_norm is None else problem.clip_norm
    grads = jax.tree.map(lambda g: (g * jnp.minimum(1.0, bound / norm)).astype(g.dtype), grads)
    updates, opt_state = problem.optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    schedule = problem.form.unfold(params)
    slots = jax.lax.map(
        lambda slot_and_key: problem.method.advance(schedule, *slot_and_key),
        (state.slots, slot_keys(advance_key, slot_ids)),
        batch_size=problem.slots_per_chunk,
    )
    finite = _all_finite((loss, norm, params))
    moved = EngineState(state.step + 1, params, opt_state, slots)
    state_out = jax.tree.map(lambda new, old: jnp.where(finite, new, old), moved, state)
    diagnostics = StepInfo(loss, norm, norm > bound, problem.form.unfold(state.params).lrs, info)
    return state_out, diagnostics, finite


def build_dispatch(problem: Problem, mesh: jax.sharding.Mesh, *, capacity: int = DISPATCH_CAPACITY) -> Any:
    """Compile-ready: outer steps one after the other on the devices, without a look at the host.

    Args:
        problem: what one step computes.
        mesh: the devices.
        capacity: most steps in one call.

    Returns:
        A jitted `(state, data, key, stop) -> (state, infos [capacity, ...], finite)` that donates `state`
        and runs until `state.step` is `stop`, the capacity is full, or a step is not finite; that step's
        diagnostics are the last ones written.
    """

    def many(
        state: EngineState, data: RealData, key: jax.Array, stop: jax.Array
    ) -> tuple[EngineState, StepInfo, jax.Array]:
        start = state.step
        shapes = jax.eval_shape(lambda state: outer_step(problem, state, data, key)[1], state)
        infos = jax.tree.map(lambda leaf: jnp.zeros((capacity, *leaf.shape), leaf.dtype), shapes)

        def go_on(carry: tuple[EngineState, StepInfo, jax.Array]) -> jax.Array:
            state, _, finite = carry
            return finite & (state.step < jnp.minimum(stop, start + capacity))

        def body(
            carry: tuple[EngineState, StepInfo, jax.Array],
        ) -> tuple[EngineState, StepInfo, jax.Array]:
            state, infos, _ = carry
            index = state.step - start
            state, info, finite = outer_step(problem, state, data, key)
            infos = jax.tree.map(lambda buffer, value: buffer.at[index].set(value), infos, info)
            return state, infos, finite

        return jax.lax.while_loop(go_on, body, (state, infos, jnp.array(True)))

    states = EngineState(step=P(), params=P(), opt_state=P(), slots=P(parallel.AXIS))  # type: ignore[arg-type]
    # check_vma=False: the gradient inside is this device's own, and outer_step takes the one mean of it.
    sharded = jax.shard_map(
        many, mesh=mesh, in_specs=(states, P(), P(), P()), out_specs=(states, P(), P()), check_vma=False
    )
    return jax.jit(sharded, donate_argnums=0)


def init_state(problem: Problem, key: jax.Array) -> EngineState:
    """The state before the first outer step: φ's starting point and M fresh slots. Consumes the key."""
    params_key, slots_key = jax.random.split(key)
    params = problem.form.init(params_key)
    slots = jax.vmap(problem.method.init)(slot_keys(slots_key, jnp.arange(problem.num_inits)))
    return EngineState(jnp.zeros((), jnp.int32), params, problem.optimizer.init(params), slots)


def default_devices(num_inits: int) -> list[jax.Device]:
    """As many of this process's devices as share M slots evenly."""
    devices = jax.local_devices()
    return devices[: math.gcd(num_inits, len(devices))]


def check_problem(problem: Problem, key: jax.Array, data: RealData) -> None:
    """Refuse, without compiling, a method, form and data that do not fit together.

    Raises:
        ValueError: φ's images or classes are not the data's, or the method needs learning rates that the
            form does not bring.
    """
    schedule = jax.eval_shape(lambda key: problem.form.unfold(problem.form.init(key)), key)
    checks.equal(
        "the form's image shape (H, W, C)",
        schedule.inputs.shape[2:],
        data.images.shape[1:],
        remedy="Build the form with data.image_shape.",
    )
    num_classes = len(data.class_start) - 1
    checks.equal(
        "the form's number of classes",
        schedule.labels.shape[2],
        num_classes,
        remedy="Build the form with data.num_classes.",
    )
    if problem.method.needs_lrs and schedule.lrs is None:
        raise ValueError(
            f"the form: expected learning rates, which {problem.method.name} trains with; got none. "
            "Build it with inner_lr=0.02 or another start."
        )
    if not problem.method.needs_lrs and schedule.lrs is not None:
        raise ValueError(
            f"the form: expected no learning rates, {problem.method.name} learns none; got "
            f"{list(schedule.lrs.shape)} of them. Build it with inner_lr=None."
        )


def default_form(data: Dataset, method: Method) -> Form:
    """Pixels: S 10, E 3 with learning rates where the method learns them, else all in one step."""
    if method.needs_lrs:
        return forms.pixels(data.image_shape, data.num_classes)
    return forms.pixels(data.image_shape, data.num_classes, inner_steps=1, inner_epochs=1, inner_lr=None)


def default_optimizer(method: Method, num_outer_steps: int) -> optax.GradientTransformation:
    """Adam on a cosine where learning rates are learned, SGD with momentum where images alone are."""
    return optimizers.adam_cosine(num_outer_steps) if method.needs_lrs else optimizers.sgd_momentum()


def _record(step: int, info: StepInfo) -> dict[str, Any]:
    """One line of metrics: Python numbers, the method's diagnostics under their own names."""
    record: dict[str, Any] = {
        "step": step,
        "loss": float(info.loss),
        "grad_norm": float(info.grad_norm),
        "clipped": bool(info.clipped),
    }
    if info.lrs is not None:
        record["lrs"] = np.ravel(info.lrs).tolist()
    for name, value in info.method._asdict().items():
        record[name] = value.tolist()
    return record


def _diverged(step: int, info: StepInfo, saved: str) -> DivergedError:
    lines = [
        f"outer step {step + 1} is not finite: loss {float(info.loss):.4g}, gradient norm "
        f"{float(info.grad_norm):.4g}."
    ]
    if info.lrs is not None:
        epoch, position = np.unravel_index(np.argmax(info.lrs), info.lrs.shape)
        lines.append(
            f"The largest learning rate is {float(info.lrs.max()):.4g}, of epoch {epoch}, step {position}."
        )
    for name, value in info.method._asdict().items():
        lines.append(f"{name}: {np.array2string(np.asarray(value), precision=4, threshold=50)}")
    lines.append(f"{saved} Try a smaller outer_lr, inner_lr or clip_norm, or fewer inner steps.")
    return DivergedError("\n".join(lines))


@dataclasses.dataclass
class _Journal:
    """What a run writes and tells while it goes: records every so many steps, to disk and to a listener."""

    every: int
    writer: MetricsWriter | None
    listener: Callable[[Mapping[str, Any]], None] | None
    history: list[Mapping[str, Any]] = dataclasses.field(default_factory=list)

    def add(self, record: Mapping[str, Any]) -> None:
        self.history.append(record)
        if self.writer is not None:
            self.writer.write(record)
        if self.listener is not None:
            self.listener(record)


@dataclasses.dataclass
class _Pace:
    """How many steps the next dispatch should hold to take about `DISPATCH_SECONDS`."""

    steps: int = 1

    def learn(self, done: int, seconds: float) -> None:
        rate = done / max(seconds, 1e-6)
        self.steps = max(1, min(DISPATCH_CAPACITY, int(rate * DISPATCH_SECONDS)))


def distill(
    data: Dataset,
    method: Method,
    *,
    key: jax.Array,
    num_outer_steps: int,
    form: Form | None = None,
    num_inits: int = 1,
    optimizer: optax.GradientTransformation | None = None,
    clip_norm: float | None = 1.0,
    slots_per_chunk: int = 1,
    devices: Sequence[jax.Device] | None = None,
    validation: Validation | None = None,
    workdir: str | Path | None = None,
    save_seconds: float = 30.0,
    reporting: Reporting = Reporting(),
    metadata: Mapping[str, Any] | None = None,
) -> Run:
    """Move φ down the gradient of the method's loss, averaged over M draws of initial weights.

    With a `workdir` the run is saved there as it goes; called again with the same arguments it continues
    from the last checkpoint and ends with the same bytes as if it had never stopped.

    Args:
        data: the real data; only its training split is used here.
        method: the loss.
        key: all randomness comes from it.
        num_outer_steps: updates of φ.
        form: of φ; by default free pixels, S 10 and E 3 (one step where no learning rates are learned).
        num_inits: M, draws of initial weights in an outer step.
        optimizer: of φ; by default see `default_optimizer`.
        clip_norm: bound on the gradient's global norm; None for no bound.
        slots_per_chunk: how many of the M are vmapped at once.
        devices: that share the M; by default as many local ones as divide it.
        validation: chooses the best φ; without it the last one is returned.
        workdir: directory for `checkpoints/` and `metrics.jsonl`.
        save_seconds: seconds between checkpoints.
        reporting: what is told while it goes.
        metadata: facts to put into the artifact.

    Returns:
        A `Run`.

    Raises:
        ValueError: arguments that do not fit together; nothing was compiled.
        DivergedError: something was not finite; the last finite state is saved.
        PreemptedError: SIGTERM or SIGINT came; the run is saved.
    """
    checks.at_least("num_outer_steps", num_outer_steps, 1)
    checks.at_least("num_inits", num_inits, 1)
    checks.at_least("slots_per_chunk", slots_per_chunk, 1)
    if clip_norm is not None:
        checks.positive("clip_norm", clip_norm)
    problem = Problem(
        method,
        form or default_form(data, method),
        optimizer or default_optimizer(method, num_outer_steps),
        num_inits,
        clip_norm,
        slots_per_chunk,
    )
    devices = default_devices(num_inits) if devices is None else devices
    parallel.check_divides(num_inits, len(devices))
    real = to_device(data.train)
    check_problem(problem, key, real)

    mesh = parallel.mesh(devices)
    real = jax.device_put(real, parallel.replicated(mesh))
    store = None if workdir is None else Store(Path(workdir) / "checkpoints")
    run_key, init_key = jax.random.split(key)
    snapshot = _start(problem, store, init_key, run_key)
    writer = _open_writer(workdir, reporting, done=int(snapshot.state.step))
    journal = _Journal(reporting.every, writer, reporting.listener)
    loop = _Loop(problem, mesh, real, run_key, num_outer_steps, validation, store, save_seconds, journal)
    try:
        dispatch, cost = loop.compile(snapshot.state)
        if reporting.announce is not None:
            reporting.announce(cost)
        snapshot = loop.run(snapshot, dispatch)
    finally:
        if writer is not None:
            writer.close()
    best = snapshot.best if validation else Best(snapshot.state.params, np.nan, snapshot.state.step)
    return Run(
        distilled=Distilled(
            params=best.params,
            form=problem.form,
            mean=jnp.asarray(data.mean),
            std=jnp.asarray(data.std),
            recipe=method.recipe,
            metadata={"dataset": data.name, "class_names": list(data.class_names), "method": method.name}
            | dict(metadata or {}),
        ),
        num_outer_steps=int(snapshot.state.step),
        best_step=int(best.step),
        val_accuracy=float(best.accuracy) if validation else None,
        seconds={"compile": cost.compile_seconds, "distil": float(snapshot.seconds)},
        history=journal.history,
    )


def _open_writer(workdir: str | Path | None, reporting: Reporting, *, done: int) -> MetricsWriter | None:
    """The metrics file of a run that has done so many steps; later lines will be written again."""
    if workdir is None:
        return None
    directory = Path(workdir)
    directory.mkdir(parents=True, exist_ok=True)
    events = directory / "tensorboard" if reporting.tensorboard else None
    writer = MetricsWriter(directory / "metrics.jsonl", tensorboard=events)
    writer.truncate_after(done)
    return writer


def _start(problem: Problem, store: Store | None, init_key: jax.Array, run_key: jax.Array) -> Snapshot:
    """The newest checkpoint, or the beginning."""
    state = init_state(problem, init_key)
    nothing = Best(state.params, np.array(-np.inf), np.array(0))
    key_data = np.asarray(jax.random.key_data(run_key))
    fresh = Snapshot(state, nothing, np.array(0.0), key_data)
    found = store.restore(fresh) if store is not None else None
    if found is None:
        return fresh
    if not np.array_equal(found.key, key_data):
        raise ValueError(
            f"{store.directory if store else ''}: expected a run of this key; got one of another. Give this "
            "run a directory of its own, or the key it was started with."
        )
    return found


@dataclasses.dataclass
class _Loop:
    """The host's side of the outer loop: dispatch, look at what came back, validate, save."""

    problem: Problem
    mesh: jax.sharding.Mesh
    data: RealData
    key: jax.Array
    num_outer_steps: int
    validation: Validation | None
    store: Store | None
    save_seconds: float
    journal: _Journal

    def compile(self, state: EngineState) -> tuple[Any, Cost]:
        """The dispatch, compiled for this state's shapes, and what it takes."""
        started = time.monotonic()
        arguments = (self._place(state), self.data, self.key, jnp.int32(0))
        dispatch = build_dispatch(self.problem, self.mesh).lower(*arguments).compile()
        seconds = time.monotonic() - started
        memory = dispatch.memory_analysis()
        temporary = getattr(memory, "temp_size_in_bytes", 0)
        return dispatch, Cost(seconds, temporary, getattr(memory, "argument_size_in_bytes", 0))

    def run(self, snapshot: Snapshot, dispatch: Any) -> Snapshot:
        """Go on from a snapshot to the end."""
        snapshot = snapshot._replace(state=self._place(snapshot.state))
        pace, saved_at, clock = _Pace(), time.monotonic(), time.monotonic()
        with PreemptionGuard() as guard:
            while (step := int(snapshot.state.step)) < self.num_outer_steps:
                began = time.monotonic()
                stop = min(step + pace.steps, self._boundary(step))
                state, infos, finite = dispatch(snapshot.state, self.data, self.key, jnp.int32(stop))
                snapshot = snapshot._replace(state=state)
                done = int(state.step) - step
                infos = jax.device_get(infos)
                pace.learn(done, time.monotonic() - began)
                snapshot = self._look(snapshot, step, done, infos)
                now = time.monotonic()
                snapshot = snapshot._replace(seconds=snapshot.seconds + (now - clock))
                clock = now
                finished = int(state.step) == self.num_outer_steps
                if not bool(finite) or guard.requested or finished or now - saved_at >= self.save_seconds:
                    self._save(snapshot)
                    saved_at = time.monotonic()
                if not bool(finite):
                    raise _diverged(step + done, jax.tree.map(lambda leaf: leaf[done], infos), self._saved())
                if guard.requested and not finished:
                    raise PreemptedError(f"stopped by a signal after outer step {step + done}. {self._saved()}")
        return snapshot

    def _place(self, state: EngineState) -> EngineState:
        """Put a state on the mesh; as a copy, because the dispatch takes its memory over."""
        everywhere, split = parallel.replicated(self.mesh), parallel.split_slots(self.mesh)
        shared = jax.tree.map(
            lambda leaf: jax.device_put(np.array(leaf), everywhere), state._replace(slots=())
        )
        return shared._replace(
            slots=jax.tree.map(lambda leaf: jax.device_put(np.array(leaf), split), state.slots)
        )

    def _boundary(self, step: int) -> int:
        """The next step count at which the host must have a look of its own."""
        if self.validation is None:
            return self.num_outer_steps
        every = self.validation.every
        return min(self.num_outer_steps, (step // every + 1) * every)

    def _look(self, snapshot: Snapshot, start: int, done: int, infos: StepInfo) -> Snapshot:
        """Record what came back; validate where it is time."""
        end = start + done
        score = None
        if self.validation is not None and done and end == self._boundary(start):
            score = float(self.validation.score(self.problem.form.unfold(snapshot.state.params)))
            if score > float(snapshot.best.accuracy):
                params = jax.device_get(snapshot.state.params)
                snapshot = snapshot._replace(best=Best(params, np.array(score), np.array(end)))
        for step in range(start + 1, end + 1):
            validated = score is not None and step == end
            if step % self.journal.every and not validated:
                continue
            record = _record(step, jax.tree.map(lambda leaf, at=step - start - 1: leaf[at], infos))
            self.journal.add(record | {"val_accuracy": score} if validated else record)
        return snapshot

    def _save(self, snapshot: Snapshot) -> None:
        if self.store is not None:
            self.store.save(int(snapshot.state.step), snapshot)

    def _saved(self) -> str:
        if self.store is None:
            return "Nothing was saved: give a workdir to keep what is done."
        return f"The last finite state is saved in {self.store.directory}; the same call continues from it."

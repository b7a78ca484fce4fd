"""A run: the engine's outer loop from its last checkpoint to its end, validated, recorded and saved."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from ddjax import checks, forms, parallel, recovery
from ddjax.checkpoint import PreemptionGuard, Saver, Store
from ddjax.data import Dataset, to_device
from ddjax.defaults import default_form
from ddjax.engine import (
    DISPATCH_CAPACITY,
    Cost,
    EngineState,
    Problem,
    StepInfo,
    check_problem,
    compile_dispatch,
    init_state,
)
from ddjax.report import MetricsWriter
from ddjax.types import Distilled, Encoding, Form, Info, Method, Outer, PyTree, RealData, Recipe, Schedule
from ddjax.workdir import held

DISPATCH_SECONDS = 2.0
"""How long a dispatch should take: long enough that its cost vanishes, short enough to report and stop."""


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
        position: `[]` int64, bytes of `metrics.jsonl` that belong to it.
        rollbacks: `[]` int64, done so far.
        good: the two newest states that a rollback may go back to, the older one first; none where a run
            does not roll back.
    """

    state: EngineState
    best: Best
    seconds: np.ndarray
    key: np.ndarray
    position: np.ndarray
    rollbacks: np.ndarray
    good: tuple[EngineState, ...]


@dataclasses.dataclass(frozen=True)
class Validation:
    """How the best φ is chosen.

    Attributes:
        score: `schedule -> percent`, on data and initial weights that the test never sees.
        every: outer steps from one validation to the next; the last step is always validated.
    """

    score: Callable[[Schedule], jax.Array | float]
    every: int = 100

    def __post_init__(self) -> None:
        checks.function("validation.score", self.score, remedy="Give schedule -> percent.")
        checks.at_least("validation.every", self.every, 1)


@dataclasses.dataclass(frozen=True)
class Reporting:
    """What a run tells while it goes.

    Attributes:
        every: outer steps from one record of the metrics to the next.
        listener: called with each record, on process 0.
        announce: called once, after compiling, on process 0.
        tensorboard: whether records go to `WORKDIR/tensorboard` too.
    """

    every: int = 10
    listener: Callable[[Mapping[str, Any]], None] | None = None
    announce: Callable[[Cost], None] | None = None
    tensorboard: bool = False

    def __post_init__(self) -> None:
        checks.at_least("reporting.every", self.every, 1)
        for name in ("listener", "announce"):
            if getattr(self, name) is not None:
                checks.function(f"reporting.{name}", getattr(self, name), remedy="Leave it out for none.")


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


def _take(infos: StepInfo, index: int) -> StepInfo:
    """The diagnostics of one step out of a dispatch's."""
    return jax.tree.map(lambda leaf: leaf[index], infos)


def _named(info: Info) -> dict[str, Any]:
    """A method's diagnostics by name; a method may have none, `()`."""
    return info._asdict() if info else {}


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
    for name, value in _named(info.method).items():
        record[name] = value.tolist()
    return record


def _diverged(step: int, info: StepInfo, saved: str, *, rollbacks: int) -> DivergedError:
    after = f" after {rollbacks} rollback(s)" if rollbacks else ""
    lines = [
        f"outer step {step + 1} is not finite{after}: loss {float(info.loss):.4g}, gradient norm "
        f"{float(info.grad_norm):.4g}."
    ]
    if info.lrs is not None:
        epoch, position = np.unravel_index(np.argmax(info.lrs), info.lrs.shape)
        lines.append(
            f"The largest learning rate is {float(info.lrs.max()):.4g}, of epoch {epoch}, step {position}."
        )
    for name, value in _named(info.method).items():
        lines.append(f"{name}: {np.array2string(np.asarray(value), precision=4, threshold=50)}")
    remedy = "Try a smaller outer_lr, inner_lr or clip_norm, or fewer inner steps"
    remedy += "." if rollbacks else '; or on_nonfinite="rollback".'
    lines.append(f"{saved} {remedy}")
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


class _Turn(NamedTuple):
    """What the host decides after a dispatch, the same on all processes.

    Attributes:
        steps: of the next dispatch.
        save: whether it is time to.
        stop: whether a signal asked for it.
        failed: whether a checkpoint could not be written.
    """

    steps: int
    save: bool
    stop: bool
    failed: bool

    def agreed(self) -> _Turn:
        """Process 0's clock decides for all; a signal to any process stops all. Collective."""
        everyone = parallel.gather(self)
        steps, save = everyone[0, :2].tolist()
        stop, failed = everyone[:, 2:].max(0).tolist()
        return _Turn(steps, bool(save), bool(stop), bool(failed))


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
    optimizer: optax.GradientTransformation | Mapping[str, optax.GradientTransformation] | None = None,
    clip_norm: float | None = None,
    slots_per_chunk: int = 1,
    devices: Sequence[parallel.Device] | None = None,
    validation: Validation | None = None,
    workdir: str | Path | None = None,
    save_seconds: float = 30.0,
    save_every: int | None = None,
    on_nonfinite: Literal["stop", "rollback"] = "stop",
    max_rollbacks: int = 3,
    reporting: Reporting = Reporting(),
    metadata: Mapping[str, Any] | None = None,
) -> Run:
    """Move φ down the gradient of the method's loss, averaged over M draws of initial weights.

    With a `workdir` the run is saved there as it goes; called again with the same arguments it continues
    from the last checkpoint and ends with the same bytes as if it had never stopped.

    With several processes (`parallel.start`) every process makes this call with the same arguments and gets
    the same `Run`; process 0 alone validates and writes.

    Args:
        data: the real data; only its training split is used here.
        method: the loss.
        key: all randomness comes from it.
        num_outer_steps: updates of φ.
        form: of φ; by default free pixels, S 10 and E 3 (one step where no learning rates are learned).
        num_inits: M, draws of initial weights in an outer step.
        optimizer: the optimiser of φ, or of each group of its leaves by name ("rest" for those not named); by
            default the method's own (`Method.outer`).
        clip_norm: bound on the gradient's global norm; by default none where an optimiser is given, else
            the method's own.
        slots_per_chunk: how many of the M are vmapped at once.
        devices: that share the M; by default as many as divide it; with several processes all, which M
            must then be a multiple of.
        validation: chooses the best φ; without it, or where it gave nothing but NaN, the last one is
            returned.
        workdir: directory for `checkpoints/` and `metrics.jsonl`; no other run may be using it.
        save_seconds: seconds between checkpoints, which a thread writes while the run goes on.
        save_every: outer steps between checkpoints, beside those of `save_seconds`; None for none.
        on_nonfinite: `"stop"` raises where something is not finite; `"rollback"` goes back to a state 50 to
            99 outer steps earlier (but not beyond the start or the last rollback), takes other random numbers
            and halves every later update, and says so in the metrics, in a record with `rollback`.
        max_rollbacks: after so many the run stops all the same.
        reporting: what is told while it goes.
        metadata: facts to put into the artifact.

    Returns:
        A `Run`.

    Raises:
        ValueError: arguments that do not fit together, or a `workdir` of another run or in use by one;
            nothing was compiled.
        OSError: the disk is full or cannot be written; what was saved before still is.
        DivergedError: something was not finite; the last finite state is saved.
        PreemptedError: SIGTERM or SIGINT came; the run is saved.
    """
    _check_kinds(data, method, reporting, form=form, optimizer=optimizer, validation=validation)
    checks.prng_key("key", key)
    checks.at_least("num_outer_steps", num_outer_steps, 1)
    checks.choice("on_nonfinite", on_nonfinite, ("stop", "rollback"))
    checks.at_least("max_rollbacks", max_rollbacks, 0)
    if metadata is not None:
        checks.facts("metadata", metadata)
    if workdir is not None:
        checks.path("workdir", workdir, remedy="Give a directory, or leave it out to save nothing.")
    form = form or default_form(data, method)
    outer = method.outer(num_outer_steps) if optimizer is None else Outer(optimizer)
    bound = outer.clip_norm if clip_norm is None else clip_norm
    moving = recovery.scalable(forms.optimizer_for(form, outer))
    problem = Problem(method, form, moving, num_inits, bound, slots_per_chunk)
    mesh, real = _on_devices(problem, data, key, devices)
    run_key, init_key = jax.random.split(key)
    loop = _Loop(
        problem,
        mesh,
        real,
        run_key,
        num_outer_steps,
        validation,
        _Saving(save_seconds, save_every),
        max_rollbacks if on_nonfinite == "rollback" else 0,
        reporting if parallel.is_lead() else Reporting(reporting.every),
    )
    with _claimed(workdir) as store:
        done = loop.carry_out(store, workdir, init_key)
    facts = {"dataset": data.name, "class_names": list(data.class_names), "method": method.name}
    encoding = jax.tree.map(jnp.asarray, data.encoding)
    return done.as_run(form, encoding, method.recipe, facts | dict(metadata or {}))


def _check_kinds(
    data: Any, method: Any, reporting: Any, *, form: Any, optimizer: Any, validation: Any
) -> None:
    """Refuse arguments of another kind, which would fail later and say less."""
    checks.kind("data", data, Dataset, remedy="Use ddjax.data.load or ddjax.data.from_arrays.")
    checks.kind("method", method, Method, remedy="Build it with ddjax.methods.")
    checks.kind("reporting", reporting, Reporting, remedy="Give ddjax.Reporting(...).")
    if form is not None:
        checks.kind("form", form, Form, remedy="Build it with ddjax.forms.")
    if optimizer is not None:
        made = optax.GradientTransformation
        for one in optimizer.values() if isinstance(optimizer, Mapping) else (optimizer,):
            checks.kind("optimizer", one, made, remedy="Give an optax optimiser, or ddjax.optimizers'.")
    if validation is not None:
        checks.kind("validation", validation, Validation, remedy="Give ddjax.Validation(score).")


def _on_devices(
    problem: Problem, data: Dataset, key: jax.Array, devices: Sequence[parallel.Device] | None
) -> tuple[Mesh, RealData]:
    """The mesh, and the training split on it; refuses what does not fit before anything compiles."""
    devices = parallel.default_devices(problem.num_inits) if devices is None else devices
    _check_devices(devices)
    parallel.check_divides(problem.num_inits, len(devices))
    parallel.check_everywhere(devices)
    real = to_device(data.train)._replace(assets=problem.method.assets)
    parallel.check_same("data", real)
    check_problem(problem, key, real)
    mesh = parallel.make_mesh(devices)
    return mesh, parallel.place(real, parallel.replicated(mesh))


def _check_devices(devices: Any) -> None:
    listed = list(devices) if isinstance(devices, Sequence) else None
    if listed is None or not all(isinstance(device, jax.Device) for device in listed):
        raise ValueError(
            f"devices: expected a list of JAX's devices; got {devices!r}. Give jax.devices() or a "
            "part of it, or leave devices out to use what there is."
        )
    checks.at_least("number of devices", len(listed), 1, remedy="Leave devices out to use what there is.")


def _last(snapshot: Snapshot) -> Best:
    """The last φ in the place of the best, where nothing was validated."""
    state = snapshot.state
    return Best(jax.device_get(state.params), np.array(np.nan), np.asarray(state.step))


@contextlib.contextmanager
def _claimed(workdir: str | Path | None) -> Iterator[Store | None]:
    """The checkpoints of a work directory, which is this run's own meanwhile. Collective."""
    if workdir is None:
        yield None
        return
    store = Store(Path(workdir) / "checkpoints")
    with held(store.directory):
        yield store


def _prepare(
    store: Store | None, workdir: str | Path | None, reporting: Reporting, snapshot: Snapshot, *, done: bool
) -> MetricsWriter | None:
    """The metrics file as it was at the snapshot, and, unless the run is done, room for checkpoints."""
    if store is None or workdir is None or not parallel.is_lead():
        return None
    directory = Path(workdir)
    if not done:
        store.prepare(snapshot)
    events = directory / "tensorboard" if reporting.tensorboard else None
    writer = MetricsWriter(directory / "metrics.jsonl", tensorboard=events)
    writer.truncate(int(snapshot.position))
    return writer


def _start(
    problem: Problem, store: Store | None, init_key: jax.Array, run_key: jax.Array, *, rolls_back: bool
) -> Snapshot:
    """The newest checkpoint, or the beginning."""
    state = init_state(problem, init_key)
    fresh = Snapshot(
        state,
        Best(state.params, np.array(-np.inf), np.array(0)),
        seconds=np.array(0.0),
        key=np.asarray(jax.random.key_data(run_key)),
        position=np.array(0),
        rollbacks=np.array(0),
        good=(state, state) if rolls_back else (),
    )
    # Process 0 reads for all, so that the processes need no file system in common.
    readable = store if parallel.is_lead() else None
    return parallel.broadcast(parallel.together(lambda: _restored(readable, fresh)))


def _restored(store: Store | None, fresh: Snapshot) -> Snapshot:
    """The newest checkpoint, which must be of the same key, or the beginning where there is none."""
    other = fresh._replace(good=() if fresh.good else (fresh.state, fresh.state))
    found = store.restore(fresh, other) if store is not None else None
    if store is None or found is None:
        return fresh
    if not np.array_equal(found.key, fresh.key):
        raise ValueError(
            f"{store.directory}: expected a run of this key; got one of another. Give this run a directory "
            "of its own, or the key it was started with."
        )
    if len(found.good) == len(fresh.good):
        return found
    # Saved by a run that was to stop where this one is to roll back, or the other way round.
    return found._replace(good=(found.state, found.state) if fresh.good else ())


def _score(validation: Validation, form: Form, params: PyTree) -> float:
    """φ's percent on validation, computed on this process's own devices; `params` lie on the host."""
    return float(validation.score(form.unfold(jax.tree.map(jnp.asarray, params))))


def _ready(outputs: PyTree) -> PyTree:
    """A dispatch's outputs once they are there, waited for in Python.

    Where XLA waits, Python's signal handlers do not run until it has done: of two signals during a long outer
    step the second would not end the process.
    """
    pause = 1e-4
    while not jax.tree.leaves(outputs)[0].is_ready():
        time.sleep(pause)
        pause = min(2 * pause, 5e-3)
    return outputs


class _Done(NamedTuple):
    """What a loop ends with.

    Attributes:
        snapshot: the last state, and the best φ.
        validated: whether a validation chose the best φ.
        compile_seconds: the seconds of compiling; 0 where there was nothing left to do.
        history: the records of the steps that were reported.
    """

    snapshot: Snapshot
    validated: bool
    compile_seconds: float
    history: Sequence[Mapping[str, Any]]

    def as_run(self, form: Form, encoding: Encoding, recipe: Recipe, metadata: Mapping[str, Any]) -> Run:
        """The result of `distill`: the best φ by validation, or the last."""
        snapshot = self.snapshot
        is_chosen = self.validated and np.isfinite(snapshot.best.accuracy)
        best = snapshot.best if is_chosen else _last(snapshot)
        return Run(
            Distilled(best.params, form, encoding, recipe, metadata),
            num_outer_steps=int(snapshot.state.step),
            best_step=int(best.step),
            val_accuracy=float(best.accuracy) if self.validated else None,
            seconds={"compile": self.compile_seconds, "distil": float(snapshot.seconds)},
            history=self.history,
        )


@dataclasses.dataclass(frozen=True)
class _Saving:
    """When to save, beside the end and a signal."""

    seconds: float
    every: int | None

    def __post_init__(self) -> None:
        checks.at_least("save_seconds", self.seconds, 0, integer=False)
        if self.every is not None:
            checks.at_least("save_every", self.every, 1)


@dataclasses.dataclass
class _Loop:
    """The host's side of the outer loop: dispatch, look at what came back, validate, save."""

    problem: Problem
    mesh: Mesh
    data: RealData
    key: jax.Array
    num_outer_steps: int
    validation: Validation | None
    saving: _Saving
    max_rollbacks: int
    reporting: Reporting
    saver: Saver | None = None
    journal: _Journal = dataclasses.field(default_factory=lambda: _Journal(1, None, None))

    def carry_out(self, store: Store | None, workdir: str | Path | None, init_key: jax.Array) -> _Done:
        """From the newest checkpoint, or the beginning, to the end. Collective."""
        snapshot = _start(self.problem, store, init_key, self.key, rolls_back=self.max_rollbacks > 0)
        done, compile_seconds = int(snapshot.state.step) >= self.num_outer_steps, 0.0
        writer = parallel.together(lambda: _prepare(store, workdir, self.reporting, snapshot, done=done))
        self.journal = _Journal(self.reporting.every, writer, self.reporting.listener)
        # A checkpoint says how much of the metrics is its own: that much is to be on disk before it.
        if store is not None:
            self.saver = Saver(store, before=None if writer is None else writer.sync)
        try:
            if not done:
                dispatch, cost = parallel.together(lambda: self.compile(snapshot.state))
                compile_seconds = cost.compile_seconds
                if self.reporting.announce is not None:
                    self.reporting.announce(cost)
                snapshot = self.run(snapshot, dispatch)
        finally:
            if self.saver is not None:
                self.saver.join()
            if writer is not None:
                writer.close()
        return _Done(snapshot, self.validation is not None, compile_seconds, self.journal.history)

    def compile(self, state: EngineState) -> tuple[Any, Cost]:
        """The dispatch, compiled for this state's shapes, and what it takes."""
        return compile_dispatch(self.problem, self.mesh, state.on(self.mesh), self.data, self.key)

    def run(self, snapshot: Snapshot, dispatch: Any) -> Snapshot:
        """Go on from a snapshot to the end."""
        snapshot = snapshot._replace(state=snapshot.state.on(self.mesh))
        pace, saved_at, clock = _Pace(), time.monotonic(), time.monotonic()
        turn = _Turn(pace.steps, save=False, stop=False, failed=False)
        with PreemptionGuard() as guard:
            while (step := int(snapshot.state.step)) < self.num_outer_steps:
                began = time.monotonic()
                stop = min(step + turn.steps, self._boundary(step))
                key = recovery.key_after(self.key, int(snapshot.rollbacks))
                state, infos, finite = _ready(dispatch(snapshot.state, self.data, key, np.int32(stop)))
                snapshot = snapshot._replace(state=state)
                done = int(state.step) - step
                infos = jax.device_get(infos)
                pace.learn(done, time.monotonic() - began)
                snapshot = self._look(snapshot, step, done, infos)
                diverged = None if bool(finite) else _take(infos, done)
                now = time.monotonic()
                snapshot = snapshot._replace(seconds=snapshot.seconds + (now - clock))
                clock = now
                due = now - saved_at >= self.saving.seconds
                turn = _Turn(pace.steps, due, guard.requested, self._failed()).agreed()
                if turn.failed:
                    self._wait()
                if diverged is not None:
                    snapshot = self._go_back(snapshot, step + done, diverged)
                finished = int(snapshot.state.step) == self.num_outer_steps
                if diverged is not None or turn.stop or finished or turn.save or self._at_save(step + done):
                    self._save(snapshot)
                    saved_at = time.monotonic()
                if turn.stop and not finished:
                    self._wait()
                    at = int(snapshot.state.step)
                    raise PreemptedError(f"a signal came; outer step {at} is done. {self._saved()}")
            self._wait()
        return snapshot

    def _boundary(self, step: int) -> int:
        """The next step count at which the host must have a look of its own."""
        intervals = [None if self.validation is None else self.validation.every, self._save_every()]
        intervals.append(recovery.STEPS if self.max_rollbacks else None)
        ends = [(step // every + 1) * every for every in intervals if every is not None]
        return min([self.num_outer_steps, *ends])

    def _save_every(self) -> int | None:
        return None if self.saver is None else self.saving.every

    def _at_save(self, step: int) -> bool:
        every = self._save_every()
        return every is not None and step % every == 0

    def _look(self, snapshot: Snapshot, start: int, done: int, infos: StepInfo) -> Snapshot:
        """Record what came back; validate, and keep a good state, where it is time."""
        end = start + done
        score = None
        validation = self.validation
        if validation is not None and done and (end % validation.every == 0 or end == self.num_outer_steps):
            params = jax.device_get(snapshot.state.params)
            score = parallel.lead(lambda: _score(validation, self.problem.form, params))
            if np.isfinite(score) and score > float(snapshot.best.accuracy):
                snapshot = snapshot._replace(best=Best(params, np.array(score), np.array(end)))
        if self.max_rollbacks and done and end % recovery.STEPS == 0:
            snapshot = snapshot._replace(good=(snapshot.good[1], self._on_host(snapshot.state)))
        for step in range(start + 1, end + 1):
            validated = score is not None and step == end
            if step % self.journal.every and not validated:
                continue
            record = _record(step, _take(infos, step - start - 1))
            self.journal.add(record | {"val_accuracy": score} if validated else record)
        return snapshot

    def _on_host(self, state: EngineState) -> EngineState:
        """A copy of a state that the next dispatch leaves alone. Collective."""
        return jax.tree.map(np.array, parallel.fetch(state))

    def _go_back(self, snapshot: Snapshot, step: int, info: StepInfo) -> Snapshot:
        """The state to go on from after a step that was not finite.

        Raises:
            DivergedError: there have been enough rollbacks, or there were to be none.
        """
        rollbacks = int(snapshot.rollbacks) + 1
        if rollbacks > self.max_rollbacks:
            self._save(snapshot)
            self._wait()
            raise _diverged(step, info, self._saved(), rollbacks=rollbacks - 1)
        good = recovery.shrunk(snapshot.good[0], rollbacks)
        record = {"step": int(good.step), "loss": float(info.loss), "grad_norm": float(info.grad_norm)}
        record |= {"rollback": rollbacks, "not_finite": step + 1, "scale": recovery.scale_after(rollbacks)}
        self.journal.add(record)
        return snapshot._replace(state=good.on(self.mesh), rollbacks=np.array(rollbacks), good=(good, good))

    def _save(self, snapshot: Snapshot) -> None:
        """Begin to write a checkpoint; process 0 gathers the slots of all and writes them."""
        if self.saver is None:
            return
        saver, writer, whole = self.saver, self.journal.writer, parallel.fetch(snapshot)
        if writer is not None:
            whole = whole._replace(position=np.array(writer.position))
        lead = parallel.is_lead()
        parallel.together(lambda: saver.save(int(whole.state.step), whole) if lead else None)

    def _failed(self) -> bool:
        return self.saver is not None and self.saver.failed

    def _wait(self) -> None:
        """See the last checkpoint on disk, or raise why it is not. Collective."""
        if self.saver is not None:
            parallel.together(self.saver.wait)

    def _saved(self) -> str:
        if self.saver is None:
            return "Nothing was saved: give a workdir to keep what is done."
        where = self.saver.store.directory
        return f"The last finite state is saved in {where}; the same call continues from it."

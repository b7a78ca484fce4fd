"""A run: the engine's outer loop from its last checkpoint to its end, validated, recorded and saved."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from ddjax import checks, parallel
from ddjax.checkpoint import PreemptionGuard, Store
from ddjax.data import Dataset, to_device
from ddjax.defaults import default_form, default_outer
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
from ddjax.types import Distilled, Form, Method, PyTree, RealData, Schedule

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
    """

    state: EngineState
    best: Best
    seconds: np.ndarray
    key: np.ndarray


@dataclasses.dataclass(frozen=True)
class Validation:
    """How the best φ is chosen.

    Attributes:
        score: `schedule -> percent`, on data and initial weights that the test never sees.
        every: outer steps from one validation to the next; the last step is always validated.
    """

    score: Callable[[Schedule], jax.Array | float]
    every: int = 100


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


class _Turn(NamedTuple):
    """What the host decides after a dispatch, the same on all processes.

    Attributes:
        steps: of the next dispatch.
        save: whether it is time to.
        stop: whether a signal asked for it.
    """

    steps: int
    save: bool
    stop: bool

    def agreed(self) -> _Turn:
        """Process 0's clock decides for all; a signal to any process stops all. Collective."""
        everyone = parallel.gather(self)
        return _Turn(int(everyone[0, 0]), bool(everyone[0, 1]), bool(everyone[:, 2].any()))


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
    clip_norm: float | None = None,
    slots_per_chunk: int = 1,
    devices: Sequence[parallel.Device] | None = None,
    validation: Validation | None = None,
    workdir: str | Path | None = None,
    save_seconds: float = 30.0,
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
        optimizer: of φ; by default that of `default_outer`.
        clip_norm: bound on the gradient's global norm; by default none where an optimiser is given, else
            that of `default_outer`.
        slots_per_chunk: how many of the M are vmapped at once.
        devices: that share the M; by default as many as divide it; with several processes all, which M
            must then be a multiple of.
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
    if optimizer is None:
        optimizer, bound = default_outer(method, num_outer_steps)
        clip_norm = bound if clip_norm is None else clip_norm
    form = form or default_form(data, method)
    problem = Problem(method, form, optimizer, num_inits, clip_norm, slots_per_chunk)
    mesh, real = _on_devices(problem, data, key, devices)
    store = None if workdir is None else Store(Path(workdir) / "checkpoints")
    run_key, init_key = jax.random.split(key)
    snapshot = _start(problem, store, init_key, run_key)
    reporting = reporting if parallel.is_lead() else Reporting(reporting.every)
    writer = parallel.together(lambda: _open_writer(workdir, reporting, done=int(snapshot.state.step)))
    journal = _Journal(reporting.every, writer, reporting.listener)
    loop = _Loop(problem, mesh, real, run_key, num_outer_steps, validation, store, save_seconds, journal)
    compile_seconds = 0.0
    try:
        if int(snapshot.state.step) < num_outer_steps:
            dispatch, cost = parallel.together(lambda: loop.compile(snapshot.state))
            compile_seconds = cost.compile_seconds
            if reporting.announce is not None:
                reporting.announce(cost)
            snapshot = loop.run(snapshot, dispatch)
    finally:
        if writer is not None:
            writer.close()
    best = snapshot.best if validation else _last(snapshot)
    facts = {"dataset": data.name, "class_names": list(data.class_names), "method": method.name}
    mean, std = jnp.asarray(data.mean), jnp.asarray(data.std)
    return Run(
        Distilled(best.params, form, mean, std, method.recipe, facts | dict(metadata or {})),
        num_outer_steps=int(snapshot.state.step),
        best_step=int(best.step),
        val_accuracy=float(best.accuracy) if validation else None,
        seconds={"compile": compile_seconds, "distil": float(snapshot.seconds)},
        history=journal.history,
    )


def _on_devices(
    problem: Problem, data: Dataset, key: jax.Array, devices: Sequence[parallel.Device] | None
) -> tuple[Mesh, RealData]:
    """The mesh, and the training split on it; refuses what does not fit before anything compiles."""
    devices = parallel.default_devices(problem.num_inits) if devices is None else devices
    parallel.check_divides(problem.num_inits, len(devices))
    parallel.check_everywhere(devices)
    real = to_device(data.train)
    parallel.check_same("data", real)
    check_problem(problem, key, real)
    mesh = parallel.make_mesh(devices)
    return mesh, parallel.place(real, parallel.replicated(mesh))


def _last(snapshot: Snapshot) -> Best:
    """The last φ in the place of the best, where nothing was validated."""
    state = snapshot.state
    return Best(jax.device_get(state.params), np.array(np.nan), np.asarray(state.step))


def _open_writer(workdir: str | Path | None, reporting: Reporting, *, done: int) -> MetricsWriter | None:
    """The metrics file of a run that has done so many steps; later lines will be written again."""
    if workdir is None or not parallel.is_lead():
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
    # Process 0 reads for all, so that the processes need no file system in common.
    readable = store if parallel.is_lead() else None
    return parallel.broadcast(parallel.together(lambda: _restored(readable, fresh)))


def _restored(store: Store | None, fresh: Snapshot) -> Snapshot:
    """The newest checkpoint, which must be of the same key, or the beginning where there is none."""
    found = store.restore(fresh) if store is not None else None
    if store is None or found is None:
        return fresh
    if not np.array_equal(found.key, fresh.key):
        raise ValueError(
            f"{store.directory}: expected a run of this key; got one of another. Give this run a directory "
            "of its own, or the key it was started with."
        )
    return found


def _score(validation: Validation, form: Form, params: PyTree) -> float:
    """φ's percent on validation, computed on this process's own devices; `params` lie on the host."""
    return float(validation.score(form.unfold(jax.tree.map(jnp.asarray, params))))


@dataclasses.dataclass
class _Loop:
    """The host's side of the outer loop: dispatch, look at what came back, validate, save."""

    problem: Problem
    mesh: Mesh
    data: RealData
    key: jax.Array
    num_outer_steps: int
    validation: Validation | None
    store: Store | None
    save_seconds: float
    journal: _Journal

    def compile(self, state: EngineState) -> tuple[Any, Cost]:
        """The dispatch, compiled for this state's shapes, and what it takes."""
        return compile_dispatch(self.problem, self.mesh, self._place(state), self.data, self.key)

    def run(self, snapshot: Snapshot, dispatch: Any) -> Snapshot:
        """Go on from a snapshot to the end."""
        snapshot = snapshot._replace(state=self._place(snapshot.state))
        pace, saved_at, clock = _Pace(), time.monotonic(), time.monotonic()
        turn = _Turn(pace.steps, save=False, stop=False)
        with PreemptionGuard() as guard:
            while (step := int(snapshot.state.step)) < self.num_outer_steps:
                began = time.monotonic()
                stop = min(step + turn.steps, self._boundary(step))
                state, infos, finite = dispatch(snapshot.state, self.data, self.key, np.int32(stop))
                snapshot = snapshot._replace(state=state)
                done = int(state.step) - step
                infos = jax.device_get(infos)
                pace.learn(done, time.monotonic() - began)
                snapshot = self._look(snapshot, step, done, infos)
                now = time.monotonic()
                snapshot = snapshot._replace(seconds=snapshot.seconds + (now - clock))
                clock = now
                turn = _Turn(pace.steps, now - saved_at >= self.save_seconds, guard.requested).agreed()
                finished = int(state.step) == self.num_outer_steps
                if not bool(finite) or turn.stop or finished or turn.save:
                    self._save(snapshot)
                    saved_at = time.monotonic()
                if not bool(finite):
                    raise _diverged(step + done, _take(infos, done), self._saved())
                if turn.stop and not finished:
                    raise PreemptedError(f"a signal came; outer step {step + done} is done. {self._saved()}")
        return snapshot

    def _place(self, state: EngineState) -> EngineState:
        """Put a state on the mesh; as a copy, because the dispatch takes its memory over."""
        copy = jax.tree.map(np.array, state)
        shared = parallel.place(copy._replace(slots=()), parallel.replicated(self.mesh))
        return shared._replace(slots=parallel.place(copy.slots, parallel.split_slots(self.mesh)))

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
            validation, params = self.validation, jax.device_get(snapshot.state.params)
            score = parallel.lead(lambda: _score(validation, self.problem.form, params))
            if score > float(snapshot.best.accuracy):
                snapshot = snapshot._replace(best=Best(params, np.array(score), np.array(end)))
        for step in range(start + 1, end + 1):
            validated = score is not None and step == end
            if step % self.journal.every and not validated:
                continue
            record = _record(step, _take(infos, step - start - 1))
            self.journal.add(record | {"val_accuracy": score} if validated else record)
        return snapshot

    def _save(self, snapshot: Snapshot) -> None:
        """Write a checkpoint; process 0 gathers the slots of all and writes them."""
        if self.store is None:
            return
        store, whole = self.store, parallel.fetch(snapshot)
        parallel.together(lambda: store.save(int(whole.state.step), whole) if parallel.is_lead() else None)

    def _saved(self) -> str:
        if self.store is None:
            return "Nothing was saved: give a workdir to keep what is done."
        return f"The last finite state is saved in {self.store.directory}; the same call continues from it."

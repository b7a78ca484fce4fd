"""A run: the outer loop from the last checkpoint to the end, with validation, records and checkpoints."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from ddjax import checks, forms, identity, parallel, program, recipes, recovery
from ddjax.arithmetic import speed_of_product
from ddjax.brief import Brief
from ddjax.checkpoint import PreemptionGuard, Saver, Store
from ddjax.data import Dataset, provenance, to_device
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
from ddjax.facts import Facts
from ddjax.identity import Identity
from ddjax.progress import Progress, is_watched
from ddjax.report import MetricsWriter, format_duration, read_metrics
from ddjax.types import Distilled, Encoding, Form, Info, Method, Outer, PyTree, RealData, Recipe, Schedule
from ddjax.workdir import held

DISPATCH_SECONDS = 2.0
"""The seconds that a dispatch should take: so long that the cost of starting one is small, and so short that
the run can report and stop in time."""


class Best(NamedTuple):
    """The φ with the best validation so far.

    Attributes:
        params: the parameters of φ.
        accuracy: `[]` float64, the percent on validation; -inf before the first validation.
        step: `[]` int64, the number of outer steps done at that time.
    """

    params: PyTree
    accuracy: np.ndarray
    step: np.ndarray


class Snapshot(NamedTuple):
    """The content of a checkpoint: all that a resumed run needs.

    Attributes:
        state: the state of the engine.
        best: the best φ so far.
        seconds: `[]` float64, the seconds of distilling so far.
        key: `[...]` uint32, the data of the key of the run.
        position: `[]` int64, the number of bytes of `metrics.jsonl` written up to this state.
        rollbacks: `[]` int64, the number of rollbacks so far.
        good: the two newest states that a rollback may go back to, the older one first; empty where a run
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
    """The choice of the best φ.

    Attributes:
        score: the function `schedule -> percent`, on data and initial weights that the test never uses.
        every: the number of outer steps from one validation to the next; the last step is always validated.
    """

    score: Callable[[Schedule], jax.Array | float]
    every: int = 100

    def __post_init__(self) -> None:
        checks.function("validation.score", self.score, remedy="Give schedule -> percent.")
        checks.at_least("validation.every", self.every, 1)


@dataclasses.dataclass(frozen=True)
class Reporting:
    """What a run reports while it runs.

    Attributes:
        every: the number of outer steps from one record of the metrics to the next.
        listener: the function that is called with each record, on process 0.
        announce: the function that is called with the cost once, after compiling, on process 0.
        tensorboard: whether the records are also written to `WORKDIR/tensorboard`.
        progress: whether a line on stderr shows how far the run is, and how long the rest will take; by
            default where stderr is a terminal, and in a notebook.
    """

    every: int = 10
    listener: Callable[[Mapping[str, Any]], None] | None = None
    announce: Callable[[Cost], None] | None = None
    tensorboard: bool = False
    progress: bool | None = None

    def __post_init__(self) -> None:
        checks.at_least("reporting.every", self.every, 1)
        for name in ("listener", "announce"):
            if getattr(self, name) is not None:
                checks.function(f"reporting.{name}", getattr(self, name), remedy="Leave it out for none.")


@dataclasses.dataclass(frozen=True, repr=False)
class Run(Brief):
    """The result of `distill`.

    Attributes:
        distilled: the best φ by validation, or the last φ where nothing was validated.
        num_outer_steps: the number of outer steps done in all.
        best_step: the number of outer steps after which `distilled` was taken.
        val_accuracy: the percent of `distilled` on validation; None without validation.
        seconds: the seconds by name: `compile`, those of compiling in this process; `distil`, those of
            distilling in all processes that worked on the run, one after the other; `earlier`, those of
            `distil` that passed before this process.
        history: one record for each outer step that was reported, as in `metrics.jsonl`: those of earlier
            processes that worked on the run come first, with NaN for numbers that were not finite.
    """

    distilled: Distilled
    num_outer_steps: int
    best_step: int
    val_accuracy: float | None
    seconds: Mapping[str, float]
    history: Sequence[Mapping[str, Any]]


class DivergedError(RuntimeError):
    """The loss, its gradient or φ is not finite; the message says at which step, and what to change."""


class PreemptedError(RuntimeError):
    """A signal asked the run to stop; the run was saved, and the same call continues the run."""


def _take(infos: StepInfo, index: int) -> StepInfo:
    """The diagnostics of one step of a dispatch."""
    return jax.tree.map(lambda leaf: leaf[index], infos)


def _named(info: Info) -> dict[str, Any]:
    """A method's diagnostics by name; a method may have none, `()`."""
    return info._asdict() if info else {}


def _record(step: int, info: StepInfo) -> dict[str, Any]:
    """One record of the metrics, as Python numbers; the diagnostics of the method have their own names."""
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
    remedy = (
        "Try a smaller outer_lr, inner_lr or clip_norm, fewer inner steps, or, where a regression is solved "
        "whose matrix is not positive definite, a larger penalty, in another directory"
    )
    remedy += "." if rollbacks else '; or on_nonfinite="rollback".'
    lines.append(f"{saved} {remedy}")
    return DivergedError("\n".join(lines))


def _line(reporting: Reporting, num_outer_steps: int) -> Progress:
    """The line of progress, which shows nothing where none is wanted."""
    is_wanted = is_watched() if reporting.progress is None else reporting.progress
    return Progress(num_outer_steps, quiet=not is_wanted)


_WORTH_SAYING = 10**12
"""The operations from which on a run is said how long it will take; fewer take seconds on any machine."""


def _least_time(cost: Cost, num_steps: int, num_devices: int) -> str | None:
    """How long outer steps take at the least, in words; None for short runs."""
    if cost.flops * num_steps < _WORTH_SAYING:
        return None
    speed = speed_of_product()
    least = format_duration(cost.flops * num_steps / (speed * num_devices))
    return (
        f"{num_steps:,} outer steps take at least {least}: {cost.flops / 1e9:,.3g} Gflop each, of which a "
        f"matrix product here does {speed / 1e9:,.0f} in a second"
    )


@dataclasses.dataclass
class _Journal:
    """The records of a run, which go to the history, to disk and to listeners."""

    every: int
    writer: MetricsWriter | None
    listeners: Sequence[Callable[[Mapping[str, Any]], None]]
    history: list[Mapping[str, Any]] = dataclasses.field(default_factory=list)

    def add(self, record: Mapping[str, Any]) -> None:
        self.history.append(record)
        if self.writer is not None:
            self.writer.write(record)
        for listen in self.listeners:
            listen(record)


class _Turn(NamedTuple):
    """The decisions of the host after a dispatch, the same on all processes.

    Attributes:
        steps: the number of steps of the next dispatch.
        save: whether it is time to save.
        stop: whether a signal asked the run to stop.
        failed: whether a checkpoint could not be written.
    """

    steps: int
    save: bool
    stop: bool
    failed: bool

    def agreed(self) -> _Turn:
        """The common decisions: process 0's clock counts, a signal to one stops all. Collective."""
        everyone = parallel.gather(self)
        steps, save = everyone[0, :2].tolist()
        stop, failed = everyone[:, 2:].max(0).tolist()
        return _Turn(steps, bool(save), bool(stop), bool(failed))


@dataclasses.dataclass
class _Pace:
    """The number of steps with which the next dispatch should take about `DISPATCH_SECONDS`."""

    steps: int = 1

    def learn(self, done: int, seconds: float) -> None:
        rate = done / max(seconds, 1e-6)
        self.steps = max(1, min(DISPATCH_CAPACITY, int(rate * DISPATCH_SECONDS)))


@checks.entry
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
    own_facts: Mapping[str, Any] | None = None,
) -> Run:
    """Move φ down the gradient of the method's loss, averaged over M draws of initial weights.

    With a `workdir` the run saves checkpoints there. Called again with the same arguments, the run continues
    from the last checkpoint and ends with the same bytes as if it had never stopped. What makes φ must be the
    same again (`ddjax.identity`): the data, `method`, `form`, `key`, `num_inits`, the optimiser, `clip_norm`
    and `validation.every`; otherwise the call is refused, with the facts that differ. Another
    `num_outer_steps` goes on where the φ is that of a run which had this number from its start: where the
    rates of the outer optimiser do not follow from the number, no more steps are done already, and the best φ
    comes from a multiple of `validation.every`. `on_nonfinite="rollback"` may be given to a run that stopped.

    With several processes (`parallel.start`) every process makes this call with the same arguments and gets
    the same `Run`; process 0 alone validates and writes.

    Args:
        data: the real data; only its training split is used here.
        method: the method, which defines the loss.
        key: the source of all random draws. Consumed.
        num_outer_steps: the number of updates of φ.
        form: the form of φ; by default free pixels, S 10 and E 3 (one step where no learning rates are
            learned).
        num_inits: M, the number of draws of initial weights in an outer step.
        optimizer: the optimiser of φ, or of each group of leaves by name ("rest" for those not named); by
            default that of the method (`Method.outer`).
        clip_norm: the bound on the global norm of the gradient; by default that of the method, or no bound
            where an optimiser is given.
        slots_per_chunk: the number of the M draws that are vmapped at once; where a device has no multiple of
            so many draws, their greatest common divisor.
        devices: the devices that divide the M draws among them, of which M must be a multiple; by default as
            many as divide M evenly, but all devices where there are several processes.
        validation: the choice of the best φ. Without a validation, or where every score was NaN, the last φ
            is returned.
        workdir: the directory for `checkpoints/` and `metrics.jsonl`, which no other run may be using; None
            to save nothing.
        save_seconds: the seconds between checkpoints, which a thread writes while the run goes on.
        save_every: the number of outer steps between checkpoints that are saved in addition to those of
            `save_seconds`; None for no additional ones.
        on_nonfinite: the reaction to a loss, gradient or φ that is not finite. `"stop"` raises. `"rollback"`
            goes back to a state 50 to 99 outer steps earlier (but not beyond the start or the last rollback),
            takes other random numbers, halves every later update, and notes this in the metrics, in a record
            with `rollback`.
        max_rollbacks: the most rollbacks; where another would be needed, the run stops.
        reporting: the records and calls of the run while it runs.
        metadata: facts to put into the artifact, beside or in the place of those that are known: the data
            (`ddjax.data.provenance.facts`), the method, its network and its p(θ0) (`Method.facts`).
        own_facts: facts of the caller that make φ too, such as those of `validation.score`, which is a
            function: where they differ, the `workdir` is refused.

    Returns:
        The distilled φ, with the history and the times of the run.

    Raises:
        ValueError: the arguments do not fit together, or the `workdir` belongs to another run or is in use by
            one; nothing was compiled.
        OSError: the disk is full or cannot be written; the earlier checkpoints are still there.
        DivergedError: the loss, the gradient or φ was not finite; the last finite state is saved.
        PreemptedError: SIGTERM or SIGINT came; the run is saved.
    """
    _check_kinds(data, method, reporting, form=form, optimizer=optimizer, validation=validation)
    checks.prng_key("key", key)
    checks.at_least("num_outer_steps", num_outer_steps, 1)
    checks.choice("on_nonfinite", on_nonfinite, ("stop", "rollback"))
    checks.at_least("max_rollbacks", max_rollbacks, 0)
    if metadata is not None:
        checks.facts("metadata", metadata)
    if own_facts is not None:
        checks.facts("own_facts", own_facts)
    if workdir is not None:
        checks.path("workdir", workdir, remedy="Give a directory, or leave it out to save nothing.")
    form = form or default_form(data, method)
    outer = method.outer(num_outer_steps) if optimizer is None else Outer(optimizer)
    bound = outer.clip_norm if clip_norm is None else clip_norm
    problem = Problem(method, form, _moving(form, outer), num_inits, bound, slots_per_chunk)
    mesh, real = _on_devices(problem, data, key, devices)
    known = None
    if workdir is not None and parallel.is_lead():
        settings = {
            "num_inits": num_inits,
            "clip_norm": bound,
            "outer": Facts(outer.facts) if optimizer is None else "given",
            "validate_every": None if validation is None else validation.every,
        }
        named = identity.facts_of(data, method, form, key=key, settings=settings, own=own_facts)
        known = Identity(
            named,
            num_outer_steps,
            identity.programs_of(problem, key, real),
            _optimizer_of(problem, key) if optimizer is None else None,
        )
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
        reporting if parallel.is_lead() else Reporting(reporting.every, progress=False),
        known,
    )
    recipes.check_storable(method.recipe, data.input_shape, where=method.name)
    with _claimed(workdir) as store, loop.line:
        done = loop.carry_out(store, workdir, init_key)
    facts = {**provenance.facts(data), "method": method.name, **method.facts}
    encoding = jax.tree.map(jnp.asarray, data.encoding)
    return done.as_run(form, encoding, method.recipe, facts | dict(metadata or {}))


def _moving(form: Form, outer: Outer) -> optax.GradientTransformation:
    """The optimiser of all leaves of φ, whose updates a rollback can scale."""
    return recovery.scalable(forms.optimizer_for(form, outer))


def _optimizer_of(problem: Problem, key: jax.Array) -> Callable[[int], str]:
    """The program of the method's own optimiser, for any number of outer steps."""
    outer, form = problem.method.outer, problem.form
    return lambda steps: program.optimizer(problem, _moving(form, outer(steps)), key)


def _check_kinds(
    data: Any, method: Any, reporting: Any, *, form: Any, optimizer: Any, validation: Any
) -> None:
    """Refuse arguments of the wrong kind, which would fail later with a less clear message."""
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
    """The mesh, and the training split on the mesh; refuses what does not fit before anything compiles."""
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
    """The last φ in place of the best, where nothing was validated."""
    state = snapshot.state
    return Best(jax.device_get(state.params), np.array(np.nan), np.asarray(state.step))


@contextlib.contextmanager
def _claimed(workdir: str | Path | None) -> Iterator[Store | None]:
    """The checkpoints of a work directory, which no other run may use inside the block. Collective."""
    if workdir is None:
        yield None
        return
    store = Store(Path(workdir) / "checkpoints")
    with held(store.directory):
        yield store


def _prepare(
    store: Store | None,
    workdir: str | Path | None,
    reporting: Reporting,
    snapshot: Snapshot,
    known: Identity | None,
    *,
    done: bool,
) -> MetricsWriter | None:
    """The metrics file as it was at the snapshot. Unless the run is done, also prepares for checkpoints."""
    if store is None or workdir is None or known is None:
        return None
    directory = Path(workdir)
    if not done:
        store.prepare(snapshot)
    if not done or not identity.is_written(store.directory):
        identity.write(store.directory, known)
    events = directory / "tensorboard" if reporting.tensorboard else None
    writer = MetricsWriter(directory / "metrics.jsonl", tensorboard=events)
    writer.truncate(int(snapshot.position))
    return writer


def _past(workdir: str | Path | None) -> list[Mapping[str, Any]]:
    """The records of the processes that worked on the run before this one; null is a number not finite."""

    def whole(value: Any) -> Any:
        if isinstance(value, list):
            return [whole(one) for one in value]
        return float("nan") if value is None else value

    if workdir is None:
        return []
    records = parallel.lead(lambda: read_metrics(Path(workdir) / "metrics.jsonl"))
    return [{name: whole(value) for name, value in record.items()} for record in records]


def _check_reach(
    snapshot: Snapshot,
    store: Store | None,
    validation: Validation | None,
    *,
    num_outer_steps: int,
    max_rollbacks: int,
) -> None:
    """Refuse a run that is past what is asked for: its φ would be that of another run.

    Raises:
        ValueError: more outer steps or rollbacks are done than are wanted, or the best φ comes from the last
            step of a shorter run, at which this run would not validate.
    """
    step, rollbacks = int(snapshot.state.step), int(snapshot.rollbacks)
    where = "" if store is None else f"{store.directory} has"
    if step > num_outer_steps:
        raise ValueError(
            f"num_outer_steps: expected at least the {step} outer steps that {where} done; got "
            f"{num_outer_steps}. Give that many, or another directory."
        )
    best = int(snapshot.best.step)
    if validation is not None and best % validation.every and best != num_outer_steps:
        raise ValueError(
            f"num_outer_steps: expected {best}, the last step of the run that {where} done, which gave the "
            f"best φ; got {num_outer_steps}, of which step {best} would not be validated, since it is no "
            f"multiple of {validation.every}. Give that many, or another directory."
        )
    if rollbacks > max_rollbacks:
        raise ValueError(
            f"on_nonfinite: expected 'rollback' and max_rollbacks >= {rollbacks}, as many as {where} done; "
            f"got {max_rollbacks or 'stop'}. Give these, or another directory."
        )


def _start(
    problem: Problem,
    store: Store | None,
    init_key: jax.Array,
    run_key: jax.Array,
    *,
    known: Identity | None,
    rolls_back: bool,
) -> Snapshot:
    """The newest checkpoint, or the state before the first step where there is no checkpoint."""
    if store is not None:
        parallel.together(lambda: _check_known(store, known))
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


def _check_known(store: Store, known: Identity | None) -> None:
    """Refuse the checkpoints of another run; process 0 alone knows the run, and reads."""
    if known is not None and store.paths():
        identity.check(store.directory, known)


def _restored(store: Store | None, fresh: Snapshot) -> Snapshot:
    """The newest checkpoint, which must have the same key, or the fresh snapshot where there is none."""
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
    # The saved run was to stop where something is not finite and this one is to roll back, or the reverse.
    return found._replace(good=(found.state, found.state) if fresh.good else ())


def _score(validation: Validation, form: Form, params: PyTree) -> float:
    """The percent of φ on validation, computed on the devices of this process; `params` are on the host."""
    return float(validation.score(form.unfold(jax.tree.map(jnp.asarray, params))))


def _ready(outputs: PyTree) -> PyTree:
    """The outputs of a dispatch once they are computed. The wait is in Python.

    While XLA waits, Python's signal handlers do not run until XLA is done: of two signals during a long outer
    step, the second would not end the process.
    """
    pause = 1e-4
    while not jax.tree.leaves(outputs)[0].is_ready():
        time.sleep(pause)
        pause = min(2 * pause, 5e-3)
    return outputs


class _Done(NamedTuple):
    """The result of the outer loop.

    Attributes:
        snapshot: the last state, and the best φ.
        validated: whether a validation chose the best φ.
        compile_seconds: the seconds of compiling; 0 where there was nothing left to do.
        earlier_seconds: the seconds of distilling before this process.
        history: the records of the steps that were reported.
    """

    snapshot: Snapshot
    validated: bool
    compile_seconds: float
    earlier_seconds: float
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
            seconds={
                "compile": self.compile_seconds,
                "distil": float(snapshot.seconds),
                "earlier": self.earlier_seconds,
            },
            history=self.history,
        )


@dataclasses.dataclass(frozen=True)
class _Saving:
    """The times of checkpoints, in addition to those at the end and at a signal."""

    seconds: float
    every: int | None

    def __post_init__(self) -> None:
        checks.at_least("save_seconds", self.seconds, 0, integer=False)
        if self.every is not None:
            checks.at_least("save_every", self.every, 1)


@dataclasses.dataclass
class _Loop:
    """The part of the outer loop on the host: dispatch, record the diagnostics, validate, save."""

    problem: Problem
    mesh: Mesh
    data: RealData
    key: jax.Array
    num_outer_steps: int
    validation: Validation | None
    saving: _Saving
    max_rollbacks: int
    reporting: Reporting
    known: Identity | None = None
    saver: Saver | None = None
    journal: _Journal = dataclasses.field(default_factory=lambda: _Journal(1, None, ()))

    @functools.cached_property
    def line(self) -> Progress:
        """The line of progress."""
        return _line(self.reporting, self.num_outer_steps)

    def carry_out(self, store: Store | None, workdir: str | Path | None, init_key: jax.Array) -> _Done:
        """Run from the newest checkpoint, or from the beginning, to the end. Collective."""
        rolls_back = self.max_rollbacks > 0
        snapshot = _start(self.problem, store, init_key, self.key, known=self.known, rolls_back=rolls_back)
        steps, rollbacks = self.num_outer_steps, self.max_rollbacks
        _check_reach(snapshot, store, self.validation, num_outer_steps=steps, max_rollbacks=rollbacks)
        done, compile_seconds = int(snapshot.state.step) == steps, 0.0
        earlier_seconds = float(snapshot.seconds)
        writer = parallel.together(
            lambda: _prepare(store, workdir, self.reporting, snapshot, self.known, done=done)
        )
        past = _past(workdir)
        given = self.reporting.listener
        listeners = [self.line.update_with, *([] if given is None else [given])]
        self.journal = _Journal(self.reporting.every, writer, listeners, past)
        # A checkpoint states how many bytes of metrics belong to it; these must be on disk before it.
        if store is not None:
            self.saver = Saver(store, before=None if writer is None else writer.sync)
        try:
            if not done:
                dispatch, cost = parallel.together(lambda: self.compile(snapshot.state))
                compile_seconds = cost.compile_seconds
                if self.reporting.announce is not None:
                    self.reporting.announce(cost)
                self.tell_length(cost, steps - int(snapshot.state.step))
                snapshot = self.run(snapshot, dispatch)
        finally:
            if self.saver is not None:
                self.saver.join()
            if writer is not None:
                writer.close()
        history = self.journal.history
        return _Done(snapshot, self.validation is not None, compile_seconds, earlier_seconds, history)

    def tell_length(self, cost: Cost, num_steps: int) -> None:
        """Say how long the outer steps that are left take at the least, where progress is shown."""
        if not self.line.is_quiet and (text := _least_time(cost, num_steps, self.mesh.size)):
            self.line.say(text)

    def compile(self, state: EngineState) -> tuple[Any, Cost]:
        """The dispatch, compiled for the shapes of this state, and the cost."""
        return compile_dispatch(self.problem, self.mesh, state.on(self.mesh), self.data, self.key)

    def run(self, snapshot: Snapshot, dispatch: Any) -> Snapshot:
        """Run from a snapshot to the end."""
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
        """The next step count at which the host must validate, save or keep a good state."""
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
        """Record the diagnostics of a dispatch; validate and keep a good state where it is time."""
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
        """A copy of a state on the host, which the next dispatch does not overwrite. Collective."""
        return jax.tree.map(np.array, parallel.fetch(state))

    def _go_back(self, snapshot: Snapshot, step: int, info: StepInfo) -> Snapshot:
        """The state to go on from after a step that was not finite.

        Raises:
            DivergedError: the most rollbacks have been done, or the run does not roll back.
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
        """Begin to write a checkpoint; process 0 gathers the slots of all processes and writes them."""
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
        """Wait until the last checkpoint is on disk; raise the error if writing failed. Collective."""
        if self.saver is not None:
            parallel.together(self.saver.wait)

    def _saved(self) -> str:
        if self.saver is None:
            return "Nothing was saved: give a workdir to keep what is done."
        where = self.saver.store.directory
        return f"The last finite state is saved in {where}; the same call continues from it."

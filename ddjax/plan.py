"""Plans: choices that change how fast and how large outer steps are, and only the rounding of their results.

A plan is the measured default of a backend, or the fastest of a few plans that were compiled and timed on the
problem itself. The memory that a plan takes is read from the compiled program, not computed by a formula.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import math
import time
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from ddjax import checks, files, forms, hlo, parallel, platforms, report
from ddjax.arithmetic import flops
from ddjax.data import Dataset, to_device
from ddjax.engine import (
    DISPATCH_CAPACITY,
    Cost,
    EngineState,
    Problem,
    build_dispatch,
    check_problem,
    compile_dispatch,
    compile_program,
    init_state,
)
from ddjax.memory import Estimate
from ddjax.networks.ops import CONV_FORMS, forms_on
from ddjax.networks.precision import PRECISIONS
from ddjax.types import PyTree, RealData
from ddjax.unroll import STRATEGIES
from ddjax.version import __version__

COMPILE_ERRORS = (jax.errors.JaxRuntimeError, MemoryError)
"""The errors of compiling or running where the memory does not suffice or a backend has no such program."""

SAME_SPEED = 1.03
"""The largest ratio of two times that count as equal."""

FILE_NAME = "plans.json"
"""The name of the file of tuned plans, in a directory that the caller gives."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """The choices that a default of the backend, a flag or a trial decides.

    Attributes:
        conv_form: the form of the network's convolutions, see `ddjax.networks.ops.conv`; `"auto"` chooses for
            each layer.
        memory: the strategy by which an unroll is differentiated, a name from `ddjax.unroll.STRATEGIES`; None
            where the method unrolls nothing.
        slots_per_chunk: the number of θ0 that are vmapped; the chunks are computed one after the other.
        precision: the precision of the network under which φ moves, see
            `ddjax.networks.precision.at_precision`; None for that of the backend. Only a flag chooses it: it
            rounds more than the other choices do.
    """

    conv_form: str = "auto"
    memory: str | None = "reverse"
    slots_per_chunk: int = 1
    precision: str | None = None

    def __post_init__(self) -> None:
        checks.choice("conv_form", self.conv_form, CONV_FORMS)
        if self.memory is not None:
            checks.choice("memory", self.memory, STRATEGIES)
        checks.at_least("slots_per_chunk", self.slots_per_chunk, 1)
        if self.precision is not None:
            checks.choice("precision", self.precision, PRECISIONS)

    def as_dict(self) -> dict[str, Any]:
        """The choices by name, for JSON; without `memory` and `precision` where they are None."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Plan:
        """The plan of a record of choices.

        Args:
            record: the choices by name, as `as_dict` gives them; other entries are ignored.

        Returns:
            The plan.

        Raises:
            ValueError: a choice is missing or unknown.
        """
        for name in ("conv_form", "slots_per_chunk"):
            if name not in record:
                raise ValueError(f"plan: expected {name}; got {sorted(record)}. Give every choice.")
        optional = (record.get("memory"), record["slots_per_chunk"], record.get("precision"))
        return cls(record["conv_form"], *optional)


CHOICES = ("conv_form", "memory", "slots_per_chunk")
"""The names of the choices of a plan that trials may decide."""


def default_plan(backend: str, *, num_inits: int, unrolls: bool = True) -> Plan:
    """The plan that `auto` stands for where nothing was tuned.

    | backend | conv_form | memory | θ0 at once | measured |
    |---|---|---|---|---|
    | CPU | auto: blocks, band or im2col, see `ops.default_form` | recompute | 1 | yes |
    | GPU | auto: lax | reverse | all M | in part, see below |
    | TPU | auto: im2col or lax, see `ops.default_form` | reverse | all M | no: none was at hand |

    On CPU, computing each step again takes no longer than writing and reading its intermediate results, and a
    third of the memory: when this was chosen, LeNet took 75 ms both ways, AlexCifarNet 3.6 and 3.7 s.

    On one H100 ten ConvNet-3 on ten images of MNIST trained at once in half the time of one after another,
    3.0 and 6.0 ms a step of all ten (jax 0.11.2, one trial beside other compilations, of which no record
    was kept). Forms and memory strategies have not been compared there: `scripts/bench.py --suite=gpu` does
    that.

    Args:
        backend: the name of the backend, as `ddjax.platforms.current()` gives it.
        num_inits: M, the number of θ0 in an outer step.
        unrolls: whether the method differentiates through training.

    Returns:
        The plan.

    Raises:
        ValueError: `num_inits` is no whole number of at least 1.
    """
    checks.at_least("num_inits", num_inits, 1)
    memory, at_once = ("recompute", 1) if backend == "cpu" else ("reverse", num_inits)
    return Plan("auto", memory if unrolls else None, at_once)


def candidates(
    base: Plan, vary: Collection[str], *, backend: str, num_slots: int, fits: bool = True
) -> list[Plan]:
    """The plans worth timing that differ from a given plan in some of the choices.

    Forms of convolution that are slow on a backend are left out (`ddjax.networks.ops.forms_on`). The sizes of
    chunk are one θ0, all θ0, and the divisor of m nearest to √m. Strategies that compute each stretch of √T
    steps twice are only worth their time where the others do not fit.

    Args:
        base: the plan to vary.
        vary: the names of the choices that may differ.
        backend: the name of the backend, as `ddjax.platforms.current()` gives it.
        num_slots: m, the number of θ0 on one device.
        fits: whether `base` fits into the memory.

    Returns:
        The plans of every combination, `base` first.
    """
    divisors = [n for n in range(1, num_slots + 1) if num_slots % n == 0]
    middle = min(divisors, key=lambda n: abs(math.log(n) - math.log(num_slots) / 2))
    values: dict[str, Iterable[Any]] = {
        "slots_per_chunk": (1, num_slots, middle),
        "memory": [name for name, way in STRATEGIES.items() if not fits or way.checkpoint != "sqrt"],
        "conv_form": forms_on(backend),
    }
    kept = [name for name in values if name in vary and getattr(base, name) is not None]
    ordered = ([getattr(base, name), *values[name]] for name in kept)
    # dict.fromkeys removes repetitions and keeps the order.
    combinations = itertools.product(*(dict.fromkeys(column) for column in ordered))
    return [dataclasses.replace(base, **dict(zip(kept, row, strict=True))) for row in combinations]


# Compiling and timing.


class Site(NamedTuple):
    """The devices, data and keys with which outer steps run.

    Attributes:
        mesh: the devices.
        data: the training split on the devices.
        key: the key of the outer steps.
        init_key: the key of the first state.
    """

    mesh: Mesh
    data: RealData
    key: jax.Array
    init_key: jax.Array

    @classmethod
    def of(cls, data: Dataset, key: jax.Array, *, num_inits: int, assets: PyTree = ()) -> Site:
        """The site of a run: devices, data and keys as `ddjax.distill` chooses them.

        Args:
            data: the real data, of which the training split is used.
            key: the key of the run. Consumed.
            num_inits: M, the number of θ0 in an outer step.
            assets: the arrays of the method that go with the data, see `ddjax.types.Method.assets`.

        Returns:
            The site.

        Raises:
            ValueError: `data` is no data set, or `key` no key.
        """
        checks.kind("data", data, Dataset, remedy="Use ddjax.data.load or ddjax.data.from_arrays.")
        checks.prng_key("key", key)
        mesh = parallel.make_mesh(parallel.default_devices(num_inits))
        real = to_device(data.train)._replace(assets=assets)
        real = parallel.place(real, parallel.replicated(mesh))
        return cls(mesh, real, *jax.random.split(key))

    def start(self, problem: Problem) -> EngineState:
        """The state before the first outer step, on the mesh; a dispatch reuses its memory."""
        return init_state(problem, self.init_key).on(self.mesh)

    def compile(self, problem: Problem) -> tuple[Any, Cost]:
        """Compile outer steps as a run does.

        Args:
            problem: the method, form, optimiser and sizes.

        Returns:
            The compiled dispatch, and the cost.

        Raises:
            ValueError: the parts of the problem do not fit together or to the data; nothing was compiled.
        """
        check_problem(problem, self.key, self.data)
        return compile_dispatch(problem, self.mesh, self.start(problem), self.data, self.key)

    def program(self, problem: Problem) -> hlo.Program:
        """Compile outer steps as a run does, and read the compiled program.

        Args:
            problem: the method, form, optimiser and sizes.

        Returns:
            The program.

        Raises:
            ValueError: the parts of the problem do not fit together or to the data; nothing was compiled.
        """
        check_problem(problem, self.key, self.data)
        compiled, _ = compile_program(problem, self.mesh, self.start(problem), self.data, self.key)
        return hlo.read(compiled.as_text() or "")


class Trial(NamedTuple):
    """A plan that was tried.

    Attributes:
        plan: the plan that was tried.
        milliseconds: the time of one outer step; None where the plan was passed over.
        cost: the cost of the compiled program; None where the program did not compile.
        passed_over: the reason why the plan was passed over; None where the plan was timed.
    """

    plan: Plan
    milliseconds: float | None
    cost: Cost | None
    passed_over: str | None

    def as_dict(self) -> dict[str, Any]:
        """The plan, the time, the reason and the cost by name, for JSON."""
        cost = self.cost._asdict() if self.cost else {}
        found = {"milliseconds": self.milliseconds, "passed_over": self.passed_over}
        return {**self.plan.as_dict(), **found, **cost}


def trial(
    problem: Problem, plan: Plan, site: Site, *, limit: int | None = None, seconds: float = 1.0
) -> Trial:
    """Compile outer steps and time some of them; the state that they reach is discarded.

    Args:
        problem: the method, form, optimiser and sizes, built for the plan.
        plan: the plan to try.
        site: the devices and data to run on.
        limit: the bytes available on one device; a program that needs more is not started. None where the
            limit is unknown.
        seconds: the seconds of timing; at least one step is timed, after a first one as a warm-up.

    Returns:
        The trial. Too little memory and a failure to compile are recorded in the trial, not raised.
    """
    cost = None
    try:
        dispatch, cost = site.compile(problem)
        estimate = Estimate.of(cost, limit)
        if not estimate.fits:
            return Trial(plan, None, cost, f"needs {estimate.needed_bytes} bytes of {limit}")
        return Trial(plan, _milliseconds(dispatch, problem, site, seconds), cost, None)
    except COMPILE_ERRORS as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        return Trial(plan, None, cost, f"{'did not run' if cost else 'did not compile'}: {reason}")


def _milliseconds(dispatch: Any, problem: Problem, site: Site, seconds: float) -> float:
    """The shortest of three times, because other work on the machine can only slow a step down."""

    def timed(steps: int) -> float:
        state = jax.block_until_ready(site.start(problem))
        began = time.perf_counter()
        state, _, finite = dispatch(state, site.data, site.key, np.int32(steps))
        # A step that is not finite ends the dispatch; the step was computed, but the state does not count it.
        done = int(state.step) + (not bool(finite))
        return (time.perf_counter() - began) / done

    first = timed(1)
    steps = max(1, min(DISPATCH_CAPACITY, int(seconds / (3 * first))))
    repeats = 3 if 3 * first <= seconds else 1
    return 1000 * min(timed(steps) for _ in range(repeats))


def choose(trials: Sequence[Trial]) -> Trial:
    """The best trial.

    Args:
        trials: the trials to choose from, at least one.

    Returns:
        Of the trials within a factor `SAME_SPEED` of the fastest, the one that takes the least memory; where
        no plan was timed, the one of all that takes the least memory.
    """
    times = [one.milliseconds for one in trials if one.milliseconds is not None]
    as_fast = [one for one in trials if times and (one.milliseconds or math.inf) <= SAME_SPEED * min(times)]
    return min(as_fast or trials, key=lambda one: one.cost.total_bytes if one.cost else math.inf)


def tune(
    build: Callable[[Plan], Problem],
    start: Plan,
    site: Site,
    *,
    free: Collection[str] = CHOICES,
    limit: int | None = None,
    seconds: float = 1.0,
    budget_seconds: float = math.inf,
    listener: Callable[[Trial], None] | None = None,
) -> list[Trial]:
    """Time plans on the problem itself: forms of convolution, sizes of chunk, strategies.

    The choices are varied one after the other, each from the best plan so far. Off the CPU, where
    convolutions may be those of lax, form and chunk are varied in all combinations, because a batch of θ0
    turns these convolutions into another operation. Plans that give the same program are tried once.

    Args:
        build: the function from a plan to the problem.
        start: the plan that is tried first.
        site: the devices and data to run on.
        free: the names of the choices that may differ from `start`.
        limit: the bytes available on one device; None where the limit is unknown.
        seconds: the seconds for which each plan is timed.
        budget_seconds: the seconds after which no further plan is tried.
        listener: the function that is called with each trial; None for none.

    Returns:
        The trials, from which `choose` picks.
    """
    began = time.monotonic()
    trials: list[Trial] = []
    tried: set[tuple[Any, ...]] = set()
    num_slots, backend = build(start).num_inits // site.mesh.size, platforms.of(site.mesh.devices.flat[0])
    together = (
        [("conv_form",), ("slots_per_chunk",)] if backend == "cpu" else [("conv_form", "slots_per_chunk")]
    )
    for vary in (*together, ("memory",)):
        best = choose(trials) if trials else Trial(start, 0.0, None, None)
        for plan in candidates(
            best.plan,
            set(vary) & set(free),
            backend=backend,
            num_slots=num_slots,
            fits=best.milliseconds is not None,
        ):
            if trials and time.monotonic() - began > budget_seconds:
                return trials
            problem = build(plan)
            if (program := _program(problem, plan, site)) in tried:
                continue
            tried.add(program)
            trials.append(trial(problem, plan, site, limit=limit, seconds=seconds))
            if listener is not None:
                listener(trials[-1])
    return trials


def _program(problem: Problem, plan: Plan, site: Site) -> tuple[Any, ...]:
    """The identity of a program; the form of convolution counts by the program of one slot's loss."""
    shapes = jax.eval_shape(
        lambda data, key: (
            forms.drawn(problem.form, problem.form.init(key), key)[0],
            problem.method.init(key),
            problem.method.sample(data, key),
        ),
        site.data,
        site.key,
    )
    text = jax.jit(problem.method.loss).lower(*shapes, site.key).as_text()
    return plan.memory, plan.slots_per_chunk, hashlib.sha256(text.encode()).digest()


# Plans that were tuned before.


def problem_key(facts: Mapping[str, Any], devices: Sequence[parallel.Device]) -> str:
    """The name under which a problem's plan is remembered.

    Args:
        facts: everything that the outer step depends on, as values that JSON can represent.
        devices: the devices that the slots are divided over.

    Returns:
        A hash of the facts, the devices, the CPU, and the versions of JAX and ddjax.
    """
    machine = report.hardware()
    made_for = {
        "facts": facts,
        "device": devices[0].device_kind,
        "devices": len(devices),
        "cpu": (machine["cpu"], machine["cpu_cores"]),
        "versions": (jax.__version__, __version__),
    }
    return hashlib.sha256(json.dumps(made_for, sort_keys=True).encode()).hexdigest()


def _read(path: Path) -> dict[str, Any]:
    """All remembered plans; none, with a warning, where the file is damaged."""
    try:
        known = json.loads(path.read_text())
        if isinstance(known, dict):
            return known
        reason = f"a {type(known).__name__} at its top"
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        reason = str(error)
    warnings.warn(
        f"{path}: expected the plans that were tuned; got {reason}. They are tuned again.", stacklevel=2
    )
    return {}


def recall(directory: files.StrPath, key: str) -> Plan | None:
    """The plan that was tuned for a problem.

    Args:
        directory: the directory that `remember` was given.
        key: the name of the problem, from `problem_key`.

    Returns:
        The plan; None where none is remembered, or, with a warning, where the record is damaged.
    """
    path = Path(directory) / FILE_NAME
    entry = _read(path).get(key)
    if entry is None:
        return None
    try:
        return Plan.from_dict(entry["plan"])
    except (KeyError, TypeError, ValueError) as error:
        warnings.warn(f"{path}: the plan of this problem is damaged ({error}); tuning again.", stacklevel=2)
        return None


def remember(directory: files.StrPath, key: str, trials: Sequence[Trial]) -> None:
    """Keep the plan that was tuned for a problem; warns where the directory cannot be written.

    Args:
        directory: the directory of the file, which is made where it is missing.
        key: the name of the problem, from `problem_key`.
        trials: the trials, from `tune`.
    """
    path = Path(directory) / FILE_NAME
    entry = {"plan": choose(trials).plan.as_dict(), "trials": [one.as_dict() for one in trials]}
    # Where two runs end tuning at the same moment, the plan of one is lost, and is tuned again next time.
    known = _read(path) | {key: entry}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        report.write_json(path, known)
    except OSError as error:
        warnings.warn(f"{path}: the tuned plan could not be kept ({error}).", stacklevel=2)


def flops_of_step(problem: Problem, site: Site) -> int:
    """The operations of one outer step, over all devices.

    The outer loop is a `while`, whose body counts once.

    Args:
        problem: the computation of an outer step.
        site: the devices and data, or their shapes.

    Returns:
        The number of operations.
    """
    dispatch = build_dispatch(problem, site.mesh)
    return flops(jax.make_jaxpr(dispatch)(site.start(problem), site.data, site.key, np.int32(0)).jaxpr)

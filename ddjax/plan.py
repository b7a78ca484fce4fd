"""Plans: choices that change how fast and how large outer steps are, and only the rounding of their results.

A plan is a backend's measured default, or the fastest of a few that were compiled and timed on the problem
itself. What memory a plan takes is what the compiled program says, not a formula.
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

from ddjax import checks, files, parallel, report
from ddjax.data import Dataset, to_device
from ddjax.engine import (
    DISPATCH_CAPACITY,
    Cost,
    EngineState,
    Problem,
    check_problem,
    compile_dispatch,
    init_state,
)
from ddjax.memory import Estimate
from ddjax.networks.ops import CONV_FORMS
from ddjax.types import PyTree, RealData
from ddjax.unroll import STRATEGIES
from ddjax.version import __version__

COMPILE_ERRORS = (jax.errors.JaxRuntimeError, MemoryError)
"""What compiling or running raises where the memory does not suffice or a backend has no such program."""

SAME_SPEED = 1.03
"""Times of which one is at most so much longer than the other are not told apart."""

FILE_NAME = "plans.json"
"""What was tuned, in a directory of the caller's."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a backend's default, a flag or a trial decides.

    Attributes:
        conv_form: of the network, see `ddjax.networks.ops.conv`; `"auto"` chooses for each layer.
        memory: how an unroll is differentiated, a name from `ddjax.unroll.STRATEGIES`; None where the method
            unrolls nothing.
        slots_per_chunk: how many θ0 are vmapped; the rest follow one chunk after the other.
    """

    conv_form: str = "auto"
    memory: str | None = "reverse"
    slots_per_chunk: int = 1

    def __post_init__(self) -> None:
        checks.choice("conv_form", self.conv_form, CONV_FORMS)
        if self.memory is not None:
            checks.choice("memory", self.memory, STRATEGIES)
        checks.at_least("slots_per_chunk", self.slots_per_chunk, 1)

    def as_dict(self) -> dict[str, Any]:
        """The choices by name, for JSON; without `memory` where there is none."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Plan:
        """The plan of a record with its choices, and perhaps other things.

        Raises:
            ValueError: a choice is missing, or none that there is.
        """
        for name in ("conv_form", "slots_per_chunk"):
            if name not in record:
                raise ValueError(f"plan: expected {name}; got {sorted(record)}. Give every choice.")
        return cls(record["conv_form"], record.get("memory"), record["slots_per_chunk"])


CHOICES = tuple(field.name for field in dataclasses.fields(Plan))
"""What a plan decides."""


def default_plan(backend: str, *, num_inits: int, unrolls: bool = True) -> Plan:
    """What `auto` stands for where nothing was tuned.

    | backend | conv_form | memory | θ0 at once | measured |
    |---|---|---|---|---|
    | CPU | auto: blocks, band or im2col, see `ops.default_form` | recompute | 1 | yes |
    | GPU, TPU | auto: lax | reverse | all M | not yet: no such device was at hand |

    On CPU, computing each step again takes no longer than writing and reading what it would have kept, and a
    third of the memory: when that was chosen LeNet took 75 ms both ways, AlexCifarNet 3.6 and 3.7 s.

    Args:
        backend: as `jax.default_backend()` names it.
        num_inits: M.
        unrolls: whether the method differentiates through training.

    Returns:
        The plan.

    Raises:
        ValueError: `num_inits` below one.
    """
    checks.at_least("num_inits", num_inits, 1)
    memory, at_once = ("recompute", 1) if backend == "cpu" else ("reverse", num_inits)
    return Plan("auto", memory if unrolls else None, at_once)


def candidates(
    base: Plan, vary: Collection[str], *, backend: str, num_slots: int, fits: bool = True
) -> list[Plan]:
    """The plans worth timing that differ from one in some of its choices.

    Convolutions by lax are left out on CPU, where their second derivatives are several times slower. Of the
    θ0, one, all, and the number between that is nearest to √m are batched. Strategies that compute each
    stretch of √T steps twice are only worth their time where the others do not fit.

    Args:
        base: the plan; the first of those returned.
        vary: which choices.
        backend: as `jax.default_backend()` names it.
        num_slots: m, the θ0 of one device.
        fits: whether `base` fits into the memory.

    Returns:
        Every combination, `base` first.
    """
    divisors = [n for n in range(1, num_slots + 1) if num_slots % n == 0]
    middle = min(divisors, key=lambda n: abs(math.log(n) - math.log(num_slots) / 2))
    values: dict[str, Iterable[Any]] = {
        "slots_per_chunk": (1, num_slots, middle),
        "memory": [name for name, way in STRATEGIES.items() if not fits or way.checkpoint != "sqrt"],
        "conv_form": [form for form in CONV_FORMS if backend != "cpu" or form != "lax"],
    }
    kept = [name for name in values if name in vary and getattr(base, name) is not None]
    ordered = ([getattr(base, name), *values[name]] for name in kept)
    # dict.fromkeys: without repetitions, in order.
    combinations = itertools.product(*(dict.fromkeys(column) for column in ordered))
    return [dataclasses.replace(base, **dict(zip(kept, row, strict=True))) for row in combinations]


# Compiling and timing.


class Site(NamedTuple):
    """Where outer steps run, and on what.

    Attributes:
        mesh: the devices.
        data: the training split on them.
        key: of the outer steps.
        init_key: of the first state.
    """

    mesh: Mesh
    data: RealData
    key: jax.Array
    init_key: jax.Array

    @classmethod
    def of(cls, data: Dataset, key: jax.Array, *, num_inits: int, assets: PyTree = ()) -> Site:
        """As `ddjax.distill` chooses its devices, places the data with a method's assets, splits its key."""
        checks.kind("data", data, Dataset, remedy="Use ddjax.data.load or ddjax.data.from_arrays.")
        checks.prng_key("key", key)
        mesh = parallel.make_mesh(parallel.default_devices(num_inits))
        real = to_device(data.train)._replace(assets=assets)
        real = parallel.place(real, parallel.replicated(mesh))
        return cls(mesh, real, *jax.random.split(key))

    def start(self, problem: Problem) -> EngineState:
        """The state before the first outer step, on the mesh; the dispatch takes its memory over."""
        return init_state(problem, self.init_key).on(self.mesh)

    def compile(self, problem: Problem) -> tuple[Any, Cost]:
        """The outer steps as a run compiles them, and their cost.

        Raises:
            ValueError: the problem's parts do not fit together or to the data; nothing was compiled.
        """
        check_problem(problem, self.key, self.data)
        return compile_dispatch(problem, self.mesh, self.start(problem), self.data, self.key)


class Trial(NamedTuple):
    """A plan that was tried.

    Attributes:
        plan: the plan that was tried.
        milliseconds: of one outer step; None where it was passed over.
        cost: of the compiled program; None where it did not compile.
        passed_over: why it was; None where it was timed.
    """

    plan: Plan
    milliseconds: float | None
    cost: Cost | None
    passed_over: str | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        cost = self.cost._asdict() if self.cost else {}
        found = {"milliseconds": self.milliseconds, "passed_over": self.passed_over}
        return {**self.plan.as_dict(), **found, **cost}


def trial(
    problem: Problem, plan: Plan, site: Site, *, limit: int | None = None, seconds: float = 1.0
) -> Trial:
    """Compile outer steps and time some of them; the state that they reach is thrown away.

    Args:
        problem: what one step computes, as the plan says.
        plan: the plan.
        site: the devices and data to run on.
        limit: bytes on one device; a program that needs more is not started.
        seconds: how long to time, at least one step after a first one that warms up.

    Returns:
        What was found; running out of memory and failing to compile are findings too.
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
    """The best of three times, because whatever else the machine does can only slow a step down."""

    def timed(steps: int) -> float:
        state = jax.block_until_ready(site.start(problem))
        began = time.perf_counter()
        state, _, finite = dispatch(state, site.data, site.key, np.int32(steps))
        # A step that is not finite ends the dispatch; it was computed, but does not count in the state.
        done = int(state.step) + (not bool(finite))
        return (time.perf_counter() - began) / done

    first = timed(1)
    steps = max(1, min(DISPATCH_CAPACITY, int(seconds / (3 * first))))
    repeats = 3 if 3 * first <= seconds else 1
    return 1000 * min(timed(steps) for _ in range(repeats))


def choose(trials: Sequence[Trial]) -> Trial:
    """The fastest, or the smallest of those that are as fast; where none was timed, the smallest of all."""
    times = [one.milliseconds for one in trials if one.milliseconds is not None]
    as_fast = [one for one in trials if times and (one.milliseconds or math.inf) <= SAME_SPEED * min(times)]
    return min(as_fast or trials, key=lambda one: sum(one.cost[1:]) if one.cost else math.inf)


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

    One choice after the other, each with the best so far of those before it; but where convolutions are
    lax's, form and chunk in all combinations, because a batch of θ0 makes another operation of them. Plans
    that come to the same program are tried once.

    Args:
        build: the problem of a plan.
        start: tried first.
        site: the devices and data to run on.
        free: the choices that may differ from `start`.
        limit: bytes on one device.
        seconds: how long each is timed.
        budget_seconds: after so long no further plan is tried.
        listener: called with each trial.

    Returns:
        The trials; `choose` picks.
    """
    began = time.monotonic()
    trials: list[Trial] = []
    tried: set[tuple[Any, ...]] = set()
    num_slots, backend = build(start).num_inits // site.mesh.size, jax.default_backend()
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
    """What tells programs apart: all but the form of convolution by name, that by one slot's loss."""
    shapes = jax.eval_shape(
        lambda data, key: (
            problem.form.unfold(problem.form.init(key)),
            problem.method.init(key),
            problem.method.sample(data, key),
        ),
        site.data,
        site.key,
    )
    text = jax.jit(problem.method.loss).lower(*shapes, site.key).as_text()
    return plan.memory, plan.slots_per_chunk, hashlib.sha256(text.encode()).digest()


# What was tuned before.


def problem_key(facts: Mapping[str, Any], devices: Sequence[parallel.Device]) -> str:
    """The name under which a problem's plan is remembered.

    Args:
        facts: all that the outer step depends on, JSON-able.
        devices: that share it.

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
    """All that is remembered; nothing, with a warning, where the file is damaged."""
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
        directory: that `remember` was given.
        key: from `problem_key`.

    Returns:
        The plan; None where there is none, or, with a warning, where it is damaged.
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
    """Keep what was tuned; a directory that cannot be written is a warning.

    Args:
        directory: made where it is missing.
        key: from `problem_key`.
        trials: from `tune`.
    """
    path = Path(directory) / FILE_NAME
    entry = {"plan": choose(trials).plan.as_dict(), "trials": [one.as_dict() for one in trials]}
    # Of two runs that end tuning at the same moment one is forgotten, and tunes again next time.
    known = _read(path) | {key: entry}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        report.write_json(path, known)
    except OSError as error:
        warnings.warn(f"{path}: the tuned plan could not be kept ({error}).", stacklevel=2)

"""The plan of a run: what the flags say, else what was tuned, else the backend's default; and `--dry_run`."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from ddjax import forms, levers, memory, parallel, plan, platforms, targets
from ddjax.data import cache, to_device
from ddjax.engine import Cost, Problem
from ddjax.launch import abroad
from ddjax.launch.flags import of_the_step
from ddjax.launch.settings import Common
from ddjax.launch.types import Case
from ddjax.levers import Change, Lever
from ddjax.memory import Estimate
from ddjax.plan import Plan, Site, Trial
from ddjax.targets import Abroad

TRIAL_SECONDS = 1.5
"""Seconds for which the steps of one candidate are timed; at least one step is timed."""

BUDGET_SECONDS = 180.0
"""Seconds after which no further candidate is compiled, neither to be timed nor as a lever."""

ROOM_SECONDS = 40.0
"""The most seconds of compiling for a target after which a second program is compiled, for what would fit."""


def given(config: Common) -> dict[str, Any]:
    """The choices of a plan that the flags make.

    Args:
        config: the settings.

    Returns:
        The values of these choices, by name; a flag that is not given or `auto` leaves its choice out.
    """
    values = {name: getattr(config, name, None) for name in (*plan.CHOICES, "precision")}
    return {name: value for name, value in values.items() if value not in (None, "auto")}


def default_for(config: Common) -> Plan:
    """The backend's default plan, with the choices of the flags in place of its own.

    Args:
        config: the settings.

    Returns:
        The plan.
    """
    unrolls = config.differentiated_steps() is not None
    usual = plan.default_plan(platform_of(config), num_inits=config.num_inits, unrolls=unrolls)
    return dataclasses.replace(usual, **given(config))


def platform_of(config: Common) -> str:
    """The platform that outer steps are compiled for.

    Args:
        config: the settings.

    Returns:
        The platform of the target, else that of this machine.
    """
    return (
        platforms.current() if config.compiled_for is None else targets.by_name(config.compiled_for).platform
    )


def problem_of(case: Case, chosen: Plan) -> Problem:
    """The computation of one outer step of a case under a plan.

    Args:
        case: the case.
        chosen: the plan.

    Returns:
        The problem, to be compiled.
    """
    parts = case.parts(chosen)
    return Problem(
        parts.method,
        parts.form,
        forms.optimizer_for(parts.form, parts.outer),
        case.config.num_inits,
        parts.outer.clip_norm,
        chosen.slots_per_chunk,
    )


def site_of(case: Case) -> Site:
    """The devices and data that the outer steps of a case run on.

    Args:
        case: the case.

    Returns:
        The site.
    """
    assets = case.parts(case.start).method.assets
    if case.config.compiled_for is not None:
        data = to_device(case.data.train)._replace(assets=assets)
        return Abroad.at(targets.by_name(case.config.compiled_for), data, num_inits=case.config.num_inits)
    return Site.of(case.data, case.keys.run, num_inits=case.config.num_inits, assets=assets)


def limit_of(config: Common) -> int | None:
    """The memory of one device: what the settings say, else what the device reports.

    Args:
        config: the settings.

    Returns:
        The number of bytes; None where neither says.
    """
    if config.memory_limit is not None:
        return int(config.memory_limit * 2**30)
    if config.compiled_for is not None:
        return targets.limit(targets.by_name(config.compiled_for))
    return memory.device_memory(parallel.default_devices(config.num_inits))


def resolve(case: Case) -> dict[str, Any]:
    """Choose a plan, for `plan.json`.

    Each choice is the flag's where it is given. The others are those that an earlier run tuned for the same
    problem, else with `--tune` those tuned now, else the default.

    Args:
        case: the case that the plan is made for.

    Returns:
        The choices by name; how each was chosen (`flag`, `remembered`, `tuned`, `default`) as `chosen`; and,
        where the plan was tuned now, the trials as `trials`.

    Raises:
        ValueError: several processes would tune, or no plan fits.
    """
    start, explicit = case.start, given(case.config)
    if case.config.compiled_for is not None:  # where nothing was timed
        return described(start, explicit, "default")
    free = [name for name in start.as_dict() if name not in explicit]
    key = plan.problem_key(facts(case), parallel.default_devices(case.config.num_inits))
    found = plan.recall(cache.directory(), key) if free else None
    if found is not None:
        return described(found, explicit, "remembered")
    if not free or not case.config.tune:
        return described(start, explicit, "default")
    trials = tune(case, start, free)
    plan.remember(cache.directory(), key, trials)
    tuned = described(plan.choose(trials).plan, explicit, "tuned")
    return tuned | {"trials": [one.as_dict() for one in trials]}


def described(chosen: Plan, explicit: Mapping[str, Any], otherwise: str) -> dict[str, Any]:
    """A plan for `plan.json`, with how each choice was made.

    Args:
        chosen: the plan.
        explicit: the choices that the flags made, by name.
        otherwise: how the other choices were made: `remembered`, `tuned` or `default`.

    Returns:
        The choices by name, and how each was made as `chosen`.
    """
    how = {name: "flag" if name in explicit else otherwise for name in chosen.as_dict()}
    return {**chosen.as_dict(), "chosen": how}


def facts(case: Case) -> dict[str, Any]:
    """All that the speed and size of an outer step depend on.

    Args:
        case: the case.

    Returns:
        The settings that matter by name, and the number, shape and classes of the images as `images`.
    """
    kept = of_the_step(case.config)
    if case.config.memory_limit is not None:
        kept["memory_limit"] = case.config.memory_limit
    data = case.data
    return kept | {"images": [len(data.train), *data.input_shape, data.num_classes]}


def tune(case: Case, start: Plan, free: Sequence[str]) -> list[Trial]:
    """Time the candidates on the problem of a case, and print each result as soon as it is known.

    Args:
        case: the case to tune for.
        start: the plan that the candidates vary.
        free: the names of the choices that may be varied.

    Returns:
        The trials, one for each candidate.

    Raises:
        ValueError: there are several processes, or no candidate could be timed.
    """
    if jax.process_count() > 1:
        raise ValueError(
            f"tune: expected one process; got {jax.process_count()}. Give --conv_form, --memory and "
            "--slots_per_chunk what a run of one process chose, or leave --tune out."
        )
    print("tuning: timing the candidates for this problem on this machine", flush=True)
    trials = plan.tune(
        lambda tried: problem_of(case, tried),
        start,
        site_of(case),
        free=free,
        limit=limit_of(case.config),
        seconds=TRIAL_SECONDS,
        budget_seconds=BUDGET_SECONDS,
        listener=lambda one: print(f"  {describe_trial(one)}", flush=True),
    )
    if plan.choose(trials).milliseconds is None:
        raise ValueError(
            f"tune: expected a plan that fits this machine; none of {len(trials)} does. Run again with "
            "--dry_run instead of --tune to see what would fit."
        )
    return trials


def describe_trial(one: Trial) -> str:
    """The result of a trial in one line.

    Args:
        one: the trial.

    Returns:
        The text: the plan and its time and memory, or why the plan was passed over.
    """
    text = " ".join(f"{name}={value}" for name, value in one.plan.as_dict().items())
    if one.milliseconds is None or one.cost is None:
        return f"{text}: {one.passed_over}"
    return (
        f"{text}: {one.milliseconds:.1f} ms a step, {mebibytes(one.cost.working_bytes)} to work in, "
        f"compiled in {one.cost.compile_seconds:.1f} s"
    )


def describe(resolved: Mapping[str, Any]) -> str:
    """The plan of a `plan.json` and how it was chosen, in one line.

    Args:
        resolved: the content of the file.

    Returns:
        The text.
    """
    return "plan: " + ", ".join(
        f"{name} {resolved[name]} ({how})" for name, how in resolved["chosen"].items()
    )


def describe_cost(cost: Cost, limit: int | None) -> str:
    """What the outer steps take, as measured by compiling them, next to the memory of the device.

    Args:
        cost: the cost of the compiled outer steps.
        limit: the memory of one device in bytes; None where that is unknown.

    Returns:
        The text, one line.
    """
    estimate = Estimate.of(cost, limit)
    there_is = f" of {mebibytes(limit)}" if limit is not None else ""
    return (
        f"compiled in {cost.compile_seconds:.1f} s; memory of one device: "
        f"{mebibytes(estimate.temporary_bytes)} to work in, {mebibytes(estimate.resident_bytes)} of data, "
        f"{mebibytes(estimate.needed_bytes)}{there_is} in all"
    )


def mebibytes(size: int) -> str:
    """A size in MiB, with tenths below 10 MiB.

    Args:
        size: the number of bytes.

    Returns:
        The text.
    """
    return f"{size / 2**20:,.{0 if size >= 10 * 2**20 else 1}f} MiB"


def read(path: Path) -> dict[str, Any]:
    """The plan that a run was started with.

    Args:
        path: the path of the `plan.json`.

    Returns:
        The content of the file.

    Raises:
        ValueError: the file does not hold what a first start writes.
    """
    try:
        found = json.loads(path.read_text())
        Plan.from_dict(found)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: expected the plan that this run was started with; got another content ({error}). "
            "Remove the file to have the plan chosen again."
        ) from error
    return found


def rehearse(case: Case, resolved: Mapping[str, Any]) -> None:
    """`--dry_run`: compile what the run would compile, and print what that takes.

    Where the run does not fit the memory, changes that may take less are compiled too, and printed.

    Args:
        case: the case of the run.
        resolved: the plan of the run, as in `plan.json`.

    Raises:
        ValueError: the run does not fit the memory.
    """
    chosen, limit, site = Plan.from_dict(resolved), limit_of(case.config), site_of(case)
    print(describe(resolved), flush=True)
    began = time.monotonic()
    estimate = _looked(case, problem_of(case, chosen), site, limit)
    if estimate is not None and estimate.fits:
        print("it fits" if limit is not None else "how much there is, this device does not say", flush=True)
        if case.config.compiled_for is not None and limit is not None:
            at_once = math.gcd(chosen.slots_per_chunk, case.config.num_inits // site.mesh.size)
            is_slow = time.monotonic() - began > ROOM_SECONDS
            grown = None if is_slow else functools.partial(_cost_of_slots, case, chosen, site)
            print(abroad.room(grown, at_once, site, estimate), flush=True)
        return
    print("it does not fit; compiling what may take less", flush=True)
    found, untried = levers.levers(
        lambda changed: cost_of(case, chosen, site, changed),
        levers.changes(chosen, **extent(case.config, site)),
        limit=limit,
        needed=math.inf if estimate is None else estimate.needed_bytes,
        budget_seconds=BUDGET_SECONDS,
        listener=lambda lever: print(f"  {describe_lever(lever)}", flush=True),
    )
    if not found:
        print("nothing that was compiled takes less")
    if untried:
        names = ", ".join(describe_change(change) for change in untried)
        print(f"not compiled, because it took too long already: {names}")
    there_is = "what one device has" if limit is None else f"{mebibytes(limit)}, what one device has"
    needed = "more" if estimate is None else mebibytes(estimate.needed_bytes)
    raise ValueError(
        f"memory: expected outer steps that need at most {there_is}; they need {needed}. Take a change "
        "that fits, or a device with more (--memory_limit plans for another)."
    )


def _looked(case: Case, problem: Problem, site: Site, limit: int | None) -> Estimate | None:
    """Compile outer steps for this machine or for the target, and print what they take."""
    if case.config.compiled_for is None:
        return estimate_of(problem, site, limit)
    return abroad.look(targets.by_name(case.config.compiled_for), problem, site, limit)


def _cost_of_slots(case: Case, chosen: Plan, site: Site, at_once: int) -> Cost:
    """The cost of outer steps with as many slots on each device, all of them at once."""
    config = dataclasses.replace(case.config, num_inits=at_once * site.mesh.size)
    grown = dataclasses.replace(chosen, slots_per_chunk=at_once)
    _, cost = site.compile(problem_of(dataclasses.replace(case, config=config), grown))
    return cost


def estimate_of(problem: Problem, site: Site, limit: int | None) -> Estimate | None:
    """Compile outer steps and print what they take.

    Args:
        problem: the computation of an outer step.
        site: the devices and data to compile for.
        limit: the memory of one device in bytes; None where that is unknown.

    Returns:
        The estimate of the memory; None where the steps do not compile.
    """
    try:
        _, cost = site.compile(problem)
    except plan.COMPILE_ERRORS as error:
        print(f"it does not compile: {error}", flush=True)
        return None
    print(describe_cost(cost, limit), flush=True)
    return Estimate.of(cost, limit)


def extent(config: Common, site: Site) -> dict[str, Any]:
    """The sizes of a run that `ddjax.levers.changes` can lessen.

    Args:
        config: the settings.
        site: the devices and data of the run.

    Returns:
        The sizes, as keyword arguments of `ddjax.levers.changes`.
    """
    return {
        "num_slots": config.num_inits // site.mesh.size,
        "num_devices": site.mesh.size,
        "batch_size": config.batch_size if config.draws_real else 1,
        "num_steps": config.differentiated_steps(),
    }


def cost_of(case: Case, chosen: Plan, site: Site, changed: Mapping[str, Any]) -> Cost:
    """The cost of the outer steps under changed settings.

    A run on more devices than the site has is not compiled as such: its cost is that of one device with its
    share of the initial weights.

    Args:
        case: the case of the run.
        chosen: the plan of the run.
        site: the devices and data of the run.
        changed: the changed settings by name: choices of the plan, flags, or `devices`.

    Returns:
        The cost.
    """
    of_plan = {name: value for name, value in changed.items() if name in plan.CHOICES}
    of_flags = {name: value for name, value in changed.items() if name not in (*plan.CHOICES, "devices")}
    share = case.config.num_inits * site.mesh.size // changed.get("devices", site.mesh.size)
    other = dataclasses.replace(case, config=dataclasses.replace(case.config, num_inits=share, **of_flags))
    _, cost = site.compile(problem_of(other, dataclasses.replace(chosen, **of_plan)))
    return cost


def describe_change(change: Change) -> str:
    """A change, written as flags.

    Args:
        change: the settings that are changed.

    Returns:
        The text.
    """
    return " ".join(
        f"on {value} devices" if name == "devices" else f"--{name}={value}"
        for name, value in change.settings.items()
    )


def describe_lever(lever: Lever) -> str:
    """The memory that a run would need after a change, in one line.

    Args:
        lever: the change, with the estimate of the memory.

    Returns:
        The text.
    """
    return (
        f"{describe_change(lever.change)}: {mebibytes(lever.estimate.needed_bytes)} in all, "
        f"{'fits' if lever.estimate.fits else 'does not fit'} (the gradient: {lever.change.gradient})"
    )

"""Levers: other settings that take less memory, for a run that does not fit."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple

from ddjax.engine import Cost
from ddjax.memory import Estimate
from ddjax.plan import COMPILE_ERRORS, Plan
from ddjax.unroll import STRATEGIES

Effect = Literal["the same", "of fewer real images", "truncated", "truncated, of fewer real images"]
"""The effect of a change on the gradient."""


class Change(NamedTuple):
    """Other settings that may take less memory.

    Attributes:
        settings: the changed settings by name: choices of a plan, `batch_size`, `window`, or `devices`.
        gradient: the effect of the change on the gradient.
    """

    settings: Mapping[str, Any]
    gradient: Effect


class Lever(NamedTuple):
    """A change that was compiled and takes less memory.

    Attributes:
        change: the settings that were changed.
        estimate: the memory of the compiled program.
    """

    change: Change
    estimate: Estimate


def changes(
    plan: Plan, *, num_slots: int, num_devices: int, batch_size: int, num_steps: int | None = None
) -> list[Change]:
    """Changes that may take less memory: first those that cost time or devices, then those of the gradient.

    Args:
        plan: the plan that does not fit.
        num_slots: m, the number of θ0 on one device.
        num_devices: D, the number of devices; with more devices, the same M are divided further.
        batch_size: N, the number of real images in a minibatch.
        num_steps: the number of inner steps that are differentiated; None where nothing is unrolled.

    Returns:
        Changes of one setting. After those that keep the gradient comes a change with the strongest of them
        together, and at the end a change with the strongest of all.
    """
    chunk = math.gcd(plan.slots_per_chunk, num_slots)
    less = [n for n in dict.fromkeys((chunk // 2, 1)) if 0 < n < chunk and num_slots % n == 0]
    exact: list[dict[str, Any]] = [{"slots_per_chunk": n} for n in less]
    if plan.memory is not None:
        exact += [{"memory": name} for name in STRATEGIES if name not in ("reverse", plan.memory)]
    together = {name: value for settings in exact for name, value in settings.items()}
    exact += [{"devices": num_devices * num_slots // n} for n in less]
    fewer = [{"batch_size": n} for n in _half_and_quarter(batch_size)]
    shorter = [{"window": n} for n in _half_and_quarter(num_steps or 1)]
    approximate = {name: value for settings in (*fewer, *shorter) for name, value in settings.items()}
    listed = [Change(settings, "the same") for settings in exact]
    if len(together) > 1:
        listed.append(Change(together, "the same"))
    listed += [Change(settings, "of fewer real images") for settings in fewer]
    listed += [Change(settings, "truncated") for settings in shorter]
    if len(together | approximate) > 1:
        effect = "truncated, of fewer real images" if shorter else "of fewer real images"
        listed.append(Change(together | approximate, effect))
    return listed


def _half_and_quarter(number: int) -> list[int]:
    return [n for n in dict.fromkeys((number // 2, number // 4)) if n >= 1]


def levers(
    cost_of: Callable[[Mapping[str, Any]], Cost],
    options: Iterable[Change],
    *,
    limit: int | None,
    needed: float = math.inf,
    budget_seconds: float = math.inf,
    listener: Callable[[Lever], None] | None = None,
) -> tuple[list[Lever], list[Change]]:
    """Compile changes and keep those that take less memory.

    A change of several settings is compiled only while no change so far fits.

    Args:
        cost_of: the function from changed settings to the cost of the outer steps.
        options: the changes to try, from `changes`.
        limit: the bytes available on one device; None where the limit is unknown.
        needed: the bytes needed without a change; infinite where the program did not even compile.
        budget_seconds: the seconds after which no further change is compiled.
        listener: the function that is called with each lever; None for none.

    Returns:
        The changes that take less memory, in the order of the options; and those for which there was no time.
    """
    began = time.monotonic()
    found: list[Lever] = []
    untried: list[Change] = []
    for option in options:
        if len(option.settings) > 1 and any(lever.estimate.fits for lever in found):
            continue
        if time.monotonic() - began > budget_seconds:
            untried.append(option)
            continue
        try:
            estimate = Estimate.of(cost_of(option.settings), limit)
        except COMPILE_ERRORS:
            continue
        if estimate.needed_bytes < needed:
            found.append(Lever(option, estimate))
            if listener is not None:
                listener(found[-1])
    return found, untried

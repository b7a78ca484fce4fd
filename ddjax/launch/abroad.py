"""`--dry_run --target=`: what outer steps take on devices that this machine does not have, in words."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from ddjax import plan, targets
from ddjax.engine import Cost, Problem
from ddjax.hlo import Collective
from ddjax.launch.settings import Common
from ddjax.memory import Estimate
from ddjax.plan import Site
from ddjax.targets import Report, Target

_UNITS = ("", "k", "M", "G", "T", "P")


def begin(config: Common) -> None:
    """Refuse a target that cannot be compiled for, and have JAX look for no device; before its first use.

    Args:
        config: the settings.

    Raises:
        ValueError: a target is given without `--dry_run`, is unknown, or needs what is not installed.
    """
    if config.compiled_for is None:
        return
    if not config.dry_run:
        raise ValueError(
            "target: expected --dry_run with it; got none. Add --dry_run: only this machine's devices run."
        )
    if config.tune:
        raise ValueError("target: expected no --tune; got it. Leave it out: nothing runs on a target.")
    if (lacks := targets.missing(targets.by_name(config.compiled_for))) is not None:
        raise ValueError(lacks)
    targets.stay_at_home()


def look(target: Target, problem: Problem, site: Site, limit: int | None) -> Estimate | None:
    """Compile outer steps for a target and print what the compiler says of them.

    Args:
        target: the target.
        problem: the computation of an outer step.
        site: the devices and data to compile for.
        limit: the memory of one device in bytes; None where that is unknown.

    Returns:
        The estimate of the memory; None where the steps do not compile.
    """
    kind = site.mesh.devices.flat[0].device_kind
    print(f"target: {target.name}, {site.mesh.size} of {target.num_devices} devices, {kind}", flush=True)
    try:
        report = targets.report(target, site, problem)
    except plan.COMPILE_ERRORS as error:
        print(f"it does not compile: {str(error).strip().splitlines()[0]}", flush=True)
        return None
    print(describe(report, limit), flush=True)
    return Estimate.of(report.cost, limit)


def describe(report: Report, limit: int | None) -> str:
    """What a compiler says of outer steps, in a few lines.

    Args:
        report: what the compiler says.
        limit: the memory of one device in bytes; None where that is unknown.

    Returns:
        The text.
    """
    estimate, bound = Estimate.of(report.cost, limit), report.bound()
    there_is = "" if limit is None else f" of {scaled(limit, 'B')}"
    counted = [
        f"{scaled(report.counted[name], unit)}" for name, unit in _COUNTS.items() if name in report.counted
    ]
    lines = [
        f"compiled in {report.cost.compile_seconds:.1f} s; nothing was run",
        f"memory of one device: {scaled(estimate.temporary_bytes, 'B')} to work in, "
        f"{scaled(estimate.resident_bytes, 'B')} of data, {scaled(estimate.needed_bytes, 'B')}{there_is} "
        "in all",
        f"sent in one outer step: {sent(report.program.collectives(), report.sent_bytes)}",
        f"arithmetic of one device in one outer step: {scaled(report.arithmetic, 'flop')} of matrix products "
        f"and convolutions; {scaled(report.program.traffic(), 'B')} read and written by "
        f"{report.program.num_kernels():,} operations",
    ]
    if counted:
        lines.append(f"the compiler itself counts {' and '.join(counted)}, the body of each loop once")
    if bound.seconds:
        lines.append(
            f"bound: an outer step takes at least {1000 * bound.seconds:.3g} ms (products "
            f"{1000 * bound.products:.3g}, memory {1000 * bound.memory:.3g} if nothing is in a cache, links "
            f"{1000 * bound.links:.3g}); this is no prediction"
        )
    else:
        lines.append("bound: none, for want of published peaks")
    return "\n".join(lines)


_COUNTS = {"flops": "flop", "bytes accessed": "B"}


def sent(collectives: list[Collective], num_bytes: int) -> str:
    """What devices send each other, in words.

    Args:
        collectives: the operations by which devices send.
        num_bytes: the bytes that one device sends in all.

    Returns:
        The text.
    """
    if not collectives:
        return "nothing"
    parts = (
        f"{f'{one.times} × ' if one.times > 1 else ''}{one.code} of {scaled(one.num_bytes, 'B')}"
        for one in collectives
    )
    return f"{', '.join(parts)}; {scaled(num_bytes, 'B')} by each device"


def scaled(number: float, unit: str) -> str:
    """A number with three digits and a unit; bytes count in powers of 1,024, such as `1.76 GiB`.

    Args:
        number: the number.
        unit: the unit, such as `B`.

    Returns:
        The text.
    """
    base, infix = (1024, "i") if unit == "B" else (1000, "")
    place = 0
    while number >= base and place + 1 < len(_UNITS):
        number, place = number / base, place + 1
    digits = f"{number:.0f}" if place == 0 or number >= 100 else f"{number:.3g}"
    prefix = f"{_UNITS[place]}{infix}".replace("ki", "Ki") if place else ""
    return f"{digits} {prefix}{unit}"


class Line(NamedTuple):
    """Memory that grows with the number of slots at once, by a line through two compiled programs.

    Attributes:
        fixed: the bytes without any slot.
        each: the bytes of one slot.
    """

    fixed: float
    each: float

    @classmethod
    def through(cls, first: tuple[int, int], second: tuple[int, int]) -> Line:
        """The line through two programs.

        Args:
            first: the slots at once, and the bytes, of a program.
            second: the same of another program.

        Returns:
            The line.
        """
        (a, low), (b, high) = first, second
        each = (high - low) / (b - a)
        return cls(low - a * each, each)

    def most(self, limit: int) -> int | None:
        """The slots at once that fit.

        Args:
            limit: the bytes available.

        Returns:
            The number; None where memory hardly grows with it.
        """
        return int((limit - self.fixed) / self.each) if self.each > 0 else None


def room(cost_at: Callable[[int], Cost] | None, at_once: int, site: Site, estimate: Estimate) -> str:
    """What else would fit: slots that train at once, and real images.

    Args:
        cost_at: the function from a number of slots at once to the cost of the outer steps, which compiles;
            None where that would take too long. Then all memory is taken to grow with the slots, which some
            of it does not, so that the number of slots is a lower bound.
        at_once: the slots at once of the program that was compiled.
        site: the devices and data of the run.
        estimate: the memory of the program that was compiled, with a limit.

    Returns:
        The text.
    """
    limit = estimate.limit_bytes or 0
    if cost_at is None:
        least = Line(0, estimate.needed_bytes / at_once).most(limit)
        slots = f"at least {least:,} slots at once (in proportion to the {at_once} that were compiled)"
    else:
        other = at_once // 2 if at_once > 1 else 2
        there = Estimate.of(cost_at(other), limit)
        most = Line.through((at_once, estimate.needed_bytes), (other, there.needed_bytes)).most(limit)
        slots = "as many slots at once as you like" if most is None else f"about {most:,} slots at once"
        slots = f"{slots} (by a line through {at_once} and {other})"
    rows = (site.data.raw, site.data.labels, site.data.class_order)
    each = sum(math.prod(row.shape[1:]) * row.dtype.itemsize for row in rows)
    images = site.data.labels.size + (limit - estimate.needed_bytes) // each
    return f"room on one device: {slots}, or {images:,} real images"

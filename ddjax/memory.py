"""The memory available on a device, and the memory that compiled outer steps need."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax

from ddjax import parallel
from ddjax.engine import Cost


def device_memory(
    devices: Sequence[parallel.Device],
    *,
    meminfo: Path = Path("/proc/meminfo"),
    cgroups: Path = Path("/sys/fs/cgroup"),
    own_cgroups: Path = Path("/proc/self/cgroup"),
) -> int | None:
    """The bytes that a run may take on each of these devices.

    Args:
        devices: the devices of the run, all of one kind. CPU devices share the memory of the machine: the
            memory available now, or less where a control group sets a bound.
        meminfo: the file in which Linux states the available memory.
        cgroups: the directory in which the control groups of Linux are mounted.
        own_cgroups: the file that lists the control groups of this process.

    Returns:
        The bytes of the device of this process that has the least; None where the memory is not known.
    """
    own = [device for device in devices if device.process_index == jax.process_index()]
    if own[0].platform != "cpu":
        return min((device.memory_stats() or {}).get("bytes_limit", 0) for device in own) or None
    known = [*_available(meminfo), *_cgroup_rests(cgroups, own_cgroups)]
    return min(known) // len(own) if known else None


def _available(meminfo: Path) -> list[int]:
    lines = meminfo.read_text().splitlines() if meminfo.exists() else []
    return [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]


def _cgroup_rests(root: Path, own: Path) -> list[int]:
    """The bytes that each control group above this process, of version 2 or 1, still allows."""
    rests = []
    for line in own.read_text().splitlines() if own.exists() else ():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top = root / "memory" if controllers else root
        names = ("memory.limit_in_bytes", "total_rss") if controllers else ("memory.max", "anon")
        here = top / path.lstrip("/")
        # Inside a container the path may be the host's, and the group is mounted at the top.
        groups = [here, *here.parents[: len(here.parts) - len(top.parts)], top]
        rests += [
            rest for group in dict.fromkeys(groups) if (rest := _cgroup_rest(group, *names)) is not None
        ]
    return rests


def _cgroup_rest(group: Path, limit_name: str, used_name: str) -> int | None:
    """The bound of a group, less the bytes that its processes hold and cannot give back."""
    try:
        limit = (group / limit_name).read_text().strip()
        statistics = (group / "memory.stat").read_text().splitlines()
    except OSError:  # no such group, or its files may not be read
        return None
    used = [int(line.split()[1]) for line in statistics if line.startswith(f"{used_name} ")]
    return None if limit == "max" else max(0, int(limit) - sum(used))


class Estimate(NamedTuple):
    """The memory of compiled outer steps on one device.

    Attributes:
        temporary_bytes: the bytes of XLA's buffers, and on a CPU those of packed factors.
        resident_bytes: the bytes of the real data, φ and the states.
        limit_bytes: the bytes available; None where they are not known.
    """

    temporary_bytes: int
    resident_bytes: int
    limit_bytes: int | None

    @classmethod
    def of(cls, cost: Cost, limit_bytes: int | None) -> Estimate:
        """The estimate of a compiled program.

        Args:
            cost: the cost of the program.
            limit_bytes: the bytes available on one device; None where they are not known.

        Returns:
            The estimate.
        """
        return cls(cost.working_bytes, cost.resident_bytes, limit_bytes)

    @property
    def needed_bytes(self) -> int:
        """The bytes needed in all, temporary and resident."""
        return self.temporary_bytes + self.resident_bytes

    @property
    def fits(self) -> bool:
        """Whether the bytes needed are available; true where the limit is not known."""
        return self.limit_bytes is None or self.needed_bytes <= self.limit_bytes

"""Measurements that are repeated over seeds, each kept in the work directory as soon as it is known."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ddjax.launch.directory import Kept

FILE = "seeds.json"
"""The name of the file in the work directory."""


def each_seed(
    workdir: Path, seeds: Iterable[int], one: Callable[[int], dict[str, Any]]
) -> list[dict[str, Any]]:
    """The measurements of several seeds; those that an earlier start wrote are read.

    Args:
        workdir: an existing directory.
        seeds: the seeds.
        one: `seed -> measurement`, a dictionary that JSON can hold.

    Returns:
        The measurements, in the order of the seeds, as JSON holds them.

    Raises:
        ValueError: the file that an earlier start wrote is damaged.
    """
    kept = Kept(workdir / FILE)
    for seed in seeds:
        if str(seed) not in kept.known:
            kept.add(str(seed), one(seed))
    # As read back, so that a run in one go and one in two have the same numbers.
    known = Kept(workdir / FILE).known
    return [known[str(seed)] for seed in seeds]

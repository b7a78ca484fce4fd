"""Measurements that are repeated over seeds, each kept in the work directory as soon as it is known."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ddjax import report
from ddjax.launch.directory import read_object

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
    path = workdir / FILE
    remedy = "Remove it, and the same command measures again."
    known = read_object(path, remedy=remedy) if path.exists() else {}
    for seed in seeds:
        if str(seed) not in known:
            known[str(seed)] = one(seed)
            report.write_json(path, known)
    # As read back, so that a run in one go and one in two have the same numbers.
    known = read_object(path, remedy=remedy)
    return [known[str(seed)] for seed in seeds]

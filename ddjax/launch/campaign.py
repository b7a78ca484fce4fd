"""Campaigns: commands that start many runs say which, and what they cost, before the first one starts."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Planned(NamedTuple):
    """A run that a campaign will start.

    Attributes:
        name: the run, as a person would tell it from the others.
        workdir: the directory of the run.
    """

    name: str
    workdir: Path

    @property
    def is_finished(self) -> bool:
        """Whether the run has a result, so that the campaign only reads it."""
        return (self.workdir / "result.json").exists()


def cost_in(docstring: str) -> str:
    """The sentence about the cost in the docstring of a launcher.

    Args:
        docstring: the docstring, with a paragraph that begins with `Cost:`.

    Returns:
        The sentence on one line; empty where there is none.
    """
    found = re.search(r"^Cost: (.*?)(?=\n\w+: |\n\n|\Z)", docstring, re.MULTILINE | re.DOTALL)
    return " ".join(found.group(1).split()) if found else ""


def confirm(config: Any, runs: Sequence[Planned], *, cost: str) -> None:
    """Print the runs of a campaign and ask whether to start, where more than one is left to do.

    Args:
        config: the settings, with `yes` and `dry_run`; with either nothing is asked.
        runs: the runs.
        cost: what such a campaign took when it was recorded; empty where nothing is known.

    Raises:
        ValueError: the answer is no, or nobody can be asked.
    """
    left = [run for run in runs if not run.is_finished]
    if config.yes or config.dry_run or len(left) < 2:
        return
    done = len(runs) - len(left)
    lines = [f"{len(left)} runs to do{f', {done} finished' if done else ''}:"]
    lines += [f"  {run.name}  ({run.workdir})" for run in left]
    lines += [f"recorded cost: {cost}"] if cost else []
    print("\n".join(lines), flush=True)
    remedy = f"Add --yes to start the {len(left)} runs, or --dry_run to see their flags."
    if sys.stdin is None or not sys.stdin.isatty():
        raise ValueError(f"yes: expected --yes where nobody can be asked; got none. {remedy}")
    if input("start? [y/N] ").strip().lower() not in ("y", "yes"):
        raise ValueError(f"not started. {remedy}")

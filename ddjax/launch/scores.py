"""Scores of a launcher that measures many: kept as soon as they are known, and found by the next start."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ddjax import report
from ddjax.launch import results
from ddjax.launch import run as launch


class Scores:
    """Scores by name, written to the work directory as soon as each is known.

    Args:
        workdir: an existing directory.

    Raises:
        ValueError: what an earlier start wrote there is damaged.
    """

    def __init__(self, workdir: Path):
        self._path = workdir / "scores.json"
        remedy = "Remove it, and the same command measures again."
        self.known = launch.read_object(self._path, remedy=remedy) if self._path.exists() else {}

    def add(self, name: str, score: Mapping[str, Any]) -> None:
        """Keep a score and tell it."""
        self.known[name] = dict(score)
        report.write_json(self._path, self.known)
        chosen = results.tuned(score)
        accuracy = report.format_mean_std(score["values"])
        print(f"{name}: {accuracy} %{chosen and f' ({chosen})'}", flush=True)

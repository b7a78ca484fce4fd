"""Measurements by name, each kept in the work directory as soon as it is known; the records made of them."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ddjax import report
from ddjax.data import Dataset
from ddjax.launch import results
from ddjax.launch.directory import inputs_of, once, read_object

SEEDS = "seeds.json"
"""The name of the file of measurements that are repeated over seeds."""


class Kept:
    """Measurements by name, written to a file as soon as each of them is known.

    Args:
        path: the file, in an existing directory. Measurements that an earlier start wrote there are read.

    Attributes:
        workdir: the directory of the file.
        known: the measurements that are known already, by name.

    Raises:
        ValueError: the file that an earlier start wrote is damaged.
    """

    def __init__(self, path: Path):
        self._path, self.workdir = path, path.parent
        remedy = "Remove it, and the same command measures again."
        self.known = read_object(path, remedy=remedy) if path.exists() else {}

    def add(self, name: str, measured: Mapping[str, Any]) -> None:
        """Keep a measurement and write the file.

        Args:
            name: the name of the measurement.
            measured: the measurement, which JSON can hold.
        """
        self.known[name] = dict(measured)
        report.write_json(self._path, self.known)

    def each(self, wanted: Mapping[str, Callable[[], Mapping[str, Any]]]) -> dict[str, Any]:
        """Measure what is not known yet, one after the other.

        Args:
            wanted: the function that makes each measurement, by the name of the measurement.

        Returns:
            The measurements in the order of their functions.
        """
        for name, measure in wanted.items():
            if name not in self.known:
                self.add(name, measure())
        return {name: self.known[name] for name in wanted}


class Scores(Kept):
    """Scores by name, written to `scores.json` in the work directory as soon as each of them is known.

    Args:
        workdir: an existing directory. Scores that an earlier start wrote there are read.

    Raises:
        ValueError: the file that an earlier start wrote is damaged.
    """

    def __init__(self, workdir: Path):
        super().__init__(workdir / "scores.json")

    def add(self, name: str, measured: Mapping[str, Any]) -> None:
        """Keep a score, write the file and print the score.

        Args:
            name: the name of the score.
            measured: the accuracies, with the facts that are recorded with them.
        """
        super().add(name, measured)
        chosen = results.tuned(measured)
        accuracy = report.format_score(measured)
        print(f"{name}: {accuracy} %{chosen and f' ({chosen})'}", flush=True)


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
    wanted = {str(seed): functools.partial(one, seed) for seed in seeds}
    Kept(workdir / SEEDS).each(wanted)
    # As read back, so that a run in one go and one in two have the same numbers.
    return list(Kept(workdir / SEEDS).each(wanted).values())


def recorded_once(
    experiment: str,
    config: Any,
    data: Dataset,
    measure: Callable[[Scores], dict[str, Any]],
    *,
    what: str,
    workdir: Path | None = None,
    inputs: Mapping[str, Any] | None = None,
    written: str = "scores.json, result.json",
    **shown: Any,
) -> dict[str, Any]:
    """Measure, record and keep the result in a work directory, or find the result of an earlier start there.

    Args:
        experiment: the launcher's name.
        config: the settings.
        data: the real data.
        measure: the function of the scores that are known already, which adds the others to them and returns
            the findings; `seconds` among the findings stand beside the `total` in the record.
        what: a line that says what is measured.
        workdir: the directory of the result; by default that of the settings.
        inputs: the identity of what the launcher reads; by default that of the data and of the flags' files.
        written: the names of the files, printed after the measurement.
        **shown: the `table` and the `pictures`, see `ddjax.launch.once`.

    Returns:
        The content of `result.json`.

    Raises:
        ValueError: the directory belongs to something else, or a file in it is damaged.
    """
    directory = config.directory(experiment) if workdir is None else workdir

    def recorded() -> dict[str, Any]:
        began = time.monotonic()
        found = measure(Scores(directory))
        own = found.pop("seconds", {})
        seconds = {"total": time.monotonic() - began, **own}
        return results.record(experiment, data.name, found, seconds=seconds, seed=config.seed)

    return once(
        directory,
        config,
        recorded,
        experiment=experiment,
        what=what,
        written=written,
        inputs=inputs_of(config, data) if inputs is None else inputs,
        **shown,
    )

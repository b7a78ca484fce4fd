"""The work directory of a launcher: which run it belongs to, what is in it, and the scores kept there."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ddjax import files, report
from ddjax.launch import results
from ddjax.launch.flags import in_older, recorded
from ddjax.launch.process import tell
from ddjax.workdir import LOCK, locked


def describe_settings(config: Any, *, experiment: str) -> dict[str, Any]:
    """The content of `config.json`.

    Args:
        config: the settings.
        experiment: the launcher's name.

    Returns:
        The name and the recorded settings.
    """
    return {"experiment": experiment, **recorded(config)}


def check_workdir(workdir: Path, config: Any, *, experiment: str) -> bool:
    """Whether the work directory already belongs to this run. Nothing is written.

    Args:
        workdir: the directory to check; it need not exist.
        config: the settings of this run.
        experiment: the launcher's name.

    Returns:
        True where the directory was started with these settings; False where it is missing or empty.

    Raises:
        ValueError: the directory holds other files, another experiment, or this experiment with other
            settings. The settings that differ are listed.
    """
    path = workdir / "config.json"
    if workdir.exists() and not workdir.is_dir():
        raise ValueError(f"workdir: expected a directory; {workdir} is a file. Choose another place.")
    if not path.exists():
        # A start that was killed may have left a lock and a config.json under a temporary name.
        if any(p.name != LOCK and not files.is_temporary(p) for p in _inside(workdir)):
            raise ValueError(
                f"workdir: expected an empty directory or one of this experiment; {workdir} holds other "
                "files. Give --workdir another directory."
            )
        return False
    wanted = describe_settings(config, experiment=experiment)
    written = read_object(path, remedy="Put it back, or give --workdir another directory.")
    found = {**{name: in_older(config, name) for name in recorded(config)}, **written}
    differing = sorted(k for k in wanted.keys() | found.keys() if wanted.get(k) != found.get(k))
    if differing:
        lines = "; ".join(f"{k} was {found.get(k)!r}, is {wanted.get(k)!r}" for k in differing)
        raise ValueError(
            f"workdir: expected this experiment's own directory; {workdir} was started with other settings: "
            f"{lines}. Give --workdir another directory, or the settings it was started with."
        )
    return True


def _inside(workdir: Path) -> list[Path]:
    return list(workdir.iterdir()) if workdir.is_dir() else []


def read_object(path: Path, *, remedy: str) -> dict[str, Any]:
    """The JSON object in a file that an earlier start wrote.

    Args:
        path: the file to read.
        remedy: the sentence that tells the user what to do where the file is damaged.

    Returns:
        The object.

    Raises:
        ValueError: the file holds no JSON object.
    """
    try:
        found = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected JSON that a run wrote; got {error}. {remedy}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: expected a JSON object; got {type(found).__name__}. {remedy}")
    return found


def open_workdir(workdir: Path, config: Any, *, experiment: str) -> None:
    """Make the work directory and its `config.json`, or check that it already belongs to this run.

    Args:
        workdir: the directory of the run.
        config: the settings of this run.
        experiment: the launcher's name.

    Raises:
        ValueError: the directory belongs to something else; see `check_workdir`.
    """
    if check_workdir(workdir, config, experiment=experiment):
        return
    files.make_directory(workdir)
    report.write_json(workdir / "config.json", describe_settings(config, experiment=experiment))


def finished(
    workdir: Path, config: Any, *, experiment: str, table: Callable[[dict[str, Any]], str] = results.table
) -> dict[str, Any] | None:
    """The result in the work directory of a finished run. Nothing is written.

    Args:
        workdir: the directory to look in.
        config: the settings that the directory must have been started with.
        experiment: the name of the launcher that the directory must belong to.
        table: the function that shows a result as text. A result that it cannot show counts as damaged.

    Returns:
        The content of `result.json`; None where the run is not finished.

    Raises:
        ValueError: the directory belongs to something else (see `check_workdir`), or the result is damaged.
    """
    check_workdir(workdir, config, experiment=experiment)
    path = workdir / "result.json"
    if not path.exists():
        return None
    remedy = "Remove it, and the same command measures again."
    result = read_object(path, remedy=remedy)
    try:
        table(result)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: expected the result of a run; got {error!r}. {remedy}") from error
    return result


def once(
    workdir: Path,
    config: Any,
    measure: Callable[[], dict[str, Any]],
    *,
    experiment: str,
    what: str,
    written: str,
    table: Callable[[dict[str, Any]], str] = results.table,
) -> dict[str, Any]:
    """Measure and keep the result in a work directory, or find the result of an earlier start there.

    This is for launchers of a single process. The directory is locked while the measurement runs.

    Args:
        workdir: the directory of the result.
        config: the settings.
        measure: the function that returns the content of `result.json`. It may write other files to the
            directory too.
        experiment: the launcher's name.
        what: a line that says what is measured, printed before the measurement.
        written: the names of the files, printed after the measurement.
        table: the function that shows a result as text.

    Returns:
        The content of `result.json`.

    Raises:
        ValueError: see `open_workdir` and `finished`.
    """
    result = finished(workdir, config, experiment=experiment, table=table)
    if result is not None:
        tell(f"{workdir} is finished.\n\n{table(result)}")
        return result
    tell(f"{what}\nwork directory: {workdir}")
    with locked(workdir):
        open_workdir(workdir, config, experiment=experiment)
        result = measure()
        report.write_json(workdir / "result.json", result)
    tell(f"\n{table(result)}\n\nwritten to {workdir}: {written}")
    return result


class Scores:
    """Scores by name, written to the work directory as soon as each of them is known.

    Args:
        workdir: an existing directory. Scores that an earlier start wrote there are read.

    Attributes:
        known: the scores that are known already, by name.

    Raises:
        ValueError: the file that an earlier start wrote is damaged.
    """

    def __init__(self, workdir: Path):
        self._path = workdir / "scores.json"
        remedy = "Remove it, and the same command measures again."
        self.known = read_object(self._path, remedy=remedy) if self._path.exists() else {}

    def add(self, name: str, score: Mapping[str, Any]) -> None:
        """Keep a score, write the file and print the score.

        Args:
            name: the name of the score.
            score: the accuracies, with the facts that are recorded with them.
        """
        self.known[name] = dict(score)
        report.write_json(self._path, self.known)
        chosen = results.tuned(score)
        accuracy = report.format_score(score)
        print(f"{name}: {accuracy} %{chosen and f' ({chosen})'}", flush=True)

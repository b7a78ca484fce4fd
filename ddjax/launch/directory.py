"""The work directory of a launcher: which run it belongs to, and what is in it."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ddjax import experts, facts, files, report
from ddjax.data import Dataset, digests
from ddjax.launch import page, results
from ddjax.launch.flags import DATASET, EXTENDS, FILE, JUDGES, MAKES, in_older, of_role, recorded
from ddjax.launch.process import introduce, tell
from ddjax.workdir import LOCK, locked

JUDGED_BY = "judged_by"
"""The key of `result.json` with the settings that the result was measured under."""


def inputs_of(config: Any, data: Dataset) -> dict[str, Any]:
    """The identity of what a launcher reads: the data, and the files that its flags name.

    Args:
        config: the settings.
        data: the real data, in the form that they are used in.

    Returns:
        The name of the data, the names of the classes and the digest of each split as `data`; the SHA-256 of
        each file, by the name of its flag, as `files`; of a directory of experts, that of `experts.json`,
        which has the SHA-256 of each expert.
    """
    named = of_role(config, FILE)
    hashes = {
        name: hashlib.sha256(_content_of(Path(path)).read_bytes()).hexdigest()
        for name, path in named.items()
        if path and _content_of(Path(path)).is_file()
    }
    own = {"name": data.name, "classes": list(data.class_names), **digests(data)}
    return facts.Facts({"data": facts.Facts(own), "files": hashes})


def _content_of(path: Path) -> Path:
    """The file that says what is at a path: of a directory of experts the one with all their digests."""
    return path / experts.FILE if path.is_dir() else path


def describe_settings(
    config: Any, *, experiment: str, inputs: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The content of `config.json`.

    Args:
        config: the settings.
        experiment: the launcher's name.
        inputs: the identity of what the launcher reads (`inputs_of`); None where nothing is known.

    Returns:
        The name, the recorded settings and, where they are known, the `inputs`.
    """
    known = {} if inputs is None else {"inputs": dict(inputs)}
    return {"experiment": experiment, **recorded(config), **known}


def check_workdir(
    workdir: Path, config: Any, *, experiment: str, inputs: Mapping[str, Any] | None = None
) -> bool:
    """Whether the work directory already belongs to this run. Nothing is written.

    A run is what makes its result: the settings with that role (`ddjax.launch.flags.flag`) and the inputs.

    *   A setting that the `config.json` of an older version does not have takes the value that the code of
        that time had (`flag(before=...)`, else the default).
    *   A setting of a newer version, which this one does not know, counts where it is given: neither null nor
        false.
    *   Data and files are known by their digests. Where an older version noted none, their names count.

    Args:
        workdir: the directory to check; it need not exist.
        config: the settings of this run.
        experiment: the launcher's name.
        inputs: the identity of what the launcher reads (`inputs_of`); None compares names alone.

    Returns:
        True where the directory was started by this run; False where it is missing or empty.

    Raises:
        ValueError: the directory holds other files, another experiment, or this experiment with other
            settings or inputs. What differs is listed.
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
    lines = _differences(_config_in(workdir), config, experiment=experiment, inputs=inputs)
    if lines:
        raise ValueError(
            f"workdir: expected this experiment's own directory; {workdir} was started with other settings: "
            f"{'; '.join(lines)}. Give --workdir another directory, or the settings it was started with."
        )
    return True


def _config_in(workdir: Path) -> dict[str, Any]:
    return read_object(workdir / "config.json", remedy="Put it back, or give --workdir another directory.")


def _differences(
    found: Mapping[str, Any], config: Any, *, experiment: str, inputs: Mapping[str, Any] | None
) -> list[str]:
    """What differs between a `config.json` and a run."""
    known = None if inputs is None else found.get("inputs")
    roles = (MAKES,) if known is not None else (MAKES, DATASET, FILE)
    wanted = of_role(config, *roles)
    ours = {"experiment", "inputs", *(field.name for field in dataclasses.fields(config))}
    before = {name: value for name, value in found.items() if name in wanted or name not in ours}
    defaults = {name: in_older(config, name) for name in wanted}
    pair = (found.get("experiment"), experiment)
    lines = [] if pair[0] == pair[1] else [f"experiment was {pair[0]!r}, is {pair[1]!r}"]
    lines += facts.differences(before, facts.Facts(wanted, defaults=defaults))
    return lines if known is None else lines + facts.differences(known, inputs, "inputs")


def judging(config: Any) -> dict[str, Any]:
    """The settings that a result depends on and φ does not, with those that say how far φ is moved.

    Args:
        config: the settings.

    Returns:
        The values of these settings, by name.
    """
    return of_role(config, JUDGES, EXTENDS)


def _is_judged_anew(workdir: Path, result: Mapping[str, Any], config: Any) -> bool:
    """Whether a result was measured under other settings; an older one under those of `config.json`."""
    wanted = judging(config)
    found = result.get(JUDGED_BY) or _config_in(workdir)
    return any(found.get(name, in_older(config, name)) != value for name, value in wanted.items())


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


def open_workdir(
    workdir: Path, config: Any, *, experiment: str, inputs: Mapping[str, Any] | None = None
) -> None:
    """Make the work directory and its `config.json`, or check that it already belongs to this run.

    Where an older version noted no inputs, they are noted now.

    Args:
        workdir: the directory of the run.
        config: the settings of this run.
        experiment: the launcher's name.
        inputs: the identity of what the launcher reads (`inputs_of`); None where nothing is known.

    Raises:
        ValueError: the directory belongs to something else; see `check_workdir`.
    """
    path = workdir / "config.json"
    if not check_workdir(workdir, config, experiment=experiment, inputs=inputs):
        files.make_directory(workdir)
        report.write_json(path, describe_settings(config, experiment=experiment, inputs=inputs))
    elif inputs is not None and "inputs" not in (found := _config_in(workdir)):
        report.write_json(path, {**found, "inputs": inputs})


def write_result(
    workdir: Path,
    config: Any,
    result: Mapping[str, Any],
    *,
    experiment: str,
    inputs: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write `result.json` with the settings that judged, then `config.json` as it is now.

    Args:
        workdir: the directory of the run.
        config: the settings.
        result: the content of `result.json`.
        experiment: the launcher's name.
        inputs: the identity of what the launcher reads.

    Returns:
        The content of `result.json` as it was written.
    """
    judged = judging(config)
    whole = {**result, **({JUDGED_BY: judged} if judged else {})}
    # In this order: the settings of an older result are those of config.json.
    report.write_json(workdir / "result.json", whole)
    now = describe_settings(config, experiment=experiment, inputs=inputs)
    if _config_in(workdir) != now:
        report.write_json(workdir / "config.json", now)
    return whole


def finished(
    workdir: Path,
    config: Any,
    *,
    experiment: str,
    inputs: Mapping[str, Any] | None = None,
    table: Callable[[dict[str, Any]], str] = results.table,
) -> dict[str, Any] | None:
    """The result in the work directory of a finished run. Nothing is written.

    Args:
        workdir: the directory to look in.
        config: the settings that the directory must have been started with.
        experiment: the name of the launcher that the directory must belong to.
        inputs: the identity of what the launcher reads (`inputs_of`).
        table: the function that shows a result as text. A result that it cannot show counts as damaged.

    Returns:
        The content of `result.json`; None where the run is not finished, or its result was measured under
        other settings that judge, or for another number of outer steps.

    Raises:
        ValueError: the directory belongs to something else (see `check_workdir`), or the result is damaged.
    """
    started = check_workdir(workdir, config, experiment=experiment, inputs=inputs)
    path = workdir / "result.json"
    if not started or not path.exists():
        return None
    remedy = "Remove it, and the same command measures again."
    result = read_object(path, remedy=remedy)
    try:
        table(result)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: expected the result of a run; got {error!r}. {remedy}") from error
    return None if _is_judged_anew(workdir, result, config) else result


def once(
    workdir: Path,
    config: Any,
    measure: Callable[[], dict[str, Any]],
    *,
    experiment: str,
    what: str,
    written: str,
    inputs: Mapping[str, Any] | None = None,
    table: Callable[[dict[str, Any]], str] = results.table,
    pictures: Mapping[str, Callable[[Path, dict[str, Any]], None]] | None = None,
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
        inputs: the identity of what the launcher reads (`inputs_of`).
        table: the function that shows a result as text.
        pictures: the function that draws each picture of the result to a path, by the name of the file. They
            are drawn once `result.json` is written; one that fails is named in a warning.

    Returns:
        The content of `result.json`.

    Raises:
        ValueError: see `open_workdir` and `finished`.
    """
    result = finished(workdir, config, experiment=experiment, inputs=inputs, table=table)
    if result is not None:
        tell(f"{workdir} is finished.\n\n{table(result)}")
        return result
    introduce(f"{what}\nwork directory: {workdir}")
    with locked(workdir):
        open_workdir(workdir, config, experiment=experiment, inputs=inputs)
        result = write_result(workdir, config, measure(), experiment=experiment, inputs=inputs)
        draws = {name: functools.partial(_draw_of, draw, result) for name, draw in (pictures or {}).items()}
        drawn = results.drawn(workdir, draws)
        drawn += results.drawn(workdir, {page.NAME: lambda _: page.write(workdir, table=table(result))})
    tell(f"\n{table(result)}\n\nwritten to {workdir}: {', '.join((written, *drawn))}")
    return result


def _draw_of(draw: Callable[[Path, dict[str, Any]], None], result: dict[str, Any], path: Path) -> None:
    """Draw a picture of a result; the path comes last, so that the others can be given before."""
    draw(path, result)

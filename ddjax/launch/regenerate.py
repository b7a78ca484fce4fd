"""Regenerate a published table: carry out its runs, write our numbers next to the published ones."""

from __future__ import annotations

import abc
import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ddjax import files, launchers, report
from ddjax.launch import results
from ddjax.launch.campaign import Planned
from ddjax.launch.flags import command_line, flag, flag_like
from ddjax.launch.launcher import find
from ddjax.launch.settings import Where
from ddjax.launch.tables import Cell, Run, Table, only, rows_and_columns

BUDGETS = ("small", "full")
"""`small` is what two cores can do; `full` has the published numbers of outer steps and initial weights."""


@dataclasses.dataclass(frozen=True)
class Settings(abc.ABC):
    """The settings that every table has."""

    dataset: str = flag("mnist", "digits, a TFDS name such as mnist, or the path of an .npz", path=True)
    budget: str = flag("small", "what two cores can do, or the published one", choices=BUDGETS)
    data_dir: str | None = flag_like(Where, "data_dir")
    workdir: str | None = flag(None, "directory of the runs; runs/TITLE by default", path=True)
    output: str = flag("experiments/results", "directory of the table", path=True)
    rows: str | None = flag(None, "only these rows, with semicolons between them; by default all")
    dry_run: bool = flag(False, "print the runs and their flags; run nothing")
    yes: bool = flag(False, "start all runs without asking")

    @property
    @abc.abstractmethod
    def title(self) -> str:
        """The title of the table's files."""

    @property
    def root(self) -> Path:
        """The directory that contains the directories of the runs."""
        return Path(self.workdir or f"runs/{self.title}")


def command(run: Run, workdir: Path) -> list[str]:
    """The flags of a run as they are written on a command line.

    Args:
        run: the launcher and its flags.
        workdir: the directory of the run.

    Returns:
        The arguments.
    """
    return command_line({**run.flags, "workdir": workdir})


def carry_out(run: Run, workdir: Path, *, data_dir: str | None) -> dict[str, Any]:
    """The result of one run, as the run's own command would make it; found where it has been made already.

    Args:
        run: the launcher and its flags.
        workdir: the directory of the run.
        data_dir: the directory of TFDS data; None for the directory that the environment names.

    Returns:
        The content of `result.json`.

    Raises:
        ValueError: the launcher refuses its settings, the data or the directory.
        FileNotFoundError: the data are missing.
        DivergedError: see `ddjax.distill`.
        PreemptedError: the process was asked to stop; the same command continues.
    """
    return find(run.launcher).carry_out(run.flags, workdir, data_dir=data_dir)


def found(cell: Cell, records: Mapping[str, Any]) -> dict[str, Any] | None:
    """Our number for a cell: mean, standard deviation and n over the pooled values of the cell's runs.

    Networks that diverged score 0 and are counted.

    Args:
        cell: the cell.
        records: the results of the runs, by name.

    Returns:
        `{"mean": ..., "std": ..., "n": ...}`, and `diverged` where networks did; None where a result has no
        such number.
    """
    values: list[float] = []
    diverged = 0
    for name in cell.runs:
        at: Any = records[name]
        for key in cell.place:
            at = None if at is None else at.get(key)
        if at is None:
            return None
        values += at["values"] if isinstance(at, Mapping) else [at]
        diverged += at.get("diverged", 0) if isinstance(at, Mapping) else 0
    array = np.asarray(values, np.float64)
    lost = {"diverged": diverged} if diverged else {}
    return {"mean": float(array.mean()), "std": float(array.std()), "n": len(array), **lost}


def text_of(number: Mapping[str, Any] | None, digits: int) -> str:
    """A number as text, such as `"79.5 ± 8.1"`.

    Args:
        number: the number, with `mean`, `std` and, where known, `n` and `diverged`; None for no number.
        digits: the number of digits after the point.

    Returns:
        The text; the mean alone where there is no deviation, a dash where there is no number, and the number
        of networks that diverged.
    """
    if number is None:
        return "–"
    mean = f"{number['mean']:.{digits}f}"
    is_alone = number["std"] is None or number.get("n") == 1
    text = mean if is_alone else f"{mean} ± {number['std']:.{digits}f}"
    return f"{text}, {number['diverged']} of {number['n']} diverged" if number.get("diverged") else text


def filled(cells: Sequence[Cell], records: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every cell with our number, the published number and the names of the runs, for the JSON.

    Args:
        cells: the cells.
        records: the results of the runs, by name.

    Returns:
        One object for each cell.
    """
    return [
        {
            "row": cell.row,
            "column": cell.column,
            "ours": found(cell, records),
            "published": None if cell.published is None else cell.published._asdict(),
            "runs": list(cell.runs),
        }
        for cell in cells
    ]


def table_text(table: Table, cells: Sequence[Mapping[str, Any]]) -> str:
    """The table as text, our numbers next to the published ones.

    A column of the table becomes two where any of its cells has a published number.

    Args:
        table: the table.
        cells: the cells with their numbers, as `filled` returns them.

    Returns:
        The text.
    """
    rows, columns = rows_and_columns(table.cells)
    at = {(cell["row"], cell["column"]): cell for cell in cells}
    headers, wanted = [table.unit], []
    for column in columns:
        wanted.append((column, "ours"))
        headers.append(column)
        if any(at[row, column]["published"] for row in rows if (row, column) in at):
            wanted.append((column, "published"))
            headers.append(table.source)
    lines = [
        (row, *(text_of(at.get((row, column), {}).get(whose), table.digits) for column, whose in wanted))
        for row in rows
    ]
    return report.table(lines, headers)


def write(experiment: str, config: Settings, table: Table, records: Mapping[str, Any]) -> str:
    """Write the files of a table: JSON, text and pictures.

    Args:
        experiment: the launcher's name.
        config: the settings.
        table: the table.
        records: the results of the runs, by name.

    Returns:
        The table as text.
    """
    output, title, root = Path(config.output), config.title, config.root
    files.make_directory(output)
    cells = filled(table.cells, records)
    text = table_text(table, cells)
    record = {
        "experiment": experiment,
        **{name: value for name, value in dataclasses.asdict(config).items() if name != "yes"},
        "unit": table.unit,
        "cells": cells,
        "runs": {
            run.name: {"run_with": shlex.join(_line(run, root)), "result": records[run.name]}
            for run in table.runs
        },
        **results.made_on(),
    }
    report.write_json(output / f"{title}.json", record)
    files.write_atomic(output / f"{title}.txt", (text + "\n").encode())
    for run in table.runs:
        for picture in sorted((root / run.name).glob("*.png")) if run.is_pictured else ():
            if picture.name != "curves.png":
                files.write_atomic(output / f"{title}-{run.name}.png", picture.read_bytes())
    return text


def _line(run: Run, root: Path) -> list[str]:
    return ["python", "-m", f"{launchers.package()}.{run.launcher}", *command(run, root / run.name)]


def planned(config: Settings, table: Table) -> list[Planned]:
    """The runs that a table needs, for `campaign.confirm`.

    Args:
        config: the settings.
        table: the table.

    Returns:
        The runs.

    Raises:
        ValueError: there is no such row.
    """
    return [Planned(run.name, config.root / run.name) for run in only(table, config.rows).runs]


def regenerate(experiment: str, config: Settings, table: Table) -> dict[str, Any]:
    """Carry out all runs of a table, one after the other, then write the table.

    Args:
        experiment: the launcher's name.
        config: the settings of the launcher.
        table: the runs, and the cells that their results go to.

    Returns:
        The results of the runs by name; empty after `--dry_run`.

    Raises:
        ValueError: the settings do not fit each other, the data or the directories; or there is no such row.
        OSError: the directory of the table cannot be written; nothing has run.
        FileNotFoundError: the data are missing.
        DivergedError: see `ddjax.distill`.
        PreemptedError: the process was asked to stop; the same command continues.
    """
    table, root, records = only(table, config.rows), config.root, {}
    for one in table.runs:  # a flag that the last run refuses would be seen after hours
        find(one.launcher).settings(one.flags, root / one.name, data_dir=config.data_dir)
    if not config.dry_run:
        files.make_directory(config.output)
        files.check_room(config.output, 2**20)
    for index, one in enumerate(table.runs, start=1):
        print(f"\n[{index} of {len(table.runs)}] {shlex.join(_line(one, root))}", flush=True)
        if not config.dry_run:
            records[one.name] = carry_out(one, root / one.name, data_dir=config.data_dir)
    if config.dry_run:
        return {}
    text = write(experiment, config, table, records)
    print(f"\n{text}\n\nwritten to {config.output}: {config.title}.json, .txt and pictures")
    return records

"""Regenerate a published table: carry out the runs of its cells, write our numbers beside the published."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ddjax import files, report
from ddjax.launch import results
from ddjax.launch.flags import command_line, flag, flag_like
from ddjax.launch.launcher import find
from ddjax.launch.settings import Where
from ddjax.launch.tables import Cell, Run, Table, only, rows_and_columns

BUDGETS = ("small", "full")
"""What two cores can do, and the published numbers of outer steps and initial weights."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings that every table has."""

    dataset: str = flag("mnist", "digits, a TFDS name such as mnist, or the path of an .npz")
    budget: str = flag("small", "what two cores can do, or the published one", choices=BUDGETS)
    data_dir: str | None = flag_like(Where, "data_dir")
    workdir: str | None = flag(None, "directory of the runs; runs/TITLE by default")
    output: str = flag("experiments/results", "directory of the table")
    rows: str | None = flag(None, "only these rows, with semicolons between them; by default all")
    dry_run: bool = flag(False, "print the runs and their flags; run nothing")


def command(run: Run, workdir: Path) -> list[str]:
    """The flags of a run as they stand on a command line."""
    return command_line({**run.flags, "workdir": workdir})


def carry_out(run: Run, workdir: Path, *, data_dir: str | None) -> dict[str, Any]:
    """The result of one run: as its own command would make it, or find it made.

    Args:
        run: the launcher and its flags.
        workdir: directory of the run.
        data_dir: directory of TFDS data; None for that of the environment.

    Raises:
        ValueError: the launcher refuses its settings, the data or the directory.
        FileNotFoundError: the data are missing.
        DivergedError: see `ddjax.distill`.
        PreemptedError: the process was asked to stop; the same command continues.
    """
    return find(run.launcher).carry_out(run.flags, workdir, data_dir=data_dir)


def found(cell: Cell, records: Mapping[str, Any]) -> dict[str, Any] | None:
    """Our number of a cell: mean, std and n over the values of its runs; None where they have none."""
    values: list[float] = []
    for name in cell.runs:
        at: Any = records[name]
        for key in cell.place:
            at = None if at is None else at.get(key)
        if at is None:
            return None
        values += at["values"] if isinstance(at, Mapping) else [at]
    array = np.asarray(values, np.float64)
    return {"mean": float(array.mean()), "std": float(array.std()), "n": len(array)}


def text_of(number: Mapping[str, Any] | None, digits: int) -> str:
    """`"79.5 ± 8.1"`; without a deviation where there is none."""
    if number is None:
        return "–"
    mean = f"{number['mean']:.{digits}f}"
    is_alone = number["std"] is None or number.get("n") == 1
    return mean if is_alone else f"{mean} ± {number['std']:.{digits}f}"


def filled(cells: Sequence[Cell], records: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every cell with ours, the published one and what it comes from, for the JSON."""
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
    """Ours beside the published, two columns for each of the table's where there is any published number."""
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


def write(
    experiment: str, config: Settings, table: Table, records: Mapping[str, Any], *, title: str, root: Path
) -> str:
    """The table's files: JSON, text, pictures; the text."""
    output = Path(config.output)
    files.make_directory(output)
    cells = filled(table.cells, records)
    text = table_text(table, cells)
    record = {
        "experiment": experiment,
        **dataclasses.asdict(config),
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
    return ["python", "-m", f"experiments.{run.launcher}", *command(run, root / run.name)]


def regenerate(experiment: str, config: Settings, table: Table, *, title: str, root: Path) -> dict[str, Any]:
    """All runs of a table, one after the other, then the table.

    Args:
        experiment: the launcher's name.
        config: its settings.
        table: what to run and what to put where.
        title: of the table's files.
        root: of the runs' directories.

    Returns:
        The records of the runs by name; nothing after `--dry_run`.

    Raises:
        ValueError: settings that do not fit each other, the data or the directories; or no such row.
        FileNotFoundError: the data are missing.
        DivergedError: see `ddjax.distill`.
        PreemptedError: the process was asked to stop; the same command continues.
    """
    table, records = only(table, config.rows), {}
    for index, one in enumerate(table.runs, start=1):
        print(f"\n[{index} of {len(table.runs)}] {shlex.join(_line(one, root))}", flush=True)
        if not config.dry_run:
            records[one.name] = carry_out(one, root / one.name, data_dir=config.data_dir)
    if config.dry_run:
        return {}
    text = write(experiment, config, table, records, title=title, root=root)
    print(f"\n{text}\n\nwritten to {config.output}: {title}.json, .txt and pictures")
    return records

"""Regenerate a published table: carry out the runs that its cells come from, write ours beside the published.

A run is a launcher with flags; a cell is a place in the results of one run or, where each knows one θ0 or one
seed only, of several. Published numbers are percent, mean and standard deviation over initial weights.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ddjax import checks, files, launch, report
from ddjax.launch import Where, flag, flag_like, results
from ddjax.launch.flags import command_line

BUDGETS = ("small", "full")
"""What two cores can do, and the published numbers of outer steps and initial weights."""

Flags = dict[str, str | int | float | bool]


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


class Published(NamedTuple):
    """A number of a paper.

    Attributes:
        mean: percent, or a count.
        std: percent; None where the paper gives none.
    """

    mean: float
    std: float | None = None


class Run(NamedTuple):
    """A launcher with its flags, in a directory of its own.

    Attributes:
        name: of the directory; later runs may name files in it.
        launcher: the module in `experiments`.
        flags: by name; `--workdir` is added.
        is_pictured: whether its pictures belong to the table.
    """

    name: str
    launcher: str
    flags: Mapping[str, str | int | float | bool]
    is_pictured: bool = False


class Cell(NamedTuple):
    """A number of ours beside the published one.

    Attributes:
        row: of the table.
        column: of the table.
        runs: names; the values of several are pooled.
        place: keys into `result.json`, to a score (`mean`, `std`, `values`) or a number.
        published: None where there is none.
    """

    row: str
    column: str
    runs: tuple[str, ...]
    place: tuple[str | int, ...]
    published: Published | None = None


class Table(NamedTuple):
    """A table.

    Attributes:
        runs: in the order in which they need each other.
        cells: row by row.
        unit: of all numbers.
        digits: after the point.
        source: title of the published numbers.
    """

    runs: Sequence[Run]
    cells: Sequence[Cell]
    unit: str = "%"
    digits: int = 1
    source: str = "the paper's"


def rows_and_columns(cells: Sequence[Cell]) -> tuple[list[str], list[str]]:
    """The titles, in their order, each once."""
    rows, columns = dict.fromkeys(c.row for c in cells), dict.fromkeys(c.column for c in cells)
    return list(rows), list(columns)


def names_of(runs: Sequence[Run]) -> tuple[str, ...]:
    """What cells call them."""
    return tuple(run.name for run in runs)


def command(run: Run, workdir: Path) -> list[str]:
    """The flags of a run as they stand on a command line."""
    return command_line({**run.flags, "workdir": workdir})


def carry_out(run: Run, workdir: Path, *, data_dir: str | None) -> dict[str, Any]:
    """The result of one run: as its own command would make it, or find it made.

    Raises:
        ValueError: as the launcher.
        FileNotFoundError: likewise.
        DivergedError: likewise.
        PreemptedError: likewise.
    """
    return launch.find(run.launcher).carry_out(run.flags, workdir, data_dir=data_dir)


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


def only(table: Table, rows: str | None) -> Table:
    """Some rows of a table, and the runs that they need.

    Args:
        table: all of it.
        rows: titles, with semicolons between them; None for all.

    Returns:
        The same without the cells of other rows, and without the runs that only those have.

    Raises:
        ValueError: there is no such row, or none is named.
    """
    if rows is None:
        return table
    there, _ = rows_and_columns(table.cells)
    wanted = {title.strip() for title in rows.split(";") if title.strip()}
    for title in wanted or {""}:
        checks.choice("rows", title, there, remedy="Separate them by semicolons.")
    cells = [cell for cell in table.cells if cell.row in wanted]
    left_out = {name for cell in table.cells for name in cell.runs}
    left_out -= {name for cell in cells for name in cell.runs}
    return table._replace(cells=cells, runs=[run for run in table.runs if run.name not in left_out])


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
        PreemptedError: likewise; the same command continues.
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

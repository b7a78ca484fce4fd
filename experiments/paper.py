"""Regenerate a table of Wang et al. 2018: run what its cells come from, print ours beside the paper's.

Each run has a directory of its own inside --workdir: one that is finished is found finished, one that was
stopped continues. The table, with the whole record of every run, goes to --output as JSON and as text, the
pictures beside it. `--budget=small` is what two CPU cores do in about an hour, `full` the paper's numbers of
outer steps and of held-out initial weights.

    python -m experiments.paper --table=basic --dataset=mnist
    python -m experiments.paper --table=adaptation --dataset=mnist --usps=path/to/usps.npz
    python -m experiments.paper --table=attack --dataset=mnist
    python -m experiments.paper --table=linear --dataset=mnist
"""

from __future__ import annotations

import dataclasses
import importlib
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from ddjax import files, report
from experiments import config as settings
from experiments import launch, results
from experiments.config import flag
from experiments.tables import BUDGETS, TABLES, Cell, Request, Run, Table, command, rows_and_columns


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of a table."""

    table: str = flag("basic", "which one", choices=tuple(TABLES))
    dataset: str = flag("mnist", "digits, a TFDS name such as mnist, or the path of an .npz")
    budget: str = flag("small", "an hour of two cores, or the paper's own", choices=BUDGETS)
    data_dir: str | None = flag(None, "where TFDS data lie; $TFDS_DATA_DIR by default")
    usps: str | None = flag(None, "an .npz of USPS, for --table=adaptation")
    svhn: str | None = flag(None, "SVHN by name or path, for --table=adaptation")
    workdir: str | None = flag(None, "directory of the runs; runs/paper-TABLE-DATASET-BUDGET by default")
    output: str = flag("experiments/results", "directory of the table")
    dry_run: bool = flag(False, "print the runs and their flags; run nothing")


def title_of(config: Config) -> str:
    """Of the table's files."""
    return f"paper-{config.table}-{Path(config.dataset).stem}-{config.budget}"


def carry_out(run: Run, workdir: Path, *, data_dir: str | None) -> dict[str, Any]:
    """The result of one run: as its own command would make it, or find it made.

    Raises:
        ValueError: as the launcher.
        FileNotFoundError: likewise.
        DivergedError: likewise.
        PreemptedError: likewise.
    """
    module: Any = importlib.import_module(f"experiments.{run.launcher}")
    arguments = command(run, workdir) + ([] if data_dir is None else [f"--data_dir={data_dir}"])
    config = settings.parse(module.Config, [run.launcher, *arguments], flags.FlagValues())
    if hasattr(module, "build"):
        return launch.run(run.launcher, config, module.build)
    return module.run(config)


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
    """Every cell with ours, the paper's and what it comes from, for the JSON."""
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
    """Ours beside the paper's, two columns for each of the table's where the paper has any number."""
    rows, columns = rows_and_columns(table.cells)
    at = {(cell["row"], cell["column"]): cell for cell in cells}
    headers, wanted = [table.unit], []
    for column in columns:
        wanted.append((column, "ours"))
        headers.append(column)
        if any(at[row, column]["published"] for row in rows if (row, column) in at):
            wanted.append((column, "published"))
            headers.append("the paper's")
    lines = [
        (row, *(text_of(at.get((row, column), {}).get(whose), table.digits) for column, whose in wanted))
        for row in rows
    ]
    return report.table(lines, headers)


def write(config: Config, table: Table, records: Mapping[str, Any], root: Path) -> str:
    """The table's files: JSON, text, pictures; the text."""
    output, title = Path(config.output), title_of(config)
    files.make_directory(output)
    cells = filled(table.cells, records)
    text = table_text(table, cells)
    record = {
        "experiment": "paper",
        **dataclasses.asdict(config),
        "unit": table.unit,
        "cells": cells,
        "runs": {
            run.name: {
                "run_with": shlex.join(
                    ["python", "-m", f"experiments.{run.launcher}", *command(run, root / run.name)]
                ),
                "result": records[run.name],
            }
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


def run(config: Config) -> dict[str, Any]:
    """All runs of a table, one after the other, then the table.

    Returns:
        The records of the runs by name; nothing after `--dry_run`.

    Raises:
        ValueError: settings that do not fit each other, the data or the directories.
        FileNotFoundError: the data are missing.
        DivergedError: see `ddjax.distill`.
        PreemptedError: likewise; the same command continues.
    """
    root = Path(config.workdir or f"runs/{title_of(config)}")
    table = TABLES[config.table](Request(config.dataset, config.budget, root, config.usps, config.svhn))
    records: dict[str, Any] = {}
    for index, one in enumerate(table.runs, start=1):
        arguments = shlex.join(command(one, root / one.name))
        print(
            f"\n[{index} of {len(table.runs)}] python -m experiments.{one.launcher} {arguments}", flush=True
        )
        if not config.dry_run:
            records[one.name] = carry_out(one, root / one.name, data_dir=config.data_dir)
    if config.dry_run:
        return {}
    text = write(config, table, records, root)
    print(f"\n{text}\n\nwritten to {config.output}: {title_of(config)}.json, .txt and pictures")
    return records


if __name__ == "__main__":
    launch.main("paper", __doc__, Config, run)

"""Sweeps: runs of a distillation that differ in one setting and the seed, gathered in one record and plot."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ddjax import checks, figures, report
from ddjax.judge import Evaluation
from ddjax.launch import results
from ddjax.launch.campaign import Planned
from ddjax.launch.flags import numbers
from ddjax.launch.launcher import find
from ddjax.launch.process import tell
from ddjax.launch.settings import Unrolled


class Axis(NamedTuple):
    """What a sweep varies.

    Attributes:
        setting: the name of the setting.
        label: the title of the plot's axis.
        words: whether the values are names rather than numbers.
    """

    setting: str
    label: str
    words: bool = False


AXES: Mapping[str, Axis] = {
    "steps": Axis("inner_steps", "S, gradient steps with images of their own"),
    "epochs": Axis("inner_epochs", "E, passes over the steps"),
    "images": Axis("images_per_class_per_step", "distilled images"),
    "images_per_step": Axis("images_per_step", "distilled images in a step"),
    "labels": Axis("label_form", "form of the labels", words=True),
    "init": Axis("init", "distribution of the initial weights", words=True),
}
"""The axes by the choices of `--axis`."""

COMPARED = ("random real", "k-means", "class mean")
"""The baselines that are drawn where the runs measured them."""


class Cell(NamedTuple):
    """One run of a sweep.

    Attributes:
        name: the run, as a person would tell it from the others.
        value: the value on the axis.
        seed: the seed of the run.
        config: all settings of the run.
    """

    name: str
    value: int | str
    seed: int
    config: Unrolled


def folder_of(config: Any) -> Path:
    """The directory of a sweep.

    Args:
        config: the settings of `experiments.sweep`.

    Returns:
        The path.
    """
    return Path(config.workdir or f"runs/sweep-{config.of}-{config.axis}-{Path(config.dataset).stem}")


def cells(config: Any) -> list[Cell]:
    """The runs, by value and seed.

    Args:
        config: the settings of `experiments.sweep`.

    Returns:
        The runs.

    Raises:
        ValueError: no value or no seed is given, one is given twice or is no such number, or there are
            several processes.
    """
    if config.distributed:
        raise ValueError("distributed: expected one process; got several. Start the sweep's runs one by one.")
    axis = AXES[config.axis]
    given = tuple(part.strip() for part in config.values.split(",") if part.strip())
    values = given if axis.words else numbers("values", config.values, int)
    seeds = numbers("seeds", config.seeds, int)
    for name, found in (("values", values), ("seeds", seeds)):
        if not found or len(set(found)) < len(found):
            raise ValueError(f"{name}: expected one or more, each once; got {getattr(config, name)!r}.")
    for value in () if axis.words else values:
        checks.at_least("values", value, 1)
    shared = {field.name: getattr(config, field.name) for field in dataclasses.fields(Unrolled)}
    folder = folder_of(config)

    def cell(value: int | str, seed: int) -> Cell:
        own = {axis.setting: value, "seed": seed, "workdir": str(folder / f"{value}-seed{seed}")}
        return Cell(f"{config.axis} {value}, seed {seed}", value, seed, Unrolled(**(shared | own)))

    return [cell(value, seed) for value in values for seed in seeds]


def planned(config: Any) -> list[Planned]:
    """The runs of a sweep, for `campaign.confirm`.

    Args:
        config: the settings of `experiments.sweep`.

    Returns:
        The runs.
    """
    return [Planned(cell.name, Path(str(cell.config.workdir))) for cell in cells(config)]


def swept(config: Any, published: Mapping[tuple[str, str, str], float]) -> dict[str, Any]:
    """Carry out all runs of a sweep, one after the other, then draw the plot.

    Args:
        config: the settings of `experiments.sweep`.
        published: the accuracies that the plot has a line for, by launcher, data and network.

    Returns:
        The content of `result.json`; empty after `--dry_run`.

    Raises:
        ValueError: the settings do not fit each other, the data or the directories.
        FileNotFoundError: the data are missing.
        DivergedError: see `ddjax.distill`.
        PreemptedError: see `ddjax.distill`; the same command continues.
    """
    folder, wanted, records = folder_of(config), cells(config), []
    for index, cell in enumerate(wanted, start=1):
        tell(f"\n{cell.name} ({index} of {len(wanted)})")
        record = find(config.of).run(cell.config)
        if record:
            records.append((cell, record))
    if config.dry_run:
        return {}
    result = gathered(config, records)
    report.write_json(folder / "result.json", result)
    pictures = results.drawn(folder, {"sweep.png": lambda path: draw(path, result, published)})
    tell(f"\n{table(result)}\n\nwritten to {folder}: {', '.join(('result.json', *pictures))}")
    return result


def gathered(config: Any, records: Sequence[tuple[Cell, Mapping[str, Any]]]) -> dict[str, Any]:
    """The content of `result.json`: for each value the accuracies of all runs.

    Args:
        config: the settings of `experiments.sweep`.
        records: the runs, each with the content of its `result.json`.

    Returns:
        The record.
    """
    points = []
    for value in dict.fromkeys(cell.value for cell, _ in records):
        found = [record for cell, record in records if cell.value == value]
        points.append(
            {
                "value": value,
                "images": found[0]["layout"]["images"],
                "test_accuracy": Evaluation.pooled([record["test_accuracy"] for record in found]).as_dict(),
                "baselines": {
                    name: Evaluation.pooled([record["baselines"][name] for record in found]).as_dict()
                    for name in COMPARED
                    if all(name in (record["baselines"] or {}) for record in found)
                },
                "num_outer_steps": found[0]["num_outer_steps"],
                "seconds": sum(record["seconds"]["total"] for record in found),
            }
        )
    first = records[0][1]
    return {
        "experiment": "sweep",
        "of": config.of,
        "axis": config.axis,
        "points": points,
        "dataset": first["dataset"],
        "network": first["network"],
        "seeds": sorted({cell.seed for cell, _ in records}),
        **results.made_on(),
    }


def draw(path: Path, record: Mapping[str, Any], published: Mapping[tuple[str, str, str], float]) -> None:
    """Draw the plot of a sweep.

    Args:
        path: the file of the plot.
        record: the content of `result.json`.
        published: see `swept`.
    """
    points, axis = record["points"], record["axis"]
    x = [point["images" if axis == "images" else "value"] for point in points]
    if AXES[axis].words:
        x = [name.replace("_", "\n") for name in x]
    level = published.get((record["of"], record["dataset"], record["network"]))

    def line(name: str, scores: Sequence[Mapping[str, Any]]) -> figures.Line:
        means, stds = ([score[field] for score in scores] for field in ("mean", "std"))
        return figures.Line(name, x, means, stds, drawn=not AXES[axis].words)

    compared = [name for name in COMPARED if all(name in point["baselines"] for point in points)]
    figures.lines(
        path,
        [
            line("distilled images", [point["test_accuracy"] for point in points]),
            *(line(name, [point["baselines"][name] for point in points]) for name in compared),
        ],
        x_label=AXES[axis].label,
        y_label="test accuracy, % (mean ± std)",
        title=f"{record['dataset']}, {record['network']}, {record['of']}",
        levels=None if level is None else {f"published, 100 images: {level}": level},
    )


def table(record: Mapping[str, Any]) -> str:
    """The record as text, one row for each value.

    Args:
        record: the content of `result.json`.

    Returns:
        The text.
    """
    scores = [(point, point["test_accuracy"]) for point in record["points"]]
    rows = [
        (point["value"], point["images"], report.format_score(score), score["n"]) for point, score in scores
    ]
    return report.table(rows, (record["axis"], "images", "test accuracy, %", "n"))

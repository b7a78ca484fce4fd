"""Accuracy against the number of steps, epochs or images, or against the init scheme: the 2018 paper's plots.

Each value of the axis, and each seed, is a run of `experiments.random_init` or `experiments.fixed_init` in a
directory of its own inside --workdir; a finished run is found finished, a stopped one continues. `sweep.png`
is drawn from their records, which `result.json` gathers. All other flags are those of the runs.

Claim: MNIST, LeNet, from noise with class labels, 300 outer steps, 20 unseen initial weights: from 25.2 ± 5.1
with one inner step an epoch (E 3) to 82.2 ± 1.8 with 20.
Cost: two CPU cores beside other runs: 278 s, 259 s, 273 s, 177 s and 479 s of the five points.
Records: results/mnist-sweep-steps.json

    python -m experiments.sweep --axis=epochs --values=1,2,3,5,10 --dataset=mnist --num_outer_steps=300
    python -m experiments.sweep --axis=steps --values=1,2,5,10,20 --of=fixed_init --seeds=0,1,2
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ddjax import checks, figures, report
from ddjax.judge import Evaluation
from ddjax.launch import Launcher, Unrolled, flag, flag_like, numbers, results, tell
from ddjax.launch.campaign import Planned

from . import fixed_init, random_init

AXES = {
    "steps": "inner_steps",
    "epochs": "inner_epochs",
    "images": "images_per_class_per_step",
    "init": "init",
}
"""The setting that each axis varies."""

LABELS = {
    "steps": "S, gradient steps with images of their own",
    "epochs": "E, passes over the steps",
    "images": "distilled images",
    "init": "distribution of the initial weights",
}

LAUNCHERS = {one.name: one for one in (random_init.LAUNCHER, fixed_init.LAUNCHER)}

PUBLISHED: Mapping[tuple[str, str, str], float] = {
    ("random_init", "mnist", "lenet"): 79.5,
    ("random_init", "cifar10", "alexcifarnet"): 36.8,
    ("fixed_init", "mnist", "lenet"): 96.6,
    ("fixed_init", "cifar10", "alexcifarnet"): 54.0,
}
"""The accuracy of 100 images in Wang et al. 2018 (10 steps, 3 epochs), by launcher, data and network."""

COMPARED = ("random real", "k-means", "class mean")
"""The baselines that are drawn where the runs measured them."""


@dataclasses.dataclass(frozen=True)
class Config(Unrolled):
    """The settings of a sweep: the axis, and all settings that the runs share."""

    axis: str = flag("epochs", "what is varied", choices=tuple(AXES))
    values: str = flag("1,2,3,5", "of the axis; for --axis=init schemes, e.g. xavier_normal,kaiming_normal")
    of: str = flag("random_init", "the launcher of the runs", choices=tuple(LAUNCHERS))
    seeds: str = flag("0", "a run for each; with --of=fixed_init each has a θ0 of its own")
    yes: bool = flag(False, "start all runs without asking")
    baselines: bool = flag_like(
        Unrolled, "baselines", default=False, help="measure the baselines of each run too"
    )


class Cell(NamedTuple):
    """One run of a sweep.

    Attributes:
        value: the value on the axis.
        seed: the seed of the run.
        config: all settings of the run.
    """

    value: int | str
    seed: int
    config: Unrolled


def cells(config: Config) -> list[Cell]:
    """The runs, by value and seed.

    Args:
        config: the settings.

    Returns:
        The runs.

    Raises:
        ValueError: no value or no seed is given, one is given twice or is no such number, or there are
            several processes.
    """
    if config.distributed:
        raise ValueError("distributed: expected one process; got several. Start the sweep's runs one by one.")
    given = tuple(part.strip() for part in config.values.split(",") if part.strip())
    values = given if config.axis == "init" else numbers("values", config.values, int)
    seeds = numbers("seeds", config.seeds, int)
    for name, found in (("values", values), ("seeds", seeds)):
        if not found or len(set(found)) < len(found):
            raise ValueError(f"{name}: expected one or more, each once; got {getattr(config, name)!r}.")
    for value in values if config.axis != "init" else ():
        checks.at_least("values", value, 1)
    shared = {field.name: getattr(config, field.name) for field in dataclasses.fields(Unrolled)}
    folder = workdir_of(config)

    def cell(value: int | str, seed: int) -> Cell:
        own = {AXES[config.axis]: value, "seed": seed, "workdir": str(folder / f"{value}-seed{seed}")}
        return Cell(value, seed, Unrolled(**(shared | own)))

    return [cell(value, seed) for value in values for seed in seeds]


def workdir_of(config: Config) -> Path:
    """The directory of the sweep.

    Args:
        config: the settings.

    Returns:
        The path.
    """
    return Path(config.workdir or f"runs/sweep-{config.of}-{config.axis}-{Path(config.dataset).stem}")


def gathered(config: Config, records: Sequence[tuple[Cell, Mapping[str, Any]]]) -> dict[str, Any]:
    """The content of `result.json`: for each value the accuracies of all runs.

    Args:
        config: the settings.
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


def draw(path: Path, record: Mapping[str, Any]) -> None:
    """Draw the plot of a sweep.

    Args:
        path: the file of the plot.
        record: the content of `result.json`.
    """
    points, axis = record["points"], record["axis"]
    x = [point["images" if axis == "images" else "value"] for point in points]
    if axis == "init":
        x = [name.replace("_", "\n") for name in x]
    published = PUBLISHED.get((record["of"], record["dataset"], record["network"]))

    def line(name: str, scores: Sequence[Mapping[str, Any]]) -> figures.Line:
        means, stds = ([score[field] for score in scores] for field in ("mean", "std"))
        return figures.Line(name, x, means, stds, drawn=axis != "init")

    compared = [name for name in COMPARED if all(name in point["baselines"] for point in points)]
    figures.lines(
        path,
        [
            line("distilled images", [point["test_accuracy"] for point in points]),
            *(line(name, [point["baselines"][name] for point in points]) for name in compared),
        ],
        x_label=LABELS[axis],
        y_label="test accuracy, % (mean ± std)",
        title=f"{record['dataset']}, {record['network']}, {record['of']}",
        levels=None if published is None else {f"published, 100 images: {published}": published},
    )


def table(record: Mapping[str, Any]) -> str:
    """The record as text, one row for each value.

    Args:
        record: the content of `result.json`.

    Returns:
        The text.
    """
    rows = [
        (
            point["value"],
            point["images"],
            report.format_score(point["test_accuracy"]),
            point["test_accuracy"]["n"],
        )
        for point in record["points"]
    ]
    return report.table(rows, (record["axis"], "images", "test accuracy, %", "n"))


def run(config: Config) -> dict[str, Any]:
    """Carry out all runs of the sweep, one after the other, then draw the plot.

    Args:
        config: the settings.

    Returns:
        The content of `result.json`; empty after `--dry_run`.

    Raises:
        ValueError: the settings do not fit each other, the data or the directories.
        FileNotFoundError: the data are missing.
        DivergedError: see `ddjax.distill`.
        PreemptedError: see `ddjax.distill`; the same command continues.
    """
    launcher, workdir, records = LAUNCHERS[config.of], workdir_of(config), []
    wanted = cells(config)
    for index, cell in enumerate(wanted, start=1):
        tell(f"\n{config.axis} {cell.value}, seed {cell.seed} ({index} of {len(wanted)})")
        record = launcher.run(cell.config)
        if record:
            records.append((cell, record))
    if config.dry_run:
        return {}
    result = gathered(config, records)
    report.write_json(workdir / "result.json", result)
    pictures = results.drawn(workdir, {"sweep.png": lambda path: draw(path, result)})
    tell(f"\n{table(result)}\n\nwritten to {workdir}: {', '.join(('result.json', *pictures))}")
    return result


def runs_of(config: Config) -> list[Planned]:
    """The runs of the sweep.

    Args:
        config: the settings.

    Returns:
        The runs.
    """
    return [
        Planned(f"{config.axis} {cell.value}, seed {cell.seed}", Path(str(cell.config.workdir)))
        for cell in cells(config)
    ]


LAUNCHER = Launcher("sweep", __doc__, Config, run=run, runs=runs_of)

if __name__ == "__main__":
    LAUNCHER.main()

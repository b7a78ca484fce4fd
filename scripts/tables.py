"""Write the tables of the README files from the records, and the list of launchers from their docstrings.

    python scripts/tables.py            # writes everything between the marks anew
    python scripts/tables.py --check    # writes nothing; exit code 1 where a file would change

A table stands between `<!-- NAME: begin -->` and `<!-- NAME: end -->` in `README.md`, `experiments/README.md`
or `experiments/results/README.md`. `TABLES` has the rows of each table: text, and places in the JSON records
of `experiments/results`. To add a table, add an entry to `TABLES` and marks to a file.
"""

from __future__ import annotations

import argparse
import ast
import functools
import itertools
import json
import re
import statistics
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "experiments" / "results"
FILES = (ROOT / "README.md", ROOT / "experiments" / "README.md", RESULTS / "README.md")

Record = Mapping[str, Any]


class Number(NamedTuple):
    """One number of a table.

    Attributes:
        record: the name of the record's file in `experiments/results`, without `.json`; or "published".
        place: the keys that lead to the number inside the record.
        style: the style in which the number is written, one of `STYLES`.
        is_compared: whether the number stands beside a published one, and is marked where it was not
            measured by the published protocol.
    """

    record: str
    place: tuple[str, ...]
    style: str = "score"
    is_compared: bool = False


MARK = "†"
"""The mark of a number that stands beside a published one and was not measured by the published protocol."""

NOTE = (
    f"{MARK} Networks were trained by the plain protocol of earlier versions of ddjax (bilinear "
    "augmentation, momentum kept, one epoch less), which is not the published one and scored higher where "
    "both were measured: the published number beside it is no comparison."
)
"""The line below a table with such a number."""

CONDENSING = frozenset({"coreset", "distribution_matching", "gradient_matching"})
"""The launchers that train networks on few images in epochs."""

PROTOCOLS: Mapping[str, str] = {"label_distillation": "constant", "idc": "idc"}
"""The published protocol of that training, where it is not that of DC, DSA and DM."""

Cell = str | Number
Row = tuple[Cell, ...]


class Table(NamedTuple):
    """A table of a README file.

    Attributes:
        header: the titles of the columns.
        rows: the cells, row by row.
    """

    header: tuple[str, ...]
    rows: tuple[Row, ...]


# Published numbers for records that are no tables and therefore hold no published numbers.


def _score(mean: float, std: float | None = None) -> Record:
    return {"mean": mean, "std": std}


PUBLISHED: Mapping[str, Record] = {
    # Percent; DC, DSA, DM and their selections: arXiv 2006.05929, 2102.08259 and 2110.04181.
    "mnist, 10 images per class": {
        "random": _score(95.1, 0.9),
        "herding": _score(93.7, 0.3),
        "k_center": _score(84.4, 1.7),
        "forgetting": _score(68.1, 3.3),
        "DM": _score(97.5),
    },
    # Labels of real images, as the table of arXiv 2006.05929 quotes arXiv 2006.08572.
    "mnist, LeNet, labels": {"10": _score(60.9, 3.2), "100": _score(87.3, 0.7), "500": _score(93.3, 0.3)},
    # The same paper's second method, from memory.
    "mnist, LeNet, labels by ridge": {"10": _score(64.6, 2.7), "100": _score(87.9, 0.4)},
    "fashion_mnist, 1 image per class": {"DC": _score(70.5, 0.6)},
    "mnist, LeNet, 10 images per class": {"DC": _score(93.9, 0.6)},
    # IDC at the storage of one image per class: arXiv 2205.14959, README of the authors' repository.
    "IDC, 1 image per class": {
        "mnist": _score(94.2),
        "fashion_mnist": _score(81.0),
        "cifar10": _score(50.6),
    },
    # Trajectory matching of ConvNet-3: MTT by arXiv 2203.11932, the others by the table of 2408.03360.
    "cifar10, 1 image per class, trajectories": {
        "MTT": _score(46.3, 0.8),
        "TESLA": _score(48.5, 0.8),
        "DATM": _score(46.9, 0.5),
    },
    # Kernel regression as arXiv 2107.13034 has it, FRePo 2206.00719, RCIG 2302.06755.
    "mnist, fully connected kernel": {"1": _score(85.5), "10": _score(97.2)},
    "FRePo, 1 image per class": {
        "mnist": _score(93.0),
        "fashion_mnist": _score(75.6),
        "cifar10": _score(46.8),
    },
    "FRePo, 10 images per class": {"mnist": _score(98.6), "cifar10": _score(65.5)},
    "RCIG, 1 image per class": {"mnist": _score(94.7)},
    # An outer step of the papers' PyTorch code on two such cores: milliseconds and peak MiB above start.
    "W1": {"ms": 233, "mib": 105},
    "W2": {"ms": 1070, "mib": 141},
    "W3": {"ms": 143, "mib": 142},
    "W4": {"ms": 5630, "mib": 2632},
    "W5": {"ms": 9950, "mib": 682},
    "W6": {"ms": 3680, "mib": 297},
}


# Records, and how the numbers in them are written.


@functools.cache
def record(name: str) -> Record:
    """A record, with its cells by row and column and its points by value, so that keys lead everywhere.

    Args:
        name: the name of the record's file without `.json`; or `"published"` for `PUBLISHED`.

    Returns:
        The record.
    """
    if name == "published":
        return PUBLISHED
    found = json.loads((RESULTS / f"{name}.json").read_text())
    cells: dict[str, dict[str, Any]] = {}
    for cell in found.get("cells", ()):
        cells.setdefault(cell["row"], {})[cell["column"]] = cell
    points = {str(point["value"]): point for point in found.get("points", ())}
    widths = {
        name: {str(one): width for one, width in enumerate(given)} if isinstance(given, list) else given
        for name, given in found.get("widths", {}).items()
    }
    return {**found, "cells": cells, "points": points, "widths": widths}


def look_up(number: Number) -> Any:
    """The value at a place of a record.

    Args:
        number: the record and the place.

    Returns:
        The value.

    Raises:
        KeyError: the record has no such place.
    """
    at: Any = record(number.record)
    for key in number.place:
        if key not in at:
            raise KeyError(f"{number.record}.json: expected {' > '.join(number.place)}; found no {key!r}.")
        at = at[key]
    return at


def mean_and_std(score: Record | None, digits: int = 1) -> str:
    """A score as text, such as `"79.5 ± 8.1"`.

    Args:
        score: the score, with `mean`, `std` and, where known, `n` and `diverged`; None for no score.
        digits: the number of digits after the point.

    Returns:
        The text: the mean alone where the score has no deviation, empty where there is no score, and the
        number of networks that diverged.
    """
    if score is None:
        return ""
    mean = f"{score['mean']:.{digits}f}"
    is_alone = score["std"] is None or score.get("n") == 1
    text = mean if is_alone else f"{mean} ± {score['std']:.{digits}f}"
    return f"{text} ({score['diverged']} of {score['n']} diverged)" if score.get("diverged") else text


def three_digits(value: float) -> str:
    """A whole number of at most three significant digits, such as `"2,180"`.

    Args:
        value: the number.

    Returns:
        The text.
    """
    return f"{float(f'{value:.3g}'):,.0f}"


def executed_share(item: Record) -> str:
    """The speed of the operations that the compiled program executes, as a share of the machine's peak.

    Args:
        item: the measurements of an item of the benchmark.

    Returns:
        The text, in percent.
    """
    per_second = item["flops"] / item["ms_per_step"]["median"] * 1000
    return f"{100 * per_second / item['peak_flops_per_second']:.0f} %"


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Mean and standard deviation of plain values, as those of scores.

    Args:
        values: the values.
        digits: the number of digits after the point.

    Returns:
        The text.
    """
    return mean_and_std({"mean": statistics.fmean(values), "std": statistics.pstdev(values)}, digits)


def call_share(item: Record) -> str:
    """The memory that a call was seen to take, as a share of what was predicted.

    Args:
        item: the measurements of an item of the benchmark.

    Returns:
        The text, in percent.
    """
    predicted = item["temporary_bytes"] + item.get("packed_bytes", 0)
    return f"{100 * item['call_bytes'] / predicted:.1f} %"


def to_work_in(problem: Record) -> str:
    """The memory that the compiled outer steps of a problem work in, besides what they are given.

    Args:
        problem: a problem of the record of `scripts/scale.py`.

    Returns:
        MiB as text; or the compiler's refusal, data that exceed the device, a problem that was not tried.
    """
    if "temporary_bytes" in problem:
        return f"{problem['temporary_bytes'] / 2**20:,.0f}"
    return "refused" if "refused" in problem else "not tried" if problem["fits"] else "held by none"


STYLES: Mapping[str, Callable[[Any], str]] = {
    "score": mean_and_std,
    "bold": lambda score: f"**{mean_and_std(score)}**",
    "score, hundredths": lambda score: f"{score['mean']:.2f} ± {score['std']:.2f}",
    "n": lambda score: str(score["n"]),
    "spread": spread,
    "spread, hundredths": functools.partial(spread, digits=2),
    "round 10": lambda runs: spread([run[10] for run in runs]),
    "tenths": lambda value: f"{value:.1f}",
    "hundredths": lambda value: f"{value:.2f}",
    "whole": lambda value: f"{value:,.0f}",
    "three digits": three_digits,
    "share": lambda value: f"{100 * value:.0f} %",
    "executed share": executed_share,
    "call share": call_share,
    "to work in": to_work_in,
    "mib": lambda value: f"{value / 2**20:,.0f}",
    "mib, tenths": lambda value: f"{value / 2**20:,.1f}",
    "yes": lambda value: "yes" if value else "**no**",
}


def text_of(cell: Cell) -> str:
    """A cell as text.

    Args:
        cell: the cell.

    Returns:
        The text.
    """
    if isinstance(cell, str):
        return cell
    text = STYLES[cell.style](look_up(cell))
    return text if not cell.is_compared or is_as_published(cell) else f"{text} {MARK}"


def is_as_published(number: Number) -> bool:
    """Whether the networks behind a number were trained on the few images as was published.

    Args:
        number: a number of a record, or of a cell in a record that is a table.

    Returns:
        False where an earlier protocol of ddjax was followed; True too where no such training is meant, as
        for results whose gradient steps are replayed.
    """
    found = record(number.record)
    results: list[Record] = [found]
    if number.place[0] == "cells":
        runs = look_up(number._replace(place=number.place[:3]))["runs"]
        results = [found["runs"][name]["result"] for name in runs]
    for result in results:
        recipe = result.get("recipe")
        if recipe is None and result["experiment"] in CONDENSING:
            return False  # of a version that knew the plain protocol alone and recorded no recipe
        protocol = PROTOCOLS.get(result["experiment"], "condensation")
        if recipe and recipe["kind"] == "train" and recipe.get("protocol") != protocol:
            return False
    return True


def markdown(table: Table) -> str:
    """A table in Markdown.

    Args:
        table: the table.

    Returns:
        The text.
    """
    lines = [table.header, ("---",) * len(table.header), *(map(text_of, row) for row in table.rows)]
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return f"{text}\n{NOTE}\n" if MARK in text else text


# Rows of one shape.


def of_cells(name: str, title: str, row: str, *columns: str, style: str = "score") -> Row:
    """A row that a record's own table has: ours and the published number for each of the columns.

    Args:
        name: the name of the record.
        title: the title that the row gets here.
        row: the title of the row in the record.
        columns: the titles of the columns in the record.
        style: the style of our numbers, one of `STYLES`.

    Returns:
        The row.
    """
    places = (("cells", row, column) for column in columns)
    pairs = ((Number(name, (*p, "ours"), style), Number(name, (*p, "published"))) for p in places)
    return (title, *itertools.chain.from_iterable(pairs))


def headline(family: str, what: str, name: str, row: str, column: str) -> Row:
    """A row of the README's first table: ours, the number of networks, and the published number.

    Args:
        family: the family of the method.
        what: the data set, the network and the number of images.
        name: the name of the record.
        row: the title of the row in the record.
        column: the title of the column in the record.

    Returns:
        The row.
    """
    ours = ("cells", row, column, "ours")
    published = Number(name, ("cells", row, column, "published"))
    return (family, what, Number(name, ours, "bold", is_compared=True), Number(name, ours, "n"), published)


def alone(family: str, what: str, name: str, published: tuple[str, ...] | None = None) -> Row:
    """A row of the README's first table whose record is that of one run.

    Args:
        family: the family of the method.
        what: the data set, the network and the number of examples.
        name: the name of the record.
        published: the keys of the published number in `PUBLISHED`; None for none.

    Returns:
        The row.
    """
    ours, beside_it = ("test_accuracy",), "" if published is None else Number("published", published)
    return (family, what, Number(name, ours, "bold"), Number(name, ours, "n"), beside_it)


def single(title: str, name: str, *place: str, style: str = "score") -> Row:
    """A row with a score and the number of networks behind it.

    Args:
        title: the title of the row.
        name: the name of the record.
        place: the keys that lead to the score inside the record.
        style: the style of the score, one of `STYLES`.

    Returns:
        The row.
    """
    return (title, Number(name, place, style), Number(name, place, "n"))


class Labelled(NamedTuple):
    """A run of label distillation.

    Attributes:
        title: the base images.
        published: the place of the published number; None for none.
        given: the record that has the scores of labels that were not learned, for the same images; empty for
            the run's own.
    """

    title: str
    published: tuple[str, str] | None = None
    given: str = ""


def _labelled_row(name: str, run: Labelled) -> Row:
    """A row of learned labels, beside labels that were not learned and a published number."""
    elsewhere = record(name)["base"] != record(name)["dataset"]
    known = "labels of the nearest images" if elsewhere else "true labels"
    given = run.given or name
    return (
        run.title,
        Number(name, ("test_accuracy",), "bold", is_compared=run.published is not None),
        Number(given, ("baselines", f"{known}, smoothed")),
        Number(given, ("baselines", known)),
        Number(name, ("test_accuracy",), "n"),
        Number(name, ("recipe", "steps"), "whole"),
        "" if run.published is None else Number("published", run.published),
    )


def _labels_across_row(title: str, artifact: str) -> Row:
    """A row of the scores of networks that train on the same images with the labels of an artifact."""
    places = [("matrix", artifact, network) for network in ("lenet", "mlp", "convnet")]
    name = "cross-architecture-labels-mnist-10"
    return (title, *(Number(name, place) for place in places), Number(name, places[0], "n"))


def _labels_speed_row(item: str, title: str) -> Row:
    """A row of one outer step of label distillation, beside the same step in PyTorch."""
    ours = Number("bench-cpu-labels", ("items", item, "ms_per_step", "median"), "tenths")
    return (title, ours, Number("torch-labels", ("items", item, "cpu_ms_per_step", "median"), "tenths"))


def _inner_steps_row(count: int) -> Row:
    """A row of five images with soft labels, learned through that many inner steps."""
    name = f"{SOFT}-5-e{count}"
    return (
        str(count),
        Number(name, ("num_outer_steps",), "whole"),
        Number(name, ("val_accuracy",), "tenths"),
        Number(name, ("test_accuracy", "mean"), "tenths"),
    )


def _point(title: str, name: str, value: str) -> Row:
    """A row of a sweep: the accuracy at one of its values, and the number of networks behind it."""
    return single(title, name, "points", value, "test_accuracy")


def beside(title: str, name: str, place: tuple[str, ...], published: tuple[str, ...] | None) -> Row:
    """A row with a score, the number of networks behind it, and a published number.

    Args:
        title: the title of the row.
        name: the name of the record.
        place: the keys that lead to the score inside the record.
        published: the keys that lead to the published number in `PUBLISHED`; None for no such number.

    Returns:
        The row.
    """
    there = "" if published is None else Number("published", published)
    ours = Number(name, place, is_compared=published is not None)
    return (title, ours, Number(name, place, "n"), there)


BASIC, CIFAR = "paper-basic-mnist-small", "paper-basic-cifar10-small"
ADAPTATION, ATTACK = "paper-adaptation-mnist-small", "paper-attack-mnist-small"
CONDENSED = "condense-mnist-1-small"
HUNDRED, TEN, ONE = "mnist, 100 images", "mnist, 10 images", "mnist, 1 image per class"
TO_USPS, TO_MNIST = "mnist to usps", "usps to mnist"

BASES, PIXELS = "mnist-bases-lenet", "mnist-pixels-lenet"
"""Real images in the storage of ten a class: 32 bases and the coefficients of many, and ten as they are."""

BASES_LONG = f"{BASES}-250-epochs"
"""The same bases, on whose images networks are trained for longer."""

SOFT = "soft-labels-mnist"
"""Images and labels for known θ0, learned through twenty steps."""

_HEADLINE = (
    headline("DD, fixed init", "MNIST, LeNet, 100 images, one known θ0", BASIC, "fixed init", HUNDRED),
    headline("DD, random init", "MNIST, LeNet, 100 images", BASIC, "random init", HUNDRED),
    headline(
        "DD, random init", "CIFAR-10, AlexCifarNet, 100 images", CIFAR, "random init", "cifar10, 100 images"
    ),
    alone("bases", "MNIST, LeNet, 1,660 images in the numbers of 100, not distilled", BASES_LONG),
    alone(
        "labels alone", "MNIST, LeNet, 10 real images", "labels-mnist-10-anew", ("mnist, LeNet, labels", "10")
    ),
    (
        "soft labels",
        "MNIST, LeNet, 5 images for 10 classes, one known θ0",
        *(Number(SOFT, ("points", "5", "test_accuracy"), style) for style in ("bold", "n")),
        "almost 92",
    ),
    alone("KIP", "MNIST, kernel of an infinitely wide network, 10 images", "mnist-kernel-inducing-points-1"),
    alone(
        "KIP",
        "the same, 100 images",
        "mnist-kernel-inducing-points-10-longer",
        ("mnist, fully connected kernel", "10"),
    ),
    alone(
        "FRePo",
        "MNIST, ConvNet, 10 images",
        "mnist-feature-regression-1-batch-norm",
        ("FRePo, 1 image per class", "mnist"),
    ),
    alone(
        "FRePo, four images in one",
        "CIFAR-10, ConvNet, in the storage of 10 images and their labels",
        "cifar10-multi-formation-frepo-1",
    ),
    alone("DD of texts", "TREC-6, TextConvNet, 6 sentences, any θ0", "trec-random-6"),
    headline("DC", "MNIST, ConvNet-3, 10 images", CONDENSED, "DC", ONE),
    headline("DSA", "MNIST, ConvNet-3, 10 images", CONDENSED, "DSA", ONE),
    headline("DM", "MNIST, ConvNet-3, 10 images", CONDENSED, "DM", ONE),
    alone(
        "DM, four images in one",
        "MNIST, ConvNet-3, in the storage of 10 images",
        "mnist-multi-formation-dm-1",
    ),
    alone(
        "IDC, four images in one",
        "CIFAR-10, ConvNet-3, in the storage of 10 images",
        "cifar10-idc-1",
        ("IDC, 1 image per class", "cifar10"),
    ),
    alone(
        "trajectories (MTT)",
        "CIFAR-10, ConvNet-3, 10 images",
        "cifar10-trajectory-matching-1-slower",
        ("cifar10, 1 image per class, trajectories", "MTT"),
    ),
    headline("coreset, herding", "MNIST, ConvNet-3, 10 real images", CONDENSED, "herding", ONE),
    headline("coreset, random", "MNIST, ConvNet-3, 10 real images", CONDENSED, "random", ONE),
    headline(
        "adaptation", "pretrained LeNets, MNIST to USPS, 100 images", ADAPTATION, "random pretrained", TO_USPS
    ),
    headline(
        "adaptation",
        "pretrained LeNets, USPS to MNIST, 100 images",
        ADAPTATION,
        "random pretrained",
        TO_MNIST,
    ),
    headline(
        "attack",
        "trained LeNets, zeros taken for ones, 100 images",
        ATTACK,
        "distilled images",
        "0 to 1: taken for it",
    ),
)

_BASIC_ROWS = {
    "random init": "**random init**, 50 unseen inits",
    "class mean": "class means",
    "optimized real": "optimized real, the best 10 of 50 random sets",
    "k-means": "k-means of each class",
    "random real": "random real",
    "k-means, epochs tuned too": "k-means, 30 epochs",
    "optimized real, epochs tuned too": "optimized real, 30 epochs",
    "random real, epochs tuned too": "random real, 30 epochs",
    "class mean, epochs tuned too": "class means, 30 epochs",
    "k-NN, k-means": "*k-NN on k-means, no network*",
    "k-NN, random real": "*k-NN on random real, no network*",
    "all data": "*all 54,000 images instead*",
}

_ADAPTATION_ROWS = {
    "fixed pretrained": "**one known network**, 3 of them",
    "random pretrained": "**any of them**, 20 held out",
    "random real": "random real",
    "optimized real": "optimized real",
    "k-means": "k-means of each class",
    "class mean": "class means",
    "no adaptation": "no step",
    "all of the target, from scratch": "*all of the target, from scratch*",
}

_ABLATION_STEPS = (
    "noise, class labels",
    "noise, learned labels",
    "k-means, class labels",
    "k-means, learned labels",
    "the same, M 2",
    "the same, 200 steps of SGD",
    "the same, 200 steps of Adam",
    "the same, a window of 30 of them",
    "the same, ending anywhere",
    "that, from noise",
    "that, with class labels",
)


def _ablation_row(step: str) -> Row:
    name = "paper-ablation-mnist-small"
    validation, test = (f"{part} accuracy, 400 outer steps" for part in ("validation", "test"))
    return (
        step,
        Number(name, ("cells", step, validation, "ours")),
        Number(name, ("cells", step, test, "ours")),
        Number(name, ("cells", step, "seconds", "ours", "mean"), "whole"),
    )


def _attack_row(change: str, title: str, row: str) -> Row:
    taken, right = (f"{change}: {what}" for what in ("taken for it", "other classes right"))
    own = of_cells(ATTACK, title, row, taken)
    return (change.replace("to", "→"), *own, Number(ATTACK, ("cells", row, right, "ours")))


_ATTACKS = tuple(
    _attack_row(change, title, row)
    for change in ("0 to 1", "3 to 7", "4 to 9")
    for title, row in (
        ("distilled images", "distilled images"),
        ("random real, wrong labels", "random real images"),
    )
)


def _condensed_row(title: str, row: str, record: str = CONDENSED, column: str = ONE) -> Row:
    place = ("cells", row, column, "ours")
    published = Number(record, ("cells", row, column, "published"))
    ours = Number(record, place, is_compared=look_up(published) is not None)
    return (title, ours, Number(record, place, "n"), published)


_CONDENSED_ROWS = {
    "random": "random real",
    "herding": "herding",
    "k-center": "k-center",
    "forgetting": "most forgotten",
    "DC": "DC",
    "DSA": "DSA",
    "DM": "DM",
    "DD, LeNet": "DD (unrolled), with LeNet",
    "DC, LeNet": "DC, with LeNet",
    "whole": "all 54,000 images, one network",
    "whole, LeNet": "the same, with LeNet",
}

_TEN_PER_CLASS = "mnist, 10 images per class"
_SELECTIONS = {
    "random": "random real",
    "herding": "herding",
    "k_center": "k-center",
    "forgetting": "most forgotten",
}

_ARTIFACTS = {"DC": "dc-seed0", "DM": "dm-seed0", "unrolled, with LeNet": "dd"}
_TRAINED = {"convnet": "ConvNet-3", "lenet": "LeNet", "mlp": "MLP", "resnet18": "ResNet-18"}
_SEEN = ("2", "4", "6", "8", "10")
_MEMORIES = {"random": "random", "herding": "herding", "distribution_matching": "distribution matching"}
_PROXIES = {
    "DM": "runs/dm/distilled.npz",
    "random": "runs/coreset-digits-1/random.npz",
    "herding": "runs/coreset-digits-1/herding.npz",
}


def _proxy_row(title: str, artifact: str) -> Row:
    name = "architecture-search-digits"
    place = ("proxies", artifact)
    chosen = list(record(name)["whole"])[look_up(Number(name, (*place, "chosen")))]
    return (title, Number(name, (*place, "rank_correlation"), "hundredths"), Number(name, ("whole", chosen)))


def _sweep_column(axis: str, titles: Mapping[str, str]) -> list[Row]:
    name = f"mnist-sweep-{axis}"
    return [(title, Number(name, ("points", value, "test_accuracy"))) for value, title in titles.items()]


_SWEEPS = (
    _sweep_column("steps", {value: value for value in ("1", "2", "5", "10", "20")}),
    _sweep_column("epochs", {value: value for value in ("1", "2", "3", "5", "10")}),
    _sweep_column("images", {"1": "10", "2": "20", "5": "50", "10": "100"}),
    _sweep_column(
        "init",
        {
            "xavier_normal": "Xavier, normal",
            "xavier_uniform": "Xavier, uniform",
            "kaiming_normal": "Kaiming, normal",
            "kaiming_uniform": "Kaiming, uniform",
            "orthogonal": "orthogonal",
        },
    ),
)
_SWEEP_ROWS = tuple(
    tuple(itertools.chain.from_iterable(pairs))
    for pairs in itertools.zip_longest(*_SWEEPS, fillvalue=("", ""))
)

_OUTER_RECIPES = {
    "original": ("none (`--original`: Adam 0.5, 0.999, halved)", "0.01", "0.01", "1"),
    "clip1-0.03-0.03": ("1", "0.03", "0.03", "1"),
    "clip0.2-0.03-0.03": ("0.2", "0.03", "0.03", "1"),
    "clip1": ("1", "0.05", "0.01", "1"),
    "default": ("0.2 (our default)", "0.05", "0.01", "1"),
    "default-M2": ("0.2", "0.05", "0.01", "2"),
}


def _outer_recipe_row(name: str, settings: Row) -> Row:
    file = f"mnist-outer-recipe-{name}"
    scores = (Number(file, ("val_accuracy",), "tenths"), Number(file, ("seconds", "distil"), "whole"))
    return (*settings, *scores, f"[json]({file}.json)")


_WORK = {
    "W1": "LeNet, S 10, E 3, N 1024, fixed init, M 1",
    "W2": "the same, random init, M 4",
    "W3": "LeNet, S 1, E 3, N 1024, fixed init, M 1",
    "W4": "AlexCifarNet, CIFAR-10, S 10, E 3, N 1024",
    "W5": "DC, ConvNet-3, 1 image per class, N 256 of each, all ten classes",
    "W6": "DM, ConvNet-3, 1 image per class, N 256 of each, all ten classes",
}


def _work_row(item: str, title: str) -> Row:
    name, place = "bench-cpu-targets", ("items", item)
    return (
        f"{item}: {title}",
        Number(name, (*place, "ms_per_step", "median"), "three digits"),
        Number(name, (*place, "ms_per_step"), "n"),
        Number(name, (*place, "peak_rss_bytes"), "mib"),
        Number("published", (item, "ms"), "whole"),
        Number("published", (item, "mib"), "whole"),
        Number(name, (*place, "part_of_peak"), "share"),
        Number(name, place, "executed share"),
    )


_PAGES = {
    "W1": "LeNet, 30 inner steps, N 1024, ms",
    "LD": "label distillation, LeNet, 100 images, ms",
    "MTT": "trajectory matching, ConvNet-3 of 128 channels, 50 steps, ms",
    "product": "the best product of matrices, GFLOP/s",
}


def _pages_row(item: str, title: str) -> Row:
    """A row of one outer step, or of a product, with pages of 4 KiB and with huge ones."""
    place = ("medians_of_an_outer_step_ms_and_best_product_gflops", item)
    name = "bench-cpu-huge-pages"
    small, huge = (Number(name, (*place, pages, "median"), "whole") for pages in ("small", "huge"))
    return (title, small, huge, Number(name, (*place, "huge"), "n"))


_CONV_FORMS = ("im2col", "banded", "winograd")
_CONV_ITEMS = {"W4": "W4: AlexCifarNet", "convnet3": "ConvNet-3 of 128 channels, two inner steps, N 32"}


def _conv_row(item: str, title: str) -> Row:
    places = (("items", f"{item} conv_form={form}", "ms_per_step", "median") for form in _CONV_FORMS)
    return (title, *(Number("bench-cpu-conv", place, "three digits") for place in places))


_REGRESSIONS = {
    "FREPO": "FRePo, ConvNet-3 of 32 to 128 channels, N 256",
    "FREPO1024": "the same, N 1024 as published",
    "RCIG": "RCIG, the same network, N 256",
    "KIP1": "KIP, infinitely wide network of one hidden layer, N 5000",
    "KIP10": "the same, ten images of each class",
    "KIPconv": "KIP, infinitely wide ConvNet-3 without pooling, N 200",
    "KIPblock": "the same, N 1000",
}


def _regression_row(item: str, title: str) -> Row:
    """A row of one outer step of ridge regression, beside the forward pass of its real minibatch."""
    name, place = "bench-cpu-regression", ("items", item)
    forward = Number(name, (*place, "forward_ms"), "tenths") if item.startswith(("FREPO", "RCIG")) else ""
    return (
        title,
        Number(name, (*place, "ms_per_step", "median"), "tenths"),
        Number(name, (*place, "ms_per_step"), "n"),
        forward,
        Number(name, (*place, "temporary_bytes"), "mib"),
        # The convolutions' kernels have next to no products, which alone the compiler counts.
        "" if item in ("KIPconv", "KIPblock") else Number(name, place, "executed share"),
    )


_MEMORY = {
    "reverse": ("`reverse`", "weights and activations of every step", "nothing"),
    "recompute": ("`recompute` (default on CPU)", "weights of every step", "each step"),
    "sqrt": ("`sqrt`", "weights of every √T-th step", "each step, twice"),
    "mixed": (
        "`mixed`",
        "weights of every step: second derivatives forward over reverse",
        "each gradient, beside its derivative",
    ),
    "mixed_sqrt": ("`mixed_sqrt`", "weights of every √T-th step", "each step, twice"),
}


def _memory_row(strategy: str, what: Row) -> Row:
    name, place = "bench-cpu-t300", ("items", f"T300 memory={strategy}")
    return (
        *what,
        Number(name, (*place, "temporary_bytes"), "mib"),
        Number(name, (*place, "ms_per_step", "median"), "whole"),
    )


def _call_row(item: str, title: str) -> Row:
    name, place = "bench-cpu-memory", ("items", item)
    return (
        f"{item}: {title}",
        Number(name, (*place, "temporary_bytes"), "mib, tenths"),
        Number(name, (*place, "call_bytes"), "mib, tenths"),
        Number(name, place, "call share"),
        Number(f"{name}-two-threads", place, "call share"),
    )


_SCALE_DATA = ("MNIST", "CIFAR-10", "CIFAR-100", "ImageNet-1K, 64 px", "ImageNet-1K, 224 px")


def _scale_row(data: str, per_class: int) -> Row:
    """What one device holds and sends, which methods share but for the state of the optimiser."""
    matched, unrolled = (
        ("problems", f"{data}, {method}, {per_class}") for method in ("distribution matching", "unrolled")
    )
    name = "scale-h100"
    return (
        data,
        str(per_class),
        Number(name, (*matched, "real_bytes"), "mib"),
        Number(name, (*matched, "state_bytes"), "mib"),
        Number(name, (*unrolled, "state_bytes"), "mib"),
        *(Number(name, (*matched, "sent_bytes", count), "mib") for count in ("8", "64", "256")),
        Number(name, (*unrolled, "fits"), "yes"),
    )


def _worked_row(data: str, per_class: int) -> Row:
    """What the compiled outer steps of each method work in."""
    methods = ("unrolled", "gradient matching", "distribution matching")
    cells = (
        Number("scale-h100", ("problems", f"{data}, {method}, {per_class}"), "to work in")
        for method in methods
    )
    return (data, str(per_class), *cells)


_LINEAR = "paper-linear-mnist-small"
_LINEAR_ROWS = {
    "any initial weights": "any initial weights",
    "an affine set of 2 dimension(s)": "an affine set of two dimensions",
    "one set of initial weights": "a single θ0",
}

QUICKSTART, DIGITS_DM = "digits-quickstart", "digits-distribution-matching"
_DRAWN, _RIDGE = "mnist, LeNet, labels", "mnist, LeNet, labels by ridge"
_LABELLED: Mapping[str, Labelled] = {
    "labels-mnist-10": Labelled("10 of MNIST, drawn", (_DRAWN, "10")),
    "labels-mnist-10-anew": Labelled("the same 10, distilled anew", (_DRAWN, "10")),
    "labels-mnist-10-ridge": Labelled("the same 10, by ridge regression", (_RIDGE, "10"), "labels-mnist-10"),
    "labels-mnist-100": Labelled("100 of MNIST, drawn", (_DRAWN, "100")),
    "labels-mnist-100-slow": Labelled(
        "the same 100, at twice the published rate", (_DRAWN, "100"), "labels-mnist-100"
    ),
    "labels-mnist-100-ridge": Labelled(
        "the same 100, by ridge regression", (_RIDGE, "100"), "labels-mnist-100"
    ),
    "labels-mnist-500": Labelled("500 of MNIST, drawn", (_DRAWN, "500")),
    "labels-mnist-500-slow": Labelled(
        "the same 500, at the published rate", (_DRAWN, "500"), "labels-mnist-500"
    ),
    "labels-mnist-100-chosen": Labelled("100 of MNIST, by facility location"),
    "labels-mnist-100-ridge-chosen": Labelled(
        "the same 100, by ridge regression", given="labels-mnist-100-chosen"
    ),
    "labels-fashion-10": Labelled("10 of Fashion-MNIST, drawn"),
    "labels-fashion-100": Labelled("100 of Fashion-MNIST, drawn"),
}
"""The runs of label distillation on images of the data set itself."""
_LABELLED_ELSEWHERE: Mapping[str, Labelled] = {
    "labels-mnist-from-fashion": Labelled("MNIST, 100 images of Fashion-MNIST"),
    "labels-mnist-from-usps": Labelled("MNIST, 100 images of USPS"),
    "labels-fashion-from-mnist": Labelled("Fashion-MNIST, 100 images of MNIST"),
}
"""The runs of label distillation on images of another data set."""
KIP_START, KIP_LONGER = "the images at the start", "mnist-kernel-inducing-points-10-longer"
KIP_RECORDS = {
    "mnist-kernel-inducing-points-1": ("ten images of MNIST", "1"),
    "mnist-kernel-inducing-points-10": ("a hundred images of MNIST", "10"),
    "fashion-kernel-inducing-points-1": ("ten images of Fashion-MNIST", None),
}


def _first(title: str, name: str, published: tuple[str, str] | None) -> Row:
    """A row in bold with the test accuracy of a record, beside the published number."""
    there = "" if published is None else Number("published", published)
    ours = Number(name, ("test_accuracy",), "bold", is_compared=published is not None)
    return (f"**{title}**", ours, Number(name, ("test_accuracy",), "n"), there)


def _kernel_rows(name: str, what: str, per_class: str | None) -> list[Row]:
    """Regression on distilled images, and on the real images that they were started from."""
    published = None if per_class is None else ("mnist, fully connected kernel", per_class)
    return [
        _first(f"{what}, distilled", name, published),
        (*single(f"{what}, real, labels solved", name, "baselines", f"{KIP_START}, labels solved"), ""),
        (*single(f"{what}, real", name, "baselines", KIP_START), ""),
    ]


_ONE, _MANY = "FRePo, 1 image per class", "FRePo, 10 images per class"
_REGRESSED = {
    "**MNIST**, narrow pool with batch norm, on a CPU": (
        "2,500 of 256",
        "mnist-feature-regression-1-batch-norm",
        (_ONE, "mnist"),
    ),
    "MNIST": ("8,000 of 512", "mnist-feature-regression-1-longer", (_ONE, "mnist")),
    "MNIST, fewer steps": ("2,000 of 512", "mnist-feature-regression-1-wide", (_ONE, "mnist")),
    "MNIST, augmentation in the pool too": (
        "6,000 of 512",
        "mnist-feature-regression-1-augmented-pool",
        (_ONE, "mnist"),
    ),
    "**Fashion-MNIST**": ("5,000 of 512", "fashion-feature-regression-1-longer", (_ONE, "fashion_mnist")),
    "Fashion-MNIST, fewer steps": (
        "2,000 of 512",
        "fashion-feature-regression-1-wide",
        (_ONE, "fashion_mnist"),
    ),
    "**CIFAR-10**": ("2,000 of 512", "cifar10-feature-regression-1-wide", (_ONE, "cifar10")),
    "CIFAR-10, augmentation in the pool too": (
        "2,000 of 512",
        "cifar10-feature-regression-1-wide-augmented-pool",
        (_ONE, "cifar10"),
    ),
    "the same, more steps": ("8,000 of 512", "cifar10-feature-regression-1-longer", (_ONE, "cifar10")),
    "the same, the pool trained at 0.001": (
        "2,000 of 512",
        "cifar10-feature-regression-1-faster-pool",
        (_ONE, "cifar10"),
    ),
    "**MNIST, a hundred images**": ("3,000 of 512", "mnist-feature-regression-10", (_MANY, "mnist")),
    "**CIFAR-10, a hundred images**": ("4,000 of 512", "cifar10-feature-regression-10", (_MANY, "cifar10")),
    "MNIST, networks of 32 to 128 channels": ("1,200 of 256", "mnist-feature-regression-1", None),
}
"""Images of FRePo, ten where nothing is said: outer steps, record, place of the published number."""


def _regressed_row(title: str, steps: str, name: str, published: tuple[str, str] | None) -> Row:
    _, *scores = (_first if title.startswith("**") else _plain)(title, name, published)
    return (title, steps, *scores)


_POOLS = {
    "labels at a tenth of the images' rate, no norms, pool at 0.001": "base",
    "labels at the rate of the images": "labels-rate",
    "batch norm in the pool": "batch-norm",
    "pool at 0.0003, as published": "slow-pool",
    "augmentation in the pool too": "augmented-pool",
}
"""Settings of FRePo that differ in one thing from the first, by the ends of the names of their records."""


def _pool_row(title: str, end: str) -> Row:
    """Validation, test accuracy and n of narrow networks under one setting of FRePo."""
    name = f"mnist-feature-regression-1-narrow-{end}"
    score = (Number(name, ("test_accuracy",), style) for style in ("score", "n"))
    return (title, Number(name, ("val_accuracy",), "tenths"), *score)


def _plain(title: str, name: str, published: tuple[str, str] | None) -> Row:
    return beside(title, name, ("test_accuracy",), published)


_TEXTS = {
    "random-6": "6 sentences (S 1, E 20), unseen θ0",
    "random-60": "60 sentences (S 1, E 20), unseen θ0",
    "fixed-6": "6 sentences (S 1, E 20), one θ0, from real ones",
    "fixed-6-free": "6 sentences (S 1, E 20), one θ0, labels any numbers",
    "fixed-6-bilstm": "6 sentences (S 1, E 10), one θ0, BiLSTM",
    "fixed-120": "120 sentences (S 20, E 2), one θ0",
}
"""The runs on TREC's questions, by the ends of the names of their records."""

_ANGLES = ((0, "0"), (30, "1.05"), (90, "3.14"))
"""The largest angles in degrees by which images were turned, and twice each in radians."""

_BY_CLASS = "mnist-learned-augmentation-by-class-90"
"""Digits turned by up to 90 degrees, each class with widths of its own."""

_TRANSFORMS = ("rotation", "across", "down", "scale", "stretch", "shear")


def _turned_row(data: str, degrees: int, true_range: str, *others: str) -> Row:
    """The widths that were learned on images turned by so many degrees at most, and the accuracies.

    Args:
        data: the start of the names of the records.
        degrees: the largest angle.
        true_range: twice the angle in radians.
        *others: the kinds of the runs beside, as in the names of their records; an empty one leaves its
            cell empty.

    Returns:
        The row.
    """
    name = f"{data}-learned-augmentation-{degrees}"
    widths = (Number(name, ("widths", one), "hundredths") for one in _TRANSFORMS)
    beside = (
        Number(f"{data}-learned-augmentation-{one}-{degrees}", ("test_accuracy",)) if one else ""
        for one in others
    )
    return (f"{degrees}°", true_range, *widths, Number(name, ("test_accuracy",)), *beside)


def _bases_row(title: str, steps: str, name: str, style: str = "score") -> Row:
    """Images of equal storage, with the number of steps in which networks are trained on them."""
    trained, score, networks = single(title, name, "test_accuracy", style=style)
    return (trained, steps, score, networks)


def _bases_labels_row(labels: str, name: str) -> Row:
    """Images from bases whose labels are counted: numbers, images, outer steps, validation, accuracy, n."""
    file = f"{BASES}-labels-{name}"
    score = (Number(file, ("test_accuracy",), style) for style in ("score", "n"))
    return (
        labels,
        Number(file, ("storage", "total"), "whole"),
        Number(file, ("layout", "images"), "whole"),
        Number(file, ("num_outer_steps",), "whole"),
        Number(file, ("val_accuracy",), "tenths"),
        *score,
    )


def _ablated_row(what: str, name: str) -> Row:
    """Images from bases in the numbers of a hundred: images, epochs, validation, test accuracy, n."""
    score = (Number(name, ("test_accuracy",), style) for style in ("score", "n"))
    return (
        what,
        Number(name, ("layout", "images"), "whole"),
        Number(name, ("recipe", "epochs"), "whole"),
        Number(name, ("val_accuracy",), "tenths"),
        *score,
    )


def _stored_row(data: str, stored: str, method: str, name: str, style: str = "score") -> Row:
    """A method with a form of φ at the storage of one image per class: images trained on, accuracy."""
    kept = "storage" in record(name)  # Pixels alone have no count of their own.
    numbers = Number(name, ("storage", "total"), "whole") if kept else "7,840"
    counts = (Number(name, place, "whole") for place in (("num_outer_steps",), ("layout", "images")))
    score = (Number(name, ("test_accuracy",), one) for one in (style, "n"))
    return (data, stored, numbers, method, *counts, *score)


def _idc_row(title: str, real_images: str, name: str, dataset: str) -> Row:
    """IDC on a data set, beside the published number: 50 networks, of 20 matches each."""
    ours, published = ("test_accuracy",), Number("published", ("IDC, 1 image per class", dataset))
    return (
        title,
        Number(name, ("num_outer_steps",), "whole"),
        "50",
        real_images,
        Number(name, ours, is_compared=True),
        Number(name, ours, "n"),
        published,
    )


def _trajectory_row(title: str, name: str, experts: str, published: str | None, theirs: str) -> Row:
    """Trajectory matching with some experts, beside a published number and what was done for that."""
    there = ("cifar10, 1 image per class, trajectories", published or "")
    ours = ("test_accuracy",)
    return (
        title,
        Number(experts, ("num_experts",), "whole"),
        Number(name, ("num_outer_steps",), "whole"),
        Number(name, ours, is_compared=published is not None),
        Number(name, ours, "n"),
        "" if published is None else Number("published", there),
        theirs,
    )


_WINDOWS = "trajectories-mnist-windows"
"""Trajectories of narrow experts: labels, windows, and TESLA's gradient, one thing changed at a time."""

_FIRST_ORDER = "trajectories-first-order"
"""Both gradients of trajectory matching at the same images and segments."""


def _window_row(labels: str, window: str) -> Row:
    """A kind of labels and a window: validation, test and n."""
    place = ("rows", f"{labels}, {window}")
    test = (*place, "test_accuracy")
    return (
        labels,
        window,
        Number(_WINDOWS, (*place, "val_accuracy"), "tenths"),
        Number(_WINDOWS, test),
        Number(_WINDOWS, test, "n"),
    )


def _order_row(labels: str, window: str) -> Row:
    """Test accuracy and seconds of distillation of the exact and the first-order gradient."""
    names = [f"{labels}, {window}{end}" for end in ("", ", first order")]
    scores = (Number(_WINDOWS, ("rows", name, "test_accuracy")) for name in names)
    seconds = (Number(_WINDOWS, ("rows", name, "seconds", "distil"), "whole") for name in names)
    n = Number(_WINDOWS, ("rows", names[0], "test_accuracy"), "n")
    return (labels, window, *scores, n, *seconds)


def _gradients_row(steps: str) -> Row:
    """The angle between both gradients after some steps, and what each costs."""
    place = ("rows", steps)
    ratios = ("cosine", "ratio of norms", "ratio of the rate's")
    costs = [(kind, what) for what in ("ms", "MiB") for kind in ("exact", "first order")]
    return (
        steps,
        *(Number(_FIRST_ORDER, (*place, name), "score, hundredths") for name in ratios),
        *(Number(_FIRST_ORDER, (*place, *cost), "whole" if cost[1] == "ms" else "tenths") for cost in costs),
    )


def _trajectory_step_row(title: str, name: str, item: str) -> Row:
    """Time and memory of an outer step of trajectory matching."""
    place = ("items", item)
    return (
        title,
        Number(name, (*place, "ms_per_step", "median"), "whole"),
        Number(name, (*place, "ms_per_step", "n"), "whole"),
        Number(name, (*place, "temporary_bytes"), "mib"),
        Number(name, (*place, "peak_rss_bytes"), "mib"),
        Number(name, place, "executed share"),
    )


_GPU = "gpu-h100-steps"
_GPU_ITEMS = {
    "DC, MNIST": "DC, MNIST, N 64 of each class",
    "DSA, MNIST": "DSA, MNIST, N 64 of each class",
    "DM, MNIST": "DM, MNIST, N 64 of each class",
    "DC, CIFAR-10": "DC, CIFAR-10, N 64 of each class",
    "DM, CIFAR-10": "DM, CIFAR-10, N 64 of each class",
    "IDC, Fashion-MNIST": "IDC, Fashion-MNIST, 20 matches before a network trains on",
    "FRePo, MNIST": "FRePo, MNIST, width 128, N 512",
    "FRePo, Fashion-MNIST": "FRePo, Fashion-MNIST, the same",
    "trajectories, CIFAR-10": "trajectories, CIFAR-10, T 50, B 10",
}
"""The runs whose steps in a second on a GPU are recorded, with their titles."""


def _gpu_row(item: str, title: str) -> Row:
    """What a run did in a second at best and in the mean, and two CPU cores where that was measured."""
    place = ("items", item)
    cores = "two_cpu_cores" in record(_GPU)["items"][item]
    return (
        title,
        Number(_GPU, (*place, "steps_per_second", "fastest"), "tenths"),
        Number(_GPU, (*place, "steps_per_second", "average"), "tenths"),
        Number(_GPU, (*place, "seconds", "compile"), "whole"),
        Number(_GPU, (*place, "two_cpu_cores", "steps_per_second"), "hundredths") if cores else "",
    )


def _autotuning_row(item: str) -> Row:
    """Steps in a second, and seconds of compilation, with XLA's search for fast kernels and without."""
    columns = (("fastest_steps_per_second", "tenths"), ("seconds", "whole"))
    numbers = []
    for what, style in columns:
        for which in ("autotuned", "not autotuned"):
            place = ("autotuning", item, which, what)
            numbers.append(Number(_GPU, (*place, "compile") if what == "seconds" else place, style))
    return (item, *numbers)


_SUBSPACES = {f"β {weight}": f"β {weight}" for weight in (0, 1, 10, 100, 1000)} | {
    "inside": "inside the subspaces"
}
"""The rows of the record of class subspaces, with their titles."""

_WRONG = ("noise-mnist-symmetric-60", "noise-fashion-pair-40", "noise-fashion-symmetric-40")
_KEPT = {
    "all": "all images",
    "loss": "small loss",
    "score1": "score 1",
    "score2": "score 2",
    "score3": "score 3",
    "score4": "score 4",
    "crust": "CRUST, as released",
    "crust_mixed": "the same, images of a class mixed",
    "crust_paper": "CRUST, as in its paper",
    "clean": "*right labels alone*",
}
"""The ways to train on wrong labels, with their titles."""


def _kept_row(selection: str, title: str) -> Row:
    """Accuracy, right labels and worst class of a selection under each noise; empty where it was not run."""
    cells: list[Cell] = []
    for name in _WRONG:
        is_run, place = selection in record(name)["selections"], ("selections", selection)
        cells += (Number(name, (*place, *end)) if is_run else "" for end in ((), ("pure",), ("worst",)))
    return (title, *cells)


_TEACHERS = {
    "own labels": "own labels",
    "teacher of 1 epochs, T 1": "teacher of one epoch, T 1",
    "teacher of 1 epochs, T 4": "teacher of one epoch, T 4",
    "teacher of 1 epochs, T 20": "teacher of one epoch, T 20",
    "teacher of 10 epochs, T 1": "teacher of ten epochs, T 1",
    "teacher of 10 epochs, T 4": "teacher of ten epochs, T 4",
    "teacher of 10 epochs, T 20": "teacher of ten epochs, T 20",
}
"""The labels of a comparison of teachers, with their titles."""


def _relabelled_row(name: str, labels: str, title: str, *sets: str) -> Row:
    """The scores of sets under the same labels; bold where validation chooses them."""
    found, cells = record(name)["sets"], []
    for one in sets:
        best = max(found[one], key=lambda row, one=one: found[one][row]["validation"]["mean"])
        cells.append(Number(name, ("sets", one, labels), "bold" if labels == best else "score"))
    return (title, *cells)


_STUDENTS = {
    "teacher": "the teacher: 300 checked labels alone",
    "noisy alone": "8,000 noisy labels",
    "noisy and clean": "both",
    "teacher's hard labels": "checked labels, and the teacher's hard ones",
    "λ 0": "checked labels, and mixtures of λ 0, the teacher's soft labels",
    "λ 0.25": "of λ 0.25",
    "λ 0.5": "of λ 0.5",
    "λ 0.75": "of λ 0.75",
    "λ predicted": "of the predicted λ",
    "true labels": "*true labels*",
}
"""The students of a teacher that saw a few checked labels, with their titles."""

_VIEWS = {
    "teacher": "the teacher: 300 labelled images in nine views",
    "one view, hard": "and its hard labels, of one view (self-training)",
    "9 views, hard": "of nine views (data distillation)",
    "one view, soft": "and its soft labels, of one view",
    "9 views, soft": "of nine views",
    "true labels": "*true labels*",
}
"""The students of a teacher that labels 8,000 images, with their titles."""

_FEDMD = "federated-usps"
_TOGETHER = {
    "private epochs alone": "the private epochs of the rounds alone",
    "public images": "agreement on 2,000 images, drawn anew",
    "100 fixed images": "on a hundred images, the same in all rounds",
    "distilled images": "on a hundred distilled images",
}
"""The ways of clients to train, with their titles."""


def _together_row(way: str, title: str) -> Row:
    """The accuracies after ten rounds and after all, the number of seeds, and what is sent."""
    sent = way in record(_FEDMD)["floats_per_round"]
    scores = (Number(_FEDMD, ("rounds", way), "round 10"), Number(_FEDMD, ("scores", way)))
    floats = Number(_FEDMD, ("floats_per_round", way), "whole") if sent else "0"
    return (title, *scores, Number(_FEDMD, ("scores", way), "n"), floats)


_ONCE = {
    "random": "random",
    "central": "most central gradients, CRUST as released",
    "facility_location": "facility location of gradients, CRUST as in its paper",
    "craig": "the same, weighted by clusters (CRAIG)",
    "k_center": "k-center of features",
    "herding": "herding of features",
    "forgetting": "least forgotten",
    "loss": "smallest loss",
}
"""The selections that are made once, with their titles."""


def _once_row(selection: str, title: str) -> Row:
    places = (
        (f"noise-once-{count}", ("selections", f"once {selection}", *end))
        for count in ("10", "half")
        for end in ((), ("pure",))
    )
    return (title, *itertools.starmap(Number, places))


_DISTILLED_NOISE = {"all": "all", "score1": "kept by score 1", "clean": "right labels alone"}


def _distilled_noise_row(selection: str, title: str) -> Row:
    """What is right in the kept images, and the scores of what is distilled from them."""
    dm, unrolled = ("noise-distil-dm", "noise-distil-unrolled")
    place = ("selections", selection)
    both = itertools.product((dm, unrolled), ("score", "n"))
    scores = (Number(name, (*place, "distilled"), style) for name, style in both)
    return (title, Number(dm, (*place, "pure")), *scores)


TABLES: Mapping[str, Table] = {
    "headline": Table(("family", "what", "ours", "n", "published"), _HEADLINE),
    "quickstart": Table(
        ("trained on", "test accuracy, %", "n"),
        (
            single("all 1,294 training images", QUICKSTART, "baselines", "all data"),
            single("*k-NN on k-means of each class, no network*", QUICKSTART, "baselines", "k-NN, k-means"),
            single("**ten distilled images**", QUICKSTART, "test_accuracy", style="bold"),
            single("class means", QUICKSTART, "baselines", "class mean"),
            single("k-means of each class", QUICKSTART, "baselines", "k-means"),
            single("*k-NN on random real images, no network*", QUICKSTART, "baselines", "k-NN, random real"),
            single("ten random real images", QUICKSTART, "baselines", "random real"),
        ),
    ),
    "mnist": Table(
        ("", "100 images", "the paper's", "10 images", "the paper's"),
        (
            of_cells(BASIC, "**fixed init**, 3 distilled θ0", "fixed init", HUNDRED, TEN, style="bold"),
            *((*of_cells(BASIC, title, row, HUNDRED), "", "") for row, title in _BASIC_ROWS.items()),
        ),
    ),
    "ablation": Table(("", "validation", "test", "seconds"), tuple(map(_ablation_row, _ABLATION_STEPS))),
    "cifar10": Table(
        ("", "100 images", "the paper's"),
        tuple(
            of_cells(CIFAR, title, row, "cifar10, 100 images", style="bold")
            for row, title in (
                ("fixed init", "**fixed init**, one distilled θ0, S 10, E 3"),
                ("random init", "**random init**, 50 unseen inits"),
            )
        ),
    ),
    "adaptation": Table(
        ("", "MNIST to USPS", "the paper's", "USPS to MNIST", "the paper's"),
        tuple(of_cells(ADAPTATION, title, row, TO_USPS, TO_MNIST) for row, title in _ADAPTATION_ROWS.items()),
    ),
    "attack": Table(("", "", "taken for it", "the paper's", "other classes right"), _ATTACKS),
    "condensation": Table(
        ("", "ours", "n", "published"),
        tuple(_condensed_row(title, row) for row, title in _CONDENSED_ROWS.items()),
    ),
    "condensation of colour": Table(
        ("", "ours", "n", "published"),
        tuple(
            _condensed_row(row, row, "condense-cifar10-1-small", "cifar10, 1 image per class")
            for row in ("DC", "DSA", "DM")
        ),
    ),
    "coresets": Table(
        ("", "ours", "n", "published"),
        tuple(
            beside(title, "coreset-mnist-10", ("baselines", row), (_TEN_PER_CLASS, row))
            for row, title in _SELECTIONS.items()
        ),
    ),
    "wrong labels": Table(
        (
            "trained on",
            *itertools.chain.from_iterable(
                (f"{what}: accuracy, %", "right labels", "worst class")
                for what in (
                    "MNIST, symmetric 0.6",
                    "Fashion-MNIST, pair 0.4",
                    "Fashion-MNIST, symmetric 0.4",
                )
            ),
        ),
        tuple(itertools.starmap(_kept_row, _KEPT.items())),
    ),
    "labels of teachers": Table(
        ("labels", "random real images", "herding"),
        tuple(
            _relabelled_row("relabel-mnist-10", labels, title, "random", "herding")
            for labels, title in _TEACHERS.items()
        ),
    ),
    "noisy teacher": Table(
        ("a network of", "test accuracy, %", "on validation", "n", "λ"),
        tuple(
            (
                *single(title, "noisy-teacher-mnist", "scores", student)[:2],
                Number("noisy-teacher-mnist", ("scores", student, "validation")),
                Number("noisy-teacher-mnist", ("scores", student), "n"),
                Number("noisy-teacher-mnist", ("facts", "λ"), "spread, hundredths")
                if student == "λ predicted"
                else "",
            )
            for student, title in _STUDENTS.items()
        ),
    ),
    "omni": Table(
        ("a network of", "test accuracy, %", "n", "right labels, %"),
        tuple(
            (
                *single(title, "omni-mnist", "scores", student),
                Number("omni-mnist", ("facts", f"right labels, {student.split(',')[0]}, %"), "spread")
                if "view" in student
                else "",
            )
            for student, title in _VIEWS.items()
        ),
    ),
    "federated": Table(
        ("", "after 10 rounds", "after 20 rounds", "n", "numbers sent by each client in a round"),
        (
            (
                "no collaboration, before the first round",
                *single("", _FEDMD, "scores", "no collaboration")[1:2] * 2,
                Number(_FEDMD, ("scores", "no collaboration"), "n"),
                "0",
            ),
            *itertools.starmap(_together_row, _TOGETHER.items()),
        ),
    ),
    "wrong labels, once": Table(
        ("", "10 per class: accuracy, %", "right labels", "half of all: accuracy, %", "right labels"),
        tuple(itertools.starmap(_once_row, _ONCE.items())),
    ),
    "labels of a teacher, CIFAR-10": Table(
        ("labels", "random real images"),
        (
            _relabelled_row("relabel-cifar10-10", "own labels", "own labels", "random"),
            _relabelled_row(
                "relabel-cifar10-10", "teacher of 2 epochs, T 1", "teacher of two epochs, T 1", "random"
            ),
        ),
    ),
    "labels of teachers, distilled": Table(
        ("labels", "distilled images", "random real images"),
        tuple(
            _relabelled_row("relabel-mnist-10-dm", labels, title, "artifact", "random")
            for labels, title in _TEACHERS.items()
            if "T 4" not in labels
        ),
    ),
    "wrong labels, distilled": Table(
        ("distilled from", "right labels, %", "DM", "n", "unrolled", "n"),
        tuple(itertools.starmap(_distilled_noise_row, _DISTILLED_NOISE.items())),
    ),
    "labels": Table(
        ("base images", "learned labels", "true, smoothed", "true", "n", "training steps", "published"),
        tuple(itertools.starmap(_labelled_row, _LABELLED.items())),
    ),
    "labels elsewhere": Table(
        (
            "learned for",
            "learned labels",
            "nearest images', smoothed",
            "nearest images'",
            "n",
            "training steps",
        ),
        tuple(_labelled_row(name, run)[:-1] for name, run in _LABELLED_ELSEWHERE.items()),
    ),
    "labels, speed": Table(
        ("an outer step, 50 base images, N 1024", "ours, ms", "PyTorch, ms"),
        (_labels_speed_row("LD", "second order"), _labels_speed_row("LDRR", "ridge regression")),
    ),
    "soft labels": Table(
        ("", "ours", "θ0", "published"),
        (
            (*_point("five images", SOFT, "5"), "almost 92"),
            (*_point("ten images", SOFT, "10"), "over 96"),
            (*_point("ten images, ten inner steps", f"{SOFT}-10-e10", "10"), "over 96"),
            (*_point("ten images, 8,000 outer steps at other rates", f"{SOFT}-10-long", "10"), "over 96"),
            (*_point("the same, two more θ0, tried once afterwards", f"{SOFT}-10-more", "10"), "over 96"),
            (*single("one image", f"{SOFT}-1", "test_accuracy"), ""),
        ),
    ),
    "forms of labels": Table(
        ("five images, 600 outer steps", "ours", "θ0"),
        (
            _point("softmax of learned numbers", f"{SOFT}-5-forms", "softmax"),
            _point("the learned numbers themselves", f"{SOFT}-5-forms", "free"),
        ),
    ),
    "inner steps of soft labels": Table(
        ("inner steps", "outer steps", "validation", "test accuracy, %"),
        tuple(_inner_steps_row(count) for count in (5, 10, 20)),
    ),
    "in part": Table(
        ("", "ours", "n", "published"),
        (
            beside(
                "MNIST, ten images per class: DM after 150 updates",
                "mnist-distribution-matching-10",
                ("test_accuracy",),
                (_TEN_PER_CLASS, "DM"),
            ),
            beside(
                "Fashion-MNIST, one image per class: DC after 300 updates",
                "fashion-gradient-matching-1",
                ("test_accuracy",),
                ("fashion_mnist, 1 image per class", "DC"),
            ),
            beside(
                "Fashion-MNIST, one image per class: DM after 500 updates",
                "fashion-distribution-matching-1",
                ("test_accuracy",),
                None,
            ),
        ),
    ),
    "trajectories": Table(
        ("ten images", "experts", "outer steps", "ours", "n", "published", "the published run"),
        (
            _trajectory_row(
                "MNIST",
                "mnist-trajectory-matching-1-longer",
                "experts-mnist-again",
                None,
                "none of this family found",
            ),
            _trajectory_row(
                "MNIST, fewer steps", "mnist-trajectory-matching-1", "experts-mnist", None, "the same"
            ),
            _trajectory_row(
                "Fashion-MNIST", "fashion-trajectory-matching-1", "experts-fashion", None, "the same"
            ),
            _trajectory_row(
                "CIFAR-10, whitened, images' rate 0.02",
                "cifar10-trajectory-matching-1-slower",
                "experts-cifar10-sixteen",
                "MTT",
                "100 experts, 5,000 outer steps, all 50,000 images, best iteration by the test split",
            ),
            _trajectory_row(
                "CIFAR-10, whitened, 0.05",
                "cifar10-trajectory-matching-1",
                "experts-cifar10",
                "MTT",
                "the same",
            ),
            _trajectory_row(
                "the same, cut short",
                "cifar10-trajectory-matching-1-short",
                "experts-cifar10",
                "MTT",
                "the same",
            ),
        ),
    ),
    "trajectory windows": Table(
        ("labels", "segments start", "validation", "test accuracy, %", "n"),
        tuple(
            _window_row(labels, window)
            for labels in ("hard", "soft")
            for window in ("from the start", "fixed window", "growing window")
        ),
    ),
    "first order": Table(
        ("labels", "segments start", "exact", "first order", "n", "exact, s", "first order, s"),
        tuple(
            _order_row(labels, window)
            for labels in ("hard", "soft")
            for window in ("from the start", "growing window")
        ),
    ),
    "gradients": Table(
        (
            "T",
            "cosine",
            "ratio of norms",
            "ratio of the rate's",
            "exact, ms",
            "first order, ms",
            "exact, MiB",
            "first order, MiB",
        ),
        tuple(map(_gradients_row, ("10", "20", "40", "80"))),
    ),
    "cross-architecture": Table(
        ("", *_TRAINED.values()),
        tuple(
            (
                title,
                *(
                    Number(
                        "cross-architecture-mnist-1",
                        ("matrix", f"runs/{CONDENSED}/{run}/distilled.npz", network),
                    )
                    for network in _TRAINED
                ),
            )
            for title, run in _ARTIFACTS.items()
        ),
    ),
    "cross-architecture of trajectories": Table(
        ("trained by", *list(_TRAINED.values())[:3]),
        tuple(
            (
                title,
                *(
                    Number(name, ("matrix", "runs/t-mnist/distilled.npz", network))
                    for network in list(_TRAINED)[:3]
                ),
            )
            for title, name in (
                ("the artifact's own recipe", "cross-architecture-trajectories"),
                ("the protocol of DC, DSA, DM", "cross-architecture-trajectories-condensation"),
            )
        ),
    ),
    "trajectory step": Table(
        ("", "ms", "n", "MiB to work in", "MiB above start", "executed, of the peak"),
        (
            _trajectory_step_row("ours, exact", "bench-cpu-trajectories", "MTT memory=mixed"),
            _trajectory_step_row(
                "reverse over reverse, `lax.conv`",
                "bench-cpu-trajectories-plain",
                "MTT conv_form=lax memory=reverse",
            ),
        ),
    ),
    "labels, across networks": Table(
        ("ten images of MNIST, drawn", "LeNet", "MLP", "ConvNet-3", "n"),
        (
            _labels_across_row("labels learned with LeNet", "experiments/results/sets/mnist-labels-10.npz"),
            _labels_across_row("true labels, smoothed", "runs/labels-10-start/distilled.npz"),
        ),
    ),
    "learned augmentation": Table(
        ("turned by up to", "in radians", *_TRANSFORMS, "accuracy, %", "without"),
        tuple(_turned_row("digits", degrees, twice, "none") for degrees, twice in _ANGLES),
    ),
    "learned augmentation of MNIST": Table(
        ("turned by up to", "in radians", *_TRANSFORMS, "accuracy, %", "fixed", "without"),
        tuple(
            _turned_row("mnist", degrees, twice, "fixed" if degrees else "", "none")
            for degrees, twice in _ANGLES
        ),
    ),
    "widths by class": Table(
        ("digit", *map(str, range(10)), "accuracy, %"),
        (
            (
                "width of the rotation",
                *(Number(_BY_CLASS, ("widths", "rotation", str(digit)), "hundredths") for digit in range(10)),
                Number(_BY_CLASS, ("test_accuracy",)),
            ),
        ),
    ),
    "continual": Table(
        ("classes seen", *_SEEN),
        tuple(
            (title, *(Number("continual-digits", ("accuracy", memory, seen)) for seen in _SEEN))
            for memory, title in _MEMORIES.items()
        ),
    ),
    "subspaces": Table(
        ("", "test accuracy, %", "n", "own error", "named by LDA, %"),
        (
            *(
                (
                    title,
                    Number("digits-subspaces", ("distilled", row)),
                    Number("digits-subspaces", ("distilled", row), "n"),
                    Number("digits-subspaces", ("distilled", row, "own_error"), "hundredths"),
                    Number("digits-subspaces", ("distilled", row, "named_by_lda"), "whole"),
                )
                for row, title in _SUBSPACES.items()
            ),
            (
                "real images",
                "",
                "",
                Number("digits-subspaces", ("real", "own_error"), "hundredths"),
                Number("digits-subspaces", ("real", "named_by_lda"), "whole"),
            ),
        ),
    ),
    "architecture search": Table(
        ("", "rank correlation", "the network chosen, trained on all"),
        tuple(itertools.starmap(_proxy_row, _PROXIES.items())),
    ),
    "least squares": Table(
        ("initial weights", "points that are needed", "the paper's"),
        tuple(
            (
                title,
                Number(_LINEAR, ("cells", row, "points that it needs", "ours", "mean"), "whole"),
                Number(_LINEAR, ("cells", row, "points that it needs", "published")),
            )
            for row, title in _LINEAR_ROWS.items()
        ),
    ),
    "texts": Table(
        ("TREC, 6 classes, TextConvNet", "validation", "test accuracy, %", "n"),
        (
            (
                "all 4,907 training questions, drawn θ0",
                "",
                Number("trec-all-data", ("baselines", "all data")),
                Number("trec-all-data", ("baselines", "all data"), "n"),
            ),
            *(
                (
                    title,
                    Number(f"trec-{name}", ("val_accuracy",), "tenths"),
                    Number(f"trec-{name}", ("test_accuracy",), "bold"),
                    Number(f"trec-{name}", ("test_accuracy",), "n"),
                )
                for name, title in _TEXTS.items()
            ),
        ),
    ),
    "sweeps": Table(
        (
            "S (with E 3)",
            "",
            "E (with S 10)",
            "",
            "images (S 1, E 10)",
            "",
            "initial weights (S 10, E 3)",
            "",
        ),
        _SWEEP_ROWS,
    ),
    "digits, distribution matching": Table(
        ("trained on", "test accuracy, %", "n"),
        (
            single("**ten distilled images**", DIGITS_DM, "test_accuracy", style="bold"),
            single("k-means of each class", DIGITS_DM, "baselines", "k-means"),
            single("class means", DIGITS_DM, "baselines", "class mean"),
            single("ten random real images", DIGITS_DM, "baselines", "random real"),
        ),
    ),
    "bases": Table(
        ("trained on", "steps", "test accuracy, %", "n"),
        (
            _bases_row("**1,660 images from 32 bases**", "6,500", BASES_LONG, style="bold"),
            _bases_row("the same images", "2,600", BASES),
            _bases_row("100 images as they are", "2,600", PIXELS),
        ),
    ),
    "bases, one thing changed": Table(
        ("", "images", "epochs", "validation", "test accuracy, %", "n"),
        (
            _ablated_row("32 bases of 28×28, random images", BASES),
            _ablated_row("16 bases", f"{BASES}-16"),
            _ablated_row("64 bases", f"{BASES}-64"),
            _ablated_row("64 bases of 14×14", f"{BASES}-64-half"),
            _ablated_row("32 bases, of k-means' centres", f"{BASES}-k-means"),
            _ablated_row("32 bases, a quarter of the steps", f"{BASES}-25-epochs"),
            _ablated_row("32 bases, 300 outer steps of DM", f"{BASES}-300-steps"),
        ),
    ),
    "bases, labels": Table(
        ("labels", "numbers", "images", "outer steps", "validation", "test accuracy, %", "n"),
        (
            _bases_labels_row("hard, at a rate of 1e-9", "hard-start"),
            _bases_labels_row("hard", "hard"),
            _bases_labels_row("softmax, at a rate of 1e-9", "softmax-start"),
            _bases_labels_row("softmax", "softmax"),
            _bases_labels_row("free numbers", "free"),
        ),
    ),
    "equal storage": Table(
        ("", "stored as", "numbers", "method", "outer steps", "images", "test accuracy, %", "n"),
        (
            _stored_row("MNIST", "pixels", "DM", "mnist-pixels-dm-1"),
            _stored_row("MNIST", "four in one", "DM", "mnist-multi-formation-dm-1"),
            _stored_row("MNIST", "four in one", "IDC", "mnist-idc-1"),
            _stored_row("MNIST", "four in one", "FRePo", "mnist-multi-formation-frepo-1", style="bold"),
            _stored_row(
                "MNIST", "four in one", "FRePo, 32 to 128 channels", "mnist-multi-formation-frepo-1-narrow"
            ),
            _stored_row("Fashion-MNIST", "four in one", "IDC", "fashion-idc-1"),
            _stored_row("Fashion-MNIST", "four in one", "FRePo", "fashion-multi-formation-frepo-1"),
            _stored_row(
                "Fashion-MNIST",
                "four in one",
                "FRePo, flips",
                "fashion-multi-formation-frepo-1-flips",
            ),
            _stored_row(
                "Fashion-MNIST",
                "four in one",
                "FRePo, batch norm, 32 to 128 channels",
                "fashion-multi-formation-frepo-1-batch-norm",
                style="bold",
            ),
            _stored_row("CIFAR-10", "four in one", "DM", "cifar10-multi-formation-dm-1"),
            _stored_row("CIFAR-10", "four in one", "IDC", "cifar10-idc-1"),
            _stored_row("CIFAR-10", "four in one", "FRePo", "cifar10-multi-formation-frepo-1", style="bold"),
            _stored_row("CIFAR-10", "34 bases", "FRePo", "cifar10-bases-frepo-1"),
            _stored_row(
                "CIFAR-10",
                "four in one",
                "FRePo, 32 to 128 channels",
                "cifar10-multi-formation-frepo-1-narrow",
            ),
        ),
    ),
    "idc": Table(
        ("IDC", "outer steps", "networks", "real images", "ours", "n", "published, 200,000 steps"),
        (
            _idc_row("MNIST", "500, as published", "mnist-idc-1", "mnist"),
            _idc_row("Fashion-MNIST", "500, as published", "fashion-idc-1", "fashion_mnist"),
            _idc_row("CIFAR-10", "500, published 2,000", "cifar10-idc-1", "cifar10"),
        ),
    ),
    "kernel inducing points": Table(
        ("regression on", "test accuracy, %", "n", "published"),
        (
            *itertools.chain.from_iterable(
                _kernel_rows(name, what, per_class) for name, (what, per_class) in KIP_RECORDS.items()
            ),
            _first(
                "a hundred images of MNIST, 12,000 outer steps",
                KIP_LONGER,
                ("mnist, fully connected kernel", "10"),
            ),
            (*single("the same, trained by 1,024 hidden units", KIP_LONGER, "finite", "test_accuracy"), ""),
        ),
    ),
    "feature regression": Table(
        ("ten images of", "outer steps, real images in each", "ours", "n", "published (500,000 of 1,024)"),
        tuple(_regressed_row(title, *rest) for title, rest in _REGRESSED.items()),
    ),
    "feature regression, one thing changed": Table(
        ("MNIST, ten images", "validation", "test accuracy, %", "n"),
        tuple(itertools.starmap(_pool_row, _POOLS.items())),
    ),
    "implicit regression": Table(
        ("ten images of", "outer steps, real images in each", "ours", "n", "published (10,000 of 1,024)"),
        (
            (
                "**MNIST**",
                "400 of 256",
                *_first("", "mnist-implicit-regression-1", ("RCIG, 1 image per class", "mnist"))[1:],
            ),
        ),
    ),
    "outer recipe": Table(
        (
            "bound on the gradient's norm",
            "rate of the images",
            "rate of the learning rates",
            "M",
            "validation accuracy",
            "seconds",
            "record",
        ),
        tuple(itertools.starmap(_outer_recipe_row, _OUTER_RECIPES.items())),
    ),
    "speed": Table(
        (
            "",
            "ours, ms",
            "n",
            "MiB above start",
            "the original's, ms",
            "MiB",
            "direct-convolution equivalent, of the peak",
            "executed, of the peak",
        ),
        tuple(itertools.starmap(_work_row, _WORK.items())),
    ),
    "huge pages": Table(
        ("", "pages of 4 KiB", "huge pages", "n"),
        tuple(itertools.starmap(_pages_row, _PAGES.items())),
    ),
    "gpu": Table(
        (
            "ConvNet-3, one image per class",
            "steps in a second, at best",
            "on average",
            "seconds to compile",
            "two CPU cores, on average",
        ),
        tuple(itertools.starmap(_gpu_row, _GPU_ITEMS.items())),
    ),
    "autotuning": Table(
        (
            "",
            "steps in a second, tuned",
            "level 0",
            "seconds to compile, tuned",
            "level 0",
        ),
        tuple(map(_autotuning_row, record(_GPU)["autotuning"])),
    ),
    "convolutions": Table(
        ("", *(f"`{form}`" for form in _CONV_FORMS)), tuple(itertools.starmap(_conv_row, _CONV_ITEMS.items()))
    ),
    "regression": Table(
        ("one core", "ours, ms", "n", "forward pass alone, ms", "MiB", "executed, of the peak"),
        tuple(itertools.starmap(_regression_row, _REGRESSIONS.items())),
    ),
    "memory": Table(
        ("`--memory`", "keeps", "computes again", "MiB", "ms"),
        tuple(itertools.starmap(_memory_row, _MEMORY.items())),
    ),
    "calls": Table(
        ("", "the compiler says, MiB", "a call takes, MiB", "taken of said", "with two threads"),
        tuple(itertools.starmap(_call_row, _WORK.items())),
    ),
    "scale": Table(
        (
            "data",
            "images per class",
            "real data",
            "φ and states, DC or DM",
            "φ and states, unrolled",
            "sent by each of 8",
            "of 64",
            "of 256",
            "held by one H100",
        ),
        tuple(_scale_row(data, count) for data in _SCALE_DATA for count in (1, 10, 50)),
    ),
    "scale, at work": Table(
        ("data", "images per class", "unrolled", "DC", "DM"),
        tuple(_worked_row(data, count) for data in _SCALE_DATA for count in (1, 10, 50)),
    ),
}


# Launchers.

LAUNCHER = re.compile(r"\blaunch\.main\(|^LAUNCHER = ", re.MULTILINE)


class Head(NamedTuple):
    """The parts of a launcher's docstring.

    Attributes:
        title: the first sentence.
        claim: the number of a record that the launcher shows; or "none" and why.
        cost: the time and machine that the claim took; or "not recorded".
        records: the files with the numbers, relative to `experiments/`.
        commands: the examples of a command, without line breaks.
    """

    title: str
    claim: str
    cost: str
    records: tuple[str, ...]
    commands: tuple[str, ...]


def launchers() -> dict[str, Path]:
    """The files of `experiments/` that start an experiment.

    Returns:
        The files, by the names of the launchers.
    """
    files = sorted((ROOT / "experiments").glob("*.py"))
    return {file.stem: file for file in files if LAUNCHER.search(file.read_text())}


def _field(text: str, name: str) -> str:
    """The paragraph that starts with `name:`, up to the next field or an empty line."""
    found = re.search(rf"^{name}: (.*?)(?=\n[A-Z][a-z]+: |\n\n|\Z)", text, re.MULTILINE | re.DOTALL)
    return "" if found is None else " ".join(found[1].split())


def head(file: Path) -> Head:
    """The parts of a launcher's docstring.

    Args:
        file: the file of the launcher.

    Returns:
        The parts.

    Raises:
        ValueError: there is no docstring, or the docstring has no claim, cost or command.
    """
    text = ast.get_docstring(ast.parse(file.read_text())) or ""
    lines = (" ".join(line.split()) for line in text.splitlines() if line.startswith("    "))
    commands = tuple(line for line in lines if line.startswith(("python -m ", "bash ")))
    found = Head(
        " ".join(text.split("\n\n")[0].split()),
        _field(text, "Claim"),
        _field(text, "Cost"),
        tuple(name for name in _field(text, "Records").split(", ") if name),
        commands,
    )
    if not (found.title and found.claim and found.cost and found.commands):
        raise ValueError(
            f"{file.name}: expected a docstring with a title, `Claim: ...`, `Cost: ...` and an indented "
            f"command; got {found}. Write what is missing; `Claim: none: ...` where nothing is claimed."
        )
    return found


def wrapped(command: str) -> str:
    """A command on lines of at most 108 characters, broken before flags only: a value may have blanks.

    Args:
        command: the command.

    Returns:
        The lines, as one text.
    """
    flags = command.replace(" ", "\0").replace("\0--", " --")
    lines = textwrap.wrap(flags, 106, break_long_words=False, break_on_hyphens=False)
    return " \\\n  ".join(lines).replace("\0", " ")


def section(name: str, what: Head) -> str:
    """The section of a launcher in `experiments/README.md`.

    Args:
        name: the name of the launcher.
        what: the parts of the launcher's docstring.

    Returns:
        The section in Markdown.
    """
    links = ", ".join(f"[{Path(name).stem}]({name})" for name in what.records)
    shown = f"\nRecords: {links}\n" if links else ""
    commands = "\n".join(map(wrapped, what.commands))
    return (
        f"### {name}\n\n{what.title}\n\n"
        f"**Claim:** {what.claim}\n\n**Cost:** {what.cost}\n{shown}\n```sh\n{commands}\n```\n"
    )


def launcher_list() -> str:
    """All launchers in Markdown: an index, then a section for each.

    Returns:
        The text.
    """
    heads = {name: head(file) for name, file in launchers().items()}
    index = [(f"[{name}](#{name})", what.title) for name, what in heads.items()]
    sections = "\n".join(itertools.starmap(section, heads.items()))
    return f"{markdown(Table(('launcher', 'what it does'), tuple(index)))}\n{sections}"


# Files.


def generated() -> dict[str, Callable[[], str]]:
    """The functions that make the texts between marks, by the name in the marks.

    Returns:
        The functions.
    """
    tables = {name: functools.partial(markdown, table) for name, table in TABLES.items()}
    return {**tables, "launchers": launcher_list}


def with_tables(text: str) -> str:
    """The text of a file with everything between marks made anew.

    Args:
        text: the text of the file.

    Returns:
        The new text.
    """
    for name, make in generated().items():
        begin, end = (re.escape(f"<!-- {name}: {which} -->\n") for which in ("begin", "end"))
        text = re.sub(f"(?<={begin}).*?(?={end})", lambda _, make=make: make(), text, flags=re.DOTALL)
    return text


def main(arguments: Iterable[str] | None = None) -> int:
    """Write or check all files.

    Args:
        arguments: the arguments without the program; by default those of this process.

    Returns:
        The exit code, which is 1 where `--check` finds a difference.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 on a difference")
    is_check = parser.parse_args(None if arguments is None else list(arguments)).check
    stale = [file for file in FILES if file.read_text() != with_tables(file.read_text())]
    for file in stale:
        if is_check:
            print(f"{file.relative_to(ROOT)}: differs from the records; run python scripts/tables.py")
        else:
            file.write_text(with_tables(file.read_text()))
            print(f"{file.relative_to(ROOT)}: written")
    return int(is_check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())

"""A matrix of scores: every artifact trains every network, each from the weights it was distilled for."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ddjax import checks, inits, networks, recipes, recorded_inits, report
from ddjax.data import Dataset, Split
from ddjax.judge import check_fits, check_split, evaluate
from ddjax.launch import artifacts
from ddjax.launch.choices import runs_at_once, strategy
from ddjax.launch.directory import check_workdir
from ddjax.launch.flags import flag, flag_like, listed
from ddjax.launch.kept import Scores
from ddjax.launch.settings import AUGMENTATIONS, DataChoice, Where
from ddjax.launch.types import Keys
from ddjax.recipes import MOST_EPOCHS, Train
from ddjax.types import Distilled, InitDistribution, Network, Recipe

PROTOCOLS: Mapping[str, Train] = {"condensation": Train(protocol="condensation"), "train": Train()}
"""The trainings that `--protocol` may give to every artifact."""

OTHERWISE = "pytorch"
"""The initial weights for an artifact that does not say which it was distilled with."""


@dataclasses.dataclass(frozen=True)
class MatrixChoice:
    """Which artifacts train which networks, and how: the flags of a matrix."""

    artifact: str = flag("", "the distilled.npz files, with commas between them: the rows", path=True)
    networks: str = flag(
        "convnet,lenet,mlp,resnet18",
        "the columns, each with its settings, e.g. convnet:depth=2:width=64; an artifact's own network needs "
        f"its name alone; {', '.join(networks.NAMES)}",
    )
    num_nets: int = flag(5, "unseen initial weights behind each score", low=1)
    protocol: str = flag(
        "own",
        "how to train: as each artifact says, as DC, DSA and DM published, or the plain train; see above",
        choices=("own", "condensation", "train"),
    )
    train_epochs: int | None = flag(
        None,
        "epochs where networks are trained; by default the artifact's, or 300 of the other protocols",
        low=1,
        high=MOST_EPOCHS,
    )
    eval_augment: str | None = flag(
        None, f"augmentation there; {AUGMENTATIONS}; empty for none; by default the artifact's, or none"
    )
    init: str | None = flag(
        None,
        f"what initial weights are drawn from, {', '.join(inits.SCHEMES)}; by default as when distilling",
    )
    dataset: str | None = flag(None, "what to test on; by default the artifacts' own", path=True)
    data_dir: str | None = flag_like(Where, "data_dir")
    resize: int | None = flag_like(
        DataChoice, "resize", help="height and width that all images are brought to; by default as distilled"
    )
    channels: int | None = flag_like(
        DataChoice, "channels", help="channels that grey images are repeated to; by default as distilled"
    )
    workdir: str | None = flag_like(
        Where, "workdir", help="directory of the scores; runs/cross_architecture-DATASET by default"
    )
    seed: int = flag_like(Where, "seed", help="of the initial weights and of training")


class Row(NamedTuple):
    """An artifact.

    Attributes:
        path: the path of the file, as the flag names it.
        digest: the SHA-256 of the file, in hexadecimal.
        distilled: φ, with the recipe that is followed here.
    """

    path: str
    digest: str
    distilled: Distilled


class Matrix(NamedTuple):
    """All artifacts and networks that are scored.

    Attributes:
        data: the data to test on.
        rows: the artifacts.
        columns: the networks, by their titles.
        inits: p(θ0), by the title of the network and the path of the artifact.
        notes: sentences that say what is as in the artifacts, what differs, and what was assumed.
    """

    data: Dataset
    rows: Sequence[Row]
    columns: Mapping[str, Network]
    inits: Mapping[tuple[str, str], InitDistribution]
    notes: Sequence[str]


def recipe_of(config: MatrixChoice, own: Recipe, data: Dataset) -> Recipe:
    """The recipe that is followed for an artifact.

    Args:
        config: the settings.
        own: the recipe that the artifact says itself.
        data: the data to test on.

    Returns:
        The recipe.
    """
    recipe = PROTOCOLS.get(config.protocol, own)
    if not isinstance(recipe, Train):
        return recipe
    if config.train_epochs is not None:
        # In place of a number of steps, which would pass over the epochs asked for.
        recipe = dataclasses.replace(recipe, epochs=config.train_epochs, steps=None)
    if config.eval_augment is not None:
        recipe = dataclasses.replace(recipe, augmentation=strategy(config.eval_augment, data))
    return recipe


def row_of(config: MatrixChoice, path: str, distilled: Distilled, data: Dataset) -> Row:
    """An artifact, with the recipe that the settings choose.

    Args:
        config: the settings.
        path: the path of the file.
        distilled: the content of the file.
        data: the data to test on.

    Returns:
        The row of the matrix.
    """
    distilled = dataclasses.replace(distilled, recipe=recipe_of(config, distilled.recipe, data))
    return Row(path, hashlib.sha256(Path(path).read_bytes()).hexdigest(), distilled)


def full_title(title: str, rows: Sequence[Row]) -> str:
    """The title of a column with its settings: those of the artifacts for the name of their network alone.

    Args:
        title: the title as the flag has it.
        rows: the artifacts.

    Returns:
        The title as `ddjax.networks.by_text` reads it.

    Raises:
        ValueError: artifacts were distilled with networks of this name and different settings.
    """
    if title not in networks.NAMES:
        return title
    own = {
        row.path: networks.as_text(*found)
        for row in rows
        if row.distilled.metadata.get("network") == title
        and row.distilled.metadata.get("network_settings")
        and (found := artifacts.network_of(row.path, row.distilled)) is not None
    }
    if len(set(own.values())) > 1:
        listed = "; ".join(f"{path}: {text}" for path, text in own.items())
        raise ValueError(
            f"networks: {title}: expected one network; the artifacts have different ones of this name: "
            f"{listed}. Name the settings, as here."
        )
    return next(iter(own.values()), title)


def same_examples(one: Split, other: Split) -> bool:
    """Whether two splits have the same raw examples and labels; their encodings may differ.

    Args:
        one: a split.
        other: another split.

    Returns:
        True where all examples and labels are equal, in their order.
    """
    return np.array_equal(one.raw, other.raw) and np.array_equal(one.labels, other.labels)


def starts_of(
    config: MatrixChoice, rows: Sequence[Row], columns: Mapping[str, Network]
) -> tuple[dict[tuple[str, str], InitDistribution], list[str]]:
    """p(θ0) of every network for every artifact; one object for all that start alike.

    What is compiled for one artifact then serves the next.

    Args:
        config: the settings.
        rows: the artifacts.
        columns: the networks, by their titles.

    Returns:
        The distributions by title and path, and a note for each artifact and p(θ0).

    Raises:
        ValueError: an artifact was distilled for weights that are not in it, and the flags name no others.
    """
    distributions, notes = {}, []
    for title, network in columns.items():
        known: dict[str, InitDistribution] = {}
        for row in rows:
            if config.init is not None:
                own = recorded_inits.recorded(row.distilled.metadata, where=row.path)
                start = artifacts.start_by_flags(
                    own, network, scheme=config.init, gain=None, otherwise=OTHERWISE
                )
            else:
                start = artifacts.start_of_artifact(row.path, row.distilled, network, otherwise=OTHERWISE)
            same = json.dumps(dict(start.inits.settings), sort_keys=True)
            distributions[title, row.path] = known.setdefault(same, start.inits)
            notes.append(f"{row.path}: {start.note}")
    return distributions, list(dict.fromkeys(notes))


def prepare(config: MatrixChoice) -> Matrix:
    """Read the artifacts and build the networks. Nothing is compiled and nothing is written.

    Args:
        config: the settings.

    Returns:
        The artifacts and networks.

    Raises:
        ValueError: the settings do not fit each other, the artifacts or the data; the artifacts are of
            different data; or a network does not fit the images.
        FileNotFoundError: there is no such artifact, or no such data.
    """
    paths, titles = listed("artifact", config.artifact), listed("networks", config.networks)
    if config.init is not None:
        checks.choice("init", config.init, inits.SCHEMES)
    rows, data, notes = [], None, []
    form = DataChoice(resize=config.resize, channels=config.channels)
    for path in paths:
        distilled, own_data, about = artifacts.opened(
            path, form, dataset=config.dataset, data_dir=config.data_dir
        )
        data = data or own_data
        remedy = "Compare artifacts of one data set, or give --dataset=..., the data to test all of them on."
        checks.equal(f"{path}: dataset", own_data.name, data.name, remedy=remedy)
        if not same_examples(own_data.test, data.test):
            raise ValueError(
                f"{path}: expected the test images of {paths[0]}; got others of {data.name}. {remedy}"
            )
        if not same_examples(own_data.train, data.train):
            about = (*about, f"differs: a training split of {data.name} that {paths[0]} does not have")
        notes += [f"{path}: {note}" for note in about]
        rows.append(row_of(config, path, distilled, data))
    assert data is not None
    given = [name for name in ("train_epochs", "eval_augment") if getattr(config, name) is not None]
    if given and not any(isinstance(row.distilled.recipe, Train) for row in rows):
        raise ValueError(
            f"{given[0]}: expected an artifact that networks are trained on; got schedules alone, which are "
            "replayed as they are. Leave it out, or give --protocol=condensation."
        )
    columns = {
        title: networks.by_text(title, data.input_shape, data.num_classes)
        for title in (full_title(one, rows) for one in titles)
    }
    for network in columns.values():
        check_split(data.test, network)
        for row in rows:
            check_fits(row.distilled, network)
    distributions, about_inits = starts_of(config, rows, columns)
    return Matrix(data, rows, columns, distributions, (*notes, *about_inits))


def cell_name(row: Row, title: str) -> str:
    """The name of a score.

    Args:
        row: the artifact.
        title: the title of the network.

    Returns:
        The name.
    """
    return f"{row.path} on {title}"


def unchanged(matrix: Matrix, config: MatrixChoice, *, experiment: str) -> Path:
    """The work directory; artifacts whose files have changed since its scores were measured are refused.

    Args:
        matrix: the artifacts and networks to score.
        config: the settings that the directory must have been started with.
        experiment: the name of the launcher that the directory must belong to.

    Returns:
        The directory, which need not exist.

    Raises:
        ValueError: a file has changed, or the directory belongs to something else (see
            `ddjax.launch.check_workdir`).
    """
    workdir = Path(config.workdir or f"runs/{experiment}-{Path(matrix.data.name).stem}")
    if (workdir / "scores.json").exists():
        check_workdir(workdir, config, experiment=experiment)
        digests = {score.get("artifact"): score.get("sha256") for score in Scores(workdir).known.values()}
        for row in matrix.rows:
            if digests.get(row.path, row.digest) != row.digest:
                raise ValueError(
                    f"{row.path}: expected the artifact that {workdir} has scores of; the file has changed "
                    "since. Give --workdir another directory."
                )
    return workdir


def measure(config: MatrixChoice, matrix: Matrix, scores: Scores) -> dict[str, Any]:
    """What `result.json` says of a matrix; each score is kept as soon as it is known.

    Args:
        config: the settings.
        matrix: the artifacts and networks to score.
        scores: the scores that are known already, to which the others are added.

    Returns:
        The findings.
    """
    wanted = {
        cell_name(row, title): functools.partial(_score, config, matrix, row, title)
        for title in matrix.columns
        for row in matrix.rows
    }
    known = scores.each(wanted)
    return {
        "protocol": config.protocol,
        "networks": {title: networks.num_weights(network) for title, network in matrix.columns.items()},
        "artifacts": {row.path: _facts(row, matrix) for row in matrix.rows},
        "notes": list(matrix.notes),
        "matrix": {
            row.path: {title: known[cell_name(row, title)] for title in matrix.columns} for row in matrix.rows
        },
    }


def _score(config: MatrixChoice, matrix: Matrix, row: Row, title: str) -> dict[str, Any]:
    """The score of a network that trains on an artifact, with the facts that are recorded with it."""
    began = time.monotonic()
    score = evaluate(
        row.distilled,
        matrix.columns[title],
        matrix.inits[title, row.path],
        matrix.data.test,
        key=Keys.of(config.seed).test,
        num_inits=config.num_nets,
        runs_per_chunk=runs_at_once(config.num_nets),
    )
    facts = {"artifact": row.path, "sha256": row.digest, "seconds": time.monotonic() - began}
    return {**score.as_dict(), **facts}


def _facts(row: Row, matrix: Matrix) -> dict[str, Any]:
    """The facts about an artifact that the record holds."""
    steps, images = row.distilled.schedule.inputs.shape[:2]
    own = {name: row.distilled.metadata.get(name) for name in ("experiment", "method", "network")}
    recipe = recipes.as_dict(row.distilled.recipe)
    names = dict.fromkeys(matrix.inits[title, row.path].name for title in matrix.columns)
    facts = {"images": steps * images, "init": ", ".join(names), "recipe": recipe, "sha256": row.digest}
    return {**own, **facts}


def table(result: Mapping[str, Any]) -> str:
    """The matrix as text: a row for each artifact, a column for each network.

    Args:
        result: the content of `result.json`.

    Returns:
        The text.
    """
    titles = list(result["networks"])
    rows = [
        (path, *(report.format_score(row[title]) for title in titles))
        for path, row in result["matrix"].items()
    ]
    return report.table(rows, ("test accuracy, %", *titles))

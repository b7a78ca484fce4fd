"""Cross-architecture table: every artifact trains every network; test accuracies as a matrix.

Each artifact is followed as it says: a `schedule` is replayed with its learned rates, under `train` networks
are trained on its images. `--protocol=train` gives all the published training instead (SGD with momentum 0.9
and weight decay 5e-4, its rate falling to a tenth at half of the epochs). A network starts from the same
initial weights for all artifacts that are scored under one --init. Settings of a network follow its name,
with colons between them. The work directory keeps each score as it comes: a stopped run continues with the
next one.

    python -m experiments.cross_architecture --artifact=runs/dc/distilled.npz,runs/dm/distilled.npz \
        --networks=convnet,convnet:depth=2:width=64,lenet,mlp,resnet18
    python -m experiments.cross_architecture --artifact=runs/random_init-mnist/distilled.npz \
        --networks=lenet,mlp:widths=64x64 --protocol=train --train_epochs=1000 --eval_augment=dsa
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from ddjax import checks, inits, networks, report
from ddjax.data import Dataset
from ddjax.evaluate import check_fits, check_split, evaluate
from ddjax.launch import Keys, Launcher, Scores, check_workdir, once, results
from ddjax.launch.choices import runs_at_once, strategy
from ddjax.launch.flags import flag, flag_like, listed
from ddjax.launch.settings import AUGMENTATIONS, DataChoice, Where
from ddjax.types import Distilled, InitDistribution, Network, Recipe
from experiments import evaluate as evaluation

OTHERWISE = "pytorch"
"""Initial weights for an artifact that does not say what it was distilled with."""


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of a matrix."""

    artifact: str = flag("", "the distilled.npz files, with commas between them: the rows")
    networks: str = flag(
        "convnet,lenet,mlp,resnet18",
        f"the columns, each with its settings, e.g. convnet:depth=2:width=64; {', '.join(networks.NAMES)}",
    )
    num_nets: int = flag(5, "unseen initial weights behind each score", low=1)
    protocol: str = flag(
        "own", "how to train: each artifact's own recipe, or the published training", choices=("own", "train")
    )
    train_epochs: int | None = flag(
        None,
        "epochs where networks are trained; by default the artifact's, or 300 of --protocol=train",
        low=1,
    )
    eval_augment: str | None = flag(
        None, f"augmentation there; {AUGMENTATIONS}; empty for none; by default the artifact's, or none"
    )
    init: str | None = flag(
        None,
        f"what initial weights are drawn from, {', '.join(inits.SCHEMES)}; by default as when distilling",
    )
    dataset: str | None = flag(None, "what to test on; by default the artifacts' own")
    data_dir: str | None = flag_like(Where, "data_dir")
    resize: int | None = flag_like(DataChoice, "resize")
    channels: int | None = flag_like(DataChoice, "channels")
    workdir: str | None = flag_like(
        Where, "workdir", help="directory of the scores; runs/cross_architecture-DATASET by default"
    )
    seed: int = flag_like(Where, "seed", help="of the initial weights and of training")


class Row(NamedTuple):
    """An artifact.

    Attributes:
        path: as the flag names it.
        digest: SHA-256 of the file, in hexadecimal.
        distilled: φ, with the recipe that is followed here.
        scheme: of the initial weights.
    """

    path: str
    digest: str
    distilled: Distilled
    scheme: str


class Matrix(NamedTuple):
    """All that is scored.

    Attributes:
        data: to test on.
        rows: the artifacts.
        columns: networks by their titles.
        inits: p(θ0) by network's title and scheme.
    """

    data: Dataset
    rows: Sequence[Row]
    columns: Mapping[str, Network]
    inits: Mapping[tuple[str, str], InitDistribution]


def _evaluation(config: Config, path: str) -> evaluation.Config:
    """The settings of a single artifact's evaluation."""
    form = {name: getattr(config, name) for name in ("dataset", "data_dir", "resize", "channels")}
    return evaluation.Config(artifact=path, baselines=False, **form)


def network_of(text: str, data: Dataset) -> Network:
    """A network of `--networks` for these images and classes.

    Args:
        text: `"name"` or `"name:setting=value:setting=value"`; a value is a whole number, several with `x`
            between them, or a name.
        data: what it must fit.

    Raises:
        ValueError: no such network or setting, or it does not fit the images.
    """
    name, *given = text.split(":")
    settings = {}
    for one in given:
        setting, _, value = one.partition("=")
        if setting in evaluation.FROM_ELSEWHERE or not value:
            raise ValueError(
                f"networks: {text}: expected settings as in convnet:depth=2:width=64; got {one!r}. Give the "
                "network's own, each with its value."
            )
        settings[setting] = _value(value)
    try:
        return networks.by_name(name, data.image_shape, data.num_classes, **settings)
    except ValueError as error:
        raise ValueError(f"networks: {text}: {error}") from error


def _value(text: str) -> int | str | tuple[int, ...]:
    """`64`, `(64, 32)` of `"64x32"`, `(64,)` of `"64x"`, or the text."""
    parts = text.removesuffix("x").split("x")
    if not all(part.isdecimal() for part in parts):
        return text
    numbers = tuple(int(part) for part in parts)
    return numbers if "x" in text else numbers[0]


def recipe_of(config: Config, own: Recipe, data: Dataset) -> Recipe:
    """What is followed for an artifact with a recipe of its own."""
    recipe = Recipe("train") if config.protocol == "train" else own
    if recipe.kind == "schedule":
        return recipe
    if config.train_epochs is not None:
        recipe = dataclasses.replace(recipe, epochs=config.train_epochs)
    if config.eval_augment is not None:
        recipe = dataclasses.replace(recipe, augmentation=strategy(config.eval_augment, data))
    return recipe


def row_of(config: Config, path: str, distilled: Distilled, data: Dataset) -> Row:
    """An artifact as it is followed here."""
    own = distilled.metadata.get("init")
    scheme = config.init or (own if own in inits.SCHEMES else OTHERWISE)
    distilled = dataclasses.replace(distilled, recipe=recipe_of(config, distilled.recipe, data))
    return Row(path, hashlib.sha256(Path(path).read_bytes()).hexdigest(), distilled, scheme)


def prepare(config: Config) -> Matrix:
    """Everything before the first computation; nothing is compiled or written.

    Raises:
        ValueError: settings that do not fit each other, the artifacts or the data; artifacts of different
            data; a network that does not fit the images.
        FileNotFoundError: there is no such artifact, or no such data.
    """
    paths, titles = listed("artifact", config.artifact), listed("networks", config.networks)
    if config.init is not None:
        checks.choice("init", config.init, inits.SCHEMES)
    rows, data = [], None
    for path in paths:
        distilled, own_data = evaluation.prepare(_evaluation(config, path))
        data = data or own_data
        remedy = "Compare artifacts of one data set, or give --dataset=..., the data to test all of them on."
        checks.equal(f"{path}: dataset", own_data.name, data.name, remedy=remedy)
        rows.append(row_of(config, path, distilled, data))
    assert data is not None
    given = [name for name in ("train_epochs", "eval_augment") if getattr(config, name) is not None]
    if given and all(row.distilled.recipe.kind == "schedule" for row in rows):
        raise ValueError(
            f"{given[0]}: expected an artifact that networks are trained on; got schedules alone, which are "
            "replayed as they are. Leave it out, or give --protocol=train."
        )
    columns = {title: network_of(title, data) for title in titles}
    for network in columns.values():
        check_split(data.test, network)
        for row in rows:
            check_fits(row.distilled, network)
    # One p(θ0) for all rows: what is compiled for one artifact serves the next.
    schemes = dict.fromkeys(row.scheme for row in rows)
    distributions = {
        (title, scheme): inits.random(network, scheme=scheme)
        for title, network in columns.items()
        for scheme in schemes
    }
    return Matrix(data, rows, columns, distributions)


def cell_name(row: Row, title: str) -> str:
    """Of a score."""
    return f"{row.path} on {title}"


def check_unchanged(matrix: Matrix, workdir: Path, config: Any, *, experiment: str) -> None:
    """Refuse artifacts that are others than those whose scores are in the work directory.

    Args:
        matrix: what is asked for.
        workdir: of an earlier start, if there was one.
        config: the settings that it must be of.
        experiment: likewise.

    Raises:
        ValueError: as said; or see `ddjax.launch.check_workdir`.
    """
    if not (workdir / "scores.json").exists():
        return
    check_workdir(workdir, config, experiment=experiment)
    digests = {score.get("artifact"): score.get("sha256") for score in Scores(workdir).known.values()}
    for row in matrix.rows:
        if digests.get(row.path, row.digest) != row.digest:
            raise ValueError(
                f"{row.path}: expected the artifact that {workdir} has scores of; the file has changed "
                "since. Give --workdir another directory."
            )


def measure(config: Config, matrix: Matrix, scores: Scores) -> dict[str, Any]:
    """What `result.json` holds; each score is added to the known ones as it comes."""
    began, keys = time.monotonic(), Keys.of(config.seed)
    for title, network in matrix.columns.items():
        for row in matrix.rows:
            name, scoring = cell_name(row, title), time.monotonic()
            if name in scores.known:
                continue
            score = evaluate(
                row.distilled,
                network,
                matrix.inits[title, row.scheme],
                matrix.data.test,
                key=keys.test,
                num_inits=config.num_nets,
                runs_per_chunk=runs_at_once(config.num_nets),
            )
            facts = {"artifact": row.path, "sha256": row.digest, "seconds": time.monotonic() - scoring}
            scores.add(name, {**score.as_dict(), **facts})
    found = {
        "protocol": config.protocol,
        "networks": {title: _num_weights(network) for title, network in matrix.columns.items()},
        "artifacts": {row.path: _facts(row) for row in matrix.rows},
        "matrix": {
            row.path: {title: scores.known[cell_name(row, title)] for title in matrix.columns}
            for row in matrix.rows
        },
    }
    seconds = {"total": time.monotonic() - began}
    return results.record("cross_architecture", matrix.data.name, found, seconds=seconds, seed=config.seed)


def _num_weights(network: Network) -> int:
    weights = jax.eval_shape(network.init, jax.random.key(0))
    return sum(leaf.size for leaf in jax.tree.leaves(weights))


def _facts(row: Row) -> dict[str, Any]:
    """What the record says of an artifact."""
    steps, images = row.distilled.schedule.inputs.shape[:2]
    own = {name: row.distilled.metadata.get(name) for name in ("experiment", "method", "network")}
    recipe = dataclasses.asdict(row.distilled.recipe)
    return {**own, "images": steps * images, "init": row.scheme, "recipe": recipe, "sha256": row.digest}


def table(result: Mapping[str, Any]) -> str:
    """The matrix: a row for each artifact, a column for each network."""
    titles = list(result["networks"])
    rows = [
        (path, *(report.format_mean_std(row[title]["values"]) for title in titles))
        for path, row in result["matrix"].items()
    ]
    return report.table(rows, ("test accuracy, %", *titles))


def run(config: Config) -> dict[str, Any]:
    """Train every network on every artifact, test, print and return the matrix; or find it measured.

    Raises:
        ValueError: see `prepare`; or the work directory is another's, or its artifacts have changed.
        FileNotFoundError: see `prepare`.
    """
    matrix = prepare(config)
    workdir = Path(config.workdir or f"runs/cross_architecture-{Path(matrix.data.name).stem}")
    check_unchanged(matrix, workdir, config, experiment="cross_architecture")
    return once(
        workdir,
        config,
        lambda: measure(config, matrix, Scores(workdir)),
        experiment="cross_architecture",
        what=f"{len(matrix.rows)} artifact(s) on {matrix.data.name}, {len(matrix.columns)} network(s), "
        f"{config.num_nets} initial weights each",
        written="scores.json, result.json",
        table=table,
    )


LAUNCHER = Launcher("cross_architecture", __doc__, Config, run=run)

if __name__ == "__main__":
    LAUNCHER.main()

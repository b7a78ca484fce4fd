"""Cross-architecture table: every artifact trains every network; test accuracies as a matrix.

Each artifact is trained on as it says itself: a `schedule` is replayed with its learned rates, under `train`
networks are trained on its images. `--protocol=condensation` gives every artifact the training behind the
numbers that DC, DSA and DM published instead (SGD with momentum 0.9 and weight decay 5e-4 for E + 1 epochs;
after E // 2 + 2 of them its rate falls to a tenth and its momentum starts anew), `--protocol=train` a plain
one (E epochs, the rate falls at half of the steps), beside which no published number belongs. A network
starts from the same initial weights for all artifacts that are scored under one --init. The settings of a
network follow its name, with colons between them. The work directory keeps each score as it comes: a stopped
run continues with the next score.

Claim: MNIST, one image per class, three networks each: DC's images, distilled with a ConvNet-3, train a LeNet
to 85.1 ± 1.6, an MLP to 72.6 ± 1.9, a ResNet-18 to 88.4 ± 0.9; a ConvNet-3 to 91.6 ± 0.3.
Cost: 3,420 s of two CPU cores for three artifacts and four networks, beside other runs.
Records: results/cross-architecture-mnist-1.json

    python -m experiments.cross_architecture --artifact=runs/dc/distilled.npz,runs/dm/distilled.npz \
        --networks=convnet,convnet:depth=2:width=64,lenet,mlp,resnet18
    python -m experiments.cross_architecture --artifact=runs/random_init-mnist/distilled.npz \
        --networks=lenet,mlp:widths=64x64 --protocol=condensation --train_epochs=1000 --eval_augment=dsa
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ddjax import checks, inits, networks, recipes, report
from ddjax.data import Dataset
from ddjax.evaluate import check_fits, check_split, evaluate
from ddjax.launch import Keys, Launcher, Scores, artifacts, check_workdir, once, results
from ddjax.launch.choices import runs_at_once, strategy
from ddjax.launch.flags import flag, flag_like, listed
from ddjax.launch.settings import AUGMENTATIONS, DataChoice, Where
from ddjax.recipes import Train
from ddjax.types import Distilled, InitDistribution, Network, Recipe

PROTOCOLS: Mapping[str, Train] = {"condensation": Train(protocol="condensation"), "train": Train()}
"""The trainings that `--protocol` may give to every artifact."""

OTHERWISE = "pytorch"
"""The initial weights for an artifact that does not say which it was distilled with."""


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
        "own",
        "how to train: as each artifact says, as DC, DSA and DM published, or the plain train; see above",
        choices=("own", "condensation", "train"),
    )
    train_epochs: int | None = flag(
        None,
        "epochs where networks are trained; by default the artifact's, or 300 of the other protocols",
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
        path: the path of the file, as the flag names it.
        digest: the SHA-256 of the file, in hexadecimal.
        distilled: φ, with the recipe that is followed here.
        scheme: the name of the distribution that initial weights are drawn from.
    """

    path: str
    digest: str
    distilled: Distilled
    scheme: str


class Matrix(NamedTuple):
    """All artifacts and networks that are scored.

    Attributes:
        data: the data to test on.
        rows: the artifacts.
        columns: the networks, by their titles.
        inits: p(θ0), by the title of the network and the name of the scheme.
    """

    data: Dataset
    rows: Sequence[Row]
    columns: Mapping[str, Network]
    inits: Mapping[tuple[str, str], InitDistribution]


def recipe_of(config: Config, own: Recipe, data: Dataset) -> Recipe:
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
        recipe = dataclasses.replace(recipe, epochs=config.train_epochs)
    if config.eval_augment is not None:
        recipe = dataclasses.replace(recipe, augmentation=strategy(config.eval_augment, data))
    return recipe


def row_of(config: Config, path: str, distilled: Distilled, data: Dataset) -> Row:
    """An artifact, with the recipe and the initial weights that the settings choose.

    Args:
        config: the settings.
        path: the path of the file.
        distilled: the content of the file.
        data: the data to test on.

    Returns:
        The row of the matrix.
    """
    own = distilled.metadata.get("init")
    scheme = config.init or (own if own in inits.SCHEMES else OTHERWISE)
    distilled = dataclasses.replace(distilled, recipe=recipe_of(config, distilled.recipe, data))
    return Row(path, hashlib.sha256(Path(path).read_bytes()).hexdigest(), distilled, scheme)


def prepare(config: Config) -> Matrix:
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
    rows, data = [], None
    form = DataChoice(resize=config.resize, channels=config.channels)
    for path in paths:
        distilled, own_data = artifacts.opened(path, form, dataset=config.dataset, data_dir=config.data_dir)
        data = data or own_data
        remedy = "Compare artifacts of one data set, or give --dataset=..., the data to test all of them on."
        checks.equal(f"{path}: dataset", own_data.name, data.name, remedy=remedy)
        rows.append(row_of(config, path, distilled, data))
    assert data is not None
    given = [name for name in ("train_epochs", "eval_augment") if getattr(config, name) is not None]
    if given and not any(isinstance(row.distilled.recipe, Train) for row in rows):
        raise ValueError(
            f"{given[0]}: expected an artifact that networks are trained on; got schedules alone, which are "
            "replayed as they are. Leave it out, or give --protocol=condensation."
        )
    columns = {title: networks.by_text(title, data.image_shape, data.num_classes) for title in titles}
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
    """The name of a score.

    Args:
        row: the artifact.
        title: the title of the network.

    Returns:
        The name.
    """
    return f"{row.path} on {title}"


def check_unchanged(matrix: Matrix, workdir: Path, config: Any, *, experiment: str) -> None:
    """Refuse artifacts whose files have changed since the scores in the work directory were measured.

    Args:
        matrix: the artifacts and networks to score.
        workdir: the work directory, which need not exist.
        config: the settings that the directory must have been started with.
        experiment: the name of the launcher that the directory must belong to.

    Raises:
        ValueError: a file has changed, or the directory belongs to something else (see
            `ddjax.launch.check_workdir`).
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
    """The content of `result.json`; each score is kept as soon as it is known.

    Args:
        config: the settings.
        matrix: the artifacts and networks to score.
        scores: the scores that are known already, to which the others are added.

    Returns:
        The record.
    """
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
        "networks": {title: networks.num_weights(network) for title, network in matrix.columns.items()},
        "artifacts": {row.path: _facts(row) for row in matrix.rows},
        "matrix": {
            row.path: {title: scores.known[cell_name(row, title)] for title in matrix.columns}
            for row in matrix.rows
        },
    }
    seconds = {"total": time.monotonic() - began}
    return results.record("cross_architecture", matrix.data.name, found, seconds=seconds, seed=config.seed)


def _facts(row: Row) -> dict[str, Any]:
    """The facts about an artifact that the record holds."""
    steps, images = row.distilled.schedule.inputs.shape[:2]
    own = {name: row.distilled.metadata.get(name) for name in ("experiment", "method", "network")}
    recipe = recipes.as_dict(row.distilled.recipe)
    return {**own, "images": steps * images, "init": row.scheme, "recipe": recipe, "sha256": row.digest}


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


def run(config: Config) -> dict[str, Any]:
    """Train every network on every artifact, test, print and return the matrix; or find it measured.

    Args:
        config: the settings.

    Returns:
        The content of `result.json`.

    Raises:
        ValueError: see `prepare`; or the work directory belongs to other settings, or a file of an artifact
            has changed.
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

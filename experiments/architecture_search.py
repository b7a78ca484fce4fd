"""Architecture search: how well a few distilled images rank a space of networks, against all training images.

Every network of the space trains on each artifact, as in `experiments.cross_architecture` but scored on the
validation split, and on the whole training split, scored on the test split. An artifact is a good stand-in
where its accuracies order the networks as those of the whole data do (Spearman's ρ), and where the network
that it would choose is nearly as good as the best there is. The distilled images are compared with the
artifacts of `experiments.coreset`, such as random.npz. The work directory keeps each score as it comes: a
stopped run continues with the next score.

Claim: 24 ConvNets, the embedded digits, one image per class: ρ is 0.86 for distribution matching, 0.76 for
random real images, 0.64 for herding. The network chosen reaches 96.7, 96.1 and 94.4 % when it is trained on
all images; the best of all networks reaches 96.9 %.
Cost: 1,063 s of two CPU cores beside four other runs, 384 s of them for training on all images; most of the
time goes into compiling 24 networks three times.
Records: results/architecture-search-digits.json

    python -m experiments.architecture_search --artifact=runs/dm/distilled.npz,runs/coreset/random.npz
    python -m experiments.architecture_search --artifact=runs/dm/distilled.npz \
        --networks=convnet:width=16,convnet:width=32:norm=none,lenet,mlp --whole_epochs=3

References:
    Zhao, Mopuri and Bilen 2021, arXiv 2006.05929, and Zhao and Bilen 2023, arXiv 2110.04181: 720 ConvNets.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ddjax import baselines, checks, figures, report
from ddjax.launch import Keys, Launcher, Scores, flag, flag_like, inputs_of, once, results, runs_at_once
from ddjax.launch import matrix as matrices
from ddjax.launch.matrix import Matrix, MatrixChoice
from ddjax.ranking import agreement

SPACE = tuple(
    f"convnet:depth={depth}:width={width}:norm={norm}:pooling={pooling}"
    for depth, width, norm, pooling in itertools.product(
        (1, 2), (8, 32), ("instance", "layer", "none"), ("avg", "max")
    )
)
"""24 small ConvNets, for images of 8 x 8 pixels and more."""

WHOLE = "whole training set"


@dataclasses.dataclass(frozen=True)
class Config(MatrixChoice):
    """The settings of a comparison."""

    networks: str = flag(",".join(SPACE), "the space, each network as in `ddjax cross_architecture`")
    num_nets: int = flag_like(
        MatrixChoice,
        "num_nets",
        default=3,
        help="unseen initial weights behind each score on an artifact",
    )
    whole_epochs: int = flag(6, "passes over the whole training split", low=1)
    whole_lr: float = flag(0.01, "learning rate of that training", positive=True)
    num_whole_nets: int = flag(1, "initial weights behind each score of it", low=1)
    workdir: str | None = flag_like(
        MatrixChoice,
        "workdir",
        help="directory of the scores; runs/architecture_search-DATASET by default",
    )


def measure_whole(config: Config, matrix: Matrix, scores: Scores) -> None:
    """Train every network on all training images; each score is kept as soon as it is known.

    Args:
        config: the settings.
        matrix: the networks, and the data to train and test on.
        scores: the scores that are known already, to which the others are added.
    """
    recipe = dataclasses.replace(results.FULL_DATA, lr=config.whole_lr, epochs=config.whole_epochs)
    for title, network in matrix.columns.items():
        name, scoring = whole_name(title), time.monotonic()
        if name in scores.known:
            continue
        found = baselines.all_data(
            matrix.data,
            network,
            matrix.inits[title, matrix.rows[0].path],
            key=Keys.of(config.seed).baselines,
            num_inits=config.num_whole_nets,
            recipe=recipe,
            runs_per_chunk=runs_at_once(config.num_whole_nets),
        )
        scores.add(name, {**found.as_dict(), "seconds": time.monotonic() - scoring})


def whole_name(title: str) -> str:
    """The name of the score of a network that was trained on all training images.

    Args:
        title: the title of the network.

    Returns:
        The name.
    """
    return f"{WHOLE} on {title}"


def measure(config: Config, matrix: Matrix, workdir: Path) -> dict[str, Any]:
    """The content of `result.json`: all scores, and how far each artifact orders the networks as all data do.

    The figure of the scores is drawn too.

    Args:
        config: the settings.
        matrix: the networks and artifacts.
        workdir: the directory of the scores and the figure.

    Returns:
        The record.
    """
    began, scores = time.monotonic(), Scores(workdir)
    # A network is chosen by these scores, so they must not be those of the test split.
    held_out = dataclasses.replace(matrix.data, test=matrix.data.validation)
    result = matrices.measure(config, matrix._replace(data=held_out), scores)
    measure_whole(config, matrix, scores)
    whole = {title: scores.known[whole_name(title)] for title in matrix.columns}
    proxies = {
        path: agreement(
            [row[t]["mean"] for t in whole], [score["mean"] for score in whole.values()]
        )._asdict()
        | {"seconds": sum(row[title]["seconds"] for title in whole)}
        for path, row in result["matrix"].items()
    }
    seconds = {"total": time.monotonic() - began, "whole": sum(one["seconds"] for one in whole.values())}
    result |= {"experiment": "architecture_search", "whole": whole, "proxies": proxies, "seconds": seconds}
    return result


def table(result: Mapping[str, Any]) -> str:
    """A row for each artifact, and a last row for the whole training set, whose rank correlation is 1.

    The network chosen in the last row is the best of all, as measured on the test split.

    Args:
        result: the content of `result.json`.

    Returns:
        The table as text.
    """
    titles, whole = list(result["whole"]), result["whole"]
    best = max(titles, key=lambda title: whole[title]["mean"])
    rows = [
        (
            path,
            "–" if one["rank_correlation"] is None else f"{one['rank_correlation']:.2f}",
            titles[one["chosen"]],
            f"{whole[titles[one['chosen']]]['mean']:.1f}",
            report.format_duration(one["seconds"]),
        )
        for path, one in result["proxies"].items()
    ]
    seconds = report.format_duration(result["seconds"]["whole"])
    rows.append((WHOLE, "1.00", best, f"{whole[best]['mean']:.1f}", seconds))
    headers = ("rank correlation", "chosen", "its accuracy on all, %", "took, with compiling")
    return report.table(rows, (f"{len(titles)} networks", *headers))


def draw(path: Path, result: Mapping[str, Any]) -> None:
    """Draw each network's accuracy after training on an artifact against that after all training images.

    Args:
        path: the file of the figure.
        result: the content of `result.json`.
    """
    whole = [score["mean"] for score in result["whole"].values()]
    names = figures.short_names(list(result["matrix"]))
    points = [
        figures.Line(names[name], whole, [row[title]["mean"] for title in result["whole"]], drawn=False)
        for name, row in result["matrix"].items()
    ]
    figures.lines(
        path,
        points,
        x_label="test accuracy of a network trained on all images, %",
        y_label="validation accuracy, trained on the artifact, %",
        title=f"{result['dataset']}: {len(whole)} networks",
    )


def run(config: Config) -> dict[str, Any]:
    """Train every network on every artifact and on all images, compare the rankings; or find them compared.

    Args:
        config: the settings.

    Returns:
        The content of `result.json`.

    Raises:
        ValueError: see `ddjax.launch.matrix.prepare`; or the space has fewer than two networks, or
            the directory belongs to other settings.
        FileNotFoundError: there is no such artifact, or no such data.
    """
    checks.positive("whole_lr", config.whole_lr)
    matrix = matrices.prepare(config)
    remedy = "There is nothing to order: give --networks=..., with commas between them."
    checks.at_least("networks of the space", len(matrix.columns), 2, remedy=remedy)
    workdir = Path(config.workdir or f"runs/architecture_search-{Path(matrix.data.name).stem}")
    matrices.check_unchanged(matrix, workdir, config, experiment="architecture_search")
    return once(
        workdir,
        config,
        lambda: measure(config, matrix, workdir),
        experiment="architecture_search",
        what=f"{len(matrix.columns)} networks, {len(matrix.rows)} artifact(s) and all of {matrix.data.name}\n"
        + "\n".join(matrix.notes),
        written="scores.json, result.json",
        inputs=inputs_of(config, matrix.data),
        table=table,
        pictures={"architecture_search.png": draw},
    )


LAUNCHER = Launcher("architecture_search", __doc__, Config, run=run)

if __name__ == "__main__":
    LAUNCHER.main()

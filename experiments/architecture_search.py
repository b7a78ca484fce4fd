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
from typing import Any

from ddjax import checks
from ddjax.launch import Launcher, flag, flag_like, matrix, recorded_once, spaces
from ddjax.launch.matrix import MatrixChoice

SPACE = tuple(
    f"convnet:depth={depth}:width={width}:norm={norm}:pooling={pooling}"
    for depth, width, norm, pooling in itertools.product(
        (1, 2), (8, 32), ("instance", "layer", "none"), ("avg", "max")
    )
)
"""24 small ConvNets, for images of 8 x 8 pixels and more."""


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


def run(config: Config) -> dict[str, Any]:
    """Train every network on every artifact and on all images, compare the orders; or find them compared."""
    checks.positive("whole_lr", config.whole_lr)
    space = matrix.prepare(config)
    remedy = "There is nothing to order: give --networks=..., with commas between them."
    checks.at_least("networks of the space", len(space.columns), 2, remedy=remedy)
    data = space.data
    return recorded_once(
        "architecture_search",
        config,
        data,
        lambda scores: spaces.measure(config, space, scores),
        what=f"{len(space.columns)} networks, {len(space.rows)} artifact(s) and all of {data.name}\n"
        + "\n".join(space.notes),
        workdir=matrix.unchanged(space, config, experiment="architecture_search"),
        table=spaces.table,
        pictures={"architecture_search.png": spaces.draw},
    )


LAUNCHER = Launcher("architecture_search", __doc__, Config, run=run)

if __name__ == "__main__":
    LAUNCHER.main()

"""Cross-architecture table: every artifact trains every network; test accuracies as a matrix.

Each artifact is trained on as it says itself: a `schedule` is replayed with its learned rates, under `train`
networks are trained on its images. `--protocol=condensation` gives every artifact the training behind the
numbers that DC, DSA and DM published instead (SGD with momentum 0.9 and weight decay 5e-4 for E + 1 epochs;
after E // 2 + 2 of them its rate falls to a tenth and its momentum starts anew), `--protocol=train` a plain
one (E epochs, the rate falls at half of the steps), beside which no published number belongs. A network
starts from the same initial weights for all artifacts that were distilled with one p(θ0), or from those of
--init. The settings of a network follow its name, with colons between them; the name alone of the network of
an artifact stands for the artifact's settings. Data and form of the images are the artifact's own. The work
directory keeps each score as it comes: a stopped run continues with the next score.

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

from typing import Any

from ddjax.launch import Launcher, matrix, recorded_once
from ddjax.launch.matrix import MatrixChoice as Config


def run(config: Config) -> dict[str, Any]:
    """Train every network on every artifact, test, print and return the matrix; or find it measured."""
    asked = matrix.prepare(config)
    data = asked.data
    return recorded_once(
        "cross_architecture",
        config,
        data,
        lambda scores: matrix.measure(config, asked, scores),
        what=f"{len(asked.rows)} artifact(s) on {data.name}, {len(asked.columns)} network(s), "
        f"{config.num_nets} initial weights each\n" + "\n".join(asked.notes),
        workdir=matrix.unchanged(asked, config, experiment="cross_architecture"),
        table=matrix.table,
    )


LAUNCHER = Launcher("cross_architecture", __doc__, Config, run=run)

if __name__ == "__main__":
    LAUNCHER.main()

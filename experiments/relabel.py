"""Relabel images by teachers of several ages and temperatures, beside random real images.

Soft labels alone make random real images much better, so that distilled images relabelled by a teacher are
to be compared with real ones under the same teacher: the table always has these. Students are trained at the
temperature of the labels, by the recipe of the artifact, or by Adam on real images. Ages and temperatures
are chosen on the validation split; the table marks the choice.

Claim: MNIST, ten random real images of each class, an MLP: 74.7 ± 1.2 with their own labels, 84.2 ± 0.8 with
those of a teacher of ten epochs at T 20, 85.0 ± 0.5 with those of a teacher of one epoch. As many images of
DM under an MLP that trains by their recipe: 85.2 ± 0.7 with their own labels, 88.9 ± 0.3 with a teacher's;
random images under the same recipe 74.2 ± 1.2 and 84.5 ± 0.5.
Cost: one H100 beside about ten other runs: 127 s; two CPU cores beside other runs: 309 s for DM's images.
Records: results/relabel-mnist-10.json, results/relabel-mnist-10-dm.json, results/relabel-cifar10-10.json

    python -m experiments.relabel --dataset=mnist --network=mlp:widths=256x128 --num_examples=10000
    python -m experiments.relabel --artifact=runs/distribution_matching-mnist/distilled.npz --dataset=mnist \
        --network=convnet --select=herding

References:
    Hinton, Vinyals and Dean 2015, arXiv 1503.02531; Qin, Deng and Alvarez-Melis 2024, A Label is Worth a
    Thousand Images in Dataset Distillation, arXiv 2406.10485.
"""

from __future__ import annotations

from typing import Any

from ddjax.launch import Launcher, recorded_once, relabelling
from ddjax.launch.relabelling import Relabel as Config


def run(config: Config) -> dict[str, Any]:
    """Train teachers, relabel, train students, print and return the scores; or find them measured."""
    task = relabelling.task_of(config)
    return recorded_once(
        "relabel",
        config,
        task.data,
        lambda scores: relabelling.measure(config, task, scores),
        what=f"{task.data.name}: {task.per_class} images of each class under labels of teachers",
        table=relabelling.table,
    )


LAUNCHER = Launcher("relabel", __doc__, Config, run=run)

if __name__ == "__main__":
    LAUNCHER.main()

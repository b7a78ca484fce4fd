"""Measure coresets: networks trained from scratch on a few real images of each class, selected in many ways.

Features, gradients and forgetting events are those of one network trained on all images. CRAIG's images are
scored with its weights and with equal ones. The work directory keeps each score as it comes (a stopped run
continues with the next score), and the images as an artifact named after each selection.

Claim: MNIST, ten networks. One image per class: herding 86.5 ± 0.7 (published 89.2 ± 1.6), random 67.0 ± 4.0
(64.9 ± 3.5). Ten images per class, 300 epochs of training: herding 95.8 ± 0.1 (93.7 ± 0.3), random 94.5 ± 0.9
(95.1 ± 0.9).
Cost: an H100 that about ten other runs shared: 241 s for one image per class, 228 s for ten.
Records: results/condense-mnist-1-small.json, results/coreset-mnist-10.json

    python -m experiments.coreset --dataset=mnist --select=random,herding,k_center,forgetting,craig \
        --images_per_class=1 --train_epochs=1000 --eval_augment=dc --feature_width=32 --num_eval_inits=5
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ddjax.launch import Launcher, load_data, recorded_once
from ddjax.launch.selecting import Selecting as Config
from ddjax.launch.selecting import Task, measure, selections


def run(config: Config) -> dict[str, Any]:
    """Select, train, test, print and return the scores; or find them measured."""
    wanted, task = selections(config), Task.of(config, load_data(config))
    folder = f"runs/coreset-{Path(config.dataset).stem}-{config.images_per_class}"
    return recorded_once(
        "coreset",
        config,
        task.data,
        lambda scores: measure(task, wanted, scores),
        what=f"coresets of {task.data.name}, {config.images_per_class} image(s) of each class: "
        f"{task.network.name} from {task.inits.name}, {config.train_epochs} epochs",
        workdir=Path(config.workdir or folder),
        written="scores.json, result.json, an .npz for each",
    )


LAUNCHER = Launcher("coreset", __doc__, Config, run=run)

if __name__ == "__main__":
    LAUNCHER.main()

"""Train experts: networks on a data set, their weights recorded on the way, for `trajectory_matching`.

SGD at 0.01 without momentum, batches of 256, DSA's augmentation, as in trajectory matching (MTT); with
`--gsam` as in FTD and DATM. Only the checkpoints that a window of trajectory matching uses are needed: its
last start plus the span. Killed at any moment, the same command goes on, inside an expert too; with a larger
`--num_experts` it adds to those that are there.

Claim: ConvNet-3, on the validation split: twenty on MNIST, 480 steps each, 96.9 ± 0.3; twelve on
Fashion-MNIST, as many, 83.9 ± 0.5; sixteen on CIFAR-10 under ZCA, three epochs each, 56.8 ± 0.6.
Cost: an H100 that about ten other runs shared: 90 s, 63 s and 102 s.
Records: results/experts-mnist-again.json, results/experts-fashion.json, results/experts-cifar10-sixteen.json

    python -m experiments.experts --dataset=mnist --num_experts=20 --checkpoints=3 --record_every=160
    python -m experiments.experts --dataset=cifar10 --whiten=zca --num_experts=16 --checkpoints=3
"""

from __future__ import annotations

import dataclasses
from typing import Any

from ddjax.expert_training import ExpertTraining, Gsam
from ddjax.launch import AUGMENTATIONS, DataChoice, Launcher, Where, augmentation, flag, flag_like, strategy
from ddjax.launch.flags import EXTENDS
from ddjax.launch.pretraining import Job, recorded_experts


@dataclasses.dataclass(frozen=True)
class Config(Where, DataChoice):
    """The settings of experts; those of MTT where they apply."""

    dataset: str = flag_like(Where, "dataset", default="mnist")
    data_dir: str | None = flag_like(Where, "data_dir", recorded=False)
    workdir: str | None = flag_like(
        Where, "workdir", help="directory of the experts; runs/experts-DATASET by default"
    )
    seed: int = flag_like(Where, "seed", help="of initial weights, orders of images and augmentations")
    network: str | None = flag_like(DataChoice, "network", default="convnet")
    init: str = flag_like(DataChoice, "init", default="pytorch")
    num_experts: int = flag(20, "experts in all", low=1, role=EXTENDS)
    checkpoints: int = flag(50, "recorded weights of an expert after its initial ones", low=1)
    record_every: int | None = flag(
        None, "gradient steps from one recorded weights to the next; by default one epoch", low=1
    )
    batch_size: int = flag(256, "images in one step", low=1)
    lr: float = flag(0.01, "learning rate, constant", positive=True)
    momentum: float = flag(0.0, "momentum of SGD", low=0)
    weight_decay: float = flag(0.0, "factor of the weights that is added to the gradient", low=0)
    augment: str | None = flag("dsa", f"augmentation of each image; empty for none; {AUGMENTATIONS}")
    gsam: bool = flag(False, "train for flat minima, as FTD and DATM do; two gradients a step")
    gsam_rho: float = flag(0.01, "size of GSAM's step to where it takes the gradient", positive=True)
    gsam_alpha: float = flag(0.4, "weight of what GSAM takes off across that gradient; 0.3 in DATM", low=0)
    save_seconds: float = flag(
        60.0, "seconds between checkpoints of the expert that is being trained", low=0, recorded=False
    )

    def idle(self) -> dict[str, str]:
        """The settings that change nothing under the other settings."""
        found = super().idle()
        if not self.gsam:
            found |= dict.fromkeys(("gsam_rho", "gsam_alpha"), "only --gsam uses it")
        return found


def run(config: Config) -> dict[str, Any]:
    """Train experts, or find them trained."""
    job = Job.of(config)
    augmentation(config.augment, job.data)  # refuses what does not fit the images
    training = ExpertTraining(
        config.checkpoints,
        config.record_every,
        config.lr,
        config.momentum,
        config.weight_decay,
        config.batch_size,
        strategy(config.augment, job.data),
        Gsam(config.gsam_rho, config.gsam_alpha) if config.gsam else None,
    )
    return recorded_experts(config, job, training)


LAUNCHER = Launcher("experts", __doc__, Config, run=run)

if __name__ == "__main__":
    LAUNCHER.main()

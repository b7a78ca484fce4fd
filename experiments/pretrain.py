"""Train a pool of networks on a data set: the p(θ0) of `experiments.adapt` and `experiments.attack`.

Adam with batches of 64, 0.001 falling to zero along a cosine, a few epochs instead of the 2018 paper's 40 to
130 at 0.0002; some of the networks are held out for evaluation. Killed at any moment, the same command goes
on after the last networks that were saved.

Claim: LeNet, 64 networks and 20 held out: on MNIST 98.6 ± 0.1 each after 2 epochs; on USPS, after 10 epochs,
95.4 ± 0.3 held out, 97.9 ± 0.2 where its images are divided anew.
Cost: 84 networks on two CPU cores beside other runs: 1,734 s for MNIST, 745 s for USPS.
Records: results/paper-adaptation-mnist-small.json, results/usps-pool.json

    python -m experiments.pretrain --dataset=mnist
    python -m experiments.pretrain --dataset=path/to/usps.npz --resize=28 --epochs=10
"""

from __future__ import annotations

import dataclasses
from typing import Any

from ddjax.launch import DataChoice, Launcher, Where, flag, flag_like
from ddjax.launch.pretraining import Job, recorded_pool
from ddjax.pretrain import Training


@dataclasses.dataclass(frozen=True)
class Config(Where, DataChoice):
    """The settings of a pool."""

    dataset: str = flag_like(Where, "dataset", default="mnist")
    data_dir: str | None = flag_like(Where, "data_dir", recorded=False)
    workdir: str | None = flag_like(
        Where, "workdir", help="directory of the pool; runs/pretrain-DATASET by default"
    )
    seed: int = flag_like(Where, "seed", help="of initial weights and orders of images")
    num_train: int = flag(64, "networks to distil with", low=1)
    num_held_out: int = flag(20, "networks kept for evaluation", low=0)
    epochs: int = flag(2, "passes over the training split", low=1)
    batch_size: int = flag(64, "images in one step", low=1)
    lr: float = flag(
        1e-3, "Adam's learning rate at the start; it falls to zero along a cosine", positive=True
    )
    nets_per_chunk: int = flag(4, "networks that are trained before the next save", low=1, recorded=False)


def run(config: Config) -> dict[str, Any]:
    """Train a pool, or find it trained."""
    return recorded_pool(config, Job.of(config), Training(config.epochs, config.batch_size, config.lr))


LAUNCHER = Launcher("pretrain", __doc__, Config, run=run)

if __name__ == "__main__":
    LAUNCHER.main()

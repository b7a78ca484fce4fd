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
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ddjax import inits, pool, report
from ddjax.data import Dataset, provenance
from ddjax.judge import Evaluation, check_split
from ddjax.launch import (
    DataChoice,
    Launcher,
    Where,
    flag,
    flag_like,
    inputs_of,
    open_workdir,
    read_object,
    results,
)
from ddjax.launch.choices import build_network, choose_network, load_data
from ddjax.pool import Pool
from ddjax.pretrain import Training, pretrain_in_parts
from ddjax.types import InitDistribution, Network, start_of
from ddjax.workdir import held


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


@dataclasses.dataclass(frozen=True)
class _Job:
    """The networks to train, and the data to train them on.

    Attributes:
        config: the settings.
        data: the real data.
        network: the network to train.
        inits: p(θ0), the distribution of initial weights.
        directory: the work directory.
    """

    config: Config
    data: Dataset
    network: Network
    inits: InitDistribution
    directory: Path

    @property
    def training(self) -> Training:
        """The training of each network."""
        return Training(self.config.epochs, self.config.batch_size, self.config.lr)

    @property
    def total(self) -> int:
        """The number of networks in the pool."""
        return self.config.num_train + self.config.num_held_out

    @property
    def facts(self) -> dict[str, Any]:
        """The facts about the pool that its file and the record hold."""
        return {
            **provenance.facts(self.data),
            **start_of(self.network, self.inits),
            "image_shape": list(self.network.image_shape),
            "num_classes": self.network.num_classes,
            "training": {"optimizer": "adam, cosine to 0", **dataclasses.asdict(self.training)},
            "seed": self.config.seed,
        }


def prepare(config: Config) -> _Job:
    """Load the data and build the network. Nothing is compiled and nothing is written.

    Args:
        config: the settings.

    Returns:
        The networks to train, and the data to train them on.

    Raises:
        ValueError: the settings do not fit each other or the data.
        FileNotFoundError: the data are missing.
    """
    data = load_data(config)
    network = build_network(choose_network(config, data), data)
    distribution = inits.random(network, scheme=config.init, gain=config.init_gain)
    directory = config.directory("pretrain")
    job = _Job(config, data, network, distribution, directory)
    check_split(data.train, network)
    if len(data.train) < job.training.batch_size:
        raise ValueError(
            f"batch_size: expected at most the {len(data.train)} training images; got {config.batch_size}. "
            "Give a smaller one."
        )
    return job


def show(members: Pool, done: int, total: int, left: float) -> None:
    """Print how far a pool has come: its last networks, the numbers done and in all, the seconds left."""
    accuracy = f"test accuracy {members.accuracy.mean():.2f} %"
    print(f"{done} of {total} networks, {accuracy}, {left:.0f} s left", flush=True)


def scores(members: Pool) -> dict[str, Any]:
    """Mean, standard deviation, number and values of the accuracies of each split that has members."""
    splits = [split for split in pool.SPLITS if members.size(split)]
    return {split: Evaluation.of(members.accuracies(split)).as_dict() for split in splits}


def describe(result: Mapping[str, Any]) -> str:
    """The accuracies of a pool as a table.

    Args:
        result: the content of `result.json`.

    Returns:
        The text.
    """
    rows = [
        (split, report.format_score(result[split]), result[split]["n"])
        for split in pool.SPLITS
        if split in result
    ]
    return report.table(rows, ("members", "test accuracy, %", "n"))


def run(config: Config) -> dict[str, Any]:
    """Train a pool, or find it trained.

    Args:
        config: the settings.

    Returns:
        The content of `result.json`.

    Raises:
        ValueError: the settings do not fit the data or the directory; nothing was compiled.
        FileNotFoundError: the data are missing.
    """
    began = time.monotonic()
    job = prepare(config)
    with held(job.directory):
        open_workdir(job.directory, config, experiment="pretrain", inputs=inputs_of(config, job.data))
        path = job.directory / "result.json"
        if path.exists():
            result = read_object(path, remedy="Remove it, and the same command writes it again.")
            print(f"{job.directory} is finished.\n\n{describe(result)}")
            return result
        size = f"{len(job.data.train)} images of {job.data.name}"
        print(f"{job.total} networks, {job.network.name}, each on {size}", flush=True)
        parts = pretrain_in_parts(
            job.network,
            job.inits,
            job.data,
            job.training,
            seed=config.seed,
            total=job.total,
            size=config.nets_per_chunk,
            folder=job.directory / "parts",
            facts=job.facts,
            listener=show,
        )
        members = pool.joined(parts, num_train=config.num_train, metadata=job.facts)
        pool.save(job.directory / "pool.npz", members)
        seconds = {"total": time.monotonic() - began}
        result = {"experiment": "pretrain", **job.facts, **scores(members), "seconds": seconds}
        result |= results.made_on()
        report.write_json(path, result)
    print(f"\n{describe(result)}\n\nwritten to {job.directory}: pool.npz, result.json")
    return result


LAUNCHER = Launcher("pretrain", __doc__, Config, run=run)

if __name__ == "__main__":
    LAUNCHER.main()

"""Train experts: networks on a data set, their weights recorded on the way, for `trajectory_matching`.

SGD at 0.01 without momentum, batches of 256, DSA's augmentation, as in trajectory matching (MTT); with
`--gsam` as in FTD and DATM. Only the checkpoints that a window of trajectory matching uses are needed: its
last start plus the span. Killed at any moment, the same command goes on, inside an expert too; with a larger
`--num_experts` it adds to those that are there.

Claim: none: what a run makes is weights; each expert's accuracy on the validation split is in experts.json.
Cost: not recorded

    python -m experiments.experts --dataset=mnist --num_experts=20 --checkpoints=3 --record_every=60
    python -m experiments.experts --dataset=cifar10 --whiten=zca --num_experts=100 --checkpoints=50
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ddjax import inits, report
from ddjax.data import Dataset, provenance
from ddjax.expert_training import ExpertTraining, Gsam, train_experts
from ddjax.experts import Entry, Experts, Flat
from ddjax.judge import Evaluation
from ddjax.launch import (
    AUGMENTATIONS,
    DataChoice,
    Launcher,
    Where,
    augmentation,
    flag,
    flag_like,
    inputs_of,
    open_workdir,
    results,
)
from ddjax.launch.choices import build_network, choose_network, load_data, strategy
from ddjax.launch.flags import EXTENDS
from ddjax.types import InitDistribution, Network, start_of
from ddjax.workdir import held


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
        """The settings that change nothing under the other settings.

        Returns:
            The reasons, by the names of the flags.
        """
        found = super().idle()
        if not self.gsam:
            found |= dict.fromkeys(("gsam_rho", "gsam_alpha"), "only --gsam uses it")
        return found


@dataclasses.dataclass(frozen=True)
class _Job:
    """The experts to train, and the data to train them on.

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
    def training(self) -> ExpertTraining:
        """The training of each expert."""
        given = self.config
        return ExpertTraining(
            given.checkpoints,
            given.record_every,
            given.lr,
            given.momentum,
            given.weight_decay,
            given.batch_size,
            strategy(given.augment, self.data),
            Gsam(given.gsam_rho, given.gsam_alpha) if given.gsam else None,
        )


def prepare(config: Config) -> _Job:
    """Load the data and build the network. Nothing is compiled and nothing is written.

    Args:
        config: the settings.

    Returns:
        The experts to train, and the data to train them on.

    Raises:
        ValueError: the settings do not fit each other or the data.
        FileNotFoundError: the data are missing.
    """
    data = load_data(config)
    network = build_network(choose_network(config, data), data)
    augmentation(config.augment, data)
    distribution = inits.random(network, scheme=config.init, gain=config.init_gain)
    job = _Job(config, data, network, distribution, config.directory("experts"))
    _ = job.training  # refuses what no training can have
    return job


def describe(found: Experts, seconds: float) -> dict[str, Any]:
    """What `result.json` says of the experts.

    Args:
        found: the experts.
        seconds: the seconds that this start took.

    Returns:
        The content.
    """
    kept = ("dataset", "network", "network_settings", "init", "training", "seed")
    return {
        "experiment": "experts",
        **{name: found.metadata[name] for name in kept if name in found.metadata},
        "num_experts": len(found),
        "steps": found.steps.tolist(),
        "validation": Evaluation.of(np.asarray(found.accuracy)).as_dict(),
        "seconds": {"total": seconds},
        **results.made_on(),
    }


def run(config: Config) -> dict[str, Any]:
    """Train experts, or find them trained.

    Args:
        config: the settings.

    Returns:
        The content of `result.json`.

    Raises:
        ValueError: the settings do not fit the data or the directory; nothing was compiled.
        FileNotFoundError: the data are missing.
        OSError: the disk has no room for the experts; nothing was compiled.
    """
    began = time.monotonic()
    job = prepare(config)
    size, steps = Flat.of(job.network).size, job.training.steps(len(job.data.train))

    def tell(entries: Sequence[Entry]) -> None:
        accuracy = f"{entries[-1].accuracy:.2f} % of the validation split"
        seconds = time.monotonic() - began
        print(f"{len(entries)} of {config.num_experts} experts, {accuracy}, {seconds:.0f} s", flush=True)

    with held(job.directory):
        open_workdir(job.directory, config, experiment="experts", inputs=inputs_of(config, job.data))
        print(
            f"{config.num_experts} experts, {job.network.name} of {size:,} weights, {steps[-1]} steps on "
            f"{len(job.data.train)} images of {job.data.name}, {len(steps)} checkpoints each, "
            f"{4 * size * len(steps) * config.num_experts / 2**20:,.0f} MiB",
            flush=True,
        )
        found = train_experts(
            job.network,
            job.inits,
            job.data,
            job.training,
            seed=config.seed,
            total=config.num_experts,
            directory=job.directory,
            facts={**provenance.facts(job.data), **start_of(job.network, job.inits)},
            save_seconds=config.save_seconds,
            finished=tell,
        )
        result = describe(found, time.monotonic() - began)
        report.write_json(job.directory / "result.json", result)
    print(f"\n{table(result)}\n\nwritten to {job.directory}: {len(found)} experts, experts.json, result.json")
    return result


def table(result: Mapping[str, Any]) -> str:
    """The accuracies of experts as a table.

    Args:
        result: the content of `result.json`.

    Returns:
        The text.
    """
    score = result["validation"]
    return report.table(
        [(report.format_score(score), score["n"])], ("accuracy on the validation split, %", "n")
    )


LAUNCHER = Launcher("experts", __doc__, Config, run=run)

if __name__ == "__main__":
    LAUNCHER.main()

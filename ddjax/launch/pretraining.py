"""The launchers that train networks on real data and keep them: pools, and experts with their checkpoints."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ddjax import pool, report
from ddjax.data import Dataset, provenance
from ddjax.expert_training import ExpertTraining, train_experts
from ddjax.experts import Entry, Flat
from ddjax.judge import Evaluation, check_split
from ddjax.launch.choices import build_network, choose_network, load_data, random_inits
from ddjax.launch.kept import Scores, recorded_once
from ddjax.pool import Pool
from ddjax.pretrain import Training, pretrain_in_parts
from ddjax.types import InitDistribution, Network, start_of


class Job(NamedTuple):
    """Networks to train, and the data to train them on.

    Attributes:
        data: the real data.
        network: the network to train.
        inits: p(θ0), the distribution of initial weights.
    """

    data: Dataset
    network: Network
    inits: InitDistribution

    @classmethod
    def of(cls, config: Any) -> Job:
        """Load the data and build the network. Nothing is compiled and nothing is written.

        Args:
            config: settings that are both a `Where` and a `DataChoice`.

        Returns:
            The networks to train, and the data to train them on.

        Raises:
            ValueError: the settings do not fit each other or the data.
            FileNotFoundError: the data are missing.
        """
        data = load_data(config)
        network = build_network(choose_network(config, data), data)
        return cls(data, network, random_inits(config, network))

    @property
    def facts(self) -> dict[str, Any]:
        """What files of trained networks say of the data, the network and the initial weights."""
        return {**provenance.facts(self.data), **start_of(self.network, self.inits)}


def recorded_pool(config: Any, job: Job, training: Training) -> dict[str, Any]:
    """Train a pool and record it, or find it trained; a stopped start goes on after the last saved networks.

    Args:
        config: the settings of `experiments.pretrain`.
        job: the network and the data.
        training: the training of each network.

    Returns:
        The content of `result.json`.

    Raises:
        ValueError: the settings do not fit the data or the directory; nothing was compiled.
    """
    data, total = job.data, config.num_train + config.num_held_out
    check_split(data.train, job.network)
    if len(data.train) < training.batch_size:
        raise ValueError(
            f"batch_size: expected at most the {len(data.train)} training images; got {config.batch_size}. "
            "Give a smaller one."
        )
    facts = {
        **job.facts,
        "image_shape": list(job.network.image_shape),
        "num_classes": job.network.num_classes,
        "training": {"optimizer": "adam, cosine to 0", **dataclasses.asdict(training)},
        "seed": config.seed,
    }

    def measure(scores: Scores) -> dict[str, Any]:
        parts = pretrain_in_parts(
            job.network,
            job.inits,
            data,
            training,
            seed=config.seed,
            total=total,
            size=config.nets_per_chunk,
            folder=scores.workdir / "parts",
            facts=facts,
            listener=_show,
        )
        members = pool.joined(parts, num_train=config.num_train, metadata=facts)
        pool.save(scores.workdir / "pool.npz", members)
        splits = [split for split in pool.SPLITS if members.size(split)]
        return {**facts, **{split: Evaluation.of(members.accuracies(split)).as_dict() for split in splits}}

    what = f"{total} networks, {job.network.name}, each on {len(data.train)} images of {data.name}"
    return recorded_once(
        "pretrain", config, data, measure, what=what, written="pool.npz, result.json", table=_table_of_pool
    )


def _show(members: Pool, done: int, total: int, left: float) -> None:
    """Print how far a pool has come: its last networks, the numbers done and in all, the seconds left."""
    accuracy = f"test accuracy {members.accuracy.mean():.2f} %"
    print(f"{done} of {total} networks, {accuracy}, {left:.0f} s left", flush=True)


def _table_of_pool(result: Mapping[str, Any]) -> str:
    scores = {split: result[split] for split in pool.SPLITS if split in result}
    rows = [(split, report.format_score(score), score["n"]) for split, score in scores.items()]
    return report.table(rows, ("members", "test accuracy, %", "n"))


def recorded_experts(config: Any, job: Job, training: ExpertTraining) -> dict[str, Any]:
    """Train experts and record them, or find them trained; a stopped start goes on, inside an expert too.

    Args:
        config: the settings of `experiments.experts`. A larger `num_experts` adds to the experts of a
            directory.
        job: the network and the data.
        training: the training of each expert.

    Returns:
        The content of `result.json`.

    Raises:
        ValueError: the settings do not fit the data or the directory; nothing was compiled.
        OSError: the disk has no room for the experts; nothing was compiled.
    """
    data, network, total = job.data, job.network, config.num_experts
    size, steps = Flat.of(network).size, training.steps(len(data.train))

    def measure(scores: Scores) -> dict[str, Any]:
        began = time.monotonic()

        def tell(entries: Sequence[Entry]) -> None:
            accuracy = f"{entries[-1].accuracy:.2f} % of the validation split"
            seconds = time.monotonic() - began
            print(f"{len(entries)} of {total} experts, {accuracy}, {seconds:.0f} s", flush=True)

        found = train_experts(
            job.network,
            job.inits,
            data,
            training,
            seed=config.seed,
            total=total,
            directory=scores.workdir,
            facts=job.facts,
            save_seconds=config.save_seconds,
            finished=tell,
        )
        kept = ("dataset", "network", "network_settings", "init", "training", "seed")
        return {
            **{name: found.metadata[name] for name in kept if name in found.metadata},
            "num_experts": len(found),
            "steps": found.steps.tolist(),
            "validation": Evaluation.of(np.asarray(found.accuracy)).as_dict(),
        }

    return recorded_once(
        "experts",
        config,
        data,
        measure,
        what=f"{total} experts, {network.name} of {size:,} weights, {steps[-1]} steps on {len(data.train)} "
        f"images of {data.name}, {len(steps)} checkpoints each, "
        f"{4 * size * len(steps) * total / 2**20:,.0f} MiB",
        written=f"{total} experts, experts.json, result.json",
        table=_table_of_experts,
    )


def _table_of_experts(result: Mapping[str, Any]) -> str:
    score = result["validation"]
    headers = ("accuracy on the validation split, %", "n")
    return report.table([(report.format_score(score), score["n"])], headers)

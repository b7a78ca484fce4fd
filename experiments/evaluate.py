"""Evaluate any `distilled.npz`: any network, any p(θ0), any number of unseen initial weights, with baselines.

python -m experiments.evaluate --artifact=runs/random_init-mnist/distilled.npz --network=mlp
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax

from ddjax import artifact, checks, inits, report
from ddjax.data import Dataset, load
from ddjax.evaluate import evaluate
from ddjax.types import Distilled, InitDistribution, Network
from experiments import launch, results
from experiments.config import NetworkChoice, flag
from experiments.parts import Keys, build_network, choose_network, runs_at_once


@dataclasses.dataclass(frozen=True)
class Config(NetworkChoice):
    """The settings of an evaluation."""

    artifact: str = flag("", "the distilled.npz to evaluate")
    dataset: str | None = flag(None, "what to test on; by default the artifact's own")
    data_dir: str | None = flag(None, "where TFDS data lie; $TFDS_DATA_DIR by default")
    num_eval_inits: int = flag(20, "unseen initial weights behind the score", low=1)
    seed: int = flag(0, "of the initial weights", low=0)
    fixed: bool = flag(False, "evaluate at the one θ0 of a fixed_init run with this seed and init")
    baselines: bool = flag(True, "measure the baselines too")
    output: str | None = flag(None, "write the result to this JSON file too")


def prepare(config: Config) -> tuple[Distilled, Dataset]:
    """The artifact and the data to test it on.

    Raises:
        FileNotFoundError: there is no artifact, or no data.
        ValueError: the artifact's images or classes are not the data's.
    """
    distilled = artifact.load(config.artifact)
    data = load(config.dataset or distilled.metadata["dataset"], data_dir=config.data_dir)
    schedule = distilled.schedule
    for what, got, expected in (
        ("the artifact's image shape (H, W, C)", schedule.inputs.shape[2:], data.image_shape),
        ("the artifact's number of classes", schedule.labels.shape[2], data.num_classes),
    ):
        checks.equal(what, got, expected, remedy=f"Test on the data it was distilled from, not {data.name}.")
    return distilled, data


def initial_weights(config: Config, network: Network) -> InitDistribution:
    """p(θ0) of the flags: fresh draws, or the θ0 that `experiments.fixed_init` drew from the seed."""
    if config.fixed:
        theta_key = Keys.of(config.seed).theta
        return inits.fixed(network, theta_key, scheme=config.init, gain=config.init_gain)
    return inits.random(network, scheme=config.init, gain=config.init_gain)


def run(config: Config) -> dict[str, Any]:
    """Train unseen initial weights on the artifact, test them, print and return the scores."""
    distilled, data = prepare(config)
    name, own = distilled.metadata.get("network"), distilled.metadata.get("network_settings", {})
    network = build_network(choose_network(config, data, otherwise=(name, own) if name else None), data)
    distribution = initial_weights(config, network)
    test_key, baseline_key = jax.random.split(jax.random.key(config.seed))
    score = evaluate(
        distilled,
        network,
        distribution,
        data.test,
        key=test_key,
        num_inits=config.num_eval_inits,
        runs_per_chunk=runs_at_once(config.num_eval_inits),
    )
    result = {"artifact": config.artifact, "dataset": data.name, "network": network.name}
    result |= {"init": distribution.name, "test_accuracy": score.as_dict(), "baselines": None}
    if config.baselines:
        steps, images = distilled.schedule.inputs.shape[:2]
        lrs = distilled.schedule.lrs
        result["baselines"] = results.measure_baselines(
            data,
            network,
            distribution,
            distilled.recipe,
            layout=(steps, 1 if lrs is None else len(lrs), max(1, images // data.num_classes)),
            num_inits=len(score.values),
            seed=config.seed,
            key=baseline_key,
        )
    print(f"{config.artifact} on {data.name}, {network.name} from {distribution.name}\n")
    print(results.table(result))
    if config.output:
        report.write_json(Path(config.output), result | results.made_on())
    return result


if __name__ == "__main__":
    launch.main("evaluate", __doc__, Config, run)

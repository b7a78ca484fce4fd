"""Evaluate any `distilled.npz`: any network, any p(θ0), any number of unseen initial weights, with baselines.

Claim: none: it measures what other experiments claim.
Cost: not recorded; training on the images is most of it, `--nobaselines` leaves the rest out.

    python -m experiments.evaluate --artifact=runs/random_init-mnist/distilled.npz --network=mlp
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from ddjax import inits, report
from ddjax import pool as pools
from ddjax.evaluate import evaluate
from ddjax.launch import DataChoice, Keys, Launcher, Where, artifacts, flag, flag_like, results
from ddjax.launch.choices import build_network, choose_network, runs_at_once
from ddjax.types import InitDistribution, Network


@dataclasses.dataclass(frozen=True)
class Config(DataChoice):
    """The settings of an evaluation."""

    artifact: str = flag("", "the distilled.npz to evaluate", path=True)
    dataset: str | None = flag(None, "what to test on; by default the artifact's own", path=True)
    data_dir: str | None = flag_like(Where, "data_dir")
    num_eval_inits: int = flag(20, "unseen initial weights behind the score", low=1)
    seed: int = flag_like(Where, "seed", help="of the initial weights")
    pool: str | None = flag(None, "start from the held-out members of this pool.npz, each once", path=True)
    fixed: bool = flag(False, "evaluate at the one θ0 of a fixed_init run with this seed and init")
    baselines: bool = flag(True, "measure the baselines too")
    output: str | None = flag(None, "write the result to this JSON file too", path=True)

    def idle(self) -> dict[str, str]:
        """The settings that change nothing under the other settings.

        Returns:
            The reasons, by the names of the flags.
        """
        return dict.fromkeys(("init", "init_gain"), "--pool has the weights") if self.pool else {}


def initial_weights(config: Config, network: Network) -> InitDistribution:
    """p(θ0) of the flags: fresh draws, a pool's held-out members, or the θ0 of `fixed_init` with this seed.

    Args:
        config: the settings.
        network: the network that the weights belong to.

    Returns:
        The distribution.

    Raises:
        ValueError: the flags name both a pool and a fixed θ0, or a pool of another network.
        FileNotFoundError: there is no pool.
    """
    if config.pool and config.fixed:
        raise ValueError("pool: expected it alone; got --fixed too. Give one of them.")
    if config.pool:
        return inits.pretrained(pools.load(config.pool).fit(network), split="held_out")
    if config.fixed:
        theta_key = Keys.of(config.seed).theta
        return inits.fixed(network, theta_key, scheme=config.init, gain=config.init_gain)
    return inits.random(network, scheme=config.init, gain=config.init_gain)


def run(config: Config) -> dict[str, Any]:
    """Train unseen initial weights on the artifact, test them, print and return the scores.

    Args:
        config: the settings.

    Returns:
        The scores of the artifact and of the baselines.

    Raises:
        ValueError: the settings do not fit each other, the artifact or the data.
        FileNotFoundError: the artifact, the data or the pool is missing.
    """
    if config.output:
        artifacts.check_output(Path(config.output))
    distilled, data = artifacts.opened(
        config.artifact,
        config,
        dataset=config.dataset,
        data_dir=config.data_dir,
        needs_real=config.baselines,
    )
    otherwise = artifacts.network_of(config.artifact, distilled, asked=config.network)
    network = build_network(choose_network(config, data, otherwise=otherwise), data)
    distribution = initial_weights(config, network)
    keys = Keys.of(config.seed)
    score = evaluate(
        distilled,
        network,
        distribution,
        data.test,
        key=keys.test,
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
            key=keys.baselines,
        )
    print(f"{config.artifact} on {data.name}, {network.name} from {distribution.name}\n")
    print(results.table(result))
    if config.output:
        report.write_json(Path(config.output), result | results.made_on())
    return result


LAUNCHER = Launcher("evaluate", __doc__, Config, run=run)

if __name__ == "__main__":
    LAUNCHER.main()

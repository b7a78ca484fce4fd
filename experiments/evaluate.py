"""Evaluate any `distilled.npz`: any network, any p(θ0), any number of unseen initial weights, with baselines.

Data, form of the images, network and p(θ0) are those that the artifact names, unless flags say otherwise; the
output says what is as in the artifact, what differs, and what was assumed because the artifact does not say.

Claim: none: it measures what other experiments claim.
Cost: not recorded; training on the images is most of it, `--nobaselines` leaves the rest out.

    python -m experiments.evaluate --artifact=runs/random_init-mnist/distilled.npz --network=mlp
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from ddjax import inits, networks, recorded_inits, report
from ddjax import pool as pools
from ddjax.judge import evaluate
from ddjax.launch import DataChoice, Keys, Launcher, Where, artifacts, flag, flag_like, results
from ddjax.launch.choices import build_network, choose_network, runs_at_once
from ddjax.types import Distilled, Network


@dataclasses.dataclass(frozen=True)
class Config(DataChoice):
    """The settings of an evaluation."""

    artifact: str = flag("", "the distilled.npz to evaluate", path=True)
    dataset: str | None = flag(None, "what to test on; by default the artifact's own", path=True)
    data_dir: str | None = flag_like(Where, "data_dir")
    init: str | None = flag_like(
        DataChoice,
        "init",
        default=None,
        help=f"what initial weights are drawn from: {', '.join(inits.SCHEMES)}; by default as distilled",
    )
    init_gain: float | None = flag_like(
        DataChoice, "init_gain", default=None, help="factor on the initial weights; by default the artifact's"
    )
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


OTHERWISE = "xavier_normal"
"""The initial weights for an artifact that does not say which it was distilled with."""


def initial_weights(config: Config, network: Network, distilled: Distilled) -> artifacts.Start:
    """p(θ0) of the flags, or the artifact's.

    Args:
        config: the settings.
        network: the network that the weights belong to.
        distilled: the artifact.

    Returns:
        p(θ0): a pool's held-out members, the θ0 of `fixed_init` with this seed, fresh draws by the flags, or
        the artifact's own; and a note that says which.

    Raises:
        ValueError: the flags name both a pool and a fixed θ0, or a pool of another network; or they name no
            weights, and those of the artifact are not in it.
        FileNotFoundError: there is no pool.
    """
    own = recorded_inits.recorded(distilled.metadata, where=config.artifact)
    if config.pool and config.fixed:
        raise ValueError("pool: expected it alone; got --fixed too. Give one of them.")
    if config.pool:
        return artifacts.start_of_pool(own, pools.load(config.pool), network)
    by_flags = artifacts.start_by_flags(
        own, network, scheme=config.init, gain=config.init_gain, otherwise=OTHERWISE
    )
    if config.fixed:
        scheme, gain = by_flags.inits.settings["scheme"], by_flags.inits.settings["gain"]
        chosen = inits.fixed(network, Keys.of(config.seed).theta, scheme=scheme, gain=gain)
        is_own = dict(chosen.settings) == dict(own.settings)
        text = "as in the artifact" if is_own else "assumed" if "key" not in own.settings else "differs"
        return artifacts.Start(chosen, f"{text}: initial weights: the one θ0 of --seed={config.seed}")
    if config.init is not None or config.init_gain is not None:
        return by_flags
    return artifacts.start_of_artifact(config.artifact, distilled, network, otherwise=OTHERWISE)


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
    distilled, data, notes = artifacts.opened(
        config.artifact,
        config,
        dataset=config.dataset,
        data_dir=config.data_dir,
        needs_real=config.baselines,
    )
    otherwise = artifacts.network_of(config.artifact, distilled, asked=config.network)
    network = build_network(choose_network(config, data, otherwise=otherwise), data)
    distribution, note = initial_weights(config, network, distilled)
    notes = (*notes, *_about_network(distilled, network), note)
    print("\n".join(notes), flush=True)
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
    result: dict[str, Any] = {"artifact": config.artifact, "dataset": data.name, "network": network.name}
    result |= {"init": distribution.name, "test_accuracy": score.as_dict(), "baselines": None}
    result["notes"] = list(notes)
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


def _about_network(distilled: Distilled, network: Network) -> list[str]:
    """A note on a network that is not the one of the distillation; none where the artifact names none."""
    own = distilled.metadata.get("network")
    if not own or artifacts.is_own_network(distilled, network):
        return []
    here = networks.as_text(network.name, network.settings)
    return [f"differs: trained {here}; the artifact was distilled with {str(own)[:80]}"]


LAUNCHER = Launcher("evaluate", __doc__, Config, run=run)

if __name__ == "__main__":
    LAUNCHER.main()

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

from ddjax import inits, report
from ddjax.judge import evaluate
from ddjax.launch import DataChoice, Keys, Launcher, Where, artifacts, flag, flag_like, results, runs_at_once
from ddjax.launch.choices import build_network, choose_network
from ddjax.launch.evaluating import about_network, initial_weights


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
        """The settings that change nothing under the other settings."""
        return dict.fromkeys(("init", "init_gain"), "--pool has the weights") if self.pool else {}


def run(config: Config) -> dict[str, Any]:
    """Train unseen initial weights on the artifact, test them, print and return the scores."""
    if config.output:
        artifacts.check_output(Path(config.output))
    where = {"dataset": config.dataset, "data_dir": config.data_dir}
    distilled, data, notes = artifacts.opened(config.artifact, config, **where, needs_real=config.baselines)
    otherwise = artifacts.network_of(config.artifact, distilled, asked=config.network)
    network = build_network(choose_network(config, data, otherwise=otherwise), data)
    distribution, note = initial_weights(config, network, distilled)
    notes = (*notes, *about_network(distilled, network), note)
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


LAUNCHER = Launcher("evaluate", __doc__, Config, run=run)

if __name__ == "__main__":
    LAUNCHER.main()

"""Distil images that adapt pretrained networks to another data set: the adaptation of Wang et al. 2018.

p(θ0) is a pool made by `experiments.pretrain`: every outer step draws one of the networks kept for
distilling, and the final score is over the networks held out, each counted once. `--fixed` takes one network
for both. The baselines are the same networks without any adaptation, after the same number of steps on real
images, and after training on all of the target's images.

Claim: LeNet, 100 images, 64 networks to distil with and 20 held out. For any network MNIST to USPS 95.5 ± 0.5
(78.4 ± 2.2 before) and USPS to MNIST 93.7 ± 0.9 (56.2 ± 5.5 before). For one known network, mean over three
of them, 97.9 ± 0.2 and 97.4 ± 0.3. USPS is divided anew into 7,438 and 1,860 images.
Cost: two CPU cores beside other runs: 357 s and 363 s of distillation for any network; for a known one 414 s,
398 s, 362 s (MNIST to USPS) and 145 s, 131 s, 154 s (USPS to MNIST). The two pools took 1,734 s and 1,235 s.
Records: results/paper-adaptation-mnist-small.json

    python -m experiments.pretrain --dataset=mnist
    python -m experiments.adapt --pool=runs/pretrain-mnist/pool.npz --dataset=path/to/usps.npz --resize=28
    python -m experiments.adapt --pool=runs/pretrain-mnist/pool.npz --dataset=path/to/usps.npz --resize=28 \
        --fixed

From SVHN (32×32, colour) to MNIST, where SVHN has been prepared:

    python -m experiments.pretrain --dataset=svhn_cropped
    python -m experiments.adapt --pool=runs/pretrain-svhn_cropped/pool.npz --dataset=mnist --resize=32 \
        --channels=3
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

from ddjax import baselines, inits
from ddjax.data import Dataset
from ddjax.judge import Evaluation, Judge
from ddjax.launch import Finished, Hooks, Keys, Launcher, Parts, Plan, Unrolled, flag, results, unrolled_parts
from ddjax.launch.choices import load_pool, network_of, runs_at_once
from ddjax.launch.flags import FILE
from ddjax.types import Network

REAL = ("random real", "optimized real", "k-means", "class mean")
"""The baselines of the 2018 paper's table."""

TUNING = baselines.Tuning(learning_rates=(0.001, *baselines.LEARNING_RATES), num_inits=10)
SELECTION = baselines.Selection(num_candidates=50, num_kept=5, num_inits=10)


@dataclasses.dataclass(frozen=True)
class Config(Unrolled):
    """The settings of an adaptation."""

    pool: str = flag("", "pool.npz of the source, from `ddjax pretrain`", path=True, role=FILE)
    fixed: bool = flag(False, "adapt one member, known in advance, instead of any")
    member: int = flag(0, "which training member --fixed takes", low=0)

    def idle(self) -> dict[str, str]:
        """The settings that change nothing under the other settings.

        Returns:
            The reasons, by the names of the flags.
        """
        found = super().idle()
        if not self.fixed:
            found["member"] = "only --fixed adapts one member"
        if not self.baselines:
            found |= dict.fromkeys(
                ("init", "init_gain"), "the pool has the weights, and no baseline draws any"
            )
        return found


def build(config: Config, data: Dataset, keys: Keys, plan: Plan) -> Parts:
    """The parts of an adaptation: p(θ0) is a pool's training members, and the held-out ones give the score.

    With `--fixed` one training member is both.

    Args:
        config: the settings.
        data: the real data.
        keys: the keys of the seed.
        plan: the plan, with the form of convolutions and the memory strategy.

    Returns:
        The parts.

    Raises:
        ValueError: the settings do not fit each other, the data or the pool.
        FileNotFoundError: there is no such pool.
    """
    del keys
    pool = load_pool(config.pool)
    member = config.member if config.fixed else None
    parts = unrolled_parts(
        config,
        data,
        plan,
        lambda network: inits.pretrained(pool.fit(network), member=member),
        otherwise=network_of(pool),
    )
    others = parts.inits if config.fixed else inits.pretrained(pool.fit(parts.network), split="held_out")
    return dataclasses.replace(parts, eval_inits=others, hooks=Hooks(measure=measure))


def unadapted(network: Network, parts: Parts, data: Dataset) -> Evaluation:
    """The accuracy of the networks of the final score on the test split, before any step.

    Args:
        network: the network that the weights belong to.
        parts: the parts, with p(θ0) of the final score.
        data: the data set whose test split is used.

    Returns:
        The accuracies, one for each network.
    """
    params = parts.judged_inits.pool
    if params is None:  # one member alone
        params = jax.tree.map(lambda leaf: leaf[None], parts.judged_inits.sample(jax.random.key(0)))
    return Judge(network, parts.judged_inits, parts.method.recipe, data.test).untrained(params)


def measure(finished: Finished) -> dict[str, Any]:
    """The final score and the baselines: no step, real images, and all of the target's training images.

    Args:
        finished: the run.

    Returns:
        The content of `result.json`.
    """
    launch = finished.launch
    config, data, parts = launch.config, launch.data, launch.parts
    result = results.measure(finished, compare=False)
    result |= {"pool": dict(load_pool(config.pool).metadata)}
    compared: dict[str, Any] = {"no adaptation": unadapted(parts.network, parts, data).as_dict()}
    if config.baselines:
        count = result["test_accuracy"]["n"]
        setting = baselines.Setting(
            data,
            parts.network,
            parts.judged_inits,
            parts.method.recipe,
            *parts.facts.layout[:3],
            count,
            runs_at_once(count),
            dataclasses.replace(TUNING, inits=parts.inits),
        )
        real_key, all_key, scratch_key = jax.random.split(launch.keys.baselines, 3)
        compared |= baselines.measure(
            setting, key=real_key, seed=config.seed, names=REAL, selection=SELECTION
        )
        compared["all of the target"] = results.ceiling(
            setting, key=all_key, recipe=results.FINE_TUNING
        ).as_dict()
        fresh = inits.random(parts.network, scheme=config.init, gain=config.init_gain)
        scratch = dataclasses.replace(setting, inits=fresh, num_inits=3)
        compared["all of the target, from scratch"] = results.ceiling(scratch, key=scratch_key).as_dict()
    return result | {"baselines": compared}


LAUNCHER = Launcher("adapt", __doc__, Config, build=build)

if __name__ == "__main__":
    LAUNCHER.main()

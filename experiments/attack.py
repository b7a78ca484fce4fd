"""Distil images that poison well-trained networks in one step: the attack of Wang et al. 2018.

Networks of a pool, trained on the same data, take one gradient step on φ and are then to take the attacked
class for the target class, and still to recognise the other classes: the outer loss is the cross-entropy with
the attacked images relabelled. The experiment is for studying a risk: how far a few images in a training
stream can bend a network, and whether a defence notices. It says nothing of how such images would get there,
and making them needs networks like the victim's.

Claim: MNIST, LeNet, 100 images, over 20 held-out networks: 79.8 ± 16.9 % of the zeros are taken for ones and
94.0 ± 3.6 % of the other classes are right. Random real images with wrong labels: 83.1 ± 14.3 % and
83.8 ± 11.6 %.
Cost: two CPU cores beside other runs: 231 s of distillation and 178 s for the scores; the pool took 1,734 s.
Records: results/paper-attack-mnist-small.json

    python -m experiments.pretrain --dataset=mnist --epochs=2 --num_held_out=20
    python -m experiments.attack --pool=runs/pretrain-mnist/pool.npz --initial_images=k_means \
        --label_confidence=0.9 --batch_size=512 --outer_lr=0.1 --num_outer_steps=800 --validate_every=50 \
        --num_val_inits=8
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddjax import baselines, checks, inits
from ddjax.data import Dataset, Split, provenance
from ddjax.judge import Evaluation, Judge
from ddjax.launch import Finished, Hooks, Keys, Launch, Launcher, Parts, Plan, results, unrolled_parts
from ddjax.launch.choices import load_pool, network_of, runs_at_once
from ddjax.launch.distillation import validated
from ddjax.launch.flags import FILE, flag, flag_like
from ddjax.launch.settings import Unrolled
from ddjax.methods.unrolled import relabelled
from ddjax.poisoning import rates, wrongly_labelled
from ddjax.types import InitDistribution, Schedule

LEARNING_RATES = (0.001, *baselines.LEARNING_RATES, 1.0)
"""The constant learning rates to choose from, on validation, for real images with wrong labels."""

TUNING_INITS = 10


@dataclasses.dataclass(frozen=True)
class Config(Unrolled):
    """The settings of an attack."""

    dataset: str = flag_like(
        Unrolled,
        "dataset",
        default="mnist",
        help="what the pool was trained on: a TFDS name, or the path of an .npz",
    )
    pool: str = flag("", "pool.npz of well-trained networks, from `ddjax pretrain`", path=True, role=FILE)
    attacked: int = flag(0, "class that is to be taken for another", low=0)
    target: int = flag(1, "class that it is to be taken for", low=0)  # type: ignore[assignment] (a class, not devices)
    inner_steps: int = flag_like(Unrolled, "inner_steps", default=1)
    inner_epochs: int = flag_like(Unrolled, "inner_epochs", default=1)
    images_per_class_per_step: int = flag_like(Unrolled, "images_per_class_per_step", default=10)

    def idle(self) -> dict[str, str]:
        """The settings that change nothing under the other settings.

        Returns:
            The reasons, by the names of the flags.
        """
        return super().idle() | dict.fromkeys(("init", "init_gain"), "the pool has the weights")

    @property
    def compiled_for(self) -> None:
        """No other devices: `--target` is a class here."""
        return None


def build(config: Config, data: Dataset, keys: Keys, plan: Plan) -> Parts:
    """The parts of an attack: p(θ0) is a pool's training members, and the held-out ones give the score.

    Args:
        config: the settings.
        data: the real data.
        keys: the keys of the seed.
        plan: the plan, with the form of convolutions and the memory strategy.

    Returns:
        The parts.

    Raises:
        ValueError: the data have no such classes, or the pool was trained on other data.
        FileNotFoundError: there is no such pool.
    """
    del keys
    for name in ("attacked", "target"):
        if getattr(config, name) >= data.num_classes:
            raise ValueError(
                f"{name}: expected one of the classes 0 to {data.num_classes - 1} of {data.name}; got "
                f"{getattr(config, name)}. Give another --{name}."
            )
    objective = relabelled(config.attacked, config.target)
    pool = load_pool(config.pool)
    trained_on = pool.metadata.get("dataset", data.name)
    remedy = "The attack is on what a network can do."
    checks.equal("the pool's data", trained_on, data.name, remedy=remedy)
    own = provenance.recorded(pool.metadata, where=config.pool)
    if own.digests and provenance.facts(data)["data"]["digests"]["test"] != own.digests.get("test"):
        raise ValueError(
            f"{config.pool}: expected a pool that was trained on {data.name}; its data of that name were "
            f"others. {remedy} Train a pool on these."
        )
    if own.class_names:
        provenance.check_classes(config.pool, own.class_names, data)
    parts = unrolled_parts(
        config,
        data,
        plan,
        lambda network: inits.pretrained(pool.fit(network)),
        otherwise=network_of(pool),
        objective=objective,
    )
    others = inits.pretrained(pool.fit(parts.network), split="held_out")
    return dataclasses.replace(parts, eval_inits=others, hooks=Hooks(score, measure))


def score(launch: Launch) -> Callable[[Schedule], float]:
    """The score that the best φ is chosen by.

    Args:
        launch: the run.

    Returns:
        `schedule -> percent`: half the rate at which the attacked class is taken for the target, plus half
        the accuracy on the other classes, on the validation split.
    """
    config, data, parts = launch.config, launch.data, launch.parts

    def scored(part: Split) -> Callable[[Schedule], float]:
        at_once = runs_at_once(config.num_val_inits)
        judge = Judge(parts.network, parts.inits, parts.method.recipe, part, at_once)
        return validated(judge, key=launch.keys.validation, num_inits=config.num_val_inits)

    halves = rates(scored, data.validation, attacked=config.attacked, target=config.target).values()
    return lambda schedule: sum(half(schedule) for half in halves) / len(halves)


@dataclasses.dataclass(frozen=True)
class _Comparison:
    """What all rows of the table share.

    Attributes:
        config: the settings.
        data: the real data.
        parts: the parts of the run.
    """

    config: Config
    data: Dataset
    parts: Parts

    def scores(
        self, schedules: Sequence[Schedule], split: Split, distribution: InitDistribution, count: int
    ) -> dict[str, Evaluation]:
        """Both scores of members of p(θ0), each trained on one of the schedules.

        Args:
            schedules: the schedules to train on; member i takes schedule i modulo their number.
            split: the images to test on.
            distribution: p(θ0).
            count: the number of members.

        Returns:
            The evaluation of `count` networks for each score, by the name of the score.
        """
        members = jnp.arange(count) % (distribution.size or count)
        # Nothing is drawn: members and steps are given.
        keys = jax.random.split(jax.random.key(0), count)

        def measured(part: Split) -> Evaluation:
            recipe, at_once = self.parts.method.recipe, runs_at_once(count)
            judge = Judge(self.parts.network, distribution, recipe, part, at_once)
            which = jnp.arange(count) % len(schedules)
            return Evaluation.of(judge.outcomes(schedules, which, keys, members=members))

        return rates(measured, split, attacked=self.config.attacked, target=self.config.target)

    def tested(self, schedules: Sequence[Schedule]) -> dict[str, Any]:
        """Both scores on the test split, over the held-out members.

        Args:
            schedules: the schedules to train on.

        Returns:
            The scores, by name.
        """
        held_out = self.parts.judged_inits
        count = min(self.config.num_eval_inits, held_out.size or self.config.num_eval_inits)
        found = self.scores(schedules, self.data.test, held_out, count)
        return {name: score.as_dict() for name, score in found.items()}

    def untouched(self) -> dict[str, Any]:
        """Both scores of the held-out members before any step, by name."""
        parts, count = self.parts, self.config.num_eval_inits
        held_out = jax.tree.map(lambda leaf: leaf[:count], parts.judged_inits.pool)

        def measured(part: Split) -> dict[str, Any]:
            judge = Judge(parts.network, parts.judged_inits, parts.method.recipe, part)
            return judge.untrained(held_out).as_dict()

        return rates(measured, self.data.test, attacked=self.config.attacked, target=self.config.target)

    def real(self) -> dict[str, Any]:
        """Both scores of random real images with wrong labels.

        Returns:
            The scores by name, and the constant learning rate as `lr`, which is chosen on validation.
        """
        setting = baselines.Setting(
            self.data,
            self.parts.network,
            self.parts.inits,
            self.parts.method.recipe,
            *self.parts.facts.layout[:3],
        )
        seed, count = self.config.seed, self.config.num_eval_inits

        def poisoned(seeds: Sequence[int], lr: float) -> list[Schedule]:
            schedules = (baselines.lay_out(s, setting, lr=lr) for s in baselines.real_sets(setting, seeds))
            return [
                wrongly_labelled(one, attacked=self.config.attacked, target=self.config.target)
                for one in schedules
            ]

        def on_validation(lr: float) -> tuple[bool, float]:
            sets = poisoned(range(seed + 1_000_000, seed + 1_000_000 + TUNING_INITS), lr)
            found = self.scores(sets, self.data.validation, self.parts.inits, TUNING_INITS)
            is_trained = not any(score.all_diverged for score in found.values())
            return is_trained, float(np.mean([score.mean for score in found.values()]))

        lr = max(LEARNING_RATES, key=on_validation)
        return self.tested(poisoned(range(seed, seed + count), lr)) | {"lr": lr}


def measure(finished: Finished) -> dict[str, Any]:
    """The final scores over held-out networks, and the baselines.

    Args:
        finished: the run.

    Returns:
        The content of `result.json`: for φ and each baseline, the rate at which the attacked class is taken
        for the target, and the accuracy on the other classes.
    """
    evaluating = time.monotonic()
    config, data = finished.launch.config, finished.launch.data
    comparison = _Comparison(config, data, finished.launch.parts)
    scores = comparison.tested([finished.outcome.distilled.schedule])
    compared = {"no step": comparison.untouched()}
    if config.baselines:
        compared["random real images, wrong labels"] = comparison.real()
    names = [data.class_names[k] for k in (config.attacked, config.target)]
    columns = {
        "attacked_to_target": f"{names[0]} taken for {names[1]}, %",
        "other_classes": "accuracy on the others, %",
    }
    return results.record_of_run(
        finished,
        {"attacked": config.attacked, "target": config.target, "columns": columns, **scores},
        {"baselines": compared, "pool": dict(load_pool(config.pool).metadata)},
        evaluating=evaluating,
    )


LAUNCHER = Launcher("attack", __doc__, Config, build=build)

if __name__ == "__main__":
    LAUNCHER.main()

"""The launchers whose p(θ0) is a pool of pretrained networks: adaptation to other data, and attacks."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from ddjax import baselines, checks, inits
from ddjax.data import Dataset, Split, provenance
from ddjax.judge import Evaluation, Judge
from ddjax.launch import results
from ddjax.launch.choices import load_pool, network_of, random_inits, runs_at_once
from ddjax.launch.distillation import validated
from ddjax.launch.types import Finished, Hooks, Launch, Parts
from ddjax.launch.unrolling import unrolled_parts
from ddjax.methods.unrolled import Objective, cross_entropy, relabelled
from ddjax.plan import Plan
from ddjax.poisoning import rates, trained_rates, wrongly_labelled
from ddjax.pool import Pool
from ddjax.types import InitDistribution, Schedule

REAL = ("random real", "optimized real", "k-means", "class mean")
"""The baselines of the 2018 paper's table of adaptations."""

TUNING = baselines.Tuning(learning_rates=(0.001, *baselines.LEARNING_RATES), num_inits=10)
SELECTION = baselines.Selection(num_candidates=50, num_kept=5, num_inits=10)

LEARNING_RATES = (*TUNING.learning_rates, 1.0)
"""The constant learning rates to choose from, on validation, for real images with wrong labels."""


def pool_parts(
    config: Any,
    data: Dataset,
    plan: Plan,
    pool: Pool,
    *,
    hooks: Hooks,
    member: int | None = None,
    objective: Objective = cross_entropy,
) -> Parts:
    """The parts of a distillation whose p(θ0) is a pool's training members; held-out ones give the score.

    Args:
        config: the settings.
        data: the real data.
        plan: the plan, with the form of convolutions and the memory strategy.
        pool: the pool.
        hooks: the functions by which the launcher departs from the others.
        member: the one training member that is both; None for all.
        objective: the loss of the outer loop.

    Returns:
        The parts.

    Raises:
        ValueError: the settings do not fit each other, the data or the pool.
    """
    parts = unrolled_parts(
        config,
        data,
        plan,
        lambda network: inits.pretrained(pool.fit(network), member=member),
        otherwise=network_of(pool),
        objective=objective,
    )
    others = parts.inits
    if member is None:
        others = inits.pretrained(pool.fit(parts.network), split="held_out")
    return dataclasses.replace(parts, eval_inits=others, hooks=hooks)


def untrained(parts: Parts, split: Split, count: int | None = None) -> Evaluation:
    """The accuracy of the networks of the final score before any step.

    Args:
        parts: the parts, with p(θ0) of the final score.
        split: the split to test on.
        count: the number of networks at most; None for all.

    Returns:
        The accuracies, one for each network.
    """
    params = parts.judged_inits.pool
    if params is None:  # one member alone
        params = jax.tree.map(lambda leaf: leaf[None], parts.judged_inits.sample(jax.random.key(0)))
    params = jax.tree.map(lambda leaf: leaf[:count], params)
    return Judge(parts.network, parts.judged_inits, parts.method.recipe, split).untrained(params)


# Adaptation.


def measure_adaptation(finished: Finished) -> dict[str, Any]:
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
    compared: dict[str, Any] = {"no adaptation": untrained(parts, data.test).as_dict()}
    if config.baselines:
        count = result["test_accuracy"]["n"]
        setting = dataclasses.replace(
            _setting(data, parts),
            inits=parts.judged_inits,
            num_inits=count,
            runs_per_chunk=runs_at_once(count),
            tuning=dataclasses.replace(TUNING, inits=parts.inits),
        )
        real_key, all_key, scratch_key = jax.random.split(launch.keys.baselines, 3)
        compared |= baselines.measure(
            setting, key=real_key, seed=config.seed, names=REAL, selection=SELECTION
        )
        tuned = results.ceiling(setting, key=all_key, recipe=results.FINE_TUNING)
        scratch = dataclasses.replace(setting, inits=random_inits(config, parts.network), num_inits=3)
        compared["all of the target"] = tuned.as_dict()
        fresh = results.ceiling(scratch, key=scratch_key)
        compared["all of the target, from scratch"] = fresh.as_dict()
    return result | {"baselines": compared}


def _setting(data: Dataset, parts: Parts) -> baselines.Setting:
    """The setting of real images that are laid out as φ is."""
    return baselines.Setting(data, parts.network, parts.inits, parts.method.recipe, *parts.facts.layout[:3])


# Attack.


def check_attack(config: Any, data: Dataset, pool: Pool) -> None:
    """Refuse an attack on classes that are not there, or on networks that were trained on other data.

    Args:
        config: the settings of `experiments.attack`.
        data: the real data.
        pool: the pool of networks that are attacked.

    Raises:
        ValueError: the data have no such classes, or the pool was trained on other data.
    """
    for name in ("attacked", "target"):
        if getattr(config, name) >= data.num_classes:
            raise ValueError(
                f"{name}: expected one of the classes 0 to {data.num_classes - 1} of {data.name}; got "
                f"{getattr(config, name)}. Give another --{name}."
            )
    relabelled(config.attacked, config.target)  # refuses one class twice
    remedy = "The attack is on what a network can do."
    checks.equal("the pool's data", pool.metadata.get("dataset", data.name), data.name, remedy=remedy)
    own = provenance.recorded(pool.metadata, where=config.pool)
    if own.digests and provenance.facts(data)["data"]["digests"]["test"] != own.digests.get("test"):
        raise ValueError(
            f"{config.pool}: expected a pool that was trained on {data.name}; its data of that name were "
            f"others. {remedy} Train a pool on these."
        )
    if own.class_names:
        provenance.check_classes(config.pool, own.class_names, data)


def score_of_attack(launch: Launch) -> Callable[[Schedule], float]:
    """The score that the best φ of an attack is chosen by.

    Args:
        launch: the run.

    Returns:
        `schedule -> percent`: half the rate at which the attacked class is taken for the target, plus half
        the accuracy on the other classes, on the validation split.
    """
    config, parts = launch.config, launch.parts

    def scored(part: Split) -> Callable[[Schedule], float]:
        at_once = runs_at_once(config.num_val_inits)
        judge = Judge(parts.network, parts.inits, parts.method.recipe, part, at_once)
        return validated(judge, key=launch.keys.validation, num_inits=config.num_val_inits)

    halves = rates(scored, launch.data.validation, **_aim(config)).values()
    return lambda schedule: sum(half(schedule) for half in halves) / len(halves)


def measure_attack(finished: Finished) -> dict[str, Any]:
    """The final scores of an attack over held-out networks, and the baselines.

    Args:
        finished: the run.

    Returns:
        The content of `result.json`: for φ and each baseline, the rate at which the attacked class is taken
        for the target, and the accuracy on the other classes.
    """
    evaluating = time.monotonic()
    launch = finished.launch
    config, data, parts = launch.config, launch.data, launch.parts
    scores = _tested(launch, [finished.outcome.distilled.schedule])

    def before(part: Split) -> dict[str, Any]:
        return untrained(parts, part, config.num_eval_inits).as_dict()

    compared = {"no step": rates(before, data.test, **_aim(config))}
    if config.baselines:
        compared["random real images, wrong labels"] = _wrong_labels(launch)
    names = [data.class_names[k] for k in _aim(config).values()]
    columns = {
        "attacked_to_target": f"{names[0]} taken for {names[1]}, %",
        "other_classes": "accuracy on the others, %",
    }
    return results.record_of_run(
        finished,
        {**_aim(config), "columns": columns, **scores},
        {"baselines": compared, "pool": dict(load_pool(config.pool).metadata)},
        evaluating=evaluating,
    )


def _aim(config: Any) -> dict[str, int]:
    return {"attacked": config.attacked, "target": config.target}


def _rates(
    launch: Launch, schedules: Sequence[Schedule], split: Split, distribution: InitDistribution, count: int
) -> dict[str, Evaluation]:
    """Both rates of `count` members of p(θ0), which train on the schedules in turns."""
    parts = launch.parts
    judge = Judge(parts.network, distribution, parts.method.recipe, split, runs_at_once(count))
    return trained_rates(judge, schedules, count=count, **_aim(launch.config))


def _tested(launch: Launch, schedules: Sequence[Schedule]) -> dict[str, Any]:
    """Both rates on the test split, over the held-out members, by name."""
    held_out, wanted = launch.parts.judged_inits, launch.config.num_eval_inits
    found = _rates(launch, schedules, launch.data.test, held_out, min(wanted, held_out.size or wanted))
    return {name: score.as_dict() for name, score in found.items()}


def _wrong_labels(launch: Launch) -> dict[str, Any]:
    """Both rates of random real images with wrong labels, and the `lr` that validation chose."""
    setting, config = _setting(launch.data, launch.parts), launch.config
    count = TUNING.num_inits

    def poisoned(first: int, count: int, lr: float) -> list[Schedule]:
        sets = baselines.real_sets(setting, range(first, first + count))
        laid_out = (baselines.lay_out(one, setting, lr=lr) for one in sets)
        return [wrongly_labelled(one, **_aim(config)) for one in laid_out]

    def on_validation(lr: float) -> tuple[bool, float]:
        sets = poisoned(config.seed + 1_000_000, count, lr)
        found = _rates(launch, sets, launch.data.validation, launch.parts.inits, count)
        is_trained = not any(score.all_diverged for score in found.values())
        return is_trained, float(np.mean([score.mean for score in found.values()]))

    lr = max(LEARNING_RATES, key=on_validation)
    return _tested(launch, poisoned(config.seed, config.num_eval_inits, lr)) | {"lr": lr}

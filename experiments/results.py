"""The final numbers of a run: the score on the test split, the baselines, the table, what it was made on."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Mapping
from typing import Any

import jax

from ddjax import baselines, report
from ddjax.data import Dataset
from ddjax.evaluate import evaluate
from ddjax.run import Run
from ddjax.types import InitDistribution, Network, Recipe
from experiments import config as settings
from experiments.parts import Keys, Parts, runs_at_once

FULL_DATA = Recipe("train", lr=0.05, momentum=0.9, weight_decay=5e-4, epochs=6, batch_size=64)
"""How the ceiling is trained: the whole training split, a few epochs."""


def measure_baselines(
    data: Dataset,
    network: Network,
    distribution: InitDistribution,
    recipe: Recipe,
    *,
    layout: tuple[int, int, int],
    num_inits: int,
    seed: int,
    key: jax.Array,
) -> dict[str, Any]:
    """The baselines of a setting and the ceiling, for `result.json`.

    Args:
        data: real data.
        network: to train.
        distribution: p(θ0).
        recipe: of φ.
        layout: S, E and images of one class in one step.
        num_inits: behind each score; the ceiling gets three at most.
        seed: of the random sets.
        key: draws the initial weights. Consumed.
    """
    few_key, all_key = jax.random.split(key)
    at_once = runs_at_once(num_inits)
    setting = baselines.Setting(data, network, distribution, recipe, *layout, num_inits, at_once)
    ceiling = baselines.all_data(
        data, network, distribution, key=all_key, num_inits=min(3, num_inits), recipe=FULL_DATA
    )
    return baselines.measure(setting, key=few_key, seed=seed) | {"all data": ceiling.as_dict()}


def table(result: Mapping[str, Any]) -> str:
    """The distilled images against the baselines, best first."""
    rows = [("distilled images", result["test_accuracy"]), *(result.get("baselines") or {}).items()]
    rows.sort(key=lambda row: -row[1]["mean"])
    cells = [
        (name, report.format_mean_std(score["values"]), score["n"], tuned(score)) for name, score in rows
    ]
    return report.table(cells, ("trained on", "test accuracy, %", "n", "tuned on validation"))


def tuned(score: Mapping[str, Any]) -> str:
    """What was chosen on validation for a baseline."""
    names = {"lr": "learning rate", "neighbours": "neighbours"}
    return ", ".join(f"{text} {score[key]:g}" for key, text in names.items() if score.get(key))


def measure(
    experiment: str,
    config: settings.Common,
    data: Dataset,
    keys: Keys,
    *,
    parts: Parts,
    outcome: Run,
    began: float,
) -> dict[str, Any]:
    """The final score, on the test split and unseen initial weights; the baselines; what it was made on."""
    evaluating = time.monotonic()
    score = evaluate(
        outcome.distilled,
        parts.network,
        parts.inits,
        data.test,
        key=keys.test,
        num_inits=config.num_eval_inits,
        runs_per_chunk=runs_at_once(config.num_eval_inits),
    )
    compared = None
    if config.baselines:
        compared = measure_baselines(
            data,
            parts.network,
            parts.inits,
            parts.method.recipe,
            layout=parts.layout,
            num_inits=len(score.values),
            seed=config.seed,
            key=keys.baselines,
        )
    now = time.monotonic()
    return {
        "experiment": experiment,
        "dataset": data.name,
        "network": parts.network.name,
        "init": parts.inits.name,
        "test_accuracy": score.as_dict(),
        "val_accuracy": outcome.val_accuracy,
        "baselines": compared,
        "num_outer_steps": outcome.num_outer_steps,
        "best_step": outcome.best_step,
        "seconds": dict(outcome.seconds) | {"evaluate": now - evaluating, "total": now - began},
        "seed": config.seed,
        **made_on(),
    }


def made_on() -> dict[str, Any]:
    """What a record says of its making: hardware, versions, command."""
    module = getattr(sys.modules["__main__"].__spec__, "name", None)
    started = ["python", "-m", module] if module else ["python"]
    return {
        "hardware": report.hardware(),
        "versions": report.versions(),
        "command": shlex.join([*started, *sys.argv[1:]]),
    }

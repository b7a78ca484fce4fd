"""The scores of kernel regression: of φ, of the real images that it starts from, of a finite network on φ."""

from __future__ import annotations

import time
from typing import Any

import jax

from ddjax import inits, networks
from ddjax.data import Split, to_device
from ddjax.judge import Evaluation, Judge, evaluate
from ddjax.launch.results import record_of_run
from ddjax.launch.types import Finished, Launch
from ddjax.methods.kernel_inducing_points import solved_labels
from ddjax.recipes import Regress, Ridge

LABEL_SCALES = (1.0, 2.0, 4.0, 8.0, 16.0)
"""The factors on the labels that a finite network is tried with."""


def measure(finished: Finished) -> dict[str, Any]:
    """The content of `result.json`: the score on the test split, that of real images, a finite network's.

    Args:
        finished: the run.

    Returns:
        The record.
    """
    evaluating = time.monotonic()
    launch, config, parts = finished.launch, finished.launch.config, finished.launch.parts
    score = evaluate(
        finished.outcome.distilled,
        parts.network,
        parts.inits,
        launch.data.test,
        key=launch.keys.test,
        num_inits=_num_inits(launch),
    )
    scores = {
        "layout": parts.facts.layout.as_dict(launch.data.num_classes),
        "test_accuracy": score.as_dict(),
        "finite": finite(finished) if config.finite else None,
    }
    compared = of_real_images(launch) if config.baselines else None
    return record_of_run(finished, scores, {"baselines": compared}, evaluating=evaluating)


def _num_inits(launch: Launch) -> int:
    """The networks behind a score: a kernel without weights is always the same."""
    return launch.config.num_eval_inits if launch.parts.network.kernel is None else 1


def of_real_images(launch: Launch) -> dict[str, Any]:
    """The scores of the real images that φ started from: with their own labels, and with solved ones.

    Args:
        launch: the run.

    Returns:
        The scores on the test split, by name.
    """
    config, parts, key = launch.config, launch.parts, launch.keys.baselines
    start = parts.form.unfold(parts.form.init(jax.random.key(config.seed)))
    params, train = parts.inits.sample(key), to_device(launch.data.train)
    labels = solved_labels(parts.network, params, start.inputs[0], train, penalty=config.penalty)
    judge = Judge(parts.network, parts.inits, Ridge(config.penalty), launch.data.test)
    rows = {
        "the images at the start": start,
        "the images at the start, labels solved": start._replace(labels=labels[None]),
    }
    return {
        name: judge.evaluation(schedule, key=key, num_inits=_num_inits(launch)).as_dict()
        for name, schedule in rows.items()
    }


def finite(finished: Finished) -> dict[str, Any]:
    """The score of a finite network trained on φ by squared error, at the scale that validation chose.

    Args:
        finished: the run.

    Returns:
        The network, the scale, the score of each scale on the validation split, and the score on the test
        split.
    """
    launch, config = finished.launch, finished.launch.config
    data, schedule = launch.data, finished.outcome.distilled.schedule
    network = networks.by_text(config.finite, data.image_shape, data.num_classes)
    distribution = inits.random(network, scheme="lecun_normal")

    def scored(split: Split, scale: float, key: jax.Array, count: int) -> Evaluation:
        recipe = Regress(
            lr=config.finite_lr, steps=config.finite_steps, warmup=0, label_scale=scale, centre=True
        )
        return Judge(network, distribution, recipe, split).evaluation(schedule, key=key, num_inits=count)

    tried = {
        scale: scored(data.validation, scale, launch.keys.validation, config.num_val_inits).mean
        for scale in LABEL_SCALES
    }
    best = max(tried, key=lambda scale: tried[scale])
    score = scored(data.test, best, launch.keys.test, config.num_eval_inits)
    return {
        "network": config.finite,
        "label_scale": best,
        "validation": {f"{scale:g}": value for scale, value in tried.items()},
        "test_accuracy": score.as_dict(),
    }

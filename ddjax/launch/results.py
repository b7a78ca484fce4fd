"""The final numbers of a run: the score on the test split, the baselines, the table.

Every record also says on which hardware, with which versions and by which command it was made.
"""

from __future__ import annotations

import dataclasses
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from ddjax import baselines, forms, recipes, report
from ddjax.data import Dataset
from ddjax.judge import Evaluation, evaluate
from ddjax.launch.choices import runs_at_once
from ddjax.launch.types import Finished
from ddjax.recipes import Train
from ddjax.types import Form, InitDistribution, Network, Recipe

FULL_DATA = Train(lr=0.05, momentum=0.9, weight_decay=5e-4, epochs=6, batch_size=64)
"""The recipe of the ceiling: training on the whole training split for a few epochs."""

FINE_TUNING = dataclasses.replace(FULL_DATA, lr=0.01)
"""The same from pretrained weights, where a rate of 0.05 made two of three LeNets diverge (USPS to MNIST)."""


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
    tuning: baselines.Tuning | None = None,
) -> dict[str, Any]:
    """The baselines of a setting and the ceiling, for `result.json`.

    Args:
        data: the real data.
        network: the network to train.
        distribution: p(θ0), the distribution of initial weights.
        recipe: the recipe by which networks train on φ.
        layout: S, E and the number of images of one class in one step.
        num_inits: the number of initial weights behind each score; the ceiling has three at most.
        seed: the seed of the random sets.
        key: the source of the initial weights. Consumed.
        tuning: the learning rates to choose from; by default those of `ddjax.baselines`.

    Returns:
        The scores, by the names of the baselines.
    """
    few_key, all_key = jax.random.split(key)
    at_once = runs_at_once(num_inits)
    setting = baselines.Setting(data, network, distribution, recipe, *layout, num_inits, at_once)
    if tuning is not None:
        setting = dataclasses.replace(setting, tuning=tuning)
    few = baselines.measure(setting, key=few_key, seed=seed)
    return few | {"all data": ceiling(setting, key=all_key).as_dict()}


def ceiling(setting: baselines.Setting, *, key: jax.Array, recipe: Recipe = FULL_DATA) -> Evaluation:
    """The accuracy of training on the whole training split, from three initial weights at most.

    Args:
        setting: the setting of the baselines.
        key: the source of the initial weights. Consumed.
        recipe: the recipe of the training.

    Returns:
        The accuracies on the test split.
    """
    return baselines.all_data(
        setting.data,
        setting.network,
        setting.inits,
        key=key,
        num_inits=min(3, setting.num_inits),
        recipe=recipe,
    )


def table(result: Mapping[str, Any]) -> str:
    """The scores of the distilled images, where there are any, and of the baselines as text, best first.

    Args:
        result: the content of `result.json`.

    Returns:
        The text.
    """
    if "columns" in result:
        return _table_of_columns(result)
    ours = {"distilled images": result["test_accuracy"]} if "test_accuracy" in result else {}
    rows = list((ours | (result.get("baselines") or {})).items())
    rows.sort(key=lambda row: -row[1]["mean"])
    cells = [(name, report.format_score(score), score["n"], tuned(score)) for name, score in rows]
    return report.table(cells, ("trained on", "test accuracy, %", "n", "tuned on validation"))


def _table_of_columns(result: Mapping[str, Any]) -> str:
    """The table of a result with several scores, whose `columns` are the titles of the scores by name."""
    names = list(result["columns"])
    rows = [("distilled images", result), *(result.get("baselines") or {}).items()]
    rows.sort(key=lambda row: -sum(row[1][name]["mean"] for name in names))
    cells = [
        (
            row,
            *(report.format_score(scores[name]) for name in names),
            scores[names[0]]["n"],
            tuned(scores),
        )
        for row, scores in rows
    ]
    return report.table(cells, ("trained on", *result["columns"].values(), "n", "tuned on validation"))


def tuned(score: Mapping[str, Any]) -> str:
    """The settings of a baseline that were chosen on the validation split.

    Args:
        score: the score of the baseline.

    Returns:
        The text, such as `"learning rate 0.02"`; empty where nothing was chosen.
    """
    names = {"lr": "learning rate", "epochs": "epochs", "steps": "steps", "neighbours": "neighbours"}
    return ", ".join(f"{text} {score[key]:g}" for key, text in names.items() if score.get(key))


def measure(finished: Finished, *, compare: bool | None = None) -> dict[str, Any]:
    """The content of `result.json`: the score on the test split from unseen initial weights; the baselines.

    Args:
        finished: the run.
        compare: whether the baselines are measured; by default the settings decide.

    Returns:
        The record.
    """
    evaluating = time.monotonic()
    launch, outcome = finished.launch, finished.outcome
    config, data, parts = launch.config, launch.data, launch.parts
    score = evaluate(
        outcome.distilled,
        parts.network,
        parts.judged_inits,
        data.test,
        key=launch.keys.test,
        num_inits=config.num_eval_inits,
        runs_per_chunk=runs_at_once(config.num_eval_inits),
        progress=True,
    )
    compared = None
    if config.baselines if compare is None else compare:
        compared = measure_baselines(
            data,
            parts.network,
            parts.judged_inits,
            parts.method.recipe,
            tuning=baselines.Tuning(inits=None if parts.eval_inits is None else parts.inits),
            layout=parts.facts.layout[:3],
            num_inits=len(score.values),
            seed=config.seed,
            key=launch.keys.baselines,
        )
    layout, kept = parts.facts.layout.as_dict(data.num_classes), stored(parts.form)
    if kept:  # the layout is that of plain images of the same storage
        layout["images"] = kept["storage"]["trained_images"]
    return record_of_run(
        finished,
        {"layout": layout, **kept, "test_accuracy": score.as_dict()},
        {"baselines": compared},
        evaluating=evaluating,
    )


def stored(form: Form) -> dict[str, Any]:
    """What a form stores, for a record, where its images are not plain pixels.

    Args:
        form: the form of φ.

    Returns:
        The `storage`, see `ddjax.forms.Storage.as_dict`; empty for other forms.
    """
    return {"storage": forms.storage(form).as_dict()} if forms.is_named(form) else {}


def record_of_run(
    finished: Finished, scores: Mapping[str, Any], compared: Mapping[str, Any], *, evaluating: float
) -> dict[str, Any]:
    """The record of a distillation.

    Args:
        finished: the run.
        scores: the measurements of φ.
        compared: the measurements that φ is compared with, such as the baselines.
        evaluating: the time when the measuring began, on the monotonic clock.

    Returns:
        The content of `result.json`.
    """
    launch, outcome, now = finished.launch, finished.outcome, time.monotonic()
    # Those of the whole work directory: of this process, and of distilling in the processes before.
    seconds = dict(outcome.seconds)
    seconds |= {"evaluate": now - evaluating, "total": now - finished.began + seconds.pop("earlier")}
    return record(
        launch.experiment,
        launch.data.name,
        {
            "network": launch.parts.network.name,
            "init": launch.parts.judged_inits.name,
            "recipe": recipes.as_dict(outcome.distilled.recipe),
            **scores,
            "val_accuracy": outcome.val_accuracy,
            **compared,
            "num_outer_steps": outcome.num_outer_steps,
            "best_step": outcome.best_step,
        },
        seconds=seconds,
        seed=launch.config.seed,
    )


def drawn(directory: Path, pictures: Mapping[str, Callable[[Path], None]]) -> tuple[str, ...]:
    """Draw pictures beside a result that is already written; one that fails is named in a warning on stderr.

    Args:
        directory: the directory of the result.
        pictures: the function that draws each picture to a path, by the name of the file.

    Returns:
        The names of the files that were written.
    """
    written = []
    for name, draw in pictures.items():
        try:
            draw(directory / name)
            written.append(name)
        except Exception as error:  # whatever Matplotlib, its fonts or the disk raise
            print(f"warning: {directory / name} could not be drawn: {error!r}", file=sys.stderr, flush=True)
    return tuple(written)


def record(
    experiment: str, dataset: str, found: Mapping[str, Any], *, seconds: Mapping[str, float], seed: int
) -> dict[str, Any]:
    """The content of `result.json`: the findings of a launcher, with the facts that every record has.

    Args:
        experiment: the launcher's name.
        dataset: the name of the data set.
        found: the findings of the launcher.
        seconds: the duration of each part of the work.
        seed: the seed of everything random.

    Returns:
        The record.
    """
    return {
        "experiment": experiment,
        "dataset": dataset,
        **found,
        "seconds": dict(seconds),
        "seed": seed,
        **made_on(),
    }


def made_on() -> dict[str, Any]:
    """The hardware, the versions and the command that a record was made with.

    Returns:
        The facts, by name.
    """
    module = getattr(sys.modules["__main__"].__spec__, "name", None)
    started = ["python", "-m", module] if module else ["python"]
    return {
        "hardware": report.hardware(),
        "versions": report.versions(),
        "command": shlex.join([*started, *sys.argv[1:]]),
    }

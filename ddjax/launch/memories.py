"""The memories of continual learning: what is kept of each task, what it teaches of all classes so far."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ddjax import artifact, coresets, figures, report
from ddjax.data import Dataset, Stream, in_tasks, provenance
from ddjax.launch.choices import load_data
from ddjax.launch.flags import listed, shared
from ddjax.launch.kept import Scores
from ddjax.launch.launcher import find
from ddjax.launch.onward import distil_parts
from ddjax.launch.selecting import Selecting, Task, check_forgetting

SELECTIONS = ("random", "herding", "k_center", "forgetting")
"""The memories of real images, named as in `experiments.coreset`."""

DISTILLATIONS = ("distribution_matching", "gradient_matching")
"""The memories of synthetic images, by the launchers that distil them."""

MEMORIES = (*SELECTIONS, *DISTILLATIONS)


def memories(config: Any) -> tuple[str, ...]:
    """The memories that the flag lists.

    Args:
        config: the settings of `experiments.continual`.

    Returns:
        The names.

    Raises:
        ValueError: no memory is listed, one is listed twice or unknown, or the settings rule one out.
    """
    wanted = listed("memory", config.memory, MEMORIES)
    check_forgetting(wanted, config.feature_epochs)
    return wanted


def stream_of(config: Any) -> Stream:
    """The data as a stream of tasks.

    Args:
        config: the settings of `experiments.continual`.

    Returns:
        The stream.

    Raises:
        ValueError: the classes cannot be divided evenly into the tasks, or a class has too few images.
        FileNotFoundError: the data are missing.
    """
    data = load_data(config)
    tasks = in_tasks(data, config.num_tasks, seed=config.seed if config.shuffled else None)
    coresets.check_enough(data.train, config.images_per_class, data.num_classes)
    return tasks


def task_of(config: Any, data: Dataset) -> Task:
    """The network, the training and the tests for some of the classes, as in `experiments.coreset`.

    Args:
        config: the settings of `experiments.continual`.
        data: the data of these classes.

    Returns:
        The task.

    Raises:
        ValueError: the network or an augmentation does not fit the images.
    """
    return Task.of(shared(config, Selecting), data)


def kept(name: str, config: Any, own: Dataset, path: Path) -> np.ndarray:
    """The images of a task that a memory keeps, read from their file where an earlier start has written them.

    A distillation that was stopped continues with its last checkpoint.

    Args:
        name: the name of the memory.
        config: the settings of `experiments.continual`.
        own: the data of the task.
        path: the file of the images, an artifact; checkpoints of a distillation are in the directory of the
            same name without its ending.

    Returns:
        `[K, m, H, W, C]`, m images for each of the task's K classes.

    Raises:
        ValueError: the file holds images of other data than those at hand.
    """
    if path.exists():
        kept_before = artifact.load(path)
        _check_same_data(path, kept_before.metadata, own)
        return _by_class(kept_before.schedule.inputs, own)
    task = task_of(config, own)
    if name in DISTILLATIONS:
        launcher = find(name)
        parts = launcher.parts(shared(config, launcher.config_class), own)
        outcome = distil_parts(parts, own, path.with_suffix(""), seed=config.seed)
        images = _by_class(outcome.distilled.schedule.inputs, own)
    else:
        task = task._replace(config=dataclasses.replace(task.config, num_eval_inits=1))
        images = task.selected(name, task.learned()).sets[0]
    task.write(path, name, coresets.Coreset([images]))
    return images


def _by_class(images: Any, own: Dataset) -> np.ndarray:
    return np.asarray(images).reshape(own.num_classes, -1, *own.image_shape)


def _check_same_data(path: Path, metadata: Mapping[str, Any], data: Dataset) -> None:
    """Refuse a memory of other data; the memories of older versions of ddjax do not name their data."""
    before, now = metadata.get("data"), provenance.facts(data)["data"]
    if before is not None and before != now:
        differing = sorted(name for name in now if before.get(name) != now[name])
        raise ValueError(
            f"{path}: expected a memory of the data at hand; its data have another {', '.join(differing)}. "
            "Give --workdir another directory."
        )


def measure(config: Any, stream: Stream, wanted: Sequence[str], scores: Scores) -> dict[str, Any]:
    """What `result.json` says of the memories; memories and scores are kept as soon as they are known.

    Args:
        config: the settings of `experiments.continual`.
        stream: the stream of tasks.
        wanted: the names of the memories.
        scores: the scores that are known already, to which the others are added.

    Returns:
        The findings.
    """
    accuracy: dict[str, dict[str, Any]] = {}
    for name in wanted:
        pieces: list[np.ndarray] = []
        accuracy[name] = {}
        for task in range(config.num_tasks):
            pieces.append(kept(name, config, stream.own(task), scores.workdir / f"{name}-{task + 1}.npz"))
            data = stream.seen(task)
            title = f"{name}, {data.num_classes} classes"
            if title not in scores.known:
                memory = coresets.Coreset([np.concatenate(pieces)])
                scores.add(title, task_of(config, data).score(memory).as_dict())
            accuracy[name][str(data.num_classes)] = scores.known[title]
    return {
        "tasks": [list(map(int, classes)) for classes in stream.tasks],
        "images_per_class": config.images_per_class,
        "accuracy": accuracy,
    }


def table(result: Mapping[str, Any]) -> str:
    """A row for each memory, and a column for each number of classes seen.

    Args:
        result: the content of `result.json`.

    Returns:
        The table as text.
    """
    rows = [
        (name, *(report.format_score(score) for score in row.values()))
        for name, row in result["accuracy"].items()
    ]
    numbers = next(iter(result["accuracy"].values()))
    return report.table(rows, ("test accuracy, %", *(f"{number} classes" for number in numbers)))


def draw(path: Path, result: Mapping[str, Any]) -> None:
    """Draw the accuracy on all classes seen so far against the number of these classes.

    Args:
        path: the file of the figure.
        result: the content of `result.json`.
    """
    lines = [
        figures.Line(
            name.replace("_", " "),
            [int(number) for number in row],
            [score["mean"] for score in row.values()],
            [score["std"] for score in row.values()],
        )
        for name, row in result["accuracy"].items()
    ]
    figures.lines(
        path,
        lines,
        x_label="classes seen",
        y_label="test accuracy on them, %",
        title=f"{result['dataset']}: images of each class in memory: {result['images_per_class']}",
    )

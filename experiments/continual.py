"""Continual learning: classes come a few at a time, and a memory keeps a few images of each.

After every task networks are trained from scratch on the memory alone, and tested on all classes seen so far
(GDumb). The memory's images of a task are selected, or distilled, from that task's training images while
these are there; features too are learned on them alone. The work directory keeps every memory as an artifact
and each score as it comes: a stopped run continues with the next score, a distillation with its last
checkpoint.

Claim: the embedded digits, five tasks of two classes, one image of each class in memory, after the last task,
five networks: random real images 76.9 ± 1.3, herding 84.5 ± 1.3, distribution matching 88.9 ± 0.5.
Cost: 99 s of two CPU cores beside other runs.
Records: results/continual-digits.json

    python -m experiments.continual --dataset=digits --width=32 --images_per_class=1 --train_epochs=300 \
        --protocol=plain
    python -m experiments.continual --dataset=mnist --width=32 --num_outer_steps=500 --eval_augment=dsa \
        --augment=dsa

References:
    Prabhu, Torr and Dokania 2020, GDumb, ECCV; with condensed memories Zhao, Mopuri and Bilen 2021, arXiv
    2006.05929, and Zhao and Bilen 2023, arXiv 2110.04181.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import ddjax
from ddjax import artifact, checks, coresets, figures, networks, report
from ddjax.data import Dataset, Stream, in_tasks, provenance
from ddjax.launch import Keys, Launcher, Scores, inputs_of, once, results
from ddjax.launch.choices import load_data
from ddjax.launch.flags import flag, flag_like, listed, shared
from ddjax.launch.settings import AUGMENTATIONS, DataChoice, Matching, Where
from ddjax.networks.ops import CONV_FORMS
from ddjax.recipes import MOST_EPOCHS

from . import coreset, distribution_matching, gradient_matching

SELECTIONS = ("random", "herding", "k_center", "forgetting")
"""The memories of real images, named as in `experiments.coreset`."""

DISTILLATIONS: Mapping[str, Launcher[Any]] = {
    one.name: one for one in (distribution_matching.LAUNCHER, gradient_matching.LAUNCHER)
}
"""The memories of synthetic images, with the launchers that distil them."""

MEMORIES = (*SELECTIONS, *DISTILLATIONS)


@dataclasses.dataclass(frozen=True)
class Config(Where, DataChoice):
    """The settings of a comparison of memories."""

    workdir: str | None = flag_like(
        Where, "workdir", help="directory of the memories and scores; runs/continual-DATASET by default"
    )
    memory: str = flag(
        "random,herding,distribution_matching", f"which, with commas between them: {', '.join(MEMORIES)}"
    )
    num_tasks: int = flag(5, "the classes are divided evenly into so many", low=1)
    shuffled: bool = flag(False, "classes come in an order drawn from the seed, not in that of their numbers")
    images_per_class: int = flag(10, "images of each class in the memory", low=1)
    network: str | None = flag("convnet", f"what is trained on the memory: {', '.join(networks.NAMES)}")
    init: str = flag_like(DataChoice, "init", default="pytorch")
    conv_form: str = flag("auto", "how convolutions are computed", choices=CONV_FORMS)
    num_outer_steps: int = flag(300, "outer steps of a distillation, for each task", low=1)
    batch_size: int = flag(64, "N, real images of each class in an outer step", low=1)
    augment: str | None = flag(None, f"augmentation while distilling; {AUGMENTATIONS}")
    feature_epochs: int = flag(10, "passes over a task's images that train herding's network", low=1)
    train_epochs: int = flag(300, "epochs that a network trains on the memory", low=1, high=MOST_EPOCHS)
    train_lr: float = flag(0.01, "learning rate of that training", positive=True)
    protocol: str = flag_like(Matching, "protocol")
    eval_augment: str | None = flag(None, f"augmentation of each image there; {AUGMENTATIONS}")
    num_eval_inits: int = flag(5, "initial weights behind each score", low=1)

    def idle(self) -> dict[str, str]:
        """The settings that change nothing under the other settings.

        Returns:
            The reasons, by the names of the flags.
        """
        found, wanted = super().idle(), listed("memory", self.memory, MEMORIES)
        if not {*wanted} & {*DISTILLATIONS}:
            distilling = ("num_outer_steps", "batch_size", "augment")
            found |= dict.fromkeys(distilling, "no memory is distilled")
        if not {*wanted} - {*DISTILLATIONS} - {"random", "class_mean", "k_means"}:
            found["feature_epochs"] = "no memory looks at a trained network"
        return found


def memories(config: Config) -> tuple[str, ...]:
    """The memories that the flag lists.

    Args:
        config: the settings.

    Returns:
        The names.

    Raises:
        ValueError: no memory is listed, one is listed twice or unknown, or the settings rule one out.
    """
    wanted = listed("memory", config.memory, MEMORIES)
    if "forgetting" in wanted:
        remedy = "Nothing is forgotten in a single epoch: give more --feature_epochs."
        checks.at_least("forgetting: feature_epochs", config.feature_epochs, 2, remedy=remedy)
    return wanted


def stream_of(config: Config) -> Stream:
    """The data as a stream of tasks.

    Args:
        config: the settings.

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


def task_of(config: Config, data: Dataset) -> coreset.Task:
    """The network, the training and the tests for some of the classes, as in `experiments.coreset`.

    Args:
        config: the settings.
        data: the data of these classes.

    Returns:
        The task.

    Raises:
        ValueError: the network or an augmentation does not fit the images.
    """
    return coreset.task_of(shared(config, coreset.Config), data)


def distilled(name: str, config: Config, data: Dataset, workdir: Path) -> np.ndarray:
    """The distilled images of a task. A distillation that was stopped continues with the last checkpoint.

    Args:
        name: the name of the memory, one of `DISTILLATIONS`.
        config: the settings.
        data: the data of the task.
        workdir: the directory of the distillation's checkpoints.

    Returns:
        `[K, m, H, W, C]`, m images for each of the task's K classes.
    """
    launcher = DISTILLATIONS[name]
    parts = launcher.parts(shared(config, launcher.config_class), data)
    outcome = ddjax.distill(
        data,
        parts.method,
        key=Keys.of(config.seed).run,
        num_outer_steps=parts.num_outer_steps,
        form=parts.form,
        optimizer=parts.outer.optimizer,
        clip_norm=parts.outer.clip_norm,
        workdir=workdir,
    )
    images = np.asarray(outcome.distilled.schedule.inputs)
    return images.reshape(data.num_classes, config.images_per_class, *data.image_shape)


def kept(name: str, config: Config, stream: Stream, task: int, workdir: Path) -> np.ndarray:
    """The images of a task that a memory keeps, read from their file where an earlier start has written them.

    Args:
        name: the name of the memory.
        config: the settings.
        stream: the stream of tasks.
        task: the number of the task, from 0.
        workdir: the directory of the memories.

    Returns:
        `[K, m, H, W, C]`, m images for each of the task's K classes.

    Raises:
        ValueError: the file holds images of other data than those at hand.
    """
    own, path = stream.own(task), workdir / f"{name}-{task + 1}.npz"
    if path.exists():
        kept_before = artifact.load(path)
        _check_same_data(path, kept_before.metadata, own)
        images = np.asarray(kept_before.schedule.inputs)
        return images.reshape(own.num_classes, config.images_per_class, *own.image_shape)
    settings = task_of(config, own)
    if name in DISTILLATIONS:
        images = distilled(name, config, own, workdir / f"{name}-{task + 1}")
    else:
        one = settings._replace(config=dataclasses.replace(settings.config, num_eval_inits=1))
        images = coreset.coreset(name, one, coreset.learned_of(one)).sets[0]
    coreset.write_artifact(path, name, settings, coreset.Coreset([images]))
    return images


def _check_same_data(path: Path, metadata: Mapping[str, Any], data: Dataset) -> None:
    """Refuse a memory of other data; the memories of older versions of ddjax do not name their data."""
    before, now = metadata.get("data"), provenance.facts(data)["data"]
    if before is not None and before != now:
        differing = sorted(name for name in now if before.get(name) != now[name])
        raise ValueError(
            f"{path}: expected a memory of the data at hand; its data have another {', '.join(differing)}. "
            "Give --workdir another directory."
        )


def score_name(name: str, num_classes: int) -> str:
    """The name of a memory's score after a number of classes.

    Args:
        name: the name of the memory.
        num_classes: the number of classes that have come so far.

    Returns:
        The name of the score.
    """
    return f"{name}, {num_classes} classes"


def measure(config: Config, stream: Stream, wanted: Sequence[str], workdir: Path) -> dict[str, Any]:
    """The content of `result.json`; each score is kept as soon as it is known, and a figure is drawn.

    Args:
        config: the settings.
        stream: the stream of tasks.
        wanted: the names of the memories.
        workdir: the directory of the memories, scores and figure.

    Returns:
        The record.
    """
    began, scores = time.monotonic(), Scores(workdir)
    seen = [stream.seen(task) for task in range(config.num_tasks)]
    for name in wanted:
        pieces: list[np.ndarray] = []
        for task, data in enumerate(seen):
            pieces.append(kept(name, config, stream, task, workdir))
            if score_name(name, data.num_classes) not in scores.known:
                memory = coreset.Coreset([np.concatenate(pieces)])
                found = coreset.score(task_of(config, data), memory)
                scores.add(score_name(name, data.num_classes), found.as_dict())
    found = {
        "tasks": [list(map(int, classes)) for classes in stream.tasks],
        "images_per_class": config.images_per_class,
        "accuracy": {
            name: {str(d.num_classes): scores.known[score_name(name, d.num_classes)] for d in seen}
            for name in wanted
        },
    }
    seconds = {"total": time.monotonic() - began}
    return results.record("continual", stream.data.name, found, seconds=seconds, seed=config.seed)


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


def run(config: Config) -> dict[str, Any]:
    """Fill the memories task by task, train, test, print and return the scores; or find them measured.

    Args:
        config: the settings.

    Returns:
        The content of `result.json`.

    Raises:
        ValueError: the settings do not fit each other, the data or the directory.
        FileNotFoundError: the data are missing.
    """
    wanted, stream = memories(config), stream_of(config)
    task_of(config, stream.own(0))
    workdir = config.directory("continual")
    return once(
        workdir,
        config,
        lambda: measure(config, stream, wanted, workdir),
        experiment="continual",
        what=f"{stream.data.name} in {config.num_tasks} tasks, {config.images_per_class} image(s) of each "
        "class in memory",
        written="scores.json, result.json, an .npz for each memory and task",
        inputs=inputs_of(config, stream.data),
        table=table,
        pictures={"continual.png": draw},
    )


LAUNCHER = Launcher("continual", __doc__, Config, run=run)

if __name__ == "__main__":
    LAUNCHER.main()

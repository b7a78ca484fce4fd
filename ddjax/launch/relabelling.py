"""The parts of a comparison of labels: sets of images, teachers of several ages, scores of students."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddjax import artifact, checks, coresets, inits, predictions, report, teachers
from ddjax.coresets import SELECTIONS, Learned
from ddjax.data import Dataset, Split
from ddjax.judge import Evaluation, Judge, check_fits
from ddjax.launch.artifacts import network_of
from ddjax.launch.choices import (
    augmentation,
    fewer,
    load_data,
    random_inits,
    runs_at_once,
    spelled_network,
    strategy,
)
from ddjax.launch.flags import FILE, flag, listed, numbers
from ddjax.launch.kept import Scores
from ddjax.launch.settings import AUGMENTATIONS, DataChoice, Where
from ddjax.launch.types import Keys
from ddjax.networks import by_text
from ddjax.pretrain import Training, pretrain
from ddjax.recipes import TRAINERS, Train
from ddjax.types import Distilled, InitDistribution, Network, Params, Schedule

OWN = "own labels"
"""The row of images with the labels of their classes, or of the artifact."""


@dataclasses.dataclass(frozen=True)
class Relabel(Where, DataChoice):
    """The settings of a comparison of labels."""

    artifact: str | None = flag(None, "distilled images to relabel, a distilled.npz", path=True, role=FILE)
    select: str | None = flag(
        "herding", f"real images to relabel, besides random ones: {', '.join(SELECTIONS)}"
    )
    images_per_class: int = flag(10, "real images of each class; an artifact has its own number", low=1)
    num_sets: int = flag(3, "random sets, which trainings take in turns", low=1)
    teacher: str | None = flag(None, "network of the teachers, as --network; by default the same")
    teacher_epochs: str = flag("1,10", "passes over all training images that make teachers of several ages")
    teacher_lr: float = flag(1e-3, "learning rate of that training by Adam at the start", positive=True)
    num_teachers: int = flag(1, "teachers of each age, whose logits are averaged", low=1)
    num_examples: int | None = flag(None, "training images, drawn; by default all", low=1)
    temperature: str = flag("1,4,20", "temperatures of labels and trainings, with commas between them")
    train_steps: int = flag(200, "steps on real images; an artifact brings its own recipe", low=1)
    train_lr: float = flag(1e-3, "learning rate of these steps", positive=True)
    optimizer: str = flag(
        "adam", "of these steps; sgd has momentum 0.9 and weight decay 5e-4", choices=TRAINERS
    )
    eval_augment: str | None = flag(None, f"augmentation of each image in them; {AUGMENTATIONS}")
    num_eval_inits: int = flag(5, "unseen initial weights behind each score", low=1)

    def idle(self) -> dict[str, str]:
        """The settings that change nothing under the other settings.

        Returns:
            The reasons, by the names of the flags.
        """
        found = super().idle()
        if self.artifact:
            names = ("images_per_class", "train_steps", "train_lr", "optimizer", "eval_augment")
            found |= dict.fromkeys(names, "the artifact brings its own number of images and recipe")
        return found


class Teacher(NamedTuple):
    """Teachers of one age.

    Attributes:
        network: the teachers' network.
        params: the weights of the teachers, each leaf `[n, ...]`.
        epochs: the age, in passes over the training images.
        accuracy: the accuracy of the averaged logits on the validation split, in percent.
    """

    network: Network
    params: Params
    epochs: int
    accuracy: float

    def logits(self, inputs: jax.Array) -> jax.Array:
        """The mean of the teachers' logits.

        Args:
            inputs: `[n, *input_shape]`.

        Returns:
            `[n, K]`.
        """
        each = jax.lax.map(lambda params: self.network.apply(params, inputs), self.params)
        return teachers.consensus(each)


class RelabelTask(NamedTuple):
    """A comparison of labels.

    Attributes:
        data: the real data, under the encoding of the images.
        network: the network of the students.
        inits: p(θ0), the distribution of the students' initial weights.
        recipe: the recipe by which students train on all sets.
        distilled: the artifact's images with their labels, as one step; None without an artifact.
        per_class: the number of real images of each class, as many as distilled ones.
    """

    data: Dataset
    network: Network
    inits: InitDistribution
    recipe: Train
    distilled: Schedule | None
    per_class: int


def task_of(config: Relabel) -> RelabelTask:
    """The parts of the comparison that the settings ask for.

    Args:
        config: the settings.

    Returns:
        The parts.

    Raises:
        ValueError: the settings do not fit each other, the data or the artifact.
        FileNotFoundError: the data or the artifact are missing.
    """
    ages(config)
    temperatures(config)
    if config.select:
        listed("select", config.select, SELECTIONS)
    data, per_class = load_data(config), config.images_per_class
    phi = None if config.artifact is None else artifact.load(config.artifact)
    if phi is not None:
        data = data.encoded_by(jax.tree.map(np.asarray, phi.encoding))
        per_class = _per_class(phi.schedule, data)
    coresets.check_enough(data.train, per_class, data.num_classes)
    recipe, own = _recipe(config, data, phi), None
    if phi is not None and config.artifact is not None:  # its network, where no flag names another
        own = network_of(config.artifact, phi, asked=config.network)
    network = spelled_network(config, data, otherwise=own)
    if phi is not None:
        check_fits(phi, network)
    distribution = random_inits(config, network)
    distilled = None if phi is None else _as_one(phi.schedule)
    return RelabelTask(data, network, distribution, recipe, distilled, per_class)


def sets_of(config: Relabel, task: RelabelTask) -> dict[str, Sequence[Schedule]]:
    """The sets of images with their own labels, by name.

    Args:
        config: the settings.
        task: the parts of the comparison.

    Returns:
        The artifact's images where there is one, random real images, and those of the listed selections.
        Those under one name have one shape, and trainings take them in turns.
    """
    found: dict[str, Sequence[Schedule]] = {}
    if task.distilled is not None:
        found["artifact"] = [task.distilled]
    wanted = () if not config.select else listed("select", config.select, SELECTIONS)
    return found | {name: _real(name, config, task) for name in dict.fromkeys(("random", *wanted))}


def ages(config: Relabel) -> tuple[int, ...]:
    """The ages of the teachers, in passes over the training images.

    Args:
        config: the settings.

    Returns:
        The numbers.

    Raises:
        ValueError: there is none, or one is below one.
    """
    found = numbers("teacher_epochs", config.teacher_epochs, int)
    checks.at_least("teacher_epochs", min(found, default=0), 1)
    return found


def temperatures(config: Relabel) -> tuple[float, ...]:
    """The temperatures of the comparison.

    Args:
        config: the settings.

    Returns:
        The numbers.

    Raises:
        ValueError: there is none, or one is not above zero.
    """
    found = numbers("temperature", config.temperature, float)
    checks.positive("temperature", min(found, default=0.0))
    return found


def _recipe(config: Relabel, data: Dataset, phi: Distilled | None) -> Train:
    if phi is None:
        augmentation(config.eval_augment, data)  # refuses what does not fit the images
        return Train(
            lr=config.train_lr,
            weight_decay=5e-4 if config.optimizer == "sgd" else 0.0,
            protocol="constant",
            optimizer=config.optimizer,
            steps=config.train_steps,
            augmentation=strategy(config.eval_augment, data),
        )
    teachers.relabelled(phi, phi.schedule.labels)  # refuses other recipes
    assert isinstance(phi.recipe, Train)
    return phi.recipe


def _as_one(schedule: Schedule) -> Schedule:
    """All examples of φ as one step."""
    inputs, labels = (leaf.reshape(1, -1, *leaf.shape[2:]) for leaf in schedule[:2])
    return Schedule(inputs, labels, None)


def _per_class(schedule: Schedule, data: Dataset) -> int:
    """The number of real images of each class that make a set as large as φ, rounded up."""
    return -(-schedule.labels.shape[0] * schedule.labels.shape[1] // data.num_classes)


def _real(name: str, config: Relabel, task: RelabelTask) -> list[Schedule]:
    """The real images that a selection takes, with the labels of their classes."""
    keys, train = Keys.of(config.seed), task.data.train
    learned = Learned(train, task.network, task.inits, keys.theta, keys.run, epochs=10, lr=0.05)
    found = coresets.select(
        name, learned, per_class=task.per_class, seed=config.seed, num_sets=config.num_sets
    )
    return [coresets.weighted_schedule(images, found.weights) for images in found.sets]


def teachers_of(config: Relabel, task: RelabelTask) -> list[Teacher]:
    """Teachers of all ages, each trained from θ0 on real images with their own labels.

    Args:
        config: the settings.
        task: the parts of the comparison.

    Returns:
        The teachers, in the order of the flag.

    Raises:
        ValueError: the teachers' network is unknown or does not fit the data.
    """
    data, found = task.data, []
    network = task.network
    if config.teacher is not None:
        network = by_text(config.teacher, data.input_shape, data.num_classes)
    split = fewer(data.train, config.num_examples, seed=config.seed)
    distribution = inits.random(network, scheme=config.init)
    for epochs in ages(config):
        keys = jax.random.split(
            jax.random.fold_in(Keys.of(config.seed).baselines, epochs), config.num_teachers
        )
        training = Training(epochs, min(64, len(split)), config.teacher_lr)
        params = pretrain(network, distribution, split, training, keys=keys)
        each = [
            predictions.logits(network, jax.tree.map(lambda leaf, i=i: leaf[i], params), data.validation)
            for i in range(config.num_teachers)
        ]
        right = np.argmax(np.mean(each, 0), -1) == data.validation.labels
        found.append(Teacher(network, params, epochs, 100 * float(right.mean())))
    return found


def score(
    config: Relabel,
    task: RelabelTask,
    sets: Sequence[Schedule],
    teacher: Teacher | None = None,
    temperature: float = 1.0,
) -> dict[str, Any]:
    """The scores of students that train on images under a teacher's labels.

    Args:
        config: the settings.
        task: the parts of the comparison.
        sets: the sets of images, which trainings take in turns.
        teacher: the teacher; None for the sets' own labels.
        temperature: T of the labels and of the training.

    Returns:
        The score on the test split, with that on the validation split, by other networks, as `validation`.
    """
    if teacher is not None:
        sets = [_relabelled(one, teacher, temperature) for one in sets]
    recipe = dataclasses.replace(task.recipe, temperature=float(temperature))
    keys, count = Keys.of(config.seed), config.num_eval_inits
    which = jnp.arange(count, dtype=jnp.int32) % len(sets)

    def on(split: Split, key: jax.Array) -> dict[str, Any]:
        judge = Judge(task.network, task.inits, recipe, split, runs_at_once(count))
        return Evaluation.of(judge.outcomes(sets, which, jax.random.split(key, count))).as_dict()

    return {**on(task.data.test, keys.test), "validation": on(task.data.validation, keys.validation)}


def _relabelled(one: Schedule, teacher: Teacher, temperature: float) -> Schedule:
    """A set under a teacher's labels; an image's weight, the sum of its labels, stays."""
    soft = jax.nn.softmax(teacher.logits(one.inputs[0]) / temperature)
    return one._replace(labels=soft[None] * one.labels.sum(-1, keepdims=True))


def measure(config: Relabel, task: RelabelTask, scores: Scores) -> dict[str, Any]:
    """What `result.json` says of a comparison of labels; each score is kept as soon as it is known.

    Args:
        config: the settings.
        task: the parts of the comparison.
        scores: the scores that are known already, to which the others are added.

    Returns:
        The findings.
    """
    sets, found = sets_of(config, task), teachers_of(config, task)
    rows: dict[str, tuple] = {OWN: ()}
    for teacher in found:
        for temperature in temperatures(config):
            rows[f"teacher of {teacher.epochs} epochs, T {temperature:g}"] = (teacher, temperature)
    known = scores.each(
        {
            f"{name}: {row}": functools.partial(score, config, task, images, *labels)
            for name, images in sets.items()
            for row, labels in rows.items()
        }
    )
    return {
        "network": task.network.name,
        "teachers": [{"epochs": one.epochs, "validation": one.accuracy} for one in found],
        "images": {name: images[0].labels.shape[1] for name, images in sets.items()},
        "sets": {name: {row: known[f"{name}: {row}"] for row in rows} for name in sets},
    }


def table(result: Mapping[str, Any]) -> str:
    """A row for each kind of labels, a column for each set; the row that validation chooses has a star.

    Args:
        result: the content of `result.json`.

    Returns:
        The table as text.
    """
    names = list(result["sets"])
    best = {
        name: max(one, key=lambda row: one[row]["validation"]["mean"]) for name, one in result["sets"].items()
    }
    rows = [
        (
            row,
            *(report.format_score(result["sets"][name][row]) + " *" * (best[name] == row) for name in names),
        )
        for row in result["sets"][names[0]]
    ]
    return report.table(rows, ("test accuracy, %; * chosen on validation", *names))

"""Poisoned images: real images divided by the aim of an attack, and the two rates of its success.

An attack makes networks classify the images of one class, the attacked class, as another, the target, and
still recognise the images of all other classes. The loss of an attack is `ddjax.methods.unrolled.relabelled`.
Two rates, which are both accuracies, measure the success:

    attacked_to_target   share of the attacked class's images that are classified as the target, percent
    other_classes        share of the other classes' images that are classified correctly, percent

References:
    Wang et al. 2018, arXiv 1811.10959.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from ddjax.data import Split
from ddjax.judge import Evaluation, Judge
from ddjax.types import Schedule

ScoreT = TypeVar("ScoreT")


class Divided(NamedTuple):
    """A split in two parts; the accuracy on each part is the rate of the same name.

    Attributes:
        attacked_to_target: the images of the attacked class, with the target as their label.
        other_classes: the images of all other classes, with their own labels.
    """

    attacked_to_target: Split
    other_classes: Split


def divided(split: Split, *, attacked: int, target: int) -> Divided:
    """Divide a split into the images of the attacked class and all others.

    Args:
        split: the real images.
        attacked: the number of the class whose images are to be classified as another.
        target: the number of the class that those images are to be classified as.

    Returns:
        The two parts.

    Raises:
        ValueError: no image is of the attacked class, or every image is.
    """
    is_attacked = split.labels == attacked
    if not is_attacked.any() or is_attacked.all():
        raise ValueError(
            f"attacked: expected images of class {attacked} and of others; got {is_attacked.sum()} of "
            f"{len(split)}. Give another class to attack."
        )
    wanted = np.full(is_attacked.sum(), target, split.labels.dtype)
    return Divided(
        dataclasses.replace(split.at(is_attacked), labels=wanted),
        split.at(~is_attacked),
    )


def rates(
    accuracy: Callable[[Split], ScoreT], split: Split, *, attacked: int, target: int
) -> dict[str, ScoreT]:
    """Attacked-to-target rate and accuracy on the other classes.

    Args:
        accuracy: a function that measures an accuracy on the images of a split, in percent or any other form.
        split: the real images to measure on.
        attacked: the number of the class whose images are to be classified as another.
        target: the number of the class that those images are to be classified as.

    Returns:
        The result of `accuracy` for each part, by the names of the rates: `attacked_to_target` and
        `other_classes`.

    Raises:
        ValueError: no image is of the attacked class, or every image is.
    """
    parts = divided(split, attacked=attacked, target=target)
    return {name: accuracy(part) for name, part in parts._asdict().items()}


def wrongly_labelled(schedule: Schedule, *, attacked: int, target: int) -> Schedule:
    """Training images where every image of the attacked class has the label of the target.

    Args:
        schedule: the images, with labels `[S, B, K]`; the class of an image is its largest label.
        attacked: the number of the class whose images get another label.
        target: the number of the class whose one-hot label those images get.

    Returns:
        The same schedule with the changed labels.
    """
    is_attacked = jnp.argmax(schedule.labels, -1) == attacked
    wrong = jax.nn.one_hot(target, schedule.labels.shape[-1], dtype=schedule.labels.dtype)
    return schedule._replace(labels=jnp.where(is_attacked[..., None], wrong, schedule.labels))


def trained_rates(
    judge: Judge, schedules: Sequence[Schedule], *, count: int, attacked: int, target: int
) -> dict[str, Evaluation]:
    """Both rates of networks that were trained on poisoned images, member by member of p(θ0).

    Args:
        judge: the network, p(θ0), the recipe, and the split to measure on.
        schedules: the images to train on; member i takes schedule i modulo their number.
        count: the number of members; a pool with fewer starts again with its first.
        attacked: the number of the class whose images are to be classified as another.
        target: the number of the class that those images are to be classified as.

    Returns:
        The evaluation of `count` networks for each rate, by the names of the rates.

    Raises:
        ValueError: no image is of the attacked class, or every image is.
    """
    which = jnp.arange(count) % len(schedules)
    members = jnp.arange(count) % (judge.inits.size or count)
    # Nothing is drawn: members and steps are given.
    keys = jax.random.split(jax.random.key(0), count)

    def measured(part: Split) -> Evaluation:
        own = dataclasses.replace(judge, split=part)
        return Evaluation.of(own.outcomes(schedules, which, keys, members=members))

    return rates(measured, judge.split, attacked=attacked, target=target)

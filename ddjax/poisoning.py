"""Poisoned images: real images divided by what an attack wants of them, and the two rates that judge it.

An attack wants networks to take the images of one class, the attacked, for another, the target, and still to
recognise the images of all other classes. Its loss is `ddjax.methods.unrolled.relabelled`; two rates say how
far it went, both of them accuracies:

    attacked_to_target   share of the attacked class's images that are taken for the target, percent
    other_classes        share of the other classes' images that are recognised, percent

References:
    Wang et al. 2018, arXiv 1811.10959.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from ddjax.data import Split
from ddjax.types import Schedule

ScoreT = TypeVar("ScoreT")


class Divided(NamedTuple):
    """A split in two; the accuracy on each part is the rate of the same name.

    Attributes:
        attacked_to_target: the images of the attacked class, with the target as their label.
        other_classes: the images of all other classes, with their own labels.
    """

    attacked_to_target: Split
    other_classes: Split


def divided(split: Split, *, attacked: int, target: int) -> Divided:
    """A split, divided by what an attack wants of its images.

    Args:
        split: the real images.
        attacked: number of the class whose images are to be taken for another.
        target: number of the class that they are to be taken for.

    Returns:
        The two parts.

    Raises:
        ValueError: no image is of the attacked class, or every one.
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
        accuracy: measures an accuracy on the images of a split, in percent or in any other form.
        split: the real images to measure on.
        attacked: number of the class whose images are to be taken for another.
        target: number of the class that they are to be taken for.

    Returns:
        What `accuracy` returns of each part, by the names of the rates: `attacked_to_target` and
        `other_classes`.

    Raises:
        ValueError: no image is of the attacked class, or every one.
    """
    parts = divided(split, attacked=attacked, target=target)
    return {name: accuracy(part) for name, part in parts._asdict().items()}


def wrongly_labelled(schedule: Schedule, *, attacked: int, target: int) -> Schedule:
    """Training images of which those of the attacked class bear the label of the target.

    Args:
        schedule: the images, with labels `[S, B, K]`; the class of an image is its largest label.
        attacked: number of the class whose labels are changed.
        target: number of the class whose one-hot label they get.

    Returns:
        The same schedule with other labels.
    """
    is_attacked = jnp.argmax(schedule.labels, -1) == attacked
    wrong = jax.nn.one_hot(target, schedule.labels.shape[-1], dtype=schedule.labels.dtype)
    return schedule._replace(labels=jnp.where(is_attacked[..., None], wrong, schedule.labels))

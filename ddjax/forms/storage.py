"""What a form stores: every number of φ, by what the number is for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from ddjax.forms.groups import groups_of
from ddjax.types import Form


class Storage(NamedTuple):
    """The numbers that a form stores.

    Attributes:
        numbers: the count of stored numbers by the group of their leaves: "data" for images or their codes,
            "decoder", "labels", "lrs" and others that the form names. Hard labels that follow from the order
            of the images are not stored.
        image_size: H·W·C, the numbers of a plain image, or of another input.
        num_classes: the number K of classes.
        images: the number of images that networks are trained on.
    """

    numbers: Mapping[str, int]
    image_size: int
    num_classes: int
    images: int

    @property
    def total(self) -> int:
        """All stored numbers, whatever they are for."""
        return sum(self.numbers.values())

    @property
    def images_per_class(self) -> float:
        """The storage in plain images of each class, total / (K·H·W·C)."""
        return self.total / (self.num_classes * self.image_size)

    def as_dict(self) -> dict[str, Any]:
        """The numbers, for records.

        Returns:
            `numbers` by group, their `total`, `images_per_class`, and `trained_images`.
        """
        return {
            "numbers": dict(self.numbers),
            "total": self.total,
            "images_per_class": self.images_per_class,
            "trained_images": self.images,
        }


def storage(form: Form) -> Storage:
    """What a form stores; nothing is computed.

    Args:
        form: the form of φ.

    Returns:
        The count of all numbers of the form's parameters, frozen ones too.
    """
    params = jax.eval_shape(form.init, jax.random.key(0))
    schedule = jax.eval_shape(form.unfold, params)
    numbers: dict[str, int] = {}
    for group, leaf in zip(*map(jax.tree.leaves, (groups_of(form, params), params)), strict=True):
        numbers[group] = numbers.get(group, 0) + math.prod(leaf.shape)
    steps, size, *input_shape = schedule.inputs.shape
    return Storage(numbers, math.prod(input_shape), schedule.labels.shape[2], steps * size)

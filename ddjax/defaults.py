"""The default of a run where the caller gives none: the form of φ."""

from __future__ import annotations

from ddjax import forms
from ddjax.data import Dataset
from ddjax.types import Form, Method


def default_form(data: Dataset, method: Method) -> Form:
    """Free pixels of the data's shape and classes.

    Args:
        data: the real data.
        method: the method that φ is distilled by.

    Returns:
        S 10 and E 3 with learning rates where the method's recipe needs them, else all images in one step.
    """
    if method.recipe.needs_lrs:
        return forms.pixels(data.input_shape, data.num_classes)
    return forms.pixels(data.input_shape, data.num_classes, inner_steps=1, inner_epochs=1, inner_lr=None)

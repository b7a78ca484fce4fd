"""What a run does where its caller does not say: the form of φ, how it moves."""

from __future__ import annotations

import optax

from ddjax import distilled as forms
from ddjax import optimizers
from ddjax.data import Dataset
from ddjax.types import Form, Method


def default_form(data: Dataset, method: Method) -> Form:
    """Pixels: S 10, E 3 with learning rates where the method learns them, else all in one step."""
    if method.needs_lrs:
        return forms.pixels(data.image_shape, data.num_classes)
    return forms.pixels(data.image_shape, data.num_classes, inner_steps=1, inner_epochs=1, inner_lr=None)


def default_outer(method: Method, num_outer_steps: int) -> tuple[optax.GradientTransformation, float | None]:
    """The outer optimiser and the bound on the gradient's norm, chosen by measuring (see the README).

    Adam on a cosine, images at 0.05, learning rates at 0.01, norm at most 0.2, where learning rates are
    learned; SGD with momentum at the method's own rate, unbounded, as published, where images alone are.
    """
    if method.needs_lrs:
        return optimizers.adam_cosine(num_outer_steps, lr=0.05, lr_of_lrs=0.01), 0.2
    return optimizers.sgd_momentum(lr=method.outer_lr), None

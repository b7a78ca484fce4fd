"""What a run does where its caller does not say: the form of φ, how it moves."""

from __future__ import annotations

import optax

from ddjax import distilled as forms
from ddjax import optimizers
from ddjax.data import Dataset
from ddjax.types import Form, Method

OUTER_LR = 0.05
"""Of the images, where learning rates are learned too."""

OUTER_LR_OF_LRS = 0.01
CLIP_NORM = 0.2


def default_form(data: Dataset, method: Method) -> Form:
    """Pixels: S 10, E 3 with learning rates where the method learns them, else all in one step."""
    if method.needs_lrs:
        return forms.pixels(data.image_shape, data.num_classes)
    return forms.pixels(data.image_shape, data.num_classes, inner_steps=1, inner_epochs=1, inner_lr=None)


def default_outer(method: Method, num_outer_steps: int) -> tuple[optax.GradientTransformation, float | None]:
    """The outer optimiser and the bound on the gradient's norm, chosen by measuring (see the README).

    Adam on a cosine, at `OUTER_LR` and `OUTER_LR_OF_LRS`, the norm at most `CLIP_NORM`, where learning rates
    are learned; SGD with momentum at the method's own rate, unbounded, as published, where images alone are.
    """
    if method.needs_lrs:
        return optimizers.adam_cosine(num_outer_steps, lr=OUTER_LR, lr_of_lrs=OUTER_LR_OF_LRS), CLIP_NORM
    return optimizers.sgd_momentum(lr=method.outer_lr), None

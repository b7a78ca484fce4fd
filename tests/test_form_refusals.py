"""Bad forms of φ: what was expected, what was got, what to do."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from problems import SHAPE, small_form
from refusals import INFINITY, NAN, Cases, Refuses

from ddjax import forms

REFUSED: Cases = {
    "no inner steps": (lambda g: small_form(inner_steps=0), "inner_steps", "1 or more"),
    "no epochs": (lambda g: small_form(inner_epochs=0), "inner_epochs", "1 or more"),
    "half an image": (lambda g: small_form(images_per_class_per_step=0.5), "got 0.5", "whole number"),
    "a learning rate of zero": (lambda g: small_form(inner_lr=0.0), "got 0.0", "greater than zero"),
    "an infinite learning rate": (lambda g: small_form(inner_lr=INFINITY), "got inf", "finite number"),
    "a learning rate as text": (lambda g: small_form(inner_lr="0.1"), "got '0.1'", "finite number"),
    "initial images of another shape": (
        lambda g: small_form(initial_images=np.zeros((1, 3, *SHAPE))),
        "got (1, 3, 8, 8, 1)",
        "one image for each label",
    ),
    "a form of no pixels": (lambda g: forms.pixels((8, 0), 3), "got (8, 0)", "one channel"),
    "a form of no classes": (lambda g: forms.pixels(SHAPE, 0), "num_classes: expected", "1 or more"),
    "initial images of NaN": (
        lambda g: small_form(inner_steps=1, initial_images=np.full((1, 3, *SHAPE), NAN)),
        "finite floats, normalised",
        "(pixel / 255 - mean) / std",
    ),
    "initial images as bytes": (
        lambda g: small_form(inner_steps=1, initial_images=np.zeros((1, 3, *SHAPE), np.uint8)),
        "got uint8",
        "(pixel / 255 - mean) / std",
    ),
    "a constant of no schedule": (lambda g: forms.constant({}), "a Schedule; got dict", "ddjax.Schedule"),  # type: ignore[arg-type]
    "a constant whose labels do not fit": (
        lambda g: forms.constant(g.distilled.schedule._replace(labels=jnp.zeros((2, 4, 3)))),
        "(2, 4, 3)",
        "Bring them",
    ),
    "a constant whose rates do not fit": (
        lambda g: forms.constant(g.distilled.schedule._replace(lrs=jnp.zeros((2, 5)))),
        "lrs [E, S]",
        "Bring them",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused(case, refuses: Refuses):
    refuses(*REFUSED[case])

"""Every form of φ keeps the contract of forms."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import CLASSES, SHAPE

from ddjax import forms, testing
from ddjax.encodings import Channels, Tokens
from ddjax.recipes import Replay, Train
from ddjax.testing import FORM_CHECKS, FormCase
from ddjax.types import Encoding, Form, Schedule

PIXELS = Channels(np.full(1, 0.5, np.float32), np.full(1, 0.25, np.float32))
WORDS = Tokens(np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32))
HALVES = np.tile(np.eye(CLASSES), (2, 1, 1))[:, :2]
"""Two images for three classes, twice."""


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def pixels(**settings: Any) -> Form:
    return forms.pixels(SHAPE, CLASSES, inner_steps=2, inner_epochs=2, **settings)


def upscaled(schedule: Schedule) -> Schedule:
    return schedule._replace(inputs=schedule.inputs.repeat(2, 2).repeat(2, 3))


def coloured(decoder: jax.Array, schedule: Schedule) -> Schedule:
    return schedule._replace(inputs=schedule.inputs @ decoder)


SUBSPACES = noise(CLASSES, 64), noise(CLASSES, 4, 64), np.ones((CLASSES, 4), np.float32)
"""Means, directions and their lengths."""


TABLE: dict[str, tuple[Form, Encoding, Any]] = {
    "pixels": (pixels(), PIXELS, Replay()),
    "pixels without rates": (pixels(inner_lr=None), PIXELS, Train()),
    "softmax labels": (pixels(label_confidence=0.8), PIXELS, Replay()),
    "free labels": (pixels(label_form="free"), PIXELS, Replay()),
    "fewer images than classes": (pixels(initial_labels=HALVES), PIXELS, Replay()),
    "sentences": (forms.pixels((5, 3), 2, inner_steps=1), WORDS, Replay()),
    "labels": (forms.labels(noise(2, 4, *SHAPE), CLASSES, inner_lr=0.1), PIXELS, Replay()),
    "softmax labels of images": (
        forms.labels(noise(1, 4, *SHAPE), CLASSES, label_form="softmax"),
        PIXELS,
        Train(),
    ),
    "a schedule": (
        forms.constant(pixels().unfold(pixels().init(jax.random.key(0)))),
        PIXELS,
        Replay(),
    ),
    "inside class subspaces": (forms.subspace(*SUBSPACES, SHAPE, inner_steps=2), PIXELS, Replay()),
    "decoded": (
        forms.decoded(forms.pixels((4, 4, 1), CLASSES, inner_steps=1), upscaled, name="upscaled"),
        PIXELS,
        Replay(),
    ),
    "decoded by what is learned": (
        forms.decoded(
            forms.pixels((8, 8, 2), CLASSES, inner_steps=1, label_confidence=0.8),
            coloured,
            init=lambda key: jax.random.normal(key, (2, 1)),
            name="coloured",
        ),
        PIXELS,
        Replay(),
    ),
    "multi-formation": (
        forms.composed(forms.multi_formation(SHAPE, CLASSES, factor=3), inner_steps=3, inner_lr=0.1),
        PIXELS,
        Replay(),
    ),
    "multi-formation, bounded, all that can be learned": (
        forms.composed(
            forms.multi_formation(SHAPE, CLASSES, stored_per_class=2, multi=True, bounds=((-2.0,), (2.0,))),
            inner_steps=2,
            inner_epochs=2,
            inner_lr=0.1,
            max_lr=1.0,
            label_form="nonnegative",
            drawn_per_class=3,
        ),
        PIXELS,
        Replay(),
    ),
    "drawn for matching": (
        forms.composed(
            forms.multi_formation(SHAPE, CLASSES, stored_per_class=2), label_confidence=0.8, drawn_per_class=3
        ),
        PIXELS,
        Train(),
    ),
    "bases": (
        forms.composed(
            forms.bases(SHAPE, CLASSES, num_bases=2, per_class=4, downsample=3), inner_steps=2, inner_lr=0.1
        ),
        PIXELS,
        Replay(),
    ),
    "bases near to images, drawn": (
        forms.composed(
            forms.bases(SHAPE, CLASSES, num_bases=5, per_class=4, initial_images=noise(CLASSES, 4, *SHAPE)),
            inner_epochs=2,
            inner_lr=0.1,
            label_confidence=0.8,
            drawn_per_class=2,
        ),
        PIXELS,
        Replay(),
    ),
    "textures": (
        forms.composed(forms.textures(SHAPE, CLASSES, cuts=2), inner_steps=2, inner_epochs=2, inner_lr=0.1),
        PIXELS,
        Replay(),
    ),
    "textures for matching": (
        forms.composed(forms.textures(SHAPE, CLASSES, canvases_per_class=2, cuts=3), label_form="free"),
        PIXELS,
        Train(),
    ),
    "augmented": (forms.augmented(pixels(label_confidence=0.8), widths=0.3), PIXELS, Replay()),
    "augmented, by class, of bounded images that are drawn": (
        forms.augmented(
            forms.composed(
                forms.multi_formation(SHAPE, CLASSES, bounds=((-2.0,), (2.0,))), drawn_per_class=2
            ),
            widths=(0.1, 0.1, 1.0, 0.2, 0.2, 0.2),
            num_classes=CLASSES,
        ),
        PIXELS,
        Train(),
    ),
    "latents": (
        forms.composed(
            forms.latents(SHAPE, CLASSES, codes_per_class=2, code_shape=(3, 4, 2), num_decoders=3, width=4),
            inner_steps=2,
            inner_lr=0.1,
        ),
        PIXELS,
        Replay(),
    ),
    "styles near to images": (
        forms.composed(
            forms.latents(
                SHAPE,
                CLASSES,
                codes_per_class=1,
                code_shape=SHAPE,
                num_decoders=2,
                decoder="style",
                fit_steps=3,
                initial_images=noise(CLASSES, 2, *SHAPE),
            ),
            label_confidence=0.8,
            drawn_per_class=1,
        ),
        PIXELS,
        Train(),
    ),
    "stored, of unit norm": (
        forms.composed(
            forms.stored(SHAPE, CLASSES, per_class=2, unit_norm=True), inner_lr=0.1, drawn_per_class=1
        ),
        PIXELS,
        Replay(),
    ),
    "drawn and decoded": (
        forms.decoded(
            forms.composed(forms.multi_formation((4, 4, 1), CLASSES), inner_lr=0.1, drawn_per_class=2),
            upscaled,
            name="upscaled",
        ),
        PIXELS,
        Replay(),
    ),
    "labels, decoded": (
        forms.decoded(forms.labels(noise(1, 4, 4, 4, 1), CLASSES, inner_lr=0.1), upscaled, name="labels"),
        PIXELS,
        Replay(),
    ),
}


@pytest.mark.parametrize("check", FORM_CHECKS)
@pytest.mark.parametrize("name", TABLE)
def test_a_form_keeps_its_contract(name, check):
    FORM_CHECKS[check](FormCase(*TABLE[name]))


def test_a_form_whose_groups_miss_a_leaf_fails():
    broken = Form(
        init=lambda key: {"images": jax.random.normal(key, (1, CLASSES, *SHAPE)), "scale": jnp.ones(())},
        unfold=lambda params: Schedule(
            params["images"] * params["scale"], jnp.eye(CLASSES)[None], jnp.full((1, 1), 0.1)
        ),
        name="broken",
        groups=lambda params: {"images": "data"},
    )
    with pytest.raises(testing.ContractError, match="groups must return a tree like the parameters"):
        testing.check_form(FormCase(broken, PIXELS, Replay()))


def test_a_form_with_a_leaf_that_changes_nothing_fails():
    idle = Form(
        init=lambda key: {"images": jax.random.normal(key, (1, CLASSES, *SHAPE)), "idle": jnp.ones(3)},
        unfold=lambda params: Schedule(params["images"], jnp.eye(CLASSES)[None], None),
        name="idle",
    )
    with pytest.raises(testing.ContractError, match="a leaf that stays is in the group frozen"):
        testing.check_form(FormCase(idle, PIXELS, Train()))

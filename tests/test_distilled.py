"""Forms of φ."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddjax import forms
from ddjax.distilled import inverse_softplus
from ddjax.types import Schedule


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("lr", [1e-12, 1e-3, 0.02, 1.0, 50.0, 1000.0])
def test_softplus_undoes_its_inverse(lr):
    assert float(jax.nn.softplus(inverse_softplus(lr))) == pytest.approx(lr, rel=1e-12)


def test_pixels_start_as_noise_with_hard_labels_in_class_order():
    form = forms.pixels(
        (6, 5, 3), 4, inner_steps=3, inner_epochs=2, images_per_class_per_step=2, inner_lr=0.05
    )
    schedule = form.unfold(form.init(jax.random.key(0)))
    assert schedule.inputs.shape == (3, 8, 6, 5, 3)
    assert abs(float(schedule.inputs.mean())) < 0.1
    assert float(schedule.inputs.std()) == pytest.approx(1, abs=0.1)
    assert np.argmax(schedule.labels, -1).tolist() == [[0, 0, 1, 1, 2, 2, 3, 3]] * 3
    assert np.array_equal(schedule.labels.sum(-1), np.ones((3, 8)))
    assert schedule.lrs is not None
    np.testing.assert_allclose(schedule.lrs, np.full((2, 3), 0.05), rtol=1e-5)


def test_pixels_can_start_from_images():
    images = np.random.default_rng(0).normal(size=(1, 2, 4, 4, 1)).astype(np.float32)
    form = forms.pixels((4, 4, 1), 2, inner_steps=1, inner_lr=None, initial_images=images)
    schedule = form.unfold(form.init(jax.random.key(0)))
    assert np.array_equal(schedule.inputs, images)
    assert schedule.lrs is None


def test_a_constant_form_unfolds_to_itself():
    schedule = Schedule(jnp.ones((1, 1, 2, 2, 1)), jnp.ones((1, 1, 1)), None)
    form = forms.constant(schedule)
    assert form.unfold(form.init(jax.random.key(0))) is schedule


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"inner_steps": 0}, "inner_steps: expected a whole number >= 1; got 0"),
        ({"inner_epochs": -1}, "inner_epochs: expected"),
        ({"images_per_class_per_step": 1.5}, "images_per_class_per_step: expected a whole number"),
        ({"inner_lr": 0.0}, "inner_lr: expected a finite number > 0"),
        ({"inner_lr": float("inf")}, "inner_lr: expected a finite number > 0"),
        ({"initial_images": np.zeros((1, 1, 4, 4, 1))}, r"initial_images.shape: expected \(10, 2, 4, 4, 1\)"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        forms.pixels((4, 4, 1), 2, **settings)

"""Forms of φ."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddjax import forms
from ddjax.forms import inverse_softplus
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


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_learned_labels_start_with_their_confidence_and_learn():
    form = forms.pixels((4, 4, 1), 5, inner_steps=2, images_per_class_per_step=2, label_confidence=0.8)
    params = form.init(jax.random.key(0))
    schedule = form.unfold(params)
    assert schedule.labels.shape == (2, 10, 5)
    own = np.take_along_axis(np.asarray(schedule.labels), np.arange(10)[None, :, None] // 2, -1)
    np.testing.assert_allclose(own, 0.8, rtol=1e-12)
    np.testing.assert_allclose(schedule.labels.sum(-1), 1, rtol=1e-12)
    grads = jax.grad(lambda params: jnp.sum(form.unfold(params).labels[:, :, 0] ** 2))(params)
    assert np.all(np.asarray(grads.label_logits[:, 0]) != 0)
    assert params.label_logits is not None


@pytest.mark.parametrize("confidence", [0.2, 1.0, -1, float("nan")])
def test_a_confidence_that_says_nothing_or_all_is_refused(confidence):
    with pytest.raises(ValueError, match="label_confidence: expected a probability between 1 / 5"):
        forms.pixels((4, 4, 1), 5, label_confidence=confidence)


def test_images_of_each_class_are_shared_out_over_the_steps():
    images = np.arange(12).reshape(3, 4, 1, 1, 1)  # image i of class k is 4 k + i
    np.testing.assert_array_equal(
        forms.by_step(images, 2).reshape(2, 6), [[0, 1, 4, 5, 8, 9], [2, 3, 6, 7, 10, 11]]
    )
    np.testing.assert_array_equal(forms.by_step(images, 4).reshape(4, 3), np.arange(12).reshape(3, 4).T)
    with pytest.raises(ValueError, match="inner_steps: expected a divisor of the 4 images of a class; got 3"):
        forms.by_step(images, 3)


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

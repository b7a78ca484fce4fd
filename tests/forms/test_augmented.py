"""Learned augmentation of φ: what a step sees, and the gradient of the widths through the training."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import CLASSES, SHAPE, relative, small_form

from ddjax import augment_learned, forms, networks
from ddjax.types import Form, Schedule
from ddjax.unroll import cross_entropy, unroll


def started(form: Form, **changed):
    return form.init(jax.random.key(0))._replace(**changed)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_each_image_of_each_step_is_transformed_by_a_draw_of_its_own():
    inside = small_form(inner_lr=0.1)
    form = forms.augmented(inside, widths=0.5)
    params = started(form)
    assert form.draw is not None
    key = jax.random.key(1)
    found, whole = jax.jit(form.draw)(params, key), inside.unfold(params.form)
    assert relative(jax.nn.softplus(params.raw_widths), np.full(6, 0.5)) < 1e-12
    assert whole.lrs is not None
    assert found.lrs is not None
    assert found.inputs.shape == (4, CLASSES, *SHAPE)  # two epochs of two steps
    np.testing.assert_array_equal(found.lrs, whole.lrs.reshape(1, 4))
    images = jnp.tile(whole.inputs, (2, 1, 1, 1, 1)).reshape(-1, *SHAPE)
    wanted = augment_learned.transformed(params.raw_widths, jax.random.split(key)[1], images)
    assert relative(found.inputs, wanted.reshape(found.inputs.shape)) < 1e-12
    assert relative(found.inputs[:2], found.inputs[2:]) > 0.05
    saved = jax.jit(form.unfold)(params)
    assert saved.inputs.shape == found.inputs.shape
    assert relative(saved.inputs, found.inputs) > 0.05


@pytest.mark.slow
def test_widths_of_a_class_move_the_images_of_this_class():
    inside = small_form(inner_lr=0.1)
    form = forms.augmented(inside, num_classes=CLASSES)
    raw = jnp.full((CLASSES, 6), -100.0).at[1].set(0.0)
    params = started(form, raw_widths=raw)
    assert form.draw is not None
    found = jax.jit(form.draw)(params, jax.random.key(1)).inputs
    still = jnp.tile(inside.unfold(params.form).inputs, (2, 1, 1, 1, 1))
    moved = np.asarray(jnp.abs(found - still).max((2, 3, 4)))
    np.testing.assert_allclose(moved[:, [0, 2]], 0, atol=1e-6)
    assert moved[:, 1].min() > 0.01


@pytest.mark.parametrize("num_classes", [None, CLASSES])
def test_the_parameters_of_a_finished_run_lie_on_the_host(num_classes):
    """They unfold there and under tracing to what they are on the device."""
    form = forms.augmented(small_form(), num_classes=num_classes)
    params = form.init(jax.random.key(0))
    there = jax.tree.map(np.asarray, params)
    traced = jax.eval_shape(lambda: form.unfold(there))
    found, wanted = form.unfold(there), form.unfold(params)
    np.testing.assert_array_equal(found.inputs, wanted.inputs)
    assert traced.inputs.shape == wanted.inputs.shape


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("by_class", [False, True])
def test_the_gradient_of_the_widths_goes_through_the_training(by_class):
    """Against finite differences; smooth images, whose bilinear reading has few kinks on the way."""
    network = networks.convnet(SHAPE, CLASSES, depth=1, width=4, norm="none", activation="tanh")
    form = forms.augmented(small_form(inner_lr=0.3), widths=0.4, num_classes=CLASSES if by_class else None)
    params, theta = started(form), network.init(jax.random.key(2))
    real = jax.random.normal(jax.random.key(3), (6, *SHAPE))
    assert form.draw is not None
    draw = form.draw

    @jax.jit
    def loss(raw: jax.Array) -> jax.Array:
        schedule: Schedule = draw(params._replace(raw_widths=raw), jax.random.key(4))
        end, _ = unroll(cross_entropy(network.apply), theta, schedule)
        labels = jnp.arange(6) % CLASSES
        return optax.softmax_cross_entropy_with_integer_labels(network.apply(end, real), labels).mean()

    grad = jax.jit(jax.grad(loss))(params.raw_widths)
    assert float(jnp.abs(grad).min()) > 0
    direction = jax.random.normal(jax.random.key(5), grad.shape)
    step = 1e-6 * direction
    slope = (loss(params.raw_widths + step) - loss(params.raw_widths - step)) / 2e-6
    assert relative(jnp.sum(grad * direction), slope) < 1e-5


def test_widths_have_a_group_of_their_own():
    for learned, group in ((True, "augmentation"), (False, "frozen")):
        form = forms.augmented(small_form(inner_lr=0.1), learned=learned)
        groups = forms.groups_of(form, jax.eval_shape(form.init, jax.random.key(0)))
        assert groups.raw_widths == group
        assert groups.form.images == "data"


@pytest.mark.parametrize("widths", [0.0, -1.0, (0.1, 0.2), float("nan"), (0.1,) * 5 + (0.0,)])
def test_bad_widths_are_refused(widths):
    with pytest.raises(ValueError, match="widths: expected one finite number above zero, or 6"):
        forms.augmented(small_form(), widths=widths)


def test_texts_are_not_augmented():
    with pytest.raises(ValueError, match="image_shape"):
        forms.augmented(forms.pixels((5, 3), 2, inner_steps=1))

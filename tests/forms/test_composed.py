"""Composition: images times labels times learning rates, and minibatches that are drawn."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import CLASSES, SHAPE, relative

from ddjax import forms
from ddjax.types import Form, Images, Schedule
from ddjax.unroll import STRATEGIES, unroll


def numbered(per_class: int = 4) -> Images:
    """Images whose pixels are all the number of the image: 100 times its class, plus its place there."""
    numbers = 100.0 * np.arange(CLASSES)[:, None] + np.arange(per_class)
    start = np.broadcast_to(numbers[:, :, None, None, None], (CLASSES, per_class, *SHAPE))
    return Images(
        lambda key: jnp.asarray(start, jnp.float32),
        lambda code: code,
        (CLASSES, per_class, *SHAPE),
        "numbered",
    )


def classes_of(schedule: Schedule) -> np.ndarray:
    return np.asarray(schedule.labels.argmax(-1))


def number_of(schedule: Schedule) -> np.ndarray:
    return np.asarray(schedule.inputs[..., 0, 0, 0])


def unfolded(form: Form) -> Schedule:
    return form.unfold(form.init(jax.random.key(0)))


def test_steps_hold_the_images_in_their_order_by_class():
    schedule = unfolded(forms.composed(numbered(), inner_steps=2, inner_epochs=3, inner_lr=0.1))
    assert schedule.lrs is not None
    assert schedule.lrs.shape == (3, 2)
    assert np.allclose(schedule.lrs, 0.1)
    assert number_of(schedule).tolist() == [[0, 1, 100, 101, 200, 201], [2, 3, 102, 103, 202, 203]]
    assert (classes_of(schedule) == number_of(schedule) // 100).all()


def test_each_epoch_deals_out_different_images_of_every_class():
    form = forms.composed(numbered(7 * 2), inner_steps=2, inner_epochs=3, inner_lr=0.1, drawn_per_class=5)
    assert form.draw is not None
    drawn = form.draw(form.init(jax.random.key(0)), jax.random.key(1))
    assert drawn.order is not None
    assert drawn.inputs.shape[:2] == (2, 7 * CLASSES)  # not one copy more
    numbers = number_of(drawn).ravel()[np.asarray(drawn.order)]
    labels = classes_of(drawn).ravel()[np.asarray(drawn.order)]
    assert labels.tolist() == np.tile(np.repeat(np.arange(CLASSES), 5), (3, 2, 1)).tolist()
    for epoch in numbers:
        assert len(set(epoch.ravel().tolist())) == 2 * 5 * CLASSES
    assert (numbers // 100 == labels).all()
    assert len({tuple(sorted(epoch.ravel().tolist())) for epoch in numbers}) > 1


def test_a_method_without_rates_sees_one_drawn_minibatch():
    form = forms.composed(numbered(), drawn_per_class=3)
    assert form.draw is not None
    drawn = form.draw(form.init(jax.random.key(0)), jax.random.key(1))
    assert drawn.order is None
    assert drawn.lrs is None
    assert classes_of(drawn).tolist() == [np.repeat(np.arange(CLASSES), 3).tolist()]
    assert (number_of(drawn) // 100 == classes_of(drawn)).all()
    assert len(set(number_of(drawn).ravel().tolist())) == 9


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("strategy", ["reverse", "sqrt", "mixed_sqrt", "window", "stop"])
def test_an_order_trains_on_what_one_by_one_lists(strategy):
    """The gather in the loop against minibatches that were copied beforehand, and both gradients."""
    memory = STRATEGIES.get(strategy) or dataclasses.replace(STRATEGIES["reverse"], window=3)
    form = forms.composed(numbered(), inner_steps=2, inner_epochs=3, inner_lr=0.05, drawn_per_class=1)
    images = jax.random.normal(jax.random.key(2), (CLASSES, 4, *SHAPE), jnp.float64)
    params = form.init(jax.random.key(0))._replace(code=images, raw_lrs=jnp.full((3, 2), -3.0))
    theta = jax.random.normal(jax.random.key(3), (64, CLASSES), jnp.float64) / 8

    def loss(theta, x, y):
        return jnp.mean((jnp.tanh(x.reshape(len(x), -1) @ theta) - y) ** 2)

    def trained(params, copied):
        assert form.draw is not None
        schedule = form.draw(params, jax.random.key(4))
        stop = jnp.int32(5) if strategy == "stop" else None
        schedule = forms.one_by_one(schedule) if copied else schedule
        return jnp.sum(unroll(loss, theta, schedule, memory=memory, stop=stop)[0] ** 3)

    found, wanted = (jax.jit(jax.value_and_grad(trained), static_argnums=1)(params, one) for one in (0, 1))
    assert relative(found, wanted) < 1e-12
    assert float(jnp.abs(found[1].code).max()) > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"inner_steps": 3}, "inner_steps: expected a divisor of the 4 images of a class; got 3"),
        ({"inner_steps": 0}, "inner_steps: expected a whole number >= 1; got 0"),
        ({"inner_steps": 2, "drawn_per_class": 3}, "drawn_per_class: expected at most 2"),
        ({"drawn_per_class": 0}, "drawn_per_class: expected a whole number >= 1"),
        ({"inner_lr": -1.0}, "inner_lr: expected a finite number > 0"),
        ({"label_confidence": 0.1}, "label_confidence: expected a probability between 1 / 3"),
        ({"label_form": "softmax"}, "label_confidence: expected a probability"),
    ],
)
def test_what_does_not_fit_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        forms.composed(numbered(), **settings)


def test_labels_that_may_not_fall_below_zero_are_set_to_zero_after_an_update():
    form = forms.composed(numbered(), label_form="nonnegative")
    assert form.project is not None
    params = form.init(jax.random.key(0))
    after = form.project(params._replace(label_logits=params.label_logits - 0.25))
    assert np.allclose(after.label_logits, 0.75 * params.label_logits)


def test_an_order_survives_no_decoder_that_changes_the_number_of_images():
    inner = forms.composed(numbered(), inner_lr=0.1, drawn_per_class=2)

    def twice(schedule: Schedule) -> Schedule:
        return schedule._replace(
            inputs=jnp.concatenate([schedule.inputs] * 2, 1), labels=jnp.concatenate([schedule.labels] * 2, 1)
        )

    form = forms.decoded(inner, twice, name="twice")
    assert form.draw is not None
    with pytest.raises(ValueError, match="decode: expected as many examples as are encoded"):
        form.draw(form.init(jax.random.key(0)), jax.random.key(1))

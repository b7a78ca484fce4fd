"""Starts for any number of images in a step, and what the launchers make of them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags
from problems import CLASSES, SHAPE, small_form

from ddjax import forms
from ddjax.forms import mixtures
from ddjax.launch.flags import command_line, parse, without_effect
from ddjax.launch.launcher import find


def test_fewer_images_than_classes_are_means_of_classes():
    images = np.arange(5 * 2, dtype=np.float32).reshape(5, 2, 1)  # of class k in step s: 2 k + s
    found, labels = mixtures(images, 2, 2)
    np.testing.assert_allclose(found[..., 0], [[4, 4], [5, 5]])  # classes 0, 2, 4 and 1, 3
    np.testing.assert_allclose(labels[0], [[1 / 3, 0, 1 / 3, 0, 1 / 3], [0, 0.5, 0, 0.5, 0]])
    assert found.dtype == np.float32
    np.testing.assert_allclose(labels.sum(-1), 1)


def test_more_images_than_classes_take_turns():
    images = np.arange(3 * 4, dtype=np.float64).reshape(3, 4, 1)  # step s has 2 s and 2 s + 1 of each class
    found, labels = mixtures(images, 2, 5)
    assert labels.argmax(-1).tolist() == [[0, 1, 2, 0, 1]] * 2
    np.testing.assert_array_equal(found[..., 0], [[0, 4, 8, 1, 5], [2, 6, 10, 3, 7]])


@pytest.mark.parametrize(("steps", "size"), [(0, 2), (1, 0), (2, 5)])
def test_mixtures_of_too_little_are_refused(steps, size):
    with pytest.raises(ValueError, match=r"expected"):
        mixtures(np.zeros((3, 2, 1)), steps, size)


def test_a_bound_holds_learned_rates():
    form = small_form(inner_lr=0.1, max_lr=0.2)
    params = form.init(jax.random.key(0))
    assert form.project is not None
    held = form.project(params._replace(raw_lrs=params.raw_lrs + jnp.array([[0.0, 5.0]])))
    np.testing.assert_allclose(jax.nn.softplus(held.raw_lrs), [[0.1, 0.2]] * 2, rtol=1e-5)
    assert small_form(inner_lr=0.1).project is None
    with pytest.raises(ValueError, match="max_lr: expected"):
        forms.pixels(SHAPE, CLASSES, inner_lr=0.3, max_lr=0.2)


def settings(**given):
    launcher = find("fixed_init")
    everything = {"network": "mlp", "inner_steps": 2, "inner_epochs": 3, "baselines": False, **given}

    return launcher, parse(launcher.config_class, ["x", *command_line(everything)], flags.FlagValues())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "shape", "sums", "learned"),
    [
        ({"images_per_step": 5, "label_form": "free", "initial_images": "real"}, (2, 5, 10), 1, True),
        ({"images_per_step": 3, "label_form": "softmax"}, (2, 3, 10), 1, True),
        ({"images_per_step": 12}, (2, 12, 10), 1, False),
        ({"label_form": "free", "max_inner_lr": 0.1}, (2, 10, 10), 1, True),
    ],
)
def test_flags_make_any_number_of_images(given, shape, sums, learned, digits):
    launcher, config = settings(**given)
    parts = launcher.parts(config, digits)
    params = parts.form.init(jax.random.key(0))
    schedule = parts.form.unfold(params)
    assert schedule.labels.shape == shape
    np.testing.assert_allclose(schedule.labels.sum(-1), sums, rtol=1e-5)
    assert (params.label_logits is not None) == learned
    assert parts.facts.layout.as_dict(10)["images"] == shape[0] * shape[1]
    assert (parts.form.project is not None) == ("max_inner_lr" in given)


@pytest.mark.slow
def test_flags_that_contradict_each_other_are_refused(digits):
    for given, message in (
        ({"images_per_step": 5, "baselines": True}, "Add --nobaselines"),
        ({"label_form": "free", "label_confidence": 0.9}, "expected softmax labels with it"),
        ({"images_per_step": 5, "label_form": "softmax", "label_confidence": 1.5}, "label_confidence"),
        ({"label_form": "softmax"}, "label_confidence"),
    ):
        launcher, config = settings(**given)
        with pytest.raises(ValueError, match=message):
            launcher.parts(config, digits)


def test_flags_without_effect_are_named():
    _, config = settings(images_per_step=5, images_per_class_per_step=2, outer_lr_of_labels=0.1)
    assert set(without_effect(config)) == {"images_per_class_per_step", "outer_lr_of_labels"}

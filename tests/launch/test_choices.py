"""What the flags of a distillation choose."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from ddjax import coresets, inits
from ddjax.data import load
from ddjax.launch import Parts, Plan, Unrolled, build_network, choose_network, unrolled_parts
from ddjax.networks import norms


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def build(digits, **flags) -> Parts:
    return unrolled_parts(Unrolled(**flags), digits, Plan(), inits.random)


@pytest.mark.slow
@pytest.mark.parametrize("start", ["real", "k_means"])
def test_images_start_from_the_training_set(digits, start):
    chosen = build(digits, initial_images=start, inner_steps=2, images_per_class_per_step=3, seed=5)
    params = chosen.form.init(jax.random.key(0))
    select = coresets.INITIAL_IMAGES[start]
    assert select is not None
    expected = select(digits.train, per_class=6, num_classes=10, seed=5)  # [K, S * m, ...]
    assert params.images.shape == (2, 30, *digits.image_shape)
    # Step 1, class 4, third image: the sixth of its class.
    np.testing.assert_allclose(params.images[1, 4 * 3 + 2], expected[4, 5], atol=1e-5)
    if start == "real":
        training = digits.train.encoded()[digits.train.labels == 4]
        assert np.any(np.all(np.isclose(training, params.images[1, 4 * 3 + 2], atol=1e-6), axis=(1, 2, 3)))


def test_images_start_from_noise_and_labels_are_hard_without_flags(digits):
    params = build(digits).form.init(jax.random.key(0))
    assert abs(float(params.images.mean())) < 0.1
    assert params.label_logits is None


def test_labels_are_learned_where_their_confidence_is_given(digits):
    params = build(digits, label_confidence=0.7).form.init(jax.random.key(0))
    np.testing.assert_allclose(jax.nn.softmax(params.label_logits)[0, 3, 3], 0.7, rtol=1e-5)


def test_a_random_horizon_needs_a_window(digits):
    with pytest.raises(ValueError, match=r"horizon: expected a window with 'random'.*--window"):
        build(digits, horizon="random")
    assert build(digits, horizon="random", window=5).method.name == "unrolled"


def test_the_norm_of_the_flags_is_the_network_s(digits):
    config = Unrolled(network="convnet", width=4, norm="batch")
    name, own = choose_network(config, digits)
    assert (name, own["norm"], own["width"]) == ("convnet", "batch", 4)
    assert norms.has_batch_norm(build_network((name, own), digits))
    choice = choose_network(Unrolled(network="mlp", norm="batch"), digits)
    with pytest.raises(ValueError, match=r"settings of mlp: expected one of .*; got 'norm'"):
        build_network(choice, digits)

"""Pretraining: against a plain loop in float64; many at once as one by one."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import CLASSES, SHAPE, relative, three_digits

from ddjax import Recipe, inits, networks
from ddjax.judge import Judge
from ddjax.pretrain import Training, nets_at_once, pretrain

NETWORK = networks.convnet(SHAPE, CLASSES, depth=1, width=4, norm="none", activation="tanh")


@pytest.fixture(scope="module")
def data():
    return three_digits()


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_it_is_a_plain_loop_of_adam_on_a_cosine(data):
    distribution, key = inits.random(NETWORK), jax.random.key(3)
    split, training = data.train, Training(epochs=2, batch_size=100, lr=0.01)
    ours = pretrain(NETWORK, distribution, split, training, keys=key[None])
    init_key, order_key = jax.random.split(key)
    theta = jax.device_get(distribution.sample(init_key))
    first, second = (jax.tree.map(np.zeros_like, theta) for _ in range(2))
    steps, t = len(split) // 100, 0
    mean, std = (np.asarray(array, np.float32).astype(float) for array in (split.mean, split.std))
    images = (split.images / 255 - mean) / std

    @jax.jit
    @jax.grad
    def gradient(params, inputs, labels):
        logits = NETWORK.apply(params, inputs)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    for epoch_key in jax.random.split(order_key, 2):
        order = np.asarray(jax.random.permutation(epoch_key, len(split)))
        for rows in order[: steps * 100].reshape(steps, 100):
            rate, t = 0.01 * (1 + np.cos(np.pi * t / (2 * steps))) / 2, t + 1
            inputs = jnp.asarray(images[rows], split.mean.dtype)
            grads = jax.device_get(gradient(theta, inputs, split.labels[rows]))
            first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, grads)
            second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g**2, second, grads)
            theta = jax.tree.map(
                lambda p, m, v, t=t, rate=rate: (
                    p - rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
                ),
                theta,
                first,
                second,
            )
    assert steps == 3
    # The images come as float32, so that rounding differs; Adam divides by what may be small.
    assert relative(jax.tree.map(lambda leaf: leaf[0], ours), theta) < 1e-5


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_networks_follow_their_keys_alone_scanned_or_vmapped(data):
    network = networks.mlp(SHAPE, CLASSES, widths=(8,))
    distribution, keys = inits.random(network), jax.random.split(jax.random.key(0), 3)
    training = Training(epochs=1, batch_size=64)
    scanned = pretrain(network, distribution, data.train, training, keys=keys, at_once=1)
    vmapped = pretrain(network, distribution, data.train, training, keys=keys, at_once=3)
    alone = pretrain(network, distribution, data.train, training, keys=keys[2:])
    assert relative(vmapped, scanned) < 1e-9
    assert relative(alone, jax.tree.map(lambda leaf: leaf[2:], scanned)) < 1e-9
    kernels = jax.tree.leaves(scanned)[1]
    assert not np.allclose(kernels[0], kernels[1])
    assert (nets_at_once("cpu", 8), nets_at_once("gpu", 8)) == (1, 8)


@pytest.mark.slow
def test_networks_learn_and_are_scored_as_they_are(data):
    network = networks.mlp(SHAPE, CLASSES, widths=(16,))
    training = Training(epochs=20, lr=0.01)
    keys = jax.random.split(jax.random.key(0), 2)
    params = pretrain(network, inits.random(network), data.train, training, keys=keys)
    found = Judge(network, inits.random(network), Recipe("schedule"), data.test).untrained(params).values
    assert (np.asarray(found) > 95).all()
    for i, percent in enumerate(found):
        logits = network.apply(jax.tree.map(lambda leaf, i=i: leaf[i], params), data.test.encoded())
        expected = 100 * float(np.mean(np.argmax(logits, -1) == data.test.labels))
        assert float(percent) == pytest.approx(expected, abs=1e-4)


def test_bad_settings_are_refused(data):
    for settings, message in (
        ({"epochs": 0}, "epochs: expected a whole number >= 1"),
        ({"epochs": 1, "batch_size": 0}, "batch_size"),
        ({"epochs": 1, "lr": 0.0}, "lr: expected a finite number > 0"),
    ):
        with pytest.raises(ValueError, match=message):
            Training(**settings)
    keys = jax.random.split(jax.random.key(0), 1)
    with pytest.raises(ValueError, match=r"number of training images: .* Lessen batch_size"):
        pretrain(NETWORK, inits.random(NETWORK), data.train, Training(1, batch_size=10**6), keys=keys)
    other = networks.mlp((9, 9, 1), CLASSES, widths=(4,))
    with pytest.raises(ValueError, match="image shape"):
        pretrain(other, inits.random(other), data.train, Training(1), keys=keys)

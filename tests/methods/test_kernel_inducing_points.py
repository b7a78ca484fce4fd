"""Tests of kernel inducing points: against scikit-learn, and on the embedded digits."""

from __future__ import annotations

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import CLASSES, SHAPE
from sklearn.kernel_ridge import KernelRidge

import ddjax
from ddjax import forms, inits, methods, networks
from ddjax.data import to_device
from ddjax.encodings import Encoded
from ddjax.methods.kernel_inducing_points import Drawn
from ddjax.types import Network, RealData, Schedule


def free(labels: np.ndarray, **settings) -> ddjax.Form:
    """One step of images with free labels that start centred, `[B, K]`."""
    return forms.pixels(
        SHAPE,
        labels.shape[1],
        inner_steps=1,
        inner_lr=None,
        initial_labels=labels[None],
        label_form="free",
        **settings,
    )


def matrix(network: Network, x: np.ndarray, z: np.ndarray) -> np.ndarray:
    assert network.kernel is not None
    return np.asarray(network.kernel((), jnp.asarray(x), jnp.asarray(z)))


def drawn(real: np.ndarray) -> Drawn:
    """Real examples `[K, N, ...]` as a step draws them: all examples of a split, class by class."""
    classes, count = real.shape[:2]
    positions = jnp.arange(classes * count, dtype=jnp.int32)
    raw, labels = jnp.asarray(real.reshape(-1, *real.shape[2:])), jnp.repeat(jnp.arange(classes), count)
    data = RealData(raw, labels, Encoded(), positions, jnp.arange(classes + 1) * count)
    return Drawn(data, positions.reshape(classes, count))


@pytest.mark.usefixtures("x64")
@pytest.mark.slow
def test_the_loss_is_scikit_learn_s_kernel_ridge(rng):
    """Two real examples of each of three classes, three distilled images with labels of any sign."""
    network = networks.infinite_mlp(SHAPE, CLASSES)
    x, y = rng.normal(size=(3, *SHAPE)), rng.normal(size=(3, CLASSES))
    real = rng.normal(size=(CLASSES, 2, *SHAPE))
    method = methods.kernel_inducing_points(network, inits.random(network), batch_size=2, penalty=0.3)
    schedule = Schedule(jnp.asarray(x)[None], jnp.asarray(y)[None], None)
    value, info = method.loss(schedule, (), drawn(real), jax.random.key(0))

    flat, classes = real.reshape(-1, *SHAPE), np.repeat(np.arange(CLASSES), 2)
    gram = matrix(network, x, x)
    ridge = KernelRidge(alpha=0.3 * np.trace(gram) / 3, kernel="precomputed").fit(gram, y)
    found = ridge.predict(matrix(network, flat, x))
    wanted = np.eye(CLASSES)[classes] - 1 / CLASSES
    assert float(value) == pytest.approx(0.5 * np.mean((found - wanted) ** 2), rel=1e-7)
    assert float(info.accuracy) == pytest.approx(100 * np.mean(found.argmax(1) == classes))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("count", [1, 3])
def test_real_examples_in_chunks_change_nothing(count, rng, monkeypatch):
    """Neither the loss nor the gradient in images and labels, where the last chunk is smaller too."""
    network = networks.infinite_mlp(SHAPE, CLASSES)
    x, y = jnp.asarray(rng.normal(size=(1, 3, *SHAPE))), jnp.asarray(rng.normal(size=(1, 3, CLASSES)))
    real = drawn(rng.normal(size=(CLASSES, 5, *SHAPE)))
    method = methods.kernel_inducing_points(network, inits.random(network), penalty=0.3)
    kip = importlib.import_module("ddjax.methods.kernel_inducing_points")

    def found(size):
        monkeypatch.setattr(kip, "EXAMPLES_PER_CHUNK", size)

        def loss(x, y):
            return method.loss(Schedule(x, y, None), (), real, jax.random.key(0))

        return jax.value_and_grad(loss, (0, 1), has_aux=True)(x, y)

    whole, parts = found(1000), found(4 * count)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-12), parts, whole)


@pytest.mark.usefixtures("x64")
@pytest.mark.slow
def test_the_kernel_is_the_mean_over_random_networks(rng):
    network = networks.mlp(SHAPE, CLASSES, widths=(5,))
    p = inits.random(network)
    x, y = rng.normal(size=(2, *SHAPE)), rng.normal(size=(2, CLASSES))
    real = rng.normal(size=(CLASSES, 1, *SHAPE))
    schedule = Schedule(jnp.asarray(x)[None], jnp.asarray(y)[None], None)
    key = jax.random.key(3)
    method = methods.kernel_inducing_points(network, p, networks=3, penalty=0.1)
    value, _ = method.loss(schedule, (), drawn(real), key)

    features = []
    for one in jax.random.split(key, 3):
        params = p.sample(one)
        assert network.embed is not None
        features.append(
            [np.asarray(network.embed(params, z)) for z in (jnp.asarray(x), jnp.asarray(real[:, 0]))]
        )
    gram = np.mean([a @ a.T for a, _ in features], 0)
    cross = np.mean([b @ a.T for a, b in features], 0)
    weights = np.linalg.solve(gram + 0.1 * np.trace(gram) / 2 * np.eye(2), y)
    wanted = np.eye(CLASSES) - 1 / CLASSES
    assert float(value) == pytest.approx(0.5 * np.mean((cross @ weights - wanted) ** 2), rel=1e-9)


@pytest.mark.slow
def test_solved_labels_predict_the_real_ones_best_block_by_block(few_digits, monkeypatch):
    network, data = networks.infinite_mlp((8, 8, 1), 3), to_device(few_digits.train)
    images = few_digits.train.encoded()[:4]
    kip = importlib.import_module("ddjax.methods.kernel_inducing_points")
    monkeypatch.setattr(kip, "REAL_AT_ONCE", 17)
    found = kip.solved_labels(network, (), jnp.asarray(images), data, penalty=0.1)
    real = few_digits.train.encoded()
    gram, cross = matrix(network, images, images), matrix(network, real, images)
    y = np.eye(3)[few_digits.train.labels] - 1 / 3
    hat = cross @ np.linalg.inv(gram + 0.1 * np.trace(gram) / 4 * np.eye(4))
    np.testing.assert_allclose(found, np.linalg.lstsq(hat, y, rcond=None)[0], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_one_image_of_each_digit_predicts_nearly_all(digits):
    """Real images predict about 70 percent: both images and labels are learned."""
    network = networks.infinite_mlp(SHAPE, 10)
    distribution = inits.random(network)
    method = methods.kernel_inducing_points(network, distribution, batch_size=50)
    run = ddjax.distill(
        digits,
        method,
        key=jax.random.key(0),
        num_outer_steps=150,
        form=free(np.eye(10) - 0.1),
    )
    score = ddjax.evaluate(
        run.distilled, network, distribution, digits.test, key=jax.random.key(1), num_inits=1
    )
    assert score.mean > 93
    assert run.distilled.recipe.kind == "ridge"
    assert np.asarray(run.distilled.schedule.labels).min() < 0


def _with_batch_norm() -> Network:
    return networks.convnet(SHAPE, CLASSES, depth=1, width=2, norm="batch")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda net, p: methods.kernel_inducing_points(_with_batch_norm(), p),
            "expected a network without batch norm",
        ),
        (lambda net, p: methods.kernel_inducing_points(net, p, penalty=0.0), "penalty: expected"),
        (lambda net, p: methods.kernel_inducing_points(net, p, networks=0), "networks: expected"),
        (lambda net, p: methods.kernel_inducing_points(net, p, batch_size=0), "batch_size: expected"),
    ],
)
def test_bad_settings_are_refused(make, message):
    net = networks.infinite_mlp(SHAPE, CLASSES)
    with pytest.raises(ValueError, match=message):
        make(net, inits.random(net))

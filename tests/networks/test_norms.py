"""The norms against their definition; batch norm's statistics, which are weights and nothing else."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddjax import networks
from ddjax.networks import norms

pytestmark = pytest.mark.slow

SHAPE = (6, 6, 4)
AXES = {"instance": (1, 2), "layer": (1, 2, 3), "batch": (0, 1, 2)}


@pytest.fixture(scope="module")
def images():
    return jnp.asarray(np.random.default_rng(0).normal(2.0, 3.0, (8, *SHAPE)), jnp.float32)


@pytest.fixture(scope="module")
def network():
    return networks.convnet(SHAPE, 3, depth=2, width=8, norm="batch", conv_form="lax")


@pytest.fixture(scope="module")
def run(network):
    """Logits and features of the same weights and images."""
    return jax.jit(lambda params, x: (network.apply(params, x), network.embed(params, x)))


@pytest.fixture(scope="module")
def params(network):
    return jax.jit(network.init)(jax.random.key(0))


@pytest.fixture(scope="module")
def calibrate(network):
    return jax.jit(functools.partial(networks.calibrate, network), static_argnames="batch_size")


@pytest.mark.parametrize("kind", ["instance", "layer", "batch", "group"])
def test_norms_subtract_the_mean_and_divide_by_the_spread(kind, images, rng):
    module = norms.norm(kind)
    shapes = jax.eval_shape(module.init, jax.random.key(0), images)["params"]
    params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype("float32"), shapes)
    x = np.asarray(images, float)
    # With four channels, the four groups of group norm have one each.
    axes = AXES["instance" if kind == "group" else kind]
    mean, var = (getattr(x, name)(axes, keepdims=True) for name in ("mean", "var"))
    weights = SHAPE if kind == "layer" else SHAPE[-1:]
    scale, bias = (params[name].reshape(weights) for name in ("scale", "bias"))
    expected = (x - mean) / np.sqrt(var + 1e-5) * scale + bias
    ours = jax.jit(module.apply)({"params": params}, images)
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


def test_group_norm_shares_statistics_between_channels(rng):
    x = jnp.asarray(rng.normal(size=(2, 3, 3, 8)), jnp.float32)
    module = norms.norm("group")
    ours = jax.jit(lambda x: module.apply(module.init(jax.random.key(0), x), x))(x)
    groups = np.asarray(x, float).reshape(2, 3, 3, 4, 2)
    mean, var = groups.mean((1, 2, 4), keepdims=True), groups.var((1, 2, 4), keepdims=True)
    expected = ((groups - mean) / np.sqrt(var + 1e-5)).reshape(x.shape)
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


def test_without_statistics_the_batch_s_own_are_taken(run, params, images):
    other = jnp.concatenate([images[:1], 2 * images[1:]])
    alone, together = (run(params, x)[0][0] for x in (images, other))
    assert jnp.abs(alone - together).max() > 1e-2


def test_calibrated_weights_treat_an_image_alike_in_any_company(run, params, images, calibrate):
    stored, alone = calibrate(params, images), jnp.tile(images[3], (8, 1, 1, 1))
    trained_on, together, tiled = run(params, images), run(stored, images), run(stored, alone)
    for expected, ours, single in zip(trained_on, together, tiled, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(single[0], expected[3], rtol=1e-4, atol=1e-5)


def test_old_statistics_have_no_influence_on_new_ones(params, images, calibrate):
    stored = calibrate(params, images)
    wrong = {**stored, "norm1": {**stored["norm1"], "mean": stored["norm1"]["mean"] + 5}}
    jax.tree.map(np.testing.assert_array_equal, calibrate(wrong, images), stored)


@pytest.mark.parametrize("batch_size", [3, 4, 5])
def test_statistics_of_several_batches_are_their_mean(params, images, calibrate, batch_size):
    """Six images are two batches in any case, of every other one."""
    stored = calibrate(params, images[:6], batch_size=batch_size)["norm2"]
    halves = [calibrate(params, images[start:6:2])["norm2"] for start in (0, 1)]
    for name in ("mean", "var"):
        np.testing.assert_allclose(stored[name], (halves[0][name] + halves[1][name]) / 2, rtol=1e-5)


def test_statistics_of_many_images_are_of_all_classes(network, params, calibrate):
    """Images in the order of their classes, more than one batch of them, as φ's are."""
    classes = 10.0 * jnp.arange(10.0)[:, None, None, None, None]
    noise = jnp.asarray(np.random.default_rng(1).normal(size=(10, 50, *SHAPE)), jnp.float32)
    stored = calibrate(params, (classes + noise).reshape(-1, *SHAPE))
    whole = calibrate(params, (classes + noise).reshape(-1, *SHAPE), batch_size=500)
    for name in ("mean", "var"):
        np.testing.assert_allclose(stored["norm1"][name], whole["norm1"][name], rtol=1e-3)


def test_statistics_are_constants_and_a_batch_s_own_are_not(network, params, images, calibrate):
    gradient = jax.jit(jax.grad(lambda p, x: jnp.sum(jnp.sin(network.apply(p, x))), argnums=(0, 1)))
    of_stored, constant = gradient(calibrate(params, images), images)
    _, own = gradient(params, images)
    assert not of_stored["norm1"]["mean"].any()
    assert not of_stored["norm1"]["var"].any()
    assert of_stored["norm1"]["scale"].any()
    assert jnp.abs(own - constant).max() > 1e-3


def test_calibration_reaches_nested_modules_and_leaves_others_alone(images):
    deep = networks.resnet18(SHAPE, 3, width=4, norm="batch", conv_form="lax")
    params = jax.eval_shape(deep.init, jax.random.key(0))
    stored = jax.eval_shape(lambda p: networks.calibrate(deep, p, images), params)
    assert len(jax.tree.leaves(stored)) - len(jax.tree.leaves(params)) == 2 * 20
    assert stored["stage2_block1"]["shortcut_norm"]["var"].shape == (8,)
    assert "mean" not in params["stage2_block1"]["shortcut_norm"]
    plain = networks.mlp(SHAPE, 3)
    weights = plain.init(jax.random.key(0))
    assert networks.calibrate(plain, weights, images) is weights

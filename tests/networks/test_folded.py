"""The folded convolution and norm equal the two after one another, also differentiated twice."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from ddjax import networks
from ddjax.networks import folded, norms, ops
from ddjax.unroll import cross_entropy

PADS = {"same": ((1, 1), (1, 1)), "wide": ((3, 3), (1, 1)), "uneven": ((0, 2), (1, 0))}
NHWC = ("NHWC", "HWIO", "NHWC")


def _normal(seed, shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def _one_after_another(x, kernel, scale, bias, *, pads):
    y = lax.conv_general_dilated(x, kernel, (1, 1), pads, dimension_numbers=NHWC)
    mean = y.mean((1, 2), keepdims=True)
    variance = jnp.square(y - mean).mean((1, 2), keepdims=True)
    scale, bias = (one[None, None, None] for one in (scale, bias))
    return (y - mean) / jnp.sqrt(variance + norms.EPSILON) * scale + bias


def _all_orders(convolve, *arguments):
    """The value, its gradients, and the derivative of these along a direction in the weights."""

    def loss(*arguments):
        value = convolve(*arguments)
        return jnp.mean(jnp.sin(value)), value

    def gradients(*arguments):
        return jax.grad(loss, range(4), has_aux=True)(*arguments)

    ways = tuple(jnp.cos(one) for one in arguments)
    return jax.jvp(gradients, arguments, ways)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("pads", PADS)
def test_it_is_the_norm_of_the_convolution(x64, channels, pads):
    arguments = _normal(0, (3, 7, 6, channels)), _normal(1, (3, 3, channels, 5)), _normal(2, 5), _normal(3, 5)

    def of(convolve):
        return jax.jit(lambda *given: _all_orders(convolve, *given))(*arguments)

    ours = of(lambda *given: folded.convolve(*given, pads=PADS[pads]))
    plain = of(lambda *given: _one_after_another(*given, pads=PADS[pads]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12), ours, plain)


def test_an_image_of_one_colour_has_the_bias_everywhere(x64):
    images, kernel, (scale, bias) = jnp.full((1, 5, 5, 1), 0.7), _normal(0, (3, 3, 1, 4)), _normal(1, (2, 4))
    y = folded.convolve(images, kernel, scale, bias, pads=((0, 0), (0, 0)))
    np.testing.assert_allclose(y, np.broadcast_to(bias, y.shape), atol=1e-12)


def test_float32_errs_by_a_few_units_in_the_last_place(x64):
    arguments = _normal(0, (4, 28, 28, 1)), _normal(1, (3, 3, 1, 32)), jnp.ones(32), jnp.zeros(32)
    exact = _one_after_another(*arguments, pads=PADS["wide"])
    ours = folded.convolve(*[one.astype(jnp.float32) for one in arguments], pads=PADS["wide"])
    assert ours.dtype == jnp.float32
    assert jnp.abs(ours - exact).max() < 8 * np.spacing(np.float32(jnp.abs(exact).max()))


def test_a_kernel_larger_than_the_image_is_refused():
    with pytest.raises(ValueError, match=r"expected images, zeros included, of at least 3x3; got 2x2"):
        ops.patches(jnp.zeros((1, 2, 2, 1)), (3, 3, 1, 4), pads=((0, 0), (0, 0)))


@pytest.mark.slow
def test_a_convnet_folds_by_default_and_not_where_a_form_is_chosen(x64):
    shape = (28, 28, 1)
    ours, plain = (networks.convnet(shape, 10, width=8, conv_form=form) for form in ("auto", "im2col"))
    params = jax.jit(plain.init)(jax.random.key(0))
    params = jax.tree.map(lambda one: one + 0.1 * _normal(7, one.shape), params)
    images, labels = _normal(0, (4, *shape)), jnp.eye(10)[:4]

    def gradient(network):
        return jax.jit(jax.value_and_grad(cross_entropy(network.apply), (0, 1)))(params, images, labels)

    (value, (grads, of_images)), (expected, (plain_grads, plain_of_images)) = map(gradient, (ours, plain))
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_allclose(of_images, plain_of_images, rtol=1e-9, atol=1e-14)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-14), grads, plain_grads)
    biases = [grads[f"conv{block}"]["bias"] for block in (1, 2, 3)]
    assert not np.any(biases), "the bias before an instance norm has no effect and no gradient"
    assert np.any([plain_grads[f"conv{block}"]["bias"] for block in (1, 2, 3)]), "by rounding alone"

"""Every form of the convolution equals lax's, also differentiated twice; the pools equal reduce_window."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax
from jax.test_util import check_grads

from ddjax import platforms
from ddjax.networks import ops, winograd

# image (n, H, W, C), kernel (kh, kw, C, F), strides, padding: the networks' own, scaled down, and odd ones.
CONVOLUTIONS = {
    "lenet1": ((2, 28, 28, 1), (5, 5, 1, 6), (1, 1), ((2, 2), (2, 2))),
    "lenet2": ((2, 14, 14, 6), (5, 5, 6, 16), (1, 1), "VALID"),
    "alexcifar1": ((1, 32, 32, 3), (5, 5, 3, 8), (1, 1), ((2, 2), (2, 2))),
    "alexcifar2": ((1, 16, 16, 8), (5, 5, 8, 8), (1, 1), ((2, 2), (2, 2))),
    "convnet28": ((1, 28, 28, 1), (3, 3, 1, 9), (1, 1), ((3, 3), (3, 3))),
    "convnet_deep": ((2, 4, 4, 9), (3, 3, 9, 9), (1, 1), "SAME"),
    "digits": ((2, 8, 8, 1), (3, 3, 1, 4), (1, 1), ((1, 1), (1, 1))),
    "one_pixel": ((2, 1, 1, 3), (3, 3, 3, 2), (1, 1), "SAME"),
    "prime_width": ((2, 5, 13, 2), (3, 2, 2, 3), (1, 1), ((0, 2), (1, 0))),
    "strided": ((2, 9, 11, 2), (3, 4, 2, 3), (2, 3), ((1, 2), (2, 0))),
    "strided_same": ((2, 8, 9, 2), (3, 3, 2, 3), (2, 2), "SAME"),
    "stride_over_kernel": ((2, 10, 10, 2), (2, 2, 2, 3), (3, 3), "VALID"),
    "negative_padding": ((2, 8, 9, 2), (3, 3, 2, 3), (1, 1), ((-1, 1), (1, -2))),
}
NHWC = ("NHWC", "HWIO", "NHWC")
FORMS = ("im2col", "banded", "blocked", "winograd")


def _normal(seed, shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def _all_orders(convolve, x, kernel):
    """Value, gradients, and the gradients of a gradient step's loss, as the unroll takes them."""

    def loss(x, kernel):
        value = convolve(x, kernel)
        return jnp.mean(jnp.sin(value)), value

    def stepped(x, kernel):
        first, value = jax.grad(loss, (0, 1), has_aux=True)(x, kernel)
        return loss(jnp.cos(x), kernel - first[1])[0], (value, first)

    second, (value, first) = jax.grad(stepped, (0, 1), has_aux=True)(x, kernel)
    return value, first, second


@pytest.mark.slow
@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_forms_equal_lax_in_value_and_two_derivatives(x64, case):
    image, kernel, strides, padding = CONVOLUTIONS[case]

    @functools.partial(jax.jit, static_argnums=0)
    def all_orders(form, x, kernel):
        def convolve(x, k):
            return ops.conv(x, k, strides, padding, dimension_numbers=NHWC, form=form)

        return _all_orders(convolve, x, kernel)

    x, k = _normal(0, image), _normal(1, kernel)
    want = all_orders("lax", x, k)
    for form in FORMS:
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12),
            all_orders(form, x, k),
            want,
        )


@pytest.mark.slow
@pytest.mark.parametrize(("side", "rounding"), [(3, 1e-6), (5, 5e-6)])
def test_minimal_filtering_rounds_as_little_as_it_says(x64, side, rounding):
    x, k = _normal(0, (8, 16, 16, 64)), _normal(1, (side, side, 64, 16))

    @functools.partial(jax.jit, static_argnums=2)
    def convolve(x, kernel, form):
        return ops.conv(x, kernel, (1, 1), "SAME", dimension_numbers=NHWC, form=form)

    exact = convolve(x, k, "lax")
    got = convolve(x.astype(jnp.float32), k.astype(jnp.float32), "winograd")
    assert got.dtype == jnp.float32
    assert np.std(got - exact) < rounding * np.std(exact)


@pytest.mark.parametrize("outputs", [2, 3, 4])
@pytest.mark.parametrize("kernel", [2, 3, 4, 5])
def test_minimal_filtering_in_one_dimension(outputs, kernel):
    a, g, b = winograd.matrices(outputs, kernel)
    data, weights = np.array(_normal(0, outputs + kernel - 1)), np.array(_normal(1, kernel))
    got = a @ ((g @ weights) * (b @ data))
    np.testing.assert_allclose(got, np.correlate(data, weights, "valid"), rtol=1e-5, atol=1e-5)
    assert a.shape[1] == outputs + kernel - 1


@pytest.mark.slow
@pytest.mark.parametrize("pool", [2, 3])
@pytest.mark.parametrize("case", ["lenet1", "lenet2", "alexcifar1", "prime_width", "negative_padding"])
def test_a_convolution_pooled_at_once_equals_one_pooled_after(x64, case, pool):
    """The blocked form alone pools at once: one shape shows that the others leave it to `max_pool`."""
    image, kernel, strides, padding = CONVOLUTIONS[case]
    forms = FORMS if (case, pool) == ("lenet2", 2) else ("blocked",)

    @functools.partial(jax.jit, static_argnums=0)
    def all_orders(form, x, kernel):
        def convolve(x, k):
            return ops.conv(x, k, strides, padding, dimension_numbers=NHWC, form=form, pool=pool)

        return _all_orders(convolve, x, kernel)

    x, k = _normal(0, image), _normal(1, kernel)
    want = all_orders("lax", x, k)
    for form in forms:
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12),
            all_orders(form, x, k),
            want,
        )


def test_of_equal_outputs_in_a_block_the_first_has_the_gradient(x64):
    x, kernel = jnp.ones((1, 4, 4, 1)), jnp.ones((1, 1, 1, 1))

    def pooled(x):
        return ops.conv(x, kernel, (1, 1), "VALID", dimension_numbers=NHWC, form="blocked", pool=2).sum()

    want = np.zeros((4, 4))
    want[::2, ::2] = 1
    np.testing.assert_array_equal(jax.jit(jax.grad(pooled))(x)[0, :, :, 0], want)


def _sum_of_shifts(x, *, written):
    """A loss whose cotangent of x is a sum of shifts behind a maximum, as in LeNet."""
    kept = ops._written_out(x) if written else x
    chosen = jnp.max(kept, axis=0)
    shifts = jnp.stack([chosen[:, i : i + 4] for i in range(3)])
    return jnp.sum(jnp.sin(shifts)), chosen


@pytest.mark.parametrize("order", ["gradient", "tangent of the gradient", "slots side by side"])
def test_a_cotangent_that_is_written_out_has_the_same_bits(order):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4, 6, 7)), jnp.float32)

    def results(written):
        gradient = jax.grad(functools.partial(_sum_of_shifts, written=written), has_aux=True)
        if order == "gradient":
            return gradient(x)
        if order == "slots side by side":
            return jax.vmap(gradient)(jnp.stack([x, 2 * x]))
        return jax.jvp(lambda at: gradient(at)[0], (x,), (jnp.cos(x),))

    for ours, plain in zip(results(written=True), results(written=False), strict=True):
        np.testing.assert_array_equal(ours, plain)


def test_the_cotangent_between_two_blocked_convolutions_is_a_reduction_of_its_own():
    x, first, second = (
        _normal(seed, shape).astype(jnp.float32)
        for seed, shape in enumerate([(8, 16, 16, 1), (5, 5, 1, 6), (3, 3, 6, 4)])
    )

    def loss(kernel):
        y = x
        for one in (kernel, second):
            y = ops.conv(y, one, (1, 1), "VALID", dimension_numbers=NHWC, form="blocked", pool=2)
            y = jax.nn.relu(y)
        return y.sum()

    if platforms.current() != "cpu":
        pytest.skip("what XLA for CPUs makes of it")
    text = jax.jit(jax.grad(loss)).lower(first).compile().as_text() or ""
    # Without it the outputs of a block would each add the shifts anew.
    assert re.search(r"pad_reduce_fusion[.\d]* = f32\[6,6,6,8\]", text)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_dilation": 2},
        {"input_dilation": 2, "padding": 1},
        {"feature_group_count": 2},
        {"kernel_size": (9, 9), "padding": "VALID"},
    ],
    ids=["kernel_dilation", "input_dilation", "groups", "empty"],
)
def test_what_the_forms_do_not_do_is_left_to_lax(form, settings):
    x = jnp.ones((2, 6, 6, 4))
    settings = {"kernel_size": (3, 3), **settings}
    plain = nn.Conv(4, **settings)
    params = plain.init(jax.random.key(0), x)
    got = nn.Conv(4, conv_general_dilated=ops.conv_op(form), **settings).apply(params, x)
    np.testing.assert_array_equal(got, plain.apply(params, x))


def test_other_layouts_are_left_to_lax():
    x, kernel = jnp.ones((2, 3, 6, 6)), jnp.ones((4, 3, 3, 3))
    got = ops.conv(x, kernel, (1, 1), "SAME", form="banded")
    np.testing.assert_array_equal(got, lax.conv_general_dilated(x, kernel, (1, 1), "SAME"))


def test_one_dimensional_convolutions_are_left_to_lax():
    x = jnp.ones((2, 6, 3))
    plain = nn.Conv(4, (3,))
    params = plain.init(jax.random.key(0), x)
    got = nn.Conv(4, (3,), conv_general_dilated=ops.conv_op()).apply(params, x)
    np.testing.assert_array_equal(got, plain.apply(params, x))


def test_an_unknown_form_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="Did you mean 'im2col'"):
        ops.conv_op("imcol")
    with pytest.raises(
        ValueError, match="conv_form: expected one of auto, banded, blocked, im2col, lax, winograd"
    ):
        ops.conv(jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 1)), (1, 1), "SAME", form="fft")


@pytest.mark.parametrize(
    ("backend", "in_features", "strides", "form"),
    [
        ("cpu", 1, (1, 1), "banded"),
        ("cpu", 6, (1, 1), "banded"),
        ("cpu", 6, (2, 2), "im2col"),
        ("cpu", 32, (1, 1), "winograd"),
        ("cpu", 128, (1, 1), "winograd"),
        ("cpu", 128, (2, 2), "im2col"),
        ("gpu", 1, (1, 1), "lax"),
        ("tpu", 1, (1, 1), "im2col"),
        ("tpu", 6, (1, 1), "im2col"),
        ("tpu", 128, (1, 1), "lax"),
    ],
)
def test_auto_follows_its_table(backend, in_features, strides, form):
    assert ops.default_form(backend, in_features=in_features, strides=strides) == form


POOLS = [(28, 2, 2, 0), (9, 2, 2, 0), (32, 3, 2, 1), (7, 3, 1, 1), (8, 3, 3, 0)]


@pytest.mark.slow
@pytest.mark.parametrize(("side", "window", "stride", "padding"), POOLS)
def test_pools_equal_reduce_window(x64, side, window, stride, padding):
    x = _normal(0, (2, side, side + 1, 3))
    shape, strides = (1, window, window, 1), (1, stride, stride, 1)
    pads = ((0, 0), (padding, padding), (padding, padding), (0, 0))

    def both(pool, x):
        return pool(x), jax.grad(lambda x: jnp.sum(jnp.sin(pool(x))))(x)

    pairs = [
        (
            lambda x: ops.max_pool(x, window, stride=stride, padding=padding),
            lambda x: lax.reduce_window(x, -jnp.inf, lax.max, shape, strides, pads),
        ),
        (
            lambda x: ops.avg_pool(x, window, stride=stride, padding=padding),
            lambda x: lax.reduce_window(x, 0.0, lax.add, shape, strides, pads) / window**2,
        ),
    ]
    for ours, reference in pairs:
        got, want = jax.jit(both, static_argnums=0)(ours, x), jax.jit(both, static_argnums=0)(reference, x)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14), got, want)


def test_max_pool_gives_the_gradient_of_a_tie_to_the_first_in_row_major_order():
    x = jnp.array([[0.0, 1.0], [1.0, 1.0]]).reshape(1, 2, 2, 1)
    gradient = jax.jit(jax.grad(lambda x: ops.max_pool(x, 2).sum()))(x)
    np.testing.assert_array_equal(gradient[0, :, :, 0], [[0, 1], [0, 0]])


@pytest.mark.parametrize("at", range(4))
def test_max_pool_lets_nan_through(at):
    x = jnp.arange(4.0).at[at].set(jnp.nan).reshape(1, 2, 2, 1)
    assert jnp.isnan(ops.max_pool(x, 2)).all()


def test_max_pool_pads_with_less_than_any_number():
    assert (ops.max_pool(-jnp.ones((1, 4, 4, 2)), 3, stride=2, padding=1) == -1).all()


@pytest.mark.slow
@pytest.mark.parametrize("pool", [ops.max_pool, ops.avg_pool])
def test_pools_agree_with_finite_differences_twice(x64, pool):
    x = _normal(3, (1, 5, 5, 2))
    pooled = jax.jit(lambda x: jnp.sin(pool(x, 3, stride=2, padding=1)))
    check_grads(pooled, (x,), order=2, modes=["rev"])


@pytest.mark.slow
def test_local_response_norm_is_the_formula(x64):
    x = np.random.default_rng(0).normal(size=(2, 3, 3, 7))
    want = np.empty_like(x)
    for c in range(7):
        neighbours = x[..., max(0, c - 2) : c + 2]
        want[..., c] = x[..., c] / (1 + 0.001 / 9 * np.sum(neighbours**2, -1) / 4) ** 0.75
    np.testing.assert_allclose(jax.jit(ops.local_response_norm)(x), want, rtol=1e-13)
    normed = jax.jit(functools.partial(ops.local_response_norm, alpha=0.5))
    check_grads(normed, (jnp.asarray(x[:1]),), order=2, modes=["rev"])

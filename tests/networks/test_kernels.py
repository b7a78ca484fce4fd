"""Tests of `ddjax.networks.kernels`: against neural-tangents, a wide finite network, finite differences."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddjax import networks
from ddjax.networks import kernels
from ddjax.networks.kernels import Architecture, avg_pool, conv, dense, flatten, kernel_matrix, relu
from ddjax.types import Network

# conv-relu, conv-relu-pool: the small network of the recorded values that no builder makes.
KIPCONV = Architecture((conv, relu, conv, relu, avg_pool, flatten, dense), "all")

BUILDERS = {
    "fc1": networks.infinite_mlp,
    "fc3": functools.partial(networks.infinite_mlp, depth=3),
    "conv2": functools.partial(networks.infinite_convnet, depth=2, pooling=False),
    "conv3": functools.partial(networks.infinite_convnet, depth=3, pooling=False),
    "convpool2": functools.partial(networks.infinite_convnet, depth=2),
    "convpool3": functools.partial(networks.infinite_convnet, depth=3),
    "myrtle5": networks.myrtle,
}


def matrix(network: Network, x: jax.Array, z: jax.Array | None) -> jax.Array:
    assert network.kernel is not None
    return network.kernel((), x, z)


@pytest.fixture(scope="module")
def values(reference) -> np.lib.npyio.NpzFile:
    return np.load(reference / "ntk_kernels.npz")


def images(values, colours: str) -> tuple[jax.Array, jax.Array]:
    x, z = (jnp.asarray(values[f"{colours}/{name}"], jnp.float64) for name in "xz")
    return x, z


def check(found: jax.Array, expected: np.ndarray, *, which: str, equal: np.ndarray) -> None:
    """To 1e-12; the recorded tangent kernels of equal images are off by up to 3e-8."""
    error = np.abs(np.asarray(found) - expected) / np.abs(expected)
    loose = equal if which == "ntk" else np.zeros_like(equal)
    assert error[~loose].max() < 1e-12
    assert error[loose].max(initial=0) < 1e-7


@pytest.mark.parametrize("colours", ["gray", "rgb"])
@pytest.mark.parametrize(
    "name",
    ["fc1", *(pytest.param(name, marks=pytest.mark.slow) for name in (*list(BUILDERS)[1:], "kipconv1"))],
)
@pytest.mark.usefixtures("x64")
def test_the_recorded_kernels_are_replayed(values, name, colours):
    """z[3] is x[0] and z[2] is -x[1]: angles of 0 and π."""
    x, z = images(values, colours)
    equal = np.zeros((6, 4), bool)
    equal[0, 3] = True
    for which in ("ntk", "nngp"):
        if name == "kipconv1":
            compute = functools.partial(kernel_matrix, KIPCONV, which=which)
        else:
            compute = functools.partial(matrix, BUILDERS[name](x.shape[1:], 10, which=which))
        crossed, own = jax.jit(lambda x, z, compute=compute: (compute(x, z), compute(z, None)))(x, z)
        check(crossed, values[f"{colours}/{name}/{which}_xz"], which=which, equal=equal)
        check(own, values[f"{colours}/{name}/{which}_zz"], which=which, equal=np.eye(4, dtype=bool))


@pytest.mark.parametrize(
    "name", ["fc1", *(pytest.param(name, marks=pytest.mark.slow) for name in ("conv2", "convpool2"))]
)
@pytest.mark.usefixtures("x64")
def test_derivatives_agree_with_finite_differences(name, rng):
    """Of K(x, x) and K(t, x) with one of the t equal to an x, and one its negative."""
    x = jnp.asarray(rng.normal(size=(3, 4, 4, 1)))
    t = jnp.concatenate([x[:1], -x[1:2], jnp.asarray(rng.normal(size=(1, 4, 4, 1)))])
    network = BUILDERS[name]((4, 4, 1), 2)
    weights = jnp.asarray(rng.normal(size=(2, 3, 3)))
    # Away from the kink of θ, which x moving off its equal or its negative in t would cross.
    weights = weights.at[1, 0, 0].set(0).at[1, 1, 1].set(0)

    @jax.jit
    def value(x: jax.Array) -> jax.Array:
        return jnp.sum(weights[0] * matrix(network, x, None)) + jnp.sum(weights[1] * matrix(network, t, x))

    direction = jnp.asarray(rng.normal(size=x.shape))
    slope = jnp.sum(jax.jit(jax.grad(value))(x) * direction)
    numeric = (value(x + 1e-5 * direction) - value(x - 1e-5 * direction)) / 2e-5
    np.testing.assert_allclose(slope, numeric, rtol=1e-7)


@pytest.mark.parametrize(
    "name",
    ["fc3", *(pytest.param(name, marks=pytest.mark.slow) for name in ("conv2", "convpool2", "myrtle5"))],
)
def test_gradients_are_finite_where_images_are_equal_black_or_each_other_s_negative(name):
    x = jnp.stack([jnp.zeros((4, 4, 1)), jnp.ones((4, 4, 1)), jnp.ones((4, 4, 1)), -jnp.ones((4, 4, 1))])
    network = BUILDERS[name]((4, 4, 1), 2, b_std=0.0)
    grad = jax.jit(jax.grad(lambda x: matrix(network, x, None).sum() + matrix(network, x[::-1], x).sum()))(x)
    assert np.isfinite(grad).all()


def test_angles_in_single_precision_are_those_in_double():
    angle = np.concatenate([np.linspace(0, np.pi, 10_001), [1e-6, 1e-3, np.pi - 1e-3]])
    root, q = (3 * part(angle).clip(low).astype(np.float32) for part, low in ((np.sin, 0), (np.cos, -1)))
    wanted = np.arctan2(root.astype(np.float64), q.astype(np.float64))

    def found(root, q):
        return jax.jvp(kernels._angle, (root, q), (jnp.ones_like(root), jnp.ones_like(q)))

    got, moved = jax.jit(found)(root, q)
    # The library's own arctan2 is off by 2.4e-7 there, a unit in the last place of π.
    np.testing.assert_allclose(got, wanted, atol=4e-7, rtol=4e-7)
    np.testing.assert_allclose(moved, (np.cos(wanted) - np.sin(wanted)) / 3, atol=4e-7)


@pytest.mark.usefixtures("x64")
def test_a_kernel_and_its_gradient_in_single_precision_are_those_in_double(rng):
    x, z = rng.normal(size=(6, 8, 8, 1)), rng.normal(size=(5, 8, 8, 1))
    net = networks.infinite_mlp((8, 8, 1), 10, depth=2)

    def results(dtype):
        def loss(z):
            found = matrix(net, jnp.asarray(x, dtype), z)
            return jnp.sum(jnp.sin(found)), found

        return jax.grad(loss, has_aux=True)(jnp.asarray(z, dtype))

    for single, double in zip(results(jnp.float32), results(jnp.float64), strict=True):
        assert single.dtype == jnp.float32
        np.testing.assert_allclose(single, double, atol=5e-6)


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [2, 7])
@pytest.mark.usefixtures("x64")
def test_chunks_change_nothing(chunk, rng):
    x, z = (jnp.asarray(rng.normal(size=(n, 4, 4, 1))) for n in (3, 5))
    whole, parts = (
        networks.infinite_convnet((4, 4, 1), 2, depth=1, chunk=one, rows_chunk=rows)
        for one, rows in ((None, None), (chunk, 2))
    )

    def value(x: jax.Array, others: jax.Array | None, network: Network) -> jax.Array:
        return jnp.sum(jnp.sin(matrix(network, x, others)))

    computed = jax.jit(jax.value_and_grad(value), static_argnums=2)
    for others in (z, None):
        results = [computed(x, others, network) for network in (whole, parts)]
        for ours, theirs in zip(*map(jax.tree.leaves, results), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_blocks_are_chosen_where_all_pairs_of_positions_count(monkeypatch, rng):
    """Whatever the bound, the matrix is the same; at the smallest, a pair of images at a time."""
    x, z = (jnp.asarray(rng.normal(size=(n, 4, 4, 1))) for n in (3, 5))
    network = networks.infinite_convnet((4, 4, 1), 2, depth=1)

    def both() -> list[jax.Array]:
        return [jax.jit(lambda x, others=others: matrix(network, x, others))(x) for others in (z, None)]

    wanted = both()
    for bound in (1, 4 * 8 * 4**4):
        monkeypatch.setattr(kernels, "BLOCK_BYTES", bound)
        for found, whole in zip(both(), wanted, strict=True):
            np.testing.assert_allclose(found, whole, rtol=1e-12)


@pytest.mark.slow
def test_chunks_bound_the_memory():
    x = jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.float32)
    z = jax.ShapeDtypeStruct((64, 8, 8, 1), jnp.float32)

    def needed(chunk: int | None) -> int:
        network = networks.infinite_convnet((8, 8, 1), 2, depth=1, chunk=chunk)
        grad = jax.grad(lambda x, z: matrix(network, x, z).sum())
        analysis = jax.jit(grad).lower(x, z).compile().memory_analysis()
        assert analysis is not None
        return analysis.temp_size_in_bytes

    assert needed(4) < needed(None) / 4


@pytest.mark.slow
def test_a_wide_finite_network_has_this_kernel(rng):
    """The mean product of a finite network's outputs over its weights is the NNGP kernel."""
    x = jnp.asarray(rng.normal(size=(3, 6)), jnp.float32)
    width, draws = 512, 400

    def outputs(key: jax.Array) -> jax.Array:
        keys = jax.random.split(key, 4)
        hidden = x @ jax.random.normal(keys[0], (6, width)) * jnp.sqrt(2 / 6)
        hidden = jax.nn.relu(hidden + 0.1 * jax.random.normal(keys[1], (1, width)))
        last = hidden @ jax.random.normal(keys[2], (width, 64)) * jnp.sqrt(2 / width)
        return last + 0.1 * jax.random.normal(keys[3], (1, 64))

    @jax.jit
    def mean(key: jax.Array) -> jax.Array:
        found = jax.lax.map(outputs, jax.random.split(key, draws))
        return jnp.einsum("dak,dbk->ab", found, found) / (draws * 64)

    expected = matrix(networks.infinite_mlp((6,), 2, which="nngp"), x, None)
    np.testing.assert_allclose(mean(jax.random.key(0)), expected, rtol=0.05, atol=0.03)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: networks.infinite_mlp((4, 4, 1), 2, depth=0), "depth: expected a whole number >= 1"),
        (
            lambda: networks.infinite_mlp((4, 4, 1), 2, which="tangent"),  # pyright: ignore[reportArgumentType] (a wrong value is the test)
            "which: expected one of nngp, ntk",
        ),
        (lambda: networks.infinite_convnet((4, 4, 1), 2, depth=3), "shorter side of the images: .* >= 8"),
        (lambda: networks.myrtle((8, 8, 1), 2, depth=6), "depth: expected one of 5, 7, 10; got 6"),
        (lambda: networks.myrtle((2, 8, 1), 2), "shorter side of the images"),
        (lambda: kernels.kernel_matrix(KIPCONV, jnp.ones((3, 4, 4, 1)), chunk=0), "chunk: expected"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()

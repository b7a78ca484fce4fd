"""A mean over chunks is the mean over all: value, what comes with it, and the gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from ddjax.chunks import mean_over_chunks
from ddjax.types import Batch

pytestmark = pytest.mark.slow


def _loss(params, batch):
    outputs = jnp.tanh(batch.inputs @ params["w"]) @ params["v"]
    return jnp.mean((outputs - batch.labels) ** 2), {"largest": jnp.mean(jnp.abs(outputs))}


@pytest.fixture
def problem(x64):
    normal = np.random.default_rng(0).normal
    params = {"w": jnp.asarray(normal(size=(5, 4))), "v": jnp.asarray(normal(size=4))}
    return params, Batch(jnp.asarray(normal(size=(23, 5))), jnp.asarray(normal(size=23)))


@pytest.mark.parametrize("size", [1, 6, 22, 23, 100])
def test_value_aux_and_gradient_are_those_of_the_whole_batch(problem, size):
    params, batch = problem
    want, got = (
        jax.jit(jax.value_and_grad(loss, has_aux=True))(params, batch)
        for loss in (_loss, mean_over_chunks(_loss, size=size))
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14), got, want)
    value = mean_over_chunks(_loss, size=size)(params, batch)[0]
    np.testing.assert_allclose(value, want[0][0], rtol=1e-12)


def test_the_gradient_itself_can_be_differentiated(problem):
    params, batch = problem
    chunked = mean_over_chunks(_loss, size=6)

    def norm_of_gradient(params):
        grads = jax.grad(lambda params: chunked(params, batch)[0])(params)
        return sum(jnp.vdot(leaf, leaf) for leaf in jax.tree.leaves(grads))

    check_grads(jax.jit(norm_of_gradient), (params,), order=1, modes=["rev"])


def test_several_weights_can_be_vmapped(problem):
    params, batch = problem
    many = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), params)
    want, got = (
        jax.jit(jax.vmap(jax.grad(loss, has_aux=True), (0, None)))(many, batch)
        for loss in (_loss, mean_over_chunks(_loss, size=6))
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14), got, want)

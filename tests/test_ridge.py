"""Tests of `ddjax.ridge`: against scikit-learn, and the recorded values of kernel inducing points."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.kernel_ridge import KernelRidge

from ddjax import networks, ridge


@pytest.mark.usefixtures("x64")
def test_it_is_scikit_learn_s_kernel_ridge(rng):
    features, labels, new = rng.normal(size=(6, 9)), rng.normal(size=(6, 3)), rng.normal(size=(4, 9))
    gram = features @ features.T
    weights = ridge.solve(jnp.asarray(gram), jnp.asarray(labels), penalty=0.1)
    found = ridge.predict(jnp.asarray(new @ features.T), weights)
    theirs = KernelRidge(alpha=0.1 * np.trace(gram) / 6, kernel="precomputed").fit(gram, labels)
    np.testing.assert_allclose(found, theirs.predict(new @ features.T), rtol=1e-12)


@pytest.mark.parametrize("which", ["ntk", "nngp"])
@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.usefixtures("x64")
@pytest.mark.slow
def test_the_recorded_loss_gradients_and_labels_are_replayed(reference, depth, which):
    values = np.load(reference / "kip_fc.npz")
    x, y, real, targets = (
        jnp.asarray(values[name], jnp.float64) for name in ("x_support", "y_support", "x_target", "y_target")
    )
    kernel = networks.infinite_mlp(x.shape[1:], 10, depth=depth, which=which).kernel
    assert kernel is not None

    def loss(x: jax.Array, y: jax.Array, penalty: float) -> tuple[jax.Array, jax.Array]:
        weights = ridge.solve(kernel((), x, None), y, penalty=penalty)
        found = ridge.predict(kernel((), real, x), weights)
        return 0.5 * jnp.mean(jnp.square(found - targets)), found

    at = f"fc{depth}/{which}"
    gram, cross = kernel((), x, None), kernel((), real, x)
    np.testing.assert_allclose(gram, values[f"{at}/k_ss"], rtol=1e-12)
    np.testing.assert_allclose(cross, values[f"{at}/k_ts"], rtol=1e-12)
    value_and_grad = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    for name, penalty in (("reg1e-6", 1e-6), ("reg5e-3", 5e-3)):
        (value, found), grads = value_and_grad(x, y, penalty)
        pairs = {
            "loss": value,
            "pred": found,
            "grad_images": grads[0],
            "grad_labels": grads[1],
            "label_solve": ridge.label_solve(gram, cross, targets, penalty=penalty),
        }
        for key, ours in pairs.items():
            theirs = values[f"{at}/{name}/{key}"]
            assert np.linalg.norm(ours - theirs) < 1e-12 * np.linalg.norm(theirs), (name, key)


def test_refinement_takes_digits_back_that_float32_loses(rng):
    """A condition number of 1e6: the residual of the refined solution is smaller than that of one solve."""
    features = rng.normal(size=(20, 20)) * np.logspace(0, -3, 20)
    gram = jnp.asarray(features @ features.T, jnp.float32)
    labels = jnp.asarray(rng.normal(size=(20, 3)), jnp.float32)

    def residual(weights: jax.Array) -> float:
        matrix = np.asarray(gram, np.float64) + 1e-6 * float(jnp.trace(gram)) / 20 * np.eye(20)
        return float(np.linalg.norm(matrix @ np.asarray(weights, np.float64) - np.asarray(labels)))

    shift = 1e-6 * jnp.trace(gram) / 20 * jnp.eye(20, dtype=jnp.float32)
    once = jax.scipy.linalg.solve(gram + shift, labels, assume_a="pos")
    assert residual(ridge.solve(gram, labels, penalty=1e-6)) < residual(once)


def test_a_matrix_that_is_not_positive_definite_gives_nan_and_no_numbers():
    gram = jnp.asarray([[1.0, 2.0], [2.0, 1.0]])
    assert np.isnan(ridge.solve(gram, jnp.eye(2), penalty=1e-6)).all()

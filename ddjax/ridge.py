"""Kernel ridge regression: the solve that kernel methods, their recipes and label distillation share.

    α = (K_ss + λ s I)⁻¹ Y,   predictions = K_ts α,   s = tr(K_ss) / n

The labels Y are any real numbers; one-hot rows minus 1/K, centred, are usual.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def products(features: jax.Array, others: jax.Array) -> jax.Array:
    """The kernel matrix of features, in float32 products on every device.

    On GPUs the default products, of ten bits of mantissa, are no longer those of any features: a matrix of
    them, whose smallest eigenvalues the solution depends on, need not be positive.

    Args:
        features: the features of the rows, `[n, F]`.
        others: the features of the columns, `[m, F]`.

    Returns:
        `[n, m]`.
    """
    return jnp.matmul(features, others.T, precision=jax.lax.Precision.HIGHEST)


def solve(gram: jax.Array, labels: jax.Array, *, penalty: float | jax.Array) -> jax.Array:
    """The weights α of the examples, by a Cholesky factor and one step of iterative refinement.

    Differentiable in the matrix and in the labels. Where the penalised matrix is not positive definite in
    this precision, all weights are NaN, as the factor is: a run stops or goes back there, and a score counts
    the network as diverged.

    Args:
        gram: the kernel matrix of the examples, K_ss, `[n, n]`; symmetric.
        labels: the labels of the examples, Y, `[n, K]`.
        penalty: the weight λ of the penalty, relative to the mean of the diagonal.

    Returns:
        The weights, `[n, K]`.
    """
    scale = jnp.trace(gram) / len(gram)
    matrix = gram + penalty * scale * jnp.eye(len(gram), dtype=gram.dtype)
    factor = jax.scipy.linalg.cho_factor(matrix, lower=True)

    def solved(right: jax.Array) -> jax.Array:
        return jax.scipy.linalg.cho_solve(factor, right)

    weights = solved(labels)
    residual = labels - jnp.matmul(matrix, weights, precision=jax.lax.Precision.HIGHEST)
    return weights + solved(residual)


def predict(cross: jax.Array, weights: jax.Array) -> jax.Array:
    """The predictions K_ts α.

    Args:
        cross: the kernel matrix of new inputs with the examples, K_ts, `[m, n]`.
        weights: the weights of the examples, α, `[n, K]`.

    Returns:
        The predictions, `[m, K]`.
    """
    return jnp.matmul(cross, weights, precision=jax.lax.Precision.HIGHEST)


def label_solve(gram: jax.Array, cross: jax.Array, targets: jax.Array, *, penalty: float) -> jax.Array:
    """The labels of fixed examples that predict given targets best, in the sense of least squares.

        argmin_Y ‖K_ts (K_ss + λ s I)⁻¹ Y - Y_t‖²

    Args:
        gram: the kernel matrix of the examples, K_ss, `[n, n]`.
        cross: the kernel matrix of real inputs with the examples, K_ts, `[m, n]`.
        targets: the labels of the real inputs, Y_t, `[m, K]`.
        penalty: the weight λ of the penalty, relative to the mean of the diagonal.

    Returns:
        The labels of the examples, `[n, K]`.

    References:
        Nguyen et al. 2021, arXiv 2011.00050, equation 7 (label solve).
    """
    hat = solve(gram, cross.T, penalty=penalty).T
    found, *_ = jnp.linalg.lstsq(hat, targets)
    return found

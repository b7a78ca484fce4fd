"""Weighted images as a schedule that networks can be trained on."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from ddjax import checks
from ddjax.types import Schedule


def weighted_schedule(images: np.ndarray, weights: np.ndarray | None = None) -> Schedule:
    """A schedule of one step with all images, for a recipe of kind `train`.

    Cross-entropy is linear in the labels. So an image whose row of labels sums to w, instead of one, has a
    loss and a gradient w times as large:

        Σ_k (w y_k) log p_k = w Σ_k y_k log p_k

    Args:
        images: the encoded images, `[K, m, *input_shape]` float, m of each class.
        weights: the weight of each image's loss, `[K, m]`, not negative and not all zero. The weights are
            scaled to a mean of one, so that a learning rate keeps its meaning. All one by default.

    Returns:
        The schedule: `inputs [1, K * m, *input_shape]`, `labels [1, K * m, K]` whose rows sum to the scaled
        weights, and no learning rates.

    Raises:
        ValueError: images or weights of other shapes, or weights that are negative or all zero.
    """
    images = np.asarray(images)
    if images.ndim < 3:
        raise ValueError(
            f"images: expected [K, m, H, W, C]; got shape {list(images.shape)}. Give m images of each class."
        )
    num_classes, count = images.shape[:2]
    weights = np.ones((num_classes, count)) if weights is None else np.asarray(weights, np.float64)
    checks.equal("weights.shape", weights.shape, (num_classes, count), remedy="Give one for each image.")
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
        raise ValueError(
            "weights: expected finite numbers, none negative and one positive at least; got others. Give "
            "what cluster_sizes returned."
        )
    rows = np.repeat(np.eye(num_classes), count, axis=0) * (weights / weights.mean()).reshape(-1, 1)
    inputs = images.reshape(1, -1, *images.shape[2:])
    return Schedule(jnp.asarray(inputs, jnp.float32), jnp.asarray(rows[None], jnp.float32), None)

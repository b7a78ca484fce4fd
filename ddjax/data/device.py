"""Real data on the device: a split becomes `RealData`, and minibatches are drawn from it inside jit.

Images stay bytes on the device; only what is drawn is normalised, in the dtype of `data.mean` (float32 as
`to_device` makes it; float64 after `data._replace(mean=..., std=...)` under x64).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from ddjax import checks
from ddjax.data.dataset import Split
from ddjax.types import Batch, RealData


def to_device(split: Split) -> RealData:
    """Copy a split to JAX's default device, with an index of its classes.

    Args:
        split: n images of K classes.

    Returns:
        `images [n, H, W, C]` uint8, `labels [n]`, `mean [C]`, `std [C]`, `class_order [n]` and
        `class_start [K + 1]`.

    Raises:
        ValueError: it is no split.
    """
    checks.kind("split", split, Split, remedy="Give the train, validation or test of a data set.")
    counts = np.bincount(split.labels, minlength=split.num_classes)
    return RealData(
        images=jnp.asarray(split.images),
        labels=jnp.asarray(split.labels),
        mean=jnp.asarray(split.mean),
        std=jnp.asarray(split.std),
        class_order=jnp.asarray(np.argsort(split.labels, kind="stable").astype(np.int32)),
        class_start=jnp.asarray(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)),
    )


def normalise(images: jax.Array, mean: jax.Array, std: jax.Array) -> jax.Array:
    """What networks see, x = (pixel / 255 - mean) / std, in the dtype of `mean`.

    Args:
        images: `[..., C]` uint8.
        mean: `[C]` float.
        std: `[C]` float.

    Returns:
        `[..., C]` float.
    """
    leading = range(images.ndim - 1)
    scaled = images.astype(mean.dtype) / 255
    return (scaled - jnp.expand_dims(mean, leading)) / jnp.expand_dims(std, leading)


def minibatch(data: RealData, key: jax.Array, *, size: int) -> Batch:
    """N examples, uniform over the split, with replacement.

    Args:
        data: a split on the device.
        key: consumed.
        size: N.

    Returns:
        `inputs [N, H, W, C]`, normalised, and `labels [N]`.

    Raises:
        ValueError: `size` below 1, or data that are not on the device.
    """
    checks.kind("data", data, RealData, remedy="Give ddjax.data.to_device(split).")
    checks.at_least("minibatch size", size, 1)
    chosen = jax.random.randint(key, (size,), 0, data.labels.shape[0])
    return Batch(normalise(data.images[chosen], data.mean, data.std), data.labels[chosen])


def class_minibatch(data: RealData, key: jax.Array, *, size: int) -> jax.Array:
    """N examples of every class, uniform over the class, with replacement.

    Args:
        data: a split on the device. A training split has an image of every class; a class without one
            gives NaN, never images of another class.
        key: consumed.
        size: N.

    Returns:
        `[K, N, H, W, C]`, normalised; entry k holds images of class k.

    Raises:
        ValueError: `size` below 1, or data that are not on the device.
    """
    checks.kind("data", data, RealData, remedy="Give ddjax.data.to_device(split).")
    checks.at_least("class minibatch size", size, 1)
    start = data.class_start[:-1, None]
    count = data.class_start[1:, None] - start
    chosen = start + jax.random.randint(key, (start.shape[0], size), 0, jnp.maximum(count, 1))
    inputs = normalise(data.images[data.class_order[chosen]], data.mean, data.std)
    return jnp.where((count > 0)[..., None, None, None], inputs, jnp.nan)

"""Real data on the device: a split becomes `RealData`, and minibatches are drawn from it inside jit.

Images stay bytes on the device; only the drawn examples are encoded, in the dtype of the encoding's arrays.
Whitened images alone are encoded ahead, for to whiten an image of CIFAR-10 costs as much as a small network.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from ddjax import checks
from ddjax.data.dataset import Split
from ddjax.encodings import Encoded, Whitened
from ddjax.types import Batch, Encoding, RealData

_CHUNK = 4096  # images encoded at a time: bounds the memory of their float copies


def ahead(split: Split) -> tuple[np.ndarray, Encoding]:
    """The examples of a split as they are kept on the device, and the encoding that is left to do there.

    Args:
        split: the split, n examples.

    Returns:
        Whitened images `[n, H, W, C]` float32, with the encoding `Encoded`; or the raw examples with the
        split's own encoding, where that one is cheap.
    """
    if not isinstance(split.encoding, Whitened):
        return split.raw, split.encoding
    whitening = jax.tree.map(np.asarray, split.encoding)
    parts = [
        whitening.encode(split.raw[start : start + _CHUNK]) for start in range(0, len(split.raw), _CHUNK)
    ]
    return np.concatenate(parts), Encoded()


def to_device(split: Split) -> RealData:
    """Copy a split to JAX's default device, with an index of its classes.

    Args:
        split: the split to copy, n examples of K classes.

    Returns:
        The split's arrays and encoding, see `ahead`, and the index of its classes.

    Raises:
        ValueError: `split` is no `Split`.
    """
    checks.kind("split", split, Split, remedy="Give the train, validation or test of a data set.")
    counts = np.bincount(split.labels, minlength=split.num_classes)
    raw, encoding = ahead(split)
    return RealData(
        raw=jnp.asarray(raw),
        labels=jnp.asarray(split.labels),
        encoding=jax.tree.map(jnp.asarray, encoding),
        class_order=jnp.asarray(np.argsort(split.labels, kind="stable").astype(np.int32)),
        class_start=jnp.asarray(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)),
    )


def minibatch(data: RealData, key: jax.Array, *, size: int) -> Batch:
    """Draw N examples uniformly from a split, with replacement.

    Args:
        data: a split on the device.
        key: the source of the random draw. Consumed.
        size: the number of examples, N.

    Returns:
        The encoded `inputs [N, *input_shape]` and the `labels [N]`.

    Raises:
        ValueError: `size` below 1, or data that are not on the device.
    """
    checks.kind("data", data, RealData, remedy="Give ddjax.data.to_device(split).")
    checks.at_least("minibatch size", size, 1)
    chosen = jax.random.randint(key, (size,), 0, data.labels.shape[0])
    return Batch(data.inputs_at(chosen), data.labels[chosen])


def class_rows(data: RealData, key: jax.Array, *, size: int) -> jax.Array:
    """Draw the positions of N examples of every class, uniformly from the class, with replacement.

    Args:
        data: a split on the device.
        key: the source of the random draws. Consumed.
        size: the number of examples of each class, N.

    Returns:
        `[K, N]` int32, positions in `data.raw`; -1 for a class without examples.

    Raises:
        ValueError: `size` below 1, or data that are not on the device.
    """
    checks.kind("data", data, RealData, remedy="Give ddjax.data.to_device(split).")
    checks.at_least("class minibatch size", size, 1)
    start = data.class_start[:-1, None]
    count = data.class_start[1:, None] - start
    chosen = start + jax.random.randint(key, (start.shape[0], size), 0, jnp.maximum(count, 1))
    return jnp.where(count > 0, data.class_order[chosen], -1)


def examples_at(data: RealData, rows: jax.Array) -> jax.Array:
    """The examples at drawn positions.

    Args:
        data: a split on the device.
        rows: `[...]` int32, positions as `class_rows` draws them.

    Returns:
        The encoded examples, `[..., *input_shape]`; NaN where there is none.
    """
    inputs = data.inputs_at(rows)
    is_there = (rows >= 0).reshape(*rows.shape, *(1,) * (inputs.ndim - rows.ndim))
    return jnp.where(is_there, inputs, jnp.nan)


def class_minibatch(data: RealData, key: jax.Array, *, size: int) -> jax.Array:
    """Draw N examples of every class uniformly from the class, with replacement.

    Args:
        data: a split on the device. A training split has an example of every class; a class without examples
            yields NaN, never examples of another class.
        key: the source of the random draws. Consumed.
        size: the number of examples of each class, N.

    Returns:
        The encoded examples, `[K, N, *input_shape]`; entry k contains examples of class k.

    Raises:
        ValueError: `size` below 1, or data that are not on the device.
    """
    return examples_at(data, class_rows(data, key, size=size))

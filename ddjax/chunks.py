"""A function of many examples, applied to a few at a time, to bound memory and fit the cache."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ddjax.types import Params, PyTree

MeanLoss = Callable[[Params, Any], tuple[jax.Array, PyTree]]
"""`(params, batch) -> (loss [], aux)`, each leaf of both a mean over the batch's leading axis."""


def mean_over_chunks(loss: MeanLoss, *, size: int) -> MeanLoss:
    """A loss of the same value and gradient in `params` that takes at most `size` examples at once.

        L(θ, batch) = Σ_c (n_c / N) ℓ(θ, chunk c),    ∇L is summed in the same pass

    The gradient is computed together with the value, one chunk after the other. Only a chunk's share of both
    is kept, and nothing is computed twice.

    Args:
        loss: the loss, a mean over the examples of a batch whose leaves are all `[n, ...]`.
        size: the most examples in a chunk.

    Returns:
        The loss in chunks. The derivative in the batch is taken as zero, and only reverse mode works. A batch
        of at most `size` examples goes to `loss` itself.
    """

    def whole(params: Params, batch: Any) -> tuple[jax.Array, PyTree]:
        return mean_of_chunks(lambda chunk: loss(params, chunk), batch, size)

    chunked = jax.custom_vjp(whole)

    def forward(params: Params, batch: Any) -> tuple[tuple[jax.Array, PyTree], PyTree]:
        return mean_of_chunks(
            lambda chunk: jax.value_and_grad(loss, has_aux=True)(params, chunk), batch, size
        )

    def backward(grads: PyTree, cotangents: tuple[jax.Array, PyTree]) -> tuple[PyTree, None]:
        of_value, _ = cotangents
        return jax.tree.map(lambda grad: of_value * grad, grads), None

    chunked.defvjp(forward, backward)

    def choose(params: Params, batch: Any) -> tuple[jax.Array, PyTree]:
        return (chunked if _num_examples(batch) > size else loss)(params, batch)

    return choose


def _num_examples(batch: Any) -> int:
    return len(jax.tree.leaves(batch)[0])


def mean_of_chunks(f: Callable[[Any], PyTree], batch: Any, size: int) -> PyTree:
    """A mean over examples, of which at most `size` are computed at once.

        f(batch) = Σ_c (n_c / N) f(chunk c)

    The full chunks go through a scan, and the remaining examples follow.

    Args:
        f: `batch -> means`, each leaf a mean over the batch's leading axis.
        batch: the examples, each leaf `[n, ...]`.
        size: the most examples in a chunk; a batch of at most `size` examples goes to `f` itself.

    Returns:
        The means over the whole batch, a tree like that of `f`.
    """
    means, _ = mean_and_rest(lambda some: (f(some), ()), batch, size)
    return means


def mean_and_rest(f: Callable[[Any], tuple[PyTree, PyTree]], batch: Any, size: int) -> tuple[PyTree, PyTree]:
    """A mean over examples as by `mean_of_chunks`, together with results of each example.

    Args:
        f: `batch -> (means, rest)`, each leaf of `means` a mean over the batch's leading axis, each leaf of
            `rest` `[n, ...]`.
        batch: the examples, each leaf `[n, ...]`.
        size: the most examples in a chunk; a batch of at most `size` examples goes to `f` itself.

    Returns:
        The means over the whole batch, and the results of all examples in their order.
    """
    total = _num_examples(batch)
    if total <= size:
        return f(batch)
    count, rest = divmod(total, size)
    full = jax.tree.map(lambda leaf: leaf[: count * size].reshape(count, size, *leaf.shape[1:]), batch)

    # Traced once, for the shapes and for the scan, into which its operations go as they are.
    @functools.partial(jax.jit, inline=True)
    def of_chunk(chunk: Any) -> tuple[PyTree, PyTree]:
        return f(chunk)

    def add(total: PyTree, chunk: Any) -> tuple[PyTree, PyTree]:
        means, kept = of_chunk(chunk)
        return jax.tree.map(jnp.add, total, means), kept

    shapes, _ = jax.eval_shape(of_chunk, jax.tree.map(lambda leaf: leaf[0], full))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    summed, kept = jax.lax.scan(add, zeros, full)
    kept = jax.tree.map(lambda leaf: leaf.reshape(count * size, *leaf.shape[2:]), kept)
    result = jax.tree.map(lambda leaf: leaf * (size / total), summed)
    if not rest:
        return result, kept
    left, left_kept = f(jax.tree.map(lambda leaf: leaf[count * size :], batch))
    mean = jax.tree.map(lambda a, b: a + b * (rest / total), result, left)
    return mean, jax.tree.map(lambda a, b: jnp.concatenate([a, b]), kept, left_kept)


def map_in_chunks(f: Callable[[Any], PyTree], items: Any, size: int) -> PyTree:
    """A function of each item; the items of a chunk are vmapped, and the chunks follow each other.

    Args:
        f: the function of one item, whose leaves are `[...]`.
        items: the items, each leaf `[n, ...]`.
        size: the number of items in a chunk. With 1 nothing is vmapped, because an axis of length one would
            still turn every product into a batched one.

    Returns:
        The results of `f`, each leaf `[n, ...]`.
    """
    return jax.lax.map(f, items, batch_size=size if size > 1 else None)

"""A function of many things, applied to a few at a time, so that memory and cache hold what it needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ddjax.types import Params, PyTree

MeanLoss = Callable[[Params, Any], tuple[jax.Array, PyTree]]
"""`(params, batch) -> (loss [], aux)`, each leaf of both a mean over the batch's leading axis."""


def mean_over_chunks(loss: MeanLoss, *, size: int) -> MeanLoss:
    """A loss of the same value and gradient in `params` that sees no more than `size` examples at once.

        L(θ, batch) = Σ_c (n_c / N) ℓ(θ, chunk c),    ∇L is summed in the same pass

    The gradient is taken together with the value, one chunk after the other, so that nothing is kept of a
    chunk but its share of both, and nothing is computed twice.

    Args:
        loss: a mean over the examples of a batch, whose leaves are all `[n, ...]`.
        size: most examples in a chunk.

    Returns:
        The loss in chunks. It is constant in the batch, and reverse mode only; a batch of at most `size`
        examples goes to `loss` itself.
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
    """A mean over examples, of which no more than `size` are there at once.

        f(batch) = Σ_c (n_c / N) f(chunk c)

    Over full chunks in a scan, then what is left over.

    Args:
        f: `batch -> means`, each leaf a mean over the batch's leading axis.
        batch: the examples, each leaf `[n, ...]`.
        size: most examples in a chunk; of at most so many `f` itself is taken.

    Returns:
        As `f`.
    """
    means, _ = mean_and_rest(lambda some: (f(some), ()), batch, size)
    return means


def mean_and_rest(f: Callable[[Any], tuple[PyTree, PyTree]], batch: Any, size: int) -> tuple[PyTree, PyTree]:
    """`mean_of_chunks`, beside something that is kept of each example.

    Args:
        f: `batch -> (means, rest)`, each leaf of `means` a mean over the batch's leading axis, each leaf of
            `rest` `[n, ...]`.
        batch: the examples, each leaf `[n, ...]`.
        size: most examples in a chunk; of at most so many `f` itself is taken.

    Returns:
        As `f` of the whole batch.
    """
    total = _num_examples(batch)
    if total <= size:
        return f(batch)
    count, rest = divmod(total, size)
    full = jax.tree.map(lambda leaf: leaf[: count * size].reshape(count, size, *leaf.shape[1:]), batch)

    def add(total: PyTree, chunk: Any) -> tuple[PyTree, PyTree]:
        means, kept = f(chunk)
        return jax.tree.map(jnp.add, total, means), kept

    shapes, _ = jax.eval_shape(f, jax.tree.map(lambda leaf: leaf[0], full))
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
    """`f` of each item: `size` of them are vmapped, and such chunks follow each other.

    Args:
        f: of one item, each leaf `[...]`.
        items: each leaf `[n, ...]`.
        size: items in a chunk; of one nothing is vmapped, for an axis of one would still turn every product
            into a batched one.

    Returns:
        What `f` gives, each leaf `[n, ...]`.
    """
    return jax.lax.map(f, items, batch_size=size if size > 1 else None)

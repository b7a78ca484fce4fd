"""The start of an outer step: real examples, and initial weights θ0 from p(θ0) with its pool, if any.

A pool of pretrained networks, as a constant, would be written out in every program. So a method with a finite
p(θ0) has the pool as assets, and passes the pool on with the real examples of a step.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from ddjax.augment import Augmentation
from ddjax.data import minibatch
from ddjax.inits import draw
from ddjax.types import Batch, InitDistribution, Params, PyTree, RealData


class WithPool(NamedTuple):
    """The real examples of a step, and the weights that every slot draws its θ0 from.

    Attributes:
        real: the examples.
        pool: the n weights, each leaf `[n, ...]`.
    """

    real: Any
    pool: Params


def assets_of(inits: InitDistribution) -> PyTree:
    """The arrays that are passed to programs with the data, for `ddjax.types.Method.assets`.

    Args:
        inits: the distribution p(θ0) of initial weights.

    Returns:
        The pool; nothing where p(θ0) has none.
    """
    return () if inits.pool is None else inits.pool


def real_minibatch(data: RealData, key: jax.Array, *, size: int, augmentation: Augmentation | None) -> Batch:
    """N real examples, each with an augmentation of its own.

    Args:
        data: the real data.
        key: the source of the random draws. Consumed.
        size: N, the number of examples.
        augmentation: the augmentation; None for none.

    Returns:
        The examples.
    """
    if augmentation is None:
        return minibatch(data, key, size=size)
    key, draw_key = jax.random.split(key)
    batch = minibatch(data, key, size=size)
    return batch._replace(inputs=augmentation.apply(augmentation.sample(draw_key, size), batch.inputs))


def with_pool(inits: InitDistribution, data: RealData, real: Any) -> Any:
    """The batch of a step.

    Args:
        inits: the distribution p(θ0) of initial weights.
        data: the real data; where they do not have the pool as assets, the pool is a constant of the program.
        real: the real examples of the step.

    Returns:
        The examples, with the pool where p(θ0) has one.
    """
    return real if inits.pool is None else WithPool(real, data.assets or inits.pool)


def parted(batch: Any) -> tuple[Any, Params | None]:
    """The two parts of a batch.

    Args:
        batch: the batch, as `with_pool` gives it.

    Returns:
        The real examples, and the pool; None in place of a pool where the batch has none.
    """
    return batch if isinstance(batch, WithPool) else (batch, None)


def theta(inits: InitDistribution, pool: Params | None, key: jax.Array) -> Params:
    """The initial weights θ0 of a slot.

    Args:
        inits: the distribution p(θ0) of initial weights.
        pool: the pool of the batch; None for a p(θ0) without one.
        key: the source of the draw. Consumed.

    Returns:
        The weights.
    """
    return inits.sample(key) if pool is None else draw(pool, key)

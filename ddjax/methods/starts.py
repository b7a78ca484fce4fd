"""The initial weights θ0 of a method: drawn from p(θ0), whose pool, if any, is passed with the real data.

A pool of pretrained networks, as a constant, would be written out in every program. So a method with a finite
p(θ0) has the pool as assets, and passes the pool on with the real examples of a step.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from ddjax.inits import draw
from ddjax.types import InitDistribution, Params, PyTree, RealData


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

"""Where a method's θ0 come from: drawn from p(θ0), of which a pool travels with the real data.

A pool of pretrained networks, as a constant, would be written out in every program. So a method with a finite
p(θ0) makes the pool its assets, and hands it on with the real examples of a step.
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
    """What travels with the data, for `ddjax.types.Method.assets`.

    Args:
        inits: p(θ0).

    Returns:
        The pool; nothing where p(θ0) has none.
    """
    return () if inits.pool is None else inits.pool


def with_pool(inits: InitDistribution, data: RealData, real: Any) -> Any:
    """The batch of a step.

    Args:
        inits: p(θ0).
        data: the real data; where they do not have the pool as assets, the pool is a constant of the program.
        real: the real examples of the step.

    Returns:
        The examples, with the pool where p(θ0) has one.
    """
    return real if inits.pool is None else WithPool(real, data.assets or inits.pool)


def parted(batch: Any) -> tuple[Any, Params | None]:
    """The real examples of a batch, and the pool; None where there is none."""
    return batch if isinstance(batch, WithPool) else (batch, None)


def theta(inits: InitDistribution, pool: Params | None, key: jax.Array) -> Params:
    """θ0 of a slot.

    Args:
        inits: p(θ0).
        pool: the pool of the batch; None for a p(θ0) without one.
        key: the source of the draw. Consumed.

    Returns:
        The weights.
    """
    return inits.sample(key) if pool is None else draw(pool, key)

"""Any method with a penalty on φ: a further term of the loss, which looks at the schedule alone."""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax

from ddjax import checks
from ddjax.facts import noted
from ddjax.types import Info, Method, PyTree, Schedule


@functools.cache
def _kind(inner: type) -> type:
    """The diagnostics of a penalised method: those of the method, and the penalty."""
    fields = (*getattr(inner, "_fields", ()), "penalty")
    base = collections.namedtuple("PenalisedInfo", fields)
    return type("PenalisedInfo", (base,), {"__slots__": (), "inner": inner})


@noted
def penalised(method: Method, penalty: Callable[[Schedule], jax.Array], *, weight: float) -> Method:
    """A method whose loss has one more term.

        L'(φ) = L(φ) + β p(schedule(φ))

    Args:
        method: the method.
        penalty: p, `schedule -> []`, differentiable, e.g. `functools.partial(subspaces.own_error, own)`.
        weight: β; 0 leaves the method as it is but for its diagnostics.

    Returns:
        The method, with `penalty`, the unweighted p, as the last of its diagnostics.

    Raises:
        ValueError: the weight is no finite number of at least zero.
    """
    checks.at_least("penalised: weight", weight, 0, integer=False)

    def loss(schedule: Schedule, state: PyTree, batch: Any, key: jax.Array) -> tuple[jax.Array, Info]:
        value, info = method.loss(schedule, state, batch, key)
        extra = penalty(schedule)
        kind = _kind(type(info))
        return value + weight * extra, kind(*info, jax.lax.stop_gradient(extra))

    def advance(schedule: Schedule, state: PyTree, batch: Any, info: Any, key: jax.Array) -> PyTree:
        inner = type(info).inner
        return method.advance(schedule, state, batch, inner(*info[:-1]), key)

    return dataclasses.replace(method, loss=loss, advance=advance, name=f"{method.name}, penalised")

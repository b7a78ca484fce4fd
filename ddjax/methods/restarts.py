"""Restarts by the outer error: a network trained beside φ is replaced once it has stopped getting better."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Restarts(NamedTuple):
    """What the rule remembers of one network; g is the length of the window.

    Attributes:
        errors: `[g]` float, the last g errors, in a ring.
        steps: `[]` int32, the number of errors seen since the network was drawn.
        least: `[]` float, the smallest sum of g errors in a row so far.
        patience: `[]` int32, the number of steps since that smallest sum.
    """

    errors: jax.Array
    steps: jax.Array
    least: jax.Array
    patience: jax.Array


def start(window: int) -> Restarts:
    """The memory of a network that was just drawn.

    Args:
        window: g, the number of errors that are summed, and of steps without a smaller sum that are waited.

    Returns:
        The memory before the first error.
    """
    zero = jnp.zeros((), jnp.int32)
    return Restarts(jnp.zeros(window), zero, jnp.zeros(()), zero)


def observe(state: Restarts, error: jax.Array) -> tuple[Restarts, jax.Array]:
    """Take the error of one step into account.

    The sum of the last g errors is compared with the smallest such sum. The first full window sets the
    smallest sum; after g steps without a smaller one, the next step without a smaller one ends the network's
    life.

    Args:
        state: the memory before the step.
        error: `[]`, the error of the network in this step, e.g. in percent of a minibatch.

    Returns:
        The memory after the step, and `[]` bool, whether the network is to be replaced. The number of steps
        up to the smallest sum is `steps - patience - 1` of the memory before the last step plus one.

    References:
        Bohdal, Yang and Hospedales 2020, arXiv 2006.08572, section 3.1, as their code counts the steps.
    """
    window = len(state.errors)
    errors = state.errors.at[state.steps % window].set(error.astype(state.errors.dtype))
    steps = state.steps + 1
    total = errors.sum()
    is_less = (steps == window) | ((steps > window) & (total < state.least))
    is_over = (steps > window) & ~is_less & (state.patience == window)
    waited = jnp.where(steps > window, jnp.minimum(state.patience + 1, window), 0)
    patience = jnp.where(is_less, 0, waited).astype(jnp.int32)
    return Restarts(errors, steps, jnp.where(is_less, total, state.least), patience), is_over

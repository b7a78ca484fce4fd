"""Getting over divergence: good states to go back to, a smaller step, and other random numbers.

A run that rolls back stays a function of its key. Which states are kept depends on the number of outer steps
alone, and what is random afterwards on the number of rollbacks, so that a run that is stopped in between ends
with the same bytes as one that is not.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ddjax.engine import EngineState
from ddjax.types import PyTree

STEPS = 50
"""A state is kept at every multiple of so many outer steps, the two newest of them. A rollback takes the
older: STEPS to 2 * STEPS - 1 steps back, but never beyond the start or the last rollback, because the newer
one may stand before the very step that diverges."""

SHRINK = 0.5
"""What a rollback multiplies the outer updates by, from then on."""

_KEYS = 2**31  # the engine folds outer steps into the key, int32 numbers below this one


class Scaled(NamedTuple):
    """The state of `scalable`.

    Attributes:
        scale: `[]` float32, multiplies every update.
        inner: of the optimiser.
    """

    scale: jax.Array
    inner: optax.OptState


def scalable(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """An optimiser whose updates are multiplied by a number in its state, at first one.

    Args:
        optimizer: any.

    Returns:
        The transformation; its state is a `Scaled`.
    """

    def init(params: PyTree) -> Scaled:
        return Scaled(jnp.ones((), jnp.float32), optimizer.init(params))

    def update(updates: PyTree, state: optax.OptState, params: PyTree | None = None) -> tuple[PyTree, Scaled]:
        assert isinstance(state, Scaled)
        moved, inner = optimizer.update(updates, state.inner, params)
        scaled = jax.tree.map(lambda u: (u * state.scale).astype(u.dtype), moved)
        return scaled, Scaled(state.scale, inner)

    return optax.GradientTransformation(init, update)


def scale_after(rollbacks: int) -> float:
    """What updates are multiplied by after so many rollbacks."""
    return SHRINK**rollbacks


def key_after(key: jax.Array, rollbacks: int) -> jax.Array:
    """The key that outer steps fold theirs from after so many rollbacks: the run's own before the first."""
    return jax.random.fold_in(key, np.uint32(_KEYS + rollbacks)) if rollbacks else key


def shrunk(state: EngineState, rollbacks: int) -> EngineState:
    """A kept state whose optimiser takes the step of so many rollbacks."""
    assert isinstance(state.opt_state, Scaled)
    scale: Any = np.asarray(scale_after(rollbacks), np.float32)
    return state._replace(opt_state=state.opt_state._replace(scale=scale))

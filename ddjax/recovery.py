"""Recovery from divergence: good states to go back to, smaller updates, and other random numbers.

The result of a run that rolls back still depends on the key alone. The states that are kept depend only on
the number of outer steps, and the random numbers afterwards on the number of rollbacks. So a run that is
stopped and continued ends with the same bytes as one that is not stopped.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ddjax.engine import EngineState
from ddjax.types import PyTree
from ddjax.updates import taken

STEPS = 50
"""The number of outer steps between two kept states. The two newest states are kept. A rollback takes the
older, which is STEPS to 2 * STEPS - 1 steps back, but never beyond the start or the last rollback: the newer
state may lie just before the step that diverges."""

SHRINK = 0.5
"""The factor by which a rollback multiplies all later outer updates."""

_KEYS = 2**31  # the engine folds outer steps into the key, which are int32 numbers below this one


class Scaled(NamedTuple):
    """The state of `scalable`.

    Attributes:
        scale: `[]` float32, the factor of every update.
        inner: the state of the optimiser whose updates are scaled.
    """

    scale: jax.Array
    inner: optax.OptState


def scalable(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """An optimiser whose updates are multiplied by a number in its state, which is 1 at first.

    Args:
        optimizer: the optimiser whose updates are multiplied.

    Returns:
        The new optimiser, whose state is a `Scaled`.
    """
    whole = optax.with_extra_args_support(optimizer)

    def init(params: PyTree) -> Scaled:
        return Scaled(jnp.ones((), jnp.float32), optimizer.init(params))

    def update(
        updates: PyTree, state: optax.OptState, params: PyTree | None = None, **extra: Any
    ) -> tuple[PyTree, Scaled]:
        assert isinstance(state, Scaled)
        moved, inner = whole.update(updates, state.inner, params, **taken(whole, extra))
        scaled = jax.tree.map(lambda u: (u * state.scale).astype(u.dtype), moved)
        return scaled, Scaled(state.scale, inner)

    return optax.GradientTransformationExtraArgs(init, update)


def scale_after(rollbacks: int) -> float:
    """The factor of the outer updates after a number of rollbacks, `SHRINK ** rollbacks`.

    Args:
        rollbacks: the number of rollbacks so far.

    Returns:
        The factor; 1 before the first rollback.
    """
    return SHRINK**rollbacks


def key_after(key: jax.Array, rollbacks: int) -> jax.Array:
    """The key that the keys of outer steps are folded from after a number of rollbacks.

    Args:
        key: the key of the run.
        rollbacks: the number of rollbacks so far.

    Returns:
        The key; the key of the run itself before the first rollback.
    """
    return jax.random.fold_in(key, np.uint32(_KEYS + rollbacks)) if rollbacks else key


def shrunk(state: EngineState, rollbacks: int) -> EngineState:
    """A kept state whose updates are scaled as they are after a number of rollbacks.

    Args:
        state: the kept state, whose optimiser is a `scalable` one.
        rollbacks: the number of rollbacks so far.

    Returns:
        The state with the factor `scale_after(rollbacks)`.
    """
    assert isinstance(state.opt_state, Scaled)
    scale: Any = np.asarray(scale_after(rollbacks), np.float32)
    return state._replace(opt_state=state.opt_state._replace(scale=scale))

"""Steps of optax optimisers: any of them, whatever the caller's rules of promotion.

Optax's optimisers differ in what an update asks for. Most take gradients and parameters. Some take the
value of the loss too (`reduce_on_plateau`, `polyak_sgd`, `momo`), or the loss as a function (`lbfgs`, line
searches), and some hold a PRNG key (`add_noise`). `Loss` has what they ask for, and states hold keys
as plain numbers, which checkpoints can keep.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ddjax.types import PyTree


class Loss(NamedTuple):
    """The loss at the present parameters, for optimisers that ask for more than a gradient.

    Attributes:
        value: `[]`, the loss.
        grad: the gradient of the loss, before any clipping.
        value_and_grad: `params -> (loss [], gradient)`, the same loss at other parameters; computed only
            where the optimiser asks for the loss there.
    """

    value: jax.Array
    grad: PyTree
    value_and_grad: Callable[[PyTree], tuple[jax.Array, PyTree]]

    def arguments(self) -> dict[str, Any]:
        """What optax's optimisers call these things.

        Returns:
            The keyword arguments of an update.
        """
        value_and_grad = self.value_and_grad

        # A derivative of its own: the mean over devices is taken of gradients, not through a collective.
        @jax.custom_vjp
        def value_fn(params: PyTree) -> jax.Array:
            return value_and_grad(params)[0]

        value_fn.defvjp(
            value_and_grad,
            lambda grad, bar: (jax.tree.map(lambda leaf: (bar * leaf).astype(leaf.dtype), grad),),
        )
        return {
            "value": self.value,
            "grad": self.grad,
            "value_fn": value_fn,
        }


def init(optimizer: optax.GradientTransformation, params: PyTree) -> optax.OptState:
    """The first state of an optimiser, whose PRNG keys are plain numbers.

    Args:
        optimizer: the optimiser.
        params: the parameters to be moved.

    Returns:
        The state.
    """
    with _promoting():
        return jax.tree.map(_plain, optimizer.init(params))


def update(
    optimizer: optax.GradientTransformation,
    grads: PyTree,
    state: optax.OptState,
    params: PyTree,
    *,
    loss: Loss | None = None,
) -> tuple[PyTree, optax.OptState]:
    """One update of an optimiser.

    Optax itself adds floats to counts of steps, and does so here under JAX's usual rules of promotion,
    whatever rules the caller has chosen.

    Args:
        optimizer: the optimiser.
        grads: the gradient to move by.
        state: the state that `init` or an earlier update returned.
        params: the present parameters.
        loss: what the optimiser may ask for besides; None for optimisers that are known to ask for nothing.

    Returns:
        The updates, to be added to the parameters, and the next state.
    """
    with _promoting():
        whole = jax.tree.map(_keyed, state, _kinds(optimizer, params))
        extra = {} if loss is None else taken(optimizer, loss.arguments())
        moves, after = optax.with_extra_args_support(optimizer).update(grads, whole, params, **extra)
        return moves, jax.tree.map(_plain, after)


def taken(optimizer: optax.GradientTransformation, extra: Mapping[str, Any]) -> dict[str, Any]:
    """Those keyword arguments of an update that an optimiser takes.

    Args:
        optimizer: the optimiser.
        extra: the keyword arguments, by name.

    Returns:
        The arguments that the signature of the update names, or all where it takes any.
    """
    if not isinstance(optimizer, optax.GradientTransformationExtraArgs):
        return {}
    parameters = inspect.signature(optimizer.update).parameters.values()
    if any(one.kind is one.VAR_KEYWORD for one in parameters):
        return dict(extra)
    names = {one.name for one in parameters}
    return {name: value for name, value in extra.items() if name in names}


def check(optimizer: optax.GradientTransformation, params: PyTree) -> None:
    """Refuse an optimiser that cannot move given parameters; nothing is compiled.

    Args:
        optimizer: the optimiser.
        params: the parameters, or their shapes.

    Raises:
        ValueError: the optimiser asks for something that an outer step does not have, its updates are no
            steps of the parameters, or its state changes its shape.
    """
    structure = jax.tree.structure(params)

    def value_and_grad(at: PyTree) -> tuple[jax.Array, PyTree]:
        if jax.tree.structure(at) != structure:
            raise ValueError("the loss is known for all groups of φ together only")
        return jnp.zeros(()), at

    def step(params: PyTree) -> tuple[PyTree, PyTree, PyTree]:
        state = init(optimizer, params)
        loss = Loss(jnp.zeros(()), params, value_and_grad)
        return (*update(optimizer, params, state, params, loss=loss), state)

    try:
        moves, after, before = jax.eval_shape(step, params)
    except Exception as error:  # whatever an optimiser raises
        raise ValueError(
            "optimizer: expected one that moves φ by the gradient and the value of the loss; its update "
            f"failed: {_first_line(error)}. Give another, e.g. optax.adam(0.05)."
        ) from error
    for what, found, wanted in (("updates", moves, params), ("state", after, before)):
        if _signature(found) != _signature(wanted):
            raise ValueError(
                f"optimizer: expected {what} of the same shapes and dtypes from step to step; got "
                f"{_signature(found)} for {_signature(wanted)}. Give another, e.g. optax.adam(0.05)."
            )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".:")


def _signature(tree: PyTree) -> list[str]:
    return [
        f"{jax.tree_util.keystr(path)} {leaf.dtype}{list(leaf.shape)}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]


@contextlib.contextmanager
def _promoting() -> Iterator[None]:
    """JAX's usual rules of promotion inside a block."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _kinds(optimizer: optax.GradientTransformation, params: PyTree) -> PyTree:
    """The kind of PRNG of each leaf of the optimiser's state that is a key; the empty text for the others."""
    found = []

    def look(params: PyTree) -> None:
        state = optimizer.init(params)
        found.append(jax.tree.map(lambda leaf: jax.random.key_impl(leaf) if _is_key(leaf) else "", state))

    jax.eval_shape(look, params)
    return found[0]


def _plain(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _keyed(leaf: Any, kind: Any) -> Any:
    return jax.random.wrap_key_data(leaf, impl=kind) if kind else leaf


__all__ = ["Loss", "check", "init", "taken", "update"]

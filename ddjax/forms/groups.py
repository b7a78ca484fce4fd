"""The groups of φ's leaves, and the outer optimiser that moves each group."""

from __future__ import annotations

from collections.abc import Hashable

import jax
import optax

from ddjax.types import Form, Outer, PyTree

FROZEN = "frozen"
"""The group of leaves that never change."""

REST = "rest"
"""The name in an `Outer` for all groups that have no optimiser of their own."""


def groups_of(form: Form, params: PyTree) -> PyTree:
    """The group of every leaf.

    Args:
        form: the form of the parameters.
        params: the parameters of φ.

    Returns:
        A tree like `params` with the name of a group in the place of every leaf.
    """
    if form.groups is None:
        return jax.tree.map(lambda leaf: "data", params)
    return form.groups(params)


def has_frozen(form: Form, params: PyTree) -> bool:
    """Whether some leaves of φ never change.

    Args:
        form: the form of the parameters.
        params: the parameters of φ.

    Returns:
        True where a leaf is in the group "frozen".
    """
    return FROZEN in jax.tree.leaves(groups_of(form, params))


def freeze(form: Form, params: PyTree) -> PyTree:
    """The parameters, with no gradient through the frozen leaves.

    Args:
        form: the form of the parameters.
        params: the parameters of φ.

    Returns:
        A tree of the same values.
    """
    if form.groups is None:
        return params
    return jax.tree.map(
        lambda group, leaf: jax.lax.stop_gradient(leaf) if group == FROZEN else leaf,
        form.groups(params),
        params,
    )


def optimizer_for(form: Form, outer: Outer) -> optax.GradientTransformation:
    """The outer optimiser of all leaves together.

    Args:
        form: the form of φ's parameters.
        outer: the optimiser of all groups, or of each group.

    Returns:
        One transformation: each group moves by its own optimiser, or by that of "rest"; frozen leaves never
        move.

    Raises:
        ValueError: a group has no optimiser.
    """
    params = jax.eval_shape(form.init, jax.random.key(0))
    frozen = has_frozen(form, params)
    if isinstance(outer.optimizer, optax.GradientTransformation):
        if not frozen:
            return outer.optimizer
        given = {REST: outer.optimizer}
    else:
        given = outer.optimizer
    each: dict[Hashable, optax.GradientTransformation] = dict(given.items())
    there = sorted(set(jax.tree.leaves(groups_of(form, params))) - {FROZEN, *each})
    if there and REST not in each:
        raise ValueError(
            f"outer optimiser: expected one for each group of φ, or one called {REST!r}; {there[0]!r} has "
            f"none beside {', '.join(map(str, each))}. Add one."
        )
    if frozen:
        each[FROZEN] = optax.set_to_zero()

    def label(params: PyTree) -> PyTree:
        return jax.tree.map(lambda group: group if group in each else REST, groups_of(form, params))

    return optax.partition(each, label)

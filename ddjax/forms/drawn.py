"""Schedules that are random: each slot of an outer step draws its own."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from ddjax.types import Form, PyTree, Schedule


def drawn(form: Form, params: PyTree, key: jax.Array) -> tuple[Schedule, jax.Array]:
    """The schedule that one slot sees in one outer step.

    Args:
        form: the form of φ.
        params: the parameters of φ.
        key: the key of the slot. Consumed where the form is random.

    Returns:
        The schedule, and the key that the method of the slot is to use; the same key where the form is not
        random, so that such forms draw as they always did.
    """
    if form.draw is None:
        return form.unfold(params), key
    key, own_key = jax.random.split(key)
    return form.draw(params, own_key), key


def one_by_one(schedule: Schedule) -> Schedule:
    """The schedule with minibatches of its own for each of the T = E·S steps, for forms that change each one.

    Args:
        schedule: a schedule with learning rates `[E, S]`, with or without an order; a schedule without
            learning rates is returned as it is.

    Returns:
        The same steps as a schedule with inputs `[T, b, *input_shape]`, labels `[T, b, K]` and learning rates
        `[1, T]`. Takes the memory of T·b examples.
    """
    if schedule.lrs is None:
        return schedule
    epochs, steps = schedule.lrs.shape
    rows = schedule.order
    if rows is None:
        size = schedule.inputs.shape[1]
        rows = jnp.tile(jnp.arange(steps * size).reshape(steps, size), (epochs, 1, 1))
    rows = rows.reshape(epochs * steps, -1)
    inputs, labels = (leaf.reshape(-1, *leaf.shape[2:])[rows] for leaf in schedule[:2])
    return Schedule(inputs, labels, schedule.lrs.reshape(1, -1))

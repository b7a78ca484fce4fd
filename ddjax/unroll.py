"""Inner training: the weights that the gradient steps of a schedule lead to, as a function of it."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from ddjax.types import Params, Schedule

LossFn = Callable[[Params, jax.Array, jax.Array], jax.Array]
"""`(params, inputs [B, H, W, C], labels [B, K]) -> loss []`."""


def cross_entropy(apply: Callable[[Params, jax.Array], jax.Array]) -> LossFn:
    """The mean over a minibatch of -Σ_k y_k log softmax(apply(θ, x))_k.

    Args:
        apply: `(params, inputs) -> logits [B, K]`.

    Returns:
        A loss that takes labels as probabilities, so that learned labels need no second one.
    """

    def loss(params: Params, inputs: jax.Array, labels: jax.Array) -> jax.Array:
        return optax.softmax_cross_entropy(apply(params, inputs), labels).mean()

    return loss


def unroll(loss: LossFn, params: Params, schedule: Schedule) -> tuple[Params, jax.Array]:
    """Train by plain gradient descent on the schedule, differentiably in all of it.

        θ_{t+1} = θ_t - η_t ∇_θ loss(θ_t, x̃_s, ỹ_s),   t = e·S + s,  e < E,  s < S

    The steps run in a scan over E around a scan over S, so that reverse mode adds up the gradient of the
    images once an epoch instead of carrying all of them through every step.

    Args:
        loss: the inner loss of one minibatch.
        params: θ_0.
        schedule: S steps of B images, with learning rates `[E, S]`.

    Returns:
        θ_T, and the inner losses `[T]`, each before its step.

    References:
        Wang et al. 2018, algorithm 1, lines 5 to 7.
    """
    assert schedule.lrs is not None, "a method that unrolls says needs_lrs; the engine has refused the rest"

    def step(params: Params, now: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[Params, jax.Array]:
        inputs, labels, lr = now
        value, grads = jax.value_and_grad(loss)(params, inputs, labels)
        return jax.tree.map(lambda p, g: p - lr.astype(p.dtype) * g, params, grads), value

    def epoch(params: Params, lrs: jax.Array) -> tuple[Params, jax.Array]:
        return jax.lax.scan(step, params, (schedule.inputs, schedule.labels, lrs))

    params, losses = jax.lax.scan(epoch, params, schedule.lrs)
    return params, jnp.ravel(losses)

"""Ordinary training on φ as one small training set, whatever its gradient steps: in epochs, each shuffled."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from ddjax.augment import Augmentation
from ddjax.chunks import MeanLoss
from ddjax.types import Network, Params, Schedule


def weighted_loss(network: Network) -> MeanLoss:
    """The cross-entropy of images with weights, (1/n) Σ_i w_i ℓ_i.

    Args:
        network: to train.

    Returns:
        `(params, (inputs [n, H, W, C], labels [n, K], weights [n])) -> (loss [], ())`.
    """

    def loss(params: Params, batch: Any) -> tuple[jax.Array, tuple[()]]:
        inputs, labels, weights = batch
        return jnp.mean(weights * optax.softmax_cross_entropy(network.apply(params, inputs), labels)), ()

    return loss


def steps_of_epoch(num_images: int, batch_size: int) -> int:
    """How many minibatches an epoch has; the last one may be filled up."""
    return -(-num_images // min(batch_size, num_images))


def train_epochs(
    loss: MeanLoss,
    params: Params,
    schedule: Schedule,
    key: jax.Array,
    *,
    optimizer: optax.GradientTransformation,
    epochs: int,
    batch_size: int,
    augmentation: Augmentation | None = None,
) -> Params:
    """The weights after so many passes over all S·B images, each in an order of its own.

    Args:
        loss: `weighted_loss`, or the same in chunks.
        params: θ0.
        schedule: φ unfolded; its learning rates are not used.
        key: orders the epochs, and draws the augmentation. Consumed.
        optimizer: whole, with its learning rate.
        epochs: passes.
        batch_size: images in one step.
        augmentation: of every minibatch, with params of its own for each image; none by default.

    Returns:
        The trained weights.
    """
    inputs, labels = (jnp.asarray(leaf).reshape(-1, *leaf.shape[2:]) for leaf in schedule[:2])
    count = len(labels)
    size, steps = min(batch_size, count), steps_of_epoch(count, batch_size)
    # The last minibatch of an epoch is filled up with images that weigh nothing.
    weights = (jnp.arange(steps * size) < count).astype(inputs.dtype).reshape(steps, size)
    weights = weights / weights.mean(1, keepdims=True)

    def step(carry: tuple, now: tuple[jax.Array, jax.Array, jax.Array | None]) -> tuple[tuple, None]:
        params, state = carry
        rows, weights, key = now
        images = inputs[rows]
        if augmentation is not None:
            images = augmentation.apply(augmentation.sample(key, size), images)
        grads, _ = jax.grad(loss, has_aux=True)(params, (images, labels[rows], weights))
        updates, state = optimizer.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), None

    def epoch(carry: tuple, key: jax.Array) -> tuple[tuple, None]:
        keys = None
        if augmentation is not None:
            key, draw_key = jax.random.split(key)
            keys = jax.random.split(draw_key, steps)
        order = jnp.resize(jax.random.permutation(key, count), (steps, size))
        return jax.lax.scan(step, carry, (order, weights, keys))

    start = (params, optimizer.init(params))
    (params, _), _ = jax.lax.scan(epoch, start, jax.random.split(key, epochs))
    return params

"""Forgetting events: how often a network in training unlearns an image that it had classified correctly."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ddjax import checks
from ddjax.data import normalise
from ddjax.types import Network, Params, RealData


class Forgetting(NamedTuple):
    """What one training tells of each image.

    Attributes:
        events: `[n]` int32, how often it was wrong when it had been right an epoch before.
        learned: `[n]` bool, whether it was ever right.
        accuracy: `[epochs]` float, percent of the images that were right when their turn came.
        params: the trained weights, whose features other selections can look at.
    """

    events: jax.Array
    learned: jax.Array
    accuracy: jax.Array
    params: Params

    @property
    def scores(self) -> np.ndarray:
        """`[n]` int64, the events; of what was never learned one more than of any other image."""
        events = np.asarray(self.events, np.int64)
        return np.where(np.asarray(self.learned), events, events.max() + 1)


def forgetting(
    network: Network,
    params: Params,
    data: RealData,
    key: jax.Array,
    *,
    epochs: int,
    batch_size: int = 64,
    lr: float = 0.05,
    momentum: float = 0.9,
) -> Forgetting:
    """Train a network on all images and count forgetting events; pure, for use under `jit`.

    An image's answer is looked at once in an epoch, by the weights that its minibatch is about to change.
    Training is SGD with momentum, whose rate falls to zero along a cosine.

    Args:
        network: to train.
        params: θ0.
        data: real images on the device.
        key: orders the images. Consumed.
        epochs: passes over them, each in an order of its own; what is left over after the last full
            minibatch waits for another.
        batch_size: images in one step.
        lr: learning rate at the start.
        momentum: of SGD.

    Returns:
        Events and trained weights.

    Raises:
        ValueError: settings out of their range, a network for other images, or fewer images than a batch.

    References:
        Toneva et al. 2019, arXiv 1812.05159; algorithm 1.
    """
    checks.kind("data", data, RealData, remedy="Give ddjax.data.to_device(split).")
    checks.network_fits(network, data)
    checks.at_least("epochs", epochs, 1)
    checks.at_least("batch_size", batch_size, 1)
    checks.positive("lr", lr)
    checks.fraction("momentum", momentum)
    count = len(data.labels)
    checks.at_least("number of images", count, batch_size, remedy="Lessen batch_size.")
    steps = count // batch_size
    optimizer = optax.sgd(optax.cosine_decay_schedule(lr, steps * epochs), momentum=momentum)

    def loss(params: Params, rows: jax.Array) -> tuple[jax.Array, jax.Array]:
        labels = data.labels[rows]
        logits = network.apply(params, normalise(data.images[rows], data.mean, data.std))
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean(), jnp.argmax(logits, -1) == labels

    def step(carry: tuple, rows: jax.Array) -> tuple[tuple, jax.Array]:
        params, state, right, events, learned = carry
        grads, now = jax.grad(loss, has_aux=True)(params, rows)
        events = events.at[rows].add(right[rows] & ~now)
        right, learned = right.at[rows].set(now), learned.at[rows].set(learned[rows] | now)
        updates, state = optimizer.update(grads, state)
        return (optax.apply_updates(params, updates), state, right, events, learned), now.mean()

    def epoch(carry: tuple, key: jax.Array) -> tuple[tuple, jax.Array]:
        order = jax.random.permutation(key, count)[: steps * batch_size]
        carry, right = jax.lax.scan(step, carry, order.reshape(steps, batch_size))
        return carry, 100 * right.mean()

    never, none = jnp.zeros(count, bool), jnp.zeros(count, jnp.int32)
    start = (params, optimizer.init(params), never, none, never)
    (params, _, _, events, learned), accuracy = jax.lax.scan(epoch, start, jax.random.split(key, epochs))
    return Forgetting(events, learned, accuracy, params)

"""Forgetting events: how often a network, while training, unlearns an image that was classified correctly."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ddjax import checks
from ddjax.training import Examples, Watch, class_loss, fit
from ddjax.types import Network, Params, RealData


class Forgetting(NamedTuple):
    """The forgetting events of one training.

    Attributes:
        events: the number of times that each image was classified wrongly, and correctly the time before,
            `[n]` int32.
        learned: whether each image was ever classified correctly, `[n]` bool.
        accuracy: the percentage of images that were classified correctly when their minibatch came, for each
            epoch, `[epochs]` float.
        params: the trained weights, whose features other selections can look at.
    """

    events: jax.Array
    learned: jax.Array
    accuracy: jax.Array
    params: Params

    @property
    def scores(self) -> np.ndarray:
        """The events, `[n]` int64; images that were never learned have one more than the largest number."""
        events = np.asarray(self.events, np.int64)
        return np.where(np.asarray(self.learned), events, events.max() + 1)


class _Seen(NamedTuple):
    """The record of the training so far.

    Attributes:
        events: the number of forgetting events of each image, `[n]` int32.
        right: whether each image was classified correctly in its last minibatch, `[n]` bool.
        learned: whether each image was ever classified correctly, `[n]` bool.
        shares: the share of correctly classified images in each minibatch, `[epochs * steps]` float.
        step: the number of minibatches so far, `[]` int32.
    """

    events: jax.Array
    right: jax.Array
    learned: jax.Array
    shares: jax.Array
    step: jax.Array


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

    Each image is classified once in an epoch, by the weights that its minibatch is about to change. The
    training is SGD with momentum; the learning rate falls to zero along a cosine.

    Args:
        network: the network to train.
        params: the initial weights, θ0.
        data: the real images on the device.
        key: the source of the order of the images. Consumed.
        epochs: the number of passes over the images, each in a new order. Images left over after the last
            full minibatch of a pass wait for a later pass.
        batch_size: the number of images in one step.
        lr: the learning rate at the start.
        momentum: the momentum of SGD.

    Returns:
        The forgetting events and the trained weights.

    Raises:
        ValueError: a setting is out of its range, the network takes other images, or there are fewer images
            than `batch_size`.

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

    def see(record: _Seen, rows: jax.Array, aux: tuple[jax.Array, jax.Array]) -> _Seen:
        logits, _ = aux
        now = jnp.argmax(logits, -1).astype(data.labels.dtype) == data.labels[rows]
        return _Seen(
            events=record.events.at[rows].add((record.right[rows] & ~now).astype(jnp.int32)),
            right=record.right.at[rows].set(now),
            learned=record.learned.at[rows].set(record.learned[rows] | now),
            shares=record.shares.at[record.step].set(now.mean()),
            step=record.step + 1,
        )

    never = jnp.zeros(count, bool)
    start = _Seen(jnp.zeros(count, jnp.int32), never, never, jnp.zeros(epochs * steps), jnp.int32(0))
    trained, seen = fit(
        class_loss(network),
        params,
        key,
        examples=Examples.of_data(data),
        optimizer=optimizer,
        epochs=epochs,
        batch_size=batch_size,
        drops_rest=True,
        watch=Watch(start, see),
    )
    accuracy = 100 * seen.shares.reshape(epochs, steps).mean(1)
    return Forgetting(seen.events, seen.learned, accuracy, trained)

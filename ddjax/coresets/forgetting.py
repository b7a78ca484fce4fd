"""Forgetting events: how often a network in training unlearns an image that it had classified correctly."""

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


class _Seen(NamedTuple):
    """What the training has shown of each image so far.

    Attributes:
        events: `[n]` int32, as in `Forgetting`.
        right: `[n]` bool, whether the image was right when its turn came last.
        learned: `[n]` bool, as in `Forgetting`.
        shares: `[epochs * steps]` float, the share of right images in each minibatch.
        step: `[]` int32, minibatches seen.
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

    def see(record: _Seen, rows: jax.Array, aux: tuple[jax.Array, jax.Array]) -> _Seen:
        logits, _ = aux
        now = jnp.argmax(logits, -1) == data.labels[rows]
        return _Seen(
            events=record.events.at[rows].add(record.right[rows] & ~now),
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

"""Training many networks from scratch on real data, in one compiled program."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ddjax import checks, files, platforms, pool
from ddjax.data import Dataset, Split, to_device
from ddjax.engine import compiler_options
from ddjax.judge import Judge, check_split
from ddjax.pool import Pool
from ddjax.recipes import Train
from ddjax.training import Examples, class_loss, fit
from ddjax.types import InitDistribution, Network, Params, RealData


@dataclasses.dataclass(frozen=True)
class Training:
    """The settings of a training with Adam, whose rate falls to zero along a cosine.

        lr_t = lr · (1 + cos(π t / (epochs · steps of an epoch))) / 2

    Attributes:
        epochs: the number of passes over the training split, each in an order of its own.
        batch_size: the number of images in one step; images left over after the last full batch of an epoch
            are not used in that epoch.
        lr: the rate of Adam at the start.

    Raises:
        ValueError: a count below one, or a rate that is not positive.
    """

    epochs: int
    batch_size: int = 64
    lr: float = 1e-3

    def __post_init__(self) -> None:
        checks.at_least("epochs", self.epochs, 1)
        checks.at_least("batch_size", self.batch_size, 1)
        checks.positive("lr", self.lr)


def nets_at_once(backend: str, count: int) -> int:
    """The number of networks to vmap: one on CPUs, all on other backends.

    Measured with LeNet, batches of 64, on two cores: 57 µs an image one after the other, 68 vmapped.

    Args:
        backend: the name of JAX's backend, e.g. `"cpu"`.
        count: the number of all networks.

    Returns:
        The number of networks that are trained at once.
    """
    return 1 if backend == "cpu" else count


def pretrain(
    network: Network,
    inits: InitDistribution,
    split: Split,
    training: Training,
    *,
    keys: jax.Array,
    at_once: int | None = None,
) -> Params:
    """The weights of many networks, each trained from its own θ0 on its own order of the images.

    Args:
        network: the network to train.
        inits: the distribution of initial weights, p(θ0).
        split: the real examples to train on.
        training: the settings of each training.
        keys: `[n]`, the source of the random draws of each network. Consumed.
        at_once: the number of networks that are vmapped, the others following; by default `nets_at_once`.

    Returns:
        The trained weights, each leaf `[n, ...]`; those of network i depend on `keys[i]` alone.

    Raises:
        ValueError: the images do not fit the network, or are fewer than one batch.
    """
    check_split(split, network)
    checks.at_least("number of training images", len(split), training.batch_size, remedy="Lessen batch_size.")
    count = at_once or nets_at_once(platforms.current(), len(keys))
    checks.at_least("at_once", count, 1)
    arguments = keys, to_device(split)
    # None for one network at a time: with a batch size of 1, lax.map would vmap batches of one.
    train = _trainer(network, inits, training, count if count > 1 else None)
    return train.lower(*arguments).compile(compiler_options(platforms.current()))(*arguments)


@functools.lru_cache(maxsize=4)
def _trainer(network: Network, inits: InitDistribution, training: Training, at_once: int | None):
    """`(keys, data) -> params`, jitted."""

    @jax.jit
    def train(keys: jax.Array, data: RealData) -> Params:
        steps = len(data.labels) // training.batch_size
        optimizer = optax.adam(optax.cosine_decay_schedule(training.lr, steps * training.epochs))

        def one(key: jax.Array) -> Params:
            init_key, order_key = jax.random.split(key)
            trained, _ = fit(
                class_loss(network),
                inits.sample(init_key),
                order_key,
                examples=Examples.of_data(data),
                optimizer=optimizer,
                epochs=training.epochs,
                batch_size=training.batch_size,
                drops_rest=True,
            )
            return trained

        return jax.lax.map(one, keys, batch_size=at_once)

    return train


def pretrain_in_parts(
    network: Network,
    inits: InitDistribution,
    data: Dataset,
    training: Training,
    *,
    seed: int,
    total: int,
    size: int,
    folder: Path,
    facts: Mapping[str, Any],
    listener: Callable[[Pool, int, int, float], None] = lambda members, done, total, left: None,
) -> list[Pool]:
    """A pool of networks, trained a few at a time; parts that an earlier start has trained are read again.

    Args:
        network: the network to train.
        inits: p(θ0).
        data: the real data; trained on the training split, scored on the test split.
        training: the settings of each training.
        seed: the seed of initial weights and orders of images; network i depends on seed and i alone.
        total: the number of networks.
        size: the number of networks that are trained before the next save.
        folder: the directory of the parts.
        facts: what the file of each part says of its networks.
        listener: called after each part with its networks, the numbers done and in all, and the seconds that
            the rest is likely to take.

    Returns:
        The parts of the pool, in the order of their networks.

    Raises:
        ValueError: the images do not fit the network, or are fewer than a batch; or a damaged part.
        OSError: a part could not be written.
    """
    files.make_directory(folder)
    files.remove_temporaries(folder)
    judge = Judge(network, inits, Train(), data.test)
    found, began, trained = [], time.monotonic(), 0
    while (done := sum(map(len, found))) < total:
        path = folder / f"{done:06d}.npz"
        if path.exists():
            found.append(pool.load(path).fit(network))
            continue
        count = min(size, total - done)
        numbers = jnp.arange(done, done + count)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), numbers)
        params = pretrain(network, inits, data.train, training, keys=keys)
        percent = np.asarray(judge.untrained(params).values, np.float32)
        found.append(Pool(jax.device_get(params), count, percent, facts))
        pool.save(path, found[-1])
        trained += count
        left = (time.monotonic() - began) / trained * (total - done - count)
        listener(found[-1], done + count, total, left)
    return found


__all__ = ["Training", "nets_at_once", "pretrain", "pretrain_in_parts"]

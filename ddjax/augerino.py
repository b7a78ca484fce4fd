"""Augerino: a network and the widths of its augmentation, learned together from the training loss alone."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ddjax import augment_learned, checks
from ddjax.augment_learned import TRANSFORMS, exponential, generated, warp, widths_of
from ddjax.data import Dataset, Split, to_device
from ddjax.training import Examples, Minibatch, fit
from ddjax.types import InitDistribution, Network, Params, RealData

LARGEST_REWARDED = 10.0
"""The width from which on no reward is given for widths, as published: a range that wide is all there is."""

STARTS: Mapping[str, float] = MappingProxyType(
    {name: float(np.log1p(np.exp(1.0 if name == "rotation" else -5.0))) for name in TRANSFORMS}
)
"""The published widths at the start: softplus(1) of the rotation, softplus(-5) of the other transforms."""


class Learned(NamedTuple):
    """A network and the widths of its augmentation.

    Attributes:
        params: the weights of the network.
        raw_widths: `[6]`, the parameters of the widths, softplus(raw_widths).
    """

    params: Params
    raw_widths: jax.Array

    @property
    def widths(self) -> dict[str, float]:
        """The widths by the names of the transforms."""
        return dict(zip(TRANSFORMS, np.asarray(widths_of(self.raw_widths)).tolist(), strict=True))


class _Targets(NamedTuple):
    """What the loss of a minibatch needs beside the images.

    Attributes:
        labels: `[n]` int32, the classes.
        uniform: `[n, 6]`, the draws of the transforms.
    """

    labels: jax.Array
    uniform: jax.Array


def objective(
    network: Network,
    learned: Learned,
    images: jax.Array,
    labels: jax.Array,
    uniform: jax.Array,
    *,
    reward: float,
) -> jax.Array:
    """The loss of transformed images, less a reward for wide ranges.

        L(θ, w) = mean_i ℓ(f_θ(x_i ∘ T_i), y_i) - λ ‖w‖₂ [all w < 10],   T_i = exp(Σ_j (u_ij - 1/2) w_j G_j)

    Without the reward widths would fall to zero, since the loss is taken on the transformed images.

    Args:
        network: the network f.
        learned: the weights θ and the parameters of the widths w.
        images: the images, `[n, H, W, C]`.
        labels: the classes y, `[n]` int32.
        uniform: the draws u from U(0, 1), `[n, 6]`.
        reward: λ.

    Returns:
        `[]`, differentiable in `learned`.

    References:
        Benton, Finzi, Izmailov and Wilson, Learning Invariances in Neural Networks, NeurIPS 2020, arXiv
        2010.11882.
    """
    widths = widths_of(learned.raw_widths)
    moved = warp(images, exponential(generated(widths, uniform)))
    logits = network.apply(learned.params, moved)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    rewarded = jnp.where(jnp.all(widths < LARGEST_REWARDED), jnp.sqrt(jnp.sum(widths**2)), 0.0)
    return losses.mean() - reward * rewarded.astype(losses.dtype)


@checks.entry
def learn(
    network: Network,
    params: Params,
    examples: Examples,
    key: jax.Array,
    *,
    widths: float | Mapping[str, float] = STARTS,
    reward: float = 0.1,
    lr: float = 0.001,
    lr_of_widths: float = 0.01,
    weight_decay: float = 1e-4,
    epochs: int = 10,
    batch_size: int = 50,
) -> Learned:
    """Train a network and the widths of its augmentation on real images; pure, for use under `jit`.

    Every step takes one transformed copy of each image of its minibatch; the weights and the widths both move
    by Adam down the gradient of `objective`, the weights with a decay.

    Args:
        network: the network to train.
        params: the initial weights.
        examples: the real images and their classes, `[n]` int32.
        key: the source of the order of the images and of the transforms. Consumed.
        widths: the widths at the start, by the names of the six transforms, or one width for all of them.
        reward: λ, the weight of the reward for wide ranges.
        lr: the learning rate of the weights.
        lr_of_widths: the learning rate of the parameters of the widths.
        weight_decay: the factor of the weights that is added to their gradient.
        epochs: the number of passes over the images.
        batch_size: the number of images in one step.

    Returns:
        The trained weights and the parameters of the widths.

    Raises:
        ValueError: a number is out of its range, or the network takes no images.
    """
    checks.kind("network", network, Network, remedy="Build it with ddjax.networks.")
    checks.image_shape(network.input_shape)
    starts = _starts(widths)
    for name, value in (("lr", lr), ("lr_of_widths", lr_of_widths)):
        checks.positive(name, value)
    for name, value in (("reward", reward), ("weight_decay", weight_decay)):
        checks.at_least(name, value, 0, integer=False)
    checks.at_least("epochs", epochs, 1)
    checks.at_least("batch_size", batch_size, 1)

    def loss(learned: Learned, batch: Minibatch) -> tuple[jax.Array, tuple[()]]:
        targets: Any = batch.labels
        return objective(network, learned, batch.inputs, *targets, reward=reward), ()

    def with_draws(key: jax.Array, images: jax.Array, labels: jax.Array) -> Any:
        uniform = jax.random.uniform(key, (len(images), len(TRANSFORMS)), images.dtype)
        return images, _Targets(labels, uniform)

    of_weights = optax.chain(optax.add_decayed_weights(weight_decay), optax.adam(lr))
    each: dict[Hashable, Any] = {"weights": of_weights, "widths": optax.adam(lr_of_widths)}
    named: Any = "widths"
    dtype = jax.tree.leaves(params)[0].dtype
    raw = jnp.asarray(np.log(np.expm1(starts)), dtype)
    learned, _ = fit(
        loss,
        Learned(params, raw),
        key,
        examples=examples,
        optimizer=optax.partition(
            each, lambda tree: Learned(jax.tree.map(lambda leaf: "weights", tree.params), named)
        ),
        epochs=epochs,
        batch_size=batch_size,
        mix=with_draws,
        drops_rest=True,
    )
    return learned


def _starts(widths: float | Mapping[str, float]) -> np.ndarray:
    """`[6]`, the widths at the start in the order of the transforms."""
    if not isinstance(widths, Mapping):
        checks.positive("widths", widths)
        widths = dict.fromkeys(TRANSFORMS, widths)
    if set(widths) != set(TRANSFORMS):
        raise ValueError(
            f"widths: expected a number for each of {', '.join(TRANSFORMS)}; got "
            f"{', '.join(widths) or 'none'}. Give all six, or one number."
        )
    for name in TRANSFORMS:
        checks.positive(f"widths of {name}", widths[name])
    return np.array([widths[name] for name in TRANSFORMS])


def scores(
    network: Network, learned: Learned, images: jax.Array, key: jax.Array, *, copies: int = 4
) -> jax.Array:
    """What a network says of images: the mean of its log-probabilities over transformed copies.

    Args:
        network: the network.
        learned: the weights and the parameters of the widths.
        images: the images, `[n, H, W, C]`.
        key: the source of the transforms. Consumed.
        copies: the number of copies of each image.

    Returns:
        `[n, K]`.
    """

    def of_copy(key: jax.Array) -> jax.Array:
        moved = augment_learned.transformed(learned.raw_widths, key, images)
        return jax.nn.log_softmax(network.apply(learned.params, moved))

    return jax.lax.map(of_copy, jax.random.split(key, copies)).mean(0)


def accuracy(
    network: Network, learned: Learned, split: Split, key: jax.Array, *, copies: int = 4, at_once: int = 250
) -> float:
    """The share of images whose class has the largest mean log-probability over transformed copies.

    Args:
        network: the network.
        learned: the weights and the parameters of the widths.
        split: the images and their classes.
        key: the source of the transforms. Consumed.
        copies: the number of copies of each image.
        at_once: the number of images that are scored at once.

    Returns:
        A number in percent.
    """
    score = jax.jit(lambda images, key: scores(network, learned, images, key, copies=copies).argmax(-1))
    parts = range(0, len(split), at_once)
    keys = jax.random.split(key, len(parts))
    rows = [np.arange(start, min(start + at_once, len(split))) for start in parts]
    answers = [score(split.at(some).encoded(), one) for some, one in zip(rows, keys, strict=True)]
    return 100.0 * float(np.mean(np.concatenate(answers) == split.labels))


def measured(
    network: Network,
    inits: InitDistribution,
    data: Dataset,
    key: jax.Array,
    *,
    epochs: int,
    **settings: Any,
) -> dict[str, Any]:
    """Augerino on a data set, for records: one network from new initial weights.

    Args:
        network: the network to train.
        inits: the distribution p(θ0) of initial weights.
        data: the real data.
        key: the source of all random draws. Consumed.
        epochs: the number of passes over the training images.
        **settings: further settings of `learn`.

    Returns:
        The `widths` by the names of the transforms, the `test_accuracy` in percent, and the `settings`.
    """
    init_key, train_key, test_key = jax.random.split(key, 3)

    @jax.jit
    def train(real: RealData) -> Learned:
        examples = Examples.of_data(real)
        return learn(network, inits.sample(init_key), examples, train_key, epochs=epochs, **settings)

    learned = train(to_device(data.train))
    score = accuracy(network, learned, data.test, test_key)
    given = {name: dict(value) if isinstance(value, Mapping) else value for name, value in settings.items()}
    return {"widths": learned.widths, "test_accuracy": score, "settings": {"epochs": epochs, **given}}


__all__ = ["STARTS", "Learned", "accuracy", "learn", "measured", "objective", "scores"]

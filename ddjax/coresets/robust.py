"""Training on noisy labels with a selection: small loss, class-wise scores, or CRUST's coresets.

A selection sees the given labels only. How many of the kept ones are right, who knows the true labels asks
of `Robust.kept`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ddjax import checks, predictions, updates
from ddjax.coresets import scores
from ddjax.coresets.features import feature_gradients, last_layer_kernel
from ddjax.coresets.scores import Buffers, Losses
from ddjax.coresets.selection import by_class_share, central, facility_location
from ddjax.data import Noisy, Split, to_device
from ddjax.judge import chunks
from ddjax.networks import norms
from ddjax.training import Examples, Minibatch, Passes
from ddjax.types import Network, Params, PyTree, RealData

RowsAt = Callable[[int, Params], np.ndarray]
"""`(epoch, params) -> rows [m]`, the positions of the images that an epoch, from 0, trains on."""

CRUST = {"crust": central, "crust_paper": facility_location}
"""CRUST's selection as its code was released, and as its paper describes it."""


@dataclasses.dataclass(frozen=True)
class Selected:
    """The settings of a training with a selection inside minibatches.

    Epoch t, from 0, keeps the ⌊(1 - R(t)) B⌋ images of the lowest score of each minibatch of B, with

        R(t) = rate · min((t + 1) / ramp, 1)

    Attributes:
        score: the score, one of `ddjax.coresets.scores.SCORES`.
        rate: the share that is left out in the end, in [0, 1); 0 trains on all, whatever the score.
        ramp: the number of epochs in which the share grows.
        batch_size: B, the number of images in one step.
        lr: the constant rate of Adam.
        length: L, the number of losses that are kept of each class.
        mixing: the parameter a of within-class mixing: x ← λ x + (1 - λ) x', x' another image of the same
            given label, one λ ~ Beta(1, a) for a minibatch; None mixes nothing. CRUST takes 0.1.

    Raises:
        ValueError: an unknown score, or a number out of its range.

    References:
        Han et al. 2018, Co-teaching, arXiv 1804.06872, for the small loss and R(t).
    """

    score: str = "loss"
    rate: float = 0.0
    ramp: int = 10
    batch_size: int = 128
    lr: float = 1e-3
    length: int = 256
    mixing: float | None = None

    def __post_init__(self) -> None:
        checks.choice("score", self.score, scores.SCORES)
        checks.fraction("rate", self.rate)
        for name in ("ramp", "batch_size", "length"):
            checks.at_least(name, getattr(self, name), 1)
        checks.positive("lr", self.lr)
        if self.mixing is not None:
            checks.positive("mixing", self.mixing)

    def share(self, epoch: int) -> float:
        """The share of a minibatch that an epoch keeps, 1 - R(t).

        Args:
            epoch: the number of the epoch, from 0.

        Returns:
            A number in (0, 1].
        """
        return 1 - self.rate * min((epoch + 1) / self.ramp, 1)


class Robust(NamedTuple):
    """The record of a training on noisy labels.

    Attributes:
        params: the trained weights.
        kept: `[epochs, n]` bool, whether each image was trained on in each epoch.
        watched: what the watch returned after each epoch.
    """

    params: Params
    kept: np.ndarray
    watched: list[Any]


class _Learner(NamedTuple):
    """A network in training: its weights, optimiser, buffers, the kept images `[n]` bool, the next key."""

    params: Params
    optimizer: PyTree
    buffers: Buffers
    kept: jax.Array
    key: jax.Array


def robust(
    network: Network,
    params: Params,
    split: Split,
    key: jax.Array,
    *,
    settings: Selected,
    epochs: int,
    rows_at: RowsAt | None = None,
    watch: Callable[[int, Params], Any] | None = None,
) -> Robust:
    """Train a network on noisy labels, some of which are left out.

    Args:
        network: the network to train.
        params: the initial weights θ0.
        split: the images under the given labels.
        key: the source of the order of the images and of the mixing. Consumed.
        settings: the settings of the training, with the selection inside minibatches.
        epochs: the number of passes; images left over after the last full minibatch wait for a later pass.
        rows_at: the images of each epoch, such as `crust`; None for all of them.
        watch: `(epoch, params) -> anything`, called after each epoch, from 0.

    Returns:
        The trained weights, what was kept, and what the watch returned.

    Raises:
        ValueError: the network takes other images or has batch norm, or a count is below one.

    References:
        The scores: `ddjax.coresets.scores`. CRUST: `crust`.
    """
    checks.at_least("epochs", epochs, 1)
    data, everything = to_device(split), np.arange(len(split))
    checks.network_fits(network, data)
    if norms.has_batch_norm(network):
        raise ValueError(
            f"{network.name}: expected a network without batch norm, whose statistics would be those of all "
            "labels, wrong ones included. Give another norm, such as --norm=instance."
        )
    buffers = Buffers.empty(network.num_classes, settings.length)
    start = updates.init(optax.adam(settings.lr), params)
    learner = _Learner(params, start, buffers, jnp.zeros(len(split), bool), key)
    kept, watched = [], []
    for epoch in range(epochs):
        rows = everything if rows_at is None else np.asarray(rows_at(epoch, learner.params))
        share = jnp.float32(settings.share(epoch))
        learner = _epoch(learner, data, jnp.asarray(rows), share, network=network, settings=settings)
        kept.append(np.asarray(learner.kept))
        watched += [] if watch is None else [watch(epoch, learner.params)]
    return Robust(learner.params, np.stack(kept), watched)


@functools.partial(jax.jit, static_argnames=("network", "settings"))
def _epoch(
    learner: _Learner,
    data: RealData,
    rows: jax.Array,
    share: jax.Array,
    *,
    network: Network,
    settings: Selected,
) -> _Learner:
    """One pass over the images at some rows."""
    optimizer, size = optax.adam(settings.lr), min(settings.batch_size, len(rows))
    # The tolerance keeps the last image where the share of a minibatch is a whole number but for rounding.
    number = jnp.floor(share * size + 1e-3).astype(jnp.int32)
    partner = _partners(data, rows)

    def step(state: _Learner, at: jax.Array, batch: Minibatch) -> _Learner:
        key, mix_key = jax.random.split(state.key)
        inputs = batch.inputs
        if settings.mixing is not None:
            inputs = _mixed(inputs, data.inputs_at(partner(mix_key, at)), mix_key, settings.mixing)
        grads, (chosen, buffers) = jax.grad(loss, has_aux=True)(
            state.params, state.buffers, inputs, batch.labels
        )
        moves, after = updates.update(optimizer, grads, state.optimizer, state.params)
        kept = state.kept.at[rows[at]].set(chosen)
        return _Learner(optax.apply_updates(state.params, moves), after, buffers, kept, key)

    def loss(params: Params, buffers: Buffers, inputs: jax.Array, labels: jax.Array) -> tuple:
        losses = Losses.of(network.apply(params, inputs), labels)
        seen = jax.tree.map(jax.lax.stop_gradient, losses)
        buffers = scores.push(buffers, seen)
        chosen = scores.smallest(scores.score(settings.score, buffers, seen), number)
        count = jnp.maximum(chosen.sum(), 1).astype(losses.label.dtype)
        return jnp.sum(jnp.where(chosen, losses.label, 0)) / count, (chosen, buffers)

    order_key, key = jax.random.split(learner.key)
    start = learner._replace(kept=jnp.zeros_like(learner.kept), key=key)
    examples = Examples(lambda at: (data.inputs_at(rows[at]), data.labels[rows[at]]), len(rows))
    passes = Passes(examples, settings.batch_size, drops_rest=True)
    return passes.through(step, start, order_key, epochs=1)


def _partners(data: RealData, rows: jax.Array) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """`(key, at [B]) -> rows [B]`: for each position among the rows, any of the rows with the same label."""
    labels = data.labels[rows]
    order = rows[jnp.argsort(labels, stable=True)]
    counts = jnp.bincount(labels, length=data.num_classes)
    starts = jnp.cumsum(counts) - counts

    def draw(key: jax.Array, at: jax.Array) -> jax.Array:
        label = labels[at]
        place = jnp.floor(jax.random.uniform(key, at.shape, jnp.float32) * counts[label].astype(jnp.float32))
        return order[starts[label] + jnp.minimum(place.astype(counts.dtype), counts[label] - 1)]

    return draw


def _mixed(inputs: jax.Array, others: jax.Array, key: jax.Array, a: float) -> jax.Array:
    weight = jax.random.beta(jax.random.fold_in(key, 1), 1.0, a, dtype=inputs.dtype)
    return weight * inputs + (1 - weight) * others


def crust(
    network: Network, split: Split, *, select: str = "crust", share: float = 0.5, first: int = 5
) -> RowsAt:
    """CRUST's selection: a share of each class by the gradients in the features, anew before each epoch.

    Within a class of given labels the points are ∂ℓ/∂h (`feature_gradients`). `"crust"` takes the most
    central ones, as the released code does, `"crust_paper"` takes facility location, as the paper describes.
    The released code's weights are the same for all images of a class and are left out; the paper's cluster
    sizes too, so that both are compared by what they select.

    Args:
        network: the network in training, with a dense last layer.
        split: the images under the given labels.
        select: which of the two selections, one of `CRUST`.
        share: the share of each class that is kept; the released setting is a half.
        first: the first epoch, from 0, that trains on a selection; all images before.

    Returns:
        The images of each epoch, for `robust`.

    Raises:
        ValueError: the selection is unknown.

    References:
        Mirzasoleiman, Cao and Leskovec 2020, Coresets for Robust Training of Neural Networks against Noisy
        Labels; github.com/snap-stanford/crust.
    """
    checks.choice("select", select, CRUST)

    pieces = chunks(split)

    def rows_at(epoch: int, params: Params) -> np.ndarray:
        if epoch < first:
            return np.arange(len(split))
        answers = predictions.logits(network, params, split, pieces=pieces)
        points = feature_gradients(answers, split.labels, last_layer_kernel(network, params))
        # In an order of positions: the order of a selection would do nothing but change the shuffling.
        return np.sort(by_class_share(CRUST[select], points, split, share=share))

    return rows_at


def _always(rows: np.ndarray) -> RowsAt:
    return lambda epoch, params: rows


TRAININGS = ("all", *scores.SCORES, *CRUST, "crust_mixed", "clean")
"""The trainings that `by_name` knows: on all images, with a score, with CRUST's selection as released, as in
the paper and with its mixing, and, as a bound, on the images whose labels are right."""


def by_name(
    name: str,
    network: Network,
    params: Params,
    noisy: Noisy,
    key: jax.Array,
    *,
    settings: Selected,
    epochs: int,
    watch: Callable[[int, Params], Any] | None = None,
) -> Robust:
    """Train a network on noisy labels in one of several ways.

    Args:
        name: the way, one of `TRAININGS`.
        network: the network to train.
        params: the initial weights θ0.
        noisy: the images under noisy labels; which of these are right only `"clean"` looks at.
        key: see `robust`. Consumed.
        settings: the settings of the training. Only scores use the rate and the ramp; CRUST's selections
            start after the epochs of the ramp, and keep half of each class.
        epochs: the number of passes.
        watch: see `robust`.

    Returns:
        The record of the training.

    Raises:
        ValueError: there is no such way; see also `robust`.
    """
    checks.choice("select", name, TRAININGS)
    rows_at: RowsAt | None = None
    if name in scores.SCORES:
        settings = dataclasses.replace(settings, score=name)
    else:
        settings = dataclasses.replace(settings, rate=0.0, mixing=0.1 if name == "crust_mixed" else None)
    if name == "clean":
        rows_at = _always(np.flatnonzero(noisy.clean))
    elif name in (*CRUST, "crust_mixed"):
        rows_at = crust(network, noisy.split, select=name.removesuffix("_mixed"), first=settings.ramp)
    return robust(
        network, params, noisy.split, key, settings=settings, epochs=epochs, rows_at=rows_at, watch=watch
    )

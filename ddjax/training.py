"""The one loop of epochs: ordinary training on real or distilled examples, with an optional observer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ddjax import updates
from ddjax.augment import Augmentation
from ddjax.chunks import MeanLoss
from ddjax.types import Network, Params, PyTree, RealData, Schedule
from ddjax.unroll import tempered_cross_entropy


class Minibatch(NamedTuple):
    """The examples of one step.

    Attributes:
        inputs: `[n, *input_shape]` float, encoded and augmented.
        labels: `[n, K]` float for distilled examples, `[n]` int32 for real ones.
        weights: `[n]` float, the weight of each example's loss; the mean of the weights is one.
    """

    inputs: jax.Array
    labels: jax.Array
    weights: jax.Array


class Examples(NamedTuple):
    """The examples to train on.

    Attributes:
        take: `rows [n] -> (inputs, labels)`, the examples at these positions.
        count: the number of examples.
    """

    take: Callable[[jax.Array], tuple[jax.Array, jax.Array]]
    count: int

    @classmethod
    def of_schedule(cls, schedule: Schedule) -> Examples:
        """All S·B examples of φ as one set; steps and learning rates are not used.

        Args:
            schedule: φ as a schedule, with inputs `[S, B, ...]` and labels `[S, B, K]`.

        Returns:
            The examples, in the order of the steps.
        """
        inputs, labels = (jnp.asarray(leaf).reshape(-1, *leaf.shape[2:]) for leaf in schedule[:2])
        return cls(lambda rows: (inputs[rows], labels[rows]), len(labels))

    @classmethod
    def of_data(cls, data: RealData) -> Examples:
        """All examples of a split on the device, encoded when they are taken.

        Args:
            data: the split on the device.

        Returns:
            The examples, in the order of the split.
        """
        return cls(lambda rows: (data.inputs_at(rows), data.labels[rows]), len(data.labels))


class Watch(NamedTuple):
    """An observer of every step of a training, which keeps a record.

    Attributes:
        init: the record before the first step.
        see: `(record, rows [n], aux) -> record`, called in each step after the loss of the minibatch was
            computed and before the weights move; `rows` are the positions of the minibatch's examples, `aux`
            is the second result of the loss.
    """

    init: PyTree
    see: Callable[[PyTree, jax.Array, PyTree], PyTree]


def weighted_loss(network: Network, *, temperature: float = 1.0) -> MeanLoss:
    """The weighted mean cross-entropy of n examples, (1/n) Σ_i w_i ℓ_i.

    Args:
        network: the network to train.
        temperature: T, see `tempered_cross_entropy`.

    Returns:
        `(params, (inputs [n, *input_shape], labels [n, K], weights [n])) -> (loss [], ())`.
    """

    def loss(params: Params, batch: Any) -> tuple[jax.Array, tuple[()]]:
        inputs, labels, weights = batch
        losses = tempered_cross_entropy(network.apply(params, inputs), labels, temperature=temperature)
        return jnp.mean(weights * losses), ()

    return loss


def class_loss(network: Network) -> Callable[[Params, Minibatch], tuple[jax.Array, PyTree]]:
    """The mean cross-entropy of real examples, with their logits and losses for a watch.

    Args:
        network: the network to train.

    Returns:
        `(params, minibatch) -> (loss [], (logits [n, K], losses [n]))`; weights are not used.
    """

    def loss(params: Params, batch: Minibatch) -> tuple[jax.Array, PyTree]:
        logits = network.apply(params, batch.inputs)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels)
        return losses.mean(), (logits, losses)

    return loss


def steps_of_epoch(num_examples: int, batch_size: int) -> int:
    """The number of minibatches of an epoch.

    Args:
        num_examples: the number of all examples.
        batch_size: the number of examples in a minibatch; the last minibatch may be incomplete.

    Returns:
        A whole number, at least 1.
    """
    return -(-num_examples // min(batch_size, num_examples))


def fit(
    loss: Callable[[Params, Any], tuple[jax.Array, PyTree]],
    params: Params,
    key: jax.Array,
    *,
    examples: Examples,
    optimizer: optax.GradientTransformation,
    epochs: int,
    batch_size: int,
    augmentation: Augmentation | None = None,
    drops_rest: bool = False,
    watch: Watch | None = None,
) -> tuple[Params, PyTree]:
    """The weights after a number of passes over all examples, each pass in an order of its own; pure.

    Args:
        loss: `(params, minibatch) -> (loss [], aux)`: `weighted_loss`, `weighted_loss` in chunks
            (`ddjax.chunks.mean_over_chunks`), or `class_loss`.
        params: the initial weights θ0.
        key: the source of the order of each epoch and of the augmentation. Consumed.
        examples: the examples to train on.
        optimizer: the complete optimiser, with its learning rate.
        epochs: the number of passes.
        batch_size: the number of examples in one step.
        augmentation: the augmentation of every minibatch, with a draw of its own for each image; None leaves
            the images as they are.
        drops_rest: whether examples left over after the last full minibatch of an epoch are left out of that
            epoch; else the last minibatch is filled up with examples of weight zero.
        watch: the observer of every step; None keeps no record.

    Returns:
        The trained weights, and the record of the watch.
    """
    watch = watch or Watch((), lambda record, rows, aux: record)

    def step(carry: tuple, rows: jax.Array, batch: Minibatch) -> tuple:
        params, state, record = carry
        grads, aux = jax.grad(loss, has_aux=True)(params, batch)
        record = watch.see(record, rows, aux)
        moves, state = updates.update(optimizer, grads, state, params)
        return optax.apply_updates(params, moves), state, record

    start = (params, updates.init(optimizer, params), watch.init)
    params, _, record = passes(
        step,
        start,
        key,
        examples=examples,
        epochs=epochs,
        batch_size=batch_size,
        augmentation=augmentation,
        drops_rest=drops_rest,
    )
    return params, record


def passes(
    step: Callable[[Any, jax.Array, Minibatch], Any],
    start: PyTree,
    key: jax.Array,
    *,
    examples: Examples,
    epochs: int,
    batch_size: int,
    augmentation: Augmentation | None = None,
    drops_rest: bool = False,
) -> PyTree:
    """The state of a training after a number of passes over all examples; pure.

    Args:
        step: `(state, rows [n], minibatch) -> state`, one step of the training; `rows` are the positions of
            the minibatch's examples.
        start: the state before the first step.
        key: the source of the order of each epoch and of the augmentation. Consumed.
        examples: the examples to train on.
        epochs: the number of passes, each in an order of its own.
        batch_size: the number of examples in one step.
        augmentation: see `fit`.
        drops_rest: see `fit`.

    Returns:
        The state after the last step.
    """
    count = examples.count
    size = min(batch_size, count)
    steps = count // size if drops_rest else steps_of_epoch(count, batch_size)

    def one(state: PyTree, now: tuple) -> tuple[PyTree, None]:
        rows, weights, key = now
        inputs, labels = examples.take(rows)
        if augmentation is not None:
            # A barrier: fused into the first layer, an augmentation might be computed once for each tap.
            inputs = jax.lax.optimization_barrier(augmentation.of_minibatch(key, inputs, weights))
        return step(state, rows, Minibatch(inputs, labels, weights)), None

    def epoch(state: PyTree, key: jax.Array) -> tuple[PyTree, None]:
        keys = None
        if augmentation is not None:
            key, draw_key = jax.random.split(key)
            keys = jax.random.split(draw_key, steps)
        order = jnp.resize(jax.random.permutation(key, count), (steps, size))
        return jax.lax.scan(one, state, (order, weights, keys))

    weights = _weights(examples, steps, size)
    return jax.lax.scan(epoch, start, jax.random.split(key, epochs))[0]


def _weights(examples: Examples, steps: int, size: int) -> jax.Array:
    """`[steps, size]`, the weight of each place of an epoch: zero where the last minibatch is filled up."""
    dtype = jax.eval_shape(examples.take, jax.ShapeDtypeStruct((size,), jnp.int32))[0].dtype
    weights = (jnp.arange(steps * size) < examples.count).astype(dtype).reshape(steps, size)
    return weights / weights.mean(1, keepdims=True)

"""The one loop of epochs: ordinary training on real or distilled examples, with an optional observer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ddjax import updates
from ddjax.augment import Augmentation, Mix
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


BLIND = Watch((), lambda record, rows, aux: record)
"""The observer that sees nothing."""


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


def weighted_class_loss(network: Network) -> MeanLoss:
    """The weighted mean cross-entropy of n real examples, (1/n) Σ_i w_i ℓ_i, which chunks can be taken of.

    Args:
        network: the network to train.

    Returns:
        `(params, (inputs [n, *input_shape], labels [n], weights [n])) -> (loss [], ())`.
    """

    def loss(params: Params, batch: Any) -> tuple[jax.Array, tuple[()]]:
        inputs, labels, weights = batch
        logits = network.apply(params, inputs)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return jnp.mean(weights * losses), ()

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


ValueAndAux = Callable[[Params, Any], tuple[jax.Array, PyTree]]
"""`(params, minibatch) -> (loss [], aux)`."""

Gradient = Callable[[ValueAndAux, Params, Minibatch], tuple[Params, PyTree]]
"""`(loss, params, minibatch) -> (direction, aux)`: what a step moves along, of the shapes of the weights."""


def plain_gradient(loss: ValueAndAux, params: Params, batch: Minibatch) -> tuple[Params, PyTree]:
    """The gradient of the loss, the direction of an ordinary training.

    Args:
        loss: the loss of one minibatch.
        params: the weights.
        batch: the minibatch.

    Returns:
        The gradient, and the second result of the loss.
    """
    return jax.grad(loss, has_aux=True)(params, batch)


class Places(NamedTuple):
    """The minibatches of one epoch.

    Attributes:
        rows: `[steps, size]` int32, the positions of each minibatch's examples.
        weights: `[steps, size]` float, the weight of each example.
        keys: `[steps]`, the source of each minibatch's augmentation and mixture; None without both.
    """

    rows: jax.Array
    weights: jax.Array
    keys: jax.Array | None


@dataclasses.dataclass(frozen=True)
class Passes:
    """Passes over examples in minibatches, each pass in a random order of its own.

    Attributes:
        examples: the examples.
        batch_size: the number of examples in one step.
        augmentation: the augmentation of every minibatch, with a draw of its own for each image; None leaves
            the images as they are.
        mix: the mixture of the images of every minibatch after the augmentation, for examples whose labels
            are probabilities; None for none.
        drops_rest: whether examples left over after the last full minibatch of an epoch are left out of that
            epoch; else the last minibatch is filled up with examples of weight zero.
    """

    examples: Examples
    batch_size: int
    augmentation: Augmentation | None = None
    mix: Mix | None = None
    drops_rest: bool = False

    @property
    def size(self) -> int:
        """The number of examples in one step."""
        return min(self.batch_size, self.examples.count)

    @property
    def steps(self) -> int:
        """The number of steps of an epoch."""
        count = self.examples.count
        return count // self.size if self.drops_rest else steps_of_epoch(count, self.batch_size)

    def places(self, key: jax.Array) -> Places:
        """The minibatches of an epoch, in a random order of the examples.

        Args:
            key: the source of the order, of the augmentation and of the mixture. Consumed.

        Returns:
            The minibatches.
        """
        keys = None
        if self.augmentation is not None or self.mix is not None:
            key, draw_key = jax.random.split(key)
            keys = jax.random.split(draw_key, self.steps)
        order = jnp.resize(jax.random.permutation(key, self.examples.count), (self.steps, self.size))
        return Places(order, _weights(self.examples, self.steps, self.size), keys)

    def at(self, place: Places) -> Minibatch:
        """A minibatch, augmented, then mixed.

        Args:
            place: one entry of each leaf of `places`.

        Returns:
            The minibatch.
        """
        rows, weights, key = place
        inputs, labels = self.examples.take(rows)
        if key is None:
            return Minibatch(inputs, labels, weights)
        mix_key = key
        if self.mix is not None and self.augmentation is not None:
            key, mix_key = jax.random.split(key)
        if self.augmentation is not None:
            # A barrier: fused into the first layer, an augmentation might be computed once for each tap.
            inputs = jax.lax.optimization_barrier(self.augmentation.of_minibatch(key, inputs, weights))
        if self.mix is not None:
            inputs, labels = self.mix(mix_key, inputs, labels)
        return Minibatch(inputs, labels, weights)

    def through(
        self,
        step: Callable[[Any, jax.Array, Minibatch], Any],
        state: PyTree,
        key: jax.Array,
        *,
        epochs: int,
    ) -> PyTree:
        """The state of a training after some passes over all examples; pure.

        Args:
            step: `(state, rows [size], minibatch) -> state`, one step of the training; `rows` are the
                positions of the minibatch's examples.
            state: the state to go on from, which may have seen other examples.
            key: the source of the random draws. Consumed.
            epochs: the number of passes.

        Returns:
            The state after these passes.
        """

        def one(state: PyTree, place: Places) -> tuple[PyTree, None]:
            return step(state, place.rows, self.at(place)), None

        def epoch(state: PyTree, key: jax.Array) -> tuple[PyTree, None]:
            return jax.lax.scan(one, state, self.places(key))

        return jax.lax.scan(epoch, state, jax.random.split(key, epochs))[0]


class Progress(NamedTuple):
    """A training between two steps.

    Attributes:
        params: the weights.
        state: the state of the optimiser.
        record: the record of the watch.
    """

    params: Params
    state: PyTree
    record: PyTree = ()


@dataclasses.dataclass(frozen=True)
class Descent:
    """The steps of an ordinary training: an optimiser moves the weights along the gradient of a loss.

    Attributes:
        loss: the loss of one minibatch, as in `fit`.
        optimizer: the complete optimiser, with its learning rate.
        watch: the observer of every step.
        gradient: the direction of each step; by default the gradient of the loss.
    """

    loss: ValueAndAux
    optimizer: optax.GradientTransformation
    watch: Watch = BLIND
    gradient: Gradient = plain_gradient

    def start(self, params: Params) -> Progress:
        """The training before its first step.

        Args:
            params: the initial weights θ0.

        Returns:
            The state.
        """
        return Progress(params, updates.init(self.optimizer, params), self.watch.init)

    def step(self, now: Progress, rows: jax.Array, batch: Minibatch) -> Progress:
        """The training after one step, for `Passes.through`.

        Args:
            now: the training before the step.
            rows: `[n]` int32, the positions of the minibatch's examples.
            batch: the minibatch.

        Returns:
            The training after the step.
        """
        grads, aux = self.gradient(self.loss, now.params, batch)
        record = self.watch.see(now.record, rows, aux)
        moves, state = updates.update(self.optimizer, grads, now.state, now.params)
        return Progress(optax.apply_updates(now.params, moves), state, record)


def fit(
    loss: ValueAndAux,
    params: Params,
    key: jax.Array,
    *,
    examples: Examples,
    optimizer: optax.GradientTransformation,
    epochs: int,
    batch_size: int,
    augmentation: Augmentation | None = None,
    mix: Mix | None = None,
    drops_rest: bool = False,
    watch: Watch | None = None,
) -> tuple[Params, PyTree]:
    """The weights after a number of passes over all examples, each pass in an order of its own; pure.

    Args:
        loss: `(params, minibatch) -> (loss [], aux)`: `weighted_loss`, `weighted_loss` in chunks
            (`ddjax.chunks.mean_over_chunks`), or `class_loss`.
        params: the initial weights θ0.
        key: the source of the order of each epoch, of the augmentation and of the mixture. Consumed.
        examples: the examples to train on.
        optimizer: the complete optimiser, with its learning rate.
        epochs: the number of passes.
        batch_size: the number of examples in one step.
        augmentation: the augmentation of every minibatch, with a draw of its own for each image; None leaves
            the images as they are.
        mix: the mixture of the images of every minibatch after the augmentation, for examples whose labels
            are probabilities; None for none.
        drops_rest: whether examples left over after the last full minibatch of an epoch are left out of that
            epoch; else the last minibatch is filled up with examples of weight zero.
        watch: the observer of every step; None keeps no record.

    Returns:
        The trained weights, and the record of the watch.
    """
    descent = Descent(loss, optimizer, watch or BLIND)
    passes = Passes(examples, batch_size, augmentation, mix, drops_rest)
    end = passes.through(descent.step, descent.start(params), key, epochs=epochs)
    return end.params, end.record


def _weights(examples: Examples, steps: int, size: int) -> jax.Array:
    """`[steps, size]`, the weight of each place of an epoch: zero where the last minibatch is filled up."""
    dtype = jax.eval_shape(examples.take, jax.ShapeDtypeStruct((size,), jnp.int32))[0].dtype
    weights = (jnp.arange(steps * size) < examples.count).astype(dtype).reshape(steps, size)
    return weights / weights.mean(1, keepdims=True)

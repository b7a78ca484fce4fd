"""Neural feature regression: ridge regression on features of networks that train on φ meanwhile (FRePo)."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ddjax import augment, checks, platforms, ridge, updates
from ddjax.augment import Augmentation
from ddjax.chunks import map_in_chunks
from ddjax.data import minibatch
from ddjax.facts import noted
from ddjax.methods.kernel_inducing_points import centred
from ddjax.methods.matching import EXAMPLES_PER_CHUNK
from ddjax.methods.starts import WithPool, assets_of, parted, theta, with_pool
from ddjax.networks import norms
from ddjax.networks.norms import Statistics
from ddjax.optimizers import lamb_outer
from ddjax.recipes import Regress, squared_error
from ddjax.types import (
    Batch,
    InitDistribution,
    Method,
    Network,
    Params,
    PyTree,
    RealData,
    Recipe,
    Schedule,
    start_of,
)

MOMENTUM = 0.1
"""The share of a batch norm's old statistics that is kept when a network takes a step."""


class PoolState(NamedTuple):
    """The state of a slot: a pool of P networks, one of which is used in an outer step.

    Attributes:
        params: the weights, each leaf `[P, ...]`.
        statistics: the mean and variance `[P, C]` of each batch norm, by which features are normalised;
            nothing for networks without batch norm.
        opt_state: the states of the networks' optimisers, each leaf `[P, ...]`.
        ages: `[P]` int32, the number of steps that each network has taken; they start staggered, so that the
            networks are not replaced together.
        turn: `[]` int32, the position of the network of the next outer step.
    """

    params: Params
    statistics: Statistics
    opt_state: PyTree
    ages: jax.Array
    turn: jax.Array


class FeatureInfo(NamedTuple):
    """Diagnostics of one outer step.

    Attributes:
        kernel_loss: `[]`, the squared error of the regression on the real examples.
        margin: `[]`, the mean margin of φ's labels, each at most 1/K.
        accuracy: `[]`, the percent of the real examples that the regression classifies correctly.
        age: `[]` float, the number of steps that the network had taken.
    """

    kernel_loss: jax.Array
    margin: jax.Array
    accuracy: jax.Array
    age: jax.Array


def mirrored(inputs: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Images and their mirror images, left and right exchanged, with the same labels.

    Args:
        inputs: the images, `[n, H, W, C]`.
        labels: the labels, `[n, K]`.

    Returns:
        `[2n, H, W, C]` and `[2n, K]`.
    """
    return jnp.concatenate([inputs, inputs[:, :, ::-1]]), jnp.concatenate([labels, labels])


def regression_loss(predictions: jax.Array, targets: jax.Array) -> jax.Array:
    """Half the squared error, summed over the classes: mean_i ½ Σ_k (p_ik - y_ik)².

    Args:
        predictions: the predictions p, `[n, K]`.
        targets: the labels y, `[n, K]`.

    Returns:
        `[]`.
    """
    return 0.5 * jnp.mean(jnp.sum(jnp.square(predictions - targets), -1))


def label_margin(labels: jax.Array) -> jax.Array:
    """The mean margin of labels, each counted up to 1/K: mean_j min(largest_j - second largest_j, 1/K).

    Args:
        labels: `[n, K]`, any numbers, K at least 2.

    Returns:
        `[]`; the gradient is zero for a label whose margin is above 1/K.
    """
    top, _ = jax.lax.top_k(labels, 2)
    return jnp.mean(jnp.minimum(top[:, 0] - top[:, 1], 1 / labels.shape[1]))


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class _FeatureRegression:
    """See `feature_regression`; its callables are those of a `Method`."""

    network: Network
    inits: InitDistribution
    batch_size: int
    penalty: float
    pool: int
    reset: int
    online_lr: float
    online_batch: int
    flip: bool
    margin_weight: float
    augmentation: Augmentation | None
    examples_per_chunk: int | None

    def __post_init__(self) -> None:
        checks.network_and_inits(self.network, self.inits)
        if self.network.embed is None:
            raise ValueError(
                f"feature_regression: expected a network with features; {self.network.name!r} has no "
                "embedding. Give its adapter `embed=`, or its module a method `embed`."
            )
        for name in ("batch_size", "pool", "reset", "online_batch", "examples_per_chunk"):
            if getattr(self, name) is not None:
                checks.at_least(name, getattr(self, name), 1)
        for name in ("penalty", "online_lr"):
            checks.positive(name, getattr(self, name))
        checks.at_least("margin_weight", self.margin_weight, 0, integer=False)
        checks.at_least("number of classes", self.network.num_classes, 2)
        augment.check(self.augmentation)
        if self.flip:
            _ = self.network.image_shape

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """The optimiser of the networks of the pool."""
        return optax.adam(self.online_lr)

    def sample(self, data: RealData, key: jax.Array) -> Batch | WithPool:
        """The real examples of a step, drawn uniformly. Consumes the key."""
        checks.network_fits(self.network, data)
        return with_pool(self.inits, data, minibatch(data, key, size=self.batch_size))

    def _new(self, key: jax.Array, pool: Params | None = None) -> tuple[Params, Statistics, PyTree]:
        """A network of age 0: its weights, statistics and optimiser. Consumes the key."""
        params = theta(self.inits, pool, key)
        inputs = jax.ShapeDtypeStruct((2, *self.network.input_shape), jnp.zeros(()).dtype)
        shapes = jax.eval_shape(lambda *args: norms.statistics(self.network, *args), params, inputs)
        # What batch norms of other libraries start with: they change nothing.
        start = {
            name: {"mean": jnp.zeros_like(of["mean"]), "var": jnp.ones_like(of["var"])}
            for name, of in shapes.items()
        }
        return params, start, updates.init(self.optimizer, params)

    def init(self, key: jax.Array) -> PoolState:
        """A pool of networks of staggered ages. Consumes the key."""
        turn_key, key = jax.random.split(key)
        networks = map_in_chunks(self._new, jax.random.split(key, self.pool), 1)
        ages = self.reset // self.pool * jnp.arange(self.pool, dtype=jnp.int32)
        return PoolState(*networks, ages, self._turn(turn_key))

    def _turn(self, key: jax.Array) -> jax.Array:
        return jax.random.randint(key, (), 0, self.pool, jnp.int32)

    def _distilled(self, schedule: Schedule) -> tuple[jax.Array, jax.Array]:
        inputs = schedule.inputs.reshape(-1, *schedule.inputs.shape[2:])
        return inputs, schedule.labels.reshape(len(inputs), -1)

    def _real_features(self, params: Params, inputs: jax.Array) -> jax.Array:
        """The features of real examples, a chunk at a time; nothing is differentiated."""
        embed = self.network.embed
        assert embed is not None
        whole = len(inputs)
        size = self.examples_per_chunk or (EXAMPLES_PER_CHUNK if platforms.current() == "cpu" else whole)
        count = whole // size
        full = jax.lax.map(
            lambda some: embed(params, some),
            inputs[: count * size].reshape(count, size, *inputs.shape[1:]),
        )
        parts = [full.reshape(count * size, -1)]
        if count * size < whole:
            parts.append(embed(params, inputs[count * size :]))
        return jax.lax.stop_gradient(jnp.concatenate(parts))

    def loss(
        self, schedule: Schedule, state: PoolState, batch: Batch | WithPool, key: jax.Array
    ) -> tuple[jax.Array, FeatureInfo]:
        """The error of the regression less the margin of the labels, `[]`, and the diagnostics."""
        del key
        real, _ = parted(batch)
        embed = self.network.embed
        assert embed is not None
        params, measured = jax.tree.map(lambda leaf: leaf[state.turn], (state.params, state.statistics))
        params = norms.with_statistics(params, measured)
        inputs, labels = self._distilled(schedule)
        found = self._predictions(
            params, real, *(mirrored(inputs, labels) if self.flip else (inputs, labels))
        )
        targets = centred(real.labels, labels.shape[1]).astype(found.dtype)
        value, margin = regression_loss(found, targets), label_margin(labels)
        accuracy = 100 * jnp.mean(found.argmax(-1) == real.labels, dtype=found.dtype)
        age = state.ages[state.turn].astype(found.dtype)
        return value - self.margin_weight * margin, FeatureInfo(value, margin, accuracy, age)

    def _predictions(self, params: Params, real: Batch, inputs: jax.Array, labels: jax.Array) -> jax.Array:
        """The predictions of ridge regression for the real examples, `[N, K]`."""
        embed = self.network.embed
        assert embed is not None
        own, theirs = embed(params, inputs), self._real_features(params, real.inputs)
        weights = ridge.solve(own @ own.T, labels, penalty=self.penalty)
        return ridge.predict(theirs @ own.T, weights)

    def advance(
        self, schedule: Schedule, state: PoolState, batch: Any, info: FeatureInfo, key: jax.Array
    ) -> PoolState:
        """The pool after the network in use took a step on φ, or was replaced. Consumes the key."""
        del info
        _, pool = parted(batch)
        turn_key, key = jax.random.split(key)
        own = jax.tree.map(lambda leaf: leaf[state.turn], state[:4])
        after = jax.lax.cond(
            own[3] > self.reset,
            lambda: (*self._new(key, pool), jnp.zeros((), jnp.int32)),
            lambda: self._stepped(schedule, own, key),
        )
        whole = jax.tree.map(lambda leaf, new: leaf.at[state.turn].set(new), state[:4], after)
        return PoolState(*whole, self._turn(turn_key))

    def _stepped(self, schedule: Schedule, own: tuple[Any, ...], key: jax.Array) -> tuple[Any, ...]:
        """A network after one step on φ, on all examples or on some that are drawn. Consumes the key."""
        params, measured, opt_state, age = own
        inputs, labels = self._distilled(schedule)
        rows_key, draw_key = jax.random.split(key)
        if len(inputs) > self.online_batch:
            rows = jax.random.choice(rows_key, len(inputs), (self.online_batch,), replace=False)
            inputs, labels = inputs[rows], labels[rows]
        ones = jnp.ones(len(inputs), inputs.dtype)
        if self.augmentation is not None:
            inputs = self.augmentation.of_minibatch(draw_key, inputs, ones)
        fresh = norms.statistics(self.network, params, inputs)
        measured = jax.tree.map(lambda old, new: (1 - MOMENTUM) * new + MOMENTUM * old, measured, fresh)
        grads, _ = jax.grad(squared_error(self.network), has_aux=True)(params, (inputs, labels, ones))
        moves, opt_state = updates.update(self.optimizer, grads, opt_state, params)
        return optax.apply_updates(params, moves), measured, opt_state, age + 1


@noted
def feature_regression(
    network: Network,
    inits: InitDistribution,
    *,
    batch_size: int = 1024,
    penalty: float = 1e-6,
    pool: int = 10,
    reset: int = 100,
    online_lr: float = 3e-4,
    online_batch: int = 1000,
    flip: bool = False,
    margin_weight: float = 1.0,
    augmentation: Augmentation | None = None,
    recipe: Recipe | None = None,
    examples_per_chunk: int | None = None,
) -> Method:
    """The error of ridge regression on φ in the features of a network that is trained on φ meanwhile.

        L(φ) = mean_i ½ Σ_k (p_ik - y_ik)² - w mean_j min(margin of ỹ_j, 1/K),
        p = F Fₛᵀ (Fₛ Fₛᵀ + λ tr(Fₛ Fₛᵀ)/n I)⁻¹ ỹ

    F and Fₛ are the features, the inputs of the last layer, of the real examples and of φ's. The labels y of
    real examples are one-hot rows less 1/K. φ's labels ỹ are any numbers: forms with free labels that start
    centred learn them (`forms.pixels(label_form="centred")`). The gradient passes through Fₛ and the solve,
    not through F, so that real examples need a forward pass alone, a chunk at a time.

    Each outer step uses one network of a pool, drawn uniformly. After φ has moved, the same network takes one
    step of Adam on φ by the squared error of its outputs; one older than `reset` is replaced by a new draw
    from p(θ0) instead. Batch norms normalise features by statistics of the network's own last steps, as the
    original does, and a network of age zero by none.

    Args:
        network: a network with an embedding.
        inits: the distribution p(θ0) of the weights of new networks.
        batch_size: N, the number of real examples of a step, drawn uniformly and shared by all slots.
        penalty: λ, the weight of the penalty, relative to the mean of the kernel matrix's diagonal.
        pool: P, the number of networks of each slot.
        reset: the age above which a network is replaced; ages start at the multiples of ⌊reset / P⌋.
        online_lr: the rate of Adam in the training of the pool's networks.
        online_batch: the most examples of φ in one step of this training.
        flip: whether the regression sees φ's images together with their mirror images.
        margin_weight: w, the weight of the margin; 0 leaves it out.
        augmentation: the augmentation of φ's images in the training of the pool's networks, with a draw for
            each image; None, the published choice, is none.
        recipe: the training on the result; the published one by default, `Regress()`, without augmentation.
        examples_per_chunk: the number of real examples that pass through the network at once; the result
            stays the same. By default 16 on CPU, where the activations of all would not stay in the cache,
            and all elsewhere.

    Returns:
        A method whose state is a `PoolState` and which learns no learning rates. Its outer optimiser moves
        the group "labels" at a rate of its own.

    Raises:
        ValueError: the network has no embedding, a number is out of range, or the network takes no images
            and `flip` is asked for.

    References:
        Zhou, Nezhadarya, Ba 2022, Dataset Distillation using Neural Feature Regression, arXiv 2206.00719,
        equations 3 to 5 and algorithm 1.
    """
    own = _FeatureRegression(
        network=network,
        inits=inits,
        batch_size=batch_size,
        penalty=penalty,
        pool=pool,
        reset=reset,
        online_lr=online_lr,
        online_batch=online_batch,
        flip=flip,
        margin_weight=margin_weight,
        augmentation=augmentation,
        examples_per_chunk=examples_per_chunk,
    )
    after = recipe or Regress()
    after.check(network)
    return Method(
        sample=own.sample,
        loss=own.loss,
        name="feature_regression",
        recipe=after,
        outer=lamb_outer,
        assets=assets_of(inits),
        facts=start_of(network, inits),
        init=own.init,
        advance=own.advance,
    )

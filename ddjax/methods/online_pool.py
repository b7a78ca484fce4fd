"""A pool of networks that train on φ while φ is distilled, one of them in each outer step."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ddjax import augment, checks, updates
from ddjax.augment import Augmentation
from ddjax.chunks import map_in_chunks
from ddjax.methods.starts import theta
from ddjax.networks import norms
from ddjax.networks.norms import Statistics
from ddjax.recipes import squared_error
from ddjax.types import InitDistribution, Network, Params, PyTree, Schedule

MOMENTUM = 0.1
"""The share of a batch norm's old statistics that is kept when a network takes a step."""


class PoolState(NamedTuple):
    """A pool of P networks, one of which is used in an outer step.

    Attributes:
        params: the weights, each leaf `[P, ...]`.
        statistics: the mean and variance `[P, C]` of each batch norm, by which features are normalised;
            nothing for networks without batch norm.
        opt_state: the states of the networks' optimisers, each leaf `[P, ...]`.
        ages: `[P]` int32, the number of steps that each network has taken; the first ages may be staggered,
            so that the networks are not replaced together.
        turn: `[]` int32, the position of the network of the next outer step.
    """

    params: Params
    statistics: Statistics
    opt_state: PyTree
    ages: jax.Array
    turn: jax.Array


def flat(schedule: Schedule) -> tuple[jax.Array, jax.Array]:
    """The examples of all steps of φ as one set.

    Args:
        schedule: φ as a schedule.

    Returns:
        The inputs `[n, *input_shape]` and the labels `[n, K]`.
    """
    inputs = schedule.inputs.reshape(-1, *schedule.inputs.shape[2:])
    return inputs, schedule.labels.reshape(len(inputs), -1)


def mirrored(inputs: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Images and their mirror images, left and right exchanged, with the same labels.

    Args:
        inputs: the images, `[n, H, W, C]`.
        labels: the labels, `[n, K]`.

    Returns:
        `[2n, H, W, C]` and `[2n, K]`.
    """
    return jnp.concatenate([inputs, inputs[:, :, ::-1]]), jnp.concatenate([labels, labels])


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class OnlinePool:
    """The pool's networks: how they are drawn, trained on φ, and replaced.

    Attributes:
        network: the network.
        inits: the distribution p(θ0) of the weights of new networks.
        size: P, the number of networks.
        reset: the age above which a network is replaced.
        lr: the rate of Adam in the training on φ.
        most_steps: the most steps that a network takes after an outer step; their number is drawn uniformly
            from one on.
        batch_size: the most examples of φ in one step.
        flip: whether a step sees φ's images together with their mirror images.
        staggered: whether ages start at the multiples of ⌊reset / P⌋, instead of zero.
        augmentation: the augmentation of φ's images in a step, with a draw for each image; None for none.

    Raises:
        ValueError: a number is out of range, or the network takes no images and `flip` is asked for.
    """

    network: Network
    inits: InitDistribution
    size: int
    reset: int
    lr: float
    most_steps: int = 1
    batch_size: int = 1000
    flip: bool = False
    staggered: bool = True
    augmentation: Augmentation | None = None

    def __post_init__(self) -> None:
        named = {"pool": self.size, "reset": self.reset, "online_steps": self.most_steps}
        for name, value in {**named, "online_batch": self.batch_size}.items():
            checks.at_least(name, value, 1)
        checks.positive("online_lr", self.lr)
        augment.check(self.augmentation)
        if self.flip:
            _ = self.network.image_shape

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """The optimiser of the networks."""
        return optax.adam(self.lr)

    def draw(self, key: jax.Array, pool: Params | None = None) -> tuple[Params, Statistics, PyTree]:
        """A network of age 0.

        Args:
            key: the source of the weights. Consumed.
            pool: the weights that a finite p(θ0) chooses from; None for others.

        Returns:
            The weights, the statistics that batch norms start with, and the state of the optimiser.
        """
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
        """A pool of new networks.

        Args:
            key: the source of the weights and of the first turn. Consumed.

        Returns:
            The pool.
        """
        turn_key, key = jax.random.split(key)
        params, measured, opt_state = map_in_chunks(self.draw, jax.random.split(key, self.size), 1)
        apart = self.reset // self.size if self.staggered else 0
        ages = apart * jnp.arange(self.size, dtype=jnp.int32)
        return PoolState(params, measured, opt_state, ages, self._turn(turn_key))

    def _turn(self, key: jax.Array) -> jax.Array:
        return jax.random.randint(key, (), 0, self.size, jnp.int32)

    def current(self, state: PoolState) -> Params:
        """The weights of the network in use, by whose statistics batch norms normalise.

        Args:
            state: the pool.

        Returns:
            The weights.
        """
        params, measured = jax.tree.map(lambda leaf: leaf[state.turn], (state.params, state.statistics))
        return norms.with_statistics(params, measured)

    def advance(
        self, schedule: Schedule, state: PoolState, key: jax.Array, *, pool: Params | None = None
    ) -> PoolState:
        """The pool after the network in use took its steps on φ, or was replaced.

        Args:
            schedule: φ as a schedule, after it has moved.
            state: the pool.
            key: the source of everything that is drawn. Consumed.
            pool: the weights that a finite p(θ0) chooses from; None for others.

        Returns:
            The pool, with the turn of the next outer step.
        """
        turn_key, key = jax.random.split(key)
        own = jax.tree.map(lambda leaf: leaf[state.turn], state[:4])
        after = jax.lax.cond(
            own[3] > self.reset,
            lambda: (*self.draw(key, pool), jnp.zeros((), jnp.int32)),
            lambda: self._trained(schedule, own, key),
        )
        params, measured, opt_state, ages = jax.tree.map(
            lambda leaf, new: leaf.at[state.turn].set(new), state[:4], after
        )
        return PoolState(params, measured, opt_state, ages, self._turn(turn_key))

    def _trained(self, schedule: Schedule, own: tuple[Any, ...], key: jax.Array) -> tuple[Any, ...]:
        """A network after one step on φ, or after a number that is drawn. Consumes the key."""
        if self.most_steps == 1:
            return self._stepped(schedule, own, key)
        count_key, key = jax.random.split(key)
        count = jax.random.randint(count_key, (), 1, self.most_steps + 1)

        def step(number: jax.Array, own: tuple[Any, ...]) -> tuple[Any, ...]:
            return self._stepped(schedule, own, jax.random.fold_in(key, number))

        return jax.lax.fori_loop(0, count, step, own)

    def _stepped(self, schedule: Schedule, own: tuple[Any, ...], key: jax.Array) -> tuple[Any, ...]:
        """A network after one step on φ, on all examples or on some that are drawn. Consumes the key."""
        params, measured, opt_state, age = own
        inputs, labels = flat(schedule)
        rows_key, draw_key = jax.random.split(key)
        if len(inputs) > self.batch_size:
            rows = jax.random.choice(rows_key, len(inputs), (self.batch_size,), replace=False)
            inputs, labels = inputs[rows], labels[rows]
        if self.flip:
            inputs, labels = mirrored(inputs, labels)
        ones = jnp.ones(len(inputs), inputs.dtype)
        if self.augmentation is not None:
            inputs = self.augmentation.of_minibatch(draw_key, inputs, ones)
        fresh = norms.statistics(self.network, params, inputs)
        measured = jax.tree.map(lambda old, new: (1 - MOMENTUM) * new + MOMENTUM * old, measured, fresh)
        grads, _ = jax.grad(squared_error(self.network), has_aux=True)(params, (inputs, labels, ones))
        moves, opt_state = updates.update(self.optimizer, grads, opt_state, params)
        return optax.apply_updates(params, moves), measured, opt_state, age + 1

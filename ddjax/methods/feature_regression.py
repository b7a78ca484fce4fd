"""Neural feature regression: ridge regression on features of networks that train on φ meanwhile (FRePo)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ddjax import checks, platforms, ridge
from ddjax.augment import Augmentation
from ddjax.chunks import mean_over_chunks
from ddjax.data import minibatch
from ddjax.facts import noted
from ddjax.methods.kernel_inducing_points import centred
from ddjax.methods.matching import EXAMPLES_PER_CHUNK
from ddjax.methods.online_pool import OnlinePool, PoolState, flat, mirrored
from ddjax.methods.starts import WithPool, assets_of, parted, with_pool
from ddjax.optimizers import lamb_outer
from ddjax.recipes import Regress
from ddjax.types import (
    Batch,
    InitDistribution,
    Method,
    Network,
    Params,
    RealData,
    Recipe,
    Schedule,
    start_of,
)


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
    """See `feature_regression`; its callables are those of a `Method`.

    Attributes:
        networks: the pool of networks.
        embed: the embedding of the network, `(params, inputs [n, ...]) -> [n, F]`.
        batch_size: N, the number of real examples of a step.
        penalty: the relative weight of the penalty.
        flip: whether the regression sees mirror images too.
        margin_weight: the weight of the labels' margin.
        examples_per_chunk: the number of real examples that are embedded at once; None for the number that is
            fastest on this backend.
    """

    networks: OnlinePool
    embed: Callable[[Params, jax.Array], jax.Array]
    batch_size: int
    penalty: float
    flip: bool
    margin_weight: float
    examples_per_chunk: int | None

    def __post_init__(self) -> None:
        for name in ("batch_size", "examples_per_chunk"):
            if getattr(self, name) is not None:
                checks.at_least(name, getattr(self, name), 1)
        checks.positive("penalty", self.penalty)
        checks.at_least("margin_weight", self.margin_weight, 0, integer=False)
        checks.at_least("number of classes", self.networks.network.num_classes, 2)
        if self.flip:
            _ = self.networks.network.image_shape

    @property
    def chunk(self) -> int:
        """The number of real examples that pass through the network at once."""
        return self.examples_per_chunk or (
            EXAMPLES_PER_CHUNK if platforms.current() == "cpu" else self.batch_size
        )

    def sample(self, data: RealData, key: jax.Array) -> Batch | WithPool:
        """The real examples of a step, drawn uniformly. Consumes the key."""
        checks.network_fits(self.networks.network, data)
        return with_pool(self.networks.inits, data, minibatch(data, key, size=self.batch_size))

    def loss(
        self, schedule: Schedule, state: PoolState, batch: Batch | WithPool, key: jax.Array
    ) -> tuple[jax.Array, FeatureInfo]:
        """The error of the regression less the margin of the labels, `[]`, and the diagnostics."""
        del key
        real, _ = parted(batch)
        params = self.networks.current(state)
        inputs, labels = flat(schedule)
        margin = label_margin(labels)
        if self.flip:
            inputs, labels = mirrored(inputs, labels)
        own = self.embed(params, inputs)
        weights = ridge.solve(ridge.products(own, own), labels, penalty=self.penalty)

        def of_some(fitted: tuple[jax.Array, jax.Array], some: Batch) -> tuple[jax.Array, jax.Array]:
            own, weights = fitted
            theirs = jax.lax.stop_gradient(self.embed(params, some.inputs))
            found = ridge.predict(ridge.products(theirs, own), weights)
            targets = centred(some.labels, labels.shape[1]).astype(found.dtype)
            right = found.argmax(-1) == some.labels
            return regression_loss(found, targets), 100 * jnp.mean(right, dtype=found.dtype)

        value, accuracy = mean_over_chunks(of_some, size=self.chunk)((own, weights), real)
        age = state.ages[state.turn].astype(value.dtype)
        return value - self.margin_weight * margin, FeatureInfo(value, margin, accuracy, age)

    def advance(
        self, schedule: Schedule, state: PoolState, batch: Any, info: FeatureInfo, key: jax.Array
    ) -> PoolState:
        """The pool after the network in use took a step on φ, or was replaced. Consumes the key."""
        del info
        return self.networks.advance(schedule, state, key, pool=parted(batch)[1])


def embedding_of(network: Network, method: str) -> Callable[[Params, jax.Array], jax.Array]:
    """The embedding of a network.

    Args:
        network: the network.
        method: the name of the method that needs it, for the message.

    Returns:
        `(params, inputs [n, ...]) -> [n, F]`.

    Raises:
        ValueError: the network has no embedding.
    """
    if network.embed is None:
        raise ValueError(
            f"{method}: expected a network with features; {network.name!r} has no embedding. Give its "
            "adapter `embed=`, or its module a method `embed`."
        )
    return network.embed


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
    checks.network_and_inits(network, inits)
    networks = OnlinePool(
        network=network,
        inits=inits,
        size=pool,
        reset=reset,
        lr=online_lr,
        batch_size=online_batch,
        augmentation=augmentation,
    )
    own = _FeatureRegression(
        networks=networks,
        embed=embedding_of(network, "feature_regression"),
        batch_size=batch_size,
        penalty=penalty,
        flip=flip,
        margin_weight=margin_weight,
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
        init=networks.init,
        advance=own.advance,
    )

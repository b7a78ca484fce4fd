"""Held-out evaluation: train unseen initial weights on φ, test on real data."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddjax import checks
from ddjax.chunks import map_in_chunks
from ddjax.data import Split
from ddjax.inits import draw
from ddjax.types import Distilled, Encoding, InitDistribution, Network, Params, Recipe, Schedule

TEST_CHUNKS = {"cpu": 100}
"""Images that a network classifies at once, by backend. Seconds for 10,000 on two CPU cores, in pieces of 50,
100 and 1,000: LeNet 0.29, 0.19, 0.27; ConvNet-3 4.1, 5.6, 6.2; AlexCifarNet 2.2, 2.5, 3.3; an MLP 0.02, 0.01,
0.01."""

OTHER_TEST_CHUNK = 1000
"""The same elsewhere."""


class Evaluation(NamedTuple):
    """Accuracy over a number of initial weights.

    Attributes:
        mean: percent.
        std: percent; of the population, that is divided by n.
        values: `[num_inits]` float64, percent, one for each initial weights.
    """

    mean: float
    std: float
    values: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray | jax.Array) -> Evaluation:
        """Mean and population standard deviation of `values` `[n]`, in percent."""
        values = np.asarray(values, np.float64)
        return cls(float(values.mean()), float(values.std()), values)

    def as_dict(self) -> dict[str, object]:
        """For JSON: mean, std, n, values."""
        return {"mean": self.mean, "std": self.std, "n": len(self.values), "values": self.values.tolist()}


class Chunks(NamedTuple):
    """A split cut into equal pieces, the last one filled up.

    Attributes:
        raw: `[n / chunk, chunk, *raw_shape]`, examples as they are stored.
        labels: `[n / chunk, chunk]` int32; -1 where there is no example.
        size: `[]` int32, n.
        encoding: what networks see of `raw`.
    """

    raw: jax.Array
    labels: jax.Array
    size: jax.Array
    encoding: Encoding


def chunks(split: Split, *, size: int | None = None) -> Chunks:
    """A split on the device, in pieces of one length.

    Args:
        split: real examples.
        size: most examples of a piece; by default what is fastest on the backend.

    Returns:
        The pieces, with the split's encoding.
    """
    size = size or TEST_CHUNKS.get(jax.default_backend(), OTHER_TEST_CHUNK)
    count = -(-len(split) // size)
    length = -(-len(split) // count)
    padding = count * length - len(split)
    raw = np.concatenate([split.raw, np.zeros((padding, *split.raw.shape[1:]), split.raw.dtype)])
    labels = np.concatenate([split.labels, np.full(padding, -1, np.int32)])
    return Chunks(
        jnp.asarray(raw.reshape(count, length, *raw.shape[1:])),
        jnp.asarray(labels.reshape(count, length)),
        jnp.int32(len(split)),
        jax.tree.map(jnp.asarray, split.encoding),
    )


def _accuracy(predict: Callable[[jax.Array], jax.Array], data: Chunks) -> jax.Array:
    """Percent of a split whose largest score is that of the true class."""

    def correct(piece: tuple[jax.Array, jax.Array]) -> jax.Array:
        raw, labels = piece
        return jnp.sum(jnp.argmax(predict(data.encoding.encode(raw)), -1) == labels)

    total = jnp.sum(jax.lax.map(correct, (data.raw, data.labels)))
    return 100.0 * total.astype(float) / data.size


@functools.partial(jax.jit, static_argnames=("network", "inits", "recipe", "runs_per_chunk"))
def _accuracies(
    schedules: Schedule,
    runs: tuple[jax.Array, jax.Array, jax.Array | None],
    data: Chunks,
    pool: Params | None,
    *,
    network: Network,
    inits: InitDistribution,
    recipe: Recipe,
    runs_per_chunk: int,
) -> jax.Array:
    """`Judge.accuracies`, compiled; the pool is an argument, so that it is no constant of the program."""

    def start(key: jax.Array, member: jax.Array | None) -> Params:
        if pool is None:
            return inits.sample(key)
        return draw(pool, key) if member is None else jax.tree.map(lambda leaf: leaf[member], pool)

    def one(index: jax.Array, key: jax.Array, member: jax.Array | None) -> jax.Array:
        schedule = jax.tree.map(lambda leaf: leaf[index], schedules)
        init_key, train_key = jax.random.split(key)
        fitted = recipe.fit(network, start(init_key, member), schedule, train_key)
        return _accuracy(fitted.predict, data)

    return map_in_chunks(lambda run: one(*run), runs, runs_per_chunk)


@functools.partial(jax.jit, static_argnames="network")
def _untrained(params: Params, data: Chunks, *, network: Network) -> jax.Array:
    return jax.lax.map(lambda one: _accuracy(lambda x: network.apply(one, x), data), params)


@dataclasses.dataclass(frozen=True, eq=False)
class Judge:
    """Networks trained on φ and tested on real data: validation, final scores, baselines, tables, searches.

    Attributes:
        network: the network that is trained.
        inits: p(θ0).
        recipe: how the network is trained on φ.
        split: the real examples to test on, with their encoding; copied to the device once.
        runs_per_chunk: trainings that are vmapped.

    Raises:
        ValueError: parts that do not fit each other, or a count below one.
    """

    network: Network
    inits: InitDistribution
    recipe: Recipe
    split: Split
    runs_per_chunk: int = 1

    def __post_init__(self) -> None:
        checks.network_and_inits(self.network, self.inits)
        checks.kind("recipe", self.recipe, Recipe, remedy="Give ddjax.Recipe(...).")
        self.recipe.check(self.network)
        check_split(self.split, self.network)
        checks.at_least("runs_per_chunk", self.runs_per_chunk, 1)

    @functools.cached_property
    def pieces(self) -> Chunks:
        """The split on the device."""
        return chunks(self.split)

    def accuracies(
        self,
        schedules: Sequence[Schedule],
        which: jax.Array,
        keys: jax.Array,
        *,
        members: jax.Array | None = None,
    ) -> jax.Array:
        """Many trainings and tests in one compiled call.

        Args:
            schedules: one or more, of the same shapes.
            which: `[R]` int32, the schedule that each run trains on.
            keys: `[R]`, one for each run's θ0 and its recipe. Consumed.
            members: `[R]` int32, the member of the pool that each run starts from, for a p(θ0) that has one;
                by default each run draws its own.

        Returns:
            `[R]`, percent.
        """
        return _accuracies(
            jax.tree.map(lambda *leaves: jnp.stack(leaves), *schedules),
            (which, keys, None if self.inits.pool is None else members),
            self.pieces,
            self.inits.pool,
            network=self.network,
            inits=self.inits,
            recipe=self.recipe,
            runs_per_chunk=self.runs_per_chunk,
        )

    def score(self, schedule: Schedule, *, key: jax.Array, num_inits: int) -> jax.Array:
        """The accuracies of networks trained on one schedule; the same key is the same θ0s.

        Args:
            schedule: φ unfolded.
            key: the source of the initial weights. Consumed.
            num_inits: the number of initial weights; under a recipe that draws nothing a fixed p(θ0) has
                only one, a pool its members, each of which comes once and in their order.

        Returns:
            `[num_inits]`, percent.

        Raises:
            ValueError: a count below one.
        """
        checks.prng_key("key", key)
        checks.at_least("num_inits", num_inits, 1)
        different = None if self.recipe.is_random else self.inits.size
        count = min(num_inits, different or num_inits)
        members = jnp.arange(count, dtype=jnp.int32) % (self.inits.size or count)
        which = jnp.zeros(count, jnp.int32)
        return self.accuracies([schedule], which, jax.random.split(key, count), members=members)

    def untrained(self, params: Params) -> jax.Array:
        """The accuracies of networks as they are, without any training.

        Args:
            params: the weights of n networks, each leaf `[n, ...]`.

        Returns:
            `[n]`, percent.
        """
        return _untrained(params, self.pieces, network=self.network)


def check_fits(distilled: Distilled, network: Network) -> None:
    """Refuse a network that cannot train on φ.

    Raises:
        ValueError: no φ or no network; another shape of inputs or number of classes; no learning rates where
            the recipe needs them; a recipe that the network cannot be trained by.
    """
    checks.kind("distilled", distilled, Distilled, remedy="Give ddjax.artifact.load(path), or run.distilled.")
    checks.kind("network", network, Network, remedy="Build it with ddjax.networks.")
    shapes = jax.eval_shape(lambda: distilled.schedule)
    checks.fits(
        network,
        tuple(shapes.inputs.shape[2:]),
        shapes.labels.shape[2],
        remedy="Build the network for the distilled inputs and labels.",
    )
    if distilled.recipe.needs_lrs and shapes.lrs is None:
        raise ValueError(
            "recipe: expected learning rates for a schedule; φ has none. Give recipe=Recipe('train')."
        )
    distilled.recipe.check(network)


def check_split(split: Split, network: Network) -> None:
    """Refuse test images that a network cannot classify.

    Raises:
        ValueError: no split, or images of another shape or of more classes than the network's.
    """
    checks.kind("split", split, Split, remedy="Give data.test or data.validation.")
    checks.same_inputs("the split", split.input_shape, network)
    if split.num_classes > network.num_classes:
        raise ValueError(
            f"the split: expected at most the {network.num_classes} classes of {network.name}; got "
            f"{split.num_classes}. Test on the data that φ was distilled from."
        )


def _check_draws(inits: InitDistribution, key: jax.Array) -> None:
    checks.kind("inits", inits, InitDistribution, remedy="Build it with ddjax.inits.")
    checks.prng_key("key", key)


def train(distilled: Distilled, network: Network, inits: InitDistribution, *, key: jax.Array) -> Params:
    """Train one network on φ.

    Args:
        distilled: φ; its recipe says how.
        network: to train.
        inits: p(θ0).
        key: draws θ0, the order of images and their augmentation. Consumed.

    Returns:
        The trained weights, for `network.apply`.

    Raises:
        ValueError: the network does not fit φ.
    """
    check_fits(distilled, network)
    _check_draws(inits, key)

    @jax.jit
    def run(schedule: Schedule, key: jax.Array) -> Params:
        init_key, train_key = jax.random.split(key)
        return distilled.recipe.fit(network, inits.sample(init_key), schedule, train_key).params

    return run(distilled.schedule, key)


def evaluate(
    distilled: Distilled,
    network: Network,
    inits: InitDistribution,
    split: Split,
    *,
    key: jax.Array,
    num_inits: int = 20,
    runs_per_chunk: int = 1,
) -> Evaluation:
    """Accuracy of networks trained on φ from initial weights that the distillation never saw.

    Args:
        distilled: φ; its recipe says how to train, its encoding is what the networks see of the test data.
        network: the network to train; any that fits, not only the one φ was distilled with.
        inits: p(θ0).
        split: real examples, e.g. `data.test`.
        key: the source of the initial weights. Consumed.
        num_inits: the number of initial weights; a fixed p(θ0) has only one, a pool its members.
        runs_per_chunk: trainings that are vmapped.

    Returns:
        Mean, population standard deviation and every value, in percent.

    Raises:
        ValueError: the network does not fit φ or the split, or a count is below one.
    """
    check_fits(distilled, network)
    _check_draws(inits, key)
    checks.kind("split", split, Split, remedy="Give data.test or data.validation.")
    own = dataclasses.replace(split, encoding=jax.tree.map(np.asarray, distilled.encoding))
    judge = Judge(network, inits, distilled.recipe, own, runs_per_chunk)
    return Evaluation.of(judge.score(distilled.schedule, key=key, num_inits=num_inits))

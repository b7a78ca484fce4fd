"""Held-out evaluation: train unseen initial weights on φ, test on real data."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ddjax import augment, checks
from ddjax.chunks import map_in_chunks
from ddjax.data import Split, normalise
from ddjax.inits import draw
from ddjax.networks import norms
from ddjax.training import steps_of_epoch, train_epochs, weighted_loss
from ddjax.types import Distilled, InitDistribution, Network, Params, Recipe, Schedule
from ddjax.unroll import OPTIMIZERS, cross_entropy, unroll

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
        images: `[n / chunk, chunk, H, W, C]` uint8.
        labels: `[n / chunk, chunk]` int32; -1 where there is no image.
        size: `[]` int32, n.
    """

    images: jax.Array
    labels: jax.Array
    size: jax.Array


def chunks(split: Split, *, size: int | None = None) -> Chunks:
    """Cut a split into pieces of at most `size` images, all of one length; by default by backend."""
    size = size or TEST_CHUNKS.get(jax.default_backend(), OTHER_TEST_CHUNK)
    count = -(-len(split) // size)
    length = -(-len(split) // count)
    padding = count * length - len(split)
    images = np.concatenate([split.images, np.zeros((padding, *split.images.shape[1:]), np.uint8)])
    labels = np.concatenate([split.labels, np.full(padding, -1, np.int32)])
    return Chunks(
        jnp.asarray(images.reshape(count, length, *images.shape[1:])),
        jnp.asarray(labels.reshape(count, length)),
        jnp.int32(len(split)),
    )


def _train(recipe: Recipe, network: Network, params: Params, schedule: Schedule, key: jax.Array) -> Params:
    """SGD with momentum and weight decay, whose rate falls to a tenth at half of the epochs."""
    num_images = schedule.inputs.shape[0] * schedule.inputs.shape[1]
    steps = steps_of_epoch(num_images, recipe.batch_size)
    rate = optax.piecewise_constant_schedule(recipe.lr, {steps * (recipe.epochs // 2): 0.1})
    optimizer = optax.chain(
        optax.add_decayed_weights(recipe.weight_decay), optax.sgd(rate, momentum=recipe.momentum)
    )
    return train_epochs(
        weighted_loss(network),
        params,
        schedule,
        key,
        optimizer=optimizer,
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        augmentation=augment.of_recipe(recipe, network.image_shape),
    )


def train_params(
    recipe: Recipe, network: Network, params: Params, schedule: Schedule, *, key: jax.Array
) -> Params:
    """A network's weights after training on φ as its recipe says; pure, for use under `jit`.

    Args:
        recipe: `schedule` replays the S·E steps; `train` trains in epochs.
        network: to train.
        params: θ0.
        schedule: φ unfolded.
        key: orders the epochs of `train`, and draws their augmentation. Consumed.

    Returns:
        The trained weights; with the statistics of φ's images where the network has batch norms.
    """
    if recipe.kind == "train":
        trained = _train(recipe, network, params, schedule, key)
    else:
        optimizer = OPTIMIZERS[recipe.optimizer]
        trained, _ = unroll(cross_entropy(network.apply), params, schedule, optimizer=optimizer)
    if not norms.has_batch_norm(network):
        return trained
    return norms.calibrate(network, trained, schedule.inputs.reshape(-1, *network.image_shape))


def _accuracy(network: Network, params: Params, data: Chunks, mean: jax.Array, std: jax.Array) -> jax.Array:
    """Percent of a split that a network classifies correctly."""

    def correct(piece: tuple[jax.Array, jax.Array]) -> jax.Array:
        images, labels = piece
        logits = network.apply(params, normalise(images, mean, std))
        return jnp.sum(jnp.argmax(logits, -1) == labels)

    total = jnp.sum(jax.lax.map(correct, (data.images, data.labels)))
    return 100.0 * total.astype(float) / data.size


def accuracies(
    schedules: Sequence[Schedule],
    which: jax.Array,
    keys: jax.Array,
    data: Chunks,
    *,
    mean: jax.Array,
    std: jax.Array,
    network: Network,
    inits: InitDistribution,
    recipe: Recipe,
    runs_per_chunk: int = 1,
    members: jax.Array | None = None,
) -> jax.Array:
    """Many trainings and tests in one compiled call.

    Args:
        schedules: one or more, of the same shapes.
        which: `[R]` int32, the schedule that each run trains on.
        keys: `[R]`, one for each run's θ0 and order of images. Consumed.
        data: to test on.
        mean: `[C]`, that normalises the test images.
        std: `[C]`.
        network: to train.
        inits: p(θ0).
        recipe: how to train.
        runs_per_chunk: runs that are vmapped.
        members: `[R]` int32, the member of the pool that each run starts from, for a p(θ0) that has one; by
            default each run draws its own.

    Returns:
        `[R]`, percent.
    """
    return _accuracies(
        jax.tree.map(lambda *leaves: jnp.stack(leaves), *schedules),
        (which, keys, None if inits.pool is None else members),
        data,
        inits.pool,
        mean=mean,
        std=std,
        network=network,
        inits=inits,
        recipe=recipe,
        runs_per_chunk=runs_per_chunk,
    )


@functools.partial(jax.jit, static_argnames=("network", "inits", "recipe", "runs_per_chunk"))
def _accuracies(
    schedules: Schedule,
    runs: tuple[jax.Array, jax.Array, jax.Array | None],
    data: Chunks,
    pool: Params | None,
    *,
    mean: jax.Array,
    std: jax.Array,
    network: Network,
    inits: InitDistribution,
    recipe: Recipe,
    runs_per_chunk: int,
) -> jax.Array:
    """`accuracies`, compiled; the pool is an argument, so that it is no constant of the program."""

    def start(key: jax.Array, member: jax.Array | None) -> Params:
        if pool is None:
            return inits.sample(key)
        return draw(pool, key) if member is None else jax.tree.map(lambda leaf: leaf[member], pool)

    def one(index: jax.Array, key: jax.Array, member: jax.Array | None) -> jax.Array:
        schedule = jax.tree.map(lambda leaf: leaf[index], schedules)
        init_key, train_key = jax.random.split(key)
        params = train_params(recipe, network, start(init_key, member), schedule, key=train_key)
        return _accuracy(network, params, data, mean, std)

    return map_in_chunks(lambda run: one(*run), runs, runs_per_chunk)


@functools.partial(jax.jit, static_argnames="network")
def accuracies_as_they_are(
    params: Params, data: Chunks, *, mean: jax.Array, std: jax.Array, network: Network
) -> jax.Array:
    """Percent that each of n networks classifies correctly without any training.

    Args:
        params: each leaf `[n, ...]`.
        data: to test on.
        mean: `[C]`, that normalises the images.
        std: `[C]`.
        network: theirs.

    Returns:
        `[n]`, percent.
    """
    return jax.lax.map(lambda one: _accuracy(network, one, data, mean, std), params)


def check_fits(distilled: Distilled, network: Network) -> None:
    """Refuse a network that cannot train on φ.

    Raises:
        ValueError: no φ or no network; another image shape or number of classes; a `schedule` recipe without
            learning rates; a recipe whose augmentation is unknown.
    """
    checks.kind("distilled", distilled, Distilled, remedy="Give ddjax.artifact.load(path), or run.distilled.")
    checks.kind("network", network, Network, remedy="Build it with ddjax.networks.")
    shapes = jax.eval_shape(lambda: distilled.schedule)
    checks.equal(
        f"{network.name}'s image shape (H, W, C)",
        tuple(network.image_shape),
        tuple(shapes.inputs.shape[2:]),
        remedy="Build the network for the distilled images.",
    )
    checks.equal(
        f"{network.name}'s number of classes",
        network.num_classes,
        shapes.labels.shape[2],
        remedy="Build the network for the distilled labels.",
    )
    if distilled.recipe.kind == "schedule" and shapes.lrs is None:
        raise ValueError(
            "recipe: expected learning rates for a schedule; φ has none. Give recipe=Recipe('train')."
        )
    augment.of_recipe(distilled.recipe, network.image_shape)


def check_split(split: Split, network: Network) -> None:
    """Refuse test images that a network cannot classify.

    Raises:
        ValueError: no split, or images of another shape or of more classes than the network's.
    """
    checks.kind("split", split, Split, remedy="Give data.test or data.validation.")
    checks.equal(
        "the split's image shape (H, W, C)",
        tuple(split.images.shape[1:]),
        tuple(network.image_shape),
        remedy=f"Test {network.name} on images of the shape that it was built for.",
    )
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
        return train_params(distilled.recipe, network, inits.sample(init_key), schedule, key=train_key)

    return run(distilled.schedule, key)


def scorer(
    network: Network,
    inits: InitDistribution,
    split: Split,
    recipe: Recipe,
    *,
    mean: np.ndarray | jax.Array,
    std: np.ndarray | jax.Array,
    key: jax.Array,
    num_inits: int,
    runs_per_chunk: int = 1,
) -> Callable[[Schedule], jax.Array]:
    """A function from a schedule to the accuracies of networks trained on it, always from the same θ0s.

    Args:
        network: to train.
        inits: p(θ0).
        split: to test on; copied to the device here, once.
        recipe: how to train.
        mean: `[C]`, that normalises the test images.
        std: `[C]`.
        key: draws the initial weights. Consumed.
        num_inits: how many; under a `schedule` recipe a fixed p(θ0) has only one, a pool its members, each
            of which comes once and in their order.
        runs_per_chunk: trainings that are vmapped.

    Returns:
        `schedule -> [num_inits]`, percent.

    Raises:
        ValueError: the split does not fit the network, a count is below one, or the recipe's augmentation is
            unknown.
    """
    checks.kind("network", network, Network, remedy="Build it with ddjax.networks.")
    checks.kind("recipe", recipe, Recipe, remedy="Give ddjax.Recipe(...).")
    augment.of_recipe(recipe, network.image_shape)
    _check_draws(inits, key)
    check_split(split, network)
    checks.at_least("num_inits", num_inits, 1)
    checks.at_least("runs_per_chunk", runs_per_chunk, 1)
    different = inits.size if recipe.kind == "schedule" else None
    count = min(num_inits, different or num_inits)
    members = jnp.arange(count, dtype=jnp.int32) % (inits.size or count)
    keys, pieces = jax.random.split(key, count), chunks(split)

    def score(schedule: Schedule) -> jax.Array:
        return accuracies(
            [schedule],
            jnp.zeros(count, jnp.int32),
            keys,
            pieces,
            mean=jnp.asarray(mean),
            std=jnp.asarray(std),
            network=network,
            inits=inits,
            recipe=recipe,
            runs_per_chunk=runs_per_chunk,
            members=members,
        )

    return score


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
        distilled: φ; its recipe says how to train, its mean and std normalise the test images.
        network: to train; any that fits, not only the one φ was distilled with.
        inits: p(θ0).
        split: real images, e.g. `data.test`.
        key: draws the initial weights. Consumed.
        num_inits: how many; a fixed p(θ0) has only one, a pool its members.
        runs_per_chunk: how many are trained at once.

    Returns:
        Mean, population standard deviation and every value, in percent.

    Raises:
        ValueError: the network does not fit φ or the split, or a count is below one.
    """
    check_fits(distilled, network)
    score = scorer(
        network,
        inits,
        split,
        distilled.recipe,
        mean=distilled.mean,
        std=distilled.std,
        key=key,
        num_inits=num_inits,
        runs_per_chunk=runs_per_chunk,
    )
    return Evaluation.of(score(distilled.schedule))

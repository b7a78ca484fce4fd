"""Held-out evaluation: train unseen initial weights on φ, test on real data."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddjax import checks, encodings, platforms
from ddjax.brief import Brief
from ddjax.chunks import map_in_chunks
from ddjax.data import Split
from ddjax.data.device import ahead
from ddjax.inits import draw
from ddjax.progress import Progress, is_watched
from ddjax.recipes import Counting, counting
from ddjax.types import Distilled, Encoding, InitDistribution, Network, Params, Recipe, Schedule

TEST_CHUNKS = {"cpu": 100}
"""The number of images that a network classifies at once, by backend. Seconds for 10,000 on two CPU cores, in
pieces of 50, 100 and 1,000: LeNet 0.29, 0.19, 0.27; ConvNet-3 4.1, 5.6, 6.2; AlexCifarNet 2.2, 2.5, 3.3; an
MLP 0.02, 0.01, 0.01."""

OTHER_TEST_CHUNK = 1000
"""The number of images that networks classify at once, on other backends, all networks counted together. The
activations of 1,000 images of 32×32 pixels in a layer of 128 channels take 0.5 GB; those of 20 networks would
take 10 GB."""

SHORTEST_TEST_CHUNK = 100
"""The number of images that each of many networks classifies at once at least, on other backends."""


_PATIENCE = 2.0
"""The seconds of scoring without a word."""


class Outcomes(NamedTuple):
    """The outcomes of trained and tested networks.

    Attributes:
        percent: `[R]` float64, the accuracy of each network: 100 · (examples classified correctly) /
            (examples), rounded once; 0 for a network that is not finite.
        finite: `[R]` bool, whether all weights of the network and all its scores on the examples are finite.
    """

    percent: np.ndarray
    finite: np.ndarray


class Evaluation(NamedTuple):
    """Accuracy over a number of initial weights.

    Attributes:
        mean: the mean accuracy, in percent.
        std: the standard deviation of the population (the sum of squares is divided by n), in percent.
        values: `[num_inits]` float64, the accuracy for each initial weights, in percent; 0 where the trained
            network is not finite.
        diverged: the number of networks that are not finite.
    """

    mean: float
    std: float
    values: np.ndarray
    diverged: int = 0

    @classmethod
    def of(cls, values: Outcomes | np.ndarray | jax.Array) -> Evaluation:
        """Mean and population standard deviation of some accuracies.

        Args:
            values: the outcomes of networks, or `[n]`, their accuracies in percent, which count as those of
                diverged networks where they are not finite.

        Returns:
            The evaluation that holds them.
        """
        if not isinstance(values, Outcomes):
            percent = np.asarray(values, np.float64)
            values = Outcomes(np.where(np.isfinite(percent), percent, 0.0), np.isfinite(percent))
        percent, finite = values
        return cls(float(percent.mean()), float(percent.std()), percent, int(np.sum(~finite)))

    @property
    def all_diverged(self) -> bool:
        """Whether no network is finite, so that the score says nothing and must choose nothing."""
        return self.diverged == len(self.values)

    @classmethod
    def pooled(cls, scores: Sequence[Mapping[str, Any]]) -> Evaluation:
        """Several scores as one.

        Args:
            scores: scores as `as_dict` returns them.

        Returns:
            The score over all their values.
        """
        whole = cls.of(np.concatenate([score["values"] for score in scores]))
        return whole._replace(diverged=sum(score.get("diverged", 0) for score in scores))

    def as_dict(self) -> dict[str, object]:
        """The evaluation as a dictionary for JSON, with the keys mean, std, n, values and diverged."""
        score = {"mean": self.mean, "std": self.std, "n": len(self.values), "values": self.values.tolist()}
        return {**score, "diverged": self.diverged}


class Chunks(NamedTuple):
    """A split cut into equal pieces; the last piece is filled up.

    Attributes:
        raw: `[n / chunk, chunk, *raw_shape]`, the examples as they are stored.
        labels: `[n / chunk, chunk]` int32, the classes; -1 in places that hold no example.
        size: `[]` int32, the number n of examples.
        encoding: the encoding that makes network inputs of `raw`.
    """

    raw: jax.Array
    labels: jax.Array
    size: jax.Array
    encoding: Encoding


def chunks(split: Split, *, size: int | None = None) -> Chunks:
    """A split on the device, in pieces of one length.

    Args:
        split: the real examples.
        size: the most examples of a piece; by default the fastest number on the backend.

    Returns:
        The pieces, with the split's encoding, see `ddjax.data.device.ahead`.
    """
    size = size or TEST_CHUNKS.get(platforms.current(), OTHER_TEST_CHUNK)
    count = -(-len(split) // size)
    length = -(-len(split) // count)
    padding = count * length - len(split)
    whole, encoding = ahead(split)
    raw = np.concatenate([whole, np.zeros((padding, *whole.shape[1:]), whole.dtype)])
    labels = np.concatenate([split.labels, np.full(padding, -1, np.int32)])
    return Chunks(
        jnp.asarray(raw.reshape(count, length, *raw.shape[1:])),
        jnp.asarray(labels.reshape(count, length)),
        jnp.int32(len(split)),
        jax.tree.map(jnp.asarray, encoding),
    )


class _Tested(NamedTuple):
    """What the test of a network finds: `[]` int32, the examples classified correctly; `[]` bool."""

    correct: jax.Array
    finite: jax.Array


def _tested(params: Params, predict: Callable[[jax.Array], jax.Array], data: Chunks) -> _Tested:
    """The number of examples whose largest score is that of the true class, and whether all is finite.

    Of scores that are NaN the first is the largest: without the second answer, a diverged network would be as
    good as the share of class 0.
    """

    def piece(part: tuple[jax.Array, jax.Array]) -> _Tested:
        raw, labels = part
        scores = predict(data.encoding.encode(raw))
        is_finite = jnp.isfinite(scores).all(-1) | (labels < 0)
        return _Tested(
            jnp.sum(jnp.argmax(scores, -1).astype(labels.dtype) == labels, dtype=jnp.int32), is_finite.all()
        )

    correct, finite = jax.lax.map(piece, (data.raw, data.labels))
    sound = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(params)]
    return _Tested(jnp.sum(correct, dtype=jnp.int32), jnp.stack([finite.all(), *sound]).all())


def _outcomes(tested: _Tested, data: Chunks) -> Outcomes:
    """The outcomes of networks from their counts, which are exact however they were computed."""
    correct, finite = np.asarray(tested.correct, np.float64), np.asarray(tested.finite)
    return Outcomes(np.where(finite, 100.0 * correct / int(data.size), 0.0), finite)


@functools.partial(jax.jit, static_argnames=("network", "inits", "recipe", "count"))
def _accuracies(
    schedules: Schedule,
    runs: tuple[jax.Array, jax.Array, jax.Array | None],
    first: jax.Array,
    data: Chunks,
    pool: Params | None,
    *,
    network: Network,
    inits: InitDistribution,
    recipe: Recipe,
    count: int,
) -> _Tested:
    """The tests of `count` runs from the first one on, vmapped.

    The pool is an argument, so as not to be a constant of the compiled program.
    """

    def start(key: jax.Array, member: jax.Array | None) -> Params:
        if pool is None:
            return inits.sample(key)
        return draw(pool, key) if member is None else jax.tree.map(lambda leaf: leaf[member], pool)

    def one(index: jax.Array, key: jax.Array, member: jax.Array | None) -> _Tested:
        schedule = jax.tree.map(lambda leaf: leaf[index], schedules)
        init_key, train_key = jax.random.split(key)
        fitted = recipe.fit(network, start(init_key, member), schedule, train_key)
        return _tested(fitted.params, fitted.predict, data)

    some = jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, first, count), runs)
    return map_in_chunks(lambda run: one(*run), some, count)


@functools.partial(jax.jit, static_argnames="network")
def _untrained(params: Params, data: Chunks, *, network: Network) -> _Tested:
    return jax.lax.map(lambda one: _tested(one, lambda x: network.apply(one, x), data), params)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Judge(Brief):
    """Trains networks on φ and tests them on real data, for validation, final scores, baselines and searches.

    Attributes:
        network: the network to train.
        inits: the distribution of initial weights, p(θ0).
        recipe: the recipe by which the network is trained on φ.
        split: the real examples to test on, with their encoding; copied to the device once.
        runs_per_chunk: the number of trainings that are vmapped.
        progress: whether a line on stderr shows how many networks are tested, where this takes longer than a
            moment; by default where stderr is a terminal, and in a notebook.

    Raises:
        ValueError: parts that do not fit each other, or a count below one.
    """

    network: Network
    inits: InitDistribution
    recipe: Recipe
    split: Split
    runs_per_chunk: int = 1
    progress: bool | None = None

    def __post_init__(self) -> None:
        checks.network_and_inits(self.network, self.inits)
        checks.kind("recipe", self.recipe, Recipe, remedy="Give ddjax.Recipe(...).")
        self.recipe.check(self.network)
        check_split(self.split, self.network)
        checks.at_least("runs_per_chunk", self.runs_per_chunk, 1)

    @functools.cached_property
    def pieces(self) -> Chunks:
        """The split on the device, in pieces: the more networks classify one at once, the shorter."""
        others = max(SHORTEST_TEST_CHUNK, OTHER_TEST_CHUNK // self.runs_per_chunk)
        return chunks(self.split, size=TEST_CHUNKS.get(platforms.current(), others))

    def outcomes(
        self,
        schedules: Sequence[Schedule],
        which: jax.Array,
        keys: jax.Array,
        *,
        members: jax.Array | None = None,
    ) -> Outcomes:
        """Many trainings and tests, `runs_per_chunk` of them in a compiled call.

        Args:
            schedules: the schedules to train on, at least one, all of the same shapes.
            which: `[R]` int32, the index of the schedule that each run trains on.
            keys: `[R]`, the source of each run's θ0 and of the random draws of the recipe. Consumed.
            members: `[R]` int32, the index of the pool's member that each run starts from, for a p(θ0) that
                has a pool; by default each run draws a member.

        Returns:
            The outcomes of the R runs.
        """
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *schedules)
        runs = (which, keys, None if self.inits.pool is None else members)
        total, tested = len(which), []
        is_shown = is_watched() if self.progress is None else self.progress
        with Progress(
            total, unit="network", patience=_PATIENCE, is_kept=False, quiet=not is_shown
        ) as progress:
            for first in range(0, total, self.runs_per_chunk):
                count = min(self.runs_per_chunk, total - first)
                some = _accuracies(
                    stacked,
                    runs,
                    np.int32(first),
                    self.pieces,
                    self.inits.pool,
                    network=self.network,
                    inits=self.inits,
                    recipe=self.recipe,
                    count=count,
                )
                tested.append(jax.device_get(some))
                progress.update(first + count)
        return _outcomes(jax.tree.map(lambda *parts: np.concatenate(parts), *tested), self.pieces)

    def accuracies(
        self,
        schedules: Sequence[Schedule],
        which: jax.Array,
        keys: jax.Array,
        *,
        members: jax.Array | None = None,
    ) -> np.ndarray:
        """The accuracies alone of `outcomes`.

        Args:
            schedules: see `outcomes`.
            which: see `outcomes`.
            keys: see `outcomes`. Consumed.
            members: see `outcomes`.

        Returns:
            `[R]` float64, the accuracies in percent; 0 for networks that are not finite.
        """
        return self.outcomes(schedules, which, keys, members=members).percent

    def score(self, schedule: Schedule, *, key: jax.Array, num_inits: int) -> np.ndarray:
        """The accuracies alone of `evaluation`.

        Args:
            schedule: see `evaluation`.
            key: see `evaluation`. Consumed.
            num_inits: see `evaluation`.

        Returns:
            `[num_inits]` float64, or fewer where p(θ0) has fewer: the accuracies in percent; 0 for networks
            that are not finite.

        Raises:
            ValueError: see `evaluation`.
        """
        return self.evaluation(schedule, key=key, num_inits=num_inits).values

    def evaluation(self, schedule: Schedule, *, key: jax.Array, num_inits: int) -> Evaluation:
        """The accuracies of networks trained on one schedule; the same key is the same θ0s.

        Args:
            schedule: φ as a schedule.
            key: the source of the initial weights. Consumed.
            num_inits: the number of initial weights. Under a recipe that draws nothing, a fixed p(θ0) has
                only one, and a pool has only its members; each member comes once, in the order of the pool.

        Returns:
            The evaluation, over `num_inits` networks or fewer where p(θ0) has fewer.

        Raises:
            ValueError: `key` is no single key, a count is below one, or the recipe cannot train on the
                labels.
        """
        checks.prng_key("key", key)
        checks.at_least("num_inits", num_inits, 1)
        self.recipe.check_labels(np.asarray(schedule.labels))
        different = None if self.recipe.is_random else self.inits.size
        count = min(num_inits, different or num_inits)
        members = jnp.arange(count, dtype=jnp.int32) % (self.inits.size or count)
        which = jnp.zeros(count, jnp.int32)
        keys = jax.random.split(key, count)
        return Evaluation.of(self.outcomes([schedule], which, keys, members=members))

    def untrained(self, params: Params) -> Evaluation:
        """The accuracies of networks as they are, without any training.

        Args:
            params: the weights of n networks, each leaf `[n, ...]`.

        Returns:
            The evaluation of the n networks.
        """
        return Evaluation.of(_outcomes(_untrained(params, self.pieces, network=self.network), self.pieces))


def choose_steps(
    judge: Judge, schedule: Schedule, choices: Sequence[int], *, key: jax.Array, num_inits: int = 3
) -> tuple[int, dict[int, Evaluation]]:
    """The number of training steps that scores best, for a recipe that counts steps.

    Args:
        judge: the judge, on the validation split, whose recipe is a `ddjax.recipes.Counting`.
        schedule: φ as a schedule.
        choices: the numbers of steps to choose from.
        key: the source of the initial weights, which are the same for every choice. Consumed.
        num_inits: the number of initial weights behind each score.

    Returns:
        The choice with the best mean accuracy, the smallest of equals, where a diverged network counts 0; and
        the score of each choice.

    Raises:
        ValueError: see `scores_along`.
    """
    scores = scores_along(judge, schedule, choices, key=key, num_inits=num_inits)
    return max(scores, key=lambda steps: scores[steps].mean), scores


def scores_along(
    judge: Judge, schedule: Schedule, stops: Sequence[int], *, key: jax.Array, num_inits: int
) -> dict[int, Evaluation]:
    """The accuracies of networks after several numbers of training steps, for a recipe that counts steps.

    Each network is trained once and tested on the way, `judge.runs_per_chunk` of them side by side, and one
    compiled program serves any numbers of steps.

    Args:
        judge: the judge, whose recipe is a `ddjax.recipes.Counting`; its own `steps` are not used.
        schedule: φ as a schedule.
        stops: the numbers of steps.
        key: the source of the initial weights. Consumed.
        num_inits: the number of networks.

    Returns:
        The evaluation after each number of steps, in ascending order.

    Raises:
        ValueError: the recipe counts no steps, there are no stops, or a stop or `num_inits` is below one.
    """
    recipe = counting(judge.recipe)
    if not stops:
        raise ValueError("steps: expected one or more numbers of steps; got none. Give e.g. (100, 300).")
    checks.at_least("steps", min(stops), 1)
    checks.at_least("num_inits", num_inits, 1)
    checks.prng_key("key", key)
    places = sorted(set(stops))
    tested = _along(
        schedule,
        jax.random.split(key, num_inits),
        jnp.array([0, *places], jnp.int32),
        judge.pieces,
        judge.inits.pool,
        network=judge.network,
        inits=judge.inits,
        recipe=recipe.with_steps(1),
        at_once=min(judge.runs_per_chunk, num_inits),
    )
    percent, finite = _outcomes(tested, judge.pieces)
    each = (Evaluation.of(Outcomes(*one)) for one in zip(percent.T, finite.T, strict=True))
    return dict(zip(places, each, strict=True))


@functools.partial(jax.jit, static_argnames=("network", "inits", "recipe", "at_once"))
def _along(
    schedule: Schedule,
    keys: jax.Array,
    stops: jax.Array,
    data: Chunks,
    pool: Params | None,
    *,
    network: Network,
    inits: InitDistribution,
    recipe: Counting,
    at_once: int,
) -> _Tested:
    """The tests of trainings at several numbers of steps, `[R, G]`; `stops` begins with zero."""

    def one(key: jax.Array) -> _Tested:
        init_key, train_key = jax.random.split(key)
        params = inits.sample(init_key) if pool is None else draw(pool, init_key)
        training = recipe.stepwise(network, params, schedule)

        def stretch(state: Any, ends: tuple[jax.Array, jax.Array]) -> tuple[Any, _Tested]:
            state = training.between(state, train_key, *ends)
            fitted = training.fitted(state)
            return state, _tested(fitted.params, fitted.predict, data)

        return jax.lax.scan(stretch, training.start, (stops[:-1], stops[1:]))[1]

    return jax.lax.map(one, keys, batch_size=None if at_once == 1 else at_once)


def check_fits(distilled: Distilled, network: Network) -> None:
    """Refuse a network that cannot be trained on φ.

    Args:
        distilled: the distilled data φ.
        network: the network to train.

    Raises:
        ValueError: one of the two is of another type, the network was built for inputs of another shape or
            for another number of classes, the recipe needs learning rates and φ has none, or the recipe
            cannot train the network.
    """
    checks.kind("distilled", distilled, Distilled, remedy="Give ddjax.artifact.load(path), or run.distilled.")
    checks.kind("network", network, Network, remedy="Build it with ddjax.networks.")
    shapes = jax.eval_shape(lambda: distilled.schedule)
    checks.fits(
        network,
        tuple(shapes.inputs.shape[2:]),
        shapes.labels.shape[2],
        remedy="Build the network for the distilled images and the distilled labels.",
    )
    if distilled.recipe.needs_lrs and shapes.lrs is None:
        raise ValueError(
            "recipe: expected learning rates for a schedule; φ has none. Give recipe=Recipe('train')."
        )
    distilled.recipe.check(network)
    distilled.recipe.check_labels(np.asarray(distilled.schedule.labels))


def check_split(split: Split, network: Network) -> None:
    """Refuse test examples that a network cannot classify.

    Args:
        split: the real examples.
        network: the network that is to classify them.

    Raises:
        ValueError: `split` is no `Split`, or has inputs of another shape or more classes than the network.
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


@checks.entry
def train(distilled: Distilled, network: Network, inits: InitDistribution, *, key: jax.Array) -> Params:
    """Train one network on φ.

    Args:
        distilled: the distilled data φ, with the recipe of the training.
        network: the network to train.
        inits: the distribution of initial weights, p(θ0).
        key: the source of θ0, of the order of images and of the augmentation. Consumed.

    Returns:
        The trained weights, for `network.apply`.

    Raises:
        ValueError: the network does not fit φ, `inits` is no distribution of initial weights, or `key` is no
            single key.
    """
    check_fits(distilled, network)
    _check_draws(inits, key)

    @jax.jit
    def run(schedule: Schedule, key: jax.Array) -> Params:
        init_key, train_key = jax.random.split(key)
        return distilled.recipe.fit(network, inits.sample(init_key), schedule, train_key).params

    return run(distilled.schedule, key)


@checks.entry
def evaluate(
    distilled: Distilled,
    network: Network,
    inits: InitDistribution,
    split: Split,
    *,
    key: jax.Array,
    num_inits: int = 20,
    runs_per_chunk: int = 1,
    progress: bool | None = None,
) -> Evaluation:
    """Accuracy of networks trained on φ from initial weights that the distillation never saw.

    Args:
        distilled: the distilled data φ, with the recipe of the training and the encoding of the test data.
        network: the network to train; every network that fits φ can be taken, not only that of the
            distillation.
        inits: the distribution of initial weights, p(θ0).
        split: the real examples to test on, e.g. `data.test`.
        key: the source of the initial weights. Consumed.
        num_inits: the number of initial weights; under a recipe that draws nothing, a fixed p(θ0) has only
            one, and a pool has only its members.
        runs_per_chunk: the number of trainings that are vmapped.
        progress: whether a line on stderr shows how many networks are tested; by default where stderr is a
            terminal, and in a notebook.

    Returns:
        Mean, population standard deviation and every value, in percent, and the number of networks that
        diverged, which score 0.

    Raises:
        ValueError: the network does not fit φ or the split, an argument is of another type, or a count is
            below one.
    """
    check_fits(distilled, network)
    _check_draws(inits, key)
    checks.kind("split", split, Split, remedy="Give data.test or data.validation.")
    encodings.check_words("the split", split.encoding, distilled.encoding)
    own = dataclasses.replace(split, encoding=jax.tree.map(np.asarray, distilled.encoding))
    judge = Judge(network, inits, distilled.recipe, own, runs_per_chunk, progress)
    return judge.evaluation(distilled.schedule, key=key, num_inits=num_inits)

"""Baselines that φ has to beat, under the same network, initial weights and number of steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddjax import checks, coresets
from ddjax.data import Dataset, Split
from ddjax.forms import by_step
from ddjax.judge import Evaluation, Judge, Outcomes, check_split
from ddjax.recipes import Train
from ddjax.types import InitDistribution, Network, Recipe, Schedule

LEARNING_RATES = (0.003, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
"""The constant learning rates that the baselines of a `schedule` recipe choose from, on validation."""

TUNING_INITS = 5
"""The number of initial weights behind each score of a choice on validation, by default."""

NEIGHBOURS = (1, 3, 5)
"""The numbers of neighbours that k-NN chooses from, on validation."""

KINDS = ("random real", "optimized real", "k-means", "class mean")
"""The sources of a baseline's images, by name."""

ALL = (*KINDS, *(f"k-NN, {kind}" for kind in KINDS))
"""Every baseline of the 2018 paper."""

BASIC = ("random real", "class mean", "k-means", "k-NN, random real", "k-NN, k-means")
"""The quick baselines, which are measured at the end of every run."""


@dataclasses.dataclass(frozen=True)
class Tuning:
    """The choice of the constant learning rate, by the best mean accuracy on the validation split.

    Attributes:
        learning_rates: the rates to choose from, at least one.
        epochs: the numbers of epochs to choose from; an empty tuple leaves only the E of the setting.
        num_inits: the number of initial weights behind each score, the same for every choice.
        inits: the distribution of these initial weights, e.g. the training members of a pool whose held-out
            members are used on the test split; None takes the p(θ0) of the setting.

    Raises:
        ValueError: there is no learning rate, a rate is not positive, or a count is below one.
    """

    learning_rates: tuple[float, ...] = LEARNING_RATES
    epochs: tuple[int, ...] = ()
    num_inits: int = TUNING_INITS
    inits: InitDistribution | None = None

    def __post_init__(self) -> None:
        if not self.learning_rates:
            raise ValueError("learning_rates: expected one or more; got none. Give e.g. (0.01, 0.1).")
        for rate in self.learning_rates:
            checks.positive("learning_rates", rate)
        for epochs in self.epochs:
            checks.at_least("epochs", epochs, 1)
        checks.at_least("num_inits of the tuning", self.num_inits, 1)


@dataclasses.dataclass(frozen=True)
class Setting:
    """The settings that all baselines of one comparison share.

    Attributes:
        data: the real data; learning rates are chosen on the validation split.
        network: the network to train.
        inits: the distribution of initial weights, p(θ0).
        recipe: the recipe of φ. Under `schedule` the baselines get a constant learning rate, under `train`
            the same recipe.
        inner_steps: the number S of steps that have images of their own.
        inner_epochs: the number E of passes over those steps; at least 1, also for a recipe without a
            schedule.
        per_class_per_step: the number of images of one class in one step.
        num_inits: the number of initial weights behind each score on the test split.
        runs_per_chunk: the number of trainings that are vmapped.
        tuning: the choice of the learning rate.

    Raises:
        ValueError: parts that do not fit each other, or a count below one.
    """

    data: Dataset
    network: Network
    inits: InitDistribution
    recipe: Recipe
    inner_steps: int
    inner_epochs: int
    per_class_per_step: int
    num_inits: int = 20
    runs_per_chunk: int = 1
    tuning: Tuning = Tuning()

    def __post_init__(self) -> None:
        checks.kind("data", self.data, Dataset, remedy="Use ddjax.data.load or ddjax.data.from_arrays.")
        checks.network_and_inits(self.network, self.inits)
        checks.kind("recipe", self.recipe, Recipe, remedy="Give the distilled data's own.")
        check_split(self.data.test, self.network)
        for name in ("inner_steps", "inner_epochs", "per_class_per_step", "num_inits", "runs_per_chunk"):
            checks.at_least(name, getattr(self, name), 1)

    @property
    def per_class(self) -> int:
        """The number of images of one class in all steps together."""
        return self.inner_steps * self.per_class_per_step

    @property
    def one_outcome(self) -> bool:
        """Whether the same images always lead to the same weights, as θ0 and the order of steps are fixed."""
        return self.inits.fixed and not self.recipe.is_random


class Choice(NamedTuple):
    """A learning rate and a number of epochs, chosen on validation.

    Attributes:
        lr: the constant learning rate; None for a recipe that has its own rate.
        epochs: the number of passes over the steps.
    """

    lr: float | None
    epochs: int


@dataclasses.dataclass(frozen=True)
class Selection:
    """The choice of the sets of `optimized real`: the best of many random sets, scored on training images.

    Attributes:
        num_candidates: the number of random sets that compete, at least `num_kept`.
        num_kept: the number of best sets that are kept; the runs of the final score take turns with them.
        num_inits: the number of initial weights that are trained on each candidate, the same for all.
        num_images: the number of training images that each candidate is scored on, the same for all.

    Raises:
        ValueError: a count below one, or fewer candidates than sets to keep.
    """

    num_candidates: int = 100
    num_kept: int = 10
    num_inits: int = 20
    num_images: int = 1024

    def __post_init__(self) -> None:
        for name in ("num_kept", "num_inits", "num_images"):
            checks.at_least(name, getattr(self, name), 1)
        checks.at_least(
            "num_candidates", self.num_candidates, self.num_kept, remedy="Give as many as are kept, or more."
        )


def lay_out(images: np.ndarray, setting: Setting, *, lr: float, epochs: int | None = None) -> Schedule:
    """Real images in the place of φ: the same steps and epochs, a constant learning rate.

    Args:
        images: `[K, m, H, W, C]`, normalised: all m images of each class, or one image of each class that is
            repeated in every step.
        setting: the settings of the comparison, for S, E and the number of images in a step.
        lr: the learning rate η of every step.
        epochs: the number of passes over the steps; by default the E of the setting.

    Returns:
        A schedule with hard labels and B = K · per_class_per_step images in a step.
    """
    num_classes, count = images.shape[:2]
    if count == 1:
        images = np.repeat(images, setting.per_class, axis=1)
    inputs = by_step(images, setting.inner_steps)
    labels = np.eye(num_classes, dtype=np.float32)[
        np.repeat(np.arange(num_classes), setting.per_class_per_step)
    ]
    return Schedule(
        jnp.asarray(inputs),
        jnp.broadcast_to(labels, (setting.inner_steps, *labels.shape)),
        jnp.full((epochs or setting.inner_epochs, setting.inner_steps), lr, jnp.float32),
    )


def _scores(
    setting: Setting,
    schedules: Sequence[Schedule],
    runs: tuple[np.ndarray, np.ndarray],
    split: Split,
    *,
    key: jax.Array,
    inits: InitDistribution | None = None,
) -> Outcomes:
    """The outcome of each run on a split.

    Args:
        setting: the settings of the comparison.
        schedules: the schedules to train on, at least one.
        runs: two arrays `[R]`: the index of the schedule of each run, and the number of the run's initial
            weights. The same number is the same θ0; for a pool, the member of that number.
        split: the real examples to test on.
        key: the source of the initial weights. Consumed.
        inits: the distribution of initial weights; by default p(θ0) of the setting.

    Returns:
        The outcomes of the R runs.
    """
    which, nets = runs
    inits = inits or setting.inits
    judge = Judge(setting.network, inits, setting.recipe, split, setting.runs_per_chunk)
    return judge.outcomes(
        schedules,
        jnp.asarray(which, jnp.int32),
        jax.random.split(key, int(nets.max()) + 1)[nets],
        members=jnp.asarray(nets % (inits.size or len(nets)), jnp.int32),
    )


def tune(setting: Setting, sets: Sequence[np.ndarray], *, key: jax.Array) -> Choice:
    """Choose the learning rate, and the epochs where there is a choice, on the validation split.

    Args:
        setting: the settings of the comparison.
        sets: the sets of images to train on, each `[K, m, H, W, C]`; the runs take turns with the sets.
        key: the source of the initial weights. Consumed.

    Returns:
        The choice with the best mean accuracy, where a diverged network counts 0; a choice under which every
        network diverges only where all choices are of this kind. For a recipe with a rate of its own, the
        setting's E and no rate.
    """
    if not setting.recipe.needs_lrs:
        return Choice(None, setting.inner_epochs)
    tuning = setting.tuning
    choices = [
        Choice(lr, epochs)
        for epochs in (tuning.epochs or (setting.inner_epochs,))
        for lr in tuning.learning_rates
    ]
    count = min(tuning.num_inits, len(sets)) if setting.one_outcome else tuning.num_inits
    runs = np.arange(count) % len(sets), np.arange(count)

    def score(choice: Choice) -> tuple[bool, float]:
        schedules = [lay_out(images, setting, lr=choice.lr or 0.0, epochs=choice.epochs) for images in sets]
        found = Evaluation.of(
            _scores(setting, schedules, runs, setting.data.validation, key=key, inits=tuning.inits)
        )
        return not found.all_diverged, found.mean

    return max(choices, key=score)


def trained_on(
    setting: Setting,
    tuning_sets: Sequence[np.ndarray],
    test_sets: Sequence[np.ndarray],
    *,
    key: jax.Array,
) -> dict[str, Any]:
    """Accuracy of networks trained on real images, each run on the next of several sets.

    Args:
        setting: the settings of the comparison.
        tuning_sets: the sets of images `[K, m, H, W, C]` for the choice of the learning rate on validation.
        test_sets: the sets of images `[K, m, H, W, C]` for the score on the test split.
        key: the source of the initial weights. Consumed.

    Returns:
        `mean`, `std`, `n`, `values` in percent on the test split; `lr`, the chosen rate (None for a recipe
        that has its own rate); and `epochs` where the number of epochs was chosen too. Where θ0 and the order
        of steps are fixed, each set is trained on once at most.
    """
    tune_key, test_key = jax.random.split(key)
    chosen = tune(setting, tuning_sets, key=tune_key)
    schedules = [lay_out(images, setting, lr=chosen.lr or 0.0, epochs=chosen.epochs) for images in test_sets]
    count = min(setting.num_inits, len(test_sets)) if setting.one_outcome else setting.num_inits
    runs = np.arange(count) % len(test_sets), np.arange(count)
    found = Evaluation.of(_scores(setting, schedules, runs, setting.data.test, key=test_key))
    epochs = {"epochs": chosen.epochs} if setting.tuning.epochs else {}
    return {**found.as_dict(), "lr": chosen.lr, **epochs}


def nearest_neighbour(data: Dataset, sets: Sequence[np.ndarray]) -> dict[str, Any]:
    """Accuracy of k-nearest neighbours on the normalised pixels of each set; k is chosen on validation.

    Args:
        data: the real data.
        sets: the sets of images that are the neighbours, each `[K, m, H, W, C]`.

    Returns:
        `mean`, `std`, `n`, `values` in percent on the test split, one value per set, and the chosen k as
        `neighbours`.
    """
    from sklearn.neighbors import KNeighborsClassifier

    def score(images: np.ndarray, split: Split, neighbours: int) -> float:
        labels = np.repeat(np.arange(images.shape[0]), images.shape[1])
        points = images.reshape(len(labels), -1)
        model = KNeighborsClassifier(min(neighbours, len(labels))).fit(points, labels)
        found = model.predict(split.encoded().reshape(len(split), -1))
        return 100.0 * np.count_nonzero(found == split.labels) / len(split)

    on_validation = [
        np.mean([score(images, data.validation, n) for images in sets[:TUNING_INITS]]) for n in NEIGHBOURS
    ]
    neighbours = NEIGHBOURS[int(np.argmax(on_validation))]
    values = [score(images, data.test, neighbours) for images in sets]
    return {**Evaluation.of(np.array(values)).as_dict(), "neighbours": neighbours}


def real_sets(setting: Setting, seeds: Sequence[int]) -> list[np.ndarray]:
    """A set of random real images for each seed.

    Args:
        setting: the settings of the comparison, for the data and the number of images.
        seeds: the seeds of the draws, one for each set.

    Returns:
        The sets, each `[K, m, H, W, C]`, normalised.

    Raises:
        ValueError: a class has fewer images than a set needs.
    """
    count = {"per_class": setting.per_class, "num_classes": setting.data.num_classes}
    return [coresets.real_images(setting.data.train, **count, seed=seed) for seed in seeds]


def best_sets(
    setting: Setting, candidates: Sequence[np.ndarray], selection: Selection, *, key: jax.Array, seed: int
) -> list[np.ndarray]:
    """The sets on which networks learn to classify training images best.

    Args:
        setting: the settings of the comparison.
        candidates: the sets of images that compete, each `[K, m, H, W, C]`.
        selection: the number of sets to keep, and the settings of the scores.
        key: the source of the initial weights. Consumed.
        seed: the seed of the draw of training images that the candidates are scored on.

    Returns:
        The best `selection.num_kept` sets, best first; a network that diverges counts 0, and a set on which
        every network does comes last.

    References:
        Wang et al. 2018, arXiv 1811.10959, the baseline "optimized real images".
    """
    tune_key, score_key = jax.random.split(key)
    chosen = tune(setting, candidates, key=tune_key)
    train = setting.data.train
    rows = np.random.default_rng(seed).permutation(len(train))[: selection.num_images]
    nets = 1 if setting.one_outcome else selection.num_inits
    competing = len(candidates)
    percent, finite = _scores(
        setting,
        [lay_out(images, setting, lr=chosen.lr or 0.0, epochs=chosen.epochs) for images in candidates],
        (np.repeat(np.arange(competing), nets), np.tile(np.arange(nets), competing)),
        train.at(rows),
        key=score_key,
        inits=setting.tuning.inits,
    )
    trained = finite.reshape(competing, nets).any(1)
    order = np.lexsort((-percent.reshape(competing, nets).mean(1), ~trained))
    return [candidates[index] for index in order[: selection.num_kept]]


class Sets(NamedTuple):
    """The sets of images of one kind of baseline.

    Attributes:
        tuning: the sets `[K, m, H, W, C]` for choices on validation.
        test: the sets `[K, m, H, W, C]` for the score on the test split.
    """

    tuning: list[np.ndarray]
    test: list[np.ndarray]


def _sets(
    setting: Setting, kind: str, *, key: jax.Array, seed: int, selection: Selection, num_clusterings: int
) -> Sets:
    """The sets of one kind; only `random real` has other sets for validation than for the test."""
    train, num_classes = setting.data.train, setting.data.num_classes
    if kind == "random real":
        tuning = real_sets(setting, range(seed + 1_000_000, seed + 1_000_000 + setting.tuning.num_inits))
        return Sets(tuning, real_sets(setting, range(seed, seed + setting.num_inits)))
    if kind == "optimized real":
        first = seed + 2_000_000
        candidates = real_sets(setting, range(first, first + selection.num_candidates))
        both = best_sets(setting, candidates, selection, key=key, seed=seed)
    elif kind == "k-means":
        both = [
            coresets.k_means(train, per_class=setting.per_class, num_classes=num_classes, seed=seed + start)
            for start in range(num_clusterings)
        ]
    else:
        both = [coresets.class_means(train, num_classes=num_classes)]
    return Sets(both, both)


def measure(
    setting: Setting,
    *,
    key: jax.Array,
    seed: int,
    names: Sequence[str] = BASIC,
    selection: Selection = Selection(),
    num_clusterings: int = 1,
    known: Mapping[str, Mapping[str, Any]] | None = None,
    listener: Callable[[str, Mapping[str, Any]], None] = lambda name, score: None,
) -> dict[str, dict[str, Any]]:
    """The baselines of the 2018 paper under its protocol.

    Args:
        setting: the settings of the comparison.
        key: the source of the initial weights. Consumed.
        seed: the seed of the random real sets (a new set for every initial weights) and of k-means' starts.
        names: the baselines to measure, names of `ALL`.
        selection: the choice of the sets of `optimized real`.
        num_clusterings: the number of starts of k-means; the runs take turns with the centroids of each
            start.
        known: the scores by name that were measured before and are not measured again.
        listener: a function that is called with the name and the score of each baseline once measured.

    Returns:
        For each name, `mean`, `std`, `n`, `values` in percent on the test split, `diverged`, the number of
        networks that are not finite and score 0, and the tuned settings. The score of one baseline does not
        depend on the other `names`.

    Raises:
        ValueError: an unknown name, a class that has fewer images than a set needs, a negative seed, or a
            `key` that is no single key.

    References:
        Wang et al. 2018, arXiv 1811.10959, the basic setting.
    """
    checks.prng_key("key", key)
    checks.at_least("seed", seed, 0)
    for name in names:
        checks.choice("baselines", name, ALL)
    first, second, third = jax.random.split(key, 3)
    keys: dict[str, jax.Array] = {"random real": first, "class mean": second, "k-means": third}
    keys["optimized real"] = jax.random.fold_in(key, 3)
    kinds: dict[str, Sets] = {}
    scores = {name: dict(score) for name, score in (known or {}).items()}
    for name in names:
        if name in scores:
            continue
        kind = name.removeprefix("k-NN, ")
        if kind not in kinds:
            kinds[kind] = _sets(
                setting,
                kind,
                # The training below splits the same key in two, which gives the folds 0 and 1 of the key.
                key=jax.random.fold_in(keys[kind], 2),
                seed=seed,
                selection=selection,
                num_clusterings=num_clusterings,
            )
        sets = kinds[kind]
        if name == kind:
            scores[name] = trained_on(setting, sets.tuning, sets.test, key=keys[kind])
        else:
            scores[name] = nearest_neighbour(setting.data, sets.test)
        listener(name, scores[name])
    return {name: scores[name] for name in names}


def all_data(
    data: Dataset,
    network: Network,
    inits: InitDistribution,
    *,
    key: jax.Array,
    num_inits: int,
    recipe: Recipe,
    runs_per_chunk: int = 1,
) -> Evaluation:
    """Accuracy after an ordinary training on the whole training split: the ceiling.

    Args:
        data: the real data.
        network: the network to train.
        inits: the distribution of initial weights, p(θ0).
        key: the source of the initial weights and of the order of images. Consumed.
        num_inits: the number of trainings, each from its own initial weights.
        recipe: the recipe of the training, of the kind `train`.
        runs_per_chunk: the number of trainings that are vmapped.

    Returns:
        The accuracy on the test split, in percent.

    Raises:
        ValueError: parts that do not fit each other, a count below one, or a recipe of another kind.
    """
    setting = Setting(data, network, inits, recipe, 1, 1, 1, num_inits, runs_per_chunk)
    checks.equal("the recipe's kind", recipe.kind, Train.kind, remedy="Give ddjax.Recipe('train', ...).")
    checks.prng_key("key", key)
    labels = np.eye(data.num_classes, dtype=np.float32)[data.train.labels]
    everything = Schedule(jnp.asarray(data.train.encoded())[None], jnp.asarray(labels)[None], None)
    runs = np.zeros(num_inits, np.int64), np.arange(num_inits)
    return Evaluation.of(_scores(setting, [everything], runs, data.test, key=key))

"""Baselines: what φ has to beat, under the same network, initial weights and number of steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddjax import checks, coresets
from ddjax.data import Dataset, Split
from ddjax.evaluate import Evaluation, Judge, check_split
from ddjax.forms import by_step
from ddjax.recipes import Train
from ddjax.types import InitDistribution, Network, Recipe, Schedule

LEARNING_RATES = (0.003, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
"""Constant learning rates that the baselines of a `schedule` recipe choose from, on validation."""

TUNING_INITS = 5
"""Initial weights behind each score of that choice, unless the setting says otherwise."""

NEIGHBOURS = (1, 3, 5)
"""Numbers of neighbours that k-NN chooses from, on validation."""

KINDS = ("random real", "optimized real", "k-means", "class mean")
"""Where the images of a baseline come from."""

ALL = (*KINDS, *(f"k-NN, {kind}" for kind in KINDS))
"""Every baseline of the 2018 paper."""

BASIC = ("random real", "class mean", "k-means", "k-NN, random real", "k-NN, k-means")
"""The quick ones, measured at the end of every run."""


@dataclasses.dataclass(frozen=True)
class Tuning:
    """How the constant learning rate is chosen: the best mean on the validation split.

    Attributes:
        learning_rates: to choose from.
        epochs: numbers of epochs to choose from; none stands for E alone.
        num_inits: initial weights behind each score, the same for every choice.
        inits: what they are drawn from, e.g. the training members of a pool whose held-out members score on
            the test split; None for the setting's own.
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
    """What all baselines of one comparison share.

    Attributes:
        data: real data; learning rates are chosen on its validation split.
        network: to train.
        inits: p(θ0).
        recipe: of φ; `schedule` baselines get a constant learning rate, `train` ones the same recipe.
        inner_steps: S.
        inner_epochs: E; at least 1, also for a recipe without a schedule.
        per_class_per_step: images of one class in one step.
        num_inits: initial weights behind each score on the test split.
        runs_per_chunk: trainings that are vmapped.
        tuning: how the learning rate is chosen.
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
        """Images of one class in all steps together."""
        return self.inner_steps * self.per_class_per_step

    @property
    def one_outcome(self) -> bool:
        """Whether the same images always train the same weights: a fixed θ0 and a fixed order of steps."""
        return self.inits.fixed and not self.recipe.is_random


class Choice(NamedTuple):
    """What was chosen on validation.

    Attributes:
        lr: the constant learning rate; None for a recipe that brings its own.
        epochs: how often the steps are passed over.
    """

    lr: float | None
    epochs: int


@dataclasses.dataclass(frozen=True)
class Selection:
    """How the sets of `optimized real` are chosen: the best of many random ones, on training images.

    Attributes:
        num_candidates: random sets that compete.
        num_kept: best sets that are kept; the initial weights of the final score take turns with them.
        num_inits: initial weights that each candidate trains, the same for all.
        num_images: training images that they are scored on, the same for all.
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
        images: `[K, m, H, W, C]` normalised; m images of a class, or one that every step repeats.
        setting: S, E and the images of a step.
        lr: η of every step.
        epochs: instead of the setting's E.

    Returns:
        A schedule with hard labels, B = K · images of one class in one step.
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
) -> np.ndarray:
    """Percent of a split that each run classifies correctly.

    Args:
        setting: of the comparison.
        schedules: one or more.
        runs: `[R]` twice: which schedule each run trains on, and the number of its initial weights; the same
            number is the same θ0, of a pool the member of that number.
        split: to test on.
        key: draws the initial weights. Consumed.
        inits: p(θ0) instead of the setting's.
    """
    which, nets = runs
    inits = inits or setting.inits
    judge = Judge(setting.network, inits, setting.recipe, split, setting.runs_per_chunk)
    values = judge.accuracies(
        schedules,
        jnp.asarray(which, jnp.int32),
        jax.random.split(key, int(nets.max()) + 1)[nets],
        members=jnp.asarray(nets % (inits.size or len(nets)), jnp.int32),
    )
    return np.asarray(values)


def tune(setting: Setting, sets: Sequence[np.ndarray], *, key: jax.Array) -> Choice:
    """Choose the learning rate, and the epochs where there is a choice, on the validation split.

    Args:
        setting: of the comparison.
        sets: `[K, m, H, W, C]` each; the runs take turns with them.
        key: draws the initial weights. Consumed.

    Returns:
        The choice with the best mean accuracy.
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

    def score(choice: Choice) -> float:
        schedules = [lay_out(images, setting, lr=choice.lr or 0.0, epochs=choice.epochs) for images in sets]
        values = _scores(setting, schedules, runs, setting.data.validation, key=key, inits=tuning.inits)
        return float(values.mean())

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
        setting: of the comparison.
        tuning_sets: sets `[K, m, H, W, C]` for choosing the learning rate on validation.
        test_sets: sets for the score on the test split.
        key: draws the initial weights. Consumed.

    Returns:
        `mean`, `std`, `n`, `values` in percent on the test split; `lr`, the chosen rate (None for a recipe
        that brings its own); and `epochs` where they were chosen too. Of runs that cannot differ there is
        one: a single set at a fixed θ0.
    """
    tune_key, test_key = jax.random.split(key)
    chosen = tune(setting, tuning_sets, key=tune_key)
    schedules = [lay_out(images, setting, lr=chosen.lr or 0.0, epochs=chosen.epochs) for images in test_sets]
    count = min(setting.num_inits, len(test_sets)) if setting.one_outcome else setting.num_inits
    runs = np.arange(count) % len(test_sets), np.arange(count)
    values = _scores(setting, schedules, runs, setting.data.test, key=test_key)
    epochs = {"epochs": chosen.epochs} if setting.tuning.epochs else {}
    return {**Evaluation.of(values).as_dict(), "lr": chosen.lr, **epochs}


def nearest_neighbour(data: Dataset, sets: Sequence[np.ndarray]) -> dict[str, Any]:
    """k-NN straight on the normalised pixels of each set; k chosen on validation.

    Args:
        data: real data.
        sets: `[K, m, H, W, C]` each.

    Returns:
        `mean`, `std`, `n`, `values` in percent on the test split, one value per set, and `neighbours`.
    """
    from sklearn.neighbors import KNeighborsClassifier

    def score(images: np.ndarray, split: Split, neighbours: int) -> float:
        labels = np.repeat(np.arange(images.shape[0]), images.shape[1])
        points = images.reshape(len(labels), -1)
        model = KNeighborsClassifier(min(neighbours, len(labels))).fit(points, labels)
        return 100.0 * float(model.score(split.encoded().reshape(len(split), -1), split.labels))

    on_validation = [
        np.mean([score(images, data.validation, n) for images in sets[:TUNING_INITS]]) for n in NEIGHBOURS
    ]
    neighbours = NEIGHBOURS[int(np.argmax(on_validation))]
    values = [score(images, data.test, neighbours) for images in sets]
    return {**Evaluation.of(np.array(values)).as_dict(), "neighbours": neighbours}


def real_sets(setting: Setting, seeds: Sequence[int]) -> list[np.ndarray]:
    """A set of random real images, `[K, m, H, W, C]` normalised, for each seed.

    Raises:
        ValueError: a class has fewer images than asked for.
    """
    count = {"per_class": setting.per_class, "num_classes": setting.data.num_classes}
    return [coresets.real_images(setting.data.train, **count, seed=seed) for seed in seeds]


def best_sets(
    setting: Setting, candidates: Sequence[np.ndarray], selection: Selection, *, key: jax.Array, seed: int
) -> list[np.ndarray]:
    """The sets on which networks learn to classify training images best.

    Args:
        setting: of the comparison.
        candidates: `[K, m, H, W, C]` each.
        selection: how many are kept, and how they are scored.
        key: draws the initial weights. Consumed.
        seed: draws the training images that they are scored on, and the tuning's.

    Returns:
        The best `selection.num_kept`, best first.

    References:
        Wang et al. 2018, arXiv 1811.10959, the baseline "optimized real images".
    """
    tune_key, score_key = jax.random.split(key)
    chosen = tune(setting, candidates, key=tune_key)
    train = setting.data.train
    rows = np.random.default_rng(seed).permutation(len(train))[: selection.num_images]
    nets = 1 if setting.one_outcome else selection.num_inits
    competing = len(candidates)
    values = _scores(
        setting,
        [lay_out(images, setting, lr=chosen.lr or 0.0, epochs=chosen.epochs) for images in candidates],
        (np.repeat(np.arange(competing), nets), np.tile(np.arange(nets), competing)),
        train.at(rows),
        key=score_key,
        inits=setting.tuning.inits,
    )
    order = np.argsort(-values.reshape(competing, nets).mean(1), kind="stable")
    return [candidates[index] for index in order[: selection.num_kept]]


class Sets(NamedTuple):
    """The images of one kind.

    Attributes:
        tuning: sets `[K, m, H, W, C]` for choosing on validation.
        test: sets for the score on the test split.
    """

    tuning: list[np.ndarray]
    test: list[np.ndarray]


def _sets(
    setting: Setting, kind: str, *, key: jax.Array, seed: int, selection: Selection, num_clusterings: int
) -> Sets:
    """The images of a kind; those that do not depend on chance, or were chosen, serve for both."""
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
        setting: of the comparison.
        key: draws the initial weights. Consumed.
        seed: draws the random real sets (a new one for every initial weights) and k-means' starts.
        names: which ones, of `ALL`.
        selection: of the sets of `optimized real`.
        num_clusterings: k-means from so many starts; the runs take turns with their centroids.
        known: scores that were measured before; not measured again.
        listener: called with each name and score as it comes.

    Returns:
        By name `mean`, `std`, `n`, `values` in percent on the test split, with what was tuned. What is
        known and measured does not depend on `names`.

    Raises:
        ValueError: an unknown name, or a class has fewer images than asked for.

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
                # The training below splits the key in two, which are its folds 0 and 1.
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
        data: real data.
        network: to train.
        inits: p(θ0).
        key: draws the initial weights and the order of images. Consumed.
        num_inits: trainings.
        recipe: of kind `train`.
        runs_per_chunk: trainings that are vmapped.

    Returns:
        Accuracy on the test split.

    Raises:
        ValueError: parts that do not fit, a count below one, or a recipe of another kind.
    """
    setting = Setting(data, network, inits, recipe, 1, 1, 1, num_inits, runs_per_chunk)
    checks.equal("the recipe's kind", recipe.kind, Train.kind, remedy="Give ddjax.Recipe('train', ...).")
    checks.prng_key("key", key)
    labels = np.eye(data.num_classes, dtype=np.float32)[data.train.labels]
    everything = Schedule(jnp.asarray(data.train.encoded())[None], jnp.asarray(labels)[None], None)
    runs = np.zeros(num_inits, np.int64), np.arange(num_inits)
    return Evaluation.of(_scores(setting, [everything], runs, data.test, key=key))

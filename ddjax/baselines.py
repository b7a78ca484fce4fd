"""Baselines: what φ has to beat, under the same network, initial weights and number of steps."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddjax import coresets
from ddjax.data import Dataset, Split
from ddjax.evaluate import Evaluation, accuracies, chunks
from ddjax.types import InitDistribution, Network, Recipe, Schedule

LEARNING_RATES = (0.003, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
"""Constant learning rates that the baselines of a `schedule` recipe choose from, on validation."""

TUNING_INITS = 5
"""Initial weights behind each score of that choice."""

NEIGHBOURS = (1, 3, 5)
"""Numbers of neighbours that k-NN chooses from, on validation."""


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

    @property
    def per_class(self) -> int:
        """Images of one class in all steps together."""
        return self.inner_steps * self.per_class_per_step


def lay_out(images: np.ndarray, setting: Setting, *, lr: float) -> Schedule:
    """Real images in the place of φ: the same steps and epochs, a constant learning rate.

    Args:
        images: `[K, m, H, W, C]` normalised; m images of a class, or one that every step repeats.
        setting: S, E and the images of a step.
        lr: η of every step.

    Returns:
        A schedule with hard labels, B = K · images of one class in one step.
    """
    num_classes, count = images.shape[:2]
    if count == 1:
        images = np.repeat(images, setting.per_class, axis=1)
    steps = np.moveaxis(
        images.reshape(num_classes, setting.inner_steps, setting.per_class_per_step, *images.shape[2:]), 1, 0
    )
    inputs = steps.reshape(setting.inner_steps, -1, *images.shape[2:])
    labels = np.eye(num_classes, dtype=np.float32)[
        np.repeat(np.arange(num_classes), setting.per_class_per_step)
    ]
    return Schedule(
        jnp.asarray(inputs),
        jnp.broadcast_to(labels, (setting.inner_steps, *labels.shape)),
        jnp.full((setting.inner_epochs, setting.inner_steps), lr, jnp.float32),
    )


def _scores(
    setting: Setting, schedules: list[Schedule], which: np.ndarray, split: Split, key: jax.Array
) -> np.ndarray:
    values = accuracies(
        jax.tree.map(lambda *leaves: jnp.stack(leaves), *schedules),
        jnp.asarray(which, jnp.int32),
        jax.random.split(key, len(which)),
        chunks(split),
        mean=jnp.asarray(setting.data.mean),
        std=jnp.asarray(setting.data.std),
        network=setting.network,
        inits=setting.inits,
        recipe=setting.recipe,
        runs_per_chunk=setting.runs_per_chunk,
    )
    return np.asarray(values)


def trained_on(
    setting: Setting, tuning_sets: list[np.ndarray], test_sets: list[np.ndarray], *, key: jax.Array
) -> dict[str, Any]:
    """Accuracy of networks trained on real images, each run on the next of several sets.

    Args:
        setting: of the comparison.
        tuning_sets: sets `[K, m, H, W, C]` for choosing the learning rate on validation.
        test_sets: sets for the score on the test split.
        key: draws the initial weights. Consumed.

    Returns:
        `mean`, `std`, `n`, `values` in percent on the test split, and `lr`, the chosen rate (None for a
        recipe that brings its own).
    """
    tune_key, test_key = jax.random.split(key)
    lr = None
    if setting.recipe.kind == "schedule":
        schedules = [lay_out(images, setting, lr=rate) for rate in LEARNING_RATES for images in tuning_sets]
        sets = np.arange(TUNING_INITS) % len(tuning_sets)
        which = (np.arange(len(LEARNING_RATES))[:, None] * len(tuning_sets) + sets).ravel()
        values = _scores(setting, schedules, which, setting.data.validation, tune_key)
        lr = LEARNING_RATES[int(values.reshape(len(LEARNING_RATES), -1).mean(1).argmax())]
    schedules = [lay_out(images, setting, lr=lr or 0.0) for images in test_sets]
    which = np.arange(setting.num_inits) % len(test_sets)
    values = _scores(setting, schedules, which, setting.data.test, test_key)
    return {**Evaluation.of(values).as_dict(), "lr": lr}


def nearest_neighbour(data: Dataset, sets: list[np.ndarray]) -> dict[str, Any]:
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
        return 100.0 * float(model.score(split.normalised().reshape(len(split), -1), split.labels))

    on_validation = [
        np.mean([score(images, data.validation, n) for images in sets[:TUNING_INITS]]) for n in NEIGHBOURS
    ]
    neighbours = NEIGHBOURS[int(np.argmax(on_validation))]
    values = [score(images, data.test, neighbours) for images in sets]
    return {**Evaluation.of(np.array(values)).as_dict(), "neighbours": neighbours}


def measure(setting: Setting, *, key: jax.Array, seed: int) -> dict[str, dict[str, Any]]:
    """The baselines of the 2018 paper's basic setting.

    Args:
        setting: of the comparison.
        key: draws the initial weights. Consumed.
        seed: draws the random real sets (a new one for every initial weights) and k-means' start.

    Returns:
        For `random real`, `class mean`, `k-means`, `k-NN, random real` and `k-NN, k-means`: `mean`, `std`,
        `n`, `values` in percent on the test split, with what was tuned.

    Raises:
        ValueError: a class has fewer images than asked for.

    References:
        Wang et al. 2018, arXiv 1811.10959, the basic setting.
    """
    train, num_classes = setting.data.train, setting.data.num_classes
    images = train.normalised()

    def real(seed: int) -> np.ndarray:
        rows = coresets.random_real(train, per_class=setting.per_class, num_classes=num_classes, seed=seed)
        return images[rows]

    keys = jax.random.split(key, 3)
    tuning = [real(seed + 1_000_000 + run) for run in range(TUNING_INITS)]
    test = [real(seed + run) for run in range(setting.num_inits)]
    means = coresets.class_means(train, num_classes=num_classes)
    centroids = coresets.k_means(train, per_class=setting.per_class, num_classes=num_classes, seed=seed)
    return {
        "random real": trained_on(setting, tuning, test, key=keys[0]),
        "class mean": trained_on(setting, [means], [means], key=keys[1]),
        "k-means": trained_on(setting, [centroids], [centroids], key=keys[2]),
        "k-NN, random real": nearest_neighbour(setting.data, test),
        "k-NN, k-means": nearest_neighbour(setting.data, [centroids]),
    }


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
    """
    labels = np.eye(data.num_classes, dtype=np.float32)[data.train.labels]
    everything = Schedule(jnp.asarray(data.train.normalised())[None], jnp.asarray(labels)[None], None)
    setting = Setting(data, network, inits, recipe, 1, 1, 1, num_inits, runs_per_chunk)
    return Evaluation.of(_scores(setting, [everything], np.zeros(num_inits), data.test, key))

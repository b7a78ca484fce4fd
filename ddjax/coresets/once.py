"""Selections that are made once from noisy labels, by what one short training on all of them has learned.

Which of them collect wrong labels and which refuse them is the question: selections that cover the data look
for what is rare, and a wrong label makes an image rare in its class.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ddjax import checks, predictions
from ddjax.coresets.by_name import BY_FEATURES, Learned
from ddjax.coresets.features import feature_gradients, last_layer_kernel
from ddjax.coresets.selection import (
    by_class,
    by_class_share,
    central,
    cluster_sizes,
    facility_location,
)
from ddjax.data import Split


def _lowest(values: np.ndarray, count: int) -> np.ndarray:
    """The positions of the smallest values, the first of equals first."""
    return np.argsort(values, kind="stable")[:count]


Select = Callable[[np.ndarray, int], np.ndarray]


def _by_gradient(select: Select) -> Callable[[Learned, int], tuple[Select, np.ndarray]]:
    def points(learned: Learned, seed: int) -> tuple[Select, np.ndarray]:
        del seed
        params, split = learned.training.params, learned.split
        logits = predictions.logits(learned.network, params, split)
        return select, feature_gradients(logits, split.labels, last_layer_kernel(learned.network, params))

    return points


def _by_feature(select: Select) -> Callable[[Learned, int], tuple[Select, np.ndarray]]:
    return lambda learned, seed: (select, learned.points)


def _loss(learned: Learned, seed: int) -> tuple[Select, np.ndarray]:
    del seed
    logits = predictions.logits(learned.network, learned.training.params, learned.split).astype(np.float64)
    surprise = np.logaddexp.reduce(logits, 1) - logits[np.arange(len(logits)), learned.split.labels]
    return _lowest, surprise


def _draws(learned: Learned, seed: int) -> np.ndarray:
    # Not the numbers of label noise under the same seed, the lowest of which are mostly wrong labels.
    return np.random.default_rng([seed, 1]).random(len(learned.split))


def _forgetting(learned: Learned, seed: int) -> tuple[Select, np.ndarray]:
    # At random among equally forgotten images, not in the order of the split.
    return _lowest, learned.training.scores + _draws(learned, seed)


def _random(learned: Learned, seed: int) -> tuple[Select, np.ndarray]:
    return _lowest, _draws(learned, seed)


ONCE: dict[str, Callable[[Learned, int], tuple[Select, np.ndarray]]] = {
    "random": _random,
    "central": _by_gradient(central),
    "facility_location": _by_gradient(facility_location),
    "craig": _by_gradient(facility_location),
    "loss": _loss,
    "forgetting": _forgetting,
    **{name: _by_feature(select) for name, select in BY_FEATURES.items()},
}
"""The selections by name.

`central` is CRUST's released one and `facility_location` that of its paper, both on ∂ℓ/∂h; `craig` is the
latter with the sizes of clusters as weights; `loss` takes the smallest losses, `forgetting` the images that
were forgotten least.
"""


class Chosen(NamedTuple):
    """The images that a selection took.

    Attributes:
        rows: `[m]` int64, the positions in the split.
        weights: `[m]`, the weight of each image's loss, with a mean of one.
    """

    rows: np.ndarray
    weights: np.ndarray


def select_once(
    name: str, learned: Learned, *, per_class: int | None = None, share: float = 0.5, seed: int = 0
) -> Chosen:
    """The images that a selection takes from each class of given labels.

    Args:
        name: the name of the selection, one of `ONCE`.
        learned: the images under the given labels, and the results of a training on them.
        per_class: the number of images of each class; None takes a share.
        share: the share of each class, in (0, 1], where no number is given.
        seed: the seed of `random`, and of the order among equally forgotten images.

    Returns:
        The images, with weights that differ for `craig` alone.

    Raises:
        ValueError: the selection is unknown, or a class has fewer images.
    """
    checks.choice("once", name, ONCE)
    checks.at_least("seed", seed, 0)
    select, points = ONCE[name](learned, seed)
    split = learned.split
    if per_class is None:
        rows = by_class_share(select, points, split, share=share)
    else:
        rows = by_class(select, points, split, per_class=per_class).ravel()
    weights = _cluster_sizes(points, split, rows) if name == "craig" else np.ones(len(rows))
    return Chosen(rows, weights / weights.mean())


def _cluster_sizes(points: np.ndarray, split: Split, rows: np.ndarray) -> np.ndarray:
    """The number of points nearest to each selected one of their class; classes may differ in number."""
    sizes = np.zeros(len(rows))
    for k in np.unique(split.labels):
        members, is_own = np.flatnonzero(split.labels == k), split.labels[rows] == k
        one_class = dataclasses.replace(
            split.at(members), labels=np.zeros(len(members), np.int32), num_classes=1
        )
        chosen = np.searchsorted(members, rows[is_own])
        sizes[is_own] = cluster_sizes(points[members], one_class, chosen[None])[0]
    return sizes

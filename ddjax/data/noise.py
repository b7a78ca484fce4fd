"""Label noise: wrong labels drawn from a matrix of transitions, for methods that are to survive them."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from ddjax import checks
from ddjax.data.dataset import Dataset, Origin, Split

KINDS = ("symmetric", "pair", "class_dependent")
"""The kinds of noise that `transition` knows."""


class Noisy(NamedTuple):
    """A split with wrong labels among its own.

    Attributes:
        split: the same examples under the labels that were drawn.
        clean: `[n]` bool, whether each example has kept its own label. A method must not see this.
    """

    split: Split
    clean: np.ndarray


def transition(kind: str, rate: float, num_classes: int) -> np.ndarray:
    """The matrix of the probabilities that a class is labelled as another.

    With ε the rate and K the number of classes:

    *   `"symmetric"`: another class, each of them with probability ε / (K - 1);
    *   `"pair"`: the next class, and the first one after the last, with probability ε;
    *   `"class_dependent"`: symmetric within each class, at a rate from 0 for the first class to 2 ε for the
        last one, at equal distances.

    Args:
        kind: the kind of noise, one of `KINDS`.
        rate: ε, the share of wrong labels in all classes together, in [0, 1).
        num_classes: K, at least two.

    Returns:
        `[K, K]` float64; row k holds the probabilities of the labels that an example of class k gets.

    Raises:
        ValueError: the kind is unknown, a number is out of its range, or a wrong label would be as frequent
            in a class as the right one, so that no method can tell which is right.

    References:
        van Rooyen, Menon and Williamson 2015, arXiv 1505.07634 (symmetric); Han et al. 2018, Co-teaching,
        arXiv 1804.06872 (pair).
    """
    checks.choice("noise: kind", kind, KINDS)
    checks.fraction("noise: rate", rate)
    checks.at_least("noise: num_classes", num_classes, 2, remedy="One class has no wrong label.")
    own = np.eye(num_classes)
    if kind == "pair":
        matrix = (1 - rate) * own + rate * np.roll(own, 1, axis=1)
    else:
        rates = np.full(num_classes, rate) if kind == "symmetric" else np.linspace(0, 2 * rate, num_classes)
        if rates.max() >= 1:
            raise ValueError(
                f"noise: rate: expected a class-dependent rate below 0.5, twice of which the last class has; "
                f"got {rate:g}. Give a smaller rate."
            )
        others = (1 - own) / (num_classes - 1)
        matrix = (1 - rates)[:, None] * own + rates[:, None] * others
    check_transition(matrix, num_classes)
    return matrix


def check_transition(matrix: Any, num_classes: int) -> None:
    """Refuse a matrix of transitions that is none, or under which nothing can be learned.

    Args:
        matrix: the matrix to check, `[K, K]`.
        num_classes: K, the number of classes.

    Raises:
        ValueError: the matrix has another shape, its rows are no probabilities, or the right label is not the
            most frequent one of its class.
    """
    matrix = np.asarray(matrix, np.float64)
    shape = (num_classes, num_classes)
    checks.equal("transition: shape", matrix.shape, shape, remedy="Give a row for each class.")
    is_probability = np.isfinite(matrix).all() and (matrix >= 0).all() and np.allclose(matrix.sum(1), 1)
    if not is_probability:
        raise ValueError(
            "transition: expected rows of probabilities that sum to one; got others. Divide each row by its "
            "sum."
        )
    others = np.where(np.eye(num_classes, dtype=bool), -np.inf, matrix)
    for k, (right, wrong) in enumerate(zip(np.diag(matrix), others.max(1), strict=True)):
        if right <= wrong:
            raise ValueError(
                f"transition: expected the right label to be the most frequent one of each class; got "
                f"{right:.3g} for class {k}, and {wrong:.3g} for class {others[k].argmax()}: nothing says "
                "which of the two is right. Give a smaller rate."
            )


def corrupt(split: Split, matrix: np.ndarray, *, seed: int) -> Noisy:
    """Draw new labels for all examples.

    Args:
        split: the examples with their own labels.
        matrix: `[K, K]`, the probabilities of the labels, a row for each class; see `transition`.
        seed: the seed of the draw.

    Returns:
        The noisy split, and which labels are right.

    Raises:
        ValueError: see `check_transition`.
    """
    checks.kind("split", split, Split, remedy="Give data.train.")
    checks.at_least("seed", seed, 0)
    check_transition(matrix, split.num_classes)
    edges = np.cumsum(np.asarray(matrix, np.float64), 1)[split.labels]
    draws = np.random.default_rng(seed).random(len(split))
    # The last edge may be a rounding error below one.
    drawn = np.minimum((draws[:, None] >= edges).sum(1), split.num_classes - 1).astype(split.labels.dtype)
    return Noisy(dataclasses.replace(split, labels=drawn), drawn == split.labels)


def with_training_split(data: Dataset, train: Split, *, name: str) -> Dataset:
    """A data set with another training split, such as a noisy one, or the rows that a selection keeps.

    Args:
        data: the data set.
        train: the training split from now on, under the same encoding.
        name: the name of the new data in artifacts and records.

    Returns:
        The data set; validation and test stay. Its origin is that of arrays in memory, because no source
        gives these labels again.
    """
    checks.kind("train", train, Split, remedy="Give a Split, e.g. data.train.at(rows).")
    return dataclasses.replace(data, train=train, name=name, origin=Origin())

"""Selections: the positions of a few points that represent all, as functions of the points alone.

Distances are Euclidean. Of several equally good points the first is taken.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ddjax import checks
from ddjax.coresets.images import check_enough
from ddjax.data import Split

_CHUNK = 1024  # rows of distances at a time: bounds their memory


def by_class(
    select: Callable[[np.ndarray, int], np.ndarray], points: np.ndarray, split: Split, *, per_class: int
) -> np.ndarray:
    """Apply a selection to each class.

    Args:
        select: the selection, `(points [n, F], count) -> positions [count]`, e.g. `herding`.
        points: the points, `[n, ...]`, one for each image of the split.
        split: the split whose labels divide the points into classes.
        per_class: the number of images of each class.

    Returns:
        The positions in the split, `[K, per_class]` int64; within a class in the order of selection.

    Raises:
        ValueError: a class has fewer than `per_class` images, or the numbers of points and images differ.
    """
    check_enough(split, per_class, split.num_classes)
    checks.equal("points: how many", len(points), len(split), remedy="Give one for each image of the split.")
    members = (np.flatnonzero(split.labels == k) for k in range(split.num_classes))
    return np.stack([rows[select(points[rows], per_class)] for rows in members])


def by_class_share(
    select: Callable[[np.ndarray, int], np.ndarray], points: np.ndarray, split: Split, *, share: float
) -> np.ndarray:
    """Apply a selection to each class, as many points as a share of the class.

    Classes of noisy labels differ in size, so that a fixed number would be another share of each.

    Args:
        select: the selection, `(points [n, F], count) -> positions [count]`, e.g. `central`.
        points: the points, `[n, ...]`, one for each image of the split.
        split: the split whose labels divide the points into classes.
        share: the share of each class, in (0, 1], rounded down; a class with images keeps one at least.

    Returns:
        The positions in the split, `[m]` int64, class after class, within a class in the order of selection.

    Raises:
        ValueError: the share is out of its range, or the numbers of points and images differ.
    """
    checks.positive("share", share)
    if share > 1:
        raise ValueError(f"share: expected at most 1, all images of each class; got {share:g}. Give less.")
    checks.equal("points: how many", len(points), len(split), remedy="Give one for each image of the split.")
    members = [np.flatnonzero(split.labels == k) for k in range(split.num_classes)]
    # A share such as 0.29 of 100 is 28.999...: the tolerance keeps the 29th.
    counts = [max(1, int(share * len(rows) + 1e-9)) for rows in members]
    chosen = [
        rows[select(points[rows], count)] for rows, count in zip(members, counts, strict=True) if len(rows)
    ]
    return np.concatenate(chosen)


def herding(points: np.ndarray, count: int) -> np.ndarray:
    """Select points whose mean stays near the mean of all points: kernel herding with a linear kernel.

        s_i = argmin_j ‖i μ - Σ_{l < i} x_{s_l} - x_j‖    over all j not yet selected, i = 1, 2, ...

    Args:
        points: the points to select from, `[n, F]` float.
        count: the number of points to select, m.

    Returns:
        The positions, `[m]` int64, in the order of selection. A smaller m gives the first of these.

    Raises:
        ValueError: the points are not finite floats `[n, F]`, `count` is below one, or n is below `count`.

    References:
        Welling 2009; Rebuffi et al. 2017, arXiv 1611.07725. Without repetition, as in the code of the
        condensation papers: github.com/VICO-UoE/DatasetCondensation, issue 15.
    """
    points, squares = _centred(points, count)
    # The points are centred: i μ is zero, and only the sum of the selected points is left.
    total = np.zeros_like(points[0])
    chosen: list[int] = []
    score = squares.copy()
    for _ in range(count):
        chosen.append(int(score.argmin()))
        total += points[chosen[-1]]
        score = squares + 2 * (points @ total)
        score[chosen] = np.inf
    return np.array(chosen)


def nearest(points: np.ndarray, count: int) -> np.ndarray:
    """Select the points nearest to the mean of all: herding without regard to earlier selections.

    Args:
        points: the points to select from, `[n, F]` float.
        count: the number of points to select, m.

    Returns:
        The positions, `[m]` int64, nearest first. A smaller m gives the first of these; the very first is
        also the first of `herding`.

    Raises:
        ValueError: the points are not finite floats `[n, F]`, `count` is below one, or n is below `count`.
    """
    _, squares = _centred(points, count)
    return np.argsort(squares, kind="stable")[:count]


def central(points: np.ndarray, count: int) -> np.ndarray:
    """Select the points whose distances to all points have the smallest sums.

        s_1, s_2, ... = the points in the order of Σ_j ‖x_i - x_j‖, smallest first

    This is what the released code of CRUST selects: its greedy step accepts every point at its first look,
    where the paper describes `facility_location`. Under label noise the two do opposite things: wrong labels
    make gradients that lie apart, which a central selection leaves out and a covering one collects.

    Args:
        points: the points to select from, `[n, F]` float; in CRUST the gradients of a class.
        count: the number of points to select, m.

    Returns:
        The positions, `[m]` int64, most central first. A smaller m gives the first of these.

    Raises:
        ValueError: the points are not finite floats `[n, F]`, `count` is below one, or n is below `count`.

    References:
        Mirzasoleiman, Cao and Leskovec 2020, Coresets for Robust Training of Neural Networks against Noisy
        Labels; `lazyGreedy.py` and `fl_cifar.py` of github.com/snap-stanford/crust.
    """
    points, _ = _centred(points, count)
    sums = np.concatenate([distances.sum(1) for distances in _distances(points, np.arange(len(points)))])
    return np.argsort(sums, kind="stable")[:count]


def neighbours(points: np.ndarray, chosen: np.ndarray, *, radius: float) -> np.ndarray:
    """The number of points within a radius of each selected point: the weights of CRUST's released code.

    Args:
        points: the points, `[n, F]` float.
        chosen: the positions of the selected points, `[m]`.
        radius: the radius; points at this distance do not count.

    Returns:
        The numbers, `[m]` int64; each point counts itself.

    Raises:
        ValueError: the points are not finite floats `[n, F]`, or the radius is not positive.
    """
    checks.positive("radius", radius)
    points, _ = _centred(points, 1)
    return np.concatenate([(one < radius).sum(1) for one in _distances(points, np.asarray(chosen))])


def _distances(points: np.ndarray, rows: np.ndarray) -> Iterator[np.ndarray]:
    """The distances `[chunk, n]` of the points at some rows to all points, a few rows at a time."""
    squares = np.einsum("nf,nf->n", points, points)
    for start in range(0, len(rows), _CHUNK):
        own = rows[start : start + _CHUNK]
        products = points[own] @ points.T
        yield np.sqrt(np.maximum(squares[own, None] + squares[None] - 2 * products, 0))


def k_center(points: np.ndarray, count: int) -> np.ndarray:
    """Select points by greedy k-center: each new point is the one furthest from those selected so far.

    The largest distance from a point to the nearest selected point is at most twice that of the best
    selection. The first selected point is the one nearest to the mean.

    Args:
        points: the points to select from, `[n, F]` float.
        count: the number of points to select, m.

    Returns:
        The positions, `[m]` int64, in the order of selection. A smaller m gives the first of these.

    Raises:
        ValueError: the points are not finite floats `[n, F]`, `count` is below one, or n is below `count`.

    References:
        Gonzalez 1985; Sener and Savarese 2018, arXiv 1708.00489. The first point is chosen as in the code
        of the condensation papers: github.com/VICO-UoE/DatasetCondensation, issue 21.
    """
    points, squares = _centred(points, count)
    chosen = [int(squares.argmin())]
    nearest = np.full(len(points), np.inf, points.dtype)
    while len(chosen) < count:
        last = chosen[-1]
        np.minimum(nearest, squares - 2 * (points @ points[last]) + squares[last], out=nearest)
        nearest[chosen] = -np.inf
        chosen.append(int(nearest.argmax()))
    return np.array(chosen)


def facility_location(points: np.ndarray, count: int) -> np.ndarray:
    """Select points that are near to all others: the greedy maximum of a submodular function.

        F(S) = Σ_i (c - min_{j ∈ S} ‖x_i - x_j‖),    c the largest distance, F(∅) = 0

    The F of this selection is at least 1 - 1/e times the F of the best m points. All distances are stored,
    4 n² bytes (144 MB for 6,000 points of a class), so that each further point takes one pass over them.

    Args:
        points: the points to select from, `[n, F]` float; in CRAIG the gradients of a class.
        count: the number of points to select, m.

    Returns:
        The positions, `[m]` int64, in the order of selection. A smaller m gives the first of these.

    Raises:
        ValueError: the points are not finite floats `[n, F]`, `count` is below one, or n is below `count`.

    References:
        Nemhauser, Wolsey and Fisher 1978; Mirzasoleiman et al. 2020, arXiv 1906.01827 (CRAIG).
    """
    points, _ = _centred(points, count)
    return np.asarray(_facilities(jnp.asarray(points), count), np.int64)


@functools.partial(jax.jit, static_argnums=1)
def _facilities(points: jax.Array, count: int) -> jax.Array:
    squares = jnp.sum(points**2, 1)
    products = jnp.matmul(points, points.T, precision=lax.Precision.HIGHEST)
    distances = squares[:, None] + squares[None] - 2 * products
    distances = jnp.sqrt(jnp.maximum(distances, 0)) * (1 - jnp.eye(len(points), dtype=points.dtype))

    def select(carry: tuple[jax.Array, jax.Array], _: None) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        nearest, is_left = carry
        gains = jnp.sum(jnp.maximum(nearest[None] - distances, 0), 1)
        best = jnp.argmax(jnp.where(is_left, gains, -1))
        return (jnp.minimum(nearest, distances[best]), is_left.at[best].set(False)), best

    start = jnp.full(len(points), distances.max()), jnp.ones(len(points), bool)
    return lax.scan(select, start, length=count)[1]


def cluster_sizes(points: np.ndarray, split: Split, rows: np.ndarray) -> np.ndarray:
    """The number of points nearest to each selected point of their class: the weights of CRAIG.

    Args:
        points: the points, `[n, F]` float, one for each image of the split.
        split: the split whose labels divide the points into classes.
        rows: the positions in the split of the selected images of each class, `[K, m]`, as returned by
            `by_class`.

    Returns:
        The numbers, `[K, m]` int64; those of a class sum to the number of images of the class. Of several
        selected points in the same place, the first has the whole number and the others zero.

    Raises:
        ValueError: the points are not finite floats `[n, F]`, their number is not that of the images, or the
            rows have another shape or contain images of other classes.
    """
    checks.equal("points: how many", len(points), len(split), remedy="Give one for each image of the split.")
    rows = np.asarray(rows)
    if rows.ndim != 2 or not np.array_equal(split.labels[rows], np.indices(rows.shape)[0]):
        raise ValueError(
            f"rows: expected [K, m], in row k images of class k; got shape {list(rows.shape)}, or images of "
            "other classes. Give what by_class returned."
        )

    def sizes(members: np.ndarray, selected: np.ndarray) -> np.ndarray:
        cluster, squares = _centred(points[members], len(selected))
        at = np.searchsorted(members, selected)
        # ‖x_i‖², the same for all selected points, is left out.
        nearest = (squares[at] - 2 * cluster @ cluster[at].T).argmin(1)
        return np.bincount(nearest, minlength=len(selected))

    return np.stack([sizes(np.flatnonzero(split.labels == k), of_class) for k, of_class in enumerate(rows)])


def most_forgotten(events: np.ndarray, count: int, *, seed: int) -> np.ndarray:
    """Select the points that were forgotten most often, at random among equally forgotten points.

    Args:
        events: the number of forgetting events of each point, `[n]`, e.g. `Forgetting.scores`.
        count: the number of points to select, m.
        seed: the seed of the draw among equally forgotten points.

    Returns:
        The positions, `[m]` int64, most often forgotten first.

    Raises:
        ValueError: `count` is below one or above n, or the seed is negative.

    References:
        Toneva et al. 2019, arXiv 1812.05159.
    """
    events = np.asarray(events)
    checks.at_least("seed", seed, 0)
    _check_count(len(events), count)
    return np.lexsort((np.random.default_rng(seed).random(len(events)), -events))[:count]


def _centred(points: Any, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The points minus their mean, which loses fewer digits, and their squared norms.

    Raises:
        ValueError: the points are not finite floats `[n, F]`, `count` is below one, or n is below `count`.
    """
    points = np.asarray(points)
    if points.ndim != 2 or points.dtype.kind != "f" or not np.isfinite(points).all():
        raise ValueError(
            f"points: expected finite floats [n, F]; got {points.dtype}{list(points.shape)}, or NaN or "
            "infinity. Give a row of numbers for each image."
        )
    _check_count(len(points), count)
    points = points - points.mean(0)
    return points, np.einsum("nf,nf->n", points, points)


def _check_count(size: int, count: int) -> None:
    checks.at_least("count", count, 1)
    if count > size:
        raise ValueError(
            f"count: expected at most the {size} points that there are; got {count}. Ask for fewer."
        )

"""Coresets that need the images alone: random images, the mean of each class, k-means centroids."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ddjax import checks
from ddjax.data import Split


def check_enough(split: Split, per_class: int, num_classes: int) -> None:
    """Refuse more images per class than the smallest class has.

    Args:
        split: the split to select from.
        per_class: the number of images of each class.
        num_classes: the number of classes, K.

    Raises:
        ValueError: `per_class` is below one, `num_classes` is below that of the split, or a class has fewer
            than `per_class` images; the message names the smallest class.
    """
    checks.kind("split", split, Split, remedy="Give data.train.")
    checks.at_least("images per class", per_class, 1)
    checks.at_least("num_classes", num_classes, split.num_classes, remedy="Give data.num_classes.")
    counts = np.bincount(split.labels, minlength=num_classes)
    smallest = int(counts.argmin())
    if counts[smallest] < per_class:
        raise ValueError(
            f"images per class: expected at most {counts[smallest]}, which class {smallest} has in training; "
            f"got {per_class}. Ask for fewer."
        )


def random_real(split: Split, *, per_class: int, num_classes: int, seed: int) -> np.ndarray:
    """Draw images without replacement from each class.

    Args:
        split: the split to draw from.
        per_class: the number of images of each class.
        num_classes: the number of classes, K.
        seed: the seed of the draw.

    Returns:
        The positions of the images in the split, `[K, per_class]` int64.

    Raises:
        ValueError: a class has fewer than `per_class` images.
    """
    check_enough(split, per_class, num_classes)
    checks.at_least("seed", seed, 0)
    rng = np.random.default_rng(seed)
    members = (np.flatnonzero(split.labels == k) for k in range(num_classes))
    return np.stack([rng.choice(rows, per_class, replace=False) for rows in members])


def real_images(split: Split, *, per_class: int, num_classes: int, seed: int) -> np.ndarray:
    """Draw real images without replacement from each class, at the positions of `random_real`.

    Args:
        split: the split to draw from.
        per_class: the number of images of each class.
        num_classes: the number of classes, K.
        seed: the seed of the draw.

    Returns:
        The encoded images, `[K, per_class, *input_shape]` float32.

    Raises:
        ValueError: a class has fewer than `per_class` images.
    """
    return images_at(split, random_real(split, per_class=per_class, num_classes=num_classes, seed=seed))


def images_at(split: Split, rows: np.ndarray) -> np.ndarray:
    """The images at given positions of a split.

    Args:
        split: the split to take images from.
        rows: the positions, whole numbers `[...]`.

    Returns:
        The encoded images, `[..., *input_shape]` float32.
    """
    return split.at(rows.ravel()).encoded().reshape(*rows.shape, *split.input_shape)


def class_means(split: Split, *, num_classes: int) -> np.ndarray:
    """The mean of each class's encoded examples.

    Args:
        split: the split to average over.
        num_classes: the number of classes, K.

    Returns:
        The means, `[K, 1, *input_shape]` float32.

    Raises:
        ValueError: a class has no image.
    """
    check_enough(split, 1, num_classes)
    images = split.encoded()
    return np.stack([images[split.labels == k].mean(0, keepdims=True) for k in range(num_classes)])


def k_means(split: Split, *, per_class: int, num_classes: int, seed: int) -> np.ndarray:
    """The centroids of k-means within each class, on encoded examples (scikit-learn, k-means++ start).

    Args:
        split: the split to cluster.
        per_class: the number of centroids of each class.
        num_classes: the number of classes, K.
        seed: the seed of the starting points.

    Returns:
        The centroids, `[K, per_class, *input_shape]` float32.

    Raises:
        ValueError: a class has fewer images than centroids.
    """
    from sklearn.cluster import KMeans

    check_enough(split, per_class, num_classes)
    checks.at_least("seed", seed, 0)
    images = split.encoded()

    def centroids(rows: np.ndarray) -> np.ndarray:
        points = images[rows].reshape(len(rows), -1)
        found = KMeans(per_class, n_init="auto", random_state=seed).fit(points).cluster_centers_
        return found.reshape(per_class, *images.shape[1:]).astype(np.float32)

    return np.stack([centroids(np.flatnonzero(split.labels == k)) for k in range(num_classes)])


INITIAL_IMAGES: dict[str, Callable[..., np.ndarray] | None] = {
    "noise": None,
    "real": real_images,
    "k_means": k_means,
}
"""The functions that make initial distilled images, by name; None for noise."""

"""Selection from the real set, on the embedded digits."""

from __future__ import annotations

import numpy as np
import pytest

from ddjax import coresets


def test_random_real_draws_distinct_images_of_each_class(digits):
    rows = coresets.random_real(digits.train, per_class=7, num_classes=10, seed=3)
    assert rows.shape == (10, 7)
    assert (digits.train.labels[rows] == np.arange(10)[:, None]).all()
    assert len(np.unique(rows)) == 70
    assert np.array_equal(rows, coresets.random_real(digits.train, per_class=7, num_classes=10, seed=3))
    assert not np.array_equal(rows, coresets.random_real(digits.train, per_class=7, num_classes=10, seed=4))


def test_class_means_are_means(digits):
    means = coresets.class_means(digits.train, num_classes=10)
    images = digits.train.normalised()
    assert means.shape == (10, 1, 8, 8, 1)
    np.testing.assert_allclose(means[4, 0], images[digits.train.labels == 4].mean(0), rtol=1e-5, atol=1e-6)


def test_one_centroid_is_the_class_mean(digits):
    centroids = coresets.k_means(digits.train, per_class=1, num_classes=10, seed=0)
    np.testing.assert_allclose(centroids, coresets.class_means(digits.train, num_classes=10), atol=1e-4)


def test_centroids_are_a_fixed_point_of_lloyd_s_iteration(digits):
    centroids = coresets.k_means(digits.train, per_class=3, num_classes=10, seed=0)[6].reshape(3, -1)
    points = digits.train.normalised()[digits.train.labels == 6].reshape(-1, 64)
    nearest = ((points[:, None] - centroids) ** 2).sum(-1).argmin(1)
    moved = np.stack([points[nearest == j].mean(0) for j in range(3)])
    np.testing.assert_allclose(moved, centroids, atol=1e-3)


def test_more_images_than_a_class_has_are_refused(digits):
    smallest = np.bincount(digits.train.labels).min()
    with pytest.raises(ValueError, match=f"expected at most {smallest}, which class"):
        coresets.random_real(digits.train, per_class=1000, num_classes=10, seed=0)
    with pytest.raises(ValueError, match="expected at most"):
        coresets.k_means(digits.train, per_class=1000, num_classes=10, seed=0)
    with pytest.raises(ValueError, match="expected a whole number >= 1"):
        coresets.random_real(digits.train, per_class=0, num_classes=10, seed=0)

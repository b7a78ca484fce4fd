"""The validation split, the statistics and the normalised images."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddjax.data import Split, from_arrays
from ddjax.data.dataset import channel_statistics, stratified_split
from ddjax.encodings import Channels


def numbered(sizes):
    """Images that hold their own position, so that splits can be traced."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    images = np.zeros((len(labels), 2, 2, 1), np.uint8)
    images[:, 0, 0, 0], images[:, 0, 1, 0] = np.divmod(np.arange(len(labels)), 256)
    return images, labels


def positions(split):
    return split.images[:, 0, 0, 0].astype(int) * 256 + split.images[:, 0, 1, 0]


def test_split_is_a_partition_that_keeps_order_and_labels():
    images, labels = numbered([50, 30, 20])
    data = from_arrays(images, labels, images, labels)
    train, validation = positions(data.train), positions(data.validation)
    assert sorted([*train, *validation]) == list(range(100))
    assert (np.diff(train) > 0).all()
    np.testing.assert_array_equal(data.train.labels, labels[train])
    np.testing.assert_array_equal(data.validation.labels, labels[validation])
    np.testing.assert_array_equal(np.bincount(data.validation.labels), [5, 3, 2])
    np.testing.assert_array_equal(data.test.images, images)


def test_split_depends_on_the_seed_and_on_nothing_else():
    labels = np.arange(40) % 2
    first, again, other = (stratified_split(labels, fraction=0.25, seed=seed)[1] for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_split_is_the_same_on_every_machine():
    taken = stratified_split(np.arange(20) % 2, fraction=0.2, seed=0)[1]
    np.testing.assert_array_equal(taken, [4, 7, 11, 16])


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=2, max_size=6),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_class_of_two_or_more_is_in_both_parts(sizes, fraction, seed):
    if max(sizes) == 1:
        sizes[0] = 2
    labels = np.repeat(np.arange(len(sizes)), sizes)
    kept, taken = stratified_split(labels, fraction=fraction, seed=seed)
    assert sorted([*kept, *taken]) == list(range(len(labels)))
    in_kept = np.bincount(labels[kept], minlength=len(sizes))
    in_taken = np.bincount(labels[taken], minlength=len(sizes))
    assert (in_kept >= 1).all()
    assert (in_taken[np.array(sizes) >= 2] >= 1).all()
    share = np.clip(fraction * np.array(sizes), 1, np.maximum(np.array(sizes) - 1, 1))
    assert (abs(in_taken - share) <= 1).all()


def test_own_validation_leaves_the_training_set_whole():
    images, labels = numbered([6, 6])
    data = from_arrays(images, labels, images, labels, x_validation=images[:3], y_validation=labels[:3])
    assert (len(data.train), len(data.validation)) == (12, 3)
    assert data.validation.num_classes == 2


def test_statistics_are_those_of_the_whole_training_set_in_each_channel():
    rng = np.random.RandomState(0)
    images = rng.randint(0, 256, (1500, 5, 6, 3)).astype(np.uint8)
    labels = np.arange(1500) % 3
    data = from_arrays(images, labels, images[:9] // 2, labels[:9], seed=5)
    np.testing.assert_allclose(data.mean, (images / 255).mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(data.std, (images / 255).std((0, 1, 2)), rtol=1e-6)
    assert data.mean.dtype == data.std.dtype == np.float32
    assert data.test.mean is data.validation.mean is data.mean


def test_a_constant_channel_does_not_divide_by_zero():
    images = np.full((4, 3, 3, 2), 77, np.uint8)
    images[:2, ..., 1] = 0
    mean, std = channel_statistics(images)
    assert std[0] == 1
    split = Split(images, np.array([0, 1, 0, 1], np.int32), Channels(mean, std))
    assert np.isfinite(split.encoded()).all()
    np.testing.assert_allclose(split.encoded()[..., 0], 0, atol=1e-6)


def test_normalised_has_mean_zero_and_std_one():
    images = np.random.RandomState(1).randint(0, 256, (64, 6, 6, 3)).astype(np.uint8)
    mean, std = channel_statistics(images)
    normalised = Split(images, np.arange(64, dtype=np.int32) % 2, Channels(mean, std)).encoded()
    assert normalised.dtype == np.float32
    np.testing.assert_allclose(normalised.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(normalised.std((0, 1, 2)), 1, atol=1e-5)


def test_names_and_counts():
    images, labels = numbered([5, 5])
    named = from_arrays(images, labels, images, labels, name="pets", class_names=["cat", "dog"])
    assert (named.name, named.class_names, named.num_classes) == ("pets", ("cat", "dog"), 2)
    assert from_arrays(images, labels, images, labels).class_names == ("0", "1")
    assert Split(images, labels, named.encoding).num_classes == 2


def test_unsplittable_arrays_are_refused():
    with pytest.raises(ValueError, match="one image of each"):
        stratified_split(np.arange(5), fraction=0.1, seed=0)

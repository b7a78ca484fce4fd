"""`RealData` and the minibatches drawn from it inside jit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddjax.data import Split, class_minibatch, minibatch, to_device
from ddjax.encodings import Channels, Encoded
from ddjax.testing.report import double

ENCODING = Channels(np.zeros(1, np.float32), np.full(1, 1 / 255, np.float32))
LABELS = np.array([2, 0, 2, 1, 0, 2, 2], np.int32)


def split(labels=LABELS, num_classes=3):
    """Images whose pixels all hold their own position; mean 0 and std 1 / 255 leave x = pixel."""
    images = np.broadcast_to(
        np.arange(len(labels), dtype=np.uint8)[:, None, None, None], (len(labels), 2, 3, 1)
    )
    return Split(images.copy(), labels, ENCODING, num_classes)


def position(inputs):
    return np.rint(np.asarray(inputs)[..., 0, 0, 0]).astype(int)


def test_to_device_keeps_bytes_and_indexes_the_classes():
    data = to_device(split())
    assert (data.raw.dtype, data.labels.dtype, data.class_order.dtype) == (jnp.uint8, jnp.int32, jnp.int32)
    assert {leaf.dtype for leaf in jax.tree.leaves(data.encoding)} == {jnp.dtype(jnp.float32)}
    np.testing.assert_array_equal(data.class_start, [0, 2, 3, 7])
    np.testing.assert_array_equal(data.class_order, [1, 4, 3, 0, 2, 5, 6])


def test_class_start_has_an_entry_for_a_class_without_images():
    np.testing.assert_array_equal(to_device(split(LABELS, num_classes=5)).class_start, [0, 2, 3, 7, 7, 7])


def test_normalise_is_the_formula_of_the_vocabulary():
    images = np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3) * 10
    mean, std = np.array([0.1, 0.2, 0.3], np.float32), np.array([0.5, 1.0, 2.0], np.float32)
    got = Channels(jnp.asarray(mean), jnp.asarray(std)).encode(jnp.asarray(images))
    expected = Split(images, np.array([0, 1], np.int32), Channels(mean, std)).encoded()
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)
    assert got.dtype == jnp.float32


@pytest.mark.parametrize("shape", [(2, 3, 1), (5,), ()], ids=["images", "texts", "numbers"])
def test_examples_at_positions_of_any_shape_are_those_of_the_arrays(shape, rng):
    raw = rng.normal(size=(7, *shape)).astype(np.float32)
    data = to_device(split())._replace(raw=jnp.asarray(raw), encoding=Encoded())
    for rows in (rng.integers(0, 7, (4, 3)), rng.integers(0, 7, 6), np.array(3)):
        np.testing.assert_array_equal(jax.jit(data.inputs_at)(jnp.asarray(rows)), raw[rows])


@pytest.mark.slow
def test_float64_statistics_give_float64_minibatches():
    with double():
        data = to_device(split())
        data = data._replace(encoding=jax.tree.map(lambda leaf: leaf.astype(jnp.float64), data.encoding))
        key = jax.random.key(0)
        assert minibatch(data, key, size=2).inputs.dtype == jnp.float64
        assert class_minibatch(data, key, size=2).dtype == jnp.float64


@pytest.mark.slow
def test_minibatch_pairs_images_with_their_labels_and_is_pure():
    data, key = to_device(split()), jax.random.key(3)
    batch = jax.jit(minibatch, static_argnames="size")(data, key, size=50)
    assert batch.inputs.shape == (50, 2, 3, 1)
    np.testing.assert_array_equal(batch.labels, LABELS[position(batch.inputs)])
    np.testing.assert_array_equal(batch.labels, minibatch(data, key, size=50).labels)
    assert not np.array_equal(batch.labels, minibatch(data, jax.random.key(4), size=50).labels)


def chi_square(counts):
    expected = counts.sum() / len(counts)
    return ((counts - expected) ** 2 / expected).sum()


def test_minibatch_is_uniform_over_the_split():
    batch = minibatch(to_device(split()), jax.random.key(0), size=7000)
    counts = np.bincount(position(batch.inputs), minlength=7)
    assert chi_square(counts) < 22.5  # 6 degrees of freedom, p = 0.001


def test_class_minibatch_is_uniform_over_each_class():
    draw = jax.jit(class_minibatch, static_argnames="size")
    inputs = draw(to_device(split()), jax.random.key(0), size=4000)
    assert inputs.shape == (3, 4000, 2, 3, 1)
    for label, drawn in enumerate(position(inputs)):
        members = np.flatnonzero(label == LABELS)
        counts = np.bincount(drawn, minlength=7)
        assert counts[members].sum() == 4000
        assert chi_square(counts[members]) < 16.3  # at most 3 degrees of freedom, p = 0.001


@pytest.mark.slow
def test_classes_draw_independently():
    first, _, last = position(class_minibatch(to_device(split()), jax.random.key(0), size=4000))
    assert abs(np.corrcoef(first == 1, last < 3)[0, 1]) < 0.06


@pytest.mark.slow
def test_a_class_without_images_gives_nan_and_leaves_the_others_alone():
    inputs = class_minibatch(to_device(split(LABELS, num_classes=4)), jax.random.key(0), size=3)
    assert np.isnan(inputs[3]).all()
    assert np.isfinite(inputs[:3]).all()


@pytest.mark.parametrize("size", [0, -1, 1.5, True])
@pytest.mark.parametrize("draw", [minibatch, class_minibatch])
def test_a_size_below_one_is_refused(draw, size):
    with pytest.raises(ValueError, match="size: expected a whole number >= 1"):
        draw(to_device(split()), jax.random.key(0), size=size)

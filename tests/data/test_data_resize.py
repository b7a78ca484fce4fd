"""Images of another size: as JAX and Pillow resize them, with statistics of their own."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import pytest

from ddjax.data import Dataset, from_arrays, load, repeat_channels, resize
from ddjax.data.dataset import channel_statistics

USPS = Path(__file__).resolve().parents[3] / "shared" / "usps.npz"


def noise(shape: tuple[int, int, int], seed: int = 0) -> Dataset:
    random = np.random.RandomState(seed)
    images = random.randint(0, 256, (24, *shape)).astype(np.uint8)
    labels = np.arange(24) % 3
    return from_arrays(images, labels, images[:9] // 2, labels[:9])


@pytest.mark.parametrize("size", [(28, 28), (9, 9), (7, 30), (16, 5), (1, 1)])
@pytest.mark.parametrize("channels", [1, 3])
def test_it_is_bilinear_as_jax_and_pillow_have_it(size, channels):
    from PIL import Image

    data = noise((16, 16, channels))
    resized = resize(data, size)
    assert resized.image_shape == (*size, channels)
    for before, after in zip(
        (data.train, data.validation, data.test),
        (resized.train, resized.validation, resized.test),
        strict=True,
    ):
        assert after.images.dtype == np.uint8
        shape = (len(before), *size, channels)
        theirs = jax.image.resize(before.images.astype(np.float32), shape, "linear")
        assert np.abs(np.asarray(theirs) - after.images).max() <= 0.501  # theirs is not rounded
        mode = (size[1], size[0])
        eight_bits = [
            np.asarray(Image.fromarray(np.squeeze(image)).resize(mode, Image.Resampling.BILINEAR))
            for image in before.images
        ]
        # For 8 bits Pillow rounds after each of its two passes.
        assert np.abs(np.reshape(eight_bits, shape).astype(int) - after.images).max() <= 1
        assert np.array_equal(after.labels, before.labels)


def test_statistics_are_those_of_the_resized_training_set_validation_included():
    resized = resize(noise((8, 8, 3)), 5)
    mean, std = channel_statistics(np.concatenate([resized.train.images, resized.validation.images]))
    for split in (resized.train, resized.validation, resized.test):
        assert np.array_equal(split.mean, mean)
        assert np.array_equal(split.std, std)
        assert split.num_classes == 3


def test_the_same_size_changes_nothing():
    data = noise((8, 8, 1))
    assert resize(data, 8) is data
    assert repeat_channels(data, 1) is data


def test_a_constant_image_stays_constant():
    images = np.full((6, 5, 7, 1), 200, np.uint8)
    resized = resize(from_arrays(images, np.arange(6) % 2, images, np.arange(6) % 2), (12, 3))
    assert (resized.train.images == 200).all()


def test_grey_images_become_colour_without_a_change_to_what_is_seen():
    data = noise((6, 6, 1))
    colour = repeat_channels(data, 3)
    assert colour.image_shape == (6, 6, 3)
    for channel in range(3):
        assert np.array_equal(colour.test.encoded()[..., channel], data.test.encoded()[..., 0])


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda data: resize(data, 0), "size: expected a whole number >= 1; got 0"),
        (lambda data: resize(data, (8, 2.5)), "got 2.5"),  # type: ignore[arg-type]
        (lambda data: resize(data.train, 8), "data: expected a Dataset"),
        (lambda data: repeat_channels(data, 0), "channels: expected a whole number >= 1; got 0"),
        (lambda data: repeat_channels(data, 1), "channels of the images: expected 1; got 3"),
        (lambda data: repeat_channels(data.train, 3), "data: expected a Dataset"),
    ],
)
def test_bad_input_is_refused(action, message):
    with pytest.raises(ValueError, match=message):
        action(noise((4, 4, 3)))


def test_usps_at_the_size_of_mnist():
    if not USPS.exists():
        pytest.skip(f"USPS is not at {USPS}")
    data = resize(load(USPS), 28)
    assert (data.name, data.image_shape, len(data.test)) == ("usps", (28, 28, 1), 2007)
    assert len(data.train) + len(data.validation) == 7291
    assert data.train.encoded().mean() == pytest.approx(0, abs=0.02)
    assert data.train.encoded().std() == pytest.approx(1, abs=0.02)

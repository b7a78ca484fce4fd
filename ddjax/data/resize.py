"""Images converted to the size and number of channels that a network takes."""

from __future__ import annotations

import dataclasses

import numpy as np

from ddjax import checks
from ddjax.data.dataset import Dataset, Split, channel_statistics
from ddjax.data.digest import converted
from ddjax.encodings import Channels


def resize(data: Dataset, size: int | tuple[int, int]) -> Dataset:
    """The same data with images of another height and width.

    The interpolation is Pillow's `BILINEAR`: pixel centres at halves and, where the image shrinks, a triangle
    as wide as the scale (antialiasing). Pillow computes in floats (its mode F); the result is rounded to 8
    bits once, at the end. Mean and standard deviation are measured
    again on the resized training set, validation included. Data that already have the size are returned
    unchanged, with the statistics that they had.

    Args:
        data: the real data, a data set of images.
        size: the new height and width, or one number for both.

    Returns:
        The resized data, under the same name.

    Raises:
        ValueError: `data` is no `Dataset`, or a side is below one.
    """
    checks.kind("data", data, Dataset, remedy="Use ddjax.data.load or ddjax.data.from_arrays.")
    height, width = size if isinstance(size, tuple) else (size, size)
    checks.at_least("size", height, 1)
    checks.at_least("size", width, 1)
    if data.image_shape[:2] == (height, width):
        return data
    train, validation, test = (
        _resized(split.images, height, width) for split in (data.train, data.validation, data.test)
    )
    encoding = Channels(*channel_statistics(np.concatenate([train, validation])))
    changed = dataclasses.replace(
        data,
        train=dataclasses.replace(data.train, raw=train, encoding=encoding),
        validation=dataclasses.replace(data.validation, raw=validation, encoding=encoding),
        test=dataclasses.replace(data.test, raw=test, encoding=encoding),
    )
    return converted(data, changed, resize=[int(height), int(width)])


def repeat_channels(data: Dataset, channels: int) -> Dataset:
    """Grey images as images of several equal channels, for networks that were trained on colour.

    Args:
        data: the real data, images of one channel.
        channels: the new number of channels.

    Returns:
        The data with that number of channels, under the same name. Data that already have the number are
        returned unchanged.

    Raises:
        ValueError: `data` is no `Dataset`, `channels` is below one, or the images have more than one channel.
    """
    checks.kind("data", data, Dataset, remedy="Use ddjax.data.load or ddjax.data.from_arrays.")
    checks.at_least("channels", channels, 1)
    if data.image_shape[2] == channels:
        return data
    remedy = f"Only grey images become {channels} channels."
    checks.equal("channels of the images", data.image_shape[2], 1, remedy=remedy)

    def repeated(split: Split) -> Split:
        return dataclasses.replace(
            split,
            raw=np.repeat(split.images, channels, axis=3),
            encoding=Channels(np.repeat(split.mean, channels), np.repeat(split.std, channels)),
        )

    return converted(data, data.with_splits(repeated), channels=int(channels))


def _resized(images: np.ndarray, height: int, width: int) -> np.ndarray:
    """Images `[n, H, W, C]` uint8 of another height and width, each channel a picture for Pillow."""
    from PIL import Image

    found = np.empty((len(images), height, width, images.shape[3]), np.uint8)
    for row, channel in np.ndindex(len(images), images.shape[3]):
        picture = Image.fromarray(images[row, :, :, channel].astype(np.float32))
        floats = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
        found[row, :, :, channel] = np.rint(floats).clip(0, 255)
    return found

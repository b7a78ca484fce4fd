"""Images brought to the size and channels that a network takes."""

from __future__ import annotations

import dataclasses

import numpy as np

from ddjax import checks
from ddjax.data.dataset import Dataset, Split, channel_statistics
from ddjax.encodings import Channels

_CHUNK = 1024  # images resized at a time: bounds the memory of the floats between


def resize(data: Dataset, size: int | tuple[int, int]) -> Dataset:
    """The same data with images of another height and width.

    Bilinear, with pixel centres at halves and, where the image shrinks, a triangle as wide as the scale
    (antialiasing), as `jax.image.resize(..., "linear")` and Pillow's `BILINEAR` do; in floats, rounded to
    8 bits once at the end. Mean and std are measured again on the resized training set, validation included;
    data that have the size already are returned as they are, with the statistics that they brought.

    Args:
        data: real data.
        size: height and width, or one number for both.

    Returns:
        The data under the same name.

    Raises:
        ValueError: no data, or a side below one.
    """
    checks.kind("data", data, Dataset, remedy="Use ddjax.data.load or ddjax.data.from_arrays.")
    height, width = size if isinstance(size, tuple) else (size, size)
    checks.at_least("size", height, 1)
    checks.at_least("size", width, 1)
    if data.image_shape[:2] == (height, width):
        return data
    rows = _weights(data.image_shape[0], height)
    columns = _weights(data.image_shape[1], width)

    def resized(split: Split) -> np.ndarray:
        images = split.images
        parts = (images[i : i + _CHUNK].astype(np.float32) for i in range(0, len(images), _CHUNK))
        floats = (np.einsum("ih,jw,nhwc->nijc", rows, columns, part, optimize=True) for part in parts)
        return np.concatenate([np.rint(part).clip(0, 255).astype(np.uint8) for part in floats])

    train, validation, test = (resized(split) for split in (data.train, data.validation, data.test))
    encoding = Channels(*channel_statistics(np.concatenate([train, validation])))
    return dataclasses.replace(
        data,
        train=dataclasses.replace(data.train, raw=train, encoding=encoding),
        validation=dataclasses.replace(data.validation, raw=validation, encoding=encoding),
        test=dataclasses.replace(data.test, raw=test, encoding=encoding),
    )


def repeat_channels(data: Dataset, channels: int) -> Dataset:
    """Grey images as images of several equal channels, for networks that were trained on colour.

    Args:
        data: real data of one channel.
        channels: how many.

    Returns:
        The data under the same name; data that have the channels already are returned as they are.

    Raises:
        ValueError: no data, fewer than one channel, or images of another number than one.
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

    return data.with_splits(repeated)


def _weights(old: int, new: int) -> np.ndarray:
    """`[new, old]` float32: how much each old pixel of a line gives to each new one; rows sum to one."""
    scale = old / new
    reach = max(scale, 1.0)
    centres = (np.arange(new) + 0.5) * scale - 0.5
    weights = np.maximum(0.0, 1.0 - np.abs(centres[:, None] - np.arange(old)) / reach)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)

"""Images turned by random angles, each by one of its own: data with an invariance that is known."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np

from ddjax import augment, checks
from ddjax.data.dataset import Dataset, Split, channel_statistics
from ddjax.data.digest import converted
from ddjax.encodings import Channels

_CHUNK = 1024  # images turned at a time: bounds the memory of the intermediate floats


def rotated(data: Dataset, degrees: float) -> Dataset:
    """The same data with every image turned about its centre by an angle drawn from U(-degrees, degrees).

    The angle of an image follows from its place in its split, so that the data are the same at every call.
    The interpolation is bilinear, rounded to 8 bits, and black fills the corners. Mean and standard deviation
    are measured again on the turned training set, validation included.

    Args:
        data: the real data, a data set of images.
        degrees: the largest angle, in degrees, above zero.

    Returns:
        The turned data, under the same name.

    Raises:
        ValueError: `data` is no `Dataset` of images, or the angle is not above zero.
    """
    checks.kind("data", data, Dataset, remedy="Use ddjax.data.load or ddjax.data.from_arrays.")
    checks.image_shape(data.image_shape)
    checks.positive("rotated", degrees)
    turn = jax.jit(jax.vmap(augment.rotate(degrees=degrees).apply))

    def turned(number: int, split: Split) -> np.ndarray:
        limit = np.radians(degrees)
        angles = np.random.default_rng([0, number]).uniform(-limit, limit, len(split)).astype(np.float32)
        parts = (slice(i, i + _CHUNK) for i in range(0, len(split), _CHUNK))
        found = (np.asarray(turn(angles[one], split.images[one].astype(np.float32))) for one in parts)
        return np.concatenate([np.rint(part).clip(0, 255).astype(np.uint8) for part in found])

    splits = (data.train, data.validation, data.test)
    train, validation, test = (turned(number, split) for number, split in enumerate(splits))
    encoding = Channels(*channel_statistics(np.concatenate([train, validation])))
    changed = dataclasses.replace(
        data,
        train=dataclasses.replace(data.train, raw=train, encoding=encoding),
        validation=dataclasses.replace(data.validation, raw=validation, encoding=encoding),
        test=dataclasses.replace(data.test, raw=test, encoding=encoding),
    )
    return converted(data, changed, rotated=float(degrees))

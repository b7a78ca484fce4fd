"""Differentiable augmentation: a random draw, and its effect on images, as a pair of pure functions.

A strategy is composed by name:

    color_crop_cutout_flip_scale_rotate   one of these operations, drawn anew at every call
    color+crop+flip                       all of these, in this order
    pad_crop_flip, dc_crop_scale_rotate   compositions with their own ranges, see `STRATEGIES`

All operations work on normalised images, so that 0, which fills pixels from outside an image, is the data's
mean.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates

from ddjax import checks

Draw = Any
"""The result of `Augmentation.sample`: a pytree whose leaves are `[]`, shared by all images, or `[n]`."""


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """A random transform of images.

    One draw transforms any number of batches in the same way, so that real and distilled images are augmented
    with the same parameters:

        draw = augmentation.sample(key)
        real, distilled = augmentation.apply(draw, real), augmentation.apply(draw, distilled)

    Attributes:
        name: the name of the strategy, from which `by_name` builds the augmentation again.
        sample: the function that draws parameters, `(key, num_images=None) -> draw`: one draw for all images,
            or, given their number, one for each image. Consumes the key.
        apply: the function that transforms images, `(draw, images [n, H, W, C]) -> [n, H, W, C]`; linear or
            affine in each image, so that derivatives of every order exist. A leaf `[]` of the draw is shared
            by all images, a leaf `[n]` has an entry for each image. So draws that were vmapped, or gathered
            by class, are valid too.
    """

    name: str
    sample: Callable[..., Draw]
    apply: Callable[[Draw, jax.Array], jax.Array]


class Operation(NamedTuple):
    """A random transform of one image; strategies are composed of these.

    Attributes:
        sample: the function that draws parameters, `(key, shape) -> params`, with leaves of that shape.
            Consumes the key.
        apply: the function that transforms an image, `(params, image [H, W, C]) -> [H, W, C]`, for params
            whose leaves are `[]`.
    """

    sample: Callable[[jax.Array, tuple[int, ...]], Any]
    apply: Callable[[Any, jax.Array], jax.Array]


class Choice(NamedTuple):
    """The params of `one_of`.

    Attributes:
        which: the position of the operation that is carried out, int32.
        params: the params of every operation.
    """

    which: jax.Array
    params: tuple[Any, ...]


class Color(NamedTuple):
    """The params of `color`.

    Attributes:
        brightness: the number added to every value, b.
        saturation: the factor on a value's distance from the mean over the channels of the same pixel, s.
        contrast: the factor on a value's distance from the image's mean, c.
    """

    brightness: jax.Array
    saturation: jax.Array
    contrast: jax.Array


class Pair(NamedTuple):
    """One number for the height and one for the width.

    Attributes:
        rows: the number for the height.
        columns: the number for the width.
    """

    rows: jax.Array
    columns: jax.Array


def _pair(draw: Callable[[jax.Array, int], jax.Array], key: jax.Array) -> Pair:
    """The results of `draw(key, axis)` for both axes."""
    rows_key, columns_key = jax.random.split(key)
    return Pair(draw(rows_key, 0), draw(columns_key, 1))


def _weights(positions: jax.Array, length: int) -> jax.Array:
    """The weight of each of `length` pixels at n positions between them, `[n, length]`; 0 outside."""
    distances = positions[:, None] - jnp.arange(length).astype(positions.dtype)[None]
    return jnp.maximum(0, 1 - jnp.abs(distances))


def _at(image: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    """The image where rows `[H']` and columns `[W']` cross, bilinear: a matrix product on each side."""
    height, width, _ = image.shape
    return jnp.einsum(
        "ih,hwc,jw->ijc",
        _weights(rows, height).astype(image.dtype),
        image,
        _weights(columns, width).astype(image.dtype),
        precision=jax.lax.Precision.HIGHEST,  # whole pixels move unchanged
    )


def color(*, brightness: float, saturation: float, contrast: float) -> Operation:
    """Change brightness, then saturation, then contrast.

        x + b,                                    b ~ U(-brightness / 2, brightness / 2)
        (x - pixel's mean) s + pixel's mean,      s ~ U(0, saturation)
        (x - image's mean) c + image's mean,      c ~ U(contrast, 1 + contrast)

    Args:
        brightness: the width of the range of b.
        saturation: the upper end of the range of s.
        contrast: the lower end of the range of c.

    Returns:
        The operation.
    """

    def sample(key: jax.Array, shape: tuple[int, ...]) -> Color:
        b, s, c = (jax.random.uniform(one, shape) for one in jax.random.split(key, 3))
        return Color(brightness * (b - 0.5), saturation * s, contrast + c)

    def apply(params: Color, image: jax.Array) -> jax.Array:
        b, s, c = (value.astype(image.dtype) for value in params)
        image = image + b
        grey = image.mean(-1, keepdims=True)
        image = s * (image - grey) + grey
        mean = image.mean()
        return c * (image - mean) + mean

    return Operation(sample, apply)


def _shifts(limits: tuple[int, int]) -> Callable[[jax.Array, tuple[int, ...]], Pair]:
    """The function `(key, shape) -> Pair` that draws whole numbers from -limit to limit."""

    def sample(key: jax.Array, shape: tuple[int, ...]) -> Pair:
        return _pair(
            lambda key, axis: jax.random.randint(key, shape, -limits[axis], limits[axis] + 1),
            key,
        )

    return sample


def crop(*, shift: tuple[int, int]) -> Operation:
    """Move the image by whole pixels, up or down and to the left or right; 0 fills the border.

    Args:
        shift: the largest numbers of pixels, (along the height, along the width).

    Returns:
        The operation.
    """

    def apply(params: Pair, image: jax.Array) -> jax.Array:
        height, width, _ = image.shape
        return _at(image, jnp.arange(height) + params.rows, jnp.arange(width) + params.columns)

    return Operation(_shifts(shift), apply)


def pad_crop(*, padding: int, image_size: tuple[int, int]) -> Operation:
    """Move the image by whole pixels; its mirror image, without the edge, fills the border.

    Args:
        padding: the largest number of pixels along the height, and along the width.
        image_size: the height and width of the images.

    Returns:
        The operation.

    Raises:
        ValueError: a side of the images has `padding` pixels or fewer.
    """
    checks.at_least(
        f"a side of images that are mirrored by {padding} pixels",
        min(image_size),
        padding + 1,
        remedy="Leave out pad_crop, or take larger images.",
    )

    def mirrored(shift: jax.Array, length: int) -> jax.Array:
        return length - 1 - jnp.abs(length - 1 - jnp.abs(jnp.arange(length) + shift))

    def apply(params: Pair, image: jax.Array) -> jax.Array:
        rows, columns = map(mirrored, params, image.shape[:2])
        return image[rows[:, None], columns]

    return Operation(_shifts((padding, padding)), apply)


def cutout(*, size: tuple[int, int], image_size: tuple[int, int]) -> Operation:
    """Set a rectangle to 0; its centre is anywhere in the image, so that a part may lie outside.

    Args:
        size: the height and width of the rectangle.
        image_size: the height and width of the images.

    Returns:
        The operation.
    """

    def sample(key: jax.Array, shape: tuple[int, ...]) -> Pair:
        ends = [length + 1 - extent % 2 for length, extent in zip(image_size, size, strict=True)]
        return _pair(lambda key, axis: jax.random.randint(key, shape, 0, ends[axis]), key)

    def inside(centre: jax.Array, extent: int, length: int) -> jax.Array:
        first = centre - extent // 2
        positions = jnp.arange(length)
        return (positions >= first) & (positions < first + extent)

    def apply(params: Pair, image: jax.Array) -> jax.Array:
        rows, columns = map(inside, params, size, image.shape[:2])
        return jnp.where((rows[:, None] & columns[None])[..., None], 0, image)

    return Operation(sample, apply)


def flip() -> Operation:
    """Exchange left and right, with probability 1/2."""

    def sample(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return jax.random.bernoulli(key, 0.5, shape)

    def apply(flipped: jax.Array, image: jax.Array) -> jax.Array:
        return jnp.where(flipped, image[:, ::-1], image)

    return Operation(sample, apply)


def _stretched(steps: Pair, image: jax.Array) -> jax.Array:
    """The image read every `steps` pixels about its centre, bilinear: steps below 1 magnify the image."""
    rows, columns = (
        (length - 1) / 2 + step * (jnp.arange(length).astype(step.dtype) - (length - 1) / 2)
        for step, length in zip(steps, image.shape[:2], strict=True)
    )
    return _at(image, rows, columns)


def scale(*, ratio: float) -> Operation:
    """Divide height and width each by a number drawn from U(1 / ratio, ratio); 0 fills the border.

    Args:
        ratio: the largest divisor, above 1.

    Returns:
        The operation.
    """

    def sample(key: jax.Array, shape: tuple[int, ...]) -> Pair:
        return _pair(lambda key, _: jax.random.uniform(key, shape, minval=1 / ratio, maxval=ratio), key)

    return Operation(sample, _stretched)


def zoom(*, change: float) -> Operation:
    """Multiply height and width each by a number drawn from U(1 - change, 1 + change); 0 fills the border.

    Args:
        change: the largest relative change, between 0 and 1.

    Returns:
        The operation.
    """

    def sample(key: jax.Array, shape: tuple[int, ...]) -> Pair:
        low, high = 1 - change, 1 + change
        return _pair(lambda key, _: 1 / jax.random.uniform(key, shape, minval=low, maxval=high), key)

    return Operation(sample, _stretched)


def rotate(*, degrees: float) -> Operation:
    """Turn the image anticlockwise about its centre by an angle from U(-degrees, degrees), bilinear.

    Args:
        degrees: the largest angle, in degrees; the params contain the angle in radians.

    Returns:
        The operation.
    """

    def sample(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        limit = math.radians(degrees)
        return jax.random.uniform(key, shape, minval=-limit, maxval=limit)

    def apply(angle: jax.Array, image: jax.Array) -> jax.Array:
        middle = [(length - 1) / 2 for length in image.shape[:2]]
        y, x = (
            jnp.arange(length, dtype=image.dtype) - half
            for length, half in zip(image.shape[:2], middle, strict=True)
        )
        angle = angle.astype(image.dtype)
        sine, cosine = jnp.sin(angle), jnp.cos(angle)
        rows = middle[0] + cosine * y[:, None] + (sine * x)[None]
        columns = middle[1] - sine * y[:, None] + (cosine * x)[None]
        channel = functools.partial(map_coordinates, coordinates=(rows, columns), order=1, mode="constant")
        return jax.vmap(channel, in_axes=-1, out_axes=-1)(image)

    return Operation(sample, apply)


def all_of(operations: Sequence[Operation]) -> Operation:
    """Apply all operations, one after the other.

    Args:
        operations: the operations, in the order of application.

    Returns:
        The composed operation, whose params are a tuple of the params of each.
    """

    def sample(key: jax.Array, shape: tuple[int, ...]) -> tuple[Any, ...]:
        keys = jax.random.split(key, len(operations))
        return tuple(one.sample(key, shape) for one, key in zip(operations, keys, strict=True))

    def apply(params: tuple[Any, ...], image: jax.Array) -> jax.Array:
        for one, own in zip(operations, params, strict=True):
            image = one.apply(own, image)
        return image

    return Operation(sample, apply)


def one_of(operations: Sequence[Operation], *, per_image: bool = False) -> Operation:
    """Apply one operation, drawn with equal probabilities.

    Args:
        operations: the operations to draw from.
        per_image: whether each image that has its own params also has its own operation. False gives all
            images of a draw the same operation.

    Returns:
        The composed operation, whose params are a `Choice`.
    """
    every = all_of(operations)

    def sample(key: jax.Array, shape: tuple[int, ...]) -> Choice:
        which_key, key = jax.random.split(key)
        which = jax.random.randint(which_key, shape if per_image else (), 0, len(operations))
        return Choice(which, every.sample(key, shape))

    def apply(choice: Choice, image: jax.Array) -> jax.Array:
        branches = [
            lambda params, image, i=i, one=one: one.apply(params[i], image)
            for i, one in enumerate(operations)
        ]
        return jax.lax.switch(choice.which, branches, choice.params, image)

    return Operation(sample, apply)


def _published(image_size: tuple[int, int]) -> dict[str, Operation]:
    """DSA's operations by name, in the published ranges."""

    def pixels(ratio: float) -> tuple[int, int]:
        height, width = (int(length * ratio + 0.5) for length in image_size)
        return height, width

    return {
        "color": color(brightness=1.0, saturation=2.0, contrast=0.5),
        "crop": crop(shift=pixels(0.125)),
        "cutout": cutout(size=pixels(0.5), image_size=image_size),
        "flip": flip(),
        "scale": scale(ratio=1.2),
        "rotate": rotate(degrees=15.0),
    }


OPERATIONS = tuple(_published((1, 1)))
"""The names of the operations that strategies are composed of."""


def _dc_crop_scale_rotate(image_size: tuple[int, int]) -> Operation:
    """A crop, a zoom or a rotation, drawn for each image."""
    del image_size
    return one_of((crop(shift=(4, 4)), zoom(change=0.2), rotate(degrees=45.0)), per_image=True)


def _pad_crop_flip(image_size: tuple[int, int]) -> Operation:
    """Padded by 4 mirrored pixels, cropped, flipped."""
    return all_of((pad_crop(padding=4, image_size=image_size), flip()))


STRATEGIES: dict[str, Callable[[tuple[int, int]], Operation]] = {
    "dc_crop_scale_rotate": _dc_crop_scale_rotate,
    "pad_crop_flip": _pad_crop_flip,
}
"""Compositions with their own ranges.

`dc_crop_scale_rotate`: each image is moved by at most 4 pixels, zoomed by at most a fifth, or turned by at
most 45°. DC (Zhao et al. 2021) trains on condensed MNIST in this way; here all is bilinear, and the border is
filled with 0 instead of the minibatch's mean. `pad_crop_flip`: each image is continued by its mirror image,
moved by at most 4 pixels and flipped, as Wang et al. 2018 augment the training images of CIFAR-10.
"""

_NO_FLIP = frozenset({"digits", "emnist", "kmnist", "mnist", "mnist_corrupted", "svhn_cropped", "usps"})


def strategy_for(dataset: str) -> str:
    """DSA's published strategy for a data set.

    Args:
        dataset: the name of the data set, as in `Dataset.name`, e.g. `"mnist"`.

    Returns:
        The name of the strategy: all operations, but no flip for digits and letters, whose meaning changes
        when they are mirrored.
    """
    builder = dataset.partition(":")[0].partition("/")[0]
    return "_".join(one for one in OPERATIONS if one != "flip" or builder not in _NO_FLIP)


def by_name(strategy: str, image_shape: tuple[int, int, int]) -> Augmentation:
    """The augmentation with a given name.

    Args:
        strategy: the name of the strategy. `"a_b_c"`, of names in `OPERATIONS`: one of these operations,
            drawn anew by each call of `sample` and the same for all images, even if each image has its own
            params; DSA as published. `"a+b+c"`: all of these operations, in this order. Or one of
            `STRATEGIES`.
        image_shape: height, width and channels of the images, `(H, W, C)`.

    Returns:
        The augmentation.

    Raises:
        ValueError: an unknown or repeated name, an invalid image shape, or images that are too small.

    References:
        Zhao and Bilen, Dataset Condensation with Differentiable Siamese Augmentation, ICML 2021. Ranges and
        one operation per call: `ParamDiffAug` (`aug_mode = "S"`; `"M"` is all of them) and `DiffAugment` in
        `utils.py` of the authors' repository, github.com/VICO-UoE/DatasetCondensation.
    """
    height, width, _ = checks.image_shape(image_shape)
    if isinstance(strategy, str) and strategy in STRATEGIES:
        return of(STRATEGIES[strategy]((height, width)), name=strategy)
    names, known = _operation_names(strategy), _published((height, width))
    compose = all_of if "+" in strategy else one_of
    return of(compose([known[name] for name in names]), name=strategy)


def _operation_names(strategy: str) -> list[str]:
    remedy = f"Join such by _ for one at random, by + for all, or give {' or '.join(STRATEGIES)}."
    checks.text("augmentation", strategy, remedy=remedy)
    names = strategy.split("+" if "+" in strategy else "_")
    for name in names:
        checks.choice("augmentation", name, OPERATIONS, remedy=remedy)
        if names.count(name) > 1:
            raise ValueError(
                f"augmentation: expected each operation once; got {name!r} twice. Leave one out."
            )
    return names


def of(operation: Operation, *, name: str) -> Augmentation:
    """An operation, e.g. one that `all_of` and `one_of` compose, as an augmentation of batches.

    Args:
        operation: the operation on one image.
        name: the name of the augmentation in records.

    Returns:
        The augmentation. `by_name` knows the names of its own strategies only, not this one.
    """

    def sample(key: jax.Array, num_images: int | None = None) -> Draw:
        return operation.sample(key, () if num_images is None else (num_images,))

    def apply(draw: Draw, images: jax.Array) -> jax.Array:
        axes = jax.tree.map(lambda leaf: 0 if jnp.ndim(leaf) else None, draw)
        return jax.vmap(operation.apply, in_axes=(axes, 0))(draw, images)

    return Augmentation(name, sample, apply)


def check(augmentation: Augmentation | None) -> None:
    """Refuse a value that is neither an augmentation nor None.

    Args:
        augmentation: the value to check.

    Raises:
        ValueError: `augmentation` is neither an `Augmentation` nor None.
    """
    if augmentation is not None:
        checks.kind("augmentation", augmentation, Augmentation, remedy="Build it with ddjax.augment.by_name.")


__all__ = [
    "OPERATIONS",
    "STRATEGIES",
    "Augmentation",
    "Choice",
    "Color",
    "Draw",
    "Operation",
    "Pair",
    "all_of",
    "by_name",
    "color",
    "crop",
    "cutout",
    "flip",
    "of",
    "one_of",
    "pad_crop",
    "rotate",
    "scale",
    "strategy_for",
    "zoom",
]

"""Differentiable augmentation: a random draw, and its effect on images, as a pair of pure functions.

A strategy is composed by name:

    color_crop_cutout_flip_scale_rotate   one of these operations, drawn anew at every call
    color+crop+flip                       all of these, in this order
    color+(crop_scale_rotate)+cutout      all in this order, of those in parentheses one
    dc, pad_crop_flip, crop_zoom_rotate   compositions with their own ranges, see `STRATEGIES`

All operations work on normalised images, so that 0, which fills pixels from outside an image, is the data's
mean. Two operations of `dc` fill with the mean of the minibatch instead, as published.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddjax import checks
from ddjax.types import Network

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
            affine in the images, so that derivatives of every order exist. A leaf `[]` of the draw is shared
            by all images, a leaf `[n]` has an entry for each image. So draws that were vmapped, or gathered
            by class, are valid too.
        by_batch: whether the channel means of a batch enter the result for each of its images. Then `apply`
            takes a third argument, `weights [n]`, by which the images count in these means: zero for a place
            of a minibatch that is only filled up; by default all images count alike.
    """

    name: str
    sample: Callable[..., Draw]
    apply: Callable[..., jax.Array]
    by_batch: bool = False

    def of_minibatch(self, key: jax.Array, images: jax.Array, weights: jax.Array) -> jax.Array:
        """A minibatch under a draw of its own for each image.

        Args:
            key: the source of the draws. Consumed.
            images: the images, `[n, H, W, C]`.
            weights: the weight of each image, `[n]`, zero where the minibatch is only filled up.

        Returns:
            `[n, H, W, C]`, the transformed images.
        """
        draw = self.sample(key, len(images))
        return self.apply(draw, images, weights) if self.by_batch else self.apply(draw, images)


class Operation(NamedTuple):
    """A random transform of one image; strategies are composed of these.

    Attributes:
        sample: the function that draws parameters, `(key, shape) -> params`, with leaves of that shape.
            Consumes the key.
        apply: the function that transforms an image, `(params, image [H, W, C]) -> [H, W, C]`, for params
            whose leaves are `[]`.
        by_batch: whether `apply` takes a third argument, `means [C]`, the mean of each channel over the
            batch that the image is part of.
    """

    sample: Callable[[jax.Array, tuple[int, ...]], Any]
    apply: Callable[..., jax.Array]
    by_batch: bool = False

    def on(self, params: Any, image: jax.Array, *means: jax.Array) -> jax.Array:
        """The transformed image, whether or not the operation looks at the batch.

        Args:
            params: the params, with leaves `[]`.
            image: the image, `[H, W, C]`.
            *means: the channel means of the batch, `[C]`, where an operation of the strategy needs these.

        Returns:
            `[H, W, C]`.
        """
        return self.apply(params, image, *(means if self.by_batch else ()))


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


class Window(NamedTuple):
    """The params of `zoomed_crop`: what part of the image is seen.

    Attributes:
        step: the distance between two pixels of the result in the image, below 1 where it is magnified.
        rows: the distance from the image's centre to the window's along the height, in pixels.
        columns: the same along the width.
    """

    step: jax.Array
    rows: jax.Array
    columns: jax.Array


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


def jitter(*, brightness: float, strength: float) -> Operation:
    """Change brightness, saturation and contrast, as `color` does, by factors as likely above 1 as below.

        b ~ U(-brightness, brightness),     log s, log c ~ U(-strength, strength)

    Args:
        brightness: the largest b.
        strength: the largest logarithm of the factors.

    Returns:
        The operation.

    References:
        Zhou et al. 2022, arXiv 2206.00719, the authors' code.
    """

    def sample(key: jax.Array, shape: tuple[int, ...]) -> Color:
        b, s, c = (
            jax.random.uniform(one, shape, minval=-1.0, maxval=1.0) for one in jax.random.split(key, 3)
        )
        return Color(brightness * b, jnp.exp(strength * s), jnp.exp(strength * c))

    return Operation(sample, color(brightness=1.0, saturation=1.0, contrast=1.0).apply)


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


def cutout(*, size: tuple[int, int], image_size: tuple[int, int], whole: bool = False) -> Operation:
    """Set a rectangle to 0; its centre is anywhere in the image, so that a part may lie outside.

    Args:
        size: the height and width of the rectangle.
        image_size: the height and width of the images.
        whole: whether all of the rectangle lies in the image.

    Returns:
        The operation.
    """

    def sample(key: jax.Array, shape: tuple[int, ...]) -> Pair:
        if whole:
            ends = [
                (extent // 2, length - extent + extent // 2 + 1)
                for length, extent in zip(image_size, size, strict=True)
            ]
        else:
            ends = [(0, length + 1 - extent % 2) for length, extent in zip(image_size, size, strict=True)]
        return _pair(lambda key, axis: jax.random.randint(key, shape, *ends[axis]), key)

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


def zoomed_crop(*, lowest: float, highest: float) -> Operation:
    """Look at a window of the image, magnified or reduced, bilinear; edge pixels continue outwards.

    The magnification z is the same for height and width, log z ~ U(log lowest, log highest). The window's
    centre differs from the image's by c / z, c ~ U(-|nz - n| / 2, |nz - n| / 2) for a side of n pixels.

    Args:
        lowest: the lowest magnification, above zero.
        highest: the highest.

    Returns:
        The operation. The params hold c / (nz), the distance in sides.

    References:
        Zhou et al. 2022, arXiv 2206.00719, the authors' code.
    """

    def sample(key: jax.Array, shape: tuple[int, ...]) -> Window:
        zoom_key, key = jax.random.split(key)
        low, high = math.log(lowest), math.log(highest)
        factor = jnp.exp(jax.random.uniform(zoom_key, shape, minval=low, maxval=high))
        reach = jnp.abs(factor - 1) / (2 * factor)
        places = _pair(lambda key, _: jax.random.uniform(key, shape, minval=-1.0, maxval=1.0), key)
        return Window(1 / factor, reach * places.rows, reach * places.columns)

    def apply(params: Window, image: jax.Array) -> jax.Array:
        rows, columns = (
            _inward((length - 1) / 2 + params.step * _from_middle(length, place.dtype) + place * length)
            for place, length in zip(params[1:], image.shape[:2], strict=True)
        )
        return _at(image, rows, columns)

    return Operation(sample, apply)


def _from_middle(length: int, dtype: Any) -> jax.Array:
    """The places of pixels along a side, from its middle."""
    return jnp.arange(length, dtype=dtype) - (length - 1) / 2


def _inward(positions: jax.Array) -> jax.Array:
    """Positions along a side with as many pixels, those outside brought to the edge."""
    return jnp.clip(positions, 0, len(positions) - 1)


def translate(*, ratio: float) -> Operation:
    """Move the image, also by parts of pixels, bilinear; edge pixels continue outwards.

    Args:
        ratio: the largest move, relative to the side. The params are relative too.

    Returns:
        The operation.
    """

    def sample(key: jax.Array, shape: tuple[int, ...]) -> Pair:
        return _pair(lambda key, _: jax.random.uniform(key, shape, minval=-ratio, maxval=ratio), key)

    def apply(params: Pair, image: jax.Array) -> jax.Array:
        rows, columns = (
            _inward(jnp.arange(length, dtype=place.dtype) + place * length)
            for place, length in zip(params, image.shape[:2], strict=True)
        )
        return _at(image, rows, columns)

    return Operation(sample, apply)


def rotate(*, degrees: float, continued: bool = False) -> Operation:
    """Turn the image anticlockwise about its centre by an angle from U(-degrees, degrees), bilinear.

    Args:
        degrees: the largest angle, in degrees; the params contain the angle in radians.
        continued: whether edge pixels continue outwards; otherwise the image is 0 there.

    Returns:
        The operation.
    """

    def sample(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        limit = math.radians(degrees)
        return jax.random.uniform(key, shape, minval=-limit, maxval=limit)

    def apply(angle: jax.Array, image: jax.Array) -> jax.Array:
        y, x = (jnp.arange(length, dtype=image.dtype) - (length - 1) / 2 for length in image.shape[:2])
        angle = angle.astype(image.dtype)
        # Small angles move a pixel little: displacements lose fewer digits than positions would.
        sine, versine = jnp.sin(angle), 2 * jnp.sin(angle / 2) ** 2
        down = (sine * x)[None] - (versine * y)[:, None]
        across = -(sine * y)[:, None] - (versine * x)[None]
        if continued:
            height, width = image.shape[:2]
            rows, columns = (jnp.arange(side, dtype=image.dtype) for side in (height, width))
            rows, columns = rows[:, None], columns[None]
            down = jnp.clip(rows + down, 0, height - 1) - rows
            across = jnp.clip(columns + across, 0, width - 1) - columns
        return displaced(image, down, across)

    return Operation(sample, apply)


def displaced(image: jax.Array, down: jax.Array, across: jax.Array) -> jax.Array:
    """The image with each pixel read at another place, bilinear; pixels outside are 0.

    Differentiable in the displacements, but for those by whole pixels, at which the derivative of one side is
    taken.

    Args:
        image: the image, `[H, W, C]`.
        down: the distance in pixels below its own place at which each pixel is read, `[H, W]`.
        across: the distance in pixels to the right of its own place, `[H, W]`.

    Returns:
        `[H, W, C]`.
    """
    height, width, _ = image.shape
    padded = jnp.pad(image, ((1, 1), (1, 1), (0, 0)))
    whole_down, whole_across = jnp.floor(down), jnp.floor(across)
    rows = jnp.arange(1, height + 1)[:, None] + whole_down.astype(jnp.int32)
    columns = jnp.arange(1, width + 1)[None] + whole_across.astype(jnp.int32)

    def corner(i: int, j: int) -> jax.Array:
        return padded[jnp.clip(rows + i, 0, height + 1), jnp.clip(columns + j, 0, width + 1)]

    t, u = (down - whole_down)[..., None], (across - whole_across)[..., None]
    upper = (1 - u) * corner(0, 0) + u * corner(0, 1)
    lower = (1 - u) * corner(1, 0) + u * corner(1, 1)
    return (1 - t) * upper + t * lower


def crop_in_mean(*, padding: int) -> Operation:
    """Move the image by whole pixels; the channel means of its batch fill the border.

    Args:
        padding: the number of pixels p that the image is padded by on every side. The params are the first
            row and column of the part that is cut from the padded image, 0 to 2p - 1: the image moves by p
            pixels to one side, and by p - 1 to the other, as published.

    Returns:
        The operation.

    References:
        Zhao et al. 2021, arXiv 2006.05929.
    """

    def sample(key: jax.Array, shape: tuple[int, ...]) -> Pair:
        return _pair(lambda key, _: jax.random.randint(key, shape, 0, 2 * padding), key)

    def apply(params: Pair, image: jax.Array, means: jax.Array) -> jax.Array:
        rows, columns = (
            jnp.arange(length) + first - padding
            for first, length in zip(params, image.shape[:2], strict=True)
        )
        return _read(image, rows, columns, outside=means)

    return Operation(sample, apply, by_batch=True)


def _read(image: jax.Array, rows: jax.Array, columns: jax.Array, *, outside: jax.Array | float) -> jax.Array:
    """The image's pixels where whole rows `[H']` and columns `[W']` cross, with a value for those outside."""
    inside = [
        (positions >= 0) & (positions < length)
        for positions, length in zip((rows, columns), image.shape[:2], strict=True)
    ]
    height, width = image.shape[:2]
    pixels = image[jnp.clip(rows, 0, height - 1)[:, None], jnp.clip(columns, 0, width - 1)]
    is_inside = (inside[0][:, None] & inside[1][None])[..., None]
    return jnp.where(is_inside, pixels, jnp.broadcast_to(jnp.asarray(outside, image.dtype), pixels.shape))


def resize(*, change: float, image_size: tuple[int, int]) -> Operation:
    """Resize by nearest neighbour, height and width each for itself, about the centre; 0 fills the border.

    Args:
        change: the largest relative change of a side, between 0 and 1. The params are the new height and
            width in whole pixels, for a side of n pixels ⌊u n⌋ with u ~ U(1 - change, 1 + change), and at
            least 1.
        image_size: the height and width of the images.

    Returns:
        The operation.

    References:
        Zhao et al. 2021, arXiv 2006.05929.
    """
    # The reading step of each new length in float32, in which the published code rounds.
    lengths = [np.arange(1, math.ceil((1 + change) * n) + 1, dtype=np.float32) for n in image_size]
    steps = [np.float32(n) / own for n, own in zip(image_size, lengths, strict=True)]

    def sample(key: jax.Array, shape: tuple[int, ...]) -> Pair:
        def draw(key: jax.Array, axis: int) -> jax.Array:
            factor = jax.random.uniform(key, shape, minval=1 - change, maxval=1 + change)
            return jnp.maximum((factor * image_size[axis]).astype(jnp.int32), 1)

        return _pair(draw, key)

    def apply(params: Pair, image: jax.Array) -> jax.Array:
        canvas = functools.reduce(jnp.maximum, params, jnp.asarray(max(image_size)))
        rows, columns = (
            _resized(canvas, new, length, jnp.asarray(step)[new - 1])
            for new, length, step in zip(params, image_size, steps, strict=True)
        )
        return _read(image, rows, columns, outside=0.0)

    return Operation(sample, apply)


def _resized(canvas: jax.Array, new: jax.Array, length: int, step: jax.Array) -> jax.Array:
    """The pixel that each of `length` pixels shows once the side is `new` pixels long; -1 outside.

    Old and new image lie in the middle of a square canvas, at the upper left of two middles.
    """
    positions = jnp.arange(length) + (canvas - length) // 2 - (canvas - new) // 2
    read = jnp.floor(positions.astype(step.dtype) * step).astype(jnp.int32)
    return jnp.where((positions >= 0) & (positions < new), jnp.minimum(read, length - 1), -1)


class _Turns(NamedTuple):
    """Rotations about the centre by whole degrees, all leaves `[n]`.

    Attributes:
        cosine: the cosine of each angle.
        sine: the sine of each angle.
        first: the position of the image's first row and column from the centre of the rotated image.
    """

    cosine: np.ndarray
    sine: np.ndarray
    first: Pair


def _turns(degrees: np.ndarray, image_size: tuple[int, int]) -> _Turns:
    """The rotations of images of a size.

    The rotated image is as large as to hold all of the old one, rounded to whole pixels, and the old image's
    size is cut from its middle. Where the two sizes differ by an odd number, the middle is that of half a
    pixel further up and left.
    """
    from scipy import special  # SciPy is a seventh of what importing ddjax takes

    cosine, sine = special.cosdg(degrees), special.sindg(degrees)
    height, width = image_size
    extents = (
        height * np.abs(cosine) + width * np.abs(sine),
        height * np.abs(sine) + width * np.abs(cosine),
    )
    outer = [np.floor(extent + 0.5) for extent in extents]
    first = (np.trunc((o - n) / 2) - (o - 1) / 2 for o, n in zip(outer, image_size, strict=True))
    return _Turns(cosine, sine, Pair(*first))


def _spline_filter(length: int) -> np.ndarray:
    """`[length + 3, length]`, the coefficients of the cubic spline through pixels, mirrored about the ends.

    One more coefficient stands before the first pixel and two after the last pixel.
    """
    from scipy import ndimage

    own = ndimage.spline_filter1d(np.eye(length), order=3, axis=0, mode="mirror")
    return own[np.pad(np.arange(length), (1, 2), mode="reflect")]


def _cubic(fraction: jax.Array) -> jax.Array:
    """The weights `[..., 4]` of a cubic B-spline's coefficients around a place between two pixels."""
    t, u = fraction, 1 - fraction
    return jnp.stack([u**3, 4 - 3 * t * t * (1 + u), 4 - 3 * u * u * (1 + t), t**3], -1) / 6


def rotate_cubic(*, degrees: int, image_size: tuple[int, int]) -> Operation:
    """Turn the image by whole degrees, by cubic splines; the mean of its batch fills the border.

    As `scipy.ndimage.rotate` of order 3, which reshapes, cut to the image's size in the middle. The spline's
    coefficients are linear in the pixels: a matrix product on each side.

    Args:
        degrees: the bound d on the angle. The params are angles in degrees, whole numbers from -d to d - 1
            as published; anticlockwise above zero.
        image_size: the height and width of the images.

    Returns:
        The operation.

    References:
        Zhao et al. 2021, arXiv 2006.05929.
    """
    turns = _turns(np.arange(-degrees, degrees), image_size)
    filters = [_spline_filter(length) for length in image_size]

    def sample(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return jax.random.randint(key, shape, -degrees, degrees)

    def apply(angle: jax.Array, image: jax.Array, means: jax.Array) -> jax.Array:
        cosine, sine, (top, left) = jax.tree.map(
            lambda leaf: jnp.asarray(leaf, image.dtype)[angle + degrees], turns
        )
        height, width = image_size
        y = (top + jnp.arange(height, dtype=image.dtype))[:, None]
        x = (left + jnp.arange(width, dtype=image.dtype))[None]
        places = cosine * y + sine * x + (height - 1) / 2, cosine * x - sine * y + (width - 1) / 2
        inside = functools.reduce(
            jnp.logical_and, [(p >= 0) & (p <= n - 1) for p, n in zip(places, image_size, strict=True)]
        )
        turned = _spline_at(_coefficients(filters, image), places)
        return jnp.where(inside[..., None], turned, means.mean())

    return Operation(sample, apply, by_batch=True)


def _coefficients(filters: Sequence[np.ndarray], image: jax.Array) -> jax.Array:
    """`[H + 3, W + 3, C]`, the coefficients of the cubic spline through an image."""
    rows, columns = (jnp.asarray(one, image.dtype) for one in filters)
    return jnp.einsum("ih,hwc,jw->ijc", rows, image, columns, precision=jax.lax.Precision.HIGHEST)


def _spline_at(coefficients: jax.Array, places: tuple[jax.Array, jax.Array]) -> jax.Array:
    """The spline at rows and columns `[H', W']`, `[H', W', C]`; anything where these are outside."""
    height, width, channels = coefficients.shape
    starts = [
        jnp.clip(jnp.floor(place), 0, length - 4)
        for place, length in zip(places, (height, width), strict=True)
    ]
    rows, columns = (_cubic(place - start) for place, start in zip(places, starts, strict=True))
    first = starts[0].astype(jnp.int32) * width + starts[1].astype(jnp.int32)
    flat = coefficients.reshape(-1, channels)
    found = jnp.zeros((*first.shape, channels), flat.dtype)
    for i, j in itertools.product(range(4), repeat=2):
        found += (rows[..., i] * columns[..., j])[..., None] * flat[first + (i * width + j)]
    return found


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

    def apply(params: tuple[Any, ...], image: jax.Array, *means: jax.Array) -> jax.Array:
        for one, own in zip(operations, params, strict=True):
            image = one.on(own, image, *means)
        return image

    return Operation(sample, apply, by_batch=any(one.by_batch for one in operations))


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

    def apply(choice: Choice, image: jax.Array, *means: jax.Array) -> jax.Array:
        branches = [
            lambda params, image, *means, i=i, one=one: one.on(params[i], image, *means)
            for i, one in enumerate(operations)
        ]
        return jax.lax.switch(choice.which, branches, choice.params, image, *means)

    return Operation(sample, apply, by_batch=every.by_batch)


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


def _dc(image_size: tuple[int, int]) -> Operation:
    """DC's crop, scaling or rotation, drawn for each image, as published."""
    operations = (
        crop_in_mean(padding=4),
        resize(change=0.2, image_size=image_size),
        rotate_cubic(degrees=45, image_size=image_size),
    )
    return one_of(operations, per_image=True)


def _crop_zoom_rotate(image_size: tuple[int, int]) -> Operation:
    """A crop, a zoom or a rotation, drawn for each image."""
    del image_size
    return one_of((crop(shift=(4, 4)), zoom(change=0.2), rotate(degrees=45.0)), per_image=True)


def _pad_crop_flip(image_size: tuple[int, int]) -> Operation:
    """Padded by 4 mirrored pixels, cropped, flipped."""
    return all_of((pad_crop(padding=4, image_size=image_size), flip()))


def _frepo(image_size: tuple[int, int], *first: Operation) -> Operation:
    """One of FRePo's operations, the same for all images, or one of those that are given."""
    height, width = image_size
    return one_of(
        (
            *first,
            jitter(brightness=0.25, strength=0.25),
            zoomed_crop(lowest=0.8, highest=1.25),
            rotate(degrees=15.0, continued=True),
            translate(ratio=0.125),
            cutout(size=(height // 4, width // 4), image_size=image_size, whole=True),
        )
    )


def _frepo_flip(image_size: tuple[int, int]) -> Operation:
    """One of FRePo's operations, flips among them."""
    return _frepo(image_size, flip())


STRATEGIES: dict[str, Callable[[tuple[int, int]], Operation]] = {
    "dc": _dc,
    "crop_zoom_rotate": _crop_zoom_rotate,
    "pad_crop_flip": _pad_crop_flip,
    "frepo": _frepo,
    "frepo_flip": _frepo_flip,
}
"""Compositions with their own ranges.

`dc`: the augmentation with which DC (Zhao et al. 2021) trains networks on condensed MNIST, as published: each
image is moved by up to 4 pixels, resized by up to a fifth, height and width each for itself, or turned by up
to 45°. `crop_zoom_rotate`: the same ranges, but everything is bilinear, and 0 fills the border; no published
number was measured with it. `pad_crop_flip`: each image is continued by its mirror image, moved by at most 4
pixels and flipped, as Wang et al. 2018 augment the training images of CIFAR-10. `frepo`: what FRePo (Zhou et
al. 2022) trains networks with in the end on MNIST and Fashion-MNIST, `frepo_flip` what it does on other data:
one operation for all images, milder than DSA's, with edge pixels that continue outwards instead of zeros.
"""

FORMER: dict[str, str] = {"dc_crop_scale_rotate": "crop_zoom_rotate"}
"""Names that strategies had in files of earlier versions, and the names that they have now.

`dc_crop_scale_rotate` was never DC's own augmentation; files that say so mean `crop_zoom_rotate`.
"""

FLIPPED = frozenset({"cifar10", "cifar100", "fashion_mnist"})
"""The data sets, by name, for which DSA was published with flips. For MNIST and SVHN it was without."""


def strategy_for(dataset: str) -> str:
    """DSA's published strategy for a data set.

    Args:
        dataset: the name of the data set, as in `Dataset.name`, e.g. `"mnist"`.

    Returns:
        The name of the strategy: all operations; flips only where they were published, see `FLIPPED`. All
        other data sets, those that nothing was published for included, are not flipped, since the mirror
        image of a character is another character or none. Who wants flips names the strategy in full:
        `"color_crop_cutout_flip_scale_rotate"`.
    """
    builder = dataset.partition(":")[0].partition("/")[0]
    return "_".join(one for one in OPERATIONS if one != "flip" or builder in FLIPPED)


def by_name(strategy: str, image_shape: tuple[int, int, int]) -> Augmentation:
    """The augmentation with a given name.

    Args:
        strategy: the name of the strategy. `"a_b_c"`, of names in `OPERATIONS`: one of these operations,
            drawn anew by each call of `sample` and the same for all images, even if each image has its own
            params; DSA as published. `"a+b+c"`: all of these operations, in this order; a part in
            parentheses, as in `"a+(b_c)+d"`, is one of several, as IDC was published. Or one of
            `STRATEGIES`, or a name of `FORMER`.
        image_shape: height, width and channels of the images, `(H, W, C)`.

    Returns:
        The augmentation.

    Raises:
        ValueError: an unknown or repeated name, an invalid image shape, or images that are too small.

    References:
        Zhao and Bilen, Dataset Condensation with Differentiable Siamese Augmentation, ICML 2021. Ranges and
        one operation per call: `ParamDiffAug` (`aug_mode = "S"`; `"M"` is all of them) and `DiffAugment` in
        `utils.py` of the authors' repository, github.com/VICO-UoE/DatasetCondensation; DC's: `augment` there.
    """
    height, width, _ = checks.image_shape(image_shape)
    if isinstance(strategy, str) and FORMER.get(strategy, strategy) in STRATEGIES:
        return of(STRATEGIES[FORMER.get(strategy, strategy)]((height, width)), name=strategy)
    groups, known = _operation_groups(strategy), _published((height, width))
    parts = [[known[name] for name in group] for group in groups]
    if len(parts) == 1:
        return of(one_of(parts[0]), name=strategy)
    return of(all_of([part[0] if len(part) == 1 else one_of(part) for part in parts]), name=strategy)


def _operation_groups(strategy: str) -> list[list[str]]:
    """The operations of a strategy: one of each group is carried out, in the order of the groups."""
    remedy = f"Join such by _ for one at random, by + for all, or give {' or '.join(STRATEGIES)}."
    checks.text("augmentation", strategy, remedy=remedy)
    parts = strategy.split("+")
    groups = [[part] for part in parts] if len(parts) > 1 else [strategy.split("_")]
    for i, part in enumerate(parts):
        if len(parts) > 1 and part.startswith("(") and part.endswith(")"):
            groups[i] = part[1:-1].split("_")
    names = [name for group in groups for name in group]
    for name in names:
        checks.choice("augmentation", name, OPERATIONS, remedy=remedy)
        if names.count(name) > 1:
            raise ValueError(
                f"augmentation: expected each operation once; got {name!r} twice. Leave one out."
            )
    return groups


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

    def apply(draw: Draw, images: jax.Array, weights: jax.Array | None = None) -> jax.Array:
        axes = jax.tree.map(lambda leaf: 0 if jnp.ndim(leaf) else None, draw)
        if not operation.by_batch:
            return jax.vmap(operation.apply, in_axes=(axes, 0))(draw, images)
        means = jnp.average(images.mean((1, 2)), axis=0, weights=weights)
        return jax.vmap(operation.apply, in_axes=(axes, 0, None))(draw, images, means)

    return Augmentation(name, sample, apply, operation.by_batch)


# Mixtures of images.


class Patch(NamedTuple):
    """The draw of `cutmix`.

    Attributes:
        is_mixed: `[]` bool, whether the minibatch is mixed at all.
        partners: `[n]` int32, the position of the image that each image takes a rectangle of.
        centre: the row and column of the rectangle's middle, each `[]` int32.
        half: half of the rectangle's height and width before it is cut at the edge, each `[]` int32.
    """

    is_mixed: jax.Array
    partners: jax.Array
    centre: Pair
    half: Pair


def draw_patch(key: jax.Array, num_images: int, image_size: tuple[int, int], *, probability: float) -> Patch:
    """One rectangle for a minibatch, whose share of the image is uniform before it is cut at the edge.

        λ ~ U(0, 1),   sides ⌊H √(1 - λ)⌋ and ⌊W √(1 - λ)⌋, each lowered to an even number

    Args:
        key: the source of the draws. Consumed.
        num_images: n, the number of images of the minibatch.
        image_size: the height H and width W of the images.
        probability: the probability that the minibatch is mixed.

    Returns:
        The draw.
    """
    mixed_key, order_key, share_key, centre_key = jax.random.split(key, 4)
    side = jnp.sqrt(1 - jax.random.uniform(share_key))
    return Patch(
        jax.random.bernoulli(mixed_key, probability),
        jax.random.permutation(order_key, num_images),
        _pair(lambda key, axis: jax.random.randint(key, (), 0, image_size[axis]), centre_key),
        Pair(*((side * length).astype(jnp.int32) // 2 for length in image_size)),
    )


def patched(draw: Patch, images: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Images with a rectangle of another image each, and labels mixed by the shares of the two images.

    Args:
        draw: the rectangle, and the partner of each image.
        images: the images, `[n, H, W, C]`.
        labels: the label probabilities, `[n, K]`.

    Returns:
        `[n, H, W, C]` and `[n, K]`.
    """

    def inside(centre: jax.Array, half: jax.Array, length: int) -> jax.Array:
        positions = jnp.arange(length)
        return (positions >= centre - half) & (positions < centre + half)

    rows, columns = map(inside, draw.centre, draw.half, images.shape[1:3])
    box = rows[:, None] & columns[None] & draw.is_mixed
    share = box.mean(dtype=labels.dtype)
    mixed = jnp.where(box[None, ..., None], images[draw.partners], images)
    return mixed, (1 - share) * labels + share * labels[draw.partners]


def cutmix(
    key: jax.Array, images: jax.Array, labels: jax.Array, *, probability: float = 0.5
) -> tuple[jax.Array, jax.Array]:
    """CutMix: with a probability, each image of a minibatch gets the same rectangle of another image.

        x̂_i = (1 - m) x_i + m x_π(i),   ŷ_i = (1 - |m|) y_i + |m| y_π(i)

    m is the rectangle, one for the minibatch (`draw_patch`), |m| its share of the image, π a permutation.

    Args:
        key: the source of the draws. Consumed.
        images: the images, `[n, H, W, C]`.
        labels: the label probabilities, `[n, K]`.
        probability: the probability that the minibatch is mixed.

    Returns:
        The images `[n, H, W, C]` and labels `[n, K]` of the minibatch, mixed or as they were.

    References:
        Yun et al., CutMix, ICCV 2019, arXiv 1905.04899; with probability 1/2 in Kim et al. 2022 (IDC), arXiv
        2205.14959.
    """
    draw = draw_patch(key, len(images), (images.shape[1], images.shape[2]), probability=probability)
    return patched(draw, images, labels)


Mix = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
"""A mixture of the images of a minibatch, `(key, images, labels) -> (images, labels)`; consumes the key."""

MIXES: dict[str, Mix] = {"cutmix": cutmix}
"""The mixtures of images by name."""


def mix_by_name(name: str, image_shape: tuple[int, ...]) -> Mix | None:
    """The mixture with a given name.

    Args:
        name: a name out of `MIXES`, or the empty text for no mixture.
        image_shape: the shape of one input; mixtures are for images, `(H, W, C)`.

    Returns:
        The mixture; None for none.

    Raises:
        ValueError: an unknown name, or inputs that are no images.
    """
    if name == "":
        return None
    checks.choice("mix", name, MIXES, remedy="Leave it out for no mixture.")
    checks.image_shape(image_shape)
    return MIXES[name]


def check(augmentation: Augmentation | None, network: Network | None = None) -> None:
    """Refuse a value that is neither an augmentation nor None, and an augmentation of texts.

    Args:
        augmentation: the value to check.
        network: the network whose inputs are to be augmented; None where that is not known.

    Raises:
        ValueError: `augmentation` is neither an `Augmentation` nor None, or the network takes no images.
    """
    if augmentation is None:
        return
    checks.kind("augmentation", augmentation, Augmentation, remedy="Build it with ddjax.augment.by_name.")
    if network is not None and len(network.input_shape) != 3:
        raise ValueError(
            f"augmentation: expected images (H, W, C) to augment; {network.name} takes inputs of shape "
            f"{network.input_shape}. Leave the augmentation out."
        )


__all__ = [
    "FLIPPED",
    "FORMER",
    "MIXES",
    "OPERATIONS",
    "STRATEGIES",
    "Augmentation",
    "Choice",
    "Color",
    "Draw",
    "Mix",
    "Operation",
    "Pair",
    "Patch",
    "all_of",
    "by_name",
    "color",
    "crop",
    "crop_in_mean",
    "cutmix",
    "cutout",
    "displaced",
    "draw_patch",
    "flip",
    "mix_by_name",
    "of",
    "one_of",
    "pad_crop",
    "patched",
    "resize",
    "rotate",
    "rotate_cubic",
    "scale",
    "strategy_for",
    "zoom",
]

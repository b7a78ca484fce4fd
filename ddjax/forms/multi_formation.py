"""Multi-formation (IDC): each stored image is cut into parts, and each part is enlarged to a whole image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddjax import checks
from ddjax.facts import noted
from ddjax.types import Images


def parts(images: jax.Array, factor: int, *, pad: Any = 0.0) -> jax.Array:
    """The f² parts of each image, enlarged to the size of the image.

        decoded[k·n + i] = resize(part k of image i),   parts row by row,  bilinear with half-pixel centres

    Where f does not divide a side, the image is first filled up at the bottom and on the right.

    Args:
        images: `[n, H, W, C]` float, the stored images.
        factor: the number f of parts of each side.
        pad: the number that fills images up, or one for each channel.

    Returns:
        `[f² n, H, W, C]`, first the first part of every image.
    """
    if factor == 1:
        return images
    count, height, width, channels = images.shape
    sides = [-(-side // factor) for side in (height, width)]
    fill = [side * factor - whole for side, whole in zip(sides, (height, width), strict=True)]
    if any(fill):
        value = jnp.broadcast_to(jnp.asarray(pad, images.dtype), (channels,))
        shape = (count, sides[0] * factor, sides[1] * factor, channels)
        filled = jnp.broadcast_to(value, shape)
        images = filled.at[:, :height, :width].set(images)
    grid = images.reshape(count, factor, sides[0], factor, sides[1], channels)
    cut = jnp.moveaxis(grid, (1, 3), (0, 1)).reshape(-1, *sides, channels)
    return jax.image.resize(cut, (len(cut), height, width, channels), "bilinear", antialias=False)


def shrunk(images: np.ndarray, factor: int) -> np.ndarray:
    """Stored images whose parts are whole images, each shrunk to the size of a part: the start of IDC.

    Part k of stored image i is image k·n + i at its nearest pixels, ⌊place · H / h⌋.

    Args:
        images: `[..., n f², H, W, C]`, the images of each class.
        factor: the number f of parts of each side.

    Returns:
        `[..., n, H, W, C]`.

    Raises:
        ValueError: the number of images is no multiple of f², or there are more parts than pixels.
    """
    height, width = images.shape[-3:-1]
    checks.at_least("factor", factor, 1)
    if images.shape[-4] % factor**2 or factor > min(height, width):
        raise ValueError(
            f"images: expected a multiple of {factor**2} images, of at least {factor} pixels a side; got "
            f"{images.shape[-4]} of {height} x {width}. Give so many, or a smaller factor."
        )
    count = images.shape[-4] // factor**2
    rows, columns = (np.array_split(np.arange(side), factor) for side in (height, width))
    stored = np.empty((*images.shape[:-4], count, *images.shape[-3:]), images.dtype)
    for part in range(factor**2):
        down, along = rows[part // factor], columns[part % factor]
        whole = images[..., part * count : (part + 1) * count, :, :, :]
        near = whole[..., np.arange(len(down)) * height // len(down), :, :]
        near = near[..., np.arange(len(along)) * width // len(along), :]
        stored[..., down[0] : down[-1] + 1, along[0] : along[-1] + 1, :] = near
    return stored


def _factors(stored: int, factor: int, *, multi: bool, bound: int | None) -> tuple[tuple[int, int, int], ...]:
    """How the stored images are cut, in the order of decoding: `(first, last + 1, factor)`."""
    if multi:
        return tuple((0, stored, one) for one in range(1, factor + 1))
    if bound is None:
        return ((0, stored, factor),)
    found, first, spare = [], 0, bound - stored
    for one in range(factor, 0, -1):
        count = stored - first if one == 1 else min(spare // one**2, stored - first)
        if count > 0:
            found.append((first, first + count, one))
            first, spare = first + count, spare - count * one**2
    return tuple(found)


@noted
def multi_formation(
    image_shape: tuple[int, ...],
    num_classes: int,
    *,
    stored_per_class: int = 1,
    factor: int = 2,
    multi: bool = False,
    bound: int | None = None,
    pad: float | Sequence[float] = 0.0,
    bounds: tuple[Sequence[float], Sequence[float]] | None = None,
    initial_images: np.ndarray | None = None,
) -> Images:
    """Images of which each stands for the f² images that its parts become when they are enlarged.

    Args:
        image_shape: `(H, W, C)`, the shape of a stored and of a decoded image.
        num_classes: the number K of classes.
        stored_per_class: the number n of stored images of each class.
        factor: the number f of parts of each side; 1 for images as they are stored.
        multi: whether the parts of all factors from 1 to f are taken, one factor after the other.
        bound: the most decoded images of each class: from the largest factor down as many stored images are
            cut as there is room beside the n whole ones, and the rest stays whole. None for no bound.
        pad: the number that fills images up where f does not divide a side, or one for each channel. IDC's
            is 0.5 in pixels, so give what the encoding makes of that.
        bounds: the least and the largest number of each channel, to which the stored numbers are set after
            every update: IDC's are 0 and 1 in pixels. None for no bounds.
        initial_images: `[K, n f², H, W, C]`, encoded images that the parts start from, shrunk to their
            nearest pixels (`shrunk`); None starts from noise.

    Returns:
        Images with the code `[K, n, H, W, C]`, which is what is stored, and the m decoded images of each
        class in the order of the parts.

    Raises:
        ValueError: a count below one, a factor larger than the images, `multi` with a bound, a bound below n,
            or images or bounds of another shape.

    References:
        Kim et al. 2022, arXiv 2205.14959 (IDC), section 4 and `decode_zoom`, `decode_zoom_multi` and
        `decode_zoom_bound` of the authors' code. There the bounds are applied before an update, not after.
    """
    height, width, channels = checks.image_shape(image_shape)
    checks.at_least("num_classes", num_classes, 1)
    checks.at_least("stored_per_class", stored_per_class, 1)
    _check_factor(factor, min(height, width), multi=multi, bound=bound, stored=stored_per_class)
    low, high = (None, None) if bounds is None else (_channels("bounds", one, channels) for one in bounds)
    _channels("pad", pad, channels)
    whole = (num_classes, stored_per_class, height, width, channels)
    start = None
    if initial_images is not None:
        wanted = (num_classes, stored_per_class * factor**2, *whole[2:])
        start = shrunk(checks.encoded_images("initial_images", initial_images, wanted), factor)
    cuts = _factors(stored_per_class, factor, multi=multi, bound=bound)

    def init(key: jax.Array) -> jax.Array:
        code = jax.random.normal(key, whole) if start is None else jnp.asarray(start)
        return code if bounds is None else project(code)

    def of_class(stored: jax.Array) -> jax.Array:
        return jnp.concatenate([parts(stored[first:last], one, pad=pad) for first, last, one in cuts])

    def project(code: jax.Array) -> jax.Array:
        # As arrays of the code's own kind and axes, under JAX's strict rules.
        least, most = (jnp.broadcast_to(jnp.asarray(one, code.dtype), code.shape) for one in (low, high))
        return jnp.clip(code, least, most)

    per_class = sum((last - first) * one**2 for first, last, one in cuts)
    return Images(
        init,
        jax.vmap(of_class),
        (num_classes, per_class, height, width, channels),
        "multi_formation",
        project=None if bounds is None else project,
    )


def _check_factor(factor: int, side: int, *, multi: bool, bound: int | None, stored: int) -> None:
    checks.at_least("factor", factor, 1)
    if factor > side:
        raise ValueError(f"factor: expected at most {side}, one pixel a part; got {factor}. Give fewer.")
    if bound is None:
        return
    checks.at_least("bound", bound, stored, remedy="Give at least the number of stored images.")
    if multi:
        raise ValueError("bound: expected none beside multi, which takes all factors; got one. Leave it out.")


def _channels(what: str, numbers: Any, channels: int) -> np.ndarray:
    """A number, or one for each channel, as an array.

    Raises:
        ValueError: another number of them, or one that is not finite.
    """
    array = np.asarray(numbers, np.float64)
    if array.shape not in ((), (channels,)) or not np.isfinite(array).all():
        raise ValueError(
            f"{what}: expected one finite number, or {channels}, one for each channel; got {numbers!r}. Give "
            "these."
        )
    return array

"""Textures: canvases without an edge, which tile a plane; networks see cuts of an image's size."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from ddjax import checks
from ddjax.facts import noted
from ddjax.types import Images

_PLASTIC = 1.324717957244746
"""The plastic number ρ, the root of ρ³ = ρ + 1: multiples of (1/ρ, 1/ρ²) fill a square evenly."""


def cut(canvas: jax.Array, place: jax.Array, size: tuple[int, int]) -> jax.Array:
    """An image cut out of a canvas whose opposite edges are joined.

        image[i, j] = canvas[(i + y) mod H', (j + x) mod W']

    Args:
        canvas: the canvas, `[H', W', C]`.
        place: the row y and the column x of the image's first pixel, `[2]` whole numbers.
        size: the height H and width W of the image.

    Returns:
        `[H, W, C]`.
    """
    rows, columns = (
        (jnp.arange(length) + start) % whole
        for length, start, whole in zip(size, place, canvas.shape[:2], strict=True)
    )
    return canvas[rows[:, None], columns[None]]


def even_places(count: int, canvas_size: tuple[int, int]) -> np.ndarray:
    """Places on a canvas, evenly spread for any number of places: the fractional parts of i / ρ and i / ρ².

    Args:
        count: the number of places.
        canvas_size: the height H' and width W' of the canvas.

    Returns:
        `[count, 2]` int32, rows and columns; the first place is the canvas's first pixel.

    References:
        Roberts 2018, The unreasonable effectiveness of quasirandom sequences.
    """
    fractions = np.arange(count)[:, None] / _PLASTIC ** np.array([1, 2]) % 1
    return np.floor(fractions * np.array(canvas_size)).astype(np.int32)


def tiling(canvas: np.ndarray, rows: int = 2, columns: int = 2) -> np.ndarray:
    """A canvas laid side by side with itself.

    Args:
        canvas: the canvas, `[H', W', C]`.
        rows: the number of canvases from top to bottom.
        columns: the number of canvases from left to right.

    Returns:
        `[rows * H', columns * W', C]`.
    """
    return np.tile(canvas, (rows, columns, 1))


def seam_ratio(canvases: np.ndarray) -> float:
    """How much neighbouring pixels differ across the seams of a tiling, against neighbours elsewhere.

        r = mean |last line - first line| / mean |line - next line|,   lines: rows and columns alike

    Args:
        canvases: the canvases, `[..., H', W', C]`.

    Returns:
        The ratio: about 1 where the seam cannot be told from the rest, and above 1 where an edge shows.
    """
    canvases = np.asarray(canvases, np.float64)
    seams, inside = [], []
    for axis in (-3, -2):
        steps = np.abs(np.roll(canvases, -1, axis) - canvases)
        length = canvases.shape[axis]
        seams.append(np.take(steps, length - 1, axis).mean())
        inside.append(np.take(steps, np.arange(length - 1), axis).mean())
    return float(np.mean(seams) / np.mean(inside))


@noted
def textures(
    image_shape: tuple[int, ...],
    num_classes: int,
    *,
    canvas: int = 2,
    canvases_per_class: int = 1,
    cuts: int = 4,
    initial_images: np.ndarray | None = None,
) -> Images:
    """Canvases with joined edges, of which networks see cuts of an image's size.

    Every outer step cuts at random places, each epoch of inner steps anew; since a cut may lie across an
    edge, the canvases have none, and tile a plane to the pixel. What is validated and saved are cuts at fixed
    places that are spread evenly.

    Args:
        image_shape: `(H, W, C)`, the shape of a cut, which is that of the data.
        num_classes: the number K of classes.
        canvas: the number c of images along each side of a canvas, at least 1.
        canvases_per_class: the number n of canvases of each class.
        cuts: the number of cuts of each canvas among the decoded images, the same at random and at fixed
            places.
        initial_images: `[K, n, cH, cW, C]`, encoded canvases to start from; None starts from noise.

    Returns:
        Images with the code `[K, n, cH, cW, C]`, which is what is stored, and m = n · cuts decoded images of
        each class: one cut of every canvas, then the next cut of every canvas.

    Raises:
        ValueError: a count below one, or canvases of another shape.

    References:
        Cazenavette et al., Wearable ImageNet: Synthesizing Tileable Textures via Dataset Distillation, CVPR
        Workshops 2022.
    """
    height, width, channels = checks.image_shape(image_shape)
    for name, value in {
        "num_classes": num_classes,
        "canvas": canvas,
        "canvases_per_class": canvases_per_class,
        "cuts": cuts,
    }.items():
        checks.at_least(name, value, 1)
    side = canvas * height, canvas * width
    shape = (num_classes, canvases_per_class, *side, channels)
    if initial_images is not None:
        initial_images = checks.encoded_images("initial_images", initial_images, shape)
    fixed = even_places(cuts, side)

    def init(key: jax.Array) -> jax.Array:
        if initial_images is not None:
            return jnp.asarray(initial_images)
        return jax.random.normal(key, shape)

    def cut_at(code: jax.Array, places: jax.Array) -> jax.Array:
        """The cuts at places `[K, cuts, n, 2]`, `[K, cuts * n, H, W, C]`."""
        of_canvas = jax.vmap(lambda one, place: cut(one, place, (height, width)))
        found = jax.vmap(jax.vmap(of_canvas, (None, 0)))(code, places)
        return found.reshape(num_classes, -1, height, width, channels)

    def decode(code: jax.Array) -> jax.Array:
        everywhere = (num_classes, cuts, canvases_per_class, 2)
        return cut_at(code, jnp.broadcast_to(jnp.asarray(fixed)[None, :, None], everywhere))

    def draw(code: jax.Array, key: jax.Array) -> jax.Array:
        keys = jax.random.split(key)
        drawn = [
            jax.random.randint(one, (num_classes, cuts, canvases_per_class), 0, length)
            for one, length in zip(keys, side, strict=True)
        ]
        return cut_at(code, jnp.stack(drawn, -1))

    return Images(
        init,
        decode,
        (num_classes, cuts * canvases_per_class, height, width, channels),
        "textures",
        draw=draw,
    )

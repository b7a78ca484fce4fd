"""Differentiable augmentation: what is drawn, and what it does to images, as a pair of pure functions.

A strategy is composed by name:

    color_crop_cutout_flip_scale_rotate   one of these operations, drawn anew at every call
    color+crop+flip                       all of these, in this order
    pad_crop_flip, dc_crop_scale_rotate   compositions with ranges of their own, see `STRATEGIES`

All work on normalised images, so that 0, which stands for what lies outside an image, is the data's mean.
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
"""What `Augmentation.sample` gives: a pytree whose leaves are `[]`, shared by all images, or `[n]`."""


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """A random transform of images.

    One draw transforms any number of batches alike, so that real and distilled images are augmented with the
    same parameters:

        draw = augmentation.sample(key)
        real, distilled = augmentation.apply(draw, real), augmentation.apply(draw, distilled)

    Attributes:
        name: the strategy, from which `by_name` makes it again.
        sample: `(key, num_images=None) -> draw`: one for all images, or, given their number, one for each.
            Consumes the key.
        apply: `(draw, images [n, H, W, C]) -> [n, H, W, C]`; linear or affine in each image, so that it is
            differentiable as often as wanted. A leaf of the draw that is `[]` is shared by all images, one
            that is `[n]` has an entry for each: draws that were vmapped, or gathered by class, fit too.
    """

    name: str
    sample: Callable[..., Draw]
    apply: Callable[[Draw, jax.Array], jax.Array]


class Operation(NamedTuple):
    """What strategies are made of.

    Attributes:
        sample: `(key, shape) -> params`, with leaves of that shape. Consumes the key.
        apply: `(params, image [H, W, C]) -> [H, W, C]`, with params whose leaves are `[]`.
    """

    sample: Callable[[jax.Array, tuple[int, ...]], Any]
    apply: Callable[[Any, jax.Array], jax.Array]


class Choice(NamedTuple):
    """The params of `one_of`.

    Attributes:
        which: int32, the position of the operation that is carried out.
        params: of every operation.
    """

    which: jax.Array
    params: tuple[Any, ...]


class Color(NamedTuple):
    """The params of `color`.

    Attributes:
        brightness: b, added to every value.
        saturation: s, the factor on a value's distance from its pixel's mean over the channels.
        contrast: c, the factor on its distance from the image's mean.
    """

    brightness: jax.Array
    saturation: jax.Array
    contrast: jax.Array


class Pair(NamedTuple):
    """One number for the height and one for the width.

    Attributes:
        rows: for the height.
        columns: for the width.
    """

    rows: jax.Array
    columns: jax.Array


def _pair(draw: Callable[[jax.Array, int], jax.Array], key: jax.Array) -> Pair:
    """`draw(key, axis)` for both axes."""
    rows_key, columns_key = jax.random.split(key)
    return Pair(draw(rows_key, 0), draw(columns_key, 1))


def _weights(positions: jax.Array, length: int) -> jax.Array:
    """`[n, length]`, what each of `length` pixels adds at n positions between them; outside there is 0."""
    distances = positions[:, None] - jnp.arange(length).astype(positions.dtype)[None]
    return jnp.maximum(0, 1 - jnp.abs(distances))


def _at(image: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    """The image where these rows `[H']` and columns `[W']` cross, bilinear: a matrix product on each side."""
    height, width, _ = image.shape
    return jnp.einsum(
        "ih,hwc,jw->ijc",
        _weights(rows, height).astype(image.dtype),
        image,
        _weights(columns, width).astype(image.dtype),
        precision=jax.lax.Precision.HIGHEST,  # whole pixels move unchanged
    )


def color(*, brightness: float, saturation: float, contrast: float) -> Operation:
    """Brightness, then saturation, then contrast.

    x + b,                                b ~ U(-brightness / 2, brightness / 2)
    (x - its pixel's mean) s + the mean,  s ~ U(0, saturation)
    (x - the image's mean) c + the mean,  c ~ U(contrast, 1 + contrast)
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
    """`(key, shape) -> Pair` of whole numbers from -limit to limit."""

    def sample(key: jax.Array, shape: tuple[int, ...]) -> Pair:
        return _pair(
            lambda key, axis: jax.random.randint(key, shape, -limits[axis], limits[axis] + 1),
            key,
        )

    return sample


def crop(*, shift: tuple[int, int]) -> Operation:
    """The image moved by whole pixels, at most `shift` up or down and to the left or right; 0 enters."""

    def apply(params: Pair, image: jax.Array) -> jax.Array:
        height, width, _ = image.shape
        return _at(image, jnp.arange(height) + params.rows, jnp.arange(width) + params.columns)

    return Operation(_shifts(shift), apply)


def pad_crop(*, padding: int, image_size: tuple[int, int]) -> Operation:
    """The same, where the image's mirror image enters, its edge not repeated.

    Raises:
        ValueError: the images are too small for that.
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
    """A rectangle of `size` set to 0; its centre is anywhere in the image, so that some may lie outside."""

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
    """Left and right exchanged, with probability 1/2."""

    def sample(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return jax.random.bernoulli(key, 0.5, shape)

    def apply(flipped: jax.Array, image: jax.Array) -> jax.Array:
        return jnp.where(flipped, image[:, ::-1], image)

    return Operation(sample, apply)


def _stretched(steps: Pair, image: jax.Array) -> jax.Array:
    """The image read about its centre every `steps` pixels, bilinear: it grows where they are below 1."""
    rows, columns = (
        (length - 1) / 2 + step * (jnp.arange(length).astype(step.dtype) - (length - 1) / 2)
        for step, length in zip(steps, image.shape[:2], strict=True)
    )
    return _at(image, rows, columns)


def scale(*, ratio: float) -> Operation:
    """Height and width each divided by a number of its own from U(1 / ratio, ratio); 0 enters."""

    def sample(key: jax.Array, shape: tuple[int, ...]) -> Pair:
        return _pair(lambda key, _: jax.random.uniform(key, shape, minval=1 / ratio, maxval=ratio), key)

    return Operation(sample, _stretched)


def zoom(*, change: float) -> Operation:
    """Height and width each multiplied by a number of its own from U(1 - change, 1 + change); 0 enters."""

    def sample(key: jax.Array, shape: tuple[int, ...]) -> Pair:
        low, high = 1 - change, 1 + change
        return _pair(lambda key, _: 1 / jax.random.uniform(key, shape, minval=low, maxval=high), key)

    return Operation(sample, _stretched)


def rotate(*, degrees: float) -> Operation:
    """Turned anticlockwise about the centre by an angle (radians) from U(-degrees, degrees), bilinear."""

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
    """Every operation, one after the other."""

    def sample(key: jax.Array, shape: tuple[int, ...]) -> tuple[Any, ...]:
        keys = jax.random.split(key, len(operations))
        return tuple(one.sample(key, shape) for one, key in zip(operations, keys, strict=True))

    def apply(params: tuple[Any, ...], image: jax.Array) -> jax.Array:
        for one, own in zip(operations, params, strict=True):
            image = one.apply(own, image)
        return image

    return Operation(sample, apply)


def one_of(operations: Sequence[Operation], *, per_image: bool = False) -> Operation:
    """One operation, each as probable as any other.

    Args:
        operations: to choose from.
        per_image: whether images with draws of their own differ in the operation too, and not only in its
            params.
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
"""The names that strategies are composed of."""


def _dc_crop_scale_rotate(image_size: tuple[int, int]) -> Operation:
    """One of the three, another for each image."""
    del image_size
    return one_of((crop(shift=(4, 4)), zoom(change=0.2), rotate(degrees=45.0)), per_image=True)


def _pad_crop_flip(image_size: tuple[int, int]) -> Operation:
    """Mirrored by 4 pixels, cropped, flipped."""
    return all_of((pad_crop(padding=4, image_size=image_size), flip()))


STRATEGIES: dict[str, Callable[[tuple[int, int]], Operation]] = {
    "dc_crop_scale_rotate": _dc_crop_scale_rotate,
    "pad_crop_flip": _pad_crop_flip,
}
"""Compositions with ranges of their own.

`dc_crop_scale_rotate`: for each image one of a move by at most 4 pixels, a zoom by at most a fifth and a turn
by at most 45°: how DC (Zhao et al. 2021) trains on condensed MNIST, but bilinear throughout and filled up
with 0 instead of the minibatch's mean. `pad_crop_flip`: continued by its mirror image, moved by at most 4
pixels, flipped: how Wang et al. 2018 draw CIFAR-10's training images.
"""

_NO_FLIP = frozenset({"digits", "emnist", "kmnist", "mnist", "mnist_corrupted", "svhn_cropped", "usps"})


def strategy_for(dataset: str) -> str:
    """DSA's published strategy for a data set, by its name.

    Args:
        dataset: `Dataset.name`, e.g. `"mnist"`.

    Returns:
        All operations; without the flip for digits and letters, which mean something else from behind.
    """
    builder = dataset.partition(":")[0].partition("/")[0]
    return "_".join(one for one in OPERATIONS if one != "flip" or builder not in _NO_FLIP)


def by_name(strategy: str, image_shape: tuple[int, int, int]) -> Augmentation:
    """The augmentation of that name.

    Args:
        strategy: `"a_b_c"`, of names in `OPERATIONS`: one of them, drawn anew by each call of `sample`, also
            where every image has params of its own; DSA as published. `"a+b+c"`: all of them, in this order.
            Or one of `STRATEGIES`.
        image_shape: `(H, W, C)`.

    Returns:
        The augmentation.

    Raises:
        ValueError: an unknown name, or twice the same; no image shape, or images that are too small.

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
        operation: of one image.
        name: how records call it.

    Returns:
        The augmentation; `by_name` finds it only under the names that it knows.
    """

    def sample(key: jax.Array, num_images: int | None = None) -> Draw:
        return operation.sample(key, () if num_images is None else (num_images,))

    def apply(draw: Draw, images: jax.Array) -> jax.Array:
        axes = jax.tree.map(lambda leaf: 0 if jnp.ndim(leaf) else None, draw)
        return jax.vmap(operation.apply, in_axes=(axes, 0))(draw, images)

    return Augmentation(name, sample, apply)


def check(augmentation: Augmentation | None) -> None:
    """Refuse what is neither an augmentation nor None.

    Raises:
        ValueError: as said.
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

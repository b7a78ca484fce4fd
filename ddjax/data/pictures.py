"""Pictures that Pillow has opened, as arrays of bytes of one size and one number of channels."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ddjax import checks

GREY = {"1", "L", "I", "I;16", "I;16B", "I;16L"}
"""The modes of Pillow that have one channel; those whose names begin with I have 16 bits or more."""

MOST = 65535
"""The largest level of 16 bits."""


class Decoded(NamedTuple):
    """One picture.

    Attributes:
        pixels: `[H, W, 1]` or `[H, W, 3]` uint8, the picture as people see it.
        largest: the largest level of a picture of 16 bits; None for a picture of 8 bits.
    """

    pixels: np.ndarray
    largest: int | None


def is_picture(value: Any) -> bool:
    """Whether a value is a picture of Pillow's and not an array.

    Args:
        value: the value.

    Returns:
        True for a picture.
    """
    return hasattr(value, "mode") and hasattr(value, "convert")


def side_lengths(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    """The height and width that a setting asks for.

    Args:
        size: the height and width, one number for both, or None to keep pictures as they are.

    Returns:
        The height and width, or None.

    Raises:
        ValueError: a side is below one.
    """
    sides = None if size is None else size if isinstance(size, tuple) else (size, size)
    for side in sides or ():
        checks.at_least("size", side, 1)
    return sides


def decoded(picture: Any, where: str, sides: tuple[int, int] | None = None) -> Decoded:
    """A picture as an array, turned as its camera says; 16 bits become 8.

    Args:
        picture: the picture, opened by Pillow.
        where: the name of the picture in error messages.
        sides: the height and width that the picture is resized to, bilinearly; None keeps its own.

    Returns:
        The array, grey or of three colours.

    Raises:
        ValueError: the picture is transparent, or its levels are not whole numbers of at most 16 bits.
    """
    from PIL import Image, ImageOps

    picture, largest = ImageOps.exif_transpose(picture), None
    if picture.mode in GREY:
        grey = np.asarray(picture)
        if grey.dtype not in (np.uint8, bool):
            _check_levels(grey, where)
            largest = int(grey.max())
            grey = np.rint(grey.astype(np.float64) / 257)
        picture = Image.fromarray((grey * (255 if grey.dtype == bool else 1)).astype(np.uint8))
    elif picture.mode == "F":
        raise ValueError(
            f"dataset: expected pictures of whole levels; got {where}, of floats. Write it with 8 or 16 "
            "bits, or give arrays of floats in [0, 1] to ddjax.data.from_arrays."
        )
    elif picture.has_transparency_data and np.asarray(picture.convert("RGBA"))[..., 3].min() < 255:
        raise ValueError(
            f"dataset: expected pictures without transparency; got {where}. Save it on a background, or give "
            "arrays of four channels."
        )
    else:
        picture = picture.convert("RGB")
    if sides is not None:
        picture = picture.resize((sides[1], sides[0]), Image.Resampling.BILINEAR)
    pixels = np.asarray(picture)
    return Decoded(pixels[..., None] if pixels.ndim == 2 else pixels, largest)


def _check_levels(grey: np.ndarray, where: str) -> None:
    low, high = int(grey.min()), int(grey.max())
    if low < 0 or high > MOST:
        raise ValueError(
            f"dataset: expected levels from 0 to {MOST}; got {where} with levels from {low} to {high}. Scale "
            "its levels and write it with 16 bits."
        )


def stacked(pictures: Sequence[Decoded], names: Sequence[Any], *, remedy: str) -> np.ndarray:
    """Pictures of one size as one array; grey where all of them are grey.

    Args:
        pictures: n pictures.
        names: the names of the pictures in error messages.
        remedy: the sentence that says how to resize them.

    Returns:
        `[n, H, W, C]` uint8.

    Warns:
        UserWarning: the pictures of 16 bits use less than half of the levels.

    Raises:
        ValueError: the pictures are of several sizes.
    """
    first = pictures[0].pixels
    for name, picture in zip(names, pictures, strict=True):
        if picture.pixels.shape[:2] != first.shape[:2]:
            raise ValueError(
                f"dataset: expected pictures of one size, {_size(first)} as {names[0]}; got "
                f"{_size(picture.pixels)}, {name}. {remedy}"
            )
    deep = [picture.largest for picture in pictures if picture.largest is not None]
    if deep and max(deep) <= MOST // 2:
        warnings.warn(
            f"dataset: {len(deep)} pictures of 16 bits have levels up to {max(deep)} of {MOST}: in 8 bits "
            f"they are dark, levels up to {round(max(deep) / 257)}. Stretch them first if they hold fewer "
            "bits than 16.",
            stacklevel=4,
        )
    widest = max(picture.pixels.shape[-1] for picture in pictures)
    return np.stack([in_channels(picture.pixels, widest) for picture in pictures])


def in_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """Pixels with a number of channels, to which one channel is repeated.

    Args:
        pixels: `[..., C]`, with C of one or of `channels`.
        channels: the number of channels.

    Returns:
        `[..., channels]`.
    """
    return np.repeat(pixels, channels // pixels.shape[-1], -1)


def alike(parts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The splits of a set with one number of channels: grey ones are repeated where another has colour.

    Args:
        parts: the pictures of each split, `[n, H, W, C]` with C of one or three.

    Returns:
        The pictures of each split.
    """
    widest = max(part.shape[-1] for part in parts.values())
    return {name: in_channels(part, widest) for name, part in parts.items()}


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[0]}x{pixels.shape[1]}"


__all__ = ["GREY", "Decoded", "alike", "decoded", "in_channels", "is_picture", "side_lengths", "stacked"]

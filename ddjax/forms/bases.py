"""Bases and addressing (RememberThePast): every image is a combination of a few images that all share."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddjax import checks
from ddjax.facts import noted
from ddjax.types import Images


class BasesCode(NamedTuple):
    """The code of `bases`.

    Attributes:
        bases: `[n, h, w, C]` float, the images that all classes share.
        coefficients: `[K, m, n]` float, the addresses: the share of each basis in each decoded image.
    """

    bases: jax.Array
    coefficients: jax.Array


def sides(image_shape: tuple[int, int, int], downsample: float) -> tuple[int, int]:
    """The height and width of a basis.

    Args:
        image_shape: `(H, W, C)`, the shape of a decoded image.
        downsample: the factor by which a basis is smaller.

    Returns:
        `(h, w)`, ⌈H / downsample⌉ and ⌈W / downsample⌉.
    """
    height, width = (math.ceil(side / downsample) for side in image_shape[:2])
    return height, width


def bases_for_budget(
    images_per_class: float,
    image_shape: tuple[int, ...],
    num_classes: int,
    *,
    num_bases: int,
    downsample: float = 1.0,
    label_numbers: int = 0,
    other_numbers: int = 0,
) -> int:
    """The most decoded images of each class that fit into the storage of some plain images.

        m = ⌊(images_per_class·K·H·W·C - n·h·w·C - other) / (K·(n + label_numbers))⌋

    Args:
        images_per_class: the storage, in plain images of each class.
        image_shape: `(H, W, C)`, the shape of a decoded image.
        num_classes: the number K of classes.
        num_bases: the number n of bases.
        downsample: the factor by which a basis is smaller than an image, on each side.
        label_numbers: the stored numbers of an image's label: 0 for hard labels, K for learned ones.
        other_numbers: the numbers that are stored besides, such as learning rates.

    Returns:
        The number m.

    Raises:
        ValueError: not one image of each class fits beside the bases.

    References:
        Deng and Russakovsky 2022, arXiv 2206.02916, and the script for budgets of the authors' code, which
        counts no labels.
    """
    checks.positive("images_per_class", images_per_class)
    shape = checks.image_shape(image_shape)
    checks.at_least("num_bases", num_bases, 1)
    whole = images_per_class * num_classes * math.prod(shape)
    shared = num_bases * math.prod(sides(shape, downsample)) * shape[2]
    found = math.floor((whole - shared - other_numbers) / (num_classes * (num_bases + label_numbers)))
    if found < 1:
        raise ValueError(
            f"num_bases: expected an image of each class beside the bases, in {whole:,.0f} numbers; "
            f"got {num_bases} bases of {shared:,} numbers in all. Give fewer bases, or a larger downsample."
        )
    return found


@noted
def bases(
    image_shape: tuple[int, ...],
    num_classes: int,
    *,
    num_bases: int,
    per_class: int,
    downsample: float = 1.0,
    initial_images: np.ndarray | None = None,
) -> Images:
    """Images that are combinations of bases, enlarged where the bases are smaller than images.

        x̃_ki = up(Σ_b a_kib · B_b),   up: bilinear, half-pixel centres

    n·h·w·C + K·m·n numbers are stored. With initial images the start is the best one in squares that so many
    bases allow, after enlarging; all bases then have the same mean square, one.

    Args:
        image_shape: `(H, W, C)`, the shape of a decoded image.
        num_classes: the number K of classes.
        num_bases: the number n of bases.
        per_class: the number m of decoded images of each class.
        downsample: the factor ≥ 1 by which a basis is smaller than an image, on each side (`sides`).
        initial_images: `[K, m, H, W, C]`, the encoded images that the decoded ones start near to, usually
            real ones; None starts from Xavier-uniform bases and coefficients.

    Returns:
        Images with the code `BasesCode`: the group "data" for the bases, "coefficients" for the coefficients.

    Raises:
        ValueError: a count below one, a factor below one, initial images of another shape, or more bases
            than these images determine.

    References:
        Deng and Russakovsky 2022, arXiv 2206.02916 (RememberThePast), section 3.
    """
    shape = checks.image_shape(image_shape)
    for name, value in (("num_classes", num_classes), ("num_bases", num_bases), ("per_class", per_class)):
        checks.at_least(name, value, 1)
    checks.at_least("downsample", downsample, 1, integer=False)
    small, whole = (*sides(shape, downsample), shape[2]), (num_classes, per_class, *shape)
    start = None
    if initial_images is not None:
        most = min(num_classes * per_class, math.prod(small))
        if num_bases > most:
            raise ValueError(
                f"num_bases: expected at most {most}, the number of images or of pixels, which is "
                f"all that initial images determine; got {num_bases}. Give fewer, or no initial_images."
            )
        images = checks.encoded_images("initial_images", initial_images, whole)
        start = _nearest(images, num_bases, small)

    def init(key: jax.Array) -> BasesCode:
        if start is not None:
            return BasesCode(*map(jnp.asarray, start))
        keys = jax.random.split(key)
        fans = small[0] * small[1] * (num_bases + small[2]), num_bases + num_classes * per_class
        limits = [math.sqrt(6 / fan) for fan in fans]
        return BasesCode(
            jax.random.uniform(keys[0], (num_bases, *small), minval=-limits[0], maxval=limits[0]),
            jax.random.uniform(
                keys[1], (num_classes, per_class, num_bases), minval=-limits[1], maxval=limits[1]
            ),
        )

    def decode(code: BasesCode) -> jax.Array:
        mixed = jnp.tensordot(code.coefficients, code.bases, 1)
        if small == shape:
            return mixed
        return jax.image.resize(mixed, whole, "bilinear", antialias=False)

    def groups(code: BasesCode) -> Any:
        del code
        names: tuple[Any, ...] = ("data", "coefficients")
        return BasesCode(*names)

    return Images(init, decode, whole, "bases", groups=groups)


def _enlarging(size: int, whole: int) -> np.ndarray:
    """The matrix `[whole, size]` that enlarges a row of pixels, in float64."""
    centres = (np.arange(whole) + 0.5) * size / whole - 0.5
    weights = 1 - np.abs(centres[:, None] - np.arange(size))
    weights = np.maximum(weights, 0)
    return weights / weights.sum(1, keepdims=True)


def _nearest(
    images: np.ndarray, num_bases: int, small: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Bases and coefficients whose enlarged combinations are nearest to images in squares.

    With U = QR, the enlarging of one side, the error of a small image z is ‖Q_H'x Q_W - R_H z R_W'‖² and a
    constant: the best bases are the singular vectors of the images' Q_H'x Q_W, with R taken away.

    Args:
        images: `[K, m, H, W, C]`.
        num_bases: the number n of bases.
        small: `(h, w, C)`, the shape of a basis.

    Returns:
        `[n, h, w, C]` of mean square one each, and `[K, m, n]`, in the dtype of the images.
    """
    (q_h, r_h), (q_w, r_w) = (
        np.linalg.qr(_enlarging(size, whole))
        for size, whole in zip(small[:2], images.shape[2:4], strict=True)
    )
    inside = np.einsum("hi,kmhwc,wj->kmijc", q_h, images.astype(np.float64), q_w, optimize=True)
    left, values, right = np.linalg.svd(inside.reshape(-1, math.prod(small)), full_matrices=False)
    found = right[:num_bases].reshape(-1, *small)
    found = np.einsum("ih,nhwc,jw->nijc", np.linalg.inv(r_h), found, np.linalg.inv(r_w), optimize=True)
    size = np.sqrt(np.mean(found**2, (1, 2, 3), keepdims=True))
    coefficients = left[:, :num_bases] * (values[:num_bases] * size.ravel())
    return (
        (found / size).astype(images.dtype),
        coefficients.reshape(*images.shape[:2], num_bases).astype(images.dtype),
    )

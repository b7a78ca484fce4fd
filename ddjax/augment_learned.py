"""Learned augmentation: the widths of the ranges that affine transforms of images are drawn from.

An augmentation of `ddjax.augment` has ranges that somebody chose. Here the ranges are parameters: a transform
is drawn, differentiably in the widths of the ranges, from a group of affine maps of the plane (Augerino).
`ddjax.forms.augmented` learns widths together with distilled data, `ddjax.augerino` with a network's weights.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from ddjax.augment import displaced

TRANSFORMS = ("across", "down", "rotation", "scale", "stretch", "shear")
"""The names of the six one-parameter transforms, in the order of every array of widths."""

GENERATORS = np.array(
    [
        [[0, 0, 0.1], [0, 0, 0], [0, 0, 0]],
        [[0, 0, 0], [0, 0, 0.1], [0, 0, 0]],
        [[0, -1, 0], [1, 0, 0], [0, 0, 0]],
        [[1, 0, 0], [0, 1, 0], [0, 0, 0]],
        [[1, 0, 0], [0, -1, 0], [0, 0, 0]],
        [[0, 1, 0], [1, 0, 0], [0, 0, 0]],
    ]
)
"""`[6, 3, 3]`, the generators G_i of the transforms, in coordinates (x, y, 1) with x, y in [-1, 1].

A width of 1 of the rotation is a range of one radian in all; of the translations a tenth of half the image's
width or height.
"""

HALVINGS, TERMS = 6, 13
"""The exponential of A is a polynomial of degree 13 of A / 2⁶, squared six times; exact for ‖A‖ < 30."""


def widths_of(raw: jax.Array) -> jax.Array:
    """The widths of the ranges, w = softplus(raw).

    Args:
        raw: the parameters of the widths, of any shape.

    Returns:
        The widths, above zero, of the same shape. A width of 1 is the range from -1/2 to 1/2.
    """
    return jax.nn.softplus(raw)


def generated(widths: jax.Array, uniform: jax.Array) -> jax.Array:
    """The combination of the generators that a draw stands for.

        A = Σ_i (u_i - 1/2) w_i G_i

    Args:
        widths: the widths w, `[6]`, or `[n, 6]` for widths of each image's own.
        uniform: the draws u from U(0, 1), `[n, 6]`.

    Returns:
        `[n, 3, 3]`; differentiable in the widths.
    """
    amounts = (uniform - 0.5) * jnp.broadcast_to(widths, uniform.shape)
    generators = jnp.asarray(GENERATORS, amounts.dtype)
    return jnp.einsum("ni,ijk->njk", amounts, generators, precision=jax.lax.Precision.HIGHEST)


def exponential(matrices: jax.Array) -> jax.Array:
    """The matrix exponential of small matrices, by scaling and squaring.

        exp(A) = p(A / 2^s)^(2^s),   p(X) = Σ_{k ≤ 13} X^k / k!,   s = 6

    Args:
        matrices: A, `[..., d, d]`.

    Returns:
        `[..., d, d]`, exact to rounding for norms below 30; derivatives of every order exist.
    """
    product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
    small = matrices / 2**HALVINGS
    identity = jnp.broadcast_to(jnp.eye(matrices.shape[-1], dtype=matrices.dtype), matrices.shape)
    found = identity
    for k in range(TERMS, 0, -1):  # Horner's scheme
        found = identity + product(small, found) / k
    for _ in range(HALVINGS):
        found = product(found, found)
    return found


def draw(raw: jax.Array, key: jax.Array, count: int) -> jax.Array:
    """Affine maps, one for each of some images.

        T = exp(Σ_i (u_i - 1/2) softplus(raw_i) G_i),   u ~ U(0, 1)^6

    Args:
        raw: the parameters of the widths, `[6]`, or `[count, 6]` for widths of each image's own.
        key: the source of the draws. Consumed.
        count: n, the number of images.

    Returns:
        `[n, 3, 3]`, for `warp`; differentiable in `raw`, for given draws.

    References:
        Benton et al., Learning Invariances in Neural Networks, NeurIPS 2020, arXiv 2010.11882 (Augerino).
        The authors' code integrates a differential equation for the exponential, to about 1e-4.
    """
    uniform = jax.random.uniform(key, (count, len(TRANSFORMS)), raw.dtype)
    return exponential(generated(widths_of(raw), uniform))


def warp(images: jax.Array, matrices: jax.Array) -> jax.Array:
    """Images under affine maps, bilinear; pixels from outside an image are 0, the data's mean.

        output(x, y) = input(x', y'),   (x', y', 1) = T (x, y, 1)

    x and y go from -1 at the centre of the first pixel to 1 at the centre of the last one.

    Args:
        images: the images, `[n, H, W, C]`, H and W at least 2.
        matrices: T, which maps places of the output to places of the input, `[n, 3, 3]`.

    Returns:
        `[n, H, W, C]`; linear in the images, differentiable in the matrices.
    """
    height, width = images.shape[1:3]

    def one(image: jax.Array, matrix: jax.Array) -> jax.Array:
        y, x = (jnp.linspace(-1, 1, length, dtype=matrix.dtype) for length in (height, width))
        # Displacements, not places: a map near the identity keeps its digits.
        change = matrix[:2] - jnp.eye(2, 3, dtype=matrix.dtype)
        across, down = (row[0] * x[None] + row[1] * y[:, None] + row[2] for row in change)
        return displaced(image, down * (height - 1) / 2, across * (width - 1) / 2)

    return jax.vmap(one)(images, matrices.astype(images.dtype))


def transformed(raw: jax.Array, key: jax.Array, images: jax.Array) -> jax.Array:
    """Images, each under a map of its own.

    Args:
        raw: the parameters of the widths, `[6]`, or `[n, 6]` for widths of each image's own.
        key: the source of the draws. Consumed.
        images: the images, `[n, H, W, C]`.

    Returns:
        `[n, H, W, C]`; differentiable in `raw` and linear in the images.
    """
    return warp(images, draw(raw, key, len(images)))


__all__ = [
    "GENERATORS",
    "TRANSFORMS",
    "draw",
    "exponential",
    "generated",
    "transformed",
    "warp",
    "widths_of",
]

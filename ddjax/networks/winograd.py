"""Convolutions with fewer multiplications: minimal filtering, as three matrix products."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# The points at which polynomials are evaluated, by the number of points needed besides infinity. Kernels of
# 3×3 and 5×5 take five and seven points: of several sets tried, those whose float32 result is nearest to
# float64's.
_POINTS = {
    1: (0.0,),
    2: (0.0, 1.0),
    3: (0.0, 1.0, -1.0),
    4: (0.0, 1.0, -1.0, 2.0),
    5: (0.0, 0.75, -0.75, 1.5, -1.5),
    6: (0.0, 1.0, -1.0, 0.5, -2.0, 2.0),
    7: (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5),
}
_LARGEST_PATCH = max(_POINTS) + 1


def tile_size(kernel: int, out: int) -> int:
    """The number of outputs along one side of a tile: four, or fewer where image or precision demand that.

    Args:
        kernel: the size of the kernel along that side.
        out: the number of outputs of the convolution along that side.

    Returns:
        The number m; below two where minimal filtering saves nothing.
    """
    return min(4, out, _LARGEST_PATCH + 1 - kernel)


@functools.cache
def matrices(outputs: int, kernel: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The matrices of F(m, r): m outputs of a correlation with r weights from q = m + r - 1 products.

        y = A [(G g) · (B d)],    y_i = Σ_j g_j d_{i+j}

    Two polynomials of m and r coefficients are multiplied by way of their values at q - 1 points and at
    infinity; A, G and B are the transposed form of that. Each row of B and of G is scaled by a power of two,
    so that the largest entries of both rows are about equal.

    Args:
        outputs: the number of outputs, m.
        kernel: the number of weights, r.

    Returns:
        The matrices A `[m, q]`, G `[q, r]` and B `[q, q]`, float64.

    References:
        Winograd 1980, Arithmetic Complexity of Computations; Lavin and Gray 2016, arXiv 1509.09308.
    """
    size = outputs + kernel - 1
    points = np.array(_POINTS[size - 1])

    def values(count: int) -> np.ndarray:
        at_infinity = np.eye(count)[-1:]
        return np.concatenate([points[:, None] ** np.arange(count), at_infinity])

    of_data = np.linalg.inv(values(size)).T
    of_kernel = values(kernel)
    scale = 2.0 ** np.round(np.log2(np.abs(of_data).max(1) / np.abs(of_kernel).max(1)) / 2)
    return values(outputs).T, of_kernel * scale[:, None], of_data / scale[:, None]


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    *,
    pads: tuple[tuple[int, int], tuple[int, int]],
    out: tuple[int, int],
    multiply: Callable[[jax.Array, jax.Array], jax.Array],
) -> jax.Array:
    """A convolution of stride one, in tiles of m * m outputs.

        Y = A (Σ_c (G g_c Gᵀ) · (B d_c Bᵀ)) Aᵀ    for each tile's patch d of q * q pixels

    A transform multiplies all patches at once, and from both sides, by a Kronecker product: `(B ⊗ B) vec(d)`.
    The sums over channels are q * q products of `[n * tiles, C]` with `[C, F]`. Each output needs (q / m)²
    products instead of the convolution's r²: 4 instead of 25 for 5 * 5 and m = 4.

    Args:
        x: the images or feature maps, `[n, H, W, C]`.
        kernel: the kernel, `[kh, kw, C, F]`.
        pads: the zeros `(low, high)` before and after the rows, and before and after the columns.
        out: the rows and columns of the result, (H', W').
        multiply: the function that computes a matrix product.

    Returns:
        The outputs, `[n, H', W', F]`.
    """
    kh, kw, c, f = kernel.shape
    n = len(x)
    m = tuple(tile_size(size, length) for size, length in zip((kh, kw), out, strict=True))
    q = (m[0] + kh - 1, m[1] + kw - 1)
    tiles = tuple(math.ceil(length / size) for length, size in zip(out, m, strict=True))
    by_side = zip(matrices(m[0], kh), matrices(m[1], kw), strict=True)
    to_output, of_kernel, of_data = (jnp.asarray(np.kron(*pair), x.dtype) for pair in by_side)

    patches = multiply(of_data, _patches(x, pads, m, q, tiles).reshape(q[0] * q[1], -1))
    weights = multiply(of_kernel, kernel.reshape(kh * kw, c * f))
    products = multiply(
        patches.reshape(q[0] * q[1], n * tiles[0] * tiles[1], c), weights.reshape(q[0] * q[1], c, f)
    )
    y = multiply(to_output, products.reshape(q[0] * q[1], -1)).reshape(*m, n, *tiles, f)
    y = y.transpose(2, 3, 0, 4, 1, 5).reshape(n, tiles[0] * m[0], tiles[1] * m[1], f)
    return y[:, : out[0], : out[1]]


def _patches(
    x: jax.Array,
    pads: tuple[tuple[int, int], tuple[int, int]],
    m: tuple[int, ...],
    q: tuple[int, int],
    tiles: tuple[int, ...],
) -> jax.Array:
    """The pixels of all patches, by their place in the patch: `[n, H, W, C] -> [q, q, n, tiles, tiles, C]`.

    A side is cut into blocks of m pixels. A patch consists of the block of its tile and of as many pixels as
    needed from the blocks that follow. So the derivative adds one shifted image for each block of a patch,
    instead of one for each of the q places.
    """
    blocks = [math.ceil(patch / size) for patch, size in zip(q, m, strict=True)]
    config = [(0, 0, 0)] * 4
    for axis in (0, 1):  # The last tile may reach beyond the image; its outputs there are cut off again.
        low = pads[axis][0]
        length = (tiles[axis] - 1 + blocks[axis]) * m[axis]
        config[axis + 1] = (low, length - x.shape[axis + 1] - low, 0)
    x = lax.pad(x, jnp.zeros((), x.dtype), config)

    def patches(x: jax.Array, axis: int, side: int) -> jax.Array:
        cut = x.reshape(*x.shape[:axis], -1, m[side], *x.shape[axis + 1 :])
        parts = [lax.slice_in_dim(cut, i, i + tiles[side], axis=axis) for i in range(blocks[side])]
        rest = q[side] - (blocks[side] - 1) * m[side]
        parts[-1] = lax.slice_in_dim(parts[-1], 0, rest, axis=axis + 1)
        return jnp.concatenate(parts, axis + 1)

    return patches(patches(x, 1, 0), 3, 1).transpose(2, 4, 0, 1, 3, 5)

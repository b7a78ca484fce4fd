"""Convolutions and pools that stay fast when they are differentiated twice.

XLA's second derivative of a convolution is a convolution with batch and channels exchanged, and that of
`reduce_window` a `select_and_gather`; both are slow on CPU. The forms below say the same with slices, `where` and
one matrix product, whose derivatives of any order are again slices and matrix products.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax

from ddjax import checks

ConvForm = Literal["auto", "lax", "im2col", "banded"]
CONV_FORMS = ("auto", "lax", "im2col", "banded")

_TILE_TARGET = 7


def conv_op(form: str = "auto") -> Callable[..., jax.Array]:
    """The convolution to hand to `flax.linen.Conv(conv_general_dilated=...)`.

    Args:
        form: `"auto"`, `"lax"`, `"im2col"` or `"banded"`, see `conv`.

    Returns:
        `conv` with its form chosen.

    Raises:
        ValueError: an unknown form.
    """
    checks.choice("conv_form", form, CONV_FORMS)
    return functools.partial(conv, form=form)


def default_form(
    backend: str, *, kernel_size: tuple[int, int], in_features: int, strides: tuple[int, int]
) -> Literal["lax", "im2col", "banded"]:
    """What `"auto"` stands for.

    Args:
        backend: `jax.default_backend()`.
        kernel_size: `(kh, kw)`.
        in_features: C of the input.
        strides: `(sh, sw)`.

    Returns:
        The form.
    """
    if backend != "cpu":
        return "lax"
    return "banded" if in_features * kernel_size[0] < 64 and max(strides) == 1 else "im2col"


def conv(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: Any,
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
    *,
    form: str = "auto",
) -> jax.Array:
    if not _is_plain_nhwc(lhs, rhs, lhs_dilation, rhs_dilation, dimension_numbers, feature_group_count, batch_group_count):
        form = "lax"
    strides = tuple(window_strides)
    if form == "auto":
        form = default_form(
            jax.default_backend(), kernel_size=rhs.shape[:2], in_features=rhs.shape[2], strides=strides
        )
    if form == "lax":
        return lax.conv_general_dilated(
            lhs,
            rhs,
            window_strides,
            padding,
            lhs_dilation,
            rhs_dilation,
            dimension_numbers,
            feature_group_count,
            batch_group_count,
            precision,
            preferred_element_type,
        )
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(lhs.shape[1:3], rhs.shape[:2], strides, padding)
    contract = functools.partial(
        lax.dot_general, precision=precision, preferred_element_type=preferred_element_type
    )
    convolve = _im2col if form == "im2col" else _banded
    return convolve(lhs, rhs, strides, [tuple(p) for p in padding], contract)


def _is_plain_nhwc(lhs, rhs, lhs_dilation, rhs_dilation, dimension_numbers, feature_groups, batch_groups) -> bool:
    if lhs.ndim != 4 or feature_groups != 1 or batch_groups != 1:
        return False
    if any(d != 1 for d in (*(lhs_dilation or ()), *(rhs_dilation or ()))):
        return False
    spec = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    return spec == lax.conv_dimension_numbers(lhs.shape, rhs.shape, ("NHWC", "HWIO", "NHWC"))


def _out_size(size: int, window: int, stride: int, pads: tuple[int, int]) -> int:
    return (size + sum(pads) - window) // stride + 1


def _rows(x: jax.Array, kh: int, stride: int, out: int) -> jax.Array:
    """`[n, H, W, C] -> [n, out, W, kh * C]`: beside each other, the kh rows that an output row sees."""
    last = (out - 1) * stride + 1
    return jnp.concatenate([x[:, i : i + last : stride] for i in range(kh)], axis=-1)


def _im2col(x, kernel, strides, padding, contract):
    kh, kw, c, f = kernel.shape
    ho, wo = (_out_size(x.shape[1 + d], kernel.shape[d], strides[d], padding[d]) for d in range(2))
    x = _pad(x, padding)
    rows = _rows(x, kh, strides[0], ho)
    last = (wo - 1) * strides[1] + 1
    patches = jnp.concatenate([rows[:, :, j : j + last : strides[1]] for j in range(kw)], axis=-1)
    weights = kernel.transpose(1, 0, 2, 3).reshape(kw * kh * c, f)
    return contract(patches, weights, (((3,), (0,)), ((), ())))


def _banded(x, kernel, strides, padding, contract, tile=None):
    kh, kw, c, f = kernel.shape
    ho, wo = (_out_size(x.shape[1 + d], kernel.shape[d], strides[d], padding[d]) for d in range(2))
    tile = tile or _tile(wo)
    tiles = math.ceil(wo / tile)
    seen = (tile - 1) * strides[1] + kw  # input columns that one tile sees
    hop = tile * strides[1]
    width = (tiles - 1) * hop + seen
    x = _pad(x, (padding[0], (padding[1][0], max(0, width - x.shape[2] - padding[1][0]))))
    rows = _rows(x, kh, strides[0], ho)
    windows = jnp.stack([rows[:, :, j * hop : j * hop + seen] for j in range(tiles)], axis=2)
    windows = windows.reshape(x.shape[0] * ho * tiles, seen * kh * c)
    y = contract(windows, _toeplitz(kernel, tile, strides[1]), (((1,), (0,)), ((), ())))
    return y.reshape(x.shape[0], ho, tiles * tile, f)[:, :, :wo]


def _toeplitz(kernel: jax.Array, tile: int, stride: int) -> jax.Array:
    kh, kw, c, f = kernel.shape
    seen = (tile - 1) * stride + kw
    flat = kernel.transpose(1, 0, 2, 3).reshape(kw, kh * c, f)
    shifted = [jnp.pad(flat, ((i * stride, seen - kw - i * stride), (0, 0), (0, 0))) for i in range(tile)]
    return jnp.stack(shifted, axis=2).reshape(seen * kh * c, tile * f)


def _tile(width: int) -> int:
    return math.ceil(width / math.ceil(width / _TILE_TARGET))


def _pad(x, padding, value=0.0):
    return jnp.pad(x, ((0, 0), *padding, (0, 0)), constant_values=value)


def _first_max(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.where((b > a) | (b != b), b, a)


def _slices(x, axis, window, stride, out):
    last = (out - 1) * stride + 1
    return [lax.slice_in_dim(x, i, i + last, stride, axis) for i in range(window)]


def max_pool(x, window=2, stride=None, padding=0):
    stride = window if stride is None else stride
    x = _pad(x, ((padding, padding), (padding, padding)), -jnp.inf) if padding else x
    for axis in (2, 1):
        out = _out_size(x.shape[axis], window, stride, (0, 0))
        x = functools.reduce(_first_max, _slices(x, axis, window, stride, out))
    return x


def avg_pool(x, window=2, stride=None, padding=0):
    stride = window if stride is None else stride
    x = _pad(x, ((padding, padding), (padding, padding))) if padding else x
    for axis in (2, 1):
        out = _out_size(x.shape[axis], window, stride, (0, 0))
        x = functools.reduce(jnp.add, _slices(x, axis, window, stride, out))
    return x / window**2


def local_response_norm(x, *, size=4, alpha=0.001 / 9, beta=0.75, k=1.0):
    squares = jnp.pad(jnp.square(x), ((0, 0), (0, 0), (0, 0), (size // 2, (size - 1) // 2)))
    channels = x.shape[-1]
    mean = functools.reduce(jnp.add, (squares[..., i : i + channels] for i in range(size))) / size
    return x * (k + alpha * mean) ** -beta

"""Convolutions and pools that stay fast when they are differentiated twice.

On CPU, XLA's second derivative of a convolution is a convolution with batch and channels exchanged, and that
of `reduce_window` is a select-and-gather; both are slow. The forms below compute the same by slices,
selections and one matrix product, whose derivatives of any order are slices, selections and matrix products
again.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ddjax import checks, platforms
from ddjax.networks import winograd

CONV_FORMS = ("auto", "lax", "im2col", "banded", "blocked", "winograd")
"""The names of the forms of a convolution; `conv` describes each."""

TPU_PATCHES_BELOW = 16
"""The number of input channels from which a TPU computes convolutions as such, see `default_form`."""


def forms_on(backend: str) -> tuple[str, ...]:
    """The forms that are worth trying on a backend.

    Left out is `"lax"` on CPUs, whose second derivatives are several times slower.

    Args:
        backend: the name of the backend, as `ddjax.platforms.current()` gives it.

    Returns:
        The names of the forms, `"auto"` first.
    """
    return tuple(form for form in CONV_FORMS if backend != "cpu" or form != "lax")


def conv_op(form: str = "auto", *, pool: int = 1) -> Callable[..., jax.Array]:
    """The convolution to hand to `flax.linen.Conv(conv_general_dilated=...)`.

    Args:
        form: the form of the convolution, one of `CONV_FORMS`; see `conv`.
        pool: the side of the max-pool that follows directly, see `conv`. The layer adds its bias after the
            pool, which changes nothing: a maximum and the addition of a constant commute.

    Returns:
        The function `conv` with this form and pool.

    Raises:
        ValueError: an unknown form, or a pool below 1.
    """
    checks.choice("conv_form", form, CONV_FORMS)
    checks.at_least("pool", pool, 1)
    return functools.partial(conv, form=form, pool=pool)


def default_form(
    backend: str, *, in_features: int, strides: Sequence[int], pool: int = 1
) -> Literal["lax", "im2col", "banded", "blocked", "winograd"]:
    """The form that `"auto"` stands for.

    On CPU: `"blocked"` where a pool follows directly and the input has few channels. LeNet's step, second
    derivatives included, takes 25 to 30 % less time so than with `"banded"` and a separate pool. Without such
    a pool `"banded"` is fastest for few channels. At 16 channels all forms are equal, and from 32 on
    `"winograd"` is fastest for kernels where minimal filtering saves anything. With strides the band has more
    zeros and is slower than `"im2col"`.
    Measured with `scripts/bench.py --conv_form`, experiments/results/bench-cpu-conv.json.

    On TPU: `"im2col"` for few channels, else `"lax"`, by what the compiler shows and by no time. The gradient
    of a kernel over few channels is a convolution whose window is the whole image, which XLA of jax 0.10.2
    unrolls for a v5e: with LeNet and one slot on each device more than a minute goes into the scheduling of
    that one operation, and no end was seen. Patches make it a product. On other backends: `"lax"`, the
    vendor's convolution.

    Args:
        backend: the name of the backend, as `ddjax.platforms.current()` gives it.
        in_features: the number of channels of the input.
        strides: the strides of the window along rows and columns.
        pool: the side of the max-pool that follows directly; 1 for none.

    Returns:
        The name of the form.
    """
    if backend == "tpu" and in_features < TPU_PATCHES_BELOW:
        return "im2col"
    if backend != "cpu":
        return "lax"
    if pool > 1 and in_features < 32 and max(strides) == 1:
        return "blocked"
    if max(strides) > 1:
        return "im2col"
    return "banded" if in_features <= 16 else "winograd"


def conv(  # noqa: PLR0917 (the signature is lax.conv_general_dilated's)
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
    *,
    form: str = "auto",
    pool: int = 1,
) -> jax.Array:
    """`lax.conv_general_dilated` in a chosen form, together with the max-pool that follows directly.

    The forms:

    - `"lax"`: `lax.conv_general_dilated` itself.
    - `"im2col"`: patches `[n, H', W', kw * kh * C]`, cut in two stages (kh slices of rows, then kw slices
      of columns of those), times the kernel as a matrix.
    - `"banded"`: the kernel becomes a Toeplitz matrix `[U * kh * C, t * F]` that computes t output columns at
      once from the U = (t - 1) * stride + kw input columns that they see. Zeros around the band cost
      arithmetic (U / kw times as much), but little is copied and the product is wide even where F is small.
    - `"blocked"`: patches `[.., H', W', n]` with the examples innermost, so that the operations around the
      matrix product run over long rows even where channels are few. A pool joins the p * p outputs of a
      block: the image is cut into blocks of p * p pixels that become channels. The kernel, placed p * p
      times, computes the outputs of a block side by side; then the maximum is taken over a leading axis.
    - `"winograd"`: minimal filtering, see `ddjax.networks.winograd`: a quarter (3×3) or a sixth (5×5) of the
      multiplications. In float32 over 64 channels the rounding error is 7e-7 (3×3) and 3e-6 (5×5) of the
      result's spread, and 2e-7 to 4e-7 in the other forms; tests/networks/test_network_ops.py checks this.
    - `"auto"`: the form that `default_form` chooses for the backend and for these static shapes.

    Args:
        lhs: the images or feature maps, `[n, H, W, C]`.
        rhs: the kernel, `[kh, kw, C, F]`.
        window_strides: the strides along rows and columns.
        padding: the zeros around the image, `"SAME"`, `"VALID"`, ... or pairs `(low, high)`.
        lhs_dilation: the dilation of the image, as in `lax.conv_general_dilated`.
        rhs_dilation: the dilation of the kernel, as in `lax.conv_general_dilated`.
        dimension_numbers: the layouts of image, kernel and output, as in `lax.conv_general_dilated`.
        feature_group_count: the number of groups of channels, as in `lax.conv_general_dilated`.
        batch_group_count: the number of groups of examples, as in `lax.conv_general_dilated`.
        precision: the precision of the products, as in `lax.conv_general_dilated`.
        preferred_element_type: the dtype of the sums, as in `lax.conv_general_dilated`.
        form: the form, one of those above. Dilation, groups, empty outputs and layouts other than NHWC/HWIO
            are always computed by lax. With strides, `"blocked"` and `"winograd"` become `"im2col"`; so does
            `"winograd"` for kernels of size 1 or above 7.
        pool: the side and stride of the max-pool, p; 1 for none.

    Returns:
        The outputs after the pool, `[n, H' // p, W' // p, F]`.

    Raises:
        ValueError: an unknown form.
    """
    checks.choice("conv_form", form, CONV_FORMS)
    dilations = (*(lhs_dilation or ()), *(rhs_dilation or ()))
    has_groups = feature_group_count != 1 or batch_group_count != 1
    strides = tuple(window_strides)
    window = None
    if _is_nhwc(lhs, rhs, dimension_numbers) and not has_groups and all(d == 1 for d in dilations):
        window = _window(lhs.shape, rhs.shape, strides, padding)
    if form == "auto":
        form = default_form(platforms.current(), in_features=rhs.shape[-2], strides=strides, pool=pool)
    if form == "lax" or window is None:
        y = lax.conv_general_dilated(
            lhs,
            rhs,
            strides,
            padding,
            lhs_dilation,
            rhs_dilation,
            dimension_numbers,
            feature_group_count,
            batch_group_count,
            precision,
            preferred_element_type,
        )
        return max_pool(y, pool) if pool > 1 else y
    multiply = functools.partial(
        jnp.matmul, precision=precision, preferred_element_type=preferred_element_type
    )
    if form == "blocked" and max(strides) == 1 and min(window.out) >= pool:
        return _blocked(lhs, rhs, window, multiply, pool=pool)
    if form == "winograd" and max(strides) == 1 and _has_tiles(rhs.shape, window):
        y = winograd.convolve(lhs, rhs, pads=window.pads, out=window.out, multiply=multiply)
    else:
        y = (_banded if form == "banded" else _im2col)(lhs, rhs, window, multiply)
    return max_pool(y, pool) if pool > 1 else y


def max_pool(x: jax.Array, window: int, *, stride: int | None = None, padding: int = 0) -> jax.Array:
    """The maximum over square windows; the first of several equal maxima has the whole gradient.

    First means in row-major order, as in PyTorch. NaN wins over numbers.

    Args:
        x: the images or feature maps, `[n, H, W, C]`.
        window: the side of the window.
        stride: the step from one window to the next; by default the window's side.
        padding: the number of rows and columns of -inf on each side; less than `window`.

    Returns:
        The maxima, `[n, H', W', C]` with H' = floor((H + 2 padding - window) / stride) + 1.
    """
    return _pool(x, _first_max, window=window, stride=stride, padding=padding, fill=-math.inf)


def avg_pool(x: jax.Array, window: int, *, stride: int | None = None, padding: int = 0) -> jax.Array:
    """The mean over square windows, zeros of the padding included.

    Args:
        x: the images or feature maps, `[n, H, W, C]`.
        window: the side of the window.
        stride: the step from one window to the next; by default the window's side.
        padding: the number of rows and columns of zeros on each side.

    Returns:
        The means, `[n, H', W', C]` with H' = floor((H + 2 padding - window) / stride) + 1.
    """
    if padding == 0 and stride in (None, window):
        # As a mean, whose derivative is a broadcast; the derivative of each slice would be a padded image.
        n, height, width, channels = x.shape
        rows, columns = height // window, width // window
        x = x[:, : rows * window, : columns * window]
        return x.reshape(n, rows, window, columns, window, channels).mean((2, 4))
    return _pool(x, jnp.add, window=window, stride=stride, padding=padding, fill=0.0) / window**2


def local_response_norm(
    x: jax.Array, *, size: int = 4, alpha: float = 0.001 / 9, beta: float = 0.75, k: float = 1.0
) -> jax.Array:
    """Divide each channel by the energy of its neighbours.

        y_c = x_c / (k + alpha / size * Σ_j x_j²)^beta,    j = c - size // 2, ..., c + (size - 1) // 2

    where channels that do not exist count as zero.

    Args:
        x: the feature maps, `[n, H, W, C]`.
        size: the number of channels in the window.
        alpha: the factor on the mean square of these channels.
        beta: the exponent of the divisor.
        k: the constant in the divisor.

    Returns:
        The normalised feature maps, `[n, H, W, C]`.

    References:
        Krizhevsky et al. 2012; PyTorch's `LocalResponseNorm`, which also divides by `size`.
    """
    channels = x.shape[-1]
    # The neighbours of each channel as a matrix: the derivative of a product is one product, that of slices
    # is not.
    offset = jnp.arange(channels)[:, None] - jnp.arange(channels)[None]
    neighbours = (offset >= -(size // 2)) & (offset <= (size - 1) // 2)
    energy = jnp.matmul(jnp.square(x), neighbours.astype(x.dtype) / size, precision=lax.Precision.HIGHEST)
    return x * _inverse_power(k + alpha * energy, beta)


def _inverse_power(x: jax.Array, exponent: float) -> jax.Array:
    """`x ** -exponent` of positive numbers; by roots for the usual 3/4, because powers are slow."""
    if exponent == 0.75:
        root = lax.rsqrt(x)
        return root * jnp.sqrt(root)
    return x**-exponent


class _Window(NamedTuple):
    """How a kernel moves over the image; each pair is (rows, columns).

    Attributes:
        strides: the step from one output to the next.
        pads: the zeros `(low, high)` before and after the image.
        out: the number of outputs.
    """

    strides: tuple[int, int]
    pads: tuple[tuple[int, int], tuple[int, int]]
    out: tuple[int, int]


def _has_tiles(kernel: Sequence[int], window: _Window) -> bool:
    """Whether minimal filtering saves anything: both sides of the kernel and of the tile are at least two."""
    sides = zip(kernel[:2], window.out, strict=True)
    return all(size > 1 and winograd.tile_size(size, out) > 1 for size, out in sides)


def _is_nhwc(lhs: jax.Array, rhs: jax.Array, dimension_numbers: Any) -> bool:
    if lhs.ndim != 4 or rhs.ndim != 4:
        return False
    wanted = lax.conv_dimension_numbers(lhs.shape, rhs.shape, ("NHWC", "HWIO", "NHWC"))
    return lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers) == wanted


def _window(
    image: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
) -> _Window | None:
    """The geometry of a convolution of `[n, H, W, C]` with `[kh, kw, C, F]`; None for an empty output."""
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(image[1:3], kernel[:2], strides, padding)
    (top, bottom), (left, right) = padding
    height = _out_size(image[1] + top + bottom, kernel[0], strides[0])
    width = _out_size(image[2] + left + right, kernel[1], strides[1])
    if height < 1 or width < 1:
        return None
    return _Window((strides[0], strides[1]), ((top, bottom), (left, right)), (height, width))


def _out_size(size: int, window: int, stride: int) -> int:
    return (size - window) // stride + 1


def _im2col(
    x: jax.Array, kernel: jax.Array, window: _Window, multiply: Callable[..., jax.Array]
) -> jax.Array:
    return multiply(_patches(x, kernel.shape, window), kernel_matrix(kernel))


def patches(
    x: jax.Array, kernel_shape: Sequence[int], *, pads: tuple[tuple[int, int], tuple[int, int]]
) -> jax.Array:
    """The pixels that each output of a convolution of stride one sees, in the order of `kernel_matrix`.

    Args:
        x: the images or feature maps, `[n, H, W, C]`.
        kernel_shape: the shape of the kernel, `(kh, kw, C, F)`.
        pads: the zeros `(low, high)` before and after the rows, and before and after the columns.

    Returns:
        The patches, `[n, H', W', kw * kh * C]`.

    Raises:
        ValueError: the kernel is larger than the padded image.
    """
    window = _window(x.shape, kernel_shape, (1, 1), pads)
    if window is None:
        raise ValueError(
            f"patches: expected images, zeros included, of at least {kernel_shape[0]}x{kernel_shape[1]}; got "
            f"{x.shape[1]}x{x.shape[2]} with zeros {pads}. Give larger images or more zeros."
        )
    return _patches(x, kernel_shape, window)


def kernel_matrix(kernel: jax.Array) -> jax.Array:
    """The kernel as the matrix that multiplies `patches`: `[kh, kw, C, F] -> [kw * kh * C, F]`.

    Args:
        kernel: the kernel, `[kh, kw, C, F]`.

    Returns:
        The matrix, `[kw * kh * C, F]`.
    """
    return kernel.transpose(1, 0, 2, 3).reshape(-1, kernel.shape[-1])


def _patches(x: jax.Array, kernel_shape: Sequence[int], window: _Window) -> jax.Array:
    rows = _stacked_rows(_pad(x, *window.pads), kernel_shape[0], window)
    columns = _shifts(rows, axis=2, count=kernel_shape[1], stride=window.strides[1], out=window.out[1])
    return jnp.concatenate(columns, axis=-1)


def _banded(
    x: jax.Array, kernel: jax.Array, window: _Window, multiply: Callable[..., jax.Array]
) -> jax.Array:
    kh, kw, c, f = kernel.shape
    stride, (out_rows, out_columns) = window.strides[1], window.out
    tile = _tile(out_columns, f)
    tiles = math.ceil(out_columns / tile)
    seen = (tile - 1) * stride + kw
    hop = tile * stride
    left = window.pads[1][0]
    # The last tile may reach beyond the image; its outputs there are cut off again.
    right = (tiles - 1) * hop + seen - x.shape[2] - left
    rows = _stacked_rows(_pad(x, window.pads[0], (left, right)), kh, window)
    windows = jnp.stack([rows[:, :, j * hop : j * hop + seen] for j in range(tiles)], axis=2)
    windows = windows.reshape(x.shape[0] * out_rows * tiles, seen * kh * c)
    y = multiply(windows, _toeplitz(kernel, tile, stride))
    return y.reshape(x.shape[0], out_rows, tiles * tile, f)[:, :, :out_columns]


def _blocked(
    x: jax.Array, kernel: jax.Array, window: _Window, multiply: Callable[..., jax.Array], *, pool: int
) -> jax.Array:
    features, p = kernel.shape[3], pool
    rows, columns = (size // p for size in window.out)
    # The number of blocks that the p outputs of a block see, along each side.
    deep, wide = (-(-(size + p - 1) // p) for size in kernel.shape[:2])
    (top, _), (left, _) = window.pads
    bottom = p * (rows - 1 + deep) - x.shape[1] - top
    right = p * (columns - 1 + wide) - x.shape[2] - left
    blocks = _to_blocks(_pad(x, (top, bottom), (left, right)), p)
    seen = jnp.stack([blocks[:, i : i + rows] for i in range(deep)])
    patches = jnp.stack([seen[:, :, :, j : j + columns] for j in range(wide)])
    weights = _block_kernel(kernel, p, deep, wide)
    y = multiply(weights.T, patches.reshape(len(weights), -1))
    y = y.reshape(p * p, features, rows, columns, len(x))
    return _max_of_blocks(y).transpose(3, 1, 2, 0)


def _to_blocks(x: jax.Array, p: int) -> jax.Array:
    """The pixels of each block as channels: `[n, p * H, p * W, C] -> [p * p * C, H, W, n]`."""
    n, height, width, channels = x.shape
    # Images innermost first, as the next product has them; else XLA for CPUs would sort the cotangent number
    # by number.
    x = x.transpose(3, 1, 2, 0).reshape(channels, height // p, p, width // p, p, n)
    x = x.transpose(2, 4, 0, 1, 3, 5)
    return x.reshape(p * p * channels, height // p, width // p, n)


def _block_kernel(kernel: jax.Array, p: int, deep: int, wide: int) -> jax.Array:
    """The kernel placed for each output: `[kh, kw, C, F] -> [wide * deep * p * p * C, p * p * F]`."""
    kh, kw, c, f = kernel.shape
    placed = [
        jnp.pad(kernel, ((i, p * deep - kh - i), (j, p * wide - kw - j), (0, 0), (0, 0)))
        for i in range(p)
        for j in range(p)
    ]
    stacked = jnp.stack(placed, axis=3).reshape(deep, p, wide, p, c, p * p * f)
    return stacked.transpose(2, 0, 1, 3, 4, 5).reshape(wide * deep * p * p * c, p * p * f)


@jax.custom_jvp
def _max_of_blocks(y: jax.Array) -> jax.Array:
    """The maximum over the leading axis; the first of several equal maxima has the whole gradient."""
    return jnp.max(y, axis=0)


@_max_of_blocks.defjvp
def _max_of_blocks_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    (y,), (dy,) = primals, tangents
    largest = _max_of_blocks(y)
    # Two reductions instead of a chain of comparisons, which XLA would compute again for every use.
    position = lax.broadcasted_iota(jnp.int32, y.shape, 0)
    first = jnp.min(jnp.where(y == largest[None], position, len(y)), axis=0)
    return largest, _written_out(jnp.sum(jnp.where(position == first[None], dy, 0), axis=0))


def _written_out(x: jax.Array) -> jax.Array:
    """The same array, whose cotangent is written to memory before it is read.

    The p * p outputs of a block read the cotangent of their maximum, and XLA for CPUs would compute it anew
    for each of them: a sum of shifts. As entry 0 of two equal arrays, x has a reduction over [cotangent, 0]
    for its cotangent, which is computed once. The numbers stay the same, for zero is added.
    """
    return jnp.broadcast_to(x, (2, *x.shape))[0]


def _stacked_rows(x: jax.Array, kh: int, window: _Window) -> jax.Array:
    """The kh rows that an output row sees, side by side: `[n, H, W, C] -> [n, H', W, kh * C]`."""
    rows = _shifts(x, axis=1, count=kh, stride=window.strides[0], out=window.out[0])
    return jnp.concatenate(rows, axis=-1)


def _toeplitz(kernel: jax.Array, tile: int, stride: int) -> jax.Array:
    """The kernel at the place of each output column: `[kh, kw, C, F] -> [U * kh * C, tile * F]`."""
    kh, kw, c, f = kernel.shape
    seen = (tile - 1) * stride + kw
    flat = kernel.transpose(1, 0, 2, 3).reshape(kw, kh * c, f)
    offsets = [i * stride for i in range(tile)]
    placed = [jnp.pad(flat, ((at, seen - kw - at), (0, 0), (0, 0))) for at in offsets]
    return jnp.stack(placed, axis=2).reshape(seen * kh * c, tile * f)


def _tile(columns: int, features: int) -> int:
    """The output columns in one tile: few enough for a narrow band, enough for a wide matrix product.

    Tiles of 7 columns were best for 6 features, and tiles of 4 or 5 for 16 to 64 features, where they divide
    the width evenly.
    """
    target = 7 if features <= 8 else 5
    even = [t for t in range(3, 9) if columns % t == 0]
    if even:
        return min(even, key=lambda t: abs(t - target))
    return math.ceil(columns / math.ceil(columns / target))


def _pool(
    x: jax.Array,
    combine: Callable[[jax.Array, jax.Array], jax.Array],
    *,
    window: int,
    stride: int | None,
    padding: int,
    fill: float,
) -> jax.Array:
    stride = window if stride is None else stride
    if padding:
        x = _pad(x, (padding, padding), (padding, padding), fill=fill)
    # Columns before rows: then the first of equal entries along each axis is the first in row-major order.
    for axis in (2, 1):
        out = _out_size(x.shape[axis], window, stride)
        x = functools.reduce(combine, _shifts(x, axis=axis, count=window, stride=stride, out=out))
    return x


def _first_max(a: jax.Array, b: jax.Array) -> jax.Array:
    # jnp.maximum would divide the gradient among equal entries, and keep more than one mask for the backward
    # pass.
    return jnp.where((b > a) | jnp.isnan(b), b, a)


def _shifts(x: jax.Array, *, axis: int, count: int, stride: int, out: int) -> list[jax.Array]:
    """For each position in a window: the `out` entries along `axis`, one for each step of the window."""
    last = (out - 1) * stride + 1
    return [lax.slice_in_dim(x, i, i + last, stride, axis) for i in range(count)]


def _pad(x: jax.Array, rows: tuple[int, int], columns: tuple[int, int], *, fill: float = 0.0) -> jax.Array:
    """`x` with rows and columns of `fill` added before and after; a negative number removes some."""
    return lax.pad(x, jnp.asarray(fill, x.dtype), ((0, 0, 0), (*rows, 0), (*columns, 0), (0, 0, 0)))

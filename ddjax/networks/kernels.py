"""Infinitely wide networks: the kernels of their function space (NNGP) and of their training (NTK).

A layer maps covariances of its inputs to covariances of its outputs; a network is a tuple of layers. For two
inputs x, z, with q the covariance of a unit's pre-activations and Θ the tangent kernel:

    affine:  q ← σ_w² A(q) + σ_b²,   Θ ← q + σ_w² A(Θ)       A: mean over units, or over a 3×3 window
    ReLU:    q ← √(q_x q_z) (sin θ + (π - θ) cos θ) / 2π,  Θ ← Θ (π - θ) / 2π,    cos θ = q / √(q_x q_z)
    pooling, flattening: means over positions

References:
    Cho and Saul 2009, Kernel methods for deep learning, equations 5 and 6 (the two ReLU terms).
    Jacot et al. 2018, arXiv 1806.07572 (Θ). Arora et al. 2019, arXiv 1904.11955 (convolutions).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from ddjax import checks
from ddjax.facts import noted
from ddjax.networks.adapters import from_kernel
from ddjax.types import Network

BLOCK_BYTES = 2**27
"""The most bytes of an array of a block of a kernel matrix, where all pairs of positions count.

On CPU about 24 such arrays were in memory at a time, with the gradient.
"""

WEIGHT_STD = math.sqrt(2)
BIAS_STD = 0.1

Which = Literal["ntk", "nngp"]


class Covariances(NamedTuple):
    """The covariances of two sets of a and b inputs at one layer.

    `*positions` is nothing after flattening; `H, W` where only equal positions of two images count; `H, W, H,
    W` where all pairs of positions do, which pooling needs.

    Attributes:
        cross: `[a, b, *positions]`, the covariance q of every pair of inputs.
        tangent: `[a, b, *positions]`, the tangent kernel Θ of every pair.
        first: `[a, *positions]`, the covariance of each input of the first set with itself.
        second: `[b, *positions]`, that of each input of the second set.
        is_same: `[a, b]` bool, whether two inputs are one and the same, so that θ is exactly zero where their
            positions are equal.
    """

    cross: jax.Array
    tangent: jax.Array
    first: jax.Array
    second: jax.Array
    is_same: jax.Array


Layer = Callable[[Covariances], Covariances]


# ReLU.


@jax.custom_jvp
def _expected_product(product: jax.Array, q: jax.Array) -> jax.Array:
    """E[relu(u) relu(v)] of Gaussians of covariance q whose variances have a given geometric mean p.

        (√(p² - q²) + (π - θ) q) / 2π,   ∂/∂q = (π - θ) / 2π,   ∂/∂p = sin θ / 2π

    The derivatives are written down: those of θ and of the root are infinite at p = |q|, and cancel.
    """
    root, angle = _root_and_angle(product, q)
    return (root + (math.pi - angle) * q) / (2 * math.pi)


@_expected_product.defjvp
def _(primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]) -> Any:
    (product, q), (d_product, d_q) = primals, tangents
    root, angle = _root_and_angle(product, q)
    sine = root / jnp.where(product > 0, product, 1)
    value = (root + (math.pi - angle) * q) / (2 * math.pi)
    return value, (sine * d_product + (math.pi - angle) * d_q) / (2 * math.pi)


def _root_and_angle(product: jax.Array, q: jax.Array) -> tuple[jax.Array, jax.Array]:
    """√(p² - q²) and θ = arccos(q / p), with gradients of zero where p = |q| but for rounding."""
    square = (product - q) * (product + q)
    root = _root(square, above=8 * jnp.finfo(q.dtype).eps * product * product)
    return root, _angle(root, jnp.where(product > 0, q, 1))


@jax.custom_jvp
def _angle(root: jax.Array, q: jax.Array) -> jax.Array:
    """atan2(root, q) of numbers root ≥ 0, for kernel matrices, which are large and need one for every pair.

    XLA for CPUs calls a function of the C library for every number of `arctan2`, a fifth of the time of a
    step of kernel-inducing points; the polynomial of `_arctan` is computed for several numbers at a time.
    """
    if q.dtype == jnp.float64:
        return jnp.arctan2(root, q)
    size = jnp.abs(q)
    largest = jnp.maximum(size, root)
    acute = _arctan(jnp.minimum(size, root) / jnp.where(largest > 0, largest, 1))
    acute = jnp.where(root > size, math.pi / 2 - acute, acute)
    return jnp.where(q < 0, math.pi - acute, acute)


@_angle.defjvp
def _(primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]) -> Any:
    (root, q), (d_root, d_q) = primals, tangents
    return _angle(root, q), (q * d_root - root * d_q) / (root * root + q * q)


_ARCTAN = (
    0.0028662257,
    -0.0161657367,
    0.0429096138,
    -0.0752896400,
    0.1065626393,
    -0.1420889944,
    0.1999355085,
    -0.3333314528,
    1.0,
)
"""Coefficients of atan(r) / r in r², highest power first: Abramowitz and Stegun 1964, formula 4.4.49."""


def _arctan(ratio: jax.Array) -> jax.Array:
    """The arctangent of numbers in [0, 1], in error by at most 2e-8 and rounding."""
    return ratio * jnp.polyval(jnp.asarray(_ARCTAN, ratio.dtype), ratio * ratio, unroll=len(_ARCTAN))


def _root(square: jax.Array, *, above: float | jax.Array = 0.0) -> jax.Array:
    """The square root where a number is above a bound; elsewhere zero, with a gradient of zero."""
    inside = square > above
    return jnp.where(inside, jnp.sqrt(jnp.where(inside, square, 1)), 0)


def relu(found: Covariances) -> Covariances:
    """The covariances after a ReLU.

    Args:
        found: the covariances before.

    Returns:
        The covariances after; the variance of a ReLU's output is half that of its input.
    """
    rank = found.first.ndim - 1
    is_full = rank == 4
    first, second = (_variances(one, is_full) for one in (found.first, found.second))
    same = found.is_same
    if is_full:
        roots = _root(first)[:, None, :, :, None, None] * _root(second)[None, :, None, None]
        same = same[:, :, None, None, None, None] & _equal_positions(found.first.shape[1:3])[None, None]
    else:
        roots = _root(first)[:, None] * _root(second)[None]
        same = same.reshape(same.shape + (1,) * rank)
    # The angle between an input and itself is zero: said, not computed from the ratio of rounded numbers.
    product = jnp.where(same, 1, roots)
    q = jnp.where(same, 0, found.cross)
    _, angle = _root_and_angle(product, q)
    cross = jnp.where(same, found.cross / 2, _expected_product(product, q))
    slope = jnp.where(same, 0.5, (math.pi - angle) / (2 * math.pi))
    return Covariances(
        cross,
        found.tangent * slope,
        _relu_of_one(found.first, is_full),
        _relu_of_one(found.second, is_full),
        found.is_same,
    )


def _variances(covariance: jax.Array, is_full: bool) -> jax.Array:
    """The variance at each position, `[n, H, W, H, W] -> [n, H, W]`, or what is a variance already."""
    return jnp.einsum("nhwhw->nhw", covariance) if is_full else covariance


def _equal_positions(shape: tuple[int, ...]) -> jax.Array:
    """Whether two positions are equal, `[H, W, H, W]` bool."""
    return jnp.eye(math.prod(shape), dtype=bool).reshape(*shape, *shape)


def _relu_of_one(covariance: jax.Array, is_full: bool) -> jax.Array:
    if not is_full:
        return covariance / 2
    root = _root(_variances(covariance, is_full))
    same = _equal_positions(covariance.shape[1:3])[None]
    product = jnp.where(same, 1, root[:, :, :, None, None] * root[:, None, None])
    return jnp.where(same, covariance / 2, _expected_product(product, jnp.where(same, 0, covariance)))


# Affine layers and means over positions.


def _affine(
    found: Covariances, mean: Callable[[jax.Array], jax.Array], w_std: float, b_std: float
) -> Covariances:
    """σ_w² A(·) + σ_b² on the covariances, and the tangent kernel Θ ← q + σ_w² A(Θ)."""
    weight, bias = w_std**2, b_std**2
    cross = weight * mean(found.cross) + bias
    tangent = cross + weight * mean(found.tangent)
    first, second = (weight * mean(one) + bias for one in (found.first, found.second))
    return Covariances(cross, tangent, first, second, found.is_same)


def dense(found: Covariances, *, w_std: float = WEIGHT_STD, b_std: float = BIAS_STD) -> Covariances:
    """The covariances after a dense layer, in the NTK parameterisation.

    Args:
        found: the covariances before, without positions.
        w_std: σ_w, the standard deviation of the weights times √(number of inputs).
        b_std: σ_b, the standard deviation of the biases.

    Returns:
        The covariances after.
    """
    return _affine(found, lambda one: one, w_std, b_std)


def conv(found: Covariances, *, w_std: float = WEIGHT_STD, b_std: float = BIAS_STD) -> Covariances:
    """The covariances after a 3×3 convolution with zeros around the image, in the NTK parameterisation.

    Args:
        found: the covariances before, with positions.
        w_std: σ_w, the standard deviation of the weights times √(9 · number of channels).
        b_std: σ_b, the standard deviation of the biases.

    Returns:
        The covariances after.
    """
    pairs = 2 if found.first.ndim == 5 else 1

    def mean(array: jax.Array) -> jax.Array:
        lead = array.ndim - 2 * pairs
        for axis in (0, 1):
            array = _three(array, [lead + axis + 2 * pair for pair in range(pairs)])
        return array / 9

    return _affine(found, mean, w_std, b_std)


def _three(array: jax.Array, axes: Sequence[int]) -> jax.Array:
    """The sum of three neighbours, where all given axes move together; zeros outside."""
    widths = [(1, 1) if axis in axes else (0, 0) for axis in range(array.ndim)]
    padded = jnp.pad(array, widths)

    def moved(offset: int) -> jax.Array:
        parts = [slice(offset, offset + size) for size in array.shape]
        return padded[tuple(part if axis in axes else slice(None) for axis, part in enumerate(parts))]

    return moved(0) + moved(1) + moved(2)


def _over_positions(found: Covariances, mean: Callable[[jax.Array], jax.Array]) -> Covariances:
    cross, tangent, first, second = (mean(one) for one in found[:4])
    return Covariances(cross, tangent, first, second, found.is_same)


def avg_pool(found: Covariances) -> Covariances:
    """The covariances after a mean over 2×2 positions; a last odd row or column is left out.

    Args:
        found: the covariances before, of all pairs of positions.

    Returns:
        The covariances after, of half as many rows and columns.
    """

    def mean(array: jax.Array) -> jax.Array:
        lead, (height, width) = array.shape[:-4], array.shape[-2:]
        rows, columns = height // 2, width // 2
        array = array[..., : 2 * rows, : 2 * columns, : 2 * rows, : 2 * columns]
        array = array.reshape(*lead, rows, 2, columns, 2, rows, 2, columns, 2)
        first = len(lead)
        return array.mean((first + 1, first + 3, first + 5, first + 7))

    return _over_positions(found, mean)


def flatten(found: Covariances) -> Covariances:
    """The covariances of the features of all positions together: the mean over equal positions.

    Args:
        found: the covariances before, with positions.

    Returns:
        The covariances after, without positions.
    """
    is_full = found.first.ndim == 5

    def mean(array: jax.Array) -> jax.Array:
        array = jnp.einsum("...hwhw->...hw", array) if is_full else array
        return array.mean((-2, -1))

    return _over_positions(found, mean)


def global_pool(found: Covariances) -> Covariances:
    """The covariances after a mean over all positions.

    Args:
        found: the covariances before, of all pairs of positions.

    Returns:
        The covariances after, without positions.
    """
    return _over_positions(found, lambda array: array.mean((-4, -3, -2, -1)))


# Networks.


@dataclasses.dataclass(frozen=True)
class Architecture:
    """An infinitely wide network as its layers.

    Attributes:
        layers: the layers, from the inputs to the logits.
        positions: what the layers look at: `"none"`, the input as one vector; `"equal"`, equal positions of
            two images; `"all"`, all pairs of positions.
    """

    layers: tuple[Layer, ...]
    positions: Literal["none", "equal", "all"]

    def covariances(self, inputs: jax.Array, others: jax.Array, is_same: jax.Array) -> Covariances:
        """The covariances of the logits.

        Args:
            inputs: the inputs of the first set, `[a, *input_shape]`.
            others: the inputs of the second set, `[b, *input_shape]`.
            is_same: whether two inputs are one and the same, `[a, b]` bool.

        Returns:
            The covariances, without positions.
        """
        found = self._of_inputs(inputs, others, is_same)
        for layer in self.layers:
            found = layer(found)
        return found

    def _of_inputs(self, x: jax.Array, z: jax.Array, is_same: jax.Array) -> Covariances:
        """The covariances of the inputs themselves; the tangent kernel before any weight is zero."""
        if self.positions == "none":
            x, z = x.reshape(len(x), -1), z.reshape(len(z), -1)
            crossed, own = "ai,bi->ab", "ai,i->a"
        elif self.positions == "equal":
            crossed, own = "ahwc,bhwc->abhw", "ahwc,ahwc->ahw"
        else:
            crossed, own = "ahwc,bxyc->abhwxy", "ahwc,axyc->ahwxy"
        size = x.shape[-1]

        def product(formula: str, one: jax.Array, other: jax.Array) -> jax.Array:
            return jnp.einsum(formula, one, other, precision=jax.lax.Precision.HIGHEST) / size

        def with_itself(one: jax.Array) -> jax.Array:
            if self.positions == "none":
                # The squares' product with ones, which XLA for CPUs computes faster than their sum.
                return product(own, jnp.square(one), jnp.ones(size, one.dtype))
            return product(own, one, one)

        cross = product(crossed, x, z)
        return Covariances(cross, jnp.zeros_like(cross), with_itself(x), with_itself(z), is_same)


def kernel_matrix(
    architecture: Architecture,
    inputs: jax.Array,
    others: jax.Array | None = None,
    *,
    which: Which = "ntk",
    chunk: int | None = None,
    rows_chunk: int | None = None,
) -> jax.Array:
    """The kernel matrix of an infinitely wide network, differentiable in the inputs.

    Args:
        architecture: the network.
        inputs: the inputs of the rows, `[a, *input_shape]`.
        others: the inputs of the columns, `[b, *input_shape]`; None for the rows' own inputs, whose diagonal
            then comes from the variances alone.
        which: `"ntk"` for the tangent kernel Θ, `"nngp"` for the covariance q of the logits.
        chunk: the number of columns that are computed at once, and computed again for a gradient. The memory
            is that of one chunk. By default all, or, where all pairs of positions count, so many that an
            array of a block has `BLOCK_BYTES` at most.
        rows_chunk: the number of rows that are computed at once where `others` are given, and computed again
            for a gradient; by default all, or as many as `BLOCK_BYTES` allows.

    Returns:
        The matrix, `[a, b]`.
    """
    checks.choice("which", which, ("ntk", "nngp"))
    if chunk is None and architecture.positions == "all":
        pairs = max(1, BLOCK_BYTES // (inputs.dtype.itemsize * math.prod(inputs.shape[1:3]) ** 2))
        if others is None:
            chunk = max(1, pairs // len(inputs))
        else:
            # Blocks as square as they can be: what a block computes of each row and each column is shared.
            chunk = min(len(others), math.isqrt(pairs))
            rows_chunk = rows_chunk or pairs // chunk
    if others is not None and rows_chunk is not None and rows_chunk < len(inputs):
        checks.at_least("rows_chunk", rows_chunk, 1)
        own = functools.partial(kernel_matrix, architecture, others=others, which=which, chunk=chunk)
        whole = len(inputs) // rows_chunk * rows_chunk
        cut = inputs[:whole].reshape(-1, rows_chunk, *inputs.shape[1:])
        upper = jax.lax.map(jax.checkpoint(own), cut).reshape(whole, len(others))
        return (
            upper if whole == len(inputs) else jnp.concatenate([upper, jax.checkpoint(own)(inputs[whole:])])
        )
    rows = jnp.arange(len(inputs))
    columns = rows if others is None else jnp.full(len(others), -1)
    others = inputs if others is None else others

    def block(column: tuple[jax.Array, jax.Array]) -> jax.Array:
        numbers, some = column
        found = architecture.covariances(inputs, some, rows[:, None] == numbers[None])
        return found.tangent if which == "ntk" else found.cross

    count = len(others)
    if chunk is None or chunk >= count:
        return block((columns, others))
    checks.at_least("chunk", chunk, 1)
    whole = count // chunk * chunk
    parts = jax.tree.map(lambda leaf: leaf[:whole].reshape(-1, chunk, *leaf.shape[1:]), (columns, others))
    blocks = jax.lax.map(jax.checkpoint(block), parts)
    matrix = jnp.moveaxis(blocks, 0, 1).reshape(len(inputs), whole)
    if whole == count:
        return matrix
    rest = jax.checkpoint(block)((columns[whole:], others[whole:]))
    return jnp.concatenate([matrix, rest], axis=1)


def _network(
    architecture: Architecture,
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    name: str,
    which: Which,
    chunk: int | None,
    rows_chunk: int | None = None,
) -> Network:
    checks.choice("which", which, ("ntk", "nngp"))
    compute = functools.partial(kernel_matrix, architecture, which=which, chunk=chunk, rows_chunk=rows_chunk)
    return from_kernel(compute, input_shape, num_classes, name=name, gram=compute)


@noted
def infinite_mlp(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    depth: int = 1,
    which: Which = "ntk",
    w_std: float = WEIGHT_STD,
    b_std: float = BIAS_STD,
) -> Network:
    """An infinitely wide fully connected network: `depth` dense layers with ReLU, and a dense layer.

    Args:
        input_shape: the shape of one input; for images `(H, W, C)`.
        num_classes: the number of classes, K.
        depth: the number of hidden layers; the published default, called FC1, is one.
        which: `"ntk"` or `"nngp"`, see `kernel_matrix`.
        w_std: the standard deviation σ_w of the weights.
        b_std: the standard deviation σ_b of the biases.

    Returns:
        The network, known by its kernel alone.

    Raises:
        ValueError: a setting out of range.

    References:
        Nguyen et al. 2021, arXiv 2011.00050, appendix (FC1, FC3).
    """
    checks.at_least("depth", depth, 1)
    affine = functools.partial(dense, w_std=w_std, b_std=b_std)
    layers = (affine, relu) * depth + (affine,)
    architecture = Architecture(layers, "none")
    return _network(architecture, input_shape, num_classes, name="infinite_mlp", which=which, chunk=None)


@noted
def infinite_convnet(
    image_shape: tuple[int, int, int],
    num_classes: int,
    *,
    depth: int = 3,
    pooling: bool = True,
    which: Which = "ntk",
    chunk: int | None = None,
    rows_chunk: int | None = None,
    w_std: float = WEIGHT_STD,
    b_std: float = BIAS_STD,
) -> Network:
    """An infinitely wide ConvNet: `depth` blocks of convolution, ReLU and average pooling, and a dense layer.

    Args:
        image_shape: height, width and channels of the images, `(H, W, C)`.
        num_classes: the number of classes, K.
        depth: the number of blocks.
        pooling: whether a block ends with the mean over 2×2 positions. Without pooling only equal positions
            of two images count, which takes H·W times less memory and time.
        which: `"ntk"` or `"nngp"`, see `kernel_matrix`.
        chunk: the number of columns of the matrix that are computed at once, see `kernel_matrix`.
        rows_chunk: the number of rows of the matrix that are computed at once, see `kernel_matrix`.
        w_std: the standard deviation σ_w of the weights.
        b_std: the standard deviation σ_b of the biases.

    Returns:
        The network, known by its kernel alone.

    Raises:
        ValueError: a setting out of range, or images too small for so many poolings.

    References:
        Nguyen et al. 2021, arXiv 2107.13034, section 3 (with pooling); arXiv 2011.00050 (without).
    """
    shape = checks.image_shape(image_shape)
    checks.at_least("depth", depth, 1)
    if pooling:
        checks.at_least("shorter side of the images", min(shape[:2]), 2**depth, remedy="Lessen depth.")
    affine, last = (functools.partial(one, w_std=w_std, b_std=b_std) for one in (conv, dense))
    block = (affine, relu, avg_pool) if pooling else (affine, relu)
    architecture = Architecture((*block * depth, flatten, last), "all" if pooling else "equal")
    return _network(
        architecture,
        shape,
        num_classes,
        name="infinite_convnet",
        which=which,
        chunk=chunk,
        rows_chunk=rows_chunk,
    )


_MYRTLE: dict[int, tuple[int, int, int]] = {5: (2, 1, 1), 7: (2, 2, 2), 10: (3, 3, 3)}
"""The numbers of convolutions in the three stages, by the depth in a network's name."""


@noted
def myrtle(
    image_shape: tuple[int, int, int],
    num_classes: int,
    *,
    depth: int = 5,
    which: Which = "ntk",
    chunk: int | None = None,
    rows_chunk: int | None = None,
    w_std: float = WEIGHT_STD,
    b_std: float = BIAS_STD,
) -> Network:
    """An infinitely wide Myrtle network: three stages of convolutions and ReLUs, and a dense layer.

    The first two stages end with the mean over 2×2 positions, the last with the mean over all positions.

    Args:
        image_shape: height, width and channels of the images, `(H, W, C)`.
        num_classes: the number of classes, K.
        depth: the depth in the network's name, 5, 7 or 10.
        which: `"ntk"` or `"nngp"`, see `kernel_matrix`.
        chunk: the number of columns of the matrix that are computed at once, see `kernel_matrix`.
        rows_chunk: the number of rows of the matrix that are computed at once, see `kernel_matrix`.
        w_std: the standard deviation σ_w of the weights.
        b_std: the standard deviation σ_b of the biases.

    Returns:
        The network, known by its kernel alone.

    Raises:
        ValueError: another depth, or images of fewer than four rows or columns.

    References:
        Shankar et al. 2020, arXiv 2003.02237, section 4.
    """
    shape = checks.image_shape(image_shape)
    if depth not in _MYRTLE:
        raise ValueError(f"depth: expected one of {', '.join(map(str, _MYRTLE))}; got {depth!r}.")
    checks.at_least("shorter side of the images", min(shape[:2]), 4, remedy="Give larger images.")
    affine, last = (functools.partial(one, w_std=w_std, b_std=b_std) for one in (conv, dense))
    stages = [(affine, relu) * count for count in _MYRTLE[depth]]
    layers = (*stages[0], avg_pool, *stages[1], avg_pool, *stages[2], global_pool, last)
    architecture = Architecture(layers, "all")
    return _network(
        architecture, shape, num_classes, name="myrtle", which=which, chunk=chunk, rows_chunk=rows_chunk
    )

"""ConvNet, the network of the condensation papers: blocks of convolution, norm, activation, pool.

The kernel papers (FRePo, RCIG) take the same network with channels that double from block to block, and with
a norm, if any, before each convolution but the first.
"""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax

from ddjax import checks, platforms
from ddjax.facts import noted
from ddjax.networks import folded, norms, ops
from ddjax.networks.adapters import from_linen
from ddjax.types import Network

_SHARPNESS = 60
"""How many times sharper than softplus the activation is that stands for a ReLU with a second derivative."""

_ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": nn.relu,
    "leaky_relu": nn.leaky_relu,
    "sharp_softplus": lambda x: nn.softplus(_SHARPNESS * x) / _SHARPNESS,
    "sigmoid": nn.sigmoid,
    "softplus": nn.softplus,
    "swish": nn.swish,
    "tanh": nn.tanh,
}
_DEEPEST = 100
_PLACES = ("after", "before")
_POOLS = {"avg": ops.avg_pool, "max": ops.max_pool, "none": lambda x, _: x}


class ConvNet(nn.Module):
    """`depth` blocks of conv 3×3, norm, activation and pool 2, then one dense layer.

    Attributes:
        num_classes: the number of classes, K.
        widths: the number of channels of the convolution of each block.
        norm: the name of the normalisation, one of `ddjax.networks.norms.NORMS`.
        norm_place: the place of the norm of a block, one of those of `convnet`.
        activation: the name of the activation, one of those of `convnet`.
        pooling: the name of the pool, one of those of `convnet`.
        first_pads: the zeros that the first convolution adds on each side of the image, `(rows, columns)`.
        conv: the convolution, as made by `ddjax.networks.ops.conv_op`.
        folds: whether convolution and instance norm may be computed together, see `_normed`.
    """

    num_classes: int
    widths: tuple[int, ...]
    norm: str
    norm_place: str
    activation: str
    pooling: str
    first_pads: tuple[int, int]
    conv: Callable[..., jax.Array]
    folds: bool

    def setup(self) -> None:
        """Define the layers."""
        self.convs = [
            nn.Conv(
                width,
                (3, 3),
                padding=self._pads(i),
                conv_general_dilated=self.conv,
                param_dtype=float,
                name=f"conv{i}",
            )
            for i, width in enumerate(self.widths, start=1)
        ]
        self.norms = [
            norms.norm("none" if self.norm_place == "before" and i == 1 else self.norm, name=f"norm{i}")
            for i in range(1, len(self.widths) + 1)
        ]
        self.classifier = nn.Dense(self.num_classes, param_dtype=float)

    def embed(self, x: jax.Array) -> jax.Array:
        """The features that the dense layer sees.

        Args:
            x: the images, `[n, H, W, C]`.

        Returns:
            The features, `[n, H' * W' * channels of the last block]`.
        """
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True), start=1):
            mapped = self._normed(i, x) if self.norm_place == "after" else conv(norm(x))
            x = _POOLS[self.pooling](_ACTIVATIONS[self.activation](mapped), 2)
        return x.reshape(x.shape[0], -1)

    def _pads(self, block: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """The zeros before and after the rows, and before and after the columns, of a block's convolution."""
        rows, columns = self.first_pads if block == 1 else (1, 1)
        return (rows, rows), (columns, columns)

    def _normed(self, block: int, x: jax.Array) -> jax.Array:
        """The norm of a block's convolution; an instance norm on CPU without the convolution's bias.

        An instance norm takes off the mean, and the bias with it: neither outputs nor gradients depend on the
        bias, except by rounding. To add it, and to sum its gradient, takes a pass over the feature map each.
        """
        conv, norm, pads = self.convs[block - 1], self.norms[block - 1], self._pads(block)
        if not self.folds or self.is_initializing() or platforms.current() != "cpu":
            return norm(conv(x))
        kernel = conv.variables["params"]["kernel"]
        if folded.pays(kernel.shape):
            return folded.convolve(x, kernel, **norm.variables["params"], pads=pads)
        return norm(self.conv(x, kernel, (1, 1), pads, dimension_numbers=("NHWC", "HWIO", "NHWC")))

    def __call__(self, x: jax.Array) -> jax.Array:
        """The logits of images: `[n, H, W, C] -> [n, K]`."""
        return self.classifier(self.embed(x))


@noted
def convnet(
    image_shape: tuple[int, int, int],
    num_classes: int,
    *,
    depth: int = 3,
    width: int = 128,
    norm: str = "instance",
    activation: str = "relu",
    pooling: str = "avg",
    growth: int = 1,
    norm_place: str = "after",
    first_pad: int | str = "auto",
    conv_form: str = "auto",
) -> Network:
    """ConvNet(depth, width); the defaults are the ConvNet-3 of the condensation papers.

    The first block pads sides of 28 pixels by 3, so that feature maps are as large as for 32 pixels.
    Every other convolution keeps height and width. The ConvNet of FRePo and RCIG has `growth=2` and
    `norm_place="before"`, with `norm="none"` where the result is evaluated.

    Args:
        image_shape: height, width and channels of the images, `(H, W, C)`.
        num_classes: the number of classes, K.
        depth: the number of blocks. Each pool halves the image, rounding down, so that H and W must be at
            least 2^depth.
        width: the number of channels of the first convolution, and of every convolution without growth.
        norm: the normalisation, `"instance"`, `"batch"`, `"group"`, `"layer"` or `"none"`; see
            `ddjax.networks.norms`.
        activation: the activation, `"relu"`, `"leaky_relu"` (slope 0.01), `"sharp_softplus"` (softplus(60 x)
            / 60, a ReLU with a second derivative), `"sigmoid"`, `"softplus"`, `"swish"` or `"tanh"`.
        pooling: the pool at the end of each block, `"avg"`, `"max"` or `"none"`.
        growth: the factor from the number of channels of a block to that of the next.
        norm_place: the place of the norm, `"after"` the convolution, or `"before"` every convolution but the
            first.
        first_pad: the zeros that the first convolution adds on each side of the image; `"auto"` adds 3 to
            sides of 28 pixels and 1 to all others.
        conv_form: the form in which convolutions are computed, see `ddjax.networks.ops.conv`. With `"auto"`
            an instance norm on CPU is computed with its convolution, see `ddjax.networks.folded`.

    Returns:
        The network, with the flattened last feature map as `embed`.

    Raises:
        ValueError: a setting out of its range, or images too small for the depth.

    References:
        Gidaris and Komodakis 2018; Zhao et al. 2021, arXiv 2006.05929. With growth: Zhou et al. 2022, arXiv
        2206.00719.
    """
    checks.at_least("depth", depth, 1)
    norms.check(norm, width)
    if depth > _DEEPEST:
        raise ValueError(f"depth: expected at most {_DEEPEST} blocks; got {depth}. Give fewer.")
    checks.choice("activation", activation, _ACTIVATIONS)
    checks.choice("pooling", pooling, _POOLS)
    checks.choice("norm_place", norm_place, _PLACES)
    checks.at_least("growth", growth, 1)
    image_shape = checks.image_shape(image_shape)
    pads = _first_pads(first_pad, image_shape)
    _check_fits(image_shape, pads, depth, pooling)
    module = ConvNet(
        num_classes,
        widths=tuple(width * growth**block for block in range(depth)),
        norm=norm,
        norm_place=norm_place,
        activation=activation,
        pooling=pooling,
        first_pads=pads,
        conv=ops.conv_op(conv_form),
        folds=conv_form == "auto" and norm == "instance",
    )
    return from_linen(module, image_shape, num_classes, name="convnet")


def _first_pads(first_pad: int | str, image_shape: tuple[int, int, int]) -> tuple[int, int]:
    """The zeros on each side of the image, for rows and columns."""
    if first_pad == "auto":
        return (3 if image_shape[0] == 28 else 1, 3 if image_shape[1] == 28 else 1)
    if isinstance(first_pad, str):
        raise ValueError(f"first_pad: expected a whole number or 'auto'; got {first_pad!r}. Give one.")
    checks.at_least("first_pad", first_pad, 1)
    return first_pad, first_pad


def _check_fits(image_shape: tuple[int, int, int], pads: tuple[int, int], depth: int, pooling: str) -> None:
    # The first convolution takes a pixel from each side, and gives back what it pads.
    side = min(side + 2 * (pad - 1) for side, pad in zip(image_shape, pads, strict=False))
    if pooling != "none" and side < 2**depth:
        fits = max(side, 1).bit_length() - 1
        raise ValueError(
            f"convnet: expected images of at least {2**depth}x{2**depth} for depth {depth}; "
            f"got {image_shape[0]}x{image_shape[1]}. "
            + (f"Set depth={fits} or less, or pooling='none'." if fits else "Set pooling='none'.")
        )

"""ConvNet, the network of the condensation papers: blocks of convolution, norm, activation, pool."""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax

from ddjax import checks
from ddjax.facts import noted
from ddjax.networks import norms, ops
from ddjax.networks.adapters import from_linen
from ddjax.types import Network

_ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": nn.relu,
    "leaky_relu": nn.leaky_relu,
    "sigmoid": nn.sigmoid,
    "softplus": nn.softplus,
    "swish": nn.swish,
    "tanh": nn.tanh,
}
_DEEPEST = 100
_POOLS = {"avg": ops.avg_pool, "max": ops.max_pool, "none": lambda x, _: x}


class ConvNet(nn.Module):
    """`depth` blocks of conv 3×3, norm, activation and pool 2, then one dense layer.

    Attributes:
        num_classes: the number of classes, K.
        depth: the number of blocks.
        width: the number of channels of every convolution.
        norm: the name of the normalisation, one of `ddjax.networks.norms.NORMS`.
        activation: the name of the activation, one of those of `convnet`.
        pooling: the name of the pool, one of those of `convnet`.
        first_pads: the zeros that the first convolution adds on each side of the image, `(rows, columns)`.
        conv: the convolution, as made by `ddjax.networks.ops.conv_op`.
    """

    num_classes: int
    depth: int
    width: int
    norm: str
    activation: str
    pooling: str
    first_pads: tuple[int, int]
    conv: Callable[..., jax.Array]

    def setup(self) -> None:
        """Define the layers."""
        pads = [self.first_pads] + [(1, 1)] * (self.depth - 1)
        self.convs = [
            nn.Conv(
                self.width,
                (3, 3),
                padding=[(pad, pad) for pad in block],
                conv_general_dilated=self.conv,
                param_dtype=float,
                name=f"conv{i}",
            )
            for i, block in enumerate(pads, start=1)
        ]
        self.norms = [norms.norm(self.norm, name=f"norm{i}") for i in range(1, self.depth + 1)]
        self.classifier = nn.Dense(self.num_classes, param_dtype=float)

    def embed(self, x: jax.Array) -> jax.Array:
        """The features that the dense layer sees.

        Args:
            x: the images, `[n, H, W, C]`.

        Returns:
            The features, `[n, H' * W' * width]`.
        """
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = _POOLS[self.pooling](_ACTIVATIONS[self.activation](norm(conv(x))), 2)
        return x.reshape(x.shape[0], -1)

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
    conv_form: str = "auto",
) -> Network:
    """ConvNet(depth, width); the defaults are the ConvNet-3 of the condensation papers.

    The first block pads sides of 28 pixels by 3, so that feature maps are as large as for 32 pixels.
    Every other convolution keeps height and width.

    Args:
        image_shape: height, width and channels of the images, `(H, W, C)`.
        num_classes: the number of classes, K.
        depth: the number of blocks. Each pool halves the image, rounding down, so that H and W must be at
            least 2^depth.
        width: the number of channels of every convolution.
        norm: the normalisation, `"instance"`, `"batch"`, `"group"`, `"layer"` or `"none"`; see
            `ddjax.networks.norms`.
        activation: the activation, `"relu"`, `"leaky_relu"` (slope 0.01), `"sigmoid"`, `"softplus"`,
            `"swish"` or `"tanh"`.
        pooling: the pool at the end of each block, `"avg"`, `"max"` or `"none"`.
        conv_form: the form in which convolutions are computed, see `ddjax.networks.ops.conv`.

    Returns:
        The network, with the flattened last feature map as `embed`.

    Raises:
        ValueError: a setting out of its range, or images too small for the depth.

    References:
        Gidaris and Komodakis 2018; Zhao et al. 2021, arXiv 2006.05929.
    """
    checks.at_least("depth", depth, 1)
    norms.check(norm, width)
    if depth > _DEEPEST:
        raise ValueError(f"depth: expected at most {_DEEPEST} blocks; got {depth}. Give fewer.")
    checks.choice("activation", activation, _ACTIVATIONS)
    checks.choice("pooling", pooling, _POOLS)
    image_shape = checks.image_shape(image_shape)
    _check_fits(image_shape, depth, pooling)
    module = ConvNet(
        num_classes,
        depth=depth,
        width=width,
        norm=norm,
        activation=activation,
        pooling=pooling,
        first_pads=(3 if image_shape[0] == 28 else 1, 3 if image_shape[1] == 28 else 1),
        conv=ops.conv_op(conv_form),
    )
    return from_linen(module, image_shape, num_classes, name="convnet")


def _check_fits(image_shape: tuple[int, int, int], depth: int, pooling: str) -> None:
    side = min(32 if side == 28 else side for side in image_shape[:2])
    if pooling != "none" and side < 2**depth:
        fits = side.bit_length() - 1
        raise ValueError(
            f"convnet: expected images of at least {2**depth}x{2**depth} for depth {depth}; "
            f"got {image_shape[0]}x{image_shape[1]}. "
            + (f"Set depth={fits} or less, or pooling='none'." if fits else "Set pooling='none'.")
        )

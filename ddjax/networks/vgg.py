"""VGG-11 for small images, as in the cross-architecture tables of the condensation papers."""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax

from ddjax import checks
from ddjax.facts import noted
from ddjax.networks import norms, ops
from ddjax.networks.adapters import from_linen
from ddjax.types import Network

_STAGES = ((1,), (2,), (4, 4), (8, 8), (8, 8))
"""Channels of the convolutions before each pool, as multiples of those of the first convolution."""
_SMALLEST = 2 ** len(_STAGES)


class VGG11(nn.Module):
    """Eight convolutions 3×3 with norm and ReLU, five max-pools of 2, one dense layer.

    Attributes:
        num_classes: the number of classes, K.
        width: the number of channels of the first convolution.
        norm: the name of the normalisation, one of `ddjax.networks.norms.NORMS`.
        first_pads: the zeros that the first convolution adds on each side of the image, `(rows, columns)`.
        conv: the convolution, as made by `ddjax.networks.ops.conv_op`.
    """

    num_classes: int
    width: int
    norm: str
    first_pads: tuple[int, int]
    conv: Callable[..., jax.Array]

    def setup(self) -> None:
        """Define the layers."""
        factors = [factor for stage in _STAGES for factor in stage]
        pads = [self.first_pads] + [(1, 1)] * (len(factors) - 1)
        self.convs = [
            nn.Conv(
                factor * self.width,
                (3, 3),
                padding=[(pad, pad) for pad in pads[i]],
                conv_general_dilated=self.conv,
                param_dtype=float,
                name=f"conv{i + 1}",
            )
            for i, factor in enumerate(factors)
        ]
        self.norms = [norms.norm(self.norm, name=f"norm{i + 1}") for i in range(len(factors))]
        self.classifier = nn.Dense(self.num_classes, param_dtype=float)

    def embed(self, x: jax.Array) -> jax.Array:
        """The features that the dense layer sees.

        Args:
            x: the images, `[n, H, W, C]`.

        Returns:
            The features, `[n, H' * W' * 8 * width]`.
        """
        layers = iter(zip(self.convs, self.norms, strict=True))
        for stage in _STAGES:
            for _ in stage:
                conv, norm = next(layers)
                x = nn.relu(norm(conv(x)))
            x = ops.max_pool(x, 2)
        return x.reshape(x.shape[0], -1)

    def __call__(self, x: jax.Array) -> jax.Array:
        """The logits of images: `[n, H, W, C] -> [n, K]`."""
        return self.classifier(self.embed(x))


@noted
def vgg11(
    image_shape: tuple[int, int, int],
    num_classes: int,
    *,
    width: int = 64,
    norm: str = "instance",
    conv_form: str = "auto",
) -> Network:
    """VGG-11 with one dense layer: 9,231,114 parameters at 32×32×3 with ten classes.

    The first convolution pads sides of 28 pixels by 3, so that feature maps are as large as for 32 pixels.

    Args:
        image_shape: height, width and channels of the images, `(H, W, C)`; H and W are 28, or at least 32.
        num_classes: the number of classes, K.
        width: the number of channels of the first convolution; the others have 2, 4, 4, 8, 8, 8 and 8 times
            that number.
        norm: the normalisation, `"instance"`, `"batch"`, `"group"`, `"layer"` or `"none"`; see
            `ddjax.networks.norms`.
        conv_form: the form in which convolutions are computed, see `ddjax.networks.ops.conv`.

    Returns:
        The network, with the flattened last feature map (512 numbers at 28 and 32 pixels) as `embed`.

    Raises:
        ValueError: images that are too small, or a setting out of its range.

    References:
        Simonyan and Zisserman 2015, arXiv 1409.1556; in this form Zhao et al. 2021, arXiv 2006.05929,
        `networks.py` of github.com/VICO-UoE/DatasetCondensation.
    """
    height, side, _ = image_shape = checks.image_shape(image_shape)
    norms.check(norm, width)
    if any(length < _SMALLEST and length != 28 for length in (height, side)):
        raise ValueError(
            f"vgg11: expected images of 28x28, or of at least {_SMALLEST}x{_SMALLEST}; got {height}x{side}. "
            "Resize the images, or take resnet18, convnet or mlp."
        )
    module = VGG11(
        num_classes,
        width=width,
        norm=norm,
        first_pads=(3 if height == 28 else 1, 3 if side == 28 else 1),
        conv=ops.conv_op(conv_form),
    )
    return from_linen(module, image_shape, num_classes, name="vgg11")

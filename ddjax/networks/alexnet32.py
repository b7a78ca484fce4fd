"""AlexNet for small images, as in the cross-architecture tables of the condensation papers."""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax

from ddjax import checks
from ddjax.facts import noted
from ddjax.networks import norms, ops
from ddjax.networks.adapters import from_linen
from ddjax.types import Network

_LAYERS = ((128, 5, True), (192, 5, True), (256, 3, False), (192, 3, False), (192, 3, True))
"""For each convolution: the number of channels, the kernel's side, and whether a pool follows."""
_SMALLEST = 8


class AlexNet32(nn.Module):
    """Five convolutions with ReLU, three max-pools of 2, one dense layer.

    Attributes:
        num_classes: the number of classes, K.
        norm: the name of the normalisation, one of `ddjax.networks.norms.NORMS`.
        first_pads: the zeros that the first convolution adds on each side of the image, `(rows, columns)`.
        conv: the convolution, as made by `ddjax.networks.ops.conv_op`.
    """

    num_classes: int
    norm: str
    first_pads: tuple[int, int]
    conv: Callable[..., jax.Array]

    def setup(self) -> None:
        """Define the layers."""
        self.convs = [
            nn.Conv(
                features,
                (side, side),
                padding=side // 2 if i > 1 else [(pad, pad) for pad in self.first_pads],
                conv_general_dilated=self.conv,
                param_dtype=float,
                name=f"conv{i}",
            )
            for i, (features, side, _) in enumerate(_LAYERS, start=1)
        ]
        self.norms = [norms.norm(self.norm, name=f"norm{i}") for i in range(1, len(_LAYERS) + 1)]
        self.classifier = nn.Dense(self.num_classes, param_dtype=float)

    def embed(self, x: jax.Array) -> jax.Array:
        """The features that the dense layer sees.

        Args:
            x: the images, `[n, H, W, C]`.

        Returns:
            The features, `[n, H' * W' * 192]`.
        """
        for (_, _, pools), conv, norm in zip(_LAYERS, self.convs, self.norms, strict=True):
            x = norm(conv(x))
            # ReLU and maximum commute; with the pool first, ReLU has a quarter of the entries.
            x = nn.relu(ops.max_pool(x, 2) if pools else x)
        return x.reshape(x.shape[0], -1)

    def __call__(self, x: jax.Array) -> jax.Array:
        """The logits of images: `[n, H, W, C] -> [n, K]`."""
        return self.classifier(self.embed(x))


@noted
def alexnet32(
    image_shape: tuple[int, int, int], num_classes: int, *, norm: str = "none", conv_form: str = "auto"
) -> Network:
    """AlexNet 128-192-256-192-192 and one dense layer: 1,872,202 parameters at 32×32×3 with ten classes.

    The first convolution pads sides of 28 pixels by 4, so that feature maps are as large as for 32 pixels.

    Args:
        image_shape: height, width and channels of the images, `(H, W, C)`; H and W at least 8.
        num_classes: the number of classes, K.
        norm: the normalisation, `"none"`, `"batch"`, `"instance"`, `"group"` or `"layer"`; see
            `ddjax.networks.norms`.
        conv_form: the form in which convolutions are computed, see `ddjax.networks.ops.conv`.

    Returns:
        The network, with the flattened last feature map (3,072 numbers at 28 and 32 pixels) as `embed`.

    Raises:
        ValueError: images that are too small, or a setting out of its range.

    References:
        Krizhevsky et al. 2012; in this form Zhao et al. 2021, arXiv 2006.05929,
        `networks.py` of github.com/VICO-UoE/DatasetCondensation.
    """
    height, side, _ = image_shape = checks.image_shape(image_shape)
    norms.check(norm, _LAYERS[0][0])
    if min(height, side) < _SMALLEST:
        raise ValueError(
            f"alexnet32: expected images of at least {_SMALLEST}x{_SMALLEST}; got {height}x{side}. "
            "Resize the images, or take convnet or mlp."
        )
    module = AlexNet32(
        num_classes,
        norm=norm,
        first_pads=(4 if height == 28 else 2, 4 if side == 28 else 2),
        conv=ops.conv_op(conv_form),
    )
    return from_linen(module, image_shape, num_classes, name="alexnet32")

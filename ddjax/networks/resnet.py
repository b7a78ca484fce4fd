"""ResNet-18 for small images, as in the cross-architecture tables of the condensation papers."""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax

from ddjax import checks
from ddjax.facts import noted
from ddjax.networks import norms, ops
from ddjax.networks.adapters import from_linen
from ddjax.types import Network

_STAGES = (1, 2, 4, 8)
"""Channels of the blocks of each stage, as multiples of `width`; all stages but the first halve the image."""
DOWNSAMPLINGS = ("stride", "pool")


class Block(nn.Module):
    """relu(x' + norm(conv(relu(norm(conv(x)))))), where x' is x, or norm(1×1 conv(x)) if the shape changes.

    Attributes:
        features: the number of channels of the output.
        halves: whether the block halves height and width.
        pools: whether an average pool halves them, instead of strides.
        norm: the name of the normalisation, one of `ddjax.networks.norms.NORMS`.
        conv: the convolution, as made by `ddjax.networks.ops.conv_op`.
    """

    features: int
    halves: bool
    pools: bool
    norm: str
    conv: Callable[..., jax.Array]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """The output of the block: `[n, H, W, C] -> [n, H', W', features]`."""
        stride = 2 if self.halves and not self.pools else 1

        def shrink(y: jax.Array) -> jax.Array:
            return ops.avg_pool(y, 2) if self.halves and self.pools else y

        def conv(y: jax.Array, name: str, *, side: int, strides: int) -> jax.Array:
            return _conv(self.features, side, strides=strides, conv=self.conv, name=name)(y)

        y = conv(x, "conv1", side=3, strides=stride)
        y = shrink(nn.relu(norms.norm(self.norm, name="norm1")(y)))
        y = norms.norm(self.norm, name="norm2")(conv(y, "conv2", side=3, strides=1))
        if self.halves or x.shape[-1] != self.features:
            x = shrink(conv(x, "shortcut_conv", side=1, strides=stride))
            x = norms.norm(self.norm, name="shortcut_norm")(x)
        return nn.relu(y + x)


class ResNet18(nn.Module):
    """Conv 3×3 with norm and ReLU, four stages of two blocks, the mean over the last map, one dense layer.

    Attributes:
        num_classes: the number of classes, K.
        width: the number of channels of the first convolution.
        norm: the name of the normalisation, one of `ddjax.networks.norms.NORMS`.
        downsampling: the way in which stages halve the image, one of `DOWNSAMPLINGS`; see `resnet18`.
        conv: the convolution, as made by `ddjax.networks.ops.conv_op`.
    """

    num_classes: int
    width: int
    norm: str
    downsampling: str
    conv: Callable[..., jax.Array]

    def setup(self) -> None:
        """Define the layers."""
        self.stem_conv = _conv(self.width, 3, strides=1, conv=self.conv)
        self.stem_norm = norms.norm(self.norm)
        self.blocks = [
            Block(
                factor * self.width,
                halves=stage > 1 and block == 1,
                pools=self.downsampling == "pool",
                norm=self.norm,
                conv=self.conv,
                name=f"stage{stage}_block{block}",
            )
            for stage, factor in enumerate(_STAGES, start=1)
            for block in (1, 2)
        ]
        self.classifier = nn.Dense(self.num_classes, param_dtype=float)

    def embed(self, x: jax.Array) -> jax.Array:
        """The features that the dense layer sees.

        Args:
            x: the images, `[n, H, W, C]`.

        Returns:
            The features, `[n, F]`.
        """
        x = nn.relu(self.stem_norm(self.stem_conv(x)))
        for block in self.blocks:
            x = block(x)
        return x.mean((1, 2)) if self.downsampling == "stride" else x.reshape(x.shape[0], -1)

    def __call__(self, x: jax.Array) -> jax.Array:
        """The logits of images: `[n, H, W, C] -> [n, K]`."""
        return self.classifier(self.embed(x))


def _conv(
    features: int, side: int, *, strides: int, conv: Callable[..., jax.Array], name: str | None = None
) -> nn.Conv:
    """A convolution without bias; height and width change by the strides alone."""
    return nn.Conv(
        features,
        (side, side),
        strides=strides,
        padding=side // 2,
        use_bias=False,
        conv_general_dilated=conv,
        param_dtype=float,
        name=name,
    )


@noted
def resnet18(
    image_shape: tuple[int, int, int],
    num_classes: int,
    *,
    width: int = 64,
    norm: str = "instance",
    downsampling: str = "stride",
    conv_form: str = "auto",
) -> Network:
    """ResNet-18 in its CIFAR form: 11,173,962 parameters at three channels with ten classes.

    Args:
        image_shape: height, width and channels of the images, `(H, W, C)`. H and W are at least 9 under
            instance norm, which would erase a last feature map of one pixel, and at least 16 with pools.
        num_classes: the number of classes, K.
        width: the number of channels of the first convolution and stage; the other stages have 2, 4 and 8
            times that number.
        norm: the normalisation, `"instance"`, `"batch"`, `"group"`, `"layer"` or `"none"`; see
            `ddjax.networks.norms`.
        downsampling: the way in which stages halve the image. `"stride"`: the first convolution of a stage
            and of its shortcut takes every second pixel, and the dense layer sees the mean of each channel.
            `"pool"`: both convolutions take all pixels, an average pool of 2 follows, and the dense layer
            sees the whole last map; this is the papers' ResNet18_AP, made for distillation.
        conv_form: the form in which convolutions are computed, see `ddjax.networks.ops.conv`.

    Returns:
        The network, with the input of the dense layer as `embed`.

    Raises:
        ValueError: images that are too small, or a setting out of its range.

    References:
        He et al. 2016, arXiv 1512.03385; in this form Zhao et al. 2021, arXiv 2006.05929, with pools Zhao and
        Bilen 2021, arXiv 2102.08259: `networks.py` of github.com/VICO-UoE/DatasetCondensation.
    """
    height, side, _ = image_shape = checks.image_shape(image_shape)
    norms.check(norm, width)
    checks.choice("downsampling", downsampling, DOWNSAMPLINGS)
    smallest = 9 if downsampling == "stride" else 16
    if min(height, side) < smallest and (norm == "instance" or downsampling == "pool"):
        raise ValueError(
            f"resnet18: expected images of at least {smallest}x{smallest} for norm={norm!r} and "
            f"downsampling={downsampling!r}; got {height}x{side}. Resize the images, or give norm='group' "
            "and downsampling='stride'."
        )
    module = ResNet18(
        num_classes, width=width, norm=norm, downsampling=downsampling, conv=ops.conv_op(conv_form)
    )
    return from_linen(module, image_shape, num_classes, name="resnet18")

"""LeNet, the network of Dataset Distillation's MNIST experiments."""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax

from ddjax import checks
from ddjax.facts import noted
from ddjax.networks import ops
from ddjax.networks.adapters import from_linen
from ddjax.types import Network


class LeNet(nn.Module):
    """Conv 5×5→6, ReLU, max-pool 2; conv 5×5→16, ReLU, max-pool 2; dense 120, 84, K with ReLU between.

    Attributes:
        num_classes: the number of classes, K.
        pads: the zeros that the first convolution adds on each side of the image, `(rows, columns)`.
        conv: the convolution together with the max-pool of 2, as made by `ddjax.networks.ops.conv_op`.
    """

    num_classes: int
    pads: tuple[int, int]
    conv: Callable[..., jax.Array]

    def setup(self) -> None:
        """Define the layers."""
        padding = [(pad, pad) for pad in self.pads]
        self.conv1 = nn.Conv(6, (5, 5), padding=padding, conv_general_dilated=self.conv, param_dtype=float)
        self.conv2 = nn.Conv(16, (5, 5), padding="VALID", conv_general_dilated=self.conv, param_dtype=float)
        self.fc1 = nn.Dense(120, param_dtype=float)
        self.fc2 = nn.Dense(84, param_dtype=float)
        self.fc3 = nn.Dense(self.num_classes, param_dtype=float)

    def embed(self, x: jax.Array) -> jax.Array:
        """The features that the last dense layer sees.

        Args:
            x: the images, `[n, H, W, C]`.

        Returns:
            The features, `[n, 84]`.
        """
        for conv in (self.conv1, self.conv2):
            # ReLU and maximum commute; with the pool first, ReLU has a quarter of the entries.
            x = nn.relu(conv(x))
        x = x.reshape(x.shape[0], -1)
        return nn.relu(self.fc2(nn.relu(self.fc1(x))))

    def __call__(self, x: jax.Array) -> jax.Array:
        """The logits of images: `[n, H, W, C] -> [n, K]`."""
        return self.fc3(self.embed(x))


@noted
def lenet(image_shape: tuple[int, int, int], num_classes: int, *, conv_form: str = "auto") -> Network:
    """LeNet: 61,706 parameters at 28×28×1 with ten classes.

    The first convolution pads sides of fewer than 32 pixels by 2.

    Args:
        image_shape: height, width and channels of the images, `(H, W, C)`; H and W multiples of 4 and at
            least 12, so that both pools halve evenly.
        num_classes: the number of classes, K.
        conv_form: the form in which convolutions are computed, see `ddjax.networks.ops.conv`.

    Returns:
        The network, with the 84 features of its last hidden layer as `embed`.

    Raises:
        ValueError: a side that does not fit, or an unknown `conv_form`.

    References:
        LeCun et al. 1998; Wang et al. 2018, arXiv 1811.10959.
    """
    height, width, _ = checks.image_shape(image_shape)
    for side in (height, width):
        if side < 12 or side % 4:
            raise ValueError(
                "lenet: expected images whose sides are multiples of 4, at least 12 (12, 16, ..., 32, ...); "
                f"got {height}x{width}. Resize the images, or take convnet or mlp."
            )
    pads = (2 if height < 32 else 0, 2 if width < 32 else 0)
    module = LeNet(num_classes, pads=pads, conv=ops.conv_op(conv_form, pool=2))
    return from_linen(module, image_shape, num_classes, name="lenet")

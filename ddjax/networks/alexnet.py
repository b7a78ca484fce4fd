"""AlexNet in its one-column form, the network of Dataset Distillation's fine-tuning experiments."""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ddjax import checks
from ddjax.facts import noted
from ddjax.networks import ops
from ddjax.networks.adapters import from_linen
from ddjax.types import Network

GRID = 6
"""Side of the feature map that the dense layers see, for images of every size."""


class AlexNet(nn.Module):
    """Five convolutions, three max-pools of 3 by 2, an average over a 6×6 grid, three dense layers.

    Attributes:
        num_classes: the number of classes, K.
        width: the number of channels of the first convolution, w. The other convolutions have 3w, 6w, 4w and
            4w channels, the hidden layers 64w units.
        conv: the convolution, as made by `ddjax.networks.ops.conv_op`.
    """

    num_classes: int
    width: int
    conv: Callable[..., jax.Array]

    def setup(self) -> None:
        """Define the layers."""

        def conv(factor: int, side: int, *, stride: int = 1, padding: int) -> nn.Conv:
            return nn.Conv(
                factor * self.width,
                (side, side),
                strides=stride,
                padding=padding,
                conv_general_dilated=self.conv,
                param_dtype=float,
            )

        self.conv1 = conv(1, 11, stride=4, padding=2)
        self.conv2 = conv(3, 5, padding=2)
        self.conv3 = conv(6, 3, padding=1)
        self.conv4 = conv(4, 3, padding=1)
        self.conv5 = conv(4, 3, padding=1)
        self.fc1 = nn.Dense(64 * self.width, param_dtype=float)
        self.fc2 = nn.Dense(64 * self.width, param_dtype=float)
        self.fc3 = nn.Dense(self.num_classes, param_dtype=float)

    def embed(self, x: jax.Array) -> jax.Array:
        """The features that the last dense layer sees.

        Args:
            x: the images, `[n, H, W, C]`.

        Returns:
            The features, `[n, 64w]`.
        """
        # ReLU and maximum commute; with the pool first, ReLU has a quarter of the entries.
        x = nn.relu(ops.max_pool(self.conv1(x), 3, stride=2))
        x = nn.relu(ops.max_pool(self.conv2(x), 3, stride=2))
        x = nn.relu(self.conv4(nn.relu(self.conv3(x))))
        x = nn.relu(ops.max_pool(self.conv5(x), 3, stride=2))
        x = average_to_grid(x, GRID).reshape(x.shape[0], -1)
        return nn.relu(self.fc2(nn.relu(self.fc1(x))))

    def __call__(self, x: jax.Array) -> jax.Array:
        """The logits of images: `[n, H, W, C] -> [n, K]`."""
        return self.fc3(self.embed(x))


def average_to_grid(x: jax.Array, side: int) -> jax.Array:
    """The mean over each cell of a `side`×`side` grid.

    Cell i spans the rows ⌊i H / side⌋ to ⌈(i + 1) H / side⌉, as in PyTorch's adaptive average pool, so that
    cells overlap where H or W is no multiple of `side`. Nothing changes where H = W = side.

    Args:
        x: the feature maps, `[n, H, W, C]`.
        side: the number of cells along the height, and along the width.

    Returns:
        The means, `[n, side, side, C]`.
    """
    for axis in (1, 2):
        size = x.shape[axis]
        if size == side:
            continue
        cell, at = np.arange(side)[:, None], np.arange(size)
        inside = (at >= cell * size // side) & (at < -(-(cell + 1) * size // side))
        means = jnp.asarray(inside / inside.sum(1, keepdims=True), x.dtype)
        x = jnp.moveaxis(jnp.tensordot(x, means, axes=(axis, 1)), -1, axis)
    return x


@noted
def alexnet(
    image_shape: tuple[int, int, int], num_classes: int, *, width: int = 64, conv_form: str = "auto"
) -> Network:
    """AlexNet 64-192-384-256-256, dense 9216→4096→4096→K: 61,100,840 parameters with 1,000 classes.

    Without dropout: a network here is a pure function of its weights and inputs.

    Args:
        image_shape: height, width and channels of the images, `(H, W, C)`; H and W at least 63. At 224 the
            average over the grid changes nothing.
        num_classes: the number of classes, K.
        width: the number of channels of the first convolution, 64 in the published network. The widths of
            all other layers scale in proportion.
        conv_form: the form in which convolutions are computed, see `ddjax.networks.ops.conv`.

    Returns:
        The network, with the features of its last hidden layer as `embed`.

    Raises:
        ValueError: images that are too small, a width below one, or an unknown `conv_form`.

    References:
        Krizhevsky 2014, arXiv 1404.5997.
    """
    height, side, _ = checks.image_shape(image_shape)
    checks.at_least("width", width, 1)
    if min(height, side) < 63:
        raise ValueError(
            f"alexnet: expected images of at least 63x63; got {height}x{side}. "
            "Resize the images, or take alexnet32, alexcifar or convnet."
        )
    module = AlexNet(num_classes, width, conv=ops.conv_op(conv_form))
    return from_linen(module, image_shape, num_classes, name="alexnet")


def from_torch(name: str, weight: np.ndarray) -> tuple[str, np.ndarray]:
    """Convert the name and layout of one weight from PyTorch's AlexNet to those of this network.

    | PyTorch | here |
    |---|---|
    | `features.{0,3,6,8,10}.weight` `[out, in, h, w]` | `conv{1..5}.kernel` `[h, w, in, out]` |
    | `classifier.{1,4,6}.weight` `[out, in]` | `fc{1..3}.kernel` `[in, out]` |
    | `.bias` | `.bias` |

    The inputs of the first dense layer are flattened channels first in PyTorch, channels last here.

    Args:
        name: the name of the weight in torchvision's `alexnet`.
        weight: the weight, in PyTorch's layout.

    Returns:
        The name and the array of this network. A name outside the table, or an array with another number
        of axes, is returned unchanged.
    """
    layer, _, kind = name.rpartition(".")
    ours = _TORCH_LAYERS.get(layer)
    if ours is None or kind not in ("weight", "bias"):
        return name, weight
    if kind == "bias":
        return f"{ours}.bias", weight
    if weight.ndim == 4:
        weight = weight.transpose(2, 3, 1, 0)
    elif weight.ndim == 2 and ours == "fc1" and weight.shape[1] % GRID**2 == 0:
        weight = weight.reshape(len(weight), -1, GRID, GRID).transpose(2, 3, 1, 0)
        weight = weight.reshape(-1, weight.shape[-1])
    elif weight.ndim == 2:
        weight = weight.T
    return f"{ours}.kernel", weight


_TORCH_LAYERS = {
    **{f"features.{at}": f"conv{i}" for i, at in enumerate((0, 3, 6, 8, 10), start=1)},
    **{f"classifier.{at}": f"fc{i}" for i, at in enumerate((1, 4, 6), start=1)},
}

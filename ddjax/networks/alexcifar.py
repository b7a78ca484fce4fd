"""AlexCifarNet, the network of Dataset Distillation's CIFAR-10 experiments."""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax

from ddjax import checks
from ddjax.facts import noted
from ddjax.networks import ops
from ddjax.networks.adapters import from_linen
from ddjax.types import Network


class AlexCifarNet(nn.Module):
    """Two convolutions 5×5→64 with max-pools and response normalisation; dense 384, 192, K.

    Attributes:
        num_classes: the number of classes, K.
        conv: the convolution, as made by `ddjax.networks.ops.conv_op`.
    """

    num_classes: int
    conv: Callable[..., jax.Array]

    def setup(self) -> None:
        """Define the layers."""
        self.conv1 = nn.Conv(64, (5, 5), padding=2, conv_general_dilated=self.conv, param_dtype=float)
        self.conv2 = nn.Conv(64, (5, 5), padding=2, conv_general_dilated=self.conv, param_dtype=float)
        self.fc1 = nn.Dense(384, param_dtype=float)
        self.fc2 = nn.Dense(192, param_dtype=float)
        self.fc3 = nn.Dense(self.num_classes, param_dtype=float)

    def embed(self, x: jax.Array) -> jax.Array:
        """The features that the last dense layer sees.

        Args:
            x: the images, `[n, H, W, C]`.

        Returns:
            The features, `[n, 192]`.
        """
        # The original pools before the first normalisation and after the second. ReLU and maximum commute;
        # with the pool first, the first ReLU has only a quarter of the entries to compute.
        x = ops.local_response_norm(nn.relu(ops.max_pool(self.conv1(x), 3, stride=2, padding=1)))
        x = ops.max_pool(ops.local_response_norm(nn.relu(self.conv2(x))), 3, stride=2, padding=1)
        x = x.reshape(x.shape[0], -1)
        return nn.relu(self.fc2(nn.relu(self.fc1(x))))

    def __call__(self, x: jax.Array) -> jax.Array:
        """The logits of images: `[n, H, W, C] -> [n, K]`."""
        return self.fc3(self.embed(x))


@noted
def alexcifar(image_shape: tuple[int, int, int], num_classes: int, *, conv_form: str = "auto") -> Network:
    """AlexCifarNet: 1,756,426 parameters at 32×32×3 with ten classes.

    Args:
        image_shape: height, width and channels of the images, `(H, W, C)`; H and W at least 8.
        num_classes: the number of classes, K.
        conv_form: the form in which convolutions are computed, see `ddjax.networks.ops.conv`.

    Returns:
        The network, with the 192 features of its last hidden layer as `embed`.

    Raises:
        ValueError: images that are too small, or an unknown `conv_form`.

    References:
        Wang et al. 2018, arXiv 1811.10959; the network comes from TensorFlow's old CIFAR-10 tutorial.
    """
    height, width, _ = checks.image_shape(image_shape)
    if min(height, width) < 8:
        raise ValueError(
            f"alexcifar: expected images of at least 8x8; got {height}x{width}. "
            "Resize the images, or take convnet or mlp."
        )
    module = AlexCifarNet(num_classes, conv=ops.conv_op(conv_form))
    return from_linen(module, image_shape, num_classes, name="alexcifar")

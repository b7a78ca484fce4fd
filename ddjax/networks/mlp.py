"""A multi-layer perceptron on flattened images."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax

from ddjax import checks
from ddjax.facts import noted
from ddjax.networks.adapters import from_linen
from ddjax.types import Network


class MLP(nn.Module):
    """Dense layers with ReLU between them.

    Attributes:
        num_classes: the number of classes, K.
        widths: the number of units of each hidden layer.
    """

    num_classes: int
    widths: tuple[int, ...]

    def setup(self) -> None:
        """Define the layers."""
        self.hidden = [
            nn.Dense(width, param_dtype=float, name=f"fc{i}") for i, width in enumerate(self.widths, start=1)
        ]
        self.classifier = nn.Dense(self.num_classes, param_dtype=float)

    def embed(self, x: jax.Array) -> jax.Array:
        """The features that the last dense layer sees.

        Args:
            x: the images, `[n, H, W, C]`.

        Returns:
            The last hidden layer, `[n, widths[-1]]`; without hidden layers the flattened images.
        """
        x = x.reshape(x.shape[0], -1)
        for dense in self.hidden:
            x = nn.relu(dense(x))
        return x

    def __call__(self, x: jax.Array) -> jax.Array:
        """The logits of images: `[n, H, W, C] -> [n, K]`."""
        return self.classifier(self.embed(x))


@noted
def mlp(
    image_shape: tuple[int, int, int], num_classes: int, *, widths: Sequence[int] = (128, 128)
) -> Network:
    """A multi-layer perceptron; with `widths=()` a linear classifier.

    Args:
        image_shape: height, width and channels of the images, `(H, W, C)`; every size is accepted.
        num_classes: the number of classes, K.
        widths: the number of units of each hidden layer.

    Returns:
        The network, with its last hidden layer as `embed`.

    Raises:
        ValueError: a width below 1.
    """
    if not isinstance(widths, Sequence) or isinstance(widths, str):
        raise ValueError(f"widths: expected whole numbers, e.g. (128, 128); got {widths!r}. Give a tuple.")
    for width in widths:
        checks.at_least("widths", width, 1)
    return from_linen(MLP(num_classes, widths=tuple(widths)), image_shape, num_classes, name="mlp")

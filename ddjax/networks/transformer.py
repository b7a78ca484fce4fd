"""A small Transformer encoder for texts: attention and perceptrons, the mean over words, one dense layer."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ddjax import checks
from ddjax.facts import noted
from ddjax.networks.adapters import from_linen
from ddjax.types import Network


def positions(length: int, width: int) -> np.ndarray:
    """Sines and cosines that tell the places of words apart.

        p_{l, 2i} = sin(l / 10000^{2i / width}),    p_{l, 2i+1} = cos(l / 10000^{2i / width})

    Args:
        length: the number L of words.
        width: the number of features of a word.

    Returns:
        `[L, width]` float64.

    References:
        Vaswani et al. 2017, arXiv 1706.03762, section 3.5.
    """
    angles = np.arange(length)[:, None] / 10_000 ** (np.arange(0, width, 2) / width)[None]
    return np.stack([np.sin(angles), np.cos(angles)], -1).reshape(length, -1)[:, :width]


class Block(nn.Module):
    """Attention and a perceptron, each after a layer norm and added to what went in.

    Attributes:
        width: the number of features of a word.
        heads: the number of heads of the attention.
    """

    width: int
    heads: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """The features of each word: `[n, L, width] -> [n, L, width]`."""
        seen = nn.LayerNorm(param_dtype=float, name="norm1")(x)
        x = x + nn.MultiHeadDotProductAttention(self.heads, param_dtype=float, name="attention")(seen)
        hidden = nn.LayerNorm(param_dtype=float, name="norm2")(x)
        hidden = nn.gelu(nn.Dense(4 * self.width, param_dtype=float, name="fc1")(hidden))
        return x + nn.Dense(self.width, param_dtype=float, name="fc2")(hidden)


class Transformer(nn.Module):
    """A dense layer for each word, positions, blocks, the mean over words, and a dense layer.

    Attributes:
        num_classes: the number of classes, K.
        width: the number of features of a word.
        depth: the number of blocks.
        heads: the number of heads of each attention.
    """

    num_classes: int
    width: int
    depth: int
    heads: int

    def setup(self) -> None:
        """Define the layers."""
        self.entry = nn.Dense(self.width, param_dtype=float)
        self.blocks = [Block(self.width, self.heads, name=f"block{i}") for i in range(1, self.depth + 1)]
        self.norm = nn.LayerNorm(param_dtype=float)
        self.classifier = nn.Dense(self.num_classes, param_dtype=float)

    def embed(self, x: jax.Array) -> jax.Array:
        """The features that the last dense layer sees.

        Args:
            x: the embedded texts, `[n, L, F]`.

        Returns:
            The mean features of the words, `[n, width]`.
        """
        x = self.entry(x)
        x = x + jnp.asarray(positions(x.shape[1], self.width), x.dtype)[None]
        for block in self.blocks:
            x = block(x)
        return self.norm(x).mean(1)

    def __call__(self, x: jax.Array) -> jax.Array:
        """The logits of texts: `[n, L, F] -> [n, K]`."""
        return self.classifier(self.embed(x))


@noted
def transformer(
    input_shape: tuple[int, ...], num_classes: int, *, width: int = 64, depth: int = 2, heads: int = 4
) -> Network:
    """A Transformer encoder without dropout, with norms before attention and perceptron.

    The rows of `<pad>` are read like words.

    Args:
        input_shape: the number of words of a text and of numbers in a word's vector, `(L, F)`.
        num_classes: the number of classes, K.
        width: the number of features of a word, a multiple of `heads`.
        depth: the number of blocks.
        heads: the number of heads of each attention.

    Returns:
        The network, with the mean features of the words as `embed`.

    Raises:
        ValueError: inputs that are no texts, a number below 1, or a width that the heads do not divide.

    References:
        Vaswani et al. 2017, arXiv 1706.03762; norms before the layers: Xiong et al. 2020, arXiv 2002.04745.
    """
    shape = checks.text_shape("transformer", input_shape)
    for name, value in (("width", width), ("depth", depth), ("heads", heads)):
        checks.at_least(name, value, 1)
    if width % heads:
        raise ValueError(f"width: expected a multiple of the {heads} heads; got {width}. Give another width.")
    module = Transformer(num_classes, width, depth, heads)
    return from_linen(module, shape, num_classes, name="transformer")

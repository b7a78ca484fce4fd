"""BiLSTM: layers of long short-term memory that read a text in both directions, then one dense layer."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from ddjax import checks
from ddjax.facts import noted
from ddjax.networks.adapters import from_linen
from ddjax.types import Network


class LSTM(nn.Module):
    """One layer in one direction, from zero states.

        i, f, g, o = W x_l + U h_{l-1} + b,    c_l = σ(f) c_{l-1} + σ(i) tanh(g),    h_l = σ(o) tanh(c_l)

    Attributes:
        width: the number of hidden units.
        is_reversed: whether the last word is read first.
    """

    width: int
    is_reversed: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """The hidden states at each word: `[n, L, F] -> [n, L, width]`."""
        # All words at once; only the product with the hidden state has to wait for the word before.
        seen = jnp.swapaxes(nn.Dense(4 * self.width, param_dtype=float, name="input")(x), 0, 1)
        again = nn.Dense(4 * self.width, use_bias=False, param_dtype=float, name="hidden")
        start = jnp.zeros((x.shape[0], self.width), seen.dtype)
        again(start)  # its weights exist before the scan
        kernel = again.variables["params"]["kernel"].astype(seen.dtype)

        def read(state: tuple[jax.Array, jax.Array], word: jax.Array) -> tuple[tuple, jax.Array]:
            hidden, cell = state
            entry, forget, new, out = jnp.split(word + hidden @ kernel, 4, -1)
            cell = nn.sigmoid(forget) * cell + nn.sigmoid(entry) * jnp.tanh(new)
            hidden = nn.sigmoid(out) * jnp.tanh(cell)
            return (hidden, cell), hidden

        _, states = lax.scan(read, (start, start), seen, reverse=self.is_reversed)
        return jnp.swapaxes(states, 0, 1)


class BiLSTM(nn.Module):
    """Layers that read in both directions, then a dense layer on the last state of each direction.

    Attributes:
        num_classes: the number of classes, K.
        width: the number of hidden units of each direction.
        depth: the number of layers.
    """

    num_classes: int
    width: int
    depth: int

    def setup(self) -> None:
        """Define the layers."""
        self.forward = [LSTM(self.width, False, name=f"forward{i}") for i in range(1, self.depth + 1)]
        self.backward = [LSTM(self.width, True, name=f"backward{i}") for i in range(1, self.depth + 1)]
        self.classifier = nn.Dense(self.num_classes, param_dtype=float)

    def embed(self, x: jax.Array) -> jax.Array:
        """The features that the dense layer sees.

        Args:
            x: the embedded texts, `[n, L, F]`.

        Returns:
            The state of each direction after its last word, `[n, 2 * width]`.
        """
        ahead = back = x
        for forward, backward in zip(self.forward, self.backward, strict=True):
            ahead, back = forward(x), backward(x)
            x = jnp.concatenate([ahead, back], -1)
        return jnp.concatenate([ahead[:, -1], back[:, 0]], -1)

    def __call__(self, x: jax.Array) -> jax.Array:
        """The logits of texts: `[n, L, F] -> [n, K]`."""
        return self.classifier(self.embed(x))


@noted
def bilstm(input_shape: tuple[int, ...], num_classes: int, *, width: int = 100, depth: int = 2) -> Network:
    """BiLSTM; the defaults are TextLSTM2 of text distillation.

    A layer has one bias for its four gates, where PyTorch adds two of them. The rows of `<pad>` are read like
    words.

    Args:
        input_shape: the number of words of a text and of numbers in a word's vector, `(L, F)`.
        num_classes: the number of classes, K.
        width: the number of hidden units of each direction.
        depth: the number of layers.

    Returns:
        The network, with the last states of both directions as `embed`.

    Raises:
        ValueError: inputs that are no texts, or a width or depth below 1.

    References:
        Hochreiter and Schmidhuber 1997; Sucholutsky and Schonlau 2021, arXiv 1910.02551.
    """
    shape = checks.text_shape("bilstm", input_shape)
    checks.at_least("width", width, 1)
    checks.at_least("depth", depth, 1)
    return from_linen(BiLSTM(num_classes, width, depth), shape, num_classes, name="bilstm")

"""TextConvNet: filters over windows of words, the largest output of each, one dense layer."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from ddjax import checks
from ddjax.facts import noted
from ddjax.networks.adapters import from_linen
from ddjax.types import Network


class Filters(nn.Module):
    """Filters over windows of words, and of each filter the largest output in the text.

    Attributes:
        size: the number of words in a window.
        width: the number of filters.
    """

    size: int
    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """The largest outputs: `[n, L, F] -> [n, width]`."""
        count, features = x.shape[1] - self.size + 1, x.shape[2]
        # An axis of one channel, as in the original: p(θ0) counts words and features as the receptive field.
        shape = (self.size, features, 1, self.width)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape, float)
        bias = self.param("bias", nn.initializers.zeros, (self.width,), float)
        # One matrix product, whose derivatives of any order are matrix products again.
        windows = jnp.concatenate([x[:, start : start + count] for start in range(self.size)], -1)
        outputs = windows @ kernel.reshape(self.size * features, self.width).astype(x.dtype)
        return outputs.max(1) + bias[None].astype(x.dtype)


class TextConvNet(nn.Module):
    """Filters over windows of several sizes side by side, then one dense layer.

    Attributes:
        num_classes: the number of classes, K.
        width: the number of filters of each size.
        windows: the sizes of the windows, in words.
    """

    num_classes: int
    width: int
    windows: tuple[int, ...]

    def setup(self) -> None:
        """Define the layers."""
        self.filters = [Filters(size, self.width, name=f"conv{size}") for size in self.windows]
        self.classifier = nn.Dense(self.num_classes, param_dtype=float)

    def embed(self, x: jax.Array) -> jax.Array:
        """The features that the dense layer sees.

        Args:
            x: the embedded texts, `[n, L, F]`.

        Returns:
            The features, `[n, len(windows) * width]`.
        """
        # ReLU and maximum commute, and after the maximum there is less to compute.
        return nn.relu(jnp.concatenate([filters(x) for filters in self.filters], -1))

    def __call__(self, x: jax.Array) -> jax.Array:
        """The logits of texts: `[n, L, F] -> [n, K]`."""
        return self.classifier(self.embed(x))


@noted
def textconv(
    input_shape: tuple[int, ...], num_classes: int, *, width: int = 100, windows: Sequence[int] = (3, 4, 5)
) -> Network:
    """TextConvNet; the defaults are TextConvNet1 of text distillation, without its dropout.

        h_w = relu(max_l (b_w + Σ_i W_w,i x_{l+i})),    logits = dense([h_3, h_4, h_5])

    Args:
        input_shape: the number of words of a text and of numbers in a word's vector, `(L, F)`.
        num_classes: the number of classes, K.
        width: the number of filters of each window.
        windows: the number of words that filters see, each at most L.

    Returns:
        The network, with the largest outputs of the filters as `embed`.

    Raises:
        ValueError: inputs that are no texts, a width below 1, or texts shorter than a window.

    References:
        Kim 2014, arXiv 1408.5882; Sucholutsky and Schonlau 2021, arXiv 1910.02551.
    """
    length, features = checks.text_shape("textconv", input_shape)
    checks.at_least("width", width, 1)
    if not isinstance(windows, Sequence) or isinstance(windows, str) or not windows:
        raise ValueError(f"windows: expected whole numbers, e.g. (3, 4, 5); got {windows!r}. Give a tuple.")
    for size in windows:
        checks.at_least("windows", size, 1)
    if max(windows) > length or len(set(windows)) < len(windows):
        raise ValueError(
            f"textconv: expected windows of at most {length} words, as long as a text, each once; got "
            f"{tuple(windows)}. Give others, or a greater length of texts."
        )
    module = TextConvNet(num_classes, width, tuple(windows))
    return from_linen(module, (length, features), num_classes, name="textconv")

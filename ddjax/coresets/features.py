"""What selections look at: features and gradients of a network, for a whole split in chunks."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ddjax import checks
from ddjax.data import Split
from ddjax.types import Batch, Encoding, Network, Params

CHUNK = 64
"""Images that a network sees at once: what they become stays in a processor's cache.

Measured with a ConvNet-3 of 32 channels on two cores: 154 µs of the processor an image, 313 with 1,000 at
once; with 128 channels there is no difference.
"""


def embeddings(network: Network, params: Params, split: Split) -> np.ndarray:
    """The features of all images: what the network's last layer sees.

    Args:
        network: with an `embed`.
        params: its weights; the published coresets take those of a network trained on the whole set.
        split: real images.

    Returns:
        `[n, F]` float32.

    Raises:
        ValueError: a network without `embed`, or for other images.
    """
    embed = _embed(network)
    return _for_all(lambda params, batch: embed(params, batch.inputs), network, params, split)


def last_layer_gradients(network: Network, params: Params, split: Split) -> np.ndarray:
    """The gradient of each image's cross-entropy, as far as the last layer tells.

        g = (softmax(z) - y) √(1 + ‖h‖²)    with logits z = W h + b and label y

    ∂ℓ/∂(W, b) = (softmax(z) - y) ⊗ (h, 1) has exactly this norm; of its direction, what h has to say is
    left out, so that g has K numbers instead of K (F + 1).

    Args:
        network: with an `embed`.
        params: its weights.
        split: real images.

    Returns:
        `[n, K]` float32.

    Raises:
        ValueError: a network without `embed`, or for other images or fewer classes.

    References:
        Mirzasoleiman et al. 2020, arXiv 1906.01827, section 3.4; Katharopoulos and Fleuret 2018,
        arXiv 1803.00942.
    """
    embed = _embed(network)
    checks.at_least(
        f"{network.name}'s number of classes",
        network.num_classes,
        split.num_classes,
        remedy="Build the network for these data.",
    )

    def gradient(params: Params, batch: Batch) -> jax.Array:
        residual = jax.nn.softmax(network.apply(params, batch.inputs))
        residual -= jax.nn.one_hot(batch.labels, network.num_classes)
        return residual * jnp.sqrt(1 + jnp.sum(embed(params, batch.inputs) ** 2, -1, keepdims=True))

    return _for_all(gradient, network, params, split)


def _embed(network: Network) -> Callable[[Params, jax.Array], jax.Array]:
    checks.kind("network", network, Network, remedy="Build it with ddjax.networks.")
    if network.embed is None:
        raise ValueError(
            f"{network.name}: expected a network that gives features; it has no embed. Build it with "
            "from_functions(..., embed=...), or give the module a method embed."
        )
    return network.embed


def _for_all(
    function: Callable[[Params, Batch], jax.Array], network: Network, params: Params, split: Split
) -> np.ndarray:
    """`function(params, batch) -> [n, F]` of a whole split, in chunks."""
    checks.kind("split", split, Split, remedy="Give data.train.")
    checks.same_inputs("the split", split.input_shape, network)
    encoding = jax.tree.map(jnp.asarray, split.encoding)

    @jax.jit
    def compute(params: Params, encoding: Encoding, raw: jax.Array, labels: jax.Array) -> jax.Array:
        return function(params, Batch(encoding.encode(raw), labels))

    size, parts = min(CHUNK, len(split)), []
    for start in range(0, len(split), size):
        # The last chunk reaches back, so that all have one shape.
        first = min(start, len(split) - size)
        chunk = slice(first, first + size)
        found = compute(params, encoding, jnp.asarray(split.raw[chunk]), jnp.asarray(split.labels[chunk]))
        parts.append(np.asarray(found)[start - first :])
    return np.concatenate(parts)

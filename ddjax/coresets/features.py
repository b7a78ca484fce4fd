"""Features and gradients of a network for all images of a split, for selections to look at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddjax import checks
from ddjax.data import Split
from ddjax.types import Batch, Encoding, Network, Params

CHUNK = 64
"""The number of images that a network sees at once; so few that activations stay in a processor's cache.

Measured with a ConvNet-3 of 32 channels on two cores: 154 µs of processor time for an image, but 313 µs with
1,000 images at once; with 128 channels there is no difference.
"""


def embeddings(network: Network, params: Params, split: Split) -> np.ndarray:
    """The features of all images: the input of the network's last layer.

    Args:
        network: the network, which must have an `embed`.
        params: the network's weights; for the published coresets those after training on the whole set.
        split: the real images.

    Returns:
        The features, `[n, F]` float32.

    Raises:
        ValueError: the network has no `embed`, or takes inputs of another shape.
    """
    embed = _embed(network)
    return _for_all(lambda params, batch: embed(params, batch.inputs), network, params, split)


def last_layer_gradients(network: Network, params: Params, split: Split) -> np.ndarray:
    """The gradient of each image's cross-entropy in the last layer, reduced to K numbers.

        g = (softmax(z) - y) √(1 + ‖h‖²)    with logits z = W h + b and label y

    ∂ℓ/∂(W, b) = (softmax(z) - y) ⊗ (h, 1) has exactly the norm of g. The part of its direction that depends
    on h is left out, so that g has K numbers instead of K (F + 1).

    Args:
        network: the network, which must have an `embed`.
        params: the network's weights.
        split: the real images.

    Returns:
        The reduced gradients, `[n, K]` float32.

    Raises:
        ValueError: the network has no `embed`, takes inputs of another shape, or has another number of
            classes.

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


def feature_gradients(logits: Any, labels: Any, kernel: Any) -> np.ndarray:
    """The gradient of each example's cross-entropy in the inputs of a dense last layer.

        ∂ℓ/∂h = (softmax(z) - y) Wᵀ    with logits z = h W + b and label y

    Args:
        logits: `[n, K]`, z.
        labels: `[n]`, the class that each example is labelled as.
        kernel: `[F, K]`, the weights W of the last layer (`last_layer_kernel`).

    Returns:
        `[n, F]`, the gradients, in the dtype of the logits.

    References:
        Mirzasoleiman, Cao and Leskovec 2020, Coresets for Robust Training of Neural Networks against Noisy
        Labels (CRUST), whose selections look at these.
    """
    logits = np.asarray(logits)
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    residual = powers / powers.sum(-1, keepdims=True)
    residual[np.arange(len(logits)), np.asarray(labels)] -= 1
    return residual @ np.asarray(kernel, logits.dtype).T


def last_layer_kernel(network: Network, params: Params) -> np.ndarray:
    """The weights of a network's dense last layer, found by what they do.

    Args:
        network: the network, which must have an `embed`.
        params: the weights of the network.

    Returns:
        `[F, K]`, the only weights W of this shape for which logits - features W is the same row for all
        inputs.

    Raises:
        ValueError: the network has no `embed`, or no such weights.
    """
    embed = _embed(network)
    inputs = np.random.default_rng(0).normal(size=(4, *network.input_shape)).astype(np.float32)
    features = np.asarray(embed(params, jnp.asarray(inputs)), np.float64)
    logits = np.asarray(network.apply(params, jnp.asarray(inputs)), np.float64)
    shape = features.shape[1], logits.shape[1]
    for leaf in jax.tree.leaves(params):
        if leaf.shape == shape:
            rest = logits - features @ np.asarray(leaf, np.float64)
            if np.abs(rest - rest[0]).max() <= 1e-3 * np.abs(logits - logits[0]).max():
                return np.asarray(leaf)
    raise ValueError(
        f"{network.name}: expected a dense last layer on the features, with weights {list(shape)}; found "
        "none. Use last_layer_gradients, which need none."
    )


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
    """The values `function(params, batch) -> [n, F]` for a whole split, computed in chunks."""
    checks.kind("split", split, Split, remedy="Give data.train.")
    checks.same_inputs("the split", split.input_shape, network)
    encoding = jax.tree.map(jnp.asarray, split.encoding)

    @jax.jit
    def compute(params: Params, encoding: Encoding, raw: jax.Array, labels: jax.Array) -> jax.Array:
        return function(params, Batch(encoding.encode(raw), labels))

    size, parts = min(CHUNK, len(split)), []
    for start in range(0, len(split), size):
        # The last chunk overlaps the one before, so that all chunks have one shape.
        first = min(start, len(split) - size)
        chunk = slice(first, first + size)
        found = compute(params, encoding, jnp.asarray(split.raw[chunk]), jnp.asarray(split.labels[chunk]))
        parts.append(np.asarray(found)[start - first :])
    return np.concatenate(parts)

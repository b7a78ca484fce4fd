"""What experts know of real images: which ones they classify right, and what logits they give them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from ddjax import checks
from ddjax.coresets import check_enough
from ddjax.data import Split
from ddjax.experts import Experts
from ddjax.types import Network

_AT_ONCE = 64
"""The number of images that are classified at once."""


def classified_right(
    experts: Experts, network: Network, split: Split, *, per_class: int, num_classes: int, seed: int
) -> np.ndarray:
    """Random images of each class that a random expert, at its last checkpoint, classifies right.

    Args:
        experts: the experts.
        network: the network of the experts.
        split: the split to take images from.
        per_class: the number of images of each class.
        num_classes: K, the number of classes.
        seed: the seed of the expert and of the order of the images.

    Returns:
        The positions of the images in the split, `[K, per_class]` int64.

    Raises:
        ValueError: the expert classifies too few images of a class right.

    References:
        Guo et al. 2024, arXiv 2310.05773 (DATM), section 3.3.
    """
    check_enough(split, per_class, num_classes)
    checks.at_least("seed", seed, 0)
    rng = np.random.default_rng(seed)
    number = rng.integers(len(experts))
    params = jax.tree.map(lambda leaf: leaf[number], experts.last(network))
    apply = jax.jit(network.apply)

    def is_right(rows: np.ndarray) -> np.ndarray:
        # Filled up, so that one program serves every piece.
        filled = np.resize(rows, _AT_ONCE)
        answers = np.asarray(apply(params, split.at(filled).encoded())).argmax(-1)
        return (answers == split.labels[filled])[: len(rows)]

    def of_class(label: int) -> np.ndarray:
        found = np.empty(0, np.int64)
        order = rng.permutation(np.flatnonzero(split.labels == label))
        for start in range(0, len(order), _AT_ONCE):
            rows = order[start : start + _AT_ONCE]
            found = np.concatenate([found, rows[is_right(rows)]])
            if len(found) >= per_class:
                return found[:per_class]
        raise ValueError(
            f"images per class: expected at most {len(found)}, which expert {number} classifies right in "
            f"class {label}; got {per_class}. Ask for fewer, train the experts longer, or start from real "
            "images."
        )

    return np.stack([of_class(label) for label in range(num_classes)])


def mean_logits(experts: Experts, network: Network, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The mean logits of those experts that classify an image right, at their last checkpoint.

    Args:
        experts: the experts.
        network: the network of the experts.
        images: the encoded images, `[m, *input_shape]`.
        labels: the classes of the images, `[m]` whole numbers.

    Returns:
        `[m, K]` float64; of an image that no expert classifies right, the mean of all.

    References:
        Guo et al. 2024, arXiv 2310.05773 (DATM), section 3.3.
    """
    each = jax.jit(lambda params: jax.lax.map(lambda one: network.apply(one, jnp.asarray(images)), params))
    logits = np.asarray(each(experts.last(network)), np.float64)
    right = logits.argmax(-1) == labels
    counts = np.where(right.any(0), right, True)[..., None]
    return (logits * counts).sum(0) / counts.sum(0)

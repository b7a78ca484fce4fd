"""What a trained network says of all examples of a split, computed in pieces by one compiled program."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import numpy as np

from ddjax import checks
from ddjax.data import Split
from ddjax.judge import Chunks, check_split, chunks
from ddjax.types import Network, Params


def logits(network: Network, params: Params, split: Split, *, pieces: Chunks | None = None) -> np.ndarray:
    """The logits of all examples.

    Args:
        network: the network.
        params: the weights of the network.
        split: the examples; their labels are not used.
        pieces: the split on the device (`ddjax.judge.chunks`), for who asks many times; by default copied
            there now, and whitened, where the encoding is a whitening.

    Returns:
        `[n, K]`, in the order of the split.

    Raises:
        ValueError: the network takes inputs of another shape, or has fewer classes than the split.
    """
    check_split(split, network)
    found = np.asarray(_outputs(params, pieces or chunks(split), function=network.apply))
    return found.reshape(-1, found.shape[-1])[: len(split)]


@functools.partial(jax.jit, static_argnames="function")
def _outputs(
    params: Params, data: Chunks, *, function: Callable[[Params, jax.Array], jax.Array]
) -> jax.Array:
    return jax.lax.map(lambda raw: function(params, data.encoding.encode(raw)), data.raw)


def class_accuracies(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The share of each class's examples whose largest logit is that of the class.

    Args:
        logits: `[n, K]`, the logits of the examples.
        labels: `[n]` whole numbers in [0, K), the classes of the examples.

    Returns:
        `[K]`, in percent; NaN for a class without examples.

    Raises:
        ValueError: the numbers of rows and labels differ.
    """
    checks.equal("labels: how many", len(labels), len(logits), remedy="Give one for each row of logits.")
    num_classes = logits.shape[1]
    is_right = np.argmax(logits, -1) == labels
    counts = np.bincount(labels, minlength=num_classes).astype(np.float64)
    right = np.bincount(labels, weights=is_right, minlength=num_classes)
    return 100 * np.divide(right, counts, out=np.full(num_classes, np.nan), where=counts > 0)


def accuracy(network: Network, params: Params, split: Split) -> float:
    """The share of all examples whose largest logit is that of their class.

    Args:
        network: the network.
        params: the weights of the network.
        split: the examples.

    Returns:
        The accuracy, in percent.

    Raises:
        ValueError: see `logits`.
    """
    return 100 * float(np.mean(np.argmax(logits(network, params, split), -1) == split.labels))

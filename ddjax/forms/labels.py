"""Label distillation: images that stay, labels that are learned."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddjax import checks
from ddjax.forms.pixels import inverse_softplus
from ddjax.types import Form, Schedule


class LabelParams(NamedTuple):
    """The parameters of `labels`.

    Attributes:
        inputs: `[S, B, *input_shape]` float, encoded; they never move.
        labels: `[S, B, K]` float, probabilities, or the logits of a softmax.
        raw_lrs: `[E, S]` float, η = softplus(raw); None where the recipe brings its own optimiser.
    """

    inputs: jax.Array
    labels: jax.Array
    raw_lrs: jax.Array | None


def onto_simplex(labels: jax.Array) -> jax.Array:
    """Rows of numbers made probabilities: what is negative becomes zero, then the rest is divided by its sum.

        y_k ← max(y_k, 0) / Σ_j max(y_j, 0)

    Args:
        labels: `[..., K]` float.

    Returns:
        `[..., K]`, rows that sum to one; 1 / K each where no number of a row is positive.

    References:
        Bohdal, Yang and Hospedales 2020, arXiv 2006.08572: clipped and normalised after every update.
    """
    clipped = jnp.maximum(labels, 0)
    total = clipped.sum(-1, keepdims=True)
    is_empty = total == 0
    return jnp.where(is_empty, 1 / labels.shape[-1], clipped / jnp.where(is_empty, 1, total))


def labels(
    inputs: np.ndarray,
    num_classes: int,
    *,
    initial_labels: np.ndarray | None = None,
    label_form: Literal["simplex", "softmax"] = "simplex",
    inner_lr: float | None = None,
    inner_epochs: int = 1,
) -> Form:
    """Fixed inputs whose labels are learned, and learning rates where a method learns them.

    Any number of inputs goes with any number of classes, and the inputs may come from other data than those
    that are tested on.

    Args:
        inputs: `[S, B, *input_shape]` float, encoded; S steps of B inputs.
        num_classes: K.
        initial_labels: `[S, B, K]` probabilities to start from; 1 / K each by default.
        label_form: `"simplex"` moves the probabilities themselves and projects them after every update
            (`onto_simplex`); `"softmax"` moves logits, and needs initial labels above zero.
        inner_lr: η at the start; None for a form without learning rates, for methods that learn none.
        inner_epochs: E.

    Returns:
        A form whose parameters are `LabelParams`, in the groups "frozen", "labels" and "lrs".

    Raises:
        ValueError: inputs that are not finite floats `[S, B, ...]`, labels that are no probabilities of
            these inputs, a count below one, or a learning rate that is not positive.

    References:
        Bohdal, Yang and Hospedales 2020, Flexible Dataset Distillation, arXiv 2006.08572.
    """
    checks.at_least("num_classes", num_classes, 1)
    checks.at_least("inner_epochs", inner_epochs, 1)
    checks.choice("label_form", label_form, ("simplex", "softmax"))
    if inner_lr is not None:
        checks.positive("inner_lr", inner_lr)
    fixed = _checked_inputs(inputs)
    steps, size = fixed.shape[:2]
    start = _checked_start(initial_labels, (steps, size, num_classes), is_softmax=label_form == "softmax")
    is_softmax = label_form == "softmax"

    def init(key: jax.Array) -> LabelParams:
        del key
        raw = None
        if inner_lr is not None:
            raw = jnp.full((inner_epochs, steps), inverse_softplus(inner_lr), fixed.dtype)
        first = np.log(start) if is_softmax else start
        return LabelParams(jnp.asarray(fixed), jnp.asarray(first, fixed.dtype), raw)

    def unfold(params: LabelParams) -> Schedule:
        targets = jax.nn.softmax(params.labels) if is_softmax else params.labels
        lrs = None if params.raw_lrs is None else jax.nn.softplus(params.raw_lrs)
        return Schedule(params.inputs, targets, lrs)

    def groups(params: LabelParams) -> Any:
        names: tuple[Any, ...] = ("frozen", "labels", None if params.raw_lrs is None else "lrs")
        return LabelParams(*names)

    def project(params: LabelParams) -> LabelParams:
        return params._replace(labels=onto_simplex(params.labels))

    return Form(init, unfold, "labels", groups=groups, project=None if is_softmax else project)


def _checked_inputs(inputs: Any) -> np.ndarray:
    array = np.asarray(inputs)
    is_float = np.issubdtype(array.dtype, np.floating)
    if array.ndim < 3 or not array.size or not is_float or not np.isfinite(array).all():
        raise ValueError(
            f"inputs: expected finite floats [S, B, ...], encoded; got {array.dtype}{list(array.shape)}, or "
            "NaN or infinity. Give what the data's encoding makes of real examples."
        )
    return array


def _checked_start(labels: Any, shape: tuple[int, int, int], *, is_softmax: bool) -> np.ndarray:
    if labels is None:
        return np.full(shape, 1 / shape[-1])
    array = np.asarray(labels, np.float64)
    checks.equal("initial_labels.shape", array.shape, shape, remedy="Give a row for each input.")
    least = array.min() > 0 if is_softmax else array.min() >= 0
    if not np.isfinite(array).all() or not least or not np.allclose(array.sum(-1), 1):
        raise ValueError(
            f"initial_labels: expected probabilities {'above zero ' if is_softmax else ''}whose rows sum to "
            "one; got others. Divide each row by its sum, or smooth the rows."
        )
    return array

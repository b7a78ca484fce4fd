"""Label distillation: the images are fixed, and the labels are learned."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddjax import checks
from ddjax.facts import noted
from ddjax.forms.targets import inverse_softplus
from ddjax.types import Form, Schedule


class LabelParams(NamedTuple):
    """The parameters of `labels`.

    Attributes:
        inputs: `[S, B, *input_shape]` float, the encoded inputs, which never change.
        labels: `[S, B, K]` float, probabilities, or the logits of a softmax.
        raw_lrs: `[E, S]` float, the parameters of the learning rates η = softplus(raw_lrs); None where the
            recipe has its own optimiser.
    """

    inputs: jax.Array
    labels: jax.Array
    raw_lrs: jax.Array | None


def onto_simplex(labels: jax.Array) -> jax.Array:
    """Rows of numbers turned into probabilities: negative numbers become zero, then each row sums to one.

        y_k ← max(y_k, 0) / Σ_j max(y_j, 0)

    Args:
        labels: `[..., K]` float, the rows.

    Returns:
        `[..., K]`, rows that sum to one; a row without a positive number becomes 1 / K everywhere.

    References:
        Bohdal, Yang and Hospedales 2020, arXiv 2006.08572: clipped and normalised after every update.
    """
    clipped = jnp.maximum(labels, 0)
    total = clipped.sum(-1, keepdims=True)
    is_empty = total == 0
    return jnp.where(is_empty, 1 / labels.shape[-1], clipped / jnp.where(is_empty, 1, total))


@noted
def labels(
    inputs: np.ndarray,
    num_classes: int,
    *,
    initial_labels: np.ndarray | None = None,
    label_form: Literal["simplex", "softmax"] = "simplex",
    inner_lr: float | None = None,
    inner_epochs: int = 1,
) -> Form:
    """Fixed inputs whose labels are learned, and learned learning rates for the methods that use them.

    The number of inputs and the number of classes are independent, and the inputs may be from other data than
    the test examples.

    Args:
        inputs: `[S, B, *input_shape]` float, the encoded inputs of S steps, B in each step.
        num_classes: the number K of classes.
        initial_labels: `[S, B, K]`, the probabilities to start from; by default 1 / K everywhere.
        label_form: the parameters of the labels. `"simplex"` moves the probabilities themselves and projects
            them after every update (`onto_simplex`); `"softmax"` moves logits, and needs initial labels above
            zero.
        inner_lr: the learning rate η at the start; None for a form without learning rates, for methods that
            learn none.
        inner_epochs: the number E of passes over the S steps.

    Returns:
        A form whose parameters are `LabelParams`, in the groups "frozen", "labels" and "lrs".

    Raises:
        ValueError: the inputs are not finite floats `[S, B, ...]`, the labels are no probabilities
            `[S, B, K]`, the form of labels is unknown, a count is below one, or the learning rate is not
            positive.

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
        raw, inputs = None, jnp.asarray(fixed, jax.dtypes.canonicalize_dtype(fixed.dtype))
        if inner_lr is not None:
            raw = jnp.full((inner_epochs, steps), inverse_softplus(inner_lr), inputs.dtype)
        first = np.log(start) if is_softmax else start
        return LabelParams(inputs, jnp.asarray(first, inputs.dtype), raw)

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

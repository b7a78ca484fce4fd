"""The two parts of a form besides the images: labels, hard or learned, and learned learning rates."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from ddjax import checks

LabelForm = Literal["hard", "softmax", "free", "nonnegative", "centred"]
"""The form of labels: "hard" for fixed labels, "softmax" for learned probabilities, "free" for learned
numbers, "nonnegative" for learned numbers that every update of φ leaves at zero or above, "centred" for
learned numbers whose rows sum to zero at the start."""

DECAYS = ("constant", "cosine")
"""The ways in which learned rates may fall at the start; see `Rates`."""


def inverse_softplus(value: float | np.ndarray) -> np.ndarray:
    """The raw parameter whose softplus is η > 0, log(exp(η) - 1).

    Computed as η + log(1 - exp(-η)), so that a large η does not overflow.

    Args:
        value: the values of η, above zero, of any shape.

    Returns:
        The raw parameters in float64, of the same shape.
    """
    value = np.asarray(value, np.float64)
    return value + np.log(-np.expm1(-value))


@dataclasses.dataclass(frozen=True, eq=False)
class Labels:
    """The labels of a form: fixed, or a leaf of the form's parameters.

    Attributes:
        given: `[S, B, K]`, the fixed labels, or those that learned labels start from.
        kind: the form of the labels, a `LabelForm`.
        confidence: the probability of an image's own class at the start of softmax labels; None where `given`
            holds the probabilities.
        scale: the factor on the start of learned labels that are no softmax.
    """

    given: np.ndarray
    kind: str
    confidence: float | None = None
    scale: float = 1.0

    def start(self, dtype: Any) -> jax.Array | None:
        """The parameters that unfold into the first labels.

        Args:
            dtype: the dtype of the parameters.

        Returns:
            `[S, B, K]`; None for fixed labels.
        """
        if self.kind == "hard":
            return None
        start = _start_of_labels(self.given, self.kind, self.confidence)
        return jnp.asarray(start if self.kind == "softmax" else self.scale * start, dtype)

    def unfold(self, parameters: jax.Array | None, dtype: Any) -> jax.Array:
        """The labels for their parameters.

        Args:
            parameters: `[S, B, K]`, the leaf that `start` began; None for fixed labels.
            dtype: the dtype of fixed labels.

        Returns:
            `[S, B, K]`.
        """
        if parameters is None:
            return jnp.asarray(self.given, dtype)
        return jax.nn.softmax(parameters) if self.kind == "softmax" else parameters

    def project(self, parameters: jax.Array | None) -> jax.Array | None:
        """The parameters after an update of φ: numbers below zero are set to zero where they must be.

        Args:
            parameters: `[S, B, K]`; None for fixed labels.

        Returns:
            The parameters, of the same shape.
        """
        if parameters is None or self.kind != "nonnegative":
            return parameters
        return jnp.maximum(parameters, 0)


@dataclasses.dataclass(frozen=True)
class Rates:
    """The learned learning rates of a form, η = softplus(raw), or none.

    Attributes:
        shape: `(E, S)`, the numbers of epochs and of steps.
        inner_lr: η at the start; None for a form without learning rates.
        max_lr: the bound to which larger η are set after an update of φ; None for no bound.
        decay: the fall of η over the T = E·S steps at the start: "constant" for none, "cosine" for η at step
            t of `inner_lr` · (1 + cos(π t / T)) / 2.

    Raises:
        ValueError: a count below one, a rate that is not positive, a bound below the start, or an unknown
            fall.
    """

    shape: tuple[int, int]
    inner_lr: float | None
    max_lr: float | None = None
    decay: str = "constant"

    def __post_init__(self) -> None:
        checks.at_least("inner_epochs", self.shape[0], 1)
        checks.at_least("inner_steps", self.shape[1], 1)
        if self.inner_lr is not None:
            checks.positive("inner_lr", self.inner_lr)
        if self.max_lr is not None:
            least = self.inner_lr or 0
            checks.at_least("max_lr", self.max_lr, least, integer=False, remedy="Start below the bound.")
        checks.choice("lr_decay", self.decay, DECAYS)

    def start(self, dtype: Any) -> jax.Array | None:
        """The first parameters.

        Args:
            dtype: the dtype of the parameters.

        Returns:
            `[E, S]`; None without learning rates.
        """
        if self.inner_lr is None:
            return None
        if self.decay == "constant":
            return jnp.full(self.shape, inverse_softplus(self.inner_lr), dtype)
        places = np.arange(self.shape[0] * self.shape[1]).reshape(self.shape)
        rates = self.inner_lr * (1 + np.cos(np.pi * places / places.size)) / 2
        return jnp.asarray(inverse_softplus(rates), dtype)

    def unfold(self, raw: jax.Array | None) -> jax.Array | None:
        """The learning rates η for their parameters.

        Args:
            raw: `[E, S]`, the leaf that `start` began; None without learning rates.

        Returns:
            `[E, S]`, or None.
        """
        return None if raw is None else jax.nn.softplus(raw)

    def project(self, raw: jax.Array | None) -> jax.Array | None:
        """The parameters after an update of φ: those of larger η than the bound are set to the bound.

        Args:
            raw: `[E, S]`; None without learning rates.

        Returns:
            The parameters, of the same shape.
        """
        if raw is None or self.max_lr is None:
            return raw
        return jnp.minimum(raw, jnp.asarray(inverse_softplus(self.max_lr), raw.dtype))


def one_class_each(inner_steps: int, per_class: int, num_classes: int) -> np.ndarray:
    """The labels of steps that hold equally many images of each class, ordered by class.

    Args:
        inner_steps: the number S of steps.
        per_class: the number of images of one class in one step.
        num_classes: the number K of classes.

    Returns:
        `[S, B, K]` float64, rows with a one at the image's class; takes the memory of one step.
    """
    one_step = np.eye(num_classes)[np.repeat(np.arange(num_classes), per_class)]
    return np.broadcast_to(one_step, (inner_steps, *one_step.shape))


def label_form_of(
    label_form: str | None, confidence: float | None, initial_labels: Any, num_classes: int
) -> str:
    """The form of labels that settings describe.

    Args:
        label_form: the form of the labels, a `LabelForm`; None for softmax where a confidence is given, else
            hard.
        confidence: the probability of an image's own class at the start; None where none is given.
        initial_labels: the labels to start from; None where none are given.
        num_classes: the number K of classes.

    Returns:
        The `LabelForm`.

    Raises:
        ValueError: settings that contradict each other, or a confidence out of its range.
    """
    kind = label_form or ("hard" if confidence is None else "softmax")
    checks.choice("label_form", kind, get_args(LabelForm))
    if confidence is None:
        if kind == "softmax" and initial_labels is None:
            raise ValueError(
                "label_confidence: expected a probability that softmax labels start with; got none. Give for "
                "example 0.9, or initial_labels."
            )
        return kind
    if kind != "softmax" or initial_labels is not None:
        raise ValueError(
            f"label_confidence: expected it with softmax labels that start as one class each; got {kind} "
            "labels, or initial_labels. Leave it out."
        )
    if not 1 / num_classes < confidence < 1:
        raise ValueError(
            f"label_confidence: expected a probability between 1 / {num_classes} (no knowledge) and 1, both "
            f"excluded; got {confidence}. Give for example 0.9, or None for fixed hard labels."
        )
    return kind


def _start_of_labels(labels: np.ndarray, kind: str, confidence: float | None) -> np.ndarray:
    """The parameters that unfold into the first labels."""
    if kind != "softmax":
        return labels - (1 / labels.shape[-1] if kind == "centred" else 0)
    if confidence is None:
        return np.log(labels)
    odds = confidence * (labels.shape[-1] - 1) / (1 - confidence)
    return np.log(odds) * labels

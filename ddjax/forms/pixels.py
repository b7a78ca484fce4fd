"""Free pixels: every number of φ's inputs is a parameter; labels and rates may be learned too."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from ddjax import checks
from ddjax.facts import noted
from ddjax.types import Form, Schedule

LabelForm = Literal["hard", "softmax", "free", "centred"]
"""The form of labels: "hard" for fixed labels, "softmax" for learned probabilities, "free" for learned
numbers, "centred" for learned numbers whose rows sum to zero at the start."""


class PixelParams(NamedTuple):
    """The parameters of `pixels`.

    Attributes:
        images: `[S, B, *input_shape]` float, the encoded inputs.
        raw_lrs: `[E, S]` float, the parameters of the learning rates η = softplus(raw_lrs); None where the
            recipe has its own optimiser.
        label_logits: `[S, B, K]` float, the parameters of labels = softmax(label_logits), or the labels
            themselves where they are free; None where the labels are fixed.
    """

    images: jax.Array
    raw_lrs: jax.Array | None
    label_logits: jax.Array | None = None


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


@noted
def pixels(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    inner_steps: int = 10,
    inner_epochs: int = 3,
    images_per_class_per_step: int = 1,
    inner_lr: float | None = 0.02,
    max_lr: float | None = None,
    initial_images: np.ndarray | None = None,
    label_confidence: float | None = None,
    initial_labels: np.ndarray | None = None,
    label_form: LabelForm | None = None,
) -> Form:
    """Free pixels, hard or learned labels, one learning rate for each of the T = S·E steps.

        x̃ ~ N(0, 1) in encoded space,  η = softplus(raw),  raw = log(exp(η_init) - 1)

    Learned labels are ỹ = softmax(z), or free numbers of any sign and sum, which may start centred, as
    one-hot rows less 1/K. The logits start with z_k = log(p (K - 1) / (1 - p)) at an image's own class and 0
    at the other classes, so that the probability of the own class starts at p. The B = K ·
    images_per_class_per_step images of a step are ordered by class, unless `initial_labels` sets the number
    of images in a step and the label of each.

    Args:
        input_shape: the shape of one input; for images `(H, W, C)`.
        num_classes: the number K of classes.
        inner_steps: the number S of steps that have images of their own.
        inner_epochs: the number E of passes over those steps.
        images_per_class_per_step: the number of images of one class in one step; not used with
            `initial_labels`.
        inner_lr: the learning rate η at the start; None for a form without learning rates, for methods that
            learn none.
        max_lr: the largest learning rate, to which larger ones are set after every update of φ; None for no
            bound. A long training by ever larger rates is chaotic, and its gradient useless.
        initial_images: `[S, B, *input_shape]`, the encoded images to start from; None starts from noise.
        label_confidence: the probability p in (1 / K, 1) of an image's own class, at the start of softmax
            labels; None for other labels, or with `initial_labels`.
        initial_labels: `[S, B, K]`, the labels to start from; None starts with one class for each image.
        label_form: the form of the labels: `"hard"` keeps the labels fixed, `"softmax"` learns probabilities,
            `"free"` learns any numbers, `"centred"` too, from rows less 1/K, which squared error and ridge
            regression are for (no cross-entropy); by default softmax where a confidence is given, else hard.

    Returns:
        A form whose parameters are `PixelParams`, in the groups "data", "labels" and "lrs".

    Raises:
        ValueError: a count below one, a learning rate that is not positive, images or labels of another
            shape, a label confidence that is out of its range or given without softmax labels, or softmax
            labels whose start is no probabilities above zero.

    References:
        Wang, Zhu, Torralba, Efros 2018, arXiv 1811.10959. Learned labels: Sucholutsky and Schonlau 2021,
        arXiv 1910.02551.
    """
    input_shape = checks.input_shape(input_shape)
    checks.at_least("num_classes", num_classes, 1)
    checks.at_least("inner_steps", inner_steps, 1)
    checks.at_least("inner_epochs", inner_epochs, 1)
    checks.at_least("images_per_class_per_step", images_per_class_per_step, 1)
    if inner_lr is not None:
        checks.positive("inner_lr", inner_lr)
    if max_lr is not None:
        checks.at_least("max_lr", max_lr, inner_lr or 0, integer=False, remedy="Start below the bound.")
    kind = _label_form(label_form, label_confidence, initial_labels, num_classes)
    if initial_labels is None:
        one_step = np.eye(num_classes)[np.repeat(np.arange(num_classes), images_per_class_per_step)]
        labels = np.broadcast_to(one_step, (inner_steps, *one_step.shape))
    else:
        labels = _checked_labels(initial_labels, inner_steps, num_classes, is_softmax=kind == "softmax")
    shape = (*labels.shape[:2], *input_shape)
    if initial_images is not None:
        initial_images = _checked_images(initial_images, shape)

    def init(key: jax.Array) -> PixelParams:
        images = jax.random.normal(key, shape) if initial_images is None else jnp.asarray(initial_images)
        raw_lrs = label_logits = None
        if inner_lr is not None:
            raw_lrs = jnp.full((inner_epochs, inner_steps), inverse_softplus(inner_lr), images.dtype)
        if kind != "hard":
            label_logits = jnp.asarray(_start_of_labels(labels, kind, label_confidence), images.dtype)
        return PixelParams(images, raw_lrs, label_logits)

    def unfold(params: PixelParams) -> Schedule:
        if params.label_logits is None:
            targets = jnp.asarray(labels, params.images.dtype)
        else:
            targets = jax.nn.softmax(params.label_logits) if kind == "softmax" else params.label_logits
        lrs = None if params.raw_lrs is None else jax.nn.softplus(params.raw_lrs)
        return Schedule(params.images, targets, lrs)

    def project(params: PixelParams) -> PixelParams:
        if params.raw_lrs is None or max_lr is None:
            return params
        bound = jnp.asarray(inverse_softplus(max_lr), params.raw_lrs.dtype)
        return params._replace(raw_lrs=jnp.minimum(params.raw_lrs, bound))

    name = "pixels" if kind == "hard" else "pixels_and_labels"
    return Form(init, unfold, name, groups=_groups, project=None if max_lr is None else project)


def _groups(params: PixelParams) -> PixelParams:
    names: tuple[Any, ...] = (
        "data",
        None if params.raw_lrs is None else "lrs",
        None if params.label_logits is None else "labels",
    )
    return PixelParams(*names)


def _label_form(
    label_form: str | None, confidence: float | None, initial_labels: Any, num_classes: int
) -> str:
    """The form of labels that the settings describe.

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
    if kind in ("free", "centred"):
        return labels - (1 / labels.shape[-1] if kind == "centred" else 0)
    if confidence is None:
        return np.log(labels)
    odds = confidence * (labels.shape[-1] - 1) / (1 - confidence)
    return np.log(odds) * labels


def _checked_labels(labels: Any, inner_steps: int, num_classes: int, *, is_softmax: bool) -> np.ndarray:
    array = np.asarray(labels, np.float64)
    if array.ndim != 3 or array.shape[::2] != (inner_steps, num_classes) or not array.size:
        raise ValueError(
            f"initial_labels: expected [{inner_steps}, B, {num_classes}], a row for each image of each step; "
            f"got shape {list(array.shape)}. Bring them to this shape."
        )
    if not np.isfinite(array).all():
        raise ValueError("initial_labels: expected finite numbers; got NaN or infinity. Repair them.")
    if is_softmax and ((array <= 0).any() or not np.allclose(array.sum(-1), 1)):
        raise ValueError(
            "initial_labels: expected probabilities above zero whose rows sum to one, for softmax labels; "
            "got others. Smooth them, or give label_form='free'."
        )
    return array


def _checked_images(images: Any, shape: tuple[int, ...]) -> np.ndarray:
    array = np.asarray(images)
    checks.equal("initial_images.shape", array.shape, shape, remedy="Give one image for each label.")
    if not np.issubdtype(array.dtype, np.floating) or not np.isfinite(array).all():
        raise ValueError(
            f"initial_images: expected finite floats, normalised; got {array.dtype}, or NaN or infinity. "
            "Give what the data's encoding makes of images, (pixel / 255 - mean) / std."
        )
    return array


def by_step(images: np.ndarray, inner_steps: int) -> np.ndarray:
    """The images of each class, divided evenly among the gradient steps, in the order that `pixels` uses.

    Args:
        images: `[K, S * m, *input_shape]`, with m images of each class for every step.
        inner_steps: the number S of steps.

    Returns:
        `[S, K * m, *input_shape]`, ordered by class within a step.

    Raises:
        ValueError: the number of images of a class is no multiple of `inner_steps`.
    """
    num_classes, count = images.shape[:2]
    if inner_steps < 1 or count % inner_steps:
        raise ValueError(
            f"inner_steps: expected a divisor of the {count} images of a class; got {inner_steps}. Give one."
        )
    steps = images.reshape(num_classes, inner_steps, count // inner_steps, *images.shape[2:])
    return np.moveaxis(steps, 1, 0).reshape(inner_steps, -1, *images.shape[2:])

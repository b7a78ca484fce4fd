"""Free pixels: every number of φ's inputs is a parameter; labels and rates may be learned too."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddjax import checks
from ddjax.facts import noted
from ddjax.forms.targets import LabelForm, Labels, Rates, label_form_of, one_class_each
from ddjax.types import Form, Schedule


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
            `"free"` learns any numbers, `"nonnegative"` numbers that no update leaves below zero,
            `"centred"` any numbers from rows less 1/K, which squared error and ridge regression are for (no
            cross-entropy); by default softmax where a confidence is given, else hard.

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
    checks.at_least("images_per_class_per_step", images_per_class_per_step, 1)
    rates = Rates((inner_epochs, inner_steps), inner_lr, max_lr)
    kind = label_form_of(label_form, label_confidence, initial_labels, num_classes)
    if initial_labels is None:
        start = one_class_each(inner_steps, images_per_class_per_step, num_classes)
    else:
        start = _checked_labels(initial_labels, inner_steps, num_classes, kind=kind)
    labels = Labels(start, kind, label_confidence)
    shape = (*start.shape[:2], *input_shape)
    if initial_images is not None:
        initial_images = checks.encoded_images("initial_images", initial_images, shape)

    def init(key: jax.Array) -> PixelParams:
        images = jax.random.normal(key, shape) if initial_images is None else jnp.asarray(initial_images)
        return PixelParams(images, rates.start(images.dtype), labels.start(images.dtype))

    def unfold(params: PixelParams) -> Schedule:
        targets = labels.unfold(params.label_logits, params.images.dtype)
        return Schedule(params.images, targets, rates.unfold(params.raw_lrs))

    def project(params: PixelParams) -> PixelParams:
        return params._replace(
            raw_lrs=rates.project(params.raw_lrs), label_logits=labels.project(params.label_logits)
        )

    is_bounded = (max_lr is not None and inner_lr is not None) or kind == "nonnegative"
    name = "pixels" if kind == "hard" else "pixels_and_labels"
    return Form(init, unfold, name, groups=_groups, project=project if is_bounded else None)


def _groups(params: PixelParams) -> PixelParams:
    names: tuple[Any, ...] = (
        "data",
        None if params.raw_lrs is None else "lrs",
        None if params.label_logits is None else "labels",
    )
    return PixelParams(*names)


def _checked_labels(labels: Any, inner_steps: int, num_classes: int, *, kind: str) -> np.ndarray:
    array = np.asarray(labels, np.float64)
    if array.ndim != 3 or array.shape[::2] != (inner_steps, num_classes) or not array.size:
        raise ValueError(
            f"initial_labels: expected [{inner_steps}, B, {num_classes}], a row for each image of each step; "
            f"got shape {list(array.shape)}. Bring them to this shape."
        )
    if not np.isfinite(array).all():
        raise ValueError("initial_labels: expected finite numbers; got NaN or infinity. Repair them.")
    if kind == "softmax" and ((array <= 0).any() or not np.allclose(array.sum(-1), 1)):
        raise ValueError(
            "initial_labels: expected probabilities above zero whose rows sum to one, for softmax labels; "
            "got others. Smooth them, or give label_form='free'."
        )
    if kind == "nonnegative" and (array < 0).any():
        raise ValueError(
            f"initial_labels: expected numbers >= 0 for nonnegative labels; got {array.min():g}. Give "
            "label_form='free'."
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

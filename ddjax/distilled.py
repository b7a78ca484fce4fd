"""φ: the forms that a distilled dataset can take, and the schedule of gradient steps it unfolds into."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddjax import checks
from ddjax.types import Form, Schedule


class PixelParams(NamedTuple):
    """The parameters of `pixels`.

    Attributes:
        images: `[S, B, H, W, C]` float, normalised pixels.
        raw_lrs: `[E, S]` float, η = softplus(raw); None where the recipe brings its own optimiser.
        label_logits: `[S, B, K]` float, labels = softmax(logits); None where the labels are fixed.
    """

    images: jax.Array
    raw_lrs: jax.Array | None
    label_logits: jax.Array | None = None


def inverse_softplus(value: float | np.ndarray) -> np.ndarray:
    """log(exp(η) - 1), the raw parameter whose softplus is η > 0.

    Written as η + log(1 - exp(-η)) so that a large η does not overflow.
    """
    value = np.asarray(value, np.float64)
    return value + np.log(-np.expm1(-value))


def pixels(
    image_shape: tuple[int, int, int],
    num_classes: int,
    *,
    inner_steps: int = 10,
    inner_epochs: int = 3,
    images_per_class_per_step: int = 1,
    inner_lr: float | None = 0.02,
    initial_images: np.ndarray | None = None,
    label_confidence: float | None = None,
) -> Form:
    """Free pixels, hard or learned labels, one learning rate for each of the T = S·E steps.

        x̃ ~ N(0, 1) in normalised pixel space,  η = softplus(raw),  raw = log(exp(η_init) - 1)

    Learned labels are ỹ = softmax(z) with z_k = log(p (K - 1) / (1 - p)) at an image's own class and 0
    elsewhere, so that they start with the probability p there. The B = K · images_per_class_per_step images
    of a step are ordered by class.

    Args:
        image_shape: `(H, W, C)`.
        num_classes: K.
        inner_steps: S.
        inner_epochs: E.
        images_per_class_per_step: images of one class in one step.
        inner_lr: η at the start; None for a form without learning rates, for methods that learn none.
        initial_images: `[S, B, H, W, C]`, normalised; the starting point instead of noise.
        label_confidence: p in (1 / K, 1), where learned labels start; None for fixed hard labels.

    Returns:
        A form whose parameters are `PixelParams`.

    Raises:
        ValueError: a count below one, a learning rate that is not positive, images of another shape, a
            label confidence out of its range.

    References:
        Wang, Zhu, Torralba, Efros 2018, arXiv 1811.10959. Learned labels: Sucholutsky and Schonlau 2021,
        arXiv 1910.02551.
    """
    image_shape = checks.image_shape(image_shape)
    checks.at_least("num_classes", num_classes, 1)
    checks.at_least("inner_steps", inner_steps, 1)
    checks.at_least("inner_epochs", inner_epochs, 1)
    checks.at_least("images_per_class_per_step", images_per_class_per_step, 1)
    if inner_lr is not None:
        checks.positive("inner_lr", inner_lr)
    if label_confidence is not None and not 1 / num_classes < label_confidence < 1:
        raise ValueError(
            f"label_confidence: expected a probability between 1 / {num_classes} (no knowledge) and 1, both "
            f"excluded; got {label_confidence}. Give for example 0.9, or None for fixed hard labels."
        )
    labels = np.eye(num_classes)[np.repeat(np.arange(num_classes), images_per_class_per_step)]
    shape = (inner_steps, len(labels), *image_shape)
    step_labels = (inner_steps, *labels.shape)
    if initial_images is not None:
        initial_images = _checked_images(initial_images, shape)

    def init(key: jax.Array) -> PixelParams:
        images = jax.random.normal(key, shape) if initial_images is None else jnp.asarray(initial_images)
        raw_lrs = label_logits = None
        if inner_lr is not None:
            raw_lrs = jnp.full((inner_epochs, inner_steps), inverse_softplus(inner_lr), images.dtype)
        if label_confidence is not None:
            odds = label_confidence * (num_classes - 1) / (1 - label_confidence)
            label_logits = jnp.asarray(np.broadcast_to(np.log(odds) * labels, step_labels), images.dtype)
        return PixelParams(images, raw_lrs, label_logits)

    def unfold(params: PixelParams) -> Schedule:
        if params.label_logits is None:
            targets = jnp.broadcast_to(jnp.asarray(labels, params.images.dtype), step_labels)
        else:
            targets = jax.nn.softmax(params.label_logits)
        lrs = None if params.raw_lrs is None else jax.nn.softplus(params.raw_lrs)
        return Schedule(params.images, targets, lrs)

    return Form(init, unfold, "pixels" if label_confidence is None else "pixels_and_labels")


def _checked_images(images: Any, shape: tuple[int, ...]) -> np.ndarray:
    array = np.asarray(images)
    checks.equal("initial_images.shape", array.shape, shape, remedy="Give one image for each label.")
    if not np.issubdtype(array.dtype, np.floating) or not np.isfinite(array).all():
        raise ValueError(
            f"initial_images: expected finite floats, normalised; got {array.dtype}, or NaN or infinity. "
            "Give (pixel / 255 - mean) / std."
        )
    return array


def by_step(images: np.ndarray, inner_steps: int) -> np.ndarray:
    """Images of each class, shared out over the gradient steps in the order that `pixels` keeps.

    Args:
        images: `[K, S * m, H, W, C]`.
        inner_steps: S.

    Returns:
        `[S, K * m, H, W, C]`, ordered by class within a step.

    Raises:
        ValueError: the images of a class do not share out evenly.
    """
    num_classes, count = images.shape[:2]
    if inner_steps < 1 or count % inner_steps:
        raise ValueError(
            f"inner_steps: expected a divisor of the {count} images of a class; got {inner_steps}. Give one."
        )
    steps = images.reshape(num_classes, inner_steps, count // inner_steps, *images.shape[2:])
    return np.moveaxis(steps, 1, 0).reshape(inner_steps, -1, *images.shape[2:])


def constant(schedule: Schedule) -> Form:
    """A schedule as it stands: what an artifact is after loading, and what real images are as a baseline.

    Args:
        schedule: the parameters and, unfolded, the schedule.

    Returns:
        A form whose parameters are the `Schedule` itself.

    Raises:
        ValueError: it is no schedule, or its shapes do not fit each other.
    """
    checks.schedule(schedule)
    return Form(lambda key: schedule, lambda params: params, "schedule")

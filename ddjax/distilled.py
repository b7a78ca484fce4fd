"""φ: the forms that a distilled dataset can take, and the schedule of gradient steps it unfolds into."""

from __future__ import annotations

from typing import NamedTuple

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
    """

    images: jax.Array
    raw_lrs: jax.Array | None


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
) -> Form:
    """Free pixels, fixed hard labels, one learning rate for each of the T = S·E steps.

        x̃ ~ N(0, 1) in normalised pixel space,  η = softplus(raw),  raw = log(exp(η_init) - 1)

    The B = K · images_per_class_per_step images of a step are ordered by class.

    Args:
        image_shape: `(H, W, C)`.
        num_classes: K.
        inner_steps: S.
        inner_epochs: E.
        images_per_class_per_step: images of one class in one step.
        inner_lr: η at the start; None for a form without learning rates, for methods that learn none.
        initial_images: `[S, B, H, W, C]`, normalised; the starting point instead of noise.

    Returns:
        A form whose parameters are `PixelParams`.

    Raises:
        ValueError: a count below one, a learning rate that is not positive, images of another shape.

    References:
        Wang, Zhu, Torralba, Efros 2018, arXiv 1811.10959.
    """
    checks.at_least("inner_steps", inner_steps, 1)
    checks.at_least("inner_epochs", inner_epochs, 1)
    checks.at_least("images_per_class_per_step", images_per_class_per_step, 1)
    if inner_lr is not None:
        checks.positive("inner_lr", inner_lr)
    labels = np.eye(num_classes)[np.repeat(np.arange(num_classes), images_per_class_per_step)]
    shape = (inner_steps, len(labels), *image_shape)
    if initial_images is not None:
        checks.equal(
            "initial_images.shape", initial_images.shape, shape, remedy="Give one image for each label."
        )

    def init(key: jax.Array) -> PixelParams:
        images = jax.random.normal(key, shape) if initial_images is None else jnp.asarray(initial_images)
        if inner_lr is None:
            return PixelParams(images, None)
        raw_lrs = jnp.full((inner_epochs, inner_steps), inverse_softplus(inner_lr), images.dtype)
        return PixelParams(images, raw_lrs)

    def unfold(params: PixelParams) -> Schedule:
        step_labels = jnp.broadcast_to(jnp.asarray(labels, params.images.dtype), (inner_steps, *labels.shape))
        lrs = None if params.raw_lrs is None else jax.nn.softplus(params.raw_lrs)
        return Schedule(params.images, step_labels, lrs)

    return Form(init, unfold, "pixels")


def constant(schedule: Schedule) -> Form:
    """A schedule as it stands: what an artifact is after loading, and what real images are as a baseline.

    Args:
        schedule: the parameters and, unfolded, the schedule.

    Returns:
        A form whose parameters are the `Schedule` itself.
    """
    return Form(lambda key: schedule, lambda params: params, "schedule")

"""Outer optimisers: how φ moves down its gradient."""

from __future__ import annotations

import jax
import optax

from ddjax import checks
from ddjax.types import PyTree


def adam_cosine(
    num_outer_steps: int, *, lr: float = 0.03, lr_of_lrs: float | None = None
) -> optax.GradientTransformation:
    """Adam whose rate falls to zero along a cosine; with clipping, what `ddjax.distill` takes for an unroll.

        lr_t = lr · (1 + cos(π t / num_outer_steps)) / 2

    Args:
        num_outer_steps: where the rate reaches zero.
        lr: rate at the start.
        lr_of_lrs: rate at the start of the parameters named `raw_lrs`; the same as `lr` by default.

    Returns:
        The transformation.

    Raises:
        ValueError: fewer steps than one, `lr` not positive, or `lr_of_lrs` negative.
    """
    checks.at_least("num_outer_steps", num_outer_steps, 1)
    checks.positive("lr", lr)
    if lr_of_lrs is not None:
        checks.at_least("lr_of_lrs", lr_of_lrs, 0, integer=False)

    def adam(start: float) -> optax.GradientTransformation:
        return optax.adam(optax.cosine_decay_schedule(start, num_outer_steps))

    if lr_of_lrs is None:
        return adam(lr)
    return optax.partition({"lrs": adam(lr_of_lrs), "rest": adam(lr)}, label_lrs)


def label_lrs(params: PyTree) -> PyTree:
    """A tree like `params` that says `"lrs"` at leaves named `raw_lrs` and `"rest"` elsewhere."""

    def label(path: tuple, leaf: object) -> str:
        del leaf
        return "lrs" if jax.tree_util.keystr(path, simple=True).endswith("raw_lrs") else "rest"

    return jax.tree_util.tree_map_with_path(label, params)


def adam_halving(steps_between: int, *, lr: float = 0.01) -> optax.GradientTransformation:
    """Adam (β₁ 0.5, β₂ 0.999) whose rate halves at regular intervals: the original's.

        lr_t = lr · 0.5^⌊t / steps_between⌋

    Args:
        steps_between: outer steps from one halving to the next; the original's 40 epochs.
        lr: rate at the start.

    Returns:
        The transformation.

    Raises:
        ValueError: fewer steps than one, or a rate that is not positive.

    References:
        Wang et al. 2018, arXiv 1811.10959, and the authors' published settings.
    """
    checks.at_least("steps_between", steps_between, 1)
    checks.positive("lr", lr)
    schedule = optax.exponential_decay(lr, steps_between, 0.5, staircase=True)
    return optax.adam(schedule, b1=0.5, b2=0.999)


def sgd_momentum(*, lr: float = 1.0, momentum: float = 0.5) -> optax.GradientTransformation:
    """Gradient descent with momentum: what matching methods move their images with.

    Args:
        lr: constant rate.
        momentum: share of the last update that the next one keeps.

    Returns:
        The transformation.

    Raises:
        ValueError: a rate that is not positive, or a momentum outside [0, 1).

    References:
        Zhao et al. 2021 (DC), Zhao and Bilen 2023 (DM): momentum 0.5.
    """
    checks.positive("lr", lr)
    checks.fraction("momentum", momentum)
    return optax.sgd(lr, momentum=momentum)

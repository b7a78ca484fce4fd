"""Outer optimisers, which move φ down its gradient, and the optimiser of each family of methods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ddjax import checks
from ddjax.types import Outer, PyTree

LR = 0.05
"""The default rate of the images at the start, for methods that learn learning rates; chosen by measuring."""

LR_OF_LRS = 0.01
"""The default rate of the learned learning rates at the start."""

CLIP_NORM = 0.2
"""The default bound on the gradient's norm, for use with `LR` and `LR_OF_LRS`."""


@checks.entry
def adam_cosine(num_outer_steps: int, *, lr: float = 0.03) -> optax.GradientTransformation:
    """Adam whose rate falls to zero along a cosine.

        lr_t = lr · (1 + cos(π t / num_outer_steps)) / 2

    Args:
        num_outer_steps: the outer step where the rate reaches zero.
        lr: the rate at the start.

    Returns:
        The optimiser.

    Raises:
        ValueError: fewer steps than one, or a rate that is not positive.
    """
    checks.at_least("num_outer_steps", num_outer_steps, 1)
    checks.positive("lr", lr)
    return optax.adam(optax.cosine_decay_schedule(lr, num_outer_steps))


@checks.entry
def adam_halving(steps_between: int, *, lr: float = 0.01) -> optax.GradientTransformation:
    """Adam (β₁ 0.5, β₂ 0.999) whose rate halves at regular intervals, as in the 2018 paper's code.

        lr_t = lr · 0.5^⌊t / steps_between⌋

    Args:
        steps_between: the number of outer steps from one halving to the next; in the 2018 paper the steps of
            40 epochs.
        lr: the rate at the start.

    Returns:
        The optimiser.

    Raises:
        ValueError: fewer steps than one, or a rate that is not positive.

    References:
        Wang et al. 2018, arXiv 1811.10959, and the authors' published settings.
    """
    checks.at_least("steps_between", steps_between, 1)
    checks.positive("lr", lr)
    schedule = optax.exponential_decay(lr, steps_between, 0.5, staircase=True)
    return optax.adam(schedule, b1=0.5, b2=0.999)


@checks.entry
def sgd_momentum(*, lr: float = 1.0, momentum: float = 0.5) -> optax.GradientTransformation:
    """Gradient descent with momentum, the outer optimiser of matching methods.

        v_t = momentum · v_{t-1} + ∇_t,   φ_{t+1} = φ_t - lr · v_t

    Args:
        lr: the constant rate.
        momentum: the factor of the last direction in the next one.

    Returns:
        The optimiser.

    Raises:
        ValueError: a rate that is not positive, or a momentum outside [0, 1).

    References:
        Zhao et al. 2021 (DC), Zhao and Bilen 2023 (DM): momentum 0.5.
    """
    checks.positive("lr", lr)
    checks.fraction("momentum", momentum)
    return optax.sgd(lr, momentum=momentum)


class RunningNormState(NamedTuple):
    """The state of `clip_by_running_norm`.

    Attributes:
        norm: `[]`, the running mean of the gradient's norm; below zero before the first update.
    """

    norm: jax.Array


@checks.entry
def clip_by_running_norm(*, decay: float = 0.9, factor: float = 2.0) -> optax.GradientTransformation:
    """Bounds the norm of a gradient by a multiple of the running mean of the norms so far.

        s_t = decay · s_{t-1} + (1 - decay) ‖g_t‖,   s_1 = ‖g_1‖,   g_t ← g_t · min(1, factor · s_t / ‖g_t‖)

    One outlier among gradients through a chaotic training is cut down, whatever the size of the others.

    Args:
        decay: the share of the earlier mean in the next one.
        factor: the bound, in means.

    Returns:
        A transformation to chain before an optimiser.

    Raises:
        ValueError: a decay outside [0, 1), or a factor that is not positive.

    References:
        Feng et al. 2024 (RaT-BPTT), arXiv 2311.07025, and the authors' code.
    """
    checks.fraction("decay", decay)
    checks.positive("factor", factor)

    def init(params: PyTree) -> RunningNormState:
        return RunningNormState(-jnp.ones_like(optax.tree.norm(params)))

    def update(updates: PyTree, state: Any, params: PyTree | None = None) -> tuple[PyTree, RunningNormState]:
        del params
        norm = optax.tree.norm(updates)
        mean = jnp.where(state.norm < 0, norm, decay * state.norm + (1 - decay) * norm)
        scale = jnp.minimum(1, factor * mean / jnp.where(norm == 0, 1, norm))
        clipped = jax.tree.map(lambda one: one * scale.astype(one.dtype), updates)
        return clipped, RunningNormState(mean)

    return optax.GradientTransformation(init, update)


@checks.entry
def unrolled_outer(
    num_outer_steps: int,
    *,
    lr: float | None = None,
    lr_of_lrs: float = LR_OF_LRS,
    lr_of_labels: float | None = None,
    clip_norm: float | None = CLIP_NORM,
) -> Outer:
    """The outer optimiser of methods that differentiate through training: Adam on a cosine, bounded gradient.

    The rates and the bound were chosen by measuring: "How the outer optimiser was chosen", among the results.

    Args:
        num_outer_steps: the outer step where the rates reach zero.
        lr: the rate of images at the start; `LR` by default.
        lr_of_lrs: the rate of the learned learning rates at the start; 0 keeps them as they start.
        lr_of_labels: the rate of learned labels at the start; by default that of the images.
        clip_norm: the bound on the gradient's norm; None for no bound.

    Returns:
        The optimisers of the groups "lrs" and "rest", and of "labels" where they have a rate of their own;
        the bound.

    Raises:
        ValueError: fewer steps than one, `lr` or `lr_of_labels` not positive, or `lr_of_lrs` negative.
    """
    lr = _rate(lr, LR)
    checks.at_least("num_outer_steps", num_outer_steps, 1)
    checks.at_least("lr_of_lrs", lr_of_lrs, 0, integer=False)
    of_lrs = optax.adam(optax.cosine_decay_schedule(lr_of_lrs, num_outer_steps))
    facts = {"outer_optimizer": "adam, cosine to 0", "outer_lr": lr, "outer_lr_of_lrs": lr_of_lrs}
    each = {"lrs": of_lrs, "rest": adam_cosine(num_outer_steps, lr=lr)}
    if lr_of_labels is not None:
        checks.positive("lr_of_labels", lr_of_labels)
        each["labels"] = adam_cosine(num_outer_steps, lr=lr_of_labels)
        facts["outer_lr_of_labels"] = lr_of_labels
    return Outer(each, clip_norm, facts)


@checks.entry
def trajectory_outer(
    num_outer_steps: int,
    *,
    lr: float | None = None,
    lr_of_lrs: float = LR_OF_LRS,
    lr_of_labels: float | None = None,
) -> Outer:
    """The outer optimiser of trajectory matching: that of methods that differentiate through training.

    The published rates, of SGD with momentum and for a learning rate that is a free number, do not carry over
    to Adam and to η = softplus(raw).

    Args:
        num_outer_steps: the outer step where the rates reach zero.
        lr: the rate of images at the start; `LR` by default.
        lr_of_lrs: the rate of the learned learning rate at the start; 0 keeps it as it starts.
        lr_of_labels: the rate of learned labels at the start; by default that of the images.

    Returns:
        The optimisers of the groups, and a bound of 1 on the norm of the gradient.

    Raises:
        ValueError: see `unrolled_outer`.
    """
    return unrolled_outer(
        num_outer_steps, lr=lr, lr_of_lrs=lr_of_lrs, lr_of_labels=lr_of_labels, clip_norm=1.0
    )


@checks.entry
def original_outer(steps_between: int, *, lr: float | None = None) -> Outer:
    """The outer optimiser of the 2018 paper: `adam_halving`, no bound on the gradient.

    Args:
        steps_between: the number of outer steps from one halving to the next.
        lr: the rate at the start; the published 0.01 by default.

    Returns:
        An `Outer` with one optimiser for all groups.

    Raises:
        ValueError: fewer steps than one, or a rate that is not positive.
    """
    lr = _rate(lr, 0.01)
    facts = {"outer_optimizer": f"adam(0.5, 0.999), halved every {steps_between} steps", "outer_lr": lr}
    return Outer(adam_halving(steps_between, lr=lr), None, facts)


@checks.entry
def matching_outer(lr: float) -> Outer:
    """The outer optimiser of matching methods: `sgd_momentum`, no bound on the gradient.

    Args:
        lr: the constant rate.

    Returns:
        An `Outer` with one optimiser for all groups.

    Raises:
        ValueError: a rate that is not positive.
    """
    lr = _rate(lr, lr)
    return Outer(sgd_momentum(lr=lr), None, {"outer_optimizer": "sgd, momentum 0.5", "outer_lr": lr})


def adam_outer(published_lr: float, *, falls: bool = False) -> Callable[..., Outer]:
    """Adam, for `ddjax.types.Method.outer`, no bound on the gradient.

    Args:
        published_lr: the published rate of images and labels.
        falls: whether the rate falls to zero along a cosine; by default the rate is constant.

    Returns:
        `(num_outer_steps, *, lr=None) -> Outer`, with one optimiser for all groups.
    """

    def outer(num_outer_steps: int, *, lr: float | None = None) -> Outer:
        rate = _rate(lr, published_lr)
        if falls:
            facts = {"outer_optimizer": "adam, cosine to 0", "outer_lr": rate}
            return Outer(adam_cosine(num_outer_steps, lr=rate), None, facts)
        return Outer(optax.adam(rate), None, {"outer_optimizer": "adam", "outer_lr": rate})

    return outer


@checks.entry
def lamb_outer(num_outer_steps: int, *, lr: float | None = None, lr_of_labels: float | None = None) -> Outer:
    """The outer optimiser of feature regression: LAMB on a cosine, no bound on the gradient.

        lr_t = lr · (0.1 + 0.9 (1 + cos(π t / num_outer_steps)) / 2)

    LAMB moves each leaf by Adam's direction (β₁ 0.9, β₂ 0.999, ε 1e-6), brought to the norm of the leaf: the
    rate is relative to the size of what is moved.

    Args:
        num_outer_steps: the outer step where the rates reach a tenth.
        lr: the rate at the start; the published 3e-4, for 500,000 steps, by default.
        lr_of_labels: the rate of learned labels at the start; the published one, that of the images, by
            default.

    Returns:
        The optimisers of the groups "labels" and "rest".

    Raises:
        ValueError: fewer steps than one, or a rate that is not positive.

    References:
        You et al. 2020, arXiv 1904.00962. Zhou et al. 2022, arXiv 2206.00719.
    """
    lr = _rate(lr, 3e-4)
    checks.at_least("num_outer_steps", num_outer_steps, 1)
    lr_of_labels = lr if lr_of_labels is None else lr_of_labels
    checks.positive("lr_of_labels", lr_of_labels)

    def lamb(rate: float) -> optax.GradientTransformation:
        return optax.lamb(optax.cosine_decay_schedule(rate, num_outer_steps, alpha=0.1))

    facts = {"outer_optimizer": "lamb, cosine to 0.1", "outer_lr": lr, "outer_lr_of_labels": lr_of_labels}
    return Outer({"labels": lamb(lr_of_labels), "rest": lamb(lr)}, None, facts)


def adabelief_outer(num_outer_steps: int, *, lr: float | None = None) -> Outer:
    """The outer optimiser of implicit regression: AdaBelief at a constant rate, no bound on the gradient.

    Args:
        num_outer_steps: the number of outer steps, which changes nothing.
        lr: the rate of images and labels; the published 3e-3 by default.

    Returns:
        An `Outer` with one optimiser for all groups.

    Raises:
        ValueError: a rate that is not positive.

    References:
        Zhuang et al. 2020, arXiv 2010.07468. Loo et al. 2023, arXiv 2302.06755.
    """
    del num_outer_steps
    rate = _rate(lr, 3e-3)
    return Outer(optax.adabelief(rate), None, {"outer_optimizer": "adabelief", "outer_lr": rate})


def _rate(given: float | None, published: float) -> float:
    """The rate at the start, by the name that users know it by.

    Raises:
        ValueError: a given rate that is not positive.
    """
    if given is None:
        return published
    checks.positive("outer_lr", given)
    return given

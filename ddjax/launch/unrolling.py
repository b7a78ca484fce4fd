"""The family of launchers whose method differentiates through training."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from ddjax import distilled as forms
from ddjax import methods, optimizers
from ddjax.data import Dataset
from ddjax.defaults import CLIP_NORM, OUTER_LR
from ddjax.launch.choices import (
    augmentation,
    augmentations,
    build_network,
    choose_network,
    initial_images,
    outer_rate,
)
from ddjax.launch.settings import Unrolled
from ddjax.launch.types import Facts, Layout, Outer, Parts
from ddjax.methods.unrolled import Objective
from ddjax.methods.unrolled import cross_entropy as cross_entropy_objective
from ddjax.plan import Plan
from ddjax.types import Form, InitDistribution, Network
from ddjax.unroll import STRATEGIES, Memory


def our_outer(config: Unrolled) -> Outer:
    """Adam on a cosine, the gradient's norm bounded; see "How the outer recipe was chosen" in the README."""
    steps, lr = config.num_outer_steps or 1000, outer_rate(config.outer_lr, OUTER_LR)
    clip_norm = CLIP_NORM if config.clip_norm is None else config.clip_norm or None
    plan = {"outer_optimizer": "adam, cosine to 0", "outer_lr": lr, "outer_lr_of_lrs": config.outer_lr_of_lrs}
    optimizer = optimizers.adam_cosine(steps, lr=lr, lr_of_lrs=config.outer_lr_of_lrs)
    return Outer(optimizer, steps, clip_norm, plan)


def original_outer(config: Unrolled, num_images: int) -> Outer:
    """The 2018 paper's: Adam (0.5, 0.999) at 0.01, halved every 40 of 400 epochs, no bound."""
    epoch = max(1, num_images // config.batch_size)
    steps, lr = config.num_outer_steps or 400 * epoch, outer_rate(config.outer_lr, 0.01)
    plan = {"outer_optimizer": f"adam(0.5, 0.999), halved every {40 * epoch} steps", "outer_lr": lr}
    return Outer(optimizers.adam_halving(40 * epoch, lr=lr), steps, config.clip_norm or None, plan)


def pixels(config: Unrolled, data: Dataset, layout: Layout) -> Form:
    """Images of the data's shape with learned rates, and learned labels where the flags say so."""
    steps, epochs, per_class = layout
    return forms.pixels(
        data.image_shape,
        data.num_classes,
        inner_steps=steps,
        inner_epochs=epochs,
        images_per_class_per_step=per_class,
        inner_lr=config.inner_lr,
        initial_images=initial_images(
            config.initial_images, data, steps=steps, per_class_per_step=per_class, seed=config.seed
        ),
        label_confidence=config.label_confidence,
    )


def strategy_of(plan: Plan, window: int | None) -> Memory:
    """The memory strategy of a plan, over the last steps alone where there is a window."""
    return dataclasses.replace(STRATEGIES[str(plan.memory)], window=window)


def unrolled_parts(
    config: Unrolled,
    data: Dataset,
    plan: Plan,
    inits_of: Callable[[Network], InitDistribution],
    *,
    otherwise: tuple[str, Mapping[str, Any]] | None = None,
    objective: Objective = cross_entropy_objective,
) -> Parts:
    """The parts of an experiment with the unrolled method.

    Args:
        config: the settings.
        data: the real data.
        plan: the form of convolutions and the memory strategy.
        inits_of: the function that makes p(θ0) of the chosen network.
        otherwise: name and settings of the network where the flags name none; by default what fits.
        objective: the loss of the outer loop.
    """
    choice = choose_network(config, data, otherwise=otherwise)
    network = build_network(choice, data, conv_form=plan.conv_form)
    distribution = inits_of(network)
    outer = original_outer(config, len(data.train)) if config.original else our_outer(config)
    layout = Layout(config.inner_steps, config.inner_epochs, config.images_per_class_per_step)
    form = pixels(config, data, layout)
    method = methods.unrolled(
        network,
        distribution,
        batch_size=config.batch_size,
        inner_optimizer=config.inner_optimizer,
        memory=strategy_of(plan, config.window),
        horizon=config.horizon,
        objective=objective,
        augmentation=augmentation(config.augment, data),
    )
    resolved = {**outer.plan, **augmentations(data, augmentation=config.augment)}
    return Parts(network, distribution, method, form, outer, Facts(layout, resolved, choice[1]))

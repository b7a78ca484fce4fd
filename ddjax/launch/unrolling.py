"""The launchers whose method differentiates through training."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ddjax import checks, forms, methods, optimizers
from ddjax.data import Dataset
from ddjax.launch import forming
from ddjax.launch.choices import (
    augmentation,
    augmentations,
    bounded,
    build_network,
    choose_network,
    initial_images,
    network_of_plan,
    random_inits,
)
from ddjax.launch.settings import Unrolled
from ddjax.launch.types import Facts, Layout, Parts
from ddjax.methods.unrolled import Objective
from ddjax.methods.unrolled import cross_entropy as cross_entropy_objective
from ddjax.plan import Plan
from ddjax.types import Form, InitDistribution, Method, Network, Outer
from ddjax.unroll import STRATEGIES, Memory


def outer_of(config: Unrolled, method: Method, num_images: int) -> tuple[Outer, int]:
    """The outer optimiser and the number of outer steps: the method's, or with `--original` the 2018 paper's.

    Args:
        config: the settings.
        method: the method that φ is distilled by.
        num_images: the number of training images. The 2018 paper halved its rate every 40 of 400 epochs.

    Returns:
        The outer optimiser, and the number of outer steps.

    Raises:
        ValueError: the learning rate of the flags is not above zero.
    """
    lr = config.outer_lr
    if config.original:
        epoch = max(1, num_images // config.batch_size)
        steps, outer = config.num_outer_steps or 400 * epoch, optimizers.original_outer(40 * epoch, lr=lr)
    else:
        steps = config.num_outer_steps or 1000
        of_labels = config.outer_lr_of_labels
        outer = method.outer(steps, lr=lr, lr_of_lrs=config.outer_lr_of_lrs, lr_of_labels=of_labels)
    return bounded(outer, config.clip_norm), steps


def pixels(config: Unrolled, data: Dataset, layout: Layout) -> Form:
    """The form of φ: images of the data's shape, learned rates and, where the flags say so, learned labels.

    Args:
        config: the settings.
        data: the real data.
        layout: the sizes of φ.

    Returns:
        The form.
    """
    if config.form != "pixels":
        return _composed(config, data, layout)
    if layout.per_step is not None or config.label_form == "free":
        return _soft_pixels(config, data, layout)
    steps, epochs, per_class, _ = layout
    kind: Any = config.label_form  # one of the choices of the flag
    return forms.pixels(
        data.input_shape,
        data.num_classes,
        inner_steps=steps,
        inner_epochs=epochs,
        images_per_class_per_step=per_class,
        inner_lr=config.inner_lr,
        max_lr=config.max_inner_lr,
        initial_images=initial_images(
            config.initial_images, data, steps=steps, per_class_per_step=per_class, seed=config.seed
        ),
        label_confidence=config.label_confidence,
        label_form=kind,
    )


def _composed(config: Unrolled, data: Dataset, layout: Layout) -> Form:
    """The form of φ whose images are decoded: as many of each class as all steps together have.

    Raises:
        ValueError: the number of images in a step is given for all classes together.
    """
    if layout.per_step is not None:
        raise ValueError(
            f"images_per_step: expected none with --form={config.form}, whose steps have as many images of "
            "each class; got some. Give --images_per_class_per_step."
        )
    steps = forming.Steps(
        layout.inner_steps,
        layout.inner_epochs,
        config.inner_lr,
        config.max_inner_lr,
        config.label_form,
        config.label_confidence,
    )
    per_class = layout.inner_steps * layout.per_class_per_step
    return forming.composed(config, data, per_class, steps, initial=config.initial_images, seed=config.seed)


def _soft_pixels(config: Unrolled, data: Dataset, layout: Layout) -> Form:
    """The form of φ whose images are any number in a step, or whose labels are free numbers.

    Raises:
        ValueError: a label confidence is given for labels that are not softmax, or is out of its range.
    """
    steps, epochs, _, per_step = layout
    num_classes = data.num_classes
    size = per_step or layout.per_class_per_step * num_classes
    per_class = steps * -(-size // num_classes)
    found = initial_images(
        config.initial_images, data, steps=1, per_class_per_step=per_class, seed=config.seed
    )
    start = np.zeros((num_classes * per_class, 1)) if found is None else found[0]
    images, labels = forms.mixtures(start.reshape(num_classes, per_class, *start.shape[1:]), steps, size)
    kind: Any = config.label_form or ("hard" if config.label_confidence is None else "softmax")
    if kind == "softmax":
        confidence = 0.9 if config.label_confidence is None else config.label_confidence
        checks.fraction("label_confidence", confidence)
        labels = confidence * labels + (1 - confidence) / num_classes
    elif config.label_confidence is not None:
        raise ValueError(
            f"label_confidence: expected softmax labels with it; got {kind} labels. Leave it out, or give "
            "--label_form=softmax."
        )
    return forms.pixels(
        data.input_shape,
        num_classes,
        inner_steps=steps,
        inner_epochs=epochs,
        inner_lr=config.inner_lr,
        max_lr=config.max_inner_lr,
        initial_images=None if found is None else images,
        initial_labels=labels,
        label_form=kind,
    )


def strategy_of(plan: Plan, window: int | None) -> Memory:
    """The memory strategy of a plan.

    Args:
        plan: the plan.
        window: the number of last inner steps to differentiate through; None for all steps.

    Returns:
        The strategy.
    """
    return dataclasses.replace(STRATEGIES[str(plan.memory)], window=window)


def unrolled_parts(
    config: Unrolled,
    data: Dataset,
    plan: Plan,
    inits_of: Callable[[Network], InitDistribution] | None = None,
    *,
    otherwise: tuple[str, Mapping[str, Any]] | None = None,
    objective: Objective = cross_entropy_objective,
) -> Parts:
    """The parts of an experiment with the unrolled method.

    Args:
        config: the settings.
        data: the real data.
        plan: the plan, with the form of convolutions and the memory strategy.
        inits_of: the function that makes p(θ0) for the chosen network; by default the draws that the flags
            ask for.
        otherwise: the name and settings of the network to take where the flags name none; by default the
            network that fits the images.
        objective: the loss of the outer loop.

    Returns:
        The parts.

    Raises:
        ValueError: the settings do not fit each other or the data.
    """
    choice = choose_network(config, data, otherwise=otherwise)
    network = build_network(choice, data, conv_form=plan.conv_form)
    distribution = random_inits(config, network) if inits_of is None else inits_of(network)
    layout = Layout(
        config.inner_steps, config.inner_epochs, config.images_per_class_per_step, config.images_per_step
    )
    if config.images_per_step is not None and config.baselines:
        raise ValueError(
            "baselines: expected none with --images_per_step, they have as many images of each class; got "
            f"{config.images_per_step} images in a step. Add --nobaselines."
        )
    if config.form != "pixels" and config.baselines:
        raise ValueError(
            f"baselines: expected none with --form={config.form}, they store as many images as networks are "
            "trained on; got some. Add --nobaselines."
        )
    form = pixels(config, data, layout)
    method = methods.unrolled(
        network_of_plan(network, plan),
        distribution,
        batch_size=config.batch_size,
        inner_optimizer=config.inner_optimizer,
        memory=strategy_of(plan, config.window),
        horizon=config.horizon,
        objective=objective,
        augmentation=augmentation(config.augment, data),
    )
    outer, steps = outer_of(config, method, len(data.train))
    resolved = {**outer.facts, **augmentations(data, augmentation=config.augment)}
    return Parts(network, distribution, method, form, outer, steps, Facts(layout, resolved, choice[1]))

"""The launchers whose method regresses on features of networks that train on the images meanwhile."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ddjax import forms
from ddjax.data import Dataset
from ddjax.launch import forming
from ddjax.launch.choices import (
    augmentations,
    bounded,
    build_network,
    choose_network,
    initial_images,
    network_of_plan,
    random_inits,
    strategy,
)
from ddjax.launch.flags import flag, flag_like
from ddjax.launch.settings import AUGMENTATIONS, Common, Formed, NetworkChoice, Unrolled
from ddjax.launch.types import Facts, Layout, Parts
from ddjax.networks import NAMES, norms
from ddjax.plan import Plan
from ddjax.recipes import MOST_EPOCHS, Regress
from ddjax.types import Form, InitDistribution, Method, Network, Outer

STEPS = {10: 1_000, 100: 2_000, 200: 20_000, 400: 5_000, 500: 5_000, 1_000: 10_000}
"""The published steps of a training on so many images; 40,000 on more."""


@dataclasses.dataclass(frozen=True)
class Regression(Formed):
    """The settings of the methods that regress on features; those of FRePo where they apply.

    Networks are trained on the result by squared error on its learned, centred labels.
    """

    network: str | None = flag("convnet", ", ".join(NAMES))
    init: str = flag_like(NetworkChoice, "init", default="lecun_normal")
    norm: str | None = flag(
        "none", "of the pool's networks, before each convolution but the first", choices=norms.NORMS
    )
    growth: int = flag(2, "factor from the channels of a convnet's block to those of the next", low=1)
    images_per_class: int = flag(1, "distilled images of each class", low=1)
    initial_images: str = flag_like(Unrolled, "initial_images", default="real")
    pool: int = flag(10, "networks in the pool of each slot", low=1)
    reset: int = flag(100, "steps of a network's training after which a new one is drawn", low=1)
    online_lr: float = flag(3e-4, "rate of Adam in the training of the pool's networks", positive=True)
    flip: bool = flag(False, "regress on the distilled images and their mirror images")
    train_steps: int | None = flag(
        None,
        "steps that a network trains on the distilled images in the end; by default as published",
        low=1,
        high=MOST_EPOCHS,
        same_step=True,
    )
    train_lr: float = flag(3e-4, "largest learning rate of that training", positive=True, same_step=True)
    warmup: int = flag(500, "steps in which that rate rises, half of all at most", low=0, same_step=True)
    label_scale: float = flag(1.0, "factor on the labels in that training", positive=True, same_step=True)
    eval_augment: str | None = flag(
        None, f"augmentation of each image in that training; {AUGMENTATIONS}", same_step=True
    )
    eval_width: int | None = flag(
        None,
        "channels of the networks that are trained in the end; by default --width",
        low=1,
        same_step=True,
    )
    eval_norm: str = flag(
        "none", "norm of the networks that are trained in the end", choices=norms.NORMS, same_step=True
    )
    num_eval_inits: int = flag_like(Common, "num_eval_inits", default=5)
    num_val_inits: int = flag_like(Common, "num_val_inits", default=2)
    validate_every: int = flag_like(Common, "validate_every", default=250)
    baselines: bool = flag_like(Common, "baselines", default=False)


class Regressed(NamedTuple):
    """What a method that regresses on features is built from.

    Attributes:
        network: the network of the pool.
        inits: p(θ0), the distribution of the weights of new networks.
        recipe: the training on the distilled images in the end.
        pool: the number of networks of each slot.
        reset: the age above which a network is replaced.
        online_lr: the rate of the training of the pool's networks.
        flip: whether mirror images count.
        batch_size: the number of real images of a step.
    """

    network: Network
    inits: InitDistribution
    recipe: Regress
    pool: int
    reset: int
    online_lr: float
    flip: bool
    batch_size: int


def regress_recipe(config: Regression, data: Dataset) -> Regress:
    """The training on the distilled images that the flags ask for.

    Args:
        config: the settings.
        data: the real data.

    Returns:
        The recipe.
    """
    count = config.images_per_class * data.num_classes
    return Regress(
        lr=config.train_lr,
        steps=config.train_steps or STEPS.get(count, 40_000),
        warmup=config.warmup,
        label_scale=config.label_scale,
        augmentation=strategy(config.eval_augment, data),
    )


def centred_pixels(config: Any, data: Dataset, *, learned: bool = True, scale: float = 1.0) -> Form:
    """The form of φ: images in one step, with centred labels, s (e_k - 1/K), that are learned or not.

    Images that are decoded (`--form`) have learned labels.

    Args:
        config: settings with `images_per_class`, `initial_images` and `seed`; with those of `Formed` where
            the launcher has them.
        data: the real data.
        learned: whether the labels are learned.
        scale: s, the factor on the labels at the start.

    Returns:
        The form.

    Raises:
        ValueError: a class has too few images.
    """
    count, classes = config.images_per_class, data.num_classes
    if getattr(config, "form", "pixels") != "pixels":
        return _composed(config, data, scale)
    labels = scale * np.repeat(np.eye(classes) - 1 / classes, count, axis=0)
    images = initial_images(config.initial_images, data, steps=1, per_class_per_step=count, seed=config.seed)
    return forms.pixels(
        data.image_shape,
        classes,
        inner_steps=1,
        inner_lr=None,
        initial_images=images,
        initial_labels=labels[None],
        label_form="free" if learned else "hard",
    )


def _composed(config: Regression, data: Dataset, scale: float) -> Form:
    """The form of φ whose images are decoded, in the storage of the plain ones, learned labels included."""
    numbers = data.num_classes
    decoded = forming.decoded_per_class(config, data, config.images_per_class, label_numbers=numbers)
    steps = forming.Steps(label_form="centred", label_scale=scale)
    return forming.composed(config, data, decoded, steps, initial=config.initial_images, seed=config.seed)


def regression_networks(
    config: Regression, data: Dataset, **own: Any
) -> tuple[tuple[str, dict[str, Any]], tuple[str, dict[str, Any]]]:
    """The networks of the pool and those that are trained in the end, by name and settings.

    Args:
        config: the settings.
        data: the real data.
        **own: settings that the pool's convnets alone have.

    Returns:
        Both; a convnet has the flags' growth, and its norms before the convolutions.
    """
    name, chosen = choose_network(config, data)
    if name != "convnet":
        return (name, chosen), (name, chosen)
    chosen = {**chosen, "growth": config.growth, "norm_place": "before"}
    width = {} if config.eval_width is None else {"width": config.eval_width}
    return (name, {**chosen, **own}), (name, {**chosen, **width, "norm": config.eval_norm})


def regression_parts(
    config: Regression,
    data: Dataset,
    plan: Plan,
    method_of: Callable[[Regressed], Method],
    outer_of: Callable[[Method, int], Outer],
    *,
    num_outer_steps: int,
    pool_augment: str | None = None,
    **own: Any,
) -> Parts:
    """The parts of an experiment that regresses on features.

    Args:
        config: the settings.
        data: the real data.
        plan: the plan, with the form of convolutions and the precision.
        method_of: the function that makes the method.
        outer_of: `(method, outer steps) -> Outer`, the outer optimiser.
        num_outer_steps: the number of outer steps where the flags give none.
        pool_augment: the augmentation of the pool's training, for `plan.json`; None for none.
        **own: settings that the pool's convnets alone have.

    Returns:
        The parts.

    Raises:
        ValueError: the settings do not fit each other or the data.
    """
    in_pool, in_the_end = regression_networks(config, data, **own)
    network, judged = (build_network(one, data, conv_form=plan.conv_form) for one in (in_pool, in_the_end))
    drawn, judged_inits = (random_inits(config, one) for one in (network, judged))
    method = method_of(
        Regressed(
            network_of_plan(network, plan),
            drawn,
            regress_recipe(config, data),
            config.pool,
            config.reset,
            config.online_lr,
            config.flip,
            config.batch_size,
        )
    )
    steps = config.num_outer_steps or num_outer_steps
    outer = bounded(outer_of(method, steps), config.clip_norm)
    named = {"augmentation": pool_augment, "eval_augmentation": config.eval_augment}
    facts = Facts(
        Layout(1, 1, config.images_per_class), {**outer.facts, **augmentations(data, **named)}, in_pool[1]
    )
    form = centred_pixels(config, data, scale=1 / math.sqrt(data.num_classes / 10))
    return Parts(judged, judged_inits, method, form, outer, steps, facts)

"""The launchers whose method matches real and distilled images."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ddjax import forms, optimizers
from ddjax.augment import Augmentation
from ddjax.data import Dataset
from ddjax.encodings import channels_of
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
    trained_recipe,
)
from ddjax.launch.settings import Matching
from ddjax.launch.types import Facts, Layout, Parts
from ddjax.plan import Plan
from ddjax.types import Form, InitDistribution, Method, Network, Outer, Recipe


class Matched(NamedTuple):
    """What a matching method is built from.

    Attributes:
        network: the network under which images are compared.
        inits: p(θ0), the distribution of initial weights.
        recipe: the recipe for training on the distilled images in the end.
        augmentation: the augmentation that real and distilled images share; None for none.
    """

    network: Network
    inits: InitDistribution
    recipe: Recipe
    augmentation: Augmentation | None


def pixels(config: Matching, data: Dataset) -> Form:
    """The form of φ: images of the data's shape, all in one step, without learning rates.

    Where images are decoded, as many of them as the storage of `--images_per_class` plain ones holds.

    Args:
        config: the settings.
        data: the real data.

    Returns:
        The form.
    """
    count = config.images_per_class
    if config.form != "pixels":
        decoded = forming.decoded_per_class(config, data, count)
        steps = forming.Steps()
        return forming.composed(config, data, decoded, steps, initial=config.initial_images, seed=config.seed)
    return forms.pixels(
        data.input_shape,
        data.num_classes,
        inner_steps=1,
        images_per_class_per_step=count,
        inner_lr=None,
        initial_images=initial_images(
            config.initial_images, data, steps=1, per_class_per_step=count, seed=config.seed
        ),
    )


def multi_formation(config: Matching, data: Dataset, factor: int) -> Form:
    """The form of φ: stored images of which each stands for several, with pixels between black and white.

    Args:
        config: the settings, with the number of stored images of each class.
        data: the real data, under a normalisation of channels.
        factor: the number of parts of each side of a stored image.

    Returns:
        The form, whose images are all in one step, without learning rates.

    Raises:
        ValueError: the data are under another encoding than channel statistics, a class has too few images to
            start from, or the factor is too large.
    """
    stored, decoded = config.images_per_class, config.images_per_class * factor**2
    encoding = channels_of(data.encoding)
    black, grey, white = (((level - encoding.mean) / encoding.std).tolist() for level in (0.0, 0.5, 1.0))
    start = initial_images(config.initial_images, data, steps=1, per_class_per_step=decoded, seed=config.seed)
    images = forms.multi_formation(
        data.image_shape,
        data.num_classes,
        stored_per_class=stored,
        factor=factor,
        pad=grey,
        bounds=(black, white),
        initial_images=None if start is None else start.reshape(data.num_classes, decoded, *start.shape[2:]),
    )
    return forms.composed(images)


def _adam(config: Matching, steps: int, *, lr: float | None) -> Outer:
    """Adam on a cosine, where the coefficients of bases may have a rate of their own."""
    outer = optimizers.adam_outer(optimizers.LR, falls=True)(steps, lr=lr)
    own = config.outer_lr_of_coefficients
    if own is None or config.form != "bases":
        return outer
    each = {"coefficients": optimizers.adam_cosine(steps, lr=own), "rest": outer.optimizer}
    return Outer(each, outer.clip_norm, {**outer.facts, "outer_lr_of_coefficients": own})


def matching_parts(
    config: Matching,
    data: Dataset,
    plan: Plan,
    method_of: Callable[[Matched], Method],
    *,
    num_outer_steps: int,
    resolved: Mapping[str, Any] | None = None,
    form_of: Callable[[Any, Dataset], Form] = pixels,
) -> Parts:
    """The parts of an experiment that matches: all images in one step, moved as the flags say.

    Args:
        config: the settings.
        data: the real data.
        plan: the plan; only its form of convolutions is used here.
        method_of: the function that makes the method.
        num_outer_steps: the number of outer steps where the flags give none.
        resolved: further choices that were made for the method, for `plan.json`.
        form_of: the function `(config, data) -> form` that makes the form of φ; by default `pixels`.

    Returns:
        The parts.

    Raises:
        ValueError: the settings do not fit each other or the data.
    """
    choice = choose_network(config, data)
    network = build_network(choice, data, conv_form=plan.conv_form)
    recipe = trained_recipe(
        data,
        train_lr=config.train_lr,
        train_epochs=config.train_epochs,
        eval_augment=config.eval_augment,
        protocol=config.protocol,
        train_batch=config.train_batch,
    )
    distribution = random_inits(config, network)
    moving = network_of_plan(network, plan)
    method = method_of(Matched(moving, distribution, recipe, augmentation(config.augment, data)))
    steps = config.num_outer_steps or num_outer_steps
    outer_of = functools.partial(_adam, config) if config.outer_optimizer == "adam" else method.outer
    outer = bounded(outer_of(steps, lr=config.outer_lr), config.clip_norm)
    chosen = {
        **outer.facts,
        **(resolved or {}),
        **augmentations(data, augmentation=config.augment, eval_augmentation=config.eval_augment),
    }
    facts = Facts(Layout(1, 1, config.images_per_class), chosen, choice[1])
    return Parts(network, distribution, method, form_of(config, data), outer, steps, facts)

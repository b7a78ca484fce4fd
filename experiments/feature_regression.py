"""Distil by ridge regression on the features of networks that train on the images meanwhile (FRePo).

Networks are trained on the result by squared error on learned, centred labels, never by cross-entropy.

Claim: none: no record yet.
Cost: not recorded

As published, but for a CPU's width, batch and number of steps:

    python -m experiments.feature_regression --dataset=mnist --width=32 --batch_size=256 --outer_lr=0.02 \
        --num_outer_steps=1200 --label_rate=0.1 --online_lr=1e-3 --train_lr=1e-3 --eval_augment=dsa
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from ddjax import forms, inits, methods
from ddjax.data import Dataset
from ddjax.launch import Common, Facts, Keys, Launcher, Layout, NetworkChoice, Parts, Plan, flag, flag_like
from ddjax.launch import choices as chosen
from ddjax.launch.settings import AUGMENTATIONS, Unrolled
from ddjax.networks import NAMES, norms
from ddjax.recipes import MOST_EPOCHS, Regress
from ddjax.types import Form

STEPS = {10: 1_000, 100: 2_000, 200: 20_000, 400: 5_000, 500: 5_000, 1_000: 10_000}
"""The published steps of a training on so many images; 40,000 on more."""

NUM_OUTER_STEPS = 1_000
"""The outer steps where the flags give none; the published number is 500,000."""


@dataclasses.dataclass(frozen=True)
class Config(Common):
    """The settings of feature regression; the published ones where they apply."""

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
    pool_augment: str | None = flag(
        None, f"augmentation in the training of the pool's networks; {AUGMENTATIONS}"
    )
    flip: bool = flag(False, "regress on the distilled images and their mirror images")
    penalty: float = flag(
        1e-6, "penalty of the regression, relative to the kernel's mean diagonal", positive=True
    )
    margin: float = flag(1.0, "weight of the margin of the labels", low=0)
    label_rate: float = flag(1.0, "rate of the labels, as a factor on that of the images", positive=True)
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
    eval_norm: str = flag("none", "their norm", choices=norms.NORMS, same_step=True)
    num_eval_inits: int = flag_like(Common, "num_eval_inits", default=5)
    num_val_inits: int = flag_like(Common, "num_val_inits", default=2)
    validate_every: int = flag_like(Common, "validate_every", default=250)
    baselines: bool = flag_like(Common, "baselines", default=False)


def recipe_of(config: Config, data: Dataset) -> Regress:
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
        augmentation=chosen.strategy(config.eval_augment, data),
    )


def form_of(config: Config, data: Dataset) -> Form:
    """The form of φ: images in one step, with free labels that start centred, (e_k - 1/K) / √(K / 10).

    Args:
        config: the settings.
        data: the real data.

    Returns:
        The form.

    Raises:
        ValueError: a class has too few images.
    """
    count, classes = config.images_per_class, data.num_classes
    labels = np.repeat(np.eye(classes) - 1 / classes, count, axis=0) / math.sqrt(classes / 10)
    images = chosen.initial_images(
        config.initial_images, data, steps=1, per_class_per_step=count, seed=config.seed
    )
    return forms.pixels(
        data.image_shape,
        classes,
        inner_steps=1,
        inner_lr=None,
        initial_images=images,
        initial_labels=labels[None],
        label_form="free",
    )


def networks_of(
    config: Config, data: Dataset
) -> tuple[tuple[str, dict[str, Any]], tuple[str, dict[str, Any]]]:
    """The networks of the pool and those that are trained in the end, by name and settings.

    Args:
        config: the settings.
        data: the real data.

    Returns:
        Both; a convnet has the flags' growth and its norms before the convolutions.
    """
    name, own = chosen.choose_network(config, data)
    if name != "convnet":
        return (name, own), (name, own)
    own = {**own, "growth": config.growth, "norm_place": "before"}
    width = {} if config.eval_width is None else {"width": config.eval_width}
    return (name, own), (name, {**own, **width, "norm": config.eval_norm})


def build(config: Config, data: Dataset, keys: Keys, plan: Plan) -> Parts:
    """The parts of feature regression.

    Args:
        config: the settings.
        data: the real data.
        keys: the keys of the seed.
        plan: the plan, with the form of convolutions.

    Returns:
        The parts.

    Raises:
        ValueError: the settings do not fit each other or the data.
    """
    del keys
    in_pool, in_the_end = networks_of(config, data)
    network, judged = (
        chosen.build_network(one, data, conv_form=plan.conv_form) for one in (in_pool, in_the_end)
    )
    drawn, judged_inits = (
        inits.random(one, scheme=config.init, gain=config.init_gain) for one in (network, judged)
    )
    method = methods.feature_regression(
        network,
        drawn,
        batch_size=config.batch_size,
        penalty=config.penalty,
        pool=config.pool,
        reset=config.reset,
        online_lr=config.online_lr,
        flip=config.flip,
        margin_weight=config.margin,
        augmentation=chosen.augmentation(config.pool_augment, data),
        recipe=recipe_of(config, data),
    )
    steps = config.num_outer_steps or NUM_OUTER_STEPS
    lr = config.outer_lr or 3e-4
    outer = chosen.bounded(method.outer(steps, lr=lr, lr_of_labels=config.label_rate * lr), config.clip_norm)
    resolved = {
        **outer.facts,
        **chosen.augmentations(data, augmentation=config.pool_augment, eval_augmentation=config.eval_augment),
    }
    facts = Facts(Layout(1, 1, config.images_per_class), resolved, in_pool[1])
    return Parts(judged, judged_inits, method, form_of(config, data), outer, steps, facts)


LAUNCHER = Launcher("feature_regression", __doc__, Config, build=build)

if __name__ == "__main__":
    LAUNCHER.main()

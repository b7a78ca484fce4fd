"""Distil by matching the gradients of real and distilled images, class by class: DC, or, with --augment, DSA.

Claim: not measured yet. Cost: not measured yet. An outer step is one update of the images; the published
1,000 networks are 1,000 outer steps at one image per class, 10,000 at ten and 50,000 at fifty.

    python -m experiments.gradient_matching --dataset=mnist --train_epochs=1000 \
        --eval_augment=dc_crop_scale_rotate                                             # DC, as published
    python -m experiments.gradient_matching --dataset=mnist --initial_images=real --augment=dsa \
        --train_epochs=1000 --eval_augment=dsa                                          # DSA, as published
"""

from __future__ import annotations

import dataclasses

import numpy as np

from ddjax import coresets, inits, methods, networks, optimizers
from ddjax import distilled as forms
from ddjax.data import Dataset
from ddjax.methods import DISTANCES, Loops
from ddjax.types import Recipe
from experiments import launch
from experiments.config import AUGMENTATIONS, Common, flag
from experiments.parts import (
    Keys,
    Parts,
    augmentation,
    augmentations,
    build_network,
    choose_network,
    strategy,
)

NETWORKS = 1000
"""How many are drawn, as published."""


@dataclasses.dataclass(frozen=True)
class Config(Common):
    """The settings of gradient matching; the published ones where they apply."""

    network: str | None = flag("convnet", ", ".join(networks.NAMES))
    init: str = flag("lecun_normal", Common.__dataclass_fields__["init"].metadata["help"])
    images_per_class: int = flag(1, "distilled images of each class", low=1)
    batch_size: int = flag(256, "N, real images of each class in a minibatch", low=1)
    distance: str = flag("layerwise", "of two gradients", choices=tuple(DISTANCES))
    matches: int | None = flag(
        None, "outer steps before a new network is drawn; by default the published 1, 10 or 50", low=1
    )
    net_epochs: int | None = flag(
        None, "epochs of training on the distilled images between two of them; by default 1, 50 or 10", low=1
    )
    net_lr: float = flag(0.01, "learning rate of that training")
    net_batch_size: int = flag(256, "distilled images in one of its steps", low=1)
    initial_images: str = flag(
        "noise", "what the distilled images start from", choices=tuple(coresets.INITIAL_IMAGES)
    )
    augment: str | None = flag(None, f"augmentation of real and distilled images alike; {AUGMENTATIONS}")
    train_epochs: int = flag(300, "epochs that a network trains on the distilled images in the end", low=1)
    train_lr: float = flag(0.01, "learning rate of that training")
    eval_augment: str | None = flag(None, f"augmentation of each image in that training; {AUGMENTATIONS}")
    validate_every: int = flag(250, "outer steps from one validation to the next", low=1)


def build(config: Config, data: Dataset, keys: Keys) -> Parts:
    """All images in one step, no learning rates; SGD with momentum moves them, as published."""
    del keys
    if config.network == "convnet" and config.depth is None and config.width is None:
        config = dataclasses.replace(config, depth=min(3, min(data.image_shape[:2]).bit_length() - 2))
    choice = choose_network(config, data)
    network = build_network(choice, data, conv_form=config.conv_form)
    distribution = inits.random(network, scheme=config.init, gain=config.init_gain)
    loops = choose_loops(config)
    recipe = Recipe(
        "train",
        lr=config.train_lr,
        epochs=config.train_epochs,
        augmentation=strategy(config.eval_augment, data),
    )
    method = methods.gradient_matching(
        network,
        distribution,
        batch_size=config.batch_size,
        distance=config.distance,
        matches=loops.matches,
        epochs=loops.epochs,
        lr_net=config.net_lr,
        batch_train=config.net_batch_size,
        augmentation=augmentation(config.augment, data),
        recipe=recipe,
    )
    form = forms.pixels(
        data.image_shape,
        data.num_classes,
        inner_steps=1,
        images_per_class_per_step=config.images_per_class,
        inner_lr=None,
        initial_images=first_images(config, data),
    )
    lr = config.outer_lr or 0.1
    plan = {"outer_optimizer": "sgd, momentum 0.5", "outer_lr": lr, **loops._asdict()}
    return Parts(
        network,
        distribution,
        method,
        form,
        optimizers.sgd_momentum(lr=lr),
        config.num_outer_steps or NETWORKS * loops.matches,
        config.clip_norm or None,
        (1, 1, config.images_per_class),
        plan | augmentations(data, augmentation=config.augment, eval_augmentation=config.eval_augment),
        choice[1],
    )


def choose_loops(config: Config) -> Loops:
    """The published loops, but for what the flags say.

    Raises:
        ValueError: none were published for so many images, and the flags leave one open.
    """
    if config.matches is not None and config.net_epochs is not None:
        return Loops(config.matches, config.net_epochs)
    try:
        published = methods.schedule_for(config.images_per_class)
    except ValueError as error:
        raise ValueError(f"{error} The flags are --matches and --net_epochs.") from error
    return Loops(config.matches or published.matches, config.net_epochs or published.epochs)


def first_images(config: Config, data: Dataset) -> np.ndarray | None:
    """`[1, B, H, W, C]`, what the images start from; None for noise.

    Raises:
        ValueError: a class has too few images.
    """
    select = coresets.INITIAL_IMAGES[config.initial_images]
    if select is None:
        return None
    per_class = config.images_per_class
    images = select(data.train, per_class=per_class, num_classes=data.num_classes, seed=config.seed)
    return forms.by_step(images, 1)


if __name__ == "__main__":
    launch.main(
        "gradient_matching",
        __doc__,
        Config,
        lambda config: launch.run("gradient_matching", config, build),
    )

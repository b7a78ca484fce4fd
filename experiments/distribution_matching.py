"""Distil by matching class means of embeddings under random networks (DM).

Claim: the embedded digits, one image per class: 89.5 ± 1.1 % over 20 unseen initial weights, class means
87.5 ± 1.4; 92.0 ± 1.0 with DSA's augmentation, as published, while distilling and while training on the
result. Cost: 27 s of two CPU cores; 31 s of one without baselines.

    python -m experiments.distribution_matching --dataset=digits --width=32 --batch_size=64 \
        --num_outer_steps=500
    python -m experiments.distribution_matching --dataset=digits --width=32 --batch_size=64 \
        --num_outer_steps=500 --augment=dsa --eval_augment=dsa --nobaselines
"""

from __future__ import annotations

import dataclasses

import numpy as np

from ddjax import coresets, inits, methods, optimizers
from ddjax import distilled as forms
from ddjax.data import Dataset
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


@dataclasses.dataclass(frozen=True)
class Config(Common):
    """The settings of distribution matching; the published ones where they apply."""

    network: str | None = flag("convnet", "lenet, alexcifar, convnet or mlp")
    init: str = flag("lecun_normal", Common.__dataclass_fields__["init"].metadata["help"])
    images_per_class: int = flag(1, "distilled images of each class", low=1)
    batch_size: int = flag(256, "N, real images of each class in a minibatch", low=1)
    start: str = flag("real", "what the images start from", choices=("real", "noise"))
    train_epochs: int = flag(300, "epochs that a network trains on the distilled images", low=1)
    train_lr: float = flag(0.01, "learning rate of that training")
    augment: str | None = flag(None, f"augmentation of real and distilled images alike; {AUGMENTATIONS}")
    eval_augment: str | None = flag(
        None, f"augmentation of each image that a network trains on; {AUGMENTATIONS}"
    )
    validate_every: int = flag(250, "outer steps from one validation to the next", low=1)


def build(config: Config, data: Dataset, keys: Keys) -> Parts:
    """All images in one step, no learning rates; SGD with momentum moves them, as published."""
    if config.network == "convnet" and config.depth is None and config.width is None:
        config = dataclasses.replace(config, depth=min(3, min(data.image_shape[:2]).bit_length() - 2))
    choice = choose_network(config, data)
    network = build_network(choice, data, conv_form=config.conv_form)
    distribution = inits.random(network, scheme=config.init, gain=config.init_gain)
    recipe = Recipe(
        "train",
        lr=config.train_lr,
        epochs=config.train_epochs,
        augmentation=strategy(config.eval_augment, data),
    )
    method = methods.distribution_matching(
        network,
        distribution,
        batch_size=config.batch_size,
        recipe=recipe,
        augmentation=augmentation(config.augment, data),
    )
    form = forms.pixels(
        data.image_shape,
        data.num_classes,
        inner_steps=1,
        images_per_class_per_step=config.images_per_class,
        inner_lr=None,
        initial_images=real_start(config, data) if config.start == "real" else None,
    )
    lr, steps = config.outer_lr or 1.0, config.num_outer_steps or 1000
    return Parts(
        network,
        distribution,
        method,
        form,
        optimizers.sgd_momentum(lr=lr),
        steps,
        config.clip_norm or None,
        (1, 1, config.images_per_class),
        {"outer_optimizer": "sgd, momentum 0.5", "outer_lr": lr}
        | augmentations(data, augmentation=config.augment, eval_augmentation=config.eval_augment),
        choice[1],
    )


def real_start(config: Config, data: Dataset) -> np.ndarray:
    """Random real images of each class, `[1, B, H, W, C]`."""
    rows = coresets.random_real(
        data.train, per_class=config.images_per_class, num_classes=data.num_classes, seed=config.seed
    )
    return data.train.normalised()[rows.ravel()][None]


if __name__ == "__main__":
    launch.main(
        "distribution_matching",
        __doc__,
        Config,
        lambda config: launch.run("distribution_matching", config, build),
    )

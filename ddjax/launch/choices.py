"""What flags choose: data and their form, the network, its initial weights, augmentations, trainings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from ddjax import augment, checks, coresets, forms, networks
from ddjax import pool as pools
from ddjax.augment import Augmentation
from ddjax.data import Dataset, load, repeat_channels, resize
from ddjax.encodings import Channels
from ddjax.launch.settings import DataChoice, NetworkChoice
from ddjax.pool import Pool
from ddjax.recipes import Train
from ddjax.types import Network, Outer

STATISTICS = {"imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))}
"""Mean and std of pixel / 255 that published weights expect, by the choices of `--pixels`."""


def load_data(config: Any) -> Dataset:
    """The data set of the flags, in the form that they say.

    Args:
        config: settings that are both a `Where` and a `DataChoice`.

    Raises:
        ValueError: an unknown name, or data that cannot be brought to that form.
        FileNotFoundError: the data are missing.
    """
    data = load(config.dataset, data_dir=config.data_dir, seed=config.seed)
    return in_form(data, config)


def in_form(data: Dataset, config: DataChoice) -> Dataset:
    """The data with the height, width and channels of the flags, where they say any."""
    if config.channels is not None:
        data = repeat_channels(data, config.channels)
    data = data if config.resize is None else resize(data, config.resize)
    return data if config.pixels is None else normalised_as(data, *STATISTICS[config.pixels])


def normalised_as(data: Dataset, mean: Sequence[float], std: Sequence[float]) -> Dataset:
    """The data under another normalisation of their pixels, such as given weights were trained under.

    Args:
        data: the data set.
        mean: `[C]`, mean of pixel / 255.
        std: `[C]`, standard deviation of pixel / 255.

    Raises:
        ValueError: the images have another number of channels.
    """
    channels = data.image_shape[2]
    checks.equal("pixels: channels", channels, len(mean), remedy="Repeat grey images to 3 with --channels=3.")
    return data.encoded_by(Channels(np.array(mean, np.float32), np.array(std, np.float32)))


def choose_network(
    config: NetworkChoice, data: Dataset, *, otherwise: tuple[str, Mapping[str, Any]] | None = None
) -> tuple[str, dict[str, Any]]:
    """The name and settings of the network of the flags.

    Args:
        config: the settings.
        data: the data set whose images the network must fit.
        otherwise: name and settings of the network where the flags name none; by default
            what fits the images.

    Returns:
        What to give to `ddjax.networks.by_name`.
    """
    name, own = otherwise or networks.default_for(data.image_shape)
    given = {"width": config.width, "depth": config.depth, "norm": config.norm}
    chosen = {key: value for key, value in given.items() if value is not None}
    if config.network in (None, name):
        return name, {**own, **chosen}
    # A ConvNet-3, or as deep as smaller images allow.
    fitting = {"depth": min(3, min(data.image_shape[:2]).bit_length() - 2)}
    return str(config.network), (fitting if config.network == "convnet" else {}) | chosen


def load_pool(path: str) -> Pool:
    """The pool of a flag.

    Raises:
        ValueError: no path, or no pool there.
        FileNotFoundError: there is no file.
    """
    if not path:
        raise ValueError(
            "pool: expected the pool.npz of experiments.pretrain; got none. Give --pool=path/to/pool.npz."
        )
    return pools.load(path)


def network_of(pool: Pool) -> tuple[str, dict[str, Any]] | None:
    """Name and settings of a pool's network, where it says them."""
    name = pool.metadata.get("network")
    return (name, dict(pool.metadata.get("network_settings", {}))) if name else None


def build_network(
    choice: tuple[str, Mapping[str, Any]], data: Dataset, *, conv_form: str = "auto"
) -> Network:
    """The chosen network for these images and classes.

    Args:
        choice: name and settings of the network.
        data: the data set whose images and classes the network must fit.
        conv_form: the form in which convolutions are computed; no part of what the network is.

    Raises:
        ValueError: unknown, or it does not fit the images, or has no such setting.
    """
    name, own = choice
    return networks.by_name(name, data.image_shape, data.num_classes, conv_form=conv_form, **own)


def strategy(name: str | None, data: Dataset) -> str:
    """The augmentation that a flag names: `dsa` is DSA's for these data; empty where it names none."""
    return augment.strategy_for(data.name) if name == "dsa" else name or ""


def augmentation(name: str | None, data: Dataset) -> Augmentation | None:
    """The augmentation that a flag names, for these images.

    Raises:
        ValueError: unknown, or the images are too small for it.
    """
    chosen = strategy(name, data)
    return augment.by_name(chosen, data.image_shape) if chosen else None


def augmentations(data: Dataset, **names: str | None) -> dict[str, str]:
    """The strategies of the flags that are given, for `plan.json`."""
    return {key: strategy(name, data) for key, name in names.items() if name is not None}


def runs_at_once(num_inits: int) -> int:
    """How many trainings to vmap: one after the other on CPU, where batching them gains nothing."""
    return 1 if jax.default_backend() == "cpu" else num_inits


def trained_recipe(data: Dataset, *, train_lr: float, train_epochs: int, eval_augment: str | None) -> Train:
    """An ordinary training on a few images, by the flags of those names.

    Raises:
        ValueError: an unknown augmentation, or images that are too small for it.
    """
    augmentation(eval_augment, data)
    return Train(lr=train_lr, epochs=train_epochs, augmentation=strategy(eval_augment, data))


def initial_images(
    name: str, data: Dataset, *, steps: int, per_class_per_step: int, seed: int
) -> np.ndarray | None:
    """`[S, B, H, W, C]`, what φ's images start from; None for noise.

    Args:
        name: the choice of `--initial_images`.
        data: the data set to take them from.
        steps: S.
        per_class_per_step: images of one class in one step.
        seed: the seed of a random choice.

    Raises:
        ValueError: a class has too few images.
    """
    select = coresets.INITIAL_IMAGES[name]
    if select is None:
        return None
    per_class = steps * per_class_per_step
    images = select(data.train, per_class=per_class, num_classes=data.num_classes, seed=seed)
    return forms.by_step(images, steps)


def outer_rate(given: float | None) -> float | None:
    """The images' learning rate at the start; None for the method's own.

    Args:
        given: the value of `--outer_lr`; None where the flag is not given.

    Raises:
        ValueError: the given rate is not above zero.
    """
    if given is not None:
        checks.positive("outer_lr", given)
    return given


def bounded(outer: Outer, clip_norm: float | None) -> Outer:
    """How φ moves, under the bound of a flag.

    Args:
        outer: the method's own way.
        clip_norm: the value of `--clip_norm`; None for the method's own bound, 0 for none.
    """
    return outer if clip_norm is None else dataclasses.replace(outer, clip_norm=clip_norm or None)

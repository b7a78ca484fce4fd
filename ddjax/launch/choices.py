"""What the flags choose: the data and their form, the network, initial weights, augmentations, trainings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ddjax import augment, checks, coresets, forms, inits, networks, platforms
from ddjax import pool as pools
from ddjax.augment import Augmentation
from ddjax.data import Dataset, Split, load, repeat_channels, resize, rotated
from ddjax.data.digest import converted
from ddjax.data.whitening import fitted
from ddjax.encodings import Channels, Tokens
from ddjax.launch.settings import DataChoice, NetworkChoice, TextChoice
from ddjax.networks.precision import at_precision
from ddjax.plan import Plan
from ddjax.pool import Pool
from ddjax.recipes import MOST_EPOCHS, Train
from ddjax.types import InitDistribution, Network, Outer

STATISTICS = {"imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))}
"""Mean and standard deviation of pixel / 255 that published weights expect, by the choices of `--pixels`."""


def load_data(config: Any) -> Dataset:
    """The data set that the flags name, in the form that the flags ask for.

    Args:
        config: settings that are both a `Where` and a `DataChoice`, with those of `TextChoice` where the
            launcher has them.

    Returns:
        The data set.

    Raises:
        ValueError: the name is unknown, or the data cannot be converted to that form.
        FileNotFoundError: the data are missing.
    """
    flags: Any = config  # to the type checker, no `TextChoice` alone
    text = flags.text_settings() if isinstance(flags, TextChoice) else None
    data = load(config.dataset, data_dir=config.data_dir, seed=config.seed, text=text)
    return in_form(data, config)


def fewer(split: Split, count: int | None, *, seed: int) -> Split:
    """A split with fewer examples, drawn without replacement.

    Args:
        split: the split.
        count: the number of examples; None, or more than there are, keeps all.
        seed: the seed of the draw.

    Returns:
        The split, whose examples keep their order.
    """
    if count is None or count >= len(split):
        return split
    return split.at(np.sort(np.random.default_rng(seed).permutation(len(split))[:count]))


def in_form(data: Dataset, config: DataChoice) -> Dataset:
    """The data with the height, width, channels and normalisation of the flags.

    Args:
        data: the data set to convert.
        config: the settings; a setting that is None leaves that property of the data as it is.

    Returns:
        The converted data set.

    Raises:
        ValueError: the images cannot be converted to that form.
    """
    for name in ("channels", "resize", "rotated", "pixels", "whiten"):
        if getattr(config, name) is not None:
            data = converted_by(data, name, getattr(config, name))
    return data


def converted_by(data: Dataset, name: str, value: Any) -> Dataset:
    """The data after one conversion of their form.

    Args:
        data: the data set to convert.
        name: the name of the conversion: `"channels"`, `"resize"`, `"rotated"`, `"pixels"` or `"whiten"`.
        value: the setting of the conversion: a number of channels, a side or a height and width, the largest
            angle in degrees, or a choice of `--pixels` or `--whiten`.

    Returns:
        The converted data set, whose `origin` names the conversion.

    Raises:
        ValueError: the images cannot be converted so.
    """
    if name == "channels":
        return repeat_channels(data, value)
    if name == "resize":
        return resize(data, tuple(value) if isinstance(value, list) else value)
    if name == "rotated":
        return rotated(data, float(value))
    if name == "whiten":
        return converted(data, data.encoded_by(fitted(data.train, value)), whiten=value)
    return converted(data, normalised_as(data, *STATISTICS[value]), pixels=value)


def normalised_as(data: Dataset, mean: Sequence[float], std: Sequence[float]) -> Dataset:
    """The data under another normalisation of pixels, such as the one that given weights were trained with.

    Args:
        data: the data set to normalise.
        mean: `[C]`, the mean of pixel / 255.
        std: `[C]`, the standard deviation of pixel / 255.

    Returns:
        The same images under the new normalisation.

    Raises:
        ValueError: the images have another number of channels.
    """
    channels = data.image_shape[2]
    checks.equal("pixels: channels", channels, len(mean), remedy="Repeat grey images to 3 with --channels=3.")
    return data.encoded_by(Channels(np.array(mean, np.float32), np.array(std, np.float32)))


def choose_network(
    config: NetworkChoice, data: Dataset, *, otherwise: tuple[str, Mapping[str, Any]] | None = None
) -> tuple[str, dict[str, Any]]:
    """The name and settings of the network that the flags choose.

    Args:
        config: the settings.
        data: the data set whose examples the network must fit.
        otherwise: the name and settings of the network to take where the flags name none; by default the
            network that fits the examples.

    Returns:
        The name and the settings, to be given to `ddjax.networks.by_name`.
    """
    name, own = otherwise or networks.default_for(data.input_shape)
    given = {"width": config.width, "depth": config.depth, "norm": config.norm}
    chosen = {key: value for key, value in given.items() if value is not None}
    if config.network in (None, name):
        return name, {**own, **chosen}
    if config.network != "convnet":
        return str(config.network), chosen
    if isinstance(data.encoding, Tokens):
        raise ValueError(
            f"network: expected one for texts, which {data.name} has; got convnet. Give --network=textconv, "
            "bilstm or transformer."
        )
    # A ConvNet-3, or as deep as smaller images allow.
    return "convnet", {"depth": min(3, min(data.image_shape[:2]).bit_length() - 2)} | chosen


def other_network(
    choice: tuple[str, Mapping[str, Any]], *, name: str | None, width: int | None
) -> tuple[str, Mapping[str, Any]]:
    """The name and settings of a second network.

    Args:
        choice: the name and settings of the first network, which the second is like unless flags differ.
        name: the name that flags give the second network; None where they give none.
        width: the channels of its layers; None for its own.

    Returns:
        The name and the settings.
    """
    first, settings = choice
    if name not in (None, first):
        first, settings = str(name), {}
    return first, {**settings, **({} if width is None else {"width": width})}


def load_pool(path: str) -> Pool:
    """The pool of networks in the file that a flag names.

    Args:
        path: the path of a `pool.npz`.

    Returns:
        The pool.

    Raises:
        ValueError: the path is empty, or the file holds no pool.
        FileNotFoundError: there is no such file.
    """
    if not path:
        raise ValueError(
            "pool: expected the pool.npz of `ddjax pretrain`; got none. Give --pool=path/to/pool.npz."
        )
    return pools.load(path)


def network_of(pool: Pool) -> tuple[str, dict[str, Any]] | None:
    """The name and settings of the network that a pool was trained with.

    Args:
        pool: the pool to read.

    Returns:
        The name and the settings; None where the pool does not name its network.
    """
    name = pool.metadata.get("network")
    return (name, dict(pool.metadata.get("network_settings", {}))) if name else None


def build_network(
    choice: tuple[str, Mapping[str, Any]], data: Dataset, *, conv_form: str = "auto"
) -> Network:
    """The chosen network, built for the examples and classes of a data set.

    Args:
        choice: the name and settings of the network.
        data: the data set whose examples and classes the network must fit.
        conv_form: the form in which convolutions are computed. The form changes the speed, not the network.

    Returns:
        The network.

    Raises:
        ValueError: the network is unknown, does not fit the examples, or has no such setting.
    """
    name, own = choice
    return networks.by_name(name, data.input_shape, data.num_classes, conv_form=conv_form, **own)


def spelled_network(
    config: NetworkChoice, data: Dataset, *, otherwise: tuple[str, Mapping[str, Any]] | None = None
) -> Network:
    """The network that the flags choose, where `--network` may have settings: `mlp:widths=256x128`.

    Args:
        config: the settings.
        data: the data set whose examples and classes the network must fit.
        otherwise: the name and settings of the network to take where the flags name none; by default the
            network that fits the examples.

    Returns:
        The network.

    Raises:
        ValueError: the network is unknown, does not fit the examples, or has no such setting.
    """
    if config.network is not None and ":" in config.network:
        return networks.by_text(config.network, data.input_shape, data.num_classes)
    return build_network(choose_network(config, data, otherwise=otherwise), data)


def random_inits(config: NetworkChoice, network: Network) -> InitDistribution:
    """p(θ0) of the flags `--init` and `--init_gain`: weights drawn anew each time.

    Args:
        config: the settings.
        network: the network that the weights belong to.

    Returns:
        The distribution.

    Raises:
        ValueError: there is no such scheme.
    """
    return inits.random(network, scheme=config.init, gain=config.init_gain)


def network_of_plan(network: Network, plan: Plan) -> Network:
    """The network under which φ moves; scores are always those of the network itself.

    Args:
        network: the network.
        plan: the plan, with its precision.

    Returns:
        The network at that precision.
    """
    return network if plan.precision is None else at_precision(network, plan.precision)


def strategy(name: str | None, data: Dataset) -> str:
    """The name of the augmentation strategy that a flag stands for.

    Args:
        name: the value of the flag; `"dsa"` stands for the strategy that DSA uses for these data.
        data: the data set to augment.

    Returns:
        The name of the strategy; empty where the flag names none.
    """
    return augment.strategy_for(data.name) if name == "dsa" else name or ""


def augmentation(name: str | None, data: Dataset) -> Augmentation | None:
    """The augmentation that a flag names, for the images of a data set.

    Args:
        name: the value of the flag; None or empty for no augmentation.
        data: the data set to augment.

    Returns:
        The augmentation; None for none.

    Raises:
        ValueError: the name is unknown, the images are too small for the augmentation, or the data are texts.
    """
    chosen = strategy(name, data)
    if chosen and isinstance(data.encoding, Tokens):
        raise ValueError(
            f"augmentation: expected images to augment; got {chosen!r} for the texts of {data.name}. "
            "Leave it out."
        )
    return augment.by_name(chosen, data.image_shape) if chosen else None


def augmentations(data: Dataset, **names: str | None) -> dict[str, str]:
    """The augmentation strategies of the flags that are given, for `plan.json`.

    Args:
        data: the data set to augment.
        names: the values of the flags, by the names of the entries in `plan.json`; an entry that is None is
            left out.

    Returns:
        The names of the strategies, by entry.
    """
    return {key: strategy(name, data) for key, name in names.items() if name is not None}


def runs_at_once(num_inits: int) -> int:
    """The number of trainings to vmap together: one on CPU, where batching them gains nothing, all elsewhere.

    Args:
        num_inits: the number of all trainings.

    Returns:
        The number of trainings to compute at the same time.
    """
    return 1 if platforms.current() == "cpu" else num_inits


def trained_recipe(
    data: Dataset,
    *,
    train_lr: float,
    train_epochs: int,
    eval_augment: str | None,
    protocol: str,
    train_batch: int = 256,
) -> Train:
    """The recipe of an ordinary training on a few images, from the flags of the same names.

    Args:
        data: the data set that the images belong to.
        train_lr: the learning rate.
        train_epochs: the number of passes over the images.
        eval_augment: the augmentation of each image; None or empty for none.
        protocol: the count of the epochs and the fall of the rate, one of `ddjax.recipes.PROTOCOLS`.
        train_batch: the number of images in a minibatch.

    Returns:
        The recipe.

    Raises:
        ValueError: the rate is not above zero, the epochs are none or too many, the augmentation is unknown,
            or the images are too small for it.
    """
    checks.positive("train_lr", train_lr)
    checks.at_least("train_epochs", train_epochs, 1)
    if train_epochs > MOST_EPOCHS:
        raise ValueError(f"train_epochs: expected at most {MOST_EPOCHS:,}; got {train_epochs:,}. Give fewer.")
    augmentation(eval_augment, data)
    chosen = strategy(eval_augment, data)
    return Train(
        lr=train_lr,
        epochs=train_epochs,
        batch_size=train_batch,
        augmentation=chosen,
        protocol=protocol,
    )


def initial_images(
    name: str, data: Dataset, *, steps: int, per_class_per_step: int, seed: int
) -> np.ndarray | None:
    """The images that φ starts from.

    Args:
        name: the choice of `--initial_images`.
        data: the data set to take the images from.
        steps: S, the number of inner steps that have images of their own.
        per_class_per_step: the number of images of one class in one step.
        seed: the seed of a random choice.

    Returns:
        `[S, B, H, W, C]`, the images; None where φ starts from noise.

    Raises:
        ValueError: a class has too few images.
    """
    select = coresets.INITIAL_IMAGES[name]
    if select is None:
        return None
    per_class = steps * per_class_per_step
    images = select(data.train, per_class=per_class, num_classes=data.num_classes, seed=seed)
    return forms.by_step(images, steps)


def bounded(outer: Outer, clip_norm: float | None) -> Outer:
    """The outer optimiser with the bound on the gradient's norm that a flag asks for.

    Args:
        outer: the method's own outer optimiser.
        clip_norm: the value of `--clip_norm`; None for the method's own bound, 0 for no bound.

    Returns:
        The outer optimiser under that bound.
    """
    return outer if clip_norm is None else dataclasses.replace(outer, clip_norm=clip_norm or None)

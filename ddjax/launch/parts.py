"""The parts of an experiment: what one launcher chooses, built from its settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from ddjax import augment, checks, coresets, inits, methods, networks, optimizers
from ddjax import distilled as forms
from ddjax import pool as pools
from ddjax.augment import Augmentation
from ddjax.data import Dataset, load, repeat_channels, resize
from ddjax.defaults import CLIP_NORM, OUTER_LR
from ddjax.launch import settings
from ddjax.methods.unrolled import Objective
from ddjax.methods.unrolled import cross_entropy as cross_entropy_objective
from ddjax.plan import CHOICES, Plan, default_plan
from ddjax.pool import Pool
from ddjax.types import Form, InitDistribution, Method, Network, Recipe, Schedule
from ddjax.unroll import STRATEGIES

STATISTICS = {"imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))}
"""Mean and std of pixel / 255 that published weights expect, by the choices of `--pixels`."""


class Keys(NamedTuple):
    """The keys of a run, all from its seed; none is used twice.

    Attributes:
        theta: θ0 of a fixed p(θ0).
        run: the distillation.
        validation: the initial weights that choose the best φ.
        test: the initial weights of the final score.
        baselines: the initial weights of the baselines.
    """

    theta: jax.Array
    run: jax.Array
    validation: jax.Array
    test: jax.Array
    baselines: jax.Array

    @classmethod
    def of(cls, seed: int) -> Keys:
        """Split a seed."""
        return cls(*jax.random.split(jax.random.key(seed), len(cls._fields)))


@dataclasses.dataclass(frozen=True)
class Parts:
    """What an experiment chooses; everything else is the same for all.

    Attributes:
        network: trained on φ.
        inits: p(θ0).
        method: the loss.
        form: of φ.
        optimizer: of φ.
        num_outer_steps: resolved.
        clip_norm: resolved; None for no bound.
        layout: S, E and images of one class in one step, for the baselines.
        plan: the automatic choices by name, for `plan.json`.
        network_settings: what `ddjax.networks.by_name` needs to build the network again.
        eval_inits: p(θ0) of the final score where it is another one, e.g. the held-out members of a pool.
        score: `(config, data, keys, parts) -> (schedule -> percent)`, what the best φ is chosen by; by
            default accuracy on the validation split.
        measure: what `result.json` holds, with the arguments of `ddjax.launch.results.measure`, which it is
            by default.
    """

    network: Network
    inits: InitDistribution
    method: Method
    form: Form
    optimizer: optax.GradientTransformation
    num_outer_steps: int
    clip_norm: float | None
    layout: tuple[int, int, int]
    plan: Mapping[str, Any]
    network_settings: Mapping[str, Any]
    eval_inits: InitDistribution | None = None
    score: Callable[[Any, Dataset, Keys, Parts], Callable[[Schedule], jax.Array]] | None = None
    measure: Callable[..., dict[str, Any]] | None = None

    @property
    def judged_inits(self) -> InitDistribution:
        """p(θ0) of the final score."""
        return self.eval_inits or self.inits


Build = Callable[[Any, Dataset, Keys], Parts]
"""`(config, data, keys) -> Parts`: all that one launcher says of its own."""


def load_data(config: Any) -> Dataset:
    """The data set of the flags, in the form that they say.

    Args:
        config: a `DataChoice` with `dataset`, `data_dir` and `seed`.

    Raises:
        ValueError: an unknown name, or data that cannot be brought to that form.
        FileNotFoundError: the data are missing.
    """
    data = load(config.dataset, data_dir=config.data_dir, seed=config.seed)
    return in_form(data, config)


def in_form(data: Dataset, config: settings.DataChoice) -> Dataset:
    """The data with the height, width and channels of the flags, where they say any."""
    if config.channels is not None:
        data = repeat_channels(data, config.channels)
    data = data if config.resize is None else resize(data, config.resize)
    return data if config.pixels is None else normalised_as(data, *STATISTICS[config.pixels])


def normalised_as(data: Dataset, mean: Sequence[float], std: Sequence[float]) -> Dataset:
    """The data under another normalisation of their pixels, such as given weights were trained under.

    Args:
        data: any.
        mean: `[C]`, of pixel / 255.
        std: `[C]`.

    Raises:
        ValueError: the images have another number of channels.
    """
    channels = data.image_shape[2]
    checks.equal("pixels: channels", channels, len(mean), remedy="Repeat grey images to 3 with --channels=3.")
    same = {"mean": np.array(mean, np.float32), "std": np.array(std, np.float32)}
    parts = {name: getattr(data, name) for name in ("train", "validation", "test")}
    return dataclasses.replace(data, **{name: dataclasses.replace(p, **same) for name, p in parts.items()})


def choose_network(
    config: settings.NetworkChoice, data: Dataset, *, otherwise: tuple[str, Mapping[str, Any]] | None = None
) -> tuple[str, dict[str, Any]]:
    """The name and settings of the network of the flags.

    Args:
        config: what the flags say.
        data: what it must fit.
        otherwise: where the flags name none; by default what fits the images.

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
        choice: its name and settings.
        data: what it must fit.
        conv_form: how its convolutions are computed; no part of what it is.

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


def given(config: settings.Common) -> dict[str, Any]:
    """The choices of a plan that the flags make."""
    values = {name: getattr(config, name, None) for name in CHOICES}
    return {name: value for name, value in values.items() if value not in (None, "auto")}


def default_for(config: settings.Common) -> Plan:
    """The backend's default plan, but for what the flags say."""
    unrolls = isinstance(config, settings.Unrolled)
    usual = default_plan(jax.default_backend(), num_inits=config.num_inits, unrolls=unrolls)
    return dataclasses.replace(usual, **given(config))


class Outer(NamedTuple):
    """How φ moves.

    Attributes:
        optimizer: of φ.
        num_outer_steps: resolved.
        clip_norm: resolved; None for no bound.
        plan: the same in words and numbers, for `plan.json`.
    """

    optimizer: optax.GradientTransformation
    num_outer_steps: int
    clip_norm: float | None
    plan: Mapping[str, Any]


def outer_rate(config: settings.Common, otherwise: float) -> float:
    """The images' learning rate at the start: the flag's, or where it says none `otherwise`.

    Raises:
        ValueError: not above zero.
    """
    if config.outer_lr is None:
        return otherwise
    checks.positive("outer_lr", config.outer_lr)
    return config.outer_lr


def our_outer(config: settings.Unrolled) -> Outer:
    """Adam on a cosine, the gradient's norm bounded; see "How the outer recipe was chosen" in the README."""
    steps, lr = config.num_outer_steps or 1000, outer_rate(config, OUTER_LR)
    clip_norm = CLIP_NORM if config.clip_norm is None else config.clip_norm or None
    plan = {"outer_optimizer": "adam, cosine to 0", "outer_lr": lr, "outer_lr_of_lrs": config.outer_lr_of_lrs}
    optimizer = optimizers.adam_cosine(steps, lr=lr, lr_of_lrs=config.outer_lr_of_lrs)
    return Outer(optimizer, steps, clip_norm, plan)


def original_outer(config: settings.Unrolled, data: Dataset) -> Outer:
    """The 2018 paper's: Adam (0.5, 0.999) at 0.01, halved every 40 of 400 epochs, no bound."""
    epoch = max(1, len(data.train) // config.batch_size)
    steps, lr = config.num_outer_steps or 400 * epoch, outer_rate(config, 0.01)
    plan = {"outer_optimizer": f"adam(0.5, 0.999), halved every {40 * epoch} steps", "outer_lr": lr}
    return Outer(optimizers.adam_halving(40 * epoch, lr=lr), steps, config.clip_norm or None, plan)


def initial_images(
    config: settings.Unrolled | settings.Matching, data: Dataset, *, steps: int, per_class_per_step: int
) -> np.ndarray | None:
    """`[S, B, H, W, C]`, what φ's images start from; None for noise.

    Args:
        config: its `initial_images` and `seed`.
        data: to take them from.
        steps: S.
        per_class_per_step: images of one class in one step.

    Raises:
        ValueError: a class has too few images.
    """
    select = coresets.INITIAL_IMAGES[config.initial_images]
    if select is None:
        return None
    per_class = steps * per_class_per_step
    images = select(data.train, per_class=per_class, num_classes=data.num_classes, seed=config.seed)
    return forms.by_step(images, steps)


def unrolled_parts(
    config: settings.Unrolled,
    data: Dataset,
    inits_of: Callable[[Network], InitDistribution],
    *,
    otherwise: tuple[str, Mapping[str, Any]] | None = None,
    objective: Objective = cross_entropy_objective,
) -> Parts:
    """The parts of an experiment with the unrolled method.

    Args:
        config: its settings.
        data: the real data.
        inits_of: p(θ0) of the chosen network.
        otherwise: name and settings of the network where the flags name none; by default what fits.
        objective: of the outer loop.
    """
    choice = choose_network(config, data, otherwise=otherwise)
    network = build_network(choice, data, conv_form=config.conv_form)
    distribution = inits_of(network)
    outer = original_outer(config, data) if config.original else our_outer(config)
    layout = (config.inner_steps, config.inner_epochs, config.images_per_class_per_step)
    form = forms.pixels(
        data.image_shape,
        data.num_classes,
        inner_steps=layout[0],
        inner_epochs=layout[1],
        images_per_class_per_step=layout[2],
        inner_lr=config.inner_lr,
        initial_images=initial_images(config, data, steps=layout[0], per_class_per_step=layout[2]),
        label_confidence=config.label_confidence,
    )
    method = methods.unrolled(
        network,
        distribution,
        batch_size=config.batch_size,
        inner_optimizer=config.inner_optimizer,
        memory=dataclasses.replace(STRATEGIES[str(default_for(config).memory)], window=config.window),
        horizon=config.horizon,
        objective=objective,
        augmentation=augmentation(config.augment, data),
    )
    plan = {**outer.plan, **augmentations(data, augmentation=config.augment)}
    return Parts(network, distribution, method, form, *outer[:3], layout, plan, choice[1])


def trained_recipe(data: Dataset, *, train_lr: float, train_epochs: int, eval_augment: str | None) -> Recipe:
    """An ordinary training on a few images, by the flags of those names.

    Raises:
        ValueError: an unknown augmentation, or images that are too small for it.
    """
    recipe = Recipe("train", lr=train_lr, epochs=train_epochs, augmentation=strategy(eval_augment, data))
    augment.of_recipe(recipe, data.image_shape)
    return recipe


class Matched(NamedTuple):
    """What a matching method is built from.

    Attributes:
        network: to compare images under.
        inits: p(θ0).
        recipe: how to train on the result.
        augmentation: of real and distilled images alike; None for none.
    """

    network: Network
    inits: InitDistribution
    recipe: Recipe
    augmentation: Augmentation | None


def matching_parts(
    config: settings.Matching,
    data: Dataset,
    method_of: Callable[[Matched], Method],
    *,
    num_outer_steps: int,
    plan: Mapping[str, Any] | None = None,
) -> Parts:
    """The parts of an experiment that matches: all images in one step, moved by SGD with momentum.

    Args:
        config: its settings.
        data: the real data.
        method_of: the method.
        num_outer_steps: where the flags say none.
        plan: what else was resolved, for `plan.json`.
    """
    choice = choose_network(config, data)
    network = build_network(choice, data, conv_form=config.conv_form)
    recipe = trained_recipe(
        data,
        train_lr=config.train_lr,
        train_epochs=config.train_epochs,
        eval_augment=config.eval_augment,
    )
    distribution = inits.random(network, scheme=config.init, gain=config.init_gain)
    method = method_of(Matched(network, distribution, recipe, augmentation(config.augment, data)))
    count = config.images_per_class
    form = forms.pixels(
        data.image_shape,
        data.num_classes,
        inner_steps=1,
        images_per_class_per_step=count,
        inner_lr=None,
        initial_images=initial_images(config, data, steps=1, per_class_per_step=count),
    )
    lr = outer_rate(config, method.outer_lr)
    resolved = {
        "outer_optimizer": "sgd, momentum 0.5",
        "outer_lr": lr,
        **(plan or {}),
        **augmentations(data, augmentation=config.augment, eval_augmentation=config.eval_augment),
    }
    return Parts(
        network,
        distribution,
        method,
        form,
        optimizers.sgd_momentum(lr=lr),
        config.num_outer_steps or num_outer_steps,
        config.clip_norm or None,
        (1, 1, count),
        resolved,
        choice[1],
    )

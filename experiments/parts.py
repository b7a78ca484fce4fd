"""The parts of an experiment: what one launcher chooses, built from its settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import optax

from ddjax import distilled as forms
from ddjax import methods, networks, optimizers
from ddjax.data import Dataset
from ddjax.plan import CHOICES, Plan, default_plan
from ddjax.types import Form, InitDistribution, Method, Network
from ddjax.unroll import STRATEGIES
from experiments import config as settings


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


Build = Callable[[Any, Dataset, Keys], Parts]
"""`(config, data, keys) -> Parts`: all that one launcher says of its own."""


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
    given = {"width": config.width, "depth": config.depth}
    chosen = {key: value for key, value in given.items() if value is not None}
    if config.network in (None, name):
        return name, {**own, **chosen}
    return str(config.network), chosen


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


def our_outer(config: settings.Unrolled) -> Outer:
    """Adam on a cosine, the gradient's norm bounded; see the ablation in the README."""
    steps, lr = config.num_outer_steps or 1000, config.outer_lr or 0.05
    clip_norm = 0.2 if config.clip_norm is None else config.clip_norm or None
    plan = {"outer_optimizer": "adam, cosine to 0", "outer_lr": lr, "outer_lr_of_lrs": config.outer_lr_of_lrs}
    optimizer = optimizers.adam_cosine(steps, lr=lr, lr_of_lrs=config.outer_lr_of_lrs)
    return Outer(optimizer, steps, clip_norm, plan)


def original_outer(config: settings.Unrolled, data: Dataset) -> Outer:
    """The 2018 paper's: Adam (0.5, 0.999) at 0.01, halved every 40 of 400 epochs, no bound."""
    epoch = max(1, len(data.train) // config.batch_size)
    steps, lr = config.num_outer_steps or 400 * epoch, config.outer_lr or 0.01
    plan = {"outer_optimizer": f"adam(0.5, 0.999), halved every {40 * epoch} steps", "outer_lr": lr}
    return Outer(optimizers.adam_halving(40 * epoch, lr=lr), steps, config.clip_norm or None, plan)


def unrolled_parts(
    config: settings.Unrolled, data: Dataset, inits_of: Callable[[Network], InitDistribution]
) -> Parts:
    """The parts of an experiment with the unrolled method.

    Args:
        config: its settings.
        data: the real data.
        inits_of: p(θ0) of the chosen network.
    """
    choice = choose_network(config, data)
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
    )
    method = methods.unrolled(
        network,
        distribution,
        batch_size=config.batch_size,
        inner_optimizer=config.inner_optimizer,
        memory=dataclasses.replace(STRATEGIES[str(default_for(config).memory)], window=config.window),
    )
    return Parts(network, distribution, method, form, *outer[:3], layout, outer.plan, choice[1])

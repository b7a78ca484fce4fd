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
from ddjax.types import Form, InitDistribution, Method, Network
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


Build = Callable[[Any, Dataset, Keys], Parts]
"""`(config, data, keys) -> Parts`: all that one launcher says of its own."""


def build_network(config: settings.NetworkChoice, data: Dataset, *, default: str | None = None) -> Network:
    """The network of the flags, else `default`, else the one that fits the images.

    Raises:
        ValueError: unknown, or it does not fit the images, or has no such setting.
    """
    name, own = networks.default_for(data.image_shape)
    wanted = config.network or default or name
    given = {"width": config.width, "depth": config.depth}
    chosen: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if wanted == name:
        chosen = own | chosen
    return networks.by_name(wanted, data.image_shape, data.num_classes, **chosen)


def runs_at_once(num_inits: int) -> int:
    """How many trainings to vmap: one after the other on CPU, where batching them gains nothing."""
    return 1 if jax.default_backend() == "cpu" else num_inits


def outer_optimizer(
    config: settings.Unrolled, data: Dataset, *, num_outer_steps: int
) -> tuple[optax.GradientTransformation, int, float | None, dict[str, Any]]:
    """Our outer recipe or, with `--original`, the paper's: optimiser, steps, bound on the norm, plan."""
    if config.original:
        epoch = max(1, len(data.train) // config.batch_size)
        steps, lr = config.num_outer_steps or 400 * epoch, config.outer_lr or 0.01
        plan = {"outer_optimizer": f"adam(0.5, 0.999), halved every {40 * epoch} steps", "outer_lr": lr}
        return optimizers.adam_halving(40 * epoch, lr=lr), steps, config.clip_norm or None, plan
    steps, lr = config.num_outer_steps or num_outer_steps, config.outer_lr or 0.03
    clip_norm = 1.0 if config.clip_norm is None else config.clip_norm or None
    plan = {"outer_optimizer": "adam(0.9, 0.999), cosine to 0", "outer_lr": lr}
    return optimizers.adam_cosine(steps, lr=lr), steps, clip_norm, plan


def unrolled_parts(
    config: settings.Unrolled, data: Dataset, network: Network, distribution: InitDistribution
) -> Parts:
    """The parts of an experiment with the unrolled method."""
    optimizer, steps, clip_norm, plan = outer_optimizer(config, data, num_outer_steps=1000)
    layout = (config.inner_steps, config.inner_epochs, config.images_per_class_per_step)
    form = forms.pixels(
        data.image_shape,
        data.num_classes,
        inner_steps=layout[0],
        inner_epochs=layout[1],
        images_per_class_per_step=layout[2],
        inner_lr=config.inner_lr,
    )
    method = methods.unrolled(network, distribution, batch_size=config.batch_size)
    return Parts(network, distribution, method, form, optimizer, steps, clip_norm, layout, plan)

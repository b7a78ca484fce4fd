"""The vocabulary: every state that more than one module shares, with a shape on every field.

Axis letters, used in every docstring of the package:

    S  gradient steps that have a minibatch of their own     N  real images in a minibatch
    E  epochs over those S steps                             M  initial weights (slots) in one outer step
    T  = S * E, inner steps                                  D  devices
    B  distilled images in one step                          P  parameters of a network
    H, W, C  height, width, channels (always in this order)  K  classes

θ0 are a network's initial weights, θ its weights, φ the distilled data, η the inner learning rates.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

PyTree = Any
"""Any nesting of tuples, dicts and arrays that JAX can flatten."""

Params = Any
"""The weights of a network: a pytree of float arrays, P numbers in all."""

Info = Any
"""A NamedTuple of diagnostics; each field is documented where the tuple is defined."""


class Batch(NamedTuple):
    """Real examples, normalised.

    Attributes:
        inputs: `[N, H, W, C]` float, x = (pixel / 255 - mean) / std.
        labels: `[N]` int32 in [0, K).
    """

    inputs: jax.Array
    labels: jax.Array


class RealData(NamedTuple):
    """A split of the real data as it lies on the device: bytes, and an index of its classes.

    Attributes:
        images: `[n, H, W, C]` uint8.
        labels: `[n]` int32 in [0, K).
        mean: `[C]` float, of pixel / 255.
        std: `[C]` float, of pixel / 255.
        class_order: `[n]` int32; positions in `images`, grouped by class in ascending order.
        class_start: `[K + 1]` int32; class k owns `class_order[class_start[k]:class_start[k + 1]]`.
        assets: what a method reads beside the images, e.g. a pool of networks (`Method.assets`).
    """

    images: jax.Array
    labels: jax.Array
    mean: jax.Array
    std: jax.Array
    class_order: jax.Array
    class_start: jax.Array
    assets: PyTree = ()


class Schedule(NamedTuple):
    """The gradient steps that φ stands for: what a network is trained on, in which order, how fast.

    Attributes:
        inputs: `[S, B, H, W, C]` float, normalised; step s trains on `inputs[s]`.
        labels: `[S, B, K]` float, rows that sum to one, or to the image's weight where images have some.
        lrs: `[E, S]` float, η of epoch e and step s; None where the recipe brings its own optimiser.
    """

    inputs: jax.Array
    labels: jax.Array
    lrs: jax.Array | None


@dataclasses.dataclass(frozen=True)
class Network:
    """A pair of pure functions, and what is known of them before they run.

    Attributes:
        init: `key -> params`; the network's own initial weights. Consumes the key.
        apply: `(params, inputs [n, H, W, C]) -> logits [n, K]`.
        embed: `(params, inputs [n, H, W, C]) -> features [n, F]`, what the last layer sees; None where
            the network does not say.
        name: how artifacts and records call it.
        image_shape: `(H, W, C)`.
        num_classes: K.
    """

    init: Callable[[jax.Array], Params]
    apply: Callable[[Params, jax.Array], jax.Array]
    embed: Callable[[Params, jax.Array], jax.Array] | None
    name: str
    image_shape: tuple[int, int, int]
    num_classes: int


@dataclasses.dataclass(frozen=True)
class InitDistribution:
    """p(θ0).

    Attributes:
        sample: `key -> params`. Consumes the key (a fixed distribution ignores it).
        name: how artifacts and records call it, e.g. `"xavier_normal"`.
        fixed: whether every sample is the same θ0.
        pool: each leaf `[n, ...]`, the n weights that a finite p(θ0) chooses from; None for others. Programs
            take it as an argument instead of `sample`'s constant, and an evaluation takes its members in
            their order, each once.
    """

    sample: Callable[[jax.Array], Params]
    name: str
    fixed: bool = False
    pool: Params | None = dataclasses.field(default=None, compare=False, repr=False)

    @property
    def size(self) -> int | None:
        """How many different θ0 there are; None for infinitely many."""
        if self.pool is not None:
            return len(jax.tree.leaves(self.pool)[0])
        return 1 if self.fixed else None


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How an artifact says to train on it.

    Attributes:
        kind: `"schedule"`: replay the S·E steps with the learned η. `"train"`:
            an ordinary training on all S·B images as one small training set, with the settings below.
        lr: learning rate at the start (`train`).
        momentum: of SGD (`train`).
        weight_decay: added to the gradient as `weight_decay * θ` (`train`).
        epochs: passes over the S·B images (`train`); the rate falls to a tenth at half of them.
        batch_size: images in one step (`train`).
        optimizer: whose updates η scales, a name from `ddjax.unroll.OPTIMIZERS` (`schedule`).
        augmentation: of every minibatch, with params of its own for each image, a strategy that
            `ddjax.augment.by_name` knows (`train`); none where it is empty.

    References:
        schedule: Wang et al. 2018, algorithm 1. train: Zhao et al. 2021, the evaluation protocol.
    """

    kind: Literal["schedule", "train"] = "schedule"
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    epochs: int = 300
    batch_size: int = 256
    optimizer: str = "sgd"
    augmentation: str = ""


@dataclasses.dataclass(frozen=True)
class Form:
    """How a pytree of parameters stands for a schedule.

    Attributes:
        init: `key -> params`, the starting point of the distillation. Consumes the key.
        unfold: `params -> Schedule`; differentiable.
        name: how artifacts and records call it.
    """

    init: Callable[[jax.Array], PyTree]
    unfold: Callable[[PyTree], Schedule]
    name: str


@dataclasses.dataclass(frozen=True)
class Distilled:
    """φ: what a distillation gives, and all that is needed to train on it.

    Attributes:
        params: the pytree that the outer optimiser moves.
        form: unfolds `params` into a `Schedule`.
        mean: `[C]`, of pixel / 255: the inputs are (pixel / 255 - mean) / std.
        std: `[C]`.
        recipe: how to train on it.
        metadata: JSON-able facts: dataset, network, method, class names, ...
    """

    params: PyTree
    form: Form
    mean: jax.Array
    std: jax.Array
    recipe: Recipe = Recipe()
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def schedule(self) -> Schedule:
        """The gradient steps that `params` stand for."""
        return self.form.unfold(self.params)


def _no_state(key: jax.Array) -> PyTree:
    del key
    return ()


def _keep_state(schedule: Schedule, state: PyTree, key: jax.Array) -> PyTree:
    del schedule, key
    return state


@dataclasses.dataclass(frozen=True)
class Method:
    """What is minimised: four pure functions, each for *one* slot (one draw of initial weights).

    Attributes:
        sample: `(data, key) -> batch`, the real examples of one outer step, shared by all slots.
            Consumes the key.
        loss: `(schedule, state, batch, key) -> (loss [], Info)`, differentiable in `schedule`.
            Consumes the key.
        name: how artifacts and records call it.
        recipe: how to train on what the method distils.
        needs_lrs: whether the schedule must bring learning rates.
        outer_lr: published rate of the images, by SGD with momentum, where no learning rates are learned.
        init: `key -> state`, what a slot carries from one outer step to the next; nothing by default.
            Consumes the key.
        advance: `(schedule, state, key) -> state` after φ has moved; never differentiated; by default the
            state stays. Consumes the key.
        assets: read-only arrays that travel with the data instead of being constants of the program; `sample`
            finds them as `data.assets`.
        check_labels: `labels [S, B, K] -> None`, refuses by a ValueError those of a φ that the method cannot
            use, of which it sees the start before anything compiles; None where it can use all.
    """

    sample: Callable[[RealData, jax.Array], PyTree]
    loss: Callable[[Schedule, PyTree, Any, jax.Array], tuple[jax.Array, Info]]
    name: str
    recipe: Recipe
    needs_lrs: bool
    outer_lr: float = 1.0
    init: Callable[[jax.Array], PyTree] = _no_state
    advance: Callable[[Schedule, PyTree, jax.Array], PyTree] = _keep_state
    assets: PyTree = dataclasses.field(default=(), compare=False, repr=False)
    check_labels: Callable[[np.ndarray], None] | None = None


__all__ = [
    "Batch",
    "Distilled",
    "Form",
    "Info",
    "InitDistribution",
    "Method",
    "Network",
    "Params",
    "PyTree",
    "RealData",
    "Recipe",
    "Schedule",
]

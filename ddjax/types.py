"""The vocabulary: every state that more than one module shares, with a shape on every field.

Axis letters, used in every docstring of the package:

    S  gradient steps that have a minibatch of their own     N  real examples in a minibatch
    E  epochs over those S steps                             M  initial weights (slots) in one outer step
    T  = S * E, inner steps                                  D  devices
    B  distilled examples in one step                        P  parameters of a network
    H, W, C  height, width, channels (always in this order)  K  classes
    L  tokens of a text                                      F  features

θ0 are a network's initial weights, θ its weights, φ the distilled data, η the inner learning rates.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import numpy as np
import optax

PyTree = Any
"""Any nesting of tuples, dicts and arrays that JAX can flatten."""

Params = Any
"""The weights of a network: a pytree of float arrays, P numbers in all."""

Info = Any
"""A NamedTuple of diagnostics; each field is documented where the tuple is defined."""


class Encoding(abc.ABC):
    """What networks see of raw data, and back again.

    The kinds are frozen dataclasses in `ddjax.encodings`, registered as pytrees: a whitening of 38 MB is an
    argument of a program and never a constant in it.

    Attributes:
        kind: the name that artifacts call the kind by.
    """

    kind: ClassVar[str]

    @abc.abstractmethod
    def encode(self, raw: Any) -> Any:
        """The inputs of a network.

        Args:
            raw: `[..., *raw_shape]` examples as they are stored: bytes of pixels, or numbers of tokens.

        Returns:
            `[..., *input_shape]` float, in the dtype of the encoding's own arrays.
        """

    @abc.abstractmethod
    def decode(self, inputs: Any) -> Any:
        """What stands for some inputs, for people to look at.

        Args:
            inputs: `[..., *input_shape]` float.

        Returns:
            `[..., *raw_shape]`: pixels as floats in units of 1 (white), neither clipped nor rounded; or the
            numbers of the nearest tokens.
        """

    @abc.abstractmethod
    def input_shape(self, raw_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of an encoded example.

        Args:
            raw_shape: the shape of a raw example.

        Returns:
            The shape of what `encode` makes of one example.
        """

    @abc.abstractmethod
    def check(self, raw: np.ndarray) -> None:
        """Refuse raw examples that the encoding is not made for.

        Args:
            raw: `[n, *raw_shape]` examples.

        Raises:
            ValueError: another dtype or shape than the encoding needs, or an encoding that holds NaN,
                infinity or, as a divisor, zero.
        """


class Batch(NamedTuple):
    """Real examples, encoded.

    Attributes:
        inputs: `[N, *input_shape]` float, what networks see.
        labels: `[N]` int32 in [0, K).
    """

    inputs: jax.Array
    labels: jax.Array


class RealData(NamedTuple):
    """A split of the real data as it lies on the device: raw, with its encoding and an index of its classes.

    Attributes:
        raw: `[n, *raw_shape]`; of images `[n, H, W, C]` uint8, of texts `[n, L]` int32.
        labels: `[n]` int32 in [0, K).
        encoding: what networks see of `raw`.
        class_order: `[n]` int32; positions in `raw`, grouped by class in ascending order.
        class_start: `[K + 1]` int32; class k owns `class_order[class_start[k]:class_start[k + 1]]`.
        assets: what a method reads beside the examples, e.g. a pool of networks (`Method.assets`).
    """

    raw: jax.Array
    labels: jax.Array
    encoding: Encoding
    class_order: jax.Array
    class_start: jax.Array
    assets: PyTree = ()

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of an encoded example."""
        return self.encoding.input_shape(tuple(self.raw.shape[1:]))

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_start) - 1

    def inputs_at(self, rows: jax.Array) -> jax.Array:
        """The encoded examples at `rows [...]`, `[..., *input_shape]`."""
        return self.encoding.encode(self.raw[rows])


class Schedule(NamedTuple):
    """The gradient steps that φ stands for: what a network is trained on, in which order, how fast.

    Attributes:
        inputs: `[S, B, *input_shape]` float, encoded; step s trains on `inputs[s]`.
        labels: `[S, B, K]` float; what the numbers mean is said by the loss of the recipe that trains on
            them: cross-entropy takes probabilities, times the example's weight where examples have some.
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
        apply: `(params, inputs [n, *input_shape]) -> logits [n, K]`.
        embed: `(params, inputs [n, *input_shape]) -> features [n, F]`, what the last layer sees; None where
            the network does not say.
        name: the name of the network in artifacts and records.
        input_shape: the shape of one input, of images `(H, W, C)`.
        num_classes: K.
        kernel: `(params, inputs [n, *input_shape], others [m, *input_shape]) -> [n, m]`, for a network that
            is known by its kernel (`ddjax.networks.from_kernel`); None for others.
    """

    init: Callable[[jax.Array], Params]
    apply: Callable[[Params, jax.Array], jax.Array]
    embed: Callable[[Params, jax.Array], jax.Array] | None
    name: str
    input_shape: tuple[int, ...]
    num_classes: int
    kernel: Callable[[Params, jax.Array, jax.Array], jax.Array] | None = None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """`(H, W, C)` of a network for images.

        Raises:
            ValueError: the network takes inputs of another rank.
        """
        return as_image_shape(self.input_shape, self.name)


def as_image_shape(shape: tuple[int, ...], what: str) -> tuple[int, int, int]:
    """A shape as `(H, W, C)`.

    Args:
        shape: the shape of one input.
        what: the name of the thing of this shape, for the message.

    Returns:
        The same numbers.

    Raises:
        ValueError: there are not three of them.
    """
    if len(shape) != 3:
        raise ValueError(
            f"{what}: expected images (H, W, C); got inputs of shape {tuple(shape)}. Give images, or "
            "use input_shape."
        )
    height, width, channels = shape
    return height, width, channels


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


class Fitted(NamedTuple):
    """A network after training on φ.

    Attributes:
        params: the trained weights.
        predict: `inputs [n, *input_shape] -> scores [n, K]`; the largest score is the answer.
    """

    params: Params
    predict: Callable[[jax.Array], jax.Array]


class Recipe(abc.ABC):
    """How an artifact says to train on it; the kinds are frozen dataclasses in `ddjax.recipes`.

    Attributes:
        kind: the name that artifacts call the kind by.
        needs_lrs: whether the schedule must bring learning rates.
        is_random: whether training draws random numbers, so that the same θ0 can be trained twice with
            different ends.
    """

    kind: ClassVar[str]
    needs_lrs: ClassVar[bool] = False
    is_random: ClassVar[bool] = False

    @abc.abstractmethod
    def fit(self, network: Network, params: Params, schedule: Schedule, key: jax.Array) -> Fitted:
        """Train a network on φ; pure, for use under `jit`.

        Args:
            network: the network to train.
            params: θ0.
            schedule: φ unfolded.
            key: the source of whatever the training draws. Consumed.

        Returns:
            The trained weights and the function that predicts with them.
        """

    @abc.abstractmethod
    def check(self, network: Network) -> None:
        """Refuse a network that cannot be trained in this way.

        Args:
            network: the network to train.

        Raises:
            ValueError: a setting that does not fit the network.
        """


@dataclasses.dataclass(frozen=True)
class Form:
    """How a pytree of parameters stands for a schedule.

    Attributes:
        init: `key -> params`, the starting point of the distillation. Consumes the key.
        unfold: `params -> Schedule`; differentiable.
        name: the name of the form in artifacts and records.
        groups: `params -> labels`, a tree of the same structure that names the group of every leaf: "data",
            "labels", "lrs", or "frozen" for what stays as it starts. Each group may have an outer optimiser
            of its own (`Outer`). None puts every leaf into "data".
        project: `params -> params`, applied after every update, e.g. onto the simplex of probabilities; None
            leaves the parameters as the update made them.
    """

    init: Callable[[jax.Array], PyTree]
    unfold: Callable[[PyTree], Schedule]
    name: str
    groups: Callable[[PyTree], PyTree] | None = None
    project: Callable[[PyTree], PyTree] | None = None


@dataclasses.dataclass(frozen=True)
class Outer:
    """How φ moves.

    Attributes:
        optimizer: one optimiser for every group of φ's leaves, or one for each group by name, where "rest"
            stands for the groups that are not named. "frozen" leaves never move.
        clip_norm: bound on the global norm of the gradient; None for no bound.
        facts: the same in words and numbers, for records.
    """

    optimizer: optax.GradientTransformation | Mapping[str, optax.GradientTransformation]
    clip_norm: float | None = None
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Distilled:
    """φ: what a distillation gives, and all that is needed to train on it.

    Attributes:
        params: the pytree that the outer optimiser moves.
        form: unfolds `params` into a `Schedule`.
        encoding: what networks see of raw data: φ's inputs are encoded, test examples are to be.
        recipe: how to train on φ.
        metadata: JSON-able facts: dataset, network, method, class names, ...
    """

    params: PyTree
    form: Form
    encoding: Encoding
    recipe: Recipe
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def schedule(self) -> Schedule:
        """The gradient steps that `params` stand for."""
        return self.form.unfold(self.params)


def _no_state(key: jax.Array) -> PyTree:
    del key
    return ()


def _keep_state(schedule: Schedule, state: PyTree, batch: Any, info: Info, key: jax.Array) -> PyTree:
    del schedule, batch, info, key
    return state


@dataclasses.dataclass(frozen=True)
class Method:
    """What is minimised: four pure functions, each for *one* slot (one draw of initial weights).

    Attributes:
        sample: `(data, key) -> batch`, the real examples of one outer step, shared by all slots.
            Consumes the key.
        loss: `(schedule, state, batch, key) -> (loss [], Info)`, differentiable in `schedule`.
            Consumes the key.
        name: the name of the method in artifacts and records.
        recipe: how to train on what the method distils; the schedule brings learning rates where the recipe
            needs them.
        outer: `(num_outer_steps, *, lr=None) -> Outer`, the published way to move φ; `lr` replaces the
            published rate of the group "data".
        init: `key -> state`, what a slot carries from one outer step to the next; nothing by default.
            Consumes the key.
        advance: `(schedule, state, batch, info, key) -> state` after φ has moved, with the real examples and
            the slot's own diagnostics of the same outer step; never differentiated; by default the state
            stays. Consumes the key.
        assets: read-only arrays that travel with the data instead of being constants of the program; `sample`
            finds them as `data.assets`.
        check_labels: `labels [S, B, K] -> None`, refuses by a ValueError those of a φ that the method cannot
            use, of which it sees the start before anything compiles; None where it can use all.
    """

    sample: Callable[[RealData, jax.Array], PyTree]
    loss: Callable[[Schedule, PyTree, Any, jax.Array], tuple[jax.Array, Info]]
    name: str
    recipe: Recipe
    outer: Callable[..., Outer]
    init: Callable[[jax.Array], PyTree] = _no_state
    advance: Callable[[Schedule, PyTree, Any, Info, jax.Array], PyTree] = _keep_state
    assets: PyTree = dataclasses.field(default=(), compare=False, repr=False)
    check_labels: Callable[[np.ndarray], None] | None = None

    @property
    def needs_lrs(self) -> bool:
        """Whether the schedule must bring learning rates; where it must not, it may not."""
        return self.recipe.needs_lrs


__all__ = [
    "Batch",
    "Distilled",
    "Encoding",
    "Fitted",
    "Form",
    "Info",
    "InitDistribution",
    "Method",
    "Network",
    "Outer",
    "Params",
    "PyTree",
    "RealData",
    "Recipe",
    "Schedule",
    "as_image_shape",
]

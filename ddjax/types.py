"""The vocabulary: every type that more than one module shares, with a shape on every field.

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
import copy
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import numpy as np
import optax

from ddjax import platforms
from ddjax.brief import Brief

PyTree = Any
"""Any nesting of tuples, dicts and arrays that JAX can flatten."""

Params = Any
"""The weights of a network: a pytree of float arrays, P numbers in all."""

Info = Any
"""A NamedTuple of diagnostics, whose fields are documented where the tuple is defined."""


class Encoding(Brief, abc.ABC):
    """The map from raw data to the inputs of networks, and back.

    The kinds are frozen dataclasses in `ddjax.encodings`, registered as pytrees, so that e.g. a whitening of
    38 MB is an argument of a compiled program and never a constant.

    Attributes:
        kind: the name of the kind in artifacts.
    """

    kind: ClassVar[str]

    @abc.abstractmethod
    def encode(self, raw: Any) -> Any:
        """The inputs of a network for raw examples.

        Args:
            raw: `[..., *raw_shape]`, examples as they are stored: bytes of pixels, or numbers of tokens.

        Returns:
            `[..., *input_shape]` float, in the dtype of the encoding's own arrays.
        """

    @abc.abstractmethod
    def decode(self, inputs: Any) -> Any:
        """The raw examples that inputs stand for, e.g. for pictures.

        Args:
            inputs: `[..., *input_shape]` float, the encoded examples.

        Returns:
            `[..., *raw_shape]`: pixels as floats, where 1 is white, neither clipped nor rounded; or the
            numbers of the nearest tokens.
        """

    @abc.abstractmethod
    def input_shape(self, raw_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of an encoded example.

        Args:
            raw_shape: the shape of a raw example.

        Returns:
            The shape of `encode`'s result for one example.
        """

    @abc.abstractmethod
    def check(self, raw: np.ndarray) -> None:
        """Refuse raw examples that the encoding is not made for.

        Args:
            raw: `[n, *raw_shape]`, the examples.

        Raises:
            ValueError: the examples have another dtype or shape than the encoding needs, or the encoding
                holds NaN, infinity or, as a divisor, zero.
        """


class Batch(NamedTuple):
    """A minibatch of encoded real examples.

    Attributes:
        inputs: `[N, *input_shape]` float, the encoded examples.
        labels: `[N]` int32 in [0, K), the class of each example.
    """

    inputs: jax.Array
    labels: jax.Array


class RealData(NamedTuple):
    """A split of the real data on the device: raw examples, their encoding and an index of the classes.

    Attributes:
        raw: `[n, *raw_shape]`, the examples as they are stored: images `[n, H, W, C]` uint8, or texts
            `[n, L]` int32.
        labels: `[n]` int32 in [0, K), the class of each example.
        encoding: the encoding that makes network inputs of `raw`.
        class_order: `[n]` int32, positions in `raw`, grouped by class in ascending order.
        class_start: `[K + 1]` int32, the first place of each class in `class_order`; class k has the
            positions `class_order[class_start[k]:class_start[k + 1]]`.
        assets: the arrays that a method reads besides the examples, e.g. a pool of networks
            (`Method.assets`).
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
        """The number K of classes."""
        return len(self.class_start) - 1

    def inputs_at(self, rows: jax.Array) -> jax.Array:
        """The encoded examples at some positions.

        Args:
            rows: `[...]` int32, positions in `raw`.

        Returns:
            `[..., *input_shape]` float.
        """
        if platforms.current() != "cpu":
            return self.encoding.encode(self.raw[rows])
        # Examples as vectors: XLA for CPUs gathers one number at a time, three times as fast in a row as in
        # the nested loops of an image. Elsewhere the shapes can differ in layout: all data would be copied.
        flat = self.raw.reshape(len(self.raw), -1)[rows]
        return self.encoding.encode(flat.reshape(*rows.shape, *self.raw.shape[1:]))


class Schedule(NamedTuple):
    """The gradient steps that φ stands for: the minibatches, their order and their learning rates.

    Attributes:
        inputs: `[S, B, *input_shape]` float, the encoded inputs; step s trains on `inputs[s]`.
        labels: `[S, B, K]` float, the labels; their meaning is given by the loss of the recipe that trains on
            them: cross-entropy takes probabilities, times the example's weight where examples have weights;
            squared error and ridge regression take any numbers, usually centred, rows that sum to zero.
        lrs: `[E, S]` float, the learning rate η of epoch e and step s; None where the recipe has its own
            optimiser.
        order: `[E, S, b]` int32 in [0, S·B), the examples of epoch e and step s, as positions among all S·B
            examples in the order of the steps, so that a step may have other examples than its own block;
            None, the usual case, for step s with `inputs[s]`. Only a drawn schedule with learning rates has
            an order (`Form.draw`), and only `ddjax.unroll` follows the order.
    """

    inputs: jax.Array
    labels: jax.Array
    lrs: jax.Array | None
    order: jax.Array | None = None


class Kernel(NamedTuple):
    """The role of a weight by which a layer multiplies inputs, and the meaning of the axes of this weight.

    The axes come in the order copies, receptive field, inputs, outputs, e.g. `[3, 3, in, out]` of a
    convolution or `[in, heads, d]` of an attention's queries. Copies are layers stacked in one array.

    Attributes:
        inputs: the number of axes that the layer sums over.
        outputs: the number of axes of the layer's outputs.
        field: the number of axes of the receptive field; None where all axes before the inputs are of it.
        swapped: whether the outputs come before the inputs, as in some transposed convolutions.
    """

    inputs: int = 1
    outputs: int = 1
    field: int | None = None
    swapped: bool = False


Role = Kernel | Literal["bias", "own"]
"""What p(θ0) may do with a weight: draw a kernel, set a layer's `bias`, or keep the network's `own` value."""


@dataclasses.dataclass(frozen=True, repr=False)
class Made(Brief):
    """The origin of a part: the function that built the part, and what the function was given.

    By these facts a run tells one network, form, method or p(θ0) from another (`ddjax.facts`).

    Attributes:
        by: the name of the function.
        arguments: all arguments by name, those at their defaults included.
        defaults: the default of each argument that has one.
    """

    by: str
    arguments: Mapping[str, Any]
    defaults: Mapping[str, Any]


FROM_ELSEWHERE = ("name", "image_shape", "input_shape", "num_classes", "conv_form", "chunk", "rows_chunk")
"""The arguments of a network that are no settings of its own.

The first four follow from the data, and the last three do not change what the network is.
"""


@dataclasses.dataclass(frozen=True, repr=False)
class Network(Brief):
    """A network: pure functions of weights and inputs, with the shapes that they work on.

    Attributes:
        init: `key -> params`, draws the network's own initial weights. Consumes the key.
        apply: `(params, inputs [n, *input_shape]) -> logits [n, K]`.
        embed: `(params, inputs [n, *input_shape]) -> features [n, F]`, the inputs of the last layer; None for
            a network that does not give its features.
        name: the name of the network in artifacts and records.
        input_shape: the shape of one input; for images `(H, W, C)`.
        num_classes: the number K of classes.
        kernel: `(params, inputs [n, *input_shape], others [m, *input_shape]) -> [n, m]`, for a network that
            is defined by its kernel (`ddjax.networks.from_kernel`); None for other networks. With None in the
            place of `others` the inputs themselves are taken, `[n, n]`.
        made: the origin of the network, by which a run is known; None for one of a user's own, which is
            known by its name and by the program that it makes.
        roles: the roles of the weights by their names, such as `"conv1.kernel"`; the role of a weight that is
            not listed follows from its name (`ddjax.networks.roles.by_name`).
    """

    init: Callable[[jax.Array], Params]
    apply: Callable[[Params, jax.Array], jax.Array]
    embed: Callable[[Params, jax.Array], jax.Array] | None
    name: str
    input_shape: tuple[int, ...]
    num_classes: int
    kernel: Callable[[Params, jax.Array, jax.Array | None], jax.Array] | None = None
    made: Made | None = dataclasses.field(default=None, compare=False, repr=False)
    roles: tuple[tuple[str, Role], ...] = ()

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments with which `ddjax.networks.by_name` builds the network of this name again.

        Those that follow from the data are left out; empty for a network of a user's own.
        """
        arguments = {} if self.made is None else self.made.arguments
        return {
            name: list(value) if isinstance(value, (list, tuple)) else value
            for name, value in arguments.items()
            if name not in FROM_ELSEWHERE
        }

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The shape `(H, W, C)` of the inputs of a network for images.

        Raises:
            ValueError: the network takes inputs that do not have three axes.
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
        ValueError: the shape does not have three numbers.
    """
    if len(shape) != 3:
        raise ValueError(
            f"{what}: expected images (H, W, C); got inputs of shape {tuple(shape)}. Give images, or "
            "use input_shape."
        )
    height, width, channels = shape
    return height, width, channels


@dataclasses.dataclass(frozen=True, repr=False)
class InitDistribution(Brief):
    """The distribution p(θ0) of initial weights.

    Attributes:
        sample: `key -> params`, draws initial weights. Consumes the key (a fixed distribution ignores the
            key).
        name: the name of the distribution in artifacts and records, e.g. `"xavier_normal"`.
        fixed: whether every sample is the same θ0.
        pool: the n networks' weights that a finite p(θ0) chooses from, each leaf `[n, ...]`; None for others.
            Compiled programs take the pool as an argument, not as a constant, and an evaluation takes the
            members in their order, each once.
        made: the origin of the distribution, by which a run is known; None for one of a user's own, which is
            known by its name and by the program that it makes.
        settings: the facts from which `ddjax.recorded_inits.rebuilt` makes the distribution again, such as
            `{"kind": "random", "scheme": "xavier_normal", "gain": 1.0}`; empty for a distribution of the
            user's.
        treatment: `() -> {"drawn": names, "zero": names, "own": names}`, the weights that the distribution
            draws itself, sets to zero, and leaves as the network draws them; None where the weights come as a
            whole, e.g. from a file.
    """

    sample: Callable[[jax.Array], Params]
    name: str
    fixed: bool = False
    pool: Params | None = dataclasses.field(default=None, compare=False, repr=False)
    made: Made | None = dataclasses.field(default=None, compare=False, repr=False)
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict, compare=False, repr=False)
    treatment: Callable[[], Mapping[str, tuple[str, ...]]] | None = dataclasses.field(
        default=None, compare=False, repr=False
    )

    @property
    def size(self) -> int | None:
        """The number of different θ0; None for infinitely many."""
        if self.pool is not None:
            return len(jax.tree.leaves(self.pool)[0])
        return 1 if self.fixed else None


class Fitted(NamedTuple):
    """A network after training on φ.

    Attributes:
        params: the trained weights.
        predict: `inputs [n, *input_shape] -> scores [n, K]`; the class with the largest score is the answer.
    """

    params: Params
    predict: Callable[[jax.Array], jax.Array]


class Recipe(abc.ABC):
    """The way in which networks are to be trained on φ; the kinds are frozen dataclasses in `ddjax.recipes`.

    Attributes:
        kind: the name of the kind in artifacts.
        needs_lrs: whether the schedule must have learning rates.
        is_random: whether training draws random numbers, so that two trainings from the same θ0 can end with
            different weights.
    """

    kind: ClassVar[str]
    needs_lrs: ClassVar[bool] = False
    is_random: ClassVar[bool] = False

    @abc.abstractmethod
    def fit(self, network: Network, params: Params, schedule: Schedule, key: jax.Array) -> Fitted:
        """Train a network on φ; pure, for use under `jit`.

        Args:
            network: the network to train.
            params: the initial weights θ0.
            schedule: φ as a schedule.
            key: the source of the random draws of the training. Consumed.

        Returns:
            The trained weights and the function that predicts with them.
        """

    @abc.abstractmethod
    def check(self, network: Network) -> None:
        """Refuse a network that cannot be trained in this way.

        Args:
            network: the network to train.

        Raises:
            ValueError: a setting of the recipe does not fit the network.
        """

    def check_labels(self, labels: np.ndarray) -> None:  # noqa: B027 (accepting all labels is a choice)
        """Refuse labels that the recipe's loss makes no sense of; by default none are refused.

        Args:
            labels: `[S, B, K]`, the labels of φ.

        Raises:
            ValueError: the recipe cannot train on such labels.
        """


@dataclasses.dataclass(frozen=True, repr=False)
class Images(Brief):
    """The images of a form of φ: a code, which is what is stored, and the decoder that makes images of it.

    `ddjax.forms.composed` makes a `Form` of them, with labels and learning rates.

    Attributes:
        init: `key -> code`, the starting point, a pytree of float arrays. Consumes the key.
        decode: `code -> images [K, m, H, W, C]`, m encoded images of each class, differentiable.
        shape: `(K, m, H, W, C)`, the shape of the decoded images.
        name: the name of the images in artifacts and records.
        groups: `code -> labels`, a tree of the same structure that names the group of every leaf, such as
            "data" or "decoder" (`Form.groups`). None puts every leaf into "data".
        project: `code -> code`, applied after every update; None leaves the code as the update made it.
        made: the origin of the images: the function that `ddjax.forms.images_by_name` calls again, and the
            arguments; None for images of a user's own.
        draw: `(code, key) -> images [K, m, H, W, C]`, differentiable in the code: other images of the same
            classes, for codes that stand for more images than are decoded, such as cuts of a canvas at random
            places. Consumes the key. None for a code whose images are always those of `decode`.
    """

    init: Callable[[jax.Array], PyTree]
    decode: Callable[[PyTree], jax.Array]
    shape: tuple[int, int, int, int, int]
    name: str
    groups: Callable[[PyTree], PyTree] | None = None
    project: Callable[[PyTree], PyTree] | None = None
    made: Made | None = dataclasses.field(default=None, compare=False, repr=False)
    draw: Callable[[PyTree, jax.Array], jax.Array] | None = None


@dataclasses.dataclass(frozen=True, repr=False)
class Form(Brief):
    """A form of φ: the parameters that are moved, and the schedule that they stand for.

    Attributes:
        init: `key -> params`, the starting point of the distillation. Consumes the key.
        unfold: `params -> Schedule`, differentiable.
        name: the name of the form in artifacts and records.
        groups: `params -> labels`, a tree of the same structure that names the group of every leaf: "data",
            "labels", "lrs", or "frozen" for leaves that never change. Each group may have an outer optimiser
            of its own (`Outer`). None puts every leaf into "data".
        project: `params -> params`, applied after every update, e.g. onto the simplex of probabilities; None
            leaves the parameters as the update made them.
        made: the origin of the form, by which a run is known; None for one of a user's own, which is
            known by its name and by the program that it makes.
        draw: `(params, key) -> Schedule`, differentiable in `params`: the schedule of one slot in one outer
            step where that is random, e.g. minibatches of many decoded images. Each slot draws its own, and
            `unfold` stays what is validated, saved and drawn as a picture. Has learning rates exactly where
            `unfold` has them, as many in all. Consumes the key. None for a form that is not random, whose
            slots all see `unfold(params)`.
    """

    init: Callable[[jax.Array], PyTree]
    unfold: Callable[[PyTree], Schedule]
    name: str
    groups: Callable[[PyTree], PyTree] | None = None
    project: Callable[[PyTree], PyTree] | None = None
    made: Made | None = dataclasses.field(default=None, compare=False, repr=False)
    draw: Callable[[PyTree, jax.Array], Schedule] | None = None


@dataclasses.dataclass(frozen=True, repr=False)
class Outer(Brief):
    """The outer optimiser: how φ moves along its gradient.

    Attributes:
        optimizer: the optimiser for all groups of φ's leaves, or a mapping from the name of each group to its
            optimiser, where "rest" stands for the groups that are not named. "frozen" leaves never move.
        clip_norm: the bound on the global norm of the gradient; None for no bound.
        facts: a description of the optimiser in words and numbers, for records.
    """

    optimizer: optax.GradientTransformation | Mapping[str, optax.GradientTransformation]
    clip_norm: float | None = None
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, repr=False)
class Distilled(Brief):
    """The distilled data φ, with all that is needed to train on them.

    Attributes:
        params: the pytree that the outer optimiser moves.
        form: the form that unfolds `params` into a `Schedule`.
        encoding: the encoding of φ's inputs, by which test examples are to be encoded too.
        recipe: the recipe for training on φ.
        metadata: facts that JSON can hold: dataset, network, method, class names, ...
    """

    params: PyTree
    form: Form
    encoding: Encoding
    recipe: Recipe
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def schedule(self) -> Schedule:
        """The gradient steps that `params` stand for."""
        with jax.transfer_guard("allow"):  # parameters may lie on the host, and who asks wants them unfolded
            return self.form.unfold(self.params)

    def __copy__(self) -> Distilled:
        # Forms are functions, which a copy can share; a pickle cannot hold them (`ddjax.forms.schedule`).
        return dataclasses.replace(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Distilled:
        params, encoding, facts = copy.deepcopy((self.params, self.encoding, self.metadata), memo)
        return dataclasses.replace(self, params=params, encoding=encoding, metadata=facts)


def start_of(network: Network, inits: InitDistribution) -> dict[str, Any]:
    """What an artifact says of the network and the initial weights that φ was distilled with.

    Args:
        network: the network.
        inits: p(θ0), the distribution of initial weights.

    Returns:
        `network`, `network_settings`, `init` and `init_settings`, as JSON can hold them; settings that are
        not known are left out.
    """
    settings = {"network_settings": dict(network.settings), "init_settings": dict(inits.settings)}
    named = {"network": network.name, "init": inits.name}
    return named | {name: value for name, value in settings.items() if value}


def _no_state(key: jax.Array) -> PyTree:
    del key
    return ()


class Aside(NamedTuple):
    """The diagnostics of a slot's step, together with what the slot's `advance` needs besides.

    Attributes:
        info: the diagnostics, which are averaged over the slots and recorded.
        kept: arrays of the same step that are neither averaged nor recorded.
    """

    info: Info
    kept: PyTree


def _keep_state(schedule: Schedule, state: PyTree, batch: Any, info: Info, key: jax.Array) -> PyTree:
    del schedule, batch, info, key
    return state


@dataclasses.dataclass(frozen=True, repr=False)
class Method(Brief):
    """A distillation method as pure functions; a slot is one draw of initial weights.

    `loss`, `init` and `advance` are functions of *one* slot.

    Attributes:
        sample: `(data, key) -> batch`, draws the real examples of one outer step, which all slots share.
            Consumes the key.
        loss: `(schedule, state, batch, key) -> (loss [], Info)`, the loss to minimise, differentiable in
            `schedule`, with the diagnostics, or an `Aside` of them. Consumes the key.
        name: the name of the method in artifacts and records.
        recipe: the recipe for training on the distilled data; the schedule has learning rates exactly where
            the recipe needs them.
        outer: `(num_outer_steps, *, lr=None) -> Outer`, the published way to move φ; `lr` replaces the
            published rate of the group "data".
        init: `key -> state`, the first state of a slot, which lasts from one outer step to the next; empty by
            default. Consumes the key.
        advance: `(schedule, state, batch, info, key) -> state`, the next state of a slot after φ has moved,
            from the real examples and what the slot's `loss` returned beside the loss, both of the same outer
            step. Never differentiated; by default the state stays the same. Consumes the key.
        assets: read-only arrays that are passed to programs with the data and not as constants; `sample`
            finds them as `data.assets`.
        check_labels: `labels [S, B, K] -> None`, raises a ValueError for labels that the method cannot use;
            called with the labels of the starting φ before anything is compiled. None accepts all labels.
        made: the origin of the method, by which a run is known; None for one of a user's own, which is
            known by its name and by the program that it makes.
        facts: the network and p(θ0) of the method by name and settings, for artifacts (`start_of`); empty
            where there are none to name.
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
    made: Made | None = dataclasses.field(default=None, compare=False, repr=False)
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict, compare=False, repr=False)

    @property
    def needs_lrs(self) -> bool:
        """Whether the schedule must have learning rates; where they are not needed, they are not allowed."""
        return self.recipe.needs_lrs


__all__ = [
    "Aside",
    "Batch",
    "Distilled",
    "Encoding",
    "Fitted",
    "Form",
    "Images",
    "Info",
    "InitDistribution",
    "Kernel",
    "Made",
    "Method",
    "Network",
    "Outer",
    "Params",
    "PyTree",
    "RealData",
    "Recipe",
    "Role",
    "Schedule",
    "as_image_shape",
    "start_of",
]

"""Distillation by matching the gradients of real and distilled images, class by class (DC, DSA and IDC)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ddjax import augment, checks, updates
from ddjax.augment import Augmentation, Draw
from ddjax.chunks import MeanLoss, map_in_chunks, mean_of_chunks, mean_over_chunks
from ddjax.data import minibatch
from ddjax.facts import noted
from ddjax.methods.matching import Matching, published_outer
from ddjax.methods.starts import WithPool, assets_of, parted, theta
from ddjax.networks import norms
from ddjax.recipes import Train
from ddjax.training import Descent, Examples, Passes, Progress, fit, weighted_loss
from ddjax.types import (
    Batch,
    InitDistribution,
    Method,
    Network,
    Params,
    PyTree,
    RealData,
    Recipe,
    Schedule,
    start_of,
)
from ddjax.unroll import cross_entropy, mixed_value_and_grad

EPSILON = 1e-6
"""The number that is added to a product of norms, so that the cosine of a zero gradient is defined."""

CALIBRATION_IMAGES = 16
"""The number of real images of each class that measure the statistics of batch norms, as published."""


class Loops(NamedTuple):
    """The use of a network before a new one is drawn.

    Attributes:
        matches: the number of updates of the images with one network, the outer loop.
        epochs: the number of passes over the distilled images that train the network between two of these
            updates, the inner loop.
    """

    matches: int
    epochs: int


PUBLISHED_LOOPS = {1: Loops(1, 1), 10: Loops(10, 50), 50: Loops(50, 10)}
"""The loops of DC and DSA by the number of images per class. With one match the network is not trained."""


def schedule_for(images_per_class: int) -> Loops:
    """The published outer and inner loop.

    Args:
        images_per_class: the number of distilled images of each class.

    Returns:
        The entry of `PUBLISHED_LOOPS`.

    Raises:
        ValueError: no loops were published for this number of images.
    """
    if images_per_class not in PUBLISHED_LOOPS:
        raise ValueError(
            f"images_per_class: expected {', '.join(map(str, PUBLISHED_LOOPS))}, for which the loops were "
            f"published; got {images_per_class}. Give both matches and epochs yourself."
        )
    return PUBLISHED_LOOPS[images_per_class]


class GradientMatchingInfo(NamedTuple):
    """Diagnostics of one outer step.

    Attributes:
        class_distances: `[K]`, the distance between the two gradients of each class.
        matches_before: `[]` float, the number of earlier matches of the network, each followed by a training.
    """

    class_distances: jax.Array
    matches_before: jax.Array


class NetworkState(NamedTuple):
    """The state of a slot from one outer step to the next.

    Attributes:
        params: the weights at which gradients are matched next.
        matches: `[]` int32, the number of matches since the weights were drawn.
        opt_state: the state of the optimiser that trains the network on real images; empty where the network
            is trained on φ, by descent without momentum.
    """

    params: Params
    matches: jax.Array
    opt_state: PyTree = ()


@dataclasses.dataclass(frozen=True)
class RealTraining:
    """The training of a network on real images between two matches, as in IDC; the defaults are published.

    A network that is trained on φ alone comes to know φ, and its gradients on real images fade. Trained on
    real images, the network goes on giving gradients that differ from match to match.

    Attributes:
        images: the number of real images that are drawn for the training after each match; published are 500,
            and 2,000 for CIFAR-10.
        batch_size: the number of images in one step.
        lr: the learning rate of SGD.
        momentum: the momentum of SGD, whose direction is kept from match to match.
        weight_decay: the factor of θ that is added to the gradient.
        augmentation: the augmentation, with a draw of its own for each image; None for none.
        mix: the name of the mixture of the images of a minibatch, such as `"cutmix"`; the empty text for
            none.

    Raises:
        ValueError: a number is out of its range, or the augmentation or the mixture is unknown.

    References:
        Kim et al., Dataset Condensation via Efficient Synthetic-Data Parameterization, ICML 2022, arXiv
        2205.14959.
    """

    images: int = 500
    batch_size: int = 64
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    augmentation: Augmentation | None = None
    mix: str = ""

    def __post_init__(self) -> None:
        checks.at_least("training: images", self.images, 1)
        checks.at_least("training: batch_size", self.batch_size, 1)
        checks.positive("training: lr", self.lr)
        checks.fraction("training: momentum", self.momentum)
        checks.at_least("training: weight_decay", self.weight_decay, 0, integer=False)
        augment.check(self.augmentation)
        if self.mix:
            checks.choice("training: mix", self.mix, augment.MIXES)

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """SGD with momentum and weight decay."""
        return optax.chain(
            optax.add_decayed_weights(self.weight_decay),
            optax.trace(self.momentum),
            optax.scale_by_learning_rate(self.lr),
        )


class MatchedAndTrained(NamedTuple):
    """The real examples of an outer step after which networks are trained on real images.

    Attributes:
        images: `[K, N, *input_shape]`, the images that φ's are matched with, by class.
        training: the images that the networks train on then, with their labels.
    """

    images: jax.Array
    training: Batch


# Distances.


def _norm(x: jax.Array, axis: int | None) -> jax.Array:
    """‖x‖, with the derivative zero instead of NaN where the norm is zero, as for a dead unit."""
    squared = jnp.sum(x * x, axis)
    is_zero = squared == 0
    return jnp.where(is_zero, 0, jnp.sqrt(jnp.where(is_zero, 1, squared)))


def _one_minus_cosine(ours: jax.Array, theirs: jax.Array, axis: int | None) -> jax.Array:
    return 1 - jnp.sum(ours * theirs, axis) / (_norm(ours, axis) * _norm(theirs, axis) + EPSILON)


def _flat(tree: PyTree) -> jax.Array:
    return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)])


def layerwise_distance(ours: Params, theirs: Params) -> jax.Array:
    """One minus the cosine, for each output of each layer: the published distance of two gradients.

        D(g, h) = Σ_layers Σ_j (1 - ⟨g_j, h_j⟩ / (‖g_j‖ ‖h_j‖ + ε)),   g_j = g[..., j]

    Row j of a kernel `[..., in, out]` contains all weights that lead to output channel j. Leaves with one
    axis, which are biases and the scales of norms, are left out.

    Args:
        ours: the gradient g.
        theirs: the gradient h.

    Returns:
        The distance, `[]`, from 0 to twice the number of rows.

    References:
        Zhao et al. 2021, arXiv 2006.05929, section 3.2.
    """
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    rows = [[leaf.reshape(-1, leaf.shape[-1]) for leaf in pair] for pair in pairs if pair[0].ndim > 1]
    return jnp.sum(jnp.stack([_one_minus_cosine(*pair, axis=0).sum() for pair in rows]))


def squared_distance(ours: Params, theirs: Params) -> jax.Array:
    """The squared distance of two gradients, `‖g - h‖²` over all weights.

    Args:
        ours: the gradient g.
        theirs: the gradient h.

    Returns:
        The distance, `[]`.
    """
    return jnp.sum((_flat(ours) - _flat(theirs)) ** 2)


def cosine_distance(ours: Params, theirs: Params) -> jax.Array:
    """One minus the cosine, `1 - ⟨g, h⟩ / (‖g‖ ‖h‖ + ε)`, of two gradients as one vector each.

    Args:
        ours: the gradient g.
        theirs: the gradient h.

    Returns:
        The distance, `[]`.
    """
    return _one_minus_cosine(_flat(ours), _flat(theirs), axis=None)


def absolute_distance(ours: Params, theirs: Params) -> jax.Array:
    """The sum of the absolute differences of two gradients, `‖g - h‖₁` over all weights.

    Args:
        ours: the gradient g.
        theirs: the gradient h.

    Returns:
        The distance, `[]`.
    """
    return jnp.sum(jnp.abs(_flat(ours) - _flat(theirs)))


def mean_absolute_distance(ours: Params, theirs: Params) -> jax.Array:
    """The absolute differences of two gradients, averaged over the weights that lead to one output channel.

        D(g, h) = Σ_layers Σ_j mean_i |g_ij - h_ij|,   g_j = g[..., j]

    Args:
        ours: the gradient g.
        theirs: the gradient h.

    Returns:
        The distance, `[]`.

    References:
        Kim et al. 2022, arXiv 2205.14959, `l1_mean` in the authors' code.
    """
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    rows = [jnp.abs(a - b).reshape(-1, a.shape[-1] if a.ndim else 1) for a, b in pairs]
    return jnp.sum(jnp.stack([row.mean(0).sum() for row in rows]))


Distance = Callable[[Params, Params], jax.Array]
"""A function `(gradient, gradient) -> []` that is differentiable in the first argument."""

DISTANCES: dict[str, Distance] = {
    "layerwise": layerwise_distance,
    "mse": squared_distance,
    "cosine": cosine_distance,
    "l1": absolute_distance,
    "l1_mean": mean_absolute_distance,
}
"""The distances of gradients by name."""

FEATURES = "features"
"""The name of the distance of mean features, ‖mean f(x̃) - mean f(x)‖², which takes no gradients."""

LAYERS: dict[str, int] = {"all": 0, "matrices": 2, "kernels": 4}
"""The least number of axes of the weights whose gradients are compared, by the names of these weights.

`"kernels"` are those of convolutions, as in IDC; `"matrices"` leave out biases and the scales of norms.
"""


# The gradients that are matched.


class _Images(NamedTuple):
    """Distilled images.

    Attributes:
        inputs: the images by class, `[K, n, H, W, C]`.
        labels: the label probabilities of the images, `[K, n, K]`.
    """

    inputs: jax.Array
    labels: jax.Array


class _Real(NamedTuple):
    """The real images, and the augmentation of both sides.

    Attributes:
        inputs: the images by class, `[K, N, H, W, C]`.
        labels: the label of all images of each class, `[K, K]`.
        draw: the draw of the augmentation for each class, each leaf `[K]`; None without an augmentation.
    """

    inputs: jax.Array
    labels: jax.Array
    draw: Draw


def _by_class(schedule: Schedule) -> _Images:
    """The images of φ by class; in each step they are in the order of the classes, see `_check_labels`."""
    num_classes = schedule.labels.shape[-1]

    def grouped(leaf: jax.Array) -> jax.Array:
        steps, size, *rest = leaf.shape
        leaf = leaf.reshape(steps, num_classes, size // num_classes, *rest)
        return leaf.swapaxes(0, 1).reshape(num_classes, -1, *rest)

    return _Images(grouped(schedule.inputs), grouped(schedule.labels))


def _some_of_each(images: _Images, key: jax.Array, count: int) -> _Images:
    """So many images of each class, drawn without replacement for each class. Consumes the key."""

    def of_class(one: _Images, key: jax.Array) -> _Images:
        rows = jax.random.permutation(key, len(one.labels))[:count]
        return _Images(one.inputs[rows], one.labels[rows])

    return jax.vmap(of_class)(images, jax.random.split(key, len(images.labels)))


def _check_labels(labels: np.ndarray) -> None:
    """Refuse a φ whose images are not grouped by class.

    Raises:
        ValueError: the images of a step are not in the order of the classes, with equally many of each.
    """
    _, size, num_classes = labels.shape
    found = labels.argmax(-1)
    if size % num_classes or (found != np.repeat(np.arange(num_classes), size // num_classes)).any():
        counts = np.bincount(found.ravel(), minlength=num_classes)
        raise ValueError(
            "the form's labels: expected images ordered by class in each step, as many of one as of another; "
            f"got {counts.tolist()} of the classes in steps of {size}. Order them as ddjax.forms.pixels does."
        )


@dataclasses.dataclass(frozen=True)
class _OfGradients:
    """The distance between the real and the distilled gradient of one class.

    Attributes:
        network: the network that is differentiated.
        distance: the distance of two gradients.
        least_axes: the least number of axes of the weights that are compared.
        augmented: the augmentation of both sides, `(draw, images) -> images`.
        real_loss: the loss that is differentiated on the real images.
    """

    network: Network
    distance: Distance
    least_axes: int
    augmented: Callable[[Draw, jax.Array], jax.Array]
    real_loss: MeanLoss

    def __call__(self, images: _Images, params: Params, real: _Real) -> jax.Array:
        """The distance for one class, `[]`; the arguments contain the images of this class only."""
        inputs, real_inputs = (self.augmented(real.draw, x) for x in (images.inputs, real.inputs))
        ones = jnp.ones(len(real_inputs), real_inputs.dtype)
        real_labels = jnp.broadcast_to(real.labels, (len(ones), len(real.labels)))
        # Only the first derivative is needed, and is taken in chunks.
        theirs, _ = jax.grad(self.real_loss, has_aux=True)(params, (real_inputs, real_labels, ones))
        value_and_grad = mixed_value_and_grad(cross_entropy(self.network.apply))
        _, ours = value_and_grad(params, inputs, images.labels)
        return self.distance(
            *(_with_axes(one, self.least_axes) for one in (ours, jax.lax.stop_gradient(theirs)))
        )


def _with_axes(gradient: Params, least: int) -> Params:
    """The leaves with so many axes or more; the gradient as it is where all have."""
    return gradient if least == 0 else [one for one in jax.tree.leaves(gradient) if one.ndim >= least]


@dataclasses.dataclass(frozen=True)
class _OfFeatures:
    """The distance between the real and the distilled mean of the features of one class.

    Attributes:
        network: the network, with features.
        augmented: the augmentation of both sides, `(draw, images) -> images`.
        at_once: the number of real images that pass through the network at once.
    """

    network: Network
    augmented: Callable[[Draw, jax.Array], jax.Array]
    at_once: int

    def __call__(self, images: _Images, params: Params, real: _Real) -> jax.Array:
        """The distance for one class, `[]`; the arguments contain the images of this class only."""
        embed = self.network.embed
        assert embed is not None
        inputs, real_inputs = (self.augmented(real.draw, x) for x in (images.inputs, real.inputs))
        theirs = mean_of_chunks(lambda some: embed(params, some).mean(0), real_inputs, self.at_once)
        return jnp.sum((embed(params, inputs).mean(0) - jax.lax.stop_gradient(theirs)) ** 2)


@dataclasses.dataclass(frozen=True)
class _Distances:
    """The distances of all classes.

    Attributes:
        of_class: `(images, params, real) -> []`, the distance for one class.
        classes_per_chunk: the number of classes that are vmapped.
    """

    of_class: Callable[[_Images, Params, _Real], jax.Array]
    classes_per_chunk: int

    def __call__(self, images: _Images, params: Params, real: _Real) -> jax.Array:
        """The distances of all classes, `[K]`; differentiable once, and in the images alone.

        The gradient is taken together with the value, so that nothing else is kept of a class.
        """
        one = self.of_class

        def of_each(f: Callable, images: _Images, params: Params, real: _Real) -> PyTree:
            def of_one(now: tuple[_Images, _Real]) -> PyTree:
                return f(now[0], params, now[1])

            return map_in_chunks(of_one, (images, real), self.classes_per_chunk)

        def distances(images: _Images, params: Params, real: _Real) -> jax.Array:
            return of_each(one, images, params, real)

        def forward(images: _Images, params: Params, real: _Real) -> tuple[jax.Array, _Images]:
            return of_each(jax.value_and_grad(one), images, params, real)

        def backward(grads: _Images, cotangents: jax.Array) -> tuple[_Images, None, None]:
            return jax.tree.map(jax.vmap(jnp.multiply), _Images(cotangents, cotangents), grads), None, None

        differentiable = jax.custom_vjp(distances)
        differentiable.defvjp(forward, backward)
        return differentiable(images, params, real)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class _GradientMatching(Matching):
    """See `gradient_matching`.

    Attributes:
        distance: the name of the distance.
        layers: the name of the weights whose gradients are compared.
        loops: the use of a network before a new one is drawn.
        lr_net: the learning rate of the training of the network on φ.
        batch_train: the number of images in one step of this training.
        training: the training of the network on real images in place of φ; None for φ.
        most_per_class: the most distilled images of a class in one match; None for all.
    """

    distance: str
    layers: str
    loops: Loops
    lr_net: float
    batch_train: int
    training: RealTraining | None
    most_per_class: int | None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in {**self.loops._asdict(), "batch_train": self.batch_train}.items():
            checks.at_least(name, value, 1)
        checks.choice("distance", self.distance, (*DISTANCES, FEATURES))
        checks.positive("lr_net", self.lr_net)
        if self.most_per_class is not None:
            checks.at_least("most_per_class", self.most_per_class, 1)
        if self.training is not None:
            checks.kind("training", self.training, RealTraining, remedy="Give methods.RealTraining().")
            augment.check(self.training.augmentation, self.network)
            augment.mix_by_name(self.training.mix, self.network.input_shape)
        self._check_layers()

    def _check_layers(self) -> None:
        """Refuse a distance that would compare nothing, and features of a network without features.

        Raises:
            ValueError: no weight has so many axes, or the network does not give its features.
        """
        checks.choice("layers", self.layers, LAYERS)
        least = LAYERS[self.layers]
        shapes = jax.eval_shape(self.network.init, jax.random.key(0)) if least else ()
        if self.distance != FEATURES and least and not _with_axes(shapes, least):
            raise ValueError(
                f"layers: expected weights of {least} axes or more for {self.layers!r}; "
                f"{self.network.name} has none. Give layers='all', or a network with such weights."
            )
        if self.distance == FEATURES and self.network.embed is None:
            raise ValueError(
                f"distance: expected a network with features (embed) for {FEATURES!r}; {self.network.name} "
                f"has none. Give its adapter `embed=`, or another distance: {', '.join(DISTANCES)}."
            )

    def _loss_in_chunks(self, count: int) -> MeanLoss:
        """The loss of the network on real or distilled images for which no second derivative is taken."""
        return mean_over_chunks(weighted_loss(self.network), size=self.examples_at_once(count))

    def _of_class(self) -> Callable[[_Images, Params, _Real], jax.Array]:
        """The distance for one class."""
        if self.distance == FEATURES:
            return _OfFeatures(self.network, self.augmented, self.examples_at_once(self.batch_size))
        return _OfGradients(
            network=self.network,
            distance=DISTANCES[self.distance],
            least_axes=LAYERS[self.layers],
            augmented=self.augmented,
            real_loss=self._loss_in_chunks(self.batch_size),
        )

    def sample(self, data: RealData, key: jax.Array) -> Any:
        """The real examples of an outer step, with those of the networks' training where there is one."""
        if self.training is None:
            return super().sample(data, key)
        key, training_key = jax.random.split(key)
        images, pool = parted(super().sample(data, key))
        batch = MatchedAndTrained(images, minibatch(data, training_key, size=self.training.images))
        return batch if pool is None else WithPool(batch, pool)

    def draw_network(self, key: jax.Array, pool: Params | None = None) -> NetworkState:
        """A new network, which was not matched yet. Consumes the key."""
        params = theta(self.inits, pool, key)
        state = () if self.training is None else updates.init(self.training.optimizer, params)
        return NetworkState(params, jnp.zeros((), jnp.int32), state)

    def loss(
        self, schedule: Schedule, state: NetworkState, batch: Any, key: jax.Array
    ) -> tuple[jax.Array, GradientMatchingInfo]:
        """The sum of the distances of all classes, `[]`, and the diagnostics. Consumes the key."""
        real, _ = parted(batch)
        images = real.images if isinstance(real, MatchedAndTrained) else real
        params = state.params
        if self.has_batch_norm:
            few = images[:, :CALIBRATION_IMAGES]
            params = norms.calibrate(self.network, params, few.reshape(-1, *few.shape[2:]))
        ours = _by_class(schedule)
        if self.most_per_class is not None and ours.labels.shape[1] > self.most_per_class:
            key, subset_key = jax.random.split(key)
            ours = _some_of_each(ours, subset_key, self.most_per_class)
        known = _Real(images, jnp.eye(len(images), dtype=images.dtype), self.draws(key, len(images)))
        distances = _Distances(self._of_class(), self.classes_at_once())(ours, params, known)
        return distances.sum(), GradientMatchingInfo(distances, state.matches.astype(distances.dtype))

    def advance(
        self, schedule: Schedule, state: NetworkState, batch: Any, info: GradientMatchingInfo, key: jax.Array
    ) -> NetworkState:
        """The network of the next outer step: this one after a training, or a new one. Consumes the key."""
        del info
        real, pool = parted(batch)
        if self.loops.matches == 1:
            return self.draw_network(key, pool)

        def train() -> NetworkState:
            trained = (
                self._trained_on_phi(schedule, state, key)
                if self.training is None
                else self._trained_on_real(real.training, state, key, self.training)
            )
            return NetworkState(trained.params, state.matches + 1, trained.state)

        is_used_up = state.matches + 1 == self.loops.matches
        return jax.lax.cond(is_used_up, lambda: self.draw_network(key, pool), train)

    def _trained_on_phi(self, schedule: Schedule, state: NetworkState, key: jax.Array) -> Progress:
        """The network after some epochs on φ by descent without momentum. Consumes the key."""
        # A batch norm needs the statistics of a whole minibatch, so that the loss is not taken in chunks.
        whole = self.has_batch_norm
        loss = weighted_loss(self.network) if whole else self._loss_in_chunks(self.batch_train)
        trained, _ = fit(
            loss,
            state.params,
            key,
            examples=Examples.of_schedule(schedule),
            optimizer=optax.sgd(self.lr_net),
            epochs=self.loops.epochs,
            batch_size=self.batch_train,
            augmentation=self.augmentation,
        )
        return Progress(trained, ())

    def _trained_on_real(
        self, batch: Batch, state: NetworkState, key: jax.Array, training: RealTraining
    ) -> Progress:
        """The network after epochs on real images, with the momentum of earlier ones. Consumes the key."""
        whole = self.has_batch_norm
        labels = jax.nn.one_hot(batch.labels, self.network.num_classes, dtype=batch.inputs.dtype)
        loss = weighted_loss(self.network) if whole else self._loss_in_chunks(training.batch_size)
        passes = Passes(
            Examples(lambda rows: (batch.inputs[rows], labels[rows]), len(batch.labels)),
            training.batch_size,
            training.augmentation,
            augment.mix_by_name(training.mix, self.network.input_shape),
        )
        now = Progress(state.params, state.opt_state)
        return passes.through(Descent(loss, training.optimizer).step, now, key, epochs=self.loops.epochs)


@noted
def gradient_matching(
    network: Network,
    inits: InitDistribution,
    *,
    batch_size: int = 256,
    distance: str = "layerwise",
    matches: int = 1,
    epochs: int = 1,
    lr_net: float = 0.01,
    batch_train: int = 256,
    augmentation: Augmentation | None = None,
    recipe: Recipe | None = None,
    examples_per_chunk: int | None = None,
    classes_per_chunk: int | None = None,
    layers: str = "all",
    training: RealTraining | None = None,
    most_per_class: int | None = None,
) -> Method:
    """The distance of the gradients that real and distilled images of each class give a network.

        L(φ) = Σ_k D(∇_θ ℓ(θ; A(x̃, ω_k), x̃ ∈ class k), ∇_θ ℓ(θ; A(x, ω_k), x ∈ class k))

    ℓ is the mean cross-entropy, A the augmentation, if any, and ω_k the draw of A for class k, the same for
    real and distilled images. θ is drawn from p(θ0), matched, trained on the φ just updated, matched again,
    and so on; after `matches` outer steps a new θ is drawn. Where a network has batch norms, each match takes
    the batch statistics from real images.

    IDC is this method on `forms.multi_formation`, with `layers="kernels"`, networks that are trained on real
    images (`training`) and matched 100 times, and a colour change beside every other augmentation.

    Args:
        network: the network that is matched.
        inits: the distribution p(θ0) of initial weights.
        batch_size: N, the number of real images of *each class*, drawn uniformly and shared by all slots.
        distance: the name of D, one of `DISTANCES`: `"layerwise"` is the published distance of DC and DSA;
            IDC was published with `"l1"` for digits and clothes and with `"mse"` for colour images. Or
            `"features"`, the squared distance of mean features in place of gradients.
        matches: the number of matches of one network; with 1 the network is not trained. `schedule_for` gives
            the published numbers.
        epochs: the number of passes that train the network between two matches, over φ or over the real
            images of `training`.
        lr_net: the learning rate of the training on φ, which is by SGD without momentum.
        batch_train: the number of images in one step of the training on φ.
        augmentation: A, drawn anew for each class by each slot at every outer step, and for each image in
            the training on φ (DSA); the published one is that of `ddjax.augment.strategy_for(data.name)`.
            None, the default, is no augmentation (DC).
        recipe: the training on the result; the published protocol by default, without augmentation.
        examples_per_chunk: the number of images that pass through the network at once where no second
            derivative is taken; the result stays the same. By default 16 on CPU, where the activations of all
            would not stay in the cache, and all elsewhere.
        classes_per_chunk: the number of classes that are vmapped; the result stays the same. By default one
            after the other on CPU, and ten in one pass elsewhere.
        layers: the name of the weights whose gradients are compared, one of `LAYERS`; `"layerwise"` leaves
            out those with one axis in any case.
        training: the training of the networks on real images between two matches, `epochs` passes over newly
            drawn images; None trains on φ, by `lr_net` and `batch_train`.
        most_per_class: the most distilled images of a class in one match, drawn anew for each; None for all.
            IDC was published with 128.

    Returns:
        A method whose state is a `NetworkState` and which learns no learning rates. The method needs the
        images of each step ordered by class, as in `ddjax.forms.pixels`.

    Raises:
        ValueError: a number is out of range, the distance is unknown, the network has no weights of the kind
            that is compared, or the recipe has an unknown augmentation.

    References:
        DC: Zhao, Mopuri and Bilen, Dataset Condensation with Gradient Matching, ICLR 2021, arXiv 2006.05929.
        DSA: Zhao and Bilen, Dataset Condensation with Differentiable Siamese Augmentation, ICML 2021, arXiv
        2102.08259. IDC: Kim et al., Dataset Condensation via Efficient Synthetic-Data Parameterization, ICML
        2022, arXiv 2205.14959. For the second derivative see `ddjax.unroll.mixed_value_and_grad`.
    """
    own = _GradientMatching(
        network=network,
        inits=inits,
        batch_size=batch_size,
        augmentation=augmentation,
        recipe=recipe,
        examples_per_chunk=examples_per_chunk,
        classes_per_chunk=classes_per_chunk,
        distance=distance,
        layers=layers,
        loops=Loops(matches, epochs),
        lr_net=lr_net,
        batch_train=batch_train,
        training=training,
        most_per_class=most_per_class,
    )
    return Method(
        sample=own.sample,
        loss=own.loss,
        name="gradient_matching",
        recipe=recipe or Train(protocol="condensation"),
        outer=published_outer(0.1),
        assets=assets_of(inits),
        facts=start_of(network, inits),
        init=own.draw_network,
        advance=own.advance,
        check_labels=_check_labels,
    )

"""Distillation by matching the gradients of real and distilled images, class by class (DC and DSA)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ddjax import checks
from ddjax.augment import Augmentation, Draw
from ddjax.chunks import MeanLoss, map_in_chunks, mean_over_chunks
from ddjax.methods.matching import Matching, published_outer
from ddjax.methods.starts import WithPool, assets_of, parted, theta
from ddjax.networks import norms
from ddjax.recipes import Train
from ddjax.training import Examples, fit, weighted_loss
from ddjax.types import InitDistribution, Method, Network, Params, PyTree, Recipe, Schedule
from ddjax.unroll import cross_entropy, mixed_value_and_grad

EPSILON = 1e-6
"""What is added to a product of norms, so that a gradient of zero has a cosine."""

CALIBRATION_IMAGES = 16
"""Real images of each class that statistics of batch norms are measured on, as published."""


class Loops(NamedTuple):
    """How long a network is used.

    Attributes:
        matches: outer loop: updates of the images before a new network is drawn.
        epochs: inner loop: passes over the distilled images that train it between two of these.
    """

    matches: int
    epochs: int


PUBLISHED_LOOPS = {1: Loops(1, 1), 10: Loops(10, 50), 50: Loops(50, 10)}
"""Of DC and DSA, by images per class. With one match nothing is trained."""


def schedule_for(images_per_class: int) -> Loops:
    """The published outer and inner loop.

    Args:
        images_per_class: distilled images of each class.

    Returns:
        An entry of `PUBLISHED_LOOPS`.

    Raises:
        ValueError: a number of images for which none were published.
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
        class_distances: `[K]`, between the two gradients of each class.
        matches_before: `[]` float, how often the network had been matched, and trained since.
    """

    class_distances: jax.Array
    matches_before: jax.Array


class NetworkState(NamedTuple):
    """What a slot carries from one outer step to the next.

    Attributes:
        params: the weights at which gradients are matched next.
        matches: `[]` int32, how often that was done since they were drawn.
    """

    params: Params
    matches: jax.Array


# Distances.


def _norm(x: jax.Array, axis: int | None) -> jax.Array:
    """‖x‖; where it is zero, as for a dead unit, its derivative is zero too instead of NaN."""
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

    Row j of a kernel `[..., in, out]` is all that leads to output channel j. Leaves of one axis, biases and
    the scales of norms, are left out.

    Args:
        ours: a gradient.
        theirs: another.

    Returns:
        `[]`, from 0 to twice the number of rows.

    References:
        Zhao et al. 2021, arXiv 2006.05929, section 3.2.
    """
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    rows = [[leaf.reshape(-1, leaf.shape[-1]) for leaf in pair] for pair in pairs if pair[0].ndim > 1]
    return jnp.sum(jnp.stack([_one_minus_cosine(*pair, axis=0).sum() for pair in rows]))


def squared_distance(ours: Params, theirs: Params) -> jax.Array:
    """`‖g - h‖²` over all weights, `[]`."""
    return jnp.sum((_flat(ours) - _flat(theirs)) ** 2)


def cosine_distance(ours: Params, theirs: Params) -> jax.Array:
    """`1 - ⟨g, h⟩ / (‖g‖ ‖h‖ + ε)` over all weights as one vector, `[]`."""
    return _one_minus_cosine(_flat(ours), _flat(theirs), axis=None)


Distance = Callable[[Params, Params], jax.Array]
"""`(gradient, gradient) -> []`, differentiable in the first."""

DISTANCES: dict[str, Distance] = {
    "layerwise": layerwise_distance,
    "mse": squared_distance,
    "cosine": cosine_distance,
}
"""Distances of gradients by name."""


# What is matched.


class _Images(NamedTuple):
    """Distilled images.

    Attributes:
        inputs: `[K, n, H, W, C]`, by class.
        labels: `[K, n, K]`.
    """

    inputs: jax.Array
    labels: jax.Array


class _Real(NamedTuple):
    """What the distances depend on beside φ and the network.

    Attributes:
        inputs: `[K, N, H, W, C]`, by class.
        labels: `[K, K]`, of all images of a class.
        draw: of the augmentation, each leaf `[K]`; None without.
    """

    inputs: jax.Array
    labels: jax.Array
    draw: Draw


def _by_class(schedule: Schedule) -> _Images:
    """φ's images by class, which in each step are in that order, see `_check_labels`."""
    num_classes = schedule.labels.shape[-1]

    def grouped(leaf: jax.Array) -> jax.Array:
        steps, size, *rest = leaf.shape
        leaf = leaf.reshape(steps, num_classes, size // num_classes, *rest)
        return leaf.swapaxes(0, 1).reshape(num_classes, -1, *rest)

    return _Images(grouped(schedule.inputs), grouped(schedule.labels))


def _check_labels(labels: np.ndarray) -> None:
    """Refuse a φ whose images are not grouped by class.

    Raises:
        ValueError: as said.
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
class _Distances:
    """How far the gradients of each class are apart.

    Attributes:
        network: whose gradients.
        distance: of two of them.
        augmented: `(draw, images) -> images`, of both sides.
        real_loss: whose gradient the real images give.
        classes_per_chunk: classes that are vmapped.
    """

    network: Network
    distance: Distance
    augmented: Callable[[Draw, jax.Array], jax.Array]
    real_loss: MeanLoss
    classes_per_chunk: int

    def of_class(self, images: _Images, params: Params, real: _Real) -> jax.Array:
        """Of one class, `[]`: the arguments have its share."""
        inputs, real_inputs = (self.augmented(real.draw, x) for x in (images.inputs, real.inputs))
        ones = jnp.ones(len(real_inputs), real_inputs.dtype)
        real_labels = jnp.broadcast_to(real.labels, (len(ones), len(real.labels)))
        # Only the first derivative, and taken in chunks.
        theirs, _ = jax.grad(self.real_loss, has_aux=True)(params, (real_inputs, real_labels, ones))
        value_and_grad = mixed_value_and_grad(cross_entropy(self.network.apply))
        _, ours = value_and_grad(params, inputs, images.labels)
        return self.distance(ours, jax.lax.stop_gradient(theirs))

    def __call__(self, images: _Images, params: Params, real: _Real) -> jax.Array:
        """Of all classes, `[K]`; differentiable in the images alone, once.

        The gradient is taken together with the value, so that nothing is kept of a class but its share of
        both.
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
        distance: of two gradients, a name.
        loops: how long a network is used.
        lr_net: rate of its training.
        batch_train: images in one step of that.
    """

    distance: str
    loops: Loops
    lr_net: float
    batch_train: int

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in {**self.loops._asdict(), "batch_train": self.batch_train}.items():
            checks.at_least(name, value, 1)
        checks.choice("distance", self.distance, DISTANCES)
        checks.positive("lr_net", self.lr_net)

    def _loss_in_chunks(self, count: int) -> MeanLoss:
        """Of the network, on real or distilled images whose second derivative is not taken."""
        return mean_over_chunks(weighted_loss(self.network), size=self.examples_at_once(count))

    def draw_network(self, key: jax.Array, pool: Params | None = None) -> NetworkState:
        """A network that was not matched yet. Consumes the key."""
        return NetworkState(theta(self.inits, pool, key), jnp.zeros((), jnp.int32))

    def loss(
        self, schedule: Schedule, state: NetworkState, batch: jax.Array | WithPool, key: jax.Array
    ) -> tuple[jax.Array, GradientMatchingInfo]:
        """The distance of all classes, `[]`. Consumes the key."""
        images, _ = parted(batch)
        params = state.params
        if self.has_batch_norm:
            few = images[:, :CALIBRATION_IMAGES]
            params = norms.calibrate(self.network, params, few.reshape(-1, *few.shape[2:]))
        each = _Distances(
            network=self.network,
            distance=DISTANCES[self.distance],
            augmented=self.augmented,
            real_loss=self._loss_in_chunks(self.batch_size),
            classes_per_chunk=self.classes_at_once(),
        )
        real = _Real(images, jnp.eye(len(images), dtype=images.dtype), self.draws(key, len(images)))
        distances = each(_by_class(schedule), params, real)
        return distances.sum(), GradientMatchingInfo(distances, state.matches.astype(distances.dtype))

    def advance(
        self,
        schedule: Schedule,
        state: NetworkState,
        batch: jax.Array | WithPool,
        info: GradientMatchingInfo,
        key: jax.Array,
    ) -> NetworkState:
        """The network of the next outer step: this one trained on φ, or another. Consumes the key."""
        del info
        _, pool = parted(batch)
        if self.loops.matches == 1:
            return self.draw_network(key, pool)
        # The statistics of a batch norm are those of a whole minibatch.
        whole = self.has_batch_norm
        loss = weighted_loss(self.network) if whole else self._loss_in_chunks(self.batch_train)

        def train() -> NetworkState:
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
            return NetworkState(trained, state.matches + 1)

        is_used_up = state.matches + 1 == self.loops.matches
        return jax.lax.cond(is_used_up, lambda: self.draw_network(key, pool), train)


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
) -> Method:
    """The distance of the gradients that real and distilled images of each class give a network.

        L(φ) = Σ_k D(∇_θ ℓ(θ; A(x̃, ω_k), x̃ ∈ class k), ∇_θ ℓ(θ; A(x, ω_k), x ∈ class k))

    ℓ is the mean cross-entropy, A the augmentation, if any, and ω_k its draw for class k, the same for real
    and distilled images. θ is drawn from p(θ0), matched, trained on the φ just updated, matched again, and so
    on; after `matches` outer steps another is drawn. Where a network has batch norms, each match takes their
    statistics from real images.

    Args:
        network: any.
        inits: p(θ0).
        batch_size: N, real images of *each class*, drawn uniformly and shared by all slots.
        distance: D, a name from `DISTANCES`; `"layerwise"` as published.
        matches: of one network; 1 trains none. `schedule_for` knows the published numbers.
        epochs: of training on φ between two matches.
        lr_net: rate of that training, by SGD without momentum.
        batch_train: images in one of its steps.
        augmentation: A, drawn anew for each class by each slot at every outer step, and for each image in
            training on φ (DSA); as published that of `ddjax.augment.strategy_for(data.name)`. None by
            default (DC).
        recipe: how to train on the result; the published protocol by default, without augmentation.
        examples_per_chunk: how many images the network sees at once where no second derivative is taken; the
            result stays the same. By default 16 on CPU, where the activations of all would not stay in the
            cache, and all elsewhere.
        classes_per_chunk: how many classes are vmapped; the result stays the same. By default one after the
            other on CPU, and ten in one pass elsewhere.

    Returns:
        A method whose state is a `NetworkState`; it learns no learning rates. It needs the images of each
        step ordered by class, as `ddjax.forms.pixels` has them.

    Raises:
        ValueError: a number out of its range, an unknown distance, a recipe with an unknown augmentation.

    References:
        DC: Zhao, Mopuri and Bilen, Dataset Condensation with Gradient Matching, ICLR 2021, arXiv 2006.05929.
        DSA: Zhao and Bilen, Dataset Condensation with Differentiable Siamese Augmentation, ICML 2021, arXiv
        2102.08259. How it is differentiated twice: `ddjax.unroll.mixed_value_and_grad`.
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
        loops=Loops(matches, epochs),
        lr_net=lr_net,
        batch_train=batch_train,
    )
    return Method(
        sample=own.sample,
        loss=own.loss,
        name="gradient_matching",
        recipe=recipe or Train(),
        outer=published_outer(0.1),
        assets=assets_of(inits),
        init=own.draw_network,
        advance=own.advance,
        check_labels=_check_labels,
    )

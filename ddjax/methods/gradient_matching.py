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
from ddjax.facts import noted
from ddjax.methods.matching import Matching, published_outer
from ddjax.methods.starts import WithPool, assets_of, parted, theta
from ddjax.networks import norms
from ddjax.recipes import Train
from ddjax.training import Examples, fit, weighted_loss
from ddjax.types import InitDistribution, Method, Network, Params, PyTree, Recipe, Schedule, start_of
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
    """

    params: Params
    matches: jax.Array


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


Distance = Callable[[Params, Params], jax.Array]
"""A function `(gradient, gradient) -> []` that is differentiable in the first argument."""

DISTANCES: dict[str, Distance] = {
    "layerwise": layerwise_distance,
    "mse": squared_distance,
    "cosine": cosine_distance,
}
"""The distances of gradients by name."""


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
class _Distances:
    """The distance between the real and the distilled gradient of each class.

    Attributes:
        network: the network that is differentiated.
        distance: the distance of two gradients.
        augmented: the augmentation of both sides, `(draw, images) -> images`.
        real_loss: the loss that is differentiated on the real images.
        classes_per_chunk: the number of classes that are vmapped.
    """

    network: Network
    distance: Distance
    augmented: Callable[[Draw, jax.Array], jax.Array]
    real_loss: MeanLoss
    classes_per_chunk: int

    def of_class(self, images: _Images, params: Params, real: _Real) -> jax.Array:
        """The distance for one class, `[]`; the arguments contain the images of this class only."""
        inputs, real_inputs = (self.augmented(real.draw, x) for x in (images.inputs, real.inputs))
        ones = jnp.ones(len(real_inputs), real_inputs.dtype)
        real_labels = jnp.broadcast_to(real.labels, (len(ones), len(real.labels)))
        # Only the first derivative is needed, and is taken in chunks.
        theirs, _ = jax.grad(self.real_loss, has_aux=True)(params, (real_inputs, real_labels, ones))
        value_and_grad = mixed_value_and_grad(cross_entropy(self.network.apply))
        _, ours = value_and_grad(params, inputs, images.labels)
        return self.distance(ours, jax.lax.stop_gradient(theirs))

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
        distance: the name of the distance of two gradients.
        loops: the use of a network before a new one is drawn.
        lr_net: the learning rate of the training of the network.
        batch_train: the number of images in one step of this training.
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
        """The loss of the network on real or distilled images for which no second derivative is taken."""
        return mean_over_chunks(weighted_loss(self.network), size=self.examples_at_once(count))

    def draw_network(self, key: jax.Array, pool: Params | None = None) -> NetworkState:
        """A new network, which was not matched yet. Consumes the key."""
        return NetworkState(theta(self.inits, pool, key), jnp.zeros((), jnp.int32))

    def loss(
        self, schedule: Schedule, state: NetworkState, batch: jax.Array | WithPool, key: jax.Array
    ) -> tuple[jax.Array, GradientMatchingInfo]:
        """The sum of the distances of all classes, `[]`, and the diagnostics. Consumes the key."""
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
        """The network of the next outer step: this one trained on φ, or a new one. Consumes the key."""
        del info
        _, pool = parted(batch)
        if self.loops.matches == 1:
            return self.draw_network(key, pool)
        # A batch norm needs the statistics of a whole minibatch, so that the loss is not taken in chunks.
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
) -> Method:
    """The distance of the gradients that real and distilled images of each class give a network.

        L(φ) = Σ_k D(∇_θ ℓ(θ; A(x̃, ω_k), x̃ ∈ class k), ∇_θ ℓ(θ; A(x, ω_k), x ∈ class k))

    ℓ is the mean cross-entropy, A the augmentation, if any, and ω_k the draw of A for class k, the same for
    real and distilled images. θ is drawn from p(θ0), matched, trained on the φ just updated, matched again,
    and so on; after `matches` outer steps a new θ is drawn. Where a network has batch norms, each match takes
    the batch statistics from real images.

    Args:
        network: the network that is matched.
        inits: the distribution p(θ0) of initial weights.
        batch_size: N, the number of real images of *each class*, drawn uniformly and shared by all slots.
        distance: the name of D, one of `DISTANCES`; `"layerwise"` is the published distance.
        matches: the number of matches of one network; with 1 the network is not trained. `schedule_for` gives
            the published numbers.
        epochs: the number of passes over φ that train the network between two matches.
        lr_net: the learning rate of this training, which is by SGD without momentum.
        batch_train: the number of images in one step of this training.
        augmentation: A, drawn anew for each class by each slot at every outer step, and for each image in
            the training on φ (DSA); the published one is that of `ddjax.augment.strategy_for(data.name)`.
            None, the default, is no augmentation (DC).
        recipe: the training on the result; the published protocol by default, without augmentation.
        examples_per_chunk: the number of images that pass through the network at once where no second
            derivative is taken; the result stays the same. By default 16 on CPU, where the activations of all
            would not stay in the cache, and all elsewhere.
        classes_per_chunk: the number of classes that are vmapped; the result stays the same. By default one
            after the other on CPU, and ten in one pass elsewhere.

    Returns:
        A method whose state is a `NetworkState` and which learns no learning rates. The method needs the
        images of each step ordered by class, as in `ddjax.forms.pixels`.

    Raises:
        ValueError: a number is out of range, the distance is unknown, or the recipe has an unknown
            augmentation.

    References:
        DC: Zhao, Mopuri and Bilen, Dataset Condensation with Gradient Matching, ICLR 2021, arXiv 2006.05929.
        DSA: Zhao and Bilen, Dataset Condensation with Differentiable Siamese Augmentation, ICML 2021, arXiv
        2102.08259. For the second derivative see `ddjax.unroll.mixed_value_and_grad`.
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
        recipe=recipe or Train(protocol="condensation"),
        outer=published_outer(0.1),
        assets=assets_of(inits),
        facts=start_of(network, inits),
        init=own.draw_network,
        advance=own.advance,
        check_labels=_check_labels,
    )

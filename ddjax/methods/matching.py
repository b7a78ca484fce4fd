"""The parts that all matching methods share: settings, real images, and sizes of chunks."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax

from ddjax import augment, checks, platforms
from ddjax.augment import Augmentation, Draw
from ddjax.data import class_minibatch
from ddjax.methods.starts import WithPool, with_pool
from ddjax.networks import norms
from ddjax.optimizers import matching_outer
from ddjax.types import InitDistribution, Network, Outer, RealData, Recipe

EXAMPLES_PER_CHUNK = 16
"""The number of images in a chunk on CPU, where the activations of more would not stay in the cache.

Measured with ConvNet-3.
"""

CLASSES_PER_CHUNK = 10
"""The number of classes that are vmapped on other backends than CPU."""


def published_outer(published_lr: float) -> Callable[..., Outer]:
    """The outer optimiser of a matching method, for `ddjax.types.Method.outer`.

    Args:
        published_lr: the published learning rate of the images.

    Returns:
        `(num_outer_steps, *, lr=None) -> Outer`: gradient descent with momentum at a constant rate.
    """

    def outer(num_outer_steps: int, *, lr: float | None = None) -> Outer:
        del num_outer_steps
        return matching_outer(published_lr if lr is None else lr)

    return outer


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Matching:
    """A method that matches real and distilled images class by class; its callables are those of a `Method`.

    Attributes:
        network: the network that real and distilled images pass through.
        inits: the distribution p(θ0) of initial weights.
        batch_size: N, the number of real images of each class.
        augmentation: the augmentation of both sides, with the same draw for all images of a class; None for
            no augmentation.
        recipe: the training on the result; None for the published protocol without augmentation.
        examples_per_chunk: the number of images of a class that pass through the network at once where no
            second derivative is taken; None for the number that is fastest on this backend.
        classes_per_chunk: the number of classes that are vmapped; None for the number that is fastest on this
            backend.

    Raises:
        ValueError: `network`, `inits` or `augmentation` is of the wrong kind, a number is below one, or the
            recipe has an unknown augmentation.
    """

    network: Network
    inits: InitDistribution
    batch_size: int
    augmentation: Augmentation | None
    recipe: Recipe | None
    examples_per_chunk: int | None
    classes_per_chunk: int | None

    def __post_init__(self) -> None:
        checks.network_and_inits(self.network, self.inits)
        checks.at_least("batch_size", self.batch_size, 1)
        for name in ("examples_per_chunk", "classes_per_chunk"):
            if getattr(self, name) is not None:
                checks.at_least(name, getattr(self, name), 1)
        if self.recipe is not None:
            checks.kind("recipe", self.recipe, Recipe, remedy="Give ddjax.Recipe('train', ...).")
            self.recipe.check(self.network)
        augment.check(self.augmentation, self.network)

    @functools.cached_property
    def has_batch_norm(self) -> bool:
        """Whether the network has a batch norm, by which the images of a batch depend on one another."""
        return norms.has_batch_norm(self.network)

    def sample(self, data: RealData, key: jax.Array) -> jax.Array | WithPool:
        """The real examples of an outer step.

        Args:
            data: the real training data.
            key: the source of the draw. Consumed.

        Returns:
            `[K, N, *input_shape]`, N examples of each class, with the pool where p(θ0) has one.
        """
        checks.network_fits(self.network, data)
        return with_pool(self.inits, data, class_minibatch(data, key, size=self.batch_size))

    def draws(self, key: jax.Array, num_classes: int) -> Draw:
        """The draws of the augmentation for each class.

        Args:
            key: the source of the draws. Consumed.
            num_classes: K, the number of classes.

        Returns:
            The draws, each leaf `[K, ...]`; None without an augmentation.
        """
        if self.augmentation is None:
            return None
        return jax.vmap(self.augmentation.sample)(jax.random.split(key, num_classes))

    def augmented(self, draw: Draw, images: jax.Array) -> jax.Array:
        """The augmented images.

        Args:
            draw: one draw for all images, or one for each, each leaf `[n, ...]`.
            images: the images, `[n, H, W, C]`.

        Returns:
            `[n, H, W, C]`; the images as they are without an augmentation.
        """
        return images if self.augmentation is None else self.augmentation.apply(draw, images)

    def examples_at_once(self, count: int) -> int:
        """The number of images that pass through the network at once where no second derivative is taken.

        Args:
            count: the number of images in all.

        Returns:
            The most images in a chunk.
        """
        return self.examples_per_chunk or (EXAMPLES_PER_CHUNK if platforms.current() == "cpu" else count)

    def classes_at_once(self) -> int:
        """The number of classes that are vmapped; by default one on CPU, so that little memory is needed."""
        return self.classes_per_chunk or (1 if platforms.current() == "cpu" else CLASSES_PER_CHUNK)

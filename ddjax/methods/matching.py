"""What gradient and distribution matching share: settings, real images, and how much is looked at at once."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax

from ddjax import augment, checks
from ddjax.augment import Augmentation, Draw
from ddjax.data import class_minibatch
from ddjax.methods.starts import WithPool, with_pool
from ddjax.networks import norms
from ddjax.optimizers import matching_outer
from ddjax.types import InitDistribution, Network, Outer, RealData, Recipe

EXAMPLES_PER_CHUNK = 16
"""On CPU, where the activations of more would not stay in the cache; measured with ConvNet-3."""

CLASSES_PER_CHUNK = 10
"""Off the CPU, in one vectorised pass."""


def published_outer(published_lr: float) -> Callable[..., Outer]:
    """How a matching method moves φ, for `ddjax.types.Method.outer`.

    Args:
        published_lr: the rate of the images that the method was published with.

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
        network: what both sides pass.
        inits: p(θ0).
        batch_size: N, real images of each class.
        augmentation: of both sides, the same draw for all images of a class; None for none.
        recipe: how to train on the result; None for the published protocol without augmentation.
        examples_per_chunk: images of a class that the network sees at once where no second derivative is
            taken; None for what is fastest here.
        classes_per_chunk: classes that are vmapped; None for what is fastest here.

    Raises:
        ValueError: no network or p(θ0), a number below one, no augmentation, or a recipe with an unknown one.
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
        augment.check(self.augmentation)

    @functools.cached_property
    def has_batch_norm(self) -> bool:
        """Whether the network looks at its images together."""
        return norms.has_batch_norm(self.network)

    def sample(self, data: RealData, key: jax.Array) -> jax.Array | WithPool:
        """`[K, N, *input_shape]`, real examples of each class. Consumes the key."""
        checks.network_fits(self.network, data)
        return with_pool(self.inits, data, class_minibatch(data, key, size=self.batch_size))

    def draws(self, key: jax.Array, num_classes: int) -> Draw:
        """Of the augmentation, for each class: each leaf `[K, ...]`, None without one. Consumes the key."""
        if self.augmentation is None:
            return None
        return jax.vmap(self.augmentation.sample)(jax.random.split(key, num_classes))

    def augmented(self, draw: Draw, images: jax.Array) -> jax.Array:
        """Images `[n, H, W, C]` under one draw, or under one each."""
        return images if self.augmentation is None else self.augmentation.apply(draw, images)

    def examples_at_once(self, count: int) -> int:
        """How many of so many images the network sees together where no second derivative is taken."""
        return self.examples_per_chunk or (EXAMPLES_PER_CHUNK if jax.default_backend() == "cpu" else count)

    def classes_at_once(self) -> int:
        """How many classes are vmapped: on CPU one, so that nothing is kept of a class but its share."""
        return self.classes_per_chunk or (1 if jax.default_backend() == "cpu" else CLASSES_PER_CHUNK)

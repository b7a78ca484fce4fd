"""What gradient matching and distribution matching share: their checks, and how much is looked at at once."""

from __future__ import annotations

import jax

from ddjax import augment, checks
from ddjax.augment import Augmentation
from ddjax.types import InitDistribution, Network, Recipe

EXAMPLES_PER_CHUNK = 16
"""On CPU, where the activations of more would not stay in the cache; measured with ConvNet-3."""

CLASSES_PER_CHUNK = 10
"""Off the CPU, in one vectorised pass."""


def check_settings(
    network: Network,
    inits: InitDistribution,
    *,
    batch_size: int,
    augmentation: Augmentation | None,
    recipe: Recipe | None,
    examples_per_chunk: int | None,
    classes_per_chunk: int | None,
) -> None:
    """Refuse what neither method can use.

    Raises:
        ValueError: no network or p(θ0), a number below one, no augmentation, or a recipe with an unknown one.
    """
    checks.network_and_inits(network, inits)
    checks.at_least("batch_size", batch_size, 1)
    chunks = {"examples_per_chunk": examples_per_chunk, "classes_per_chunk": classes_per_chunk}
    for name, value in chunks.items():
        if value is not None:
            checks.at_least(name, value, 1)
    if recipe is not None:
        checks.kind("recipe", recipe, Recipe, remedy="Give ddjax.Recipe('train', ...).")
        augment.of_recipe(recipe, network.image_shape)
    augment.check(augmentation)


def examples_at_once(chosen: int | None, count: int) -> int:
    """Images of a class that a network sees together where no second derivative is taken.

    Args:
        chosen: by the caller; None for what is fastest here.
        count: how many there are.
    """
    return chosen or (EXAMPLES_PER_CHUNK if jax.default_backend() == "cpu" else count)


def classes_at_once(chosen: int | None) -> int:
    """Classes that are vmapped: on CPU one after the other, so that nothing is kept of a class but its share.

    Args:
        chosen: by the caller; None for what is fastest here.
    """
    return chosen or (1 if jax.default_backend() == "cpu" else CLASSES_PER_CHUNK)

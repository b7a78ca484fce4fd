"""Distillation by matching class means of embeddings under random networks (DM; Zhao and Bilen 2023)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ddjax import checks
from ddjax.augment import Augmentation, Draw
from ddjax.chunks import map_in_chunks, mean_of_chunks
from ddjax.facts import noted
from ddjax.methods.matching import Matching, published_outer
from ddjax.methods.starts import WithPool, assets_of, parted, theta
from ddjax.recipes import Train
from ddjax.types import InitDistribution, Method, Network, Params, Recipe, Schedule, start_of


class MatchingInfo(NamedTuple):
    """Diagnostics of one outer step.

    Attributes:
        class_distances: `[K]`, the squared distance of each class.
    """

    class_distances: jax.Array


def class_means(features: jax.Array, labels: jax.Array) -> jax.Array:
    """The mean feature of each class, weighted by label probabilities.

        mean_k = Σ_b y_bk f_b / Σ_b y_bk

    Args:
        features: the features of n images, `[n, F]`.
        labels: the label probabilities, `[n, K]`; each class needs some weight.

    Returns:
        The means, `[K, F]`.
    """
    return labels.T @ features / labels.sum(0)[:, None]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class _DistributionMatching(Matching):
    """See `distribution_matching`.

    Attributes:
        embed: the embedding of the network, `(params, images [n, H, W, C]) -> [n, F]`.
    """

    embed: Callable[[Params, jax.Array], jax.Array]

    def _real_means(self, params: Params, batch: jax.Array, draws: Draw) -> jax.Array:
        """The mean features of the real images of each class, `[K, F]`."""
        if self.has_batch_norm:
            # The batch statistics are those of all classes together, as they are for the distilled images.
            images = jax.vmap(self.augmented)(draws, batch)
            features = self.embed(params, images.reshape(-1, *images.shape[2:]))
            return features.reshape(*batch.shape[:2], -1).mean(1)
        size = self.examples_at_once(batch.shape[1])

        def of_class(now: tuple[Draw, jax.Array]) -> jax.Array:
            images = self.augmented(*now)
            return mean_of_chunks(lambda some: self.embed(params, some).mean(0), images, size)

        # The real features of all classes at once would set the peak of memory.
        return map_in_chunks(of_class, (draws, batch), self.classes_at_once())

    def loss(
        self, schedule: Schedule, state: tuple[()], batch: jax.Array | WithPool, key: jax.Array
    ) -> tuple[jax.Array, MatchingInfo]:
        """The sum of the distances of all classes, `[]`, and the diagnostics. Consumes the key."""
        del state
        real, pool = parted(batch)
        inputs = schedule.inputs.reshape(-1, *schedule.inputs.shape[2:])
        labels = schedule.labels.reshape(len(inputs), -1)
        draws = None
        if self.augmentation is not None:
            key, draw_key = jax.random.split(key)
            draws = self.draws(draw_key, len(real))
        own = jax.tree.map(lambda leaf: leaf[labels.argmax(-1)], draws)
        params = theta(self.inits, pool, key)
        wanted = jax.lax.stop_gradient(self._real_means(params, real, draws))
        distilled = class_means(self.embed(params, self.augmented(own, inputs)), labels)
        distances = jnp.sum((wanted - distilled) ** 2, -1)
        return distances.sum(), MatchingInfo(distances)


@noted
def distribution_matching(
    network: Network,
    inits: InitDistribution,
    *,
    batch_size: int = 256,
    recipe: Recipe | None = None,
    augmentation: Augmentation | None = None,
    examples_per_chunk: int | None = None,
    classes_per_chunk: int | None = None,
) -> Method:
    """The squared distance between class means of real and distilled images, embedded by random networks.

        L(φ) = E_{θ0, ω} Σ_k ‖ mean ψ_θ0(A(x, ω_k), x ∈ class k) - mean ψ_θ0(A(x̃, ω_k), x̃ ∈ class k) ‖²

    No network is trained; nothing is unrolled. A is the augmentation, if any, and ω_k the draw for class k,
    the same for real and distilled images.

    Args:
        network: a network with an embedding, ψ, the input of the last layer (`Network.embed`).
        inits: the distribution p(θ0) of initial weights, drawn anew by each slot at every outer step.
        batch_size: N, the number of real images of *each class*, drawn uniformly and shared by all slots.
        recipe: the training on the result; the published protocol by default, without augmentation.
        augmentation: A, drawn anew for each class by each slot at every outer step; the published one is that
            of `ddjax.augment.strategy_for(data.name)`, and None, the default, is no augmentation. A distilled
            image is augmented as one of its most probable class.
        examples_per_chunk: the number of real images of a class that are embedded at once; the result stays
            the same. By default 16 on CPU, where the activations of all would not stay in the cache, and all
            elsewhere. A network with batch norm sees all images of all classes at once.
        classes_per_chunk: the number of classes that are vmapped; the result stays the same. By default one
            after the other on CPU, and ten in one pass elsewhere.

    Returns:
        A method that keeps no state and learns no learning rates.

    Raises:
        ValueError: the network has no `embed`, a number is below one, or the recipe has an unknown
            augmentation.

    References:
        Zhao and Bilen, Dataset Condensation with Distribution Matching, WACV 2023.
    """
    checks.network_and_inits(network, inits)
    if network.embed is None:
        raise ValueError(
            f"distribution_matching: expected a network with an embedding; {network.name!r} has none. Give "
            "its adapter `embed=`, or its module a method `embed`, that returns what the last layer sees."
        )
    own = _DistributionMatching(
        network=network,
        inits=inits,
        batch_size=batch_size,
        augmentation=augmentation,
        recipe=recipe,
        examples_per_chunk=examples_per_chunk,
        classes_per_chunk=classes_per_chunk,
        embed=network.embed,
    )
    return Method(
        sample=own.sample,
        loss=own.loss,
        name="distribution_matching",
        recipe=recipe or Train(protocol="condensation"),
        outer=published_outer(1.0),
        assets=assets_of(inits),
        facts=start_of(network, inits),
    )

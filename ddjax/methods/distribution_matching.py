"""Distillation by matching class means of embeddings under random networks (DM; Zhao and Bilen 2023)."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ddjax import augment, checks
from ddjax.augment import Augmentation, Draw
from ddjax.chunks import mean_of_chunks
from ddjax.data import class_minibatch
from ddjax.networks import norms
from ddjax.types import InitDistribution, Method, Network, RealData, Recipe, Schedule


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
        features: `[n, F]`.
        labels: `[n, K]` probabilities; each class needs some weight.

    Returns:
        `[K, F]`.
    """
    return labels.T @ features / labels.sum(0)[:, None]


def distribution_matching(
    network: Network,
    inits: InitDistribution,
    *,
    batch_size: int = 256,
    recipe: Recipe | None = None,
    augmentation: Augmentation | None = None,
) -> Method:
    """The squared distance between class means of real and distilled images, embedded by random networks.

        L(φ) = E_{θ0, ω} Σ_k ‖ mean ψ_θ0(A(x, ω_k), x ∈ class k) - mean ψ_θ0(A(x̃, ω_k), x̃ ∈ class k) ‖²

    No network is trained; nothing is unrolled. A is the augmentation, if any, and ω_k its draw for class k,
    the same for real and distilled images.

    Args:
        network: one that says what its last layer sees (`Network.embed`).
        inits: p(θ0), drawn anew by each slot at every outer step.
        batch_size: N, real images of *each class*, drawn uniformly and shared by all slots.
        recipe: how to train on the result; the published protocol by default, without augmentation.
        augmentation: A, drawn anew for each class by each slot at every outer step; as published that of
            `ddjax.augment.strategy_for(data.name)`, none by default. A distilled image is augmented as one of
            its most probable class.

    Returns:
        A method that keeps no state and learns no learning rates.

    Raises:
        ValueError: the network has no `embed`; `batch_size` below one; a recipe with an unknown augmentation.

    References:
        Zhao and Bilen, Dataset Condensation with Distribution Matching, WACV 2023.
    """
    checks.network_and_inits(network, inits)
    checks.at_least("batch_size", batch_size, 1)
    if recipe is not None:
        checks.kind("recipe", recipe, Recipe, remedy="Give ddjax.Recipe('train', ...).")
        augment.of_recipe(recipe, network.image_shape)
    if augmentation is not None:
        checks.kind("augmentation", augmentation, Augmentation, remedy="Build it with ddjax.augment.by_name.")
    embed = network.embed
    if embed is None:
        raise ValueError(
            f"distribution_matching: expected a network with an embedding; {network.name!r} has none. Give "
            "its adapter `embed=`, or its module a method `embed`, that returns what the last layer sees."
        )

    # On CPU the activations of more would not stay in the cache; measured with ConvNet-3.
    in_chunks = jax.default_backend() == "cpu" and not norms.has_batch_norm(network)
    chunk = 16 if in_chunks else batch_size

    def sample(data: RealData, key: jax.Array) -> jax.Array:
        checks.network_fits(network, data)
        return class_minibatch(data, key, size=batch_size)

    def loss(
        schedule: Schedule, state: tuple[()], batch: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, MatchingInfo]:
        del state
        inputs = schedule.inputs.reshape(-1, *schedule.inputs.shape[2:])
        labels = schedule.labels.reshape(len(inputs), -1)
        draws = None
        if augmentation is not None:
            key, draw_key = jax.random.split(key)
            draws = jax.vmap(augmentation.sample)(jax.random.split(draw_key, len(batch)))
            own = jax.tree.map(lambda leaf: leaf[labels.argmax(-1)], draws)
            inputs = augmentation.apply(own, inputs)
        params = inits.sample(key)

        def real_mean(now: tuple[Draw, jax.Array]) -> jax.Array:
            draw, images = now
            if augmentation is not None:
                images = augmentation.apply(draw, images)
            return mean_of_chunks(lambda images: embed(params, images).mean(0), images, chunk)

        # One class at a time: the real features of all classes at once would set the peak of memory.
        real = jax.lax.map(real_mean, (draws, batch))
        distilled = class_means(embed(params, inputs), labels)
        distances = jnp.sum((jax.lax.stop_gradient(real) - distilled) ** 2, -1)
        return distances.sum(), MatchingInfo(distances)

    return Method(
        sample=sample,
        loss=loss,
        name="distribution_matching",
        recipe=recipe or Recipe("train"),
        needs_lrs=False,
    )

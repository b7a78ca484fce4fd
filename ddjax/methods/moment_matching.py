"""Distillation by matching first and second moments of embeddings, class by class, under random networks.

Distribution matching compares class means alone. This method also compares the root mean squares of the
features, which measure how far the images of a class are spread.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ddjax import checks
from ddjax.chunks import map_in_chunks, mean_of_chunks
from ddjax.facts import noted
from ddjax.methods.distribution_matching import class_means
from ddjax.methods.matching import Matching, published_outer
from ddjax.methods.starts import WithPool, assets_of, parted, theta
from ddjax.recipes import Train
from ddjax.types import InitDistribution, Method, Network, Params, Recipe, Schedule, start_of

EPSILON = 1e-6
"""The number that is added to mean squares, so that the root has a derivative even for a dead unit."""


class MomentInfo(NamedTuple):
    """Diagnostics of one outer step.

    Attributes:
        first: `[K]`, the squared distance of the mean features of each class.
        second: `[K]`, the squared distance of the root mean squared features of each class.
    """

    first: jax.Array
    second: jax.Array


def moments(network: Network, params: Params, inputs: jax.Array) -> jax.Array:
    """The features of some inputs, and their squares.

        m(x) = (ψ(x), ψ(x)²)

    Args:
        network: a network with an `embed`, ψ.
        params: the weights.
        inputs: the inputs, `[n, *input_shape]`.

    Returns:
        The features and their squares, `[n, 2 F]`.
    """
    assert network.embed is not None
    features = network.embed(params, inputs)
    return jnp.concatenate([features, features**2], -1)


@noted
def moment_matching(
    network: Network,
    inits: InitDistribution,
    *,
    batch_size: int = 256,
    weight: float = 1.0,
    recipe: Recipe | None = None,
) -> Method:
    """The squared distances between class means of real and distilled features, and root mean squares.

        L(φ) = E_θ0 Σ_k ‖ mean ψ(x) - mean ψ(x̃) ‖² + w ‖ rms ψ(x) - rms ψ(x̃) ‖²,   x, x̃ of class k

    with rms ψ = √(mean ψ² + ε), in the units of the features, so that no gradient grows with their cube.

    Args:
        network: a network with an embedding, ψ, the input of the last layer (`Network.embed`).
        inits: the distribution p(θ0) of initial weights, drawn anew by each slot at every outer step.
        batch_size: N, the number of real examples of *each class*, drawn uniformly and shared by all slots.
        weight: w, the weight of the second moments; 0 gives distribution matching.
        recipe: the training on the result; the published protocol by default.

    Returns:
        A method without a state that learns no learning rates.

    Raises:
        ValueError: the network has no `embed`, a number is below one, or the weight is below zero.

    References:
        The first moments: Zhao and Bilen 2023, arXiv 2110.04181. Second moments of features in condensation:
        Zhang et al. 2024, M3D, arXiv 2312.15927 (there by a kernel).
    """
    checks.network_and_inits(network, inits)
    checks.at_least("weight", weight, 0, integer=False)
    if network.embed is None:
        raise ValueError(
            f"moment_matching: expected a network with an embedding; {network.name!r} has none. Give its "
            "adapter `embed=`, or its module a method `embed`, that returns what the last layer sees."
        )
    own = Matching(
        network=network,
        inits=inits,
        batch_size=batch_size,
        augmentation=None,
        recipe=recipe,
        examples_per_chunk=None,
        classes_per_chunk=None,
    )

    def real_moments(params: Params, real: jax.Array) -> jax.Array:
        size = own.examples_at_once(real.shape[1])

        def of_class(inputs: jax.Array) -> jax.Array:
            return mean_of_chunks(lambda some: moments(network, params, some).mean(0), inputs, size)

        return map_in_chunks(of_class, real, own.classes_at_once())

    def loss(
        schedule: Schedule, state: tuple[()], batch: jax.Array | WithPool, key: jax.Array
    ) -> tuple[jax.Array, MomentInfo]:
        del state
        real, pool = parted(batch)
        params = theta(inits, pool, key)
        inputs = schedule.inputs.reshape(-1, *schedule.inputs.shape[2:])
        labels = schedule.labels.reshape(len(inputs), -1)
        wanted = jax.lax.stop_gradient(real_moments(params, real))
        found = class_means(moments(network, params, inputs), labels)
        (mean, square), (our_mean, our_square) = (jnp.split(m, 2, axis=-1) for m in (wanted, found))
        first = jnp.sum((mean - our_mean) ** 2, -1)
        second = jnp.sum((jnp.sqrt(square + EPSILON) - jnp.sqrt(our_square + EPSILON)) ** 2, -1)
        return jnp.sum(first) + weight * jnp.sum(second), MomentInfo(first, second)

    return Method(
        sample=own.sample,
        loss=loss,
        name="moment_matching",
        recipe=recipe or Train(protocol="condensation"),
        outer=published_outer(1.0),
        assets=assets_of(inits),
        facts=start_of(network, inits),
    )

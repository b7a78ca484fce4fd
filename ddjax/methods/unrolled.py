"""Distillation by differentiating through the training itself (Wang, Zhu, Torralba, Efros 2018)."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from ddjax import checks
from ddjax.chunks import mean_over_chunks
from ddjax.data import minibatch
from ddjax.types import Batch, InitDistribution, Method, Network, Params, RealData, Recipe, Schedule
from ddjax.unroll import OPTIMIZERS, STRATEGIES, Memory, cross_entropy, unroll


class UnrolledInfo(NamedTuple):
    """Diagnostics of one outer step.

    Attributes:
        inner_losses: `[T]`, the loss on φ before each inner step.
        accuracy: `[]`, of θ_T on the real minibatch, in percent.
    """

    inner_losses: jax.Array
    accuracy: jax.Array


def _chunk_size(backend: str, batch_size: int) -> int:
    """Real examples at once; measured with LeNet and AlexCifarNet, between 16 and 256 it mattered little."""
    return 64 if backend == "cpu" else batch_size


def unrolled(
    network: Network,
    inits: InitDistribution,
    *,
    batch_size: int = 1024,
    examples_per_chunk: int | None = None,
    inner_optimizer: str = "sgd",
    memory: Memory = STRATEGIES["reverse"],
) -> Method:
    """The loss on real data of a network trained on φ, exact through all T steps.

        L(φ) = E_{θ0 ~ p(θ0)} ℓ(real minibatch, θ_T(θ0, φ)),   ℓ = cross-entropy

    Args:
        network: trained on φ.
        inits: p(θ0); each slot draws its own at every outer step.
        batch_size: N, real images in a minibatch, drawn uniformly and shared by all slots.
        examples_per_chunk: how many of the N the trained network sees at once; the loss and its gradient stay
            the same. By default 64 on CPU, where the activations of all would not stay in the cache, and all
            elsewhere.
        inner_optimizer: whose updates η scales, a name from `ddjax.unroll.OPTIMIZERS`; the artifact keeps it.
        memory: how the unroll is differentiated.

    Returns:
        A method that keeps no state and replays its schedule.

    Raises:
        ValueError: `batch_size` or `examples_per_chunk` below one, an unknown optimiser.

    References:
        Wang et al. 2018, arXiv 1811.10959, algorithm 1.
    """
    checks.at_least("batch_size", batch_size, 1)
    if examples_per_chunk is not None:
        checks.at_least("examples_per_chunk", examples_per_chunk, 1)
    checks.choice("inner_optimizer", inner_optimizer, OPTIMIZERS)
    optimizer = OPTIMIZERS[inner_optimizer]
    inner_loss = cross_entropy(network.apply)

    def score(params: Params, batch: Batch) -> tuple[jax.Array, jax.Array]:
        logits = network.apply(params, batch.inputs)
        value = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels).mean()
        return value, 100.0 * jnp.mean(jnp.argmax(logits, -1) == batch.labels)

    def sample(data: RealData, key: jax.Array) -> Batch:
        return minibatch(data, key, size=batch_size)

    def loss(
        schedule: Schedule, state: tuple[()], batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, UnrolledInfo]:
        del state
        theta = inits.sample(key)
        params, inner_losses = unroll(inner_loss, theta, schedule, optimizer=optimizer, memory=memory)
        size = examples_per_chunk or _chunk_size(jax.default_backend(), batch_size)
        value, accuracy = mean_over_chunks(score, size=size)(params, batch)
        return value, UnrolledInfo(inner_losses, accuracy)

    return Method(
        sample=sample,
        loss=loss,
        name="unrolled",
        recipe=Recipe("schedule", optimizer=inner_optimizer),
        needs_lrs=True,
    )

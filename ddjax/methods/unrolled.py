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

HORIZONS = ("full", "random")


class UnrolledInfo(NamedTuple):
    """Diagnostics of one outer step.

    Attributes:
        inner_losses: `[T]`, the loss on φ before each inner step; `[window]` with a random horizon.
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
    horizon: str = "full",
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
        horizon: where training ends and the loss is taken. `"full"`: after all T steps. `"random"`: after a
            number of steps drawn uniformly from [window, T] by each slot at each outer step, so that every
            step learns although only `memory.window` of them are differentiated at a time; the steps before
            the window cost a plain training step each.

    Returns:
        A method that keeps no state and replays its schedule.

    Raises:
        ValueError: `batch_size` or `examples_per_chunk` below one, an unknown optimiser, a random horizon
            without a window.

    References:
        Wang et al. 2018, arXiv 1811.10959, algorithm 1. Random horizon: Feng et al. 2024 (RaT-BPTT),
        arXiv 2311.07025.
    """
    checks.at_least("batch_size", batch_size, 1)
    if examples_per_chunk is not None:
        checks.at_least("examples_per_chunk", examples_per_chunk, 1)
    checks.choice("inner_optimizer", inner_optimizer, OPTIMIZERS)
    checks.choice("horizon", horizon, HORIZONS)
    if horizon == "random" and memory.window is None:
        raise ValueError(
            "horizon: expected a window with 'random', of the steps that are differentiated; got none. Give "
            "memory=dataclasses.replace(memory, window=...), or on the command line --window."
        )
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
        stop = None
        if horizon == "random":
            assert schedule.lrs is not None
            assert memory.window is not None
            key, stop_key = jax.random.split(key)
            stop = jax.random.randint(
                stop_key, (), min(memory.window, schedule.lrs.size), schedule.lrs.size + 1
            )
        theta = inits.sample(key)
        params, inner_losses = unroll(
            inner_loss, theta, schedule, optimizer=optimizer, memory=memory, stop=stop
        )
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

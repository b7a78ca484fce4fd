"""Distillation by differentiating through the training itself (Wang, Zhu, Torralba, Efros 2018)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from ddjax import augment, checks, platforms
from ddjax.augment import Augmentation
from ddjax.chunks import mean_over_chunks
from ddjax.facts import noted
from ddjax.methods.starts import WithPool, assets_of, parted, real_minibatch, theta, with_pool
from ddjax.optimizers import unrolled_outer
from ddjax.recipes import Replay, check_probabilities
from ddjax.types import Batch, InitDistribution, Method, Network, Params, RealData, Schedule, start_of
from ddjax.unroll import OPTIMIZERS, STRATEGIES, Memory, unroll
from ddjax.unroll import cross_entropy as soft_cross_entropy

HORIZONS = ("full", "random")

Objective = Callable[[jax.Array, jax.Array], jax.Array]
"""A function `(logits [n, K], labels [n]) -> [n]`, whose mean over the real examples is the outer loss.

The function gives one number for each example, so that the mean may be taken in chunks.
"""


class UnrolledInfo(NamedTuple):
    """Diagnostics of one outer step.

    Attributes:
        inner_losses: `[T]`, the loss on φ before each inner step; `[window]` with a random horizon.
        accuracy: `[]`, the accuracy of θ_T on the real minibatch, in percent.
    """

    inner_losses: jax.Array
    accuracy: jax.Array


def _chunk_size(backend: str, batch_size: int) -> int:
    """The number of real examples in a chunk.

    Measured with LeNet and AlexCifarNet; between 16 and 256 the size mattered little.
    """
    return 64 if backend == "cpu" else batch_size


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The cross-entropy of each example, -log softmax(logits)_y: the objective of distillation.

    Args:
        logits: the outputs of the network, `[n, K]`.
        labels: the classes y, `[n]` whole numbers.

    Returns:
        `[n]`.
    """
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


@checks.entry
def relabelled(attacked: int, target: int) -> Objective:
    """The cross-entropy of a data-poisoning attack: to be wrong about one class and right about the rest.

        ℓ(x, y) = -log softmax(logits)_y',   y' = target where y = attacked, else y

    Args:
        attacked: the class that is to be taken for another.
        target: the class that it is to be taken for.

    Returns:
        An objective for `unrolled`.

    Raises:
        ValueError: a class is below zero, or the two classes are the same.

    References:
        Wang et al. 2018, arXiv 1811.10959, the malicious data-poisoning objective.
    """
    checks.at_least("attacked", attacked, 0)
    checks.at_least("target", target, 0)
    if attacked == target:
        raise ValueError(f"target: expected another class than the attacked one; got {target} twice.")

    def objective(logits: jax.Array, labels: jax.Array) -> jax.Array:
        return cross_entropy(logits, jnp.where(labels == attacked, target, labels))

    return objective


def _check_objective(objective: Objective, num_classes: int) -> None:
    checks.function("objective", objective, remedy="Give (logits [n, K], labels [n]) -> [n].")
    # The float of JAX's own precision; Python's is float64, which JAX warns of unless x64 is on.
    logits = jax.ShapeDtypeStruct((3, num_classes), jnp.zeros(()).dtype)
    got = jax.eval_shape(objective, logits, jax.ShapeDtypeStruct((3,), jnp.int32))
    if getattr(got, "shape", None) != (3,):
        raise ValueError(
            f"objective: expected one number for each example, [3] for 3 examples; got {got}. Leave the mean "
            "over the examples out."
        )


@noted
def unrolled(
    network: Network,
    inits: InitDistribution,
    *,
    batch_size: int = 1024,
    examples_per_chunk: int | None = None,
    inner_optimizer: str = "sgd",
    memory: Memory = STRATEGIES["reverse"],
    horizon: str = "full",
    objective: Objective = cross_entropy,
    augmentation: Augmentation | None = None,
) -> Method:
    """The loss on real data of a network trained on φ, exact through all T steps.

        L(φ) = E_{θ0 ~ p(θ0)} mean_{(x, y) in the real minibatch} ℓ(θ_T(θ0, φ)(x), y)

    Args:
        network: the network that is trained on φ.
        inits: the distribution p(θ0) of initial weights, drawn anew by each slot at every outer step. A pool
            is passed to programs with the data.
        batch_size: N, the number of real images in a minibatch, drawn uniformly and shared by all slots.
        examples_per_chunk: the number of the N images that pass through the trained network at once; the loss
            and its gradient stay the same. By default 64 on CPU, where the activations of all would not stay
            in the cache, and all elsewhere.
        inner_optimizer: the optimiser whose updates η scales, a name from `ddjax.unroll.OPTIMIZERS`; the
            artifact records the name.
        memory: the strategy by which the unroll is differentiated.
        horizon: the step at which training ends and the loss is taken. `"full"`: after all T steps.
            `"random"`: after a number of steps drawn uniformly from [window, T] by each slot at each outer
            step, so that every step learns although only `memory.window` of them are differentiated at a
            time; the steps before the window cost a plain training step each.
        objective: the function ℓ, `(logits [n, K], labels [n]) -> [n]`, one number for each example; by
            default the cross-entropy, `relabelled` for an attack, or another differentiable function.
        augmentation: the augmentation of the real minibatch, with a draw for each image, e.g.
            `ddjax.augment.by_name("pad_crop_flip", network.image_shape)`; None, the default, is no
            augmentation. The images of φ are not augmented.

    Returns:
        A method without a state, whose recipe is to replay the schedule.

    Raises:
        ValueError: `batch_size` or `examples_per_chunk` is below one, the optimiser is unknown, the horizon
            is random and the memory has no window, or the objective does not give one number for each
            example.

    References:
        Wang et al. 2018, arXiv 1811.10959, algorithm 1. Random horizon: Feng et al. 2024 (RaT-BPTT),
        arXiv 2311.07025.
    """
    checks.network_and_inits(network, inits)
    checks.kind("memory", memory, Memory, remedy="Give one of ddjax.unroll.STRATEGIES.")
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
    _check_objective(objective, network.num_classes)
    augment.check(augmentation, network)
    optimizer = OPTIMIZERS[inner_optimizer]
    inner_loss = soft_cross_entropy(network.apply)

    def score(params: Params, batch: Batch) -> tuple[jax.Array, jax.Array]:
        logits = network.apply(params, batch.inputs)
        correct = jnp.argmax(logits, -1).astype(batch.labels.dtype) == batch.labels
        return objective(logits, batch.labels).mean(), 100.0 * jnp.mean(correct)

    def sample(data: RealData, key: jax.Array) -> Batch | WithPool:
        checks.network_fits(network, data)
        real = real_minibatch(data, key, size=batch_size, augmentation=augmentation)
        return with_pool(inits, data, real)

    def loss(
        schedule: Schedule, state: tuple[()], batch: Batch | WithPool, key: jax.Array
    ) -> tuple[jax.Array, UnrolledInfo]:
        del state
        real, pool = parted(batch)
        stop = None
        if horizon == "random":
            assert schedule.lrs is not None
            assert memory.window is not None
            key, stop_key = jax.random.split(key)
            stop = jax.random.randint(
                stop_key, (), min(memory.window, schedule.lrs.size), schedule.lrs.size + 1
            )
        params, inner_losses = unroll(
            inner_loss, theta(inits, pool, key), schedule, optimizer=optimizer, memory=memory, stop=stop
        )
        size = examples_per_chunk or _chunk_size(platforms.current(), batch_size)
        value, accuracy = mean_over_chunks(score, size=size)(params, real)
        return value, UnrolledInfo(inner_losses, accuracy)

    return Method(
        sample=sample,
        loss=loss,
        name="unrolled",
        recipe=Replay(inner_optimizer),
        outer=unrolled_outer,
        assets=assets_of(inits),
        check_labels=functools.partial(check_probabilities, Replay.kind),
        facts=start_of(network, inits),
    )

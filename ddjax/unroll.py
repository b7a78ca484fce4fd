"""Inner training: the weights after the gradient steps of a schedule, differentiable in the schedule."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ddjax import checks, updates
from ddjax.types import Params, PyTree, Schedule

LossFn = Callable[[Params, jax.Array, jax.Array], jax.Array]
"""`(params, inputs [B, H, W, C], labels [B, K]) -> loss []`."""

ValueAndGrad = Callable[[Params, jax.Array, jax.Array], tuple[jax.Array, Params]]
"""`(params, inputs [B, H, W, C], labels [B, K]) -> (loss [], its gradient in params)`."""


def cross_entropy(apply: Callable[[Params, jax.Array], jax.Array], *, temperature: float = 1.0) -> LossFn:
    """The mean over a minibatch of -T² Σ_k y_k log softmax(apply(θ, x) / T)_k.

    Args:
        apply: `(params, inputs) -> logits [B, K]`, the function of the network.
        temperature: T, by which logits are divided; 1 leaves them as they are.

    Returns:
        A loss whose labels are probabilities, so that learned labels need no loss of their own.
    """

    def loss(params: Params, inputs: jax.Array, labels: jax.Array) -> jax.Array:
        return tempered_cross_entropy(apply(params, inputs), labels, temperature=temperature).mean()

    return loss


def tempered_cross_entropy(logits: jax.Array, labels: jax.Array, *, temperature: float = 1.0) -> jax.Array:
    """The cross-entropy of each example at a temperature, -T² Σ_k y_k log softmax(z / T)_k.

    T² keeps the gradients of all temperatures of one size: without it they fall as 1 / T².

    Args:
        logits: `[n, K]`, z.
        labels: `[n, K]`, the probabilities y, a teacher's at the same temperature.
        temperature: T, by which logits are divided; 1 is the ordinary cross-entropy.

    Returns:
        `[n]`, the losses.

    References:
        Hinton, Vinyals and Dean 2015, arXiv 1503.02531, section 2.
    """
    if temperature == 1:
        return optax.softmax_cross_entropy(logits, labels)
    return temperature**2 * optax.softmax_cross_entropy(logits / temperature, labels)


@dataclasses.dataclass(frozen=True)
class Memory:
    """A strategy for differentiating the unroll: what is kept of the forward pass, what is computed again.

    All strategies without a `window` give the same gradient. With P the number of weights, A the number of
    activations of one step, and T steps, reverse mode keeps about T·(P + A) numbers.

    Attributes:
        mixed: whether the second derivatives are taken forward over reverse: at each step the vector-Jacobian
            product of ∇ℓ is the directional derivative of ∇ℓ, because the Hessian is symmetric. Keeps T·P
            numbers, in about the same time. Kemaev et al. 2025 (MixFlow-MG), arXiv 2505.00793.
        checkpoint: the steps at which weights are kept. `"step"` keeps only θ_t and computes each step again:
            T·P + A numbers, one more forward pass. `"sqrt"` keeps θ at every √T-th step and computes the
            steps between again: 2·√T·P + A numbers, two more forward passes. None computes nothing again.
            Griewank and Walther 2000; Chen et al. 2016, arXiv 1604.06174.
        window: the number of last steps that are differentiated, an approximation that ignores how earlier
            steps led there, with the memory and time of `window` steps. None differentiates all steps. Shaban
            et al. 2019, arXiv 1810.10667.

    Raises:
        ValueError: an unknown `checkpoint`, or a window below one.
    """

    mixed: bool = False
    checkpoint: Literal["step", "sqrt"] | None = None
    window: int | None = None

    def __post_init__(self) -> None:
        if self.checkpoint is not None:
            checks.choice("checkpoint", self.checkpoint, ("step", "sqrt"))
        if self.window is not None:
            checks.at_least("window", self.window, 1)


STRATEGIES: dict[str, Memory] = {
    "reverse": Memory(),
    "recompute": Memory(checkpoint="step"),
    "sqrt": Memory(checkpoint="sqrt"),
    "mixed": Memory(mixed=True),
    "mixed_sqrt": Memory(mixed=True, checkpoint="sqrt"),
}
"""The exact strategies by name; `dataclasses.replace(strategy, window=w)` truncates any of them."""

OPTIMIZERS: dict[str, optax.GradientTransformation] = {
    "sgd": optax.sgd(1.0),
    "momentum": optax.sgd(1.0, momentum=0.9),
    # Where a gradient is exactly zero the square root in Adam has no derivative without eps_root.
    "adam": optax.adam(1.0, eps_root=1e-12),
}
"""The inner optimisers by name, at learning rate one, because the schedule's η scales their updates."""


def mixed_value_and_grad(loss: LossFn) -> ValueAndGrad:
    """`jax.value_and_grad(loss)` whose own derivative is taken forward over reverse.

    For cotangents c of the value and v of the gradient, with z = (θ, x, y):

        z̄ = c ∇_z ℓ + d/dε ∇_z ℓ(θ + ε v, x, y)

    which is the vector-Jacobian product because second derivatives are symmetric. Only z is kept.

    Args:
        loss: the loss of one minibatch, twice differentiable.

    Returns:
        `(params, inputs, labels) -> (loss [], gradient in params)`.
    """
    gradient = jax.value_and_grad(loss, argnums=(0, 1, 2))

    @jax.custom_vjp
    def value_and_grad(params: Params, inputs: jax.Array, labels: jax.Array):
        return jax.value_and_grad(loss)(params, inputs, labels)

    def forward(params: Params, inputs: jax.Array, labels: jax.Array):
        return value_and_grad(params, inputs, labels), (params, inputs, labels)

    def backward(point: tuple, cotangents: tuple[jax.Array, Params]):
        of_value, of_grads = cotangents
        (_, first), (_, second) = jax.jvp(lambda params: gradient(params, *point[1:]), point[:1], (of_grads,))
        return jax.tree.map(lambda a, b: of_value * a + b, first, second)

    value_and_grad.defvjp(forward, backward)
    return value_and_grad


class _Step(NamedTuple):
    """The minibatch of φ and the learning rate of one inner step; stacked, each leaf is `[T, ...]`."""

    inputs: jax.Array
    labels: jax.Array
    lr: jax.Array


def _scan_sqrt(step: Callable, carry: PyTree, steps: _Step) -> tuple[PyTree, jax.Array]:
    """A scan that keeps the carry at every √T-th step; the last stretch is filled up with steps of η = 0."""
    num_steps = len(steps.lr)
    length = math.isqrt(num_steps - 1) + 1
    count = -(-num_steps // length)

    def fill(leaf: jax.Array) -> jax.Array:
        padding = jnp.zeros((count * length - num_steps, *leaf.shape[1:]), leaf.dtype)
        return jnp.concatenate([leaf, padding]).reshape(count, length, *leaf.shape[1:])

    @jax.checkpoint
    def stretch(carry: PyTree, steps: _Step) -> tuple[PyTree, jax.Array]:
        return jax.lax.scan(step, carry, steps)

    carry, losses = jax.lax.scan(stretch, carry, jax.tree.map(fill, steps))
    return carry, losses.ravel()[:num_steps]


def _train_until(step: Callable, carry: PyTree, steps: _Step, end: jax.Array) -> PyTree:
    """The carry after the first `end` steps, where `end` may be traced; nothing is differentiated."""
    carry, steps = jax.lax.stop_gradient((carry, steps))

    def body(index: jax.Array, carry: PyTree) -> PyTree:
        return step(carry, jax.tree.map(lambda leaf: leaf[index], steps))[0]

    return jax.lax.fori_loop(0, end, body, carry)


def unroll(
    loss: LossFn,
    params: Params,
    schedule: Schedule,
    *,
    optimizer: optax.GradientTransformation = OPTIMIZERS["sgd"],
    memory: Memory = STRATEGIES["reverse"],
    stop: jax.Array | None = None,
) -> tuple[Params, jax.Array]:
    """Train on a schedule, differentiably in the inputs, labels and learning rates.

        u_t, s_{t+1} = optimizer(∇_θ loss(θ_t, x̃_s, ỹ_s), s_t),   t = e·S + s,  e < E,  s < S
        θ_{t+1} = θ_t + η_t u_t                                    (plain descent: u = -∇_θ loss)

    Args:
        loss: the inner loss of one minibatch.
        params: the initial weights θ_0.
        schedule: the schedule of S steps of B images, with learning rates `[E, S]`.
        optimizer: the inner optimiser at learning rate one, whose updates η scales.
        memory: the strategy for differentiating the training.
        stop: `[]` int32 in [min(window, T), T], the step where training ends; by default T. The number may be
            traced, so that one compiled program can end at any step; `memory.window` is then needed.

    Returns:
        θ_T, and the inner losses `[T]`, each before the update of its step; with `stop`, θ_stop and the
        losses of the last `window` steps before `stop`.

    Raises:
        ValueError: `schedule` is no schedule or has no learning rates, `memory` is no `Memory`, or `stop` is
            given without a window.

    References:
        Wang et al. 2018, algorithm 1, lines 5 to 7.
    """
    checks.schedule(schedule, needs_lrs=True)
    checks.kind("memory", memory, Memory, remedy="Give one of ddjax.unroll.STRATEGIES.")
    if stop is not None and memory.window is None:
        raise ValueError(
            "stop: expected a window beside it, of the steps that are differentiated; got none. Give "
            "memory=dataclasses.replace(memory, window=...)."
        )
    value_and_grad = mixed_value_and_grad(loss) if memory.mixed else jax.value_and_grad(loss)

    def step(carry: tuple[Params, Any], now: _Step) -> tuple[tuple[Params, Any], jax.Array]:
        params, state = carry
        value, grads = value_and_grad(params, now.inputs, now.labels)
        moves, state = updates.update(optimizer, grads, state, params)
        return (jax.tree.map(lambda p, u: p + now.lr.astype(p.dtype) * u, params, moves), state), value

    # Steps that are computed again inside a stretch of √T steps keep only θ_t, not all activations A.
    kept_whole = memory.checkpoint is None or memory.mixed
    inner = step if kept_whole else jax.checkpoint(step, prevent_cse=False)
    scan = _scan_sqrt if memory.checkpoint == "sqrt" else jax.lax.scan
    carry = (params, updates.init(optimizer, params))
    steps = _unfold_epochs(schedule)
    num_steps = len(steps.lr)
    if stop is not None:
        window = min(memory.window or num_steps, num_steps)
        carry = _train_until(step, carry, steps, stop - window)
        last = jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, stop - window, window), steps)
        (params, _), losses = scan(inner, carry, last)
        return params, losses
    early = 0 if memory.window is None else max(0, num_steps - memory.window)
    first, last = (
        jax.tree.map(lambda leaf, part=part: leaf[part], steps) for part in (slice(early), slice(early, None))
    )
    if early:
        carry, losses = jax.lax.stop_gradient(jax.lax.scan(step, carry, jax.lax.stop_gradient(first)))
        (params, _), last_losses = scan(inner, carry, last)
        return params, jnp.concatenate([losses, last_losses])
    (params, _), losses = scan(inner, carry, last)
    return params, losses


def _unfold_epochs(schedule: Schedule) -> _Step:
    """The T = E·S steps one after the other; the repeated images take the memory of T·B images."""
    assert schedule.lrs is not None
    epochs = len(schedule.lrs)

    def repeat(leaf: jax.Array) -> jax.Array:
        return jnp.broadcast_to(leaf, (epochs, *leaf.shape)).reshape(-1, *leaf.shape[1:])

    return _Step(repeat(schedule.inputs), repeat(schedule.labels), schedule.lrs.ravel())

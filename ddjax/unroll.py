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
        first_order: whether the weights θ_t of every step are taken as constants of φ, so that a change of φ
            reaches θ_T through the gradients of its own step alone, without the products (I - η H): an
            approximation, as `window` is. The steps are computed again on the way back, from θ_0 with one
            adjoint for all: P + A numbers, whatever T is. For plain descent, all steps. The gradient of
            TESLA, whose paper calls the result exact: Cui et al. 2023, arXiv 2211.10586.

    Raises:
        ValueError: an unknown `checkpoint`, a window below one, or `first_order` with a window or checkpoint,
            of which it has no use.
    """

    mixed: bool = False
    checkpoint: Literal["step", "sqrt"] | None = None
    window: int | None = None
    first_order: bool = False

    def __post_init__(self) -> None:
        if self.checkpoint is not None:
            checks.choice("checkpoint", self.checkpoint, ("step", "sqrt"))
        if self.window is not None:
            checks.at_least("window", self.window, 1)
        if self.first_order and (self.window, self.checkpoint) != (None, None):
            given = "checkpoint" if self.window is None else "window"
            raise ValueError(
                f"first_order: expected no {given} with it, because no step is kept and all are "
                f"differentiated; got {getattr(self, given)!r}. Leave the {given} out."
            )


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


Draw = Callable[[PyTree, PyTree], tuple[jax.Array, jax.Array, jax.Array]]
"""`(φ, step) -> (inputs [B, ...], labels [B, K], learning rate [])`: what one inner step trains on."""


def _num_steps(steps: PyTree) -> int:
    return len(jax.tree.leaves(steps)[0])


def _scan(step: Callable, carry: PyTree, steps: PyTree) -> tuple[PyTree, jax.Array]:
    return jax.lax.scan(lambda carry, now: step(carry, now, None), carry, steps)


def _scan_sqrt(step: Callable, carry: PyTree, steps: PyTree) -> tuple[PyTree, jax.Array]:
    """A scan that keeps the carry at every √T-th step; the last stretch is filled up with steps of η = 0."""
    num_steps = _num_steps(steps)
    length = math.isqrt(num_steps - 1) + 1
    count = -(-num_steps // length)

    def fill(leaf: jax.Array) -> jax.Array:
        # With the first step once more: zeros would be no key of JAX, and no step of every draw.
        padding = jnp.broadcast_to(leaf[:1], (count * length - num_steps, *leaf.shape[1:]))
        return jnp.concatenate([leaf, padding]).reshape(count, length, *leaf.shape[1:])

    @jax.checkpoint
    def stretch(carry: PyTree, steps: PyTree) -> tuple[PyTree, jax.Array]:
        return jax.lax.scan(lambda carry, now: step(carry, *now), carry, steps)

    counted = (jnp.arange(count * length) < num_steps).reshape(count, length)
    carry, losses = jax.lax.scan(stretch, carry, (jax.tree.map(fill, steps), counted))
    return carry, losses.ravel()[:num_steps]


def _train_until(step: Callable, carry: PyTree, steps: PyTree, end: jax.Array) -> PyTree:
    """The carry after the first `end` steps, where `end` may be traced; nothing is differentiated."""
    carry, steps = jax.lax.stop_gradient((carry, steps))

    def body(index: jax.Array, carry: PyTree) -> PyTree:
        return step(carry, jax.tree.map(lambda leaf: leaf[index], steps), None)[0]

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
        schedule: the schedule of S steps of B images, with learning rates `[E, S]`; with an order, each step
            takes its own examples from all S·B.
        optimizer: the inner optimiser at learning rate one, whose updates η scales.
        memory: the strategy for differentiating the training.
        stop: `[]` int32 in [min(window, T), T], the step where training ends; by default T. The number may be
            traced, so that one compiled program can end at any step; `memory.window` is then needed.

    Returns:
        θ_T, and the inner losses `[T]`, each before the update of its step; with `stop`, θ_stop and the
        losses of the last `window` steps before `stop`.

    Raises:
        ValueError: `schedule` is no schedule or has no learning rates, `memory` is no `Memory`, `stop` is
            given without a window, or `memory` is of first order and the optimiser not plain descent.

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
    if schedule.order is None and not memory.first_order:
        training = _Training(loss, optimizer, memory, lambda _, now: now, kept=True)
        return training.run(params, (), _unfold_epochs(schedule), stop)
    source, places = _gathering(schedule)
    if memory.first_order:
        return unroll_drawn(loss, params, source, places, draw=_gathered, optimizer=optimizer, memory=memory)
    return _Training(loss, optimizer, memory, _gathered, kept=False).run(params, source, places, stop)


def unroll_drawn(
    loss: LossFn,
    params: Params,
    phi: PyTree,
    steps: PyTree,
    *,
    draw: Draw,
    optimizer: optax.GradientTransformation = OPTIMIZERS["sgd"],
    memory: Memory = STRATEGIES["mixed"],
) -> tuple[Params, jax.Array]:
    """Train on minibatches that each step draws from φ, differentiably in φ.

        (x̃_t, ỹ_t, η_t) = draw(φ, step t),   θ_{t+1} = θ_t + η_t u_t   (plain descent: u = -∇_θ loss)

    A minibatch is made inside its step, and made again where the step is differentiated, so that the T
    minibatches are never in memory together. The gradient in φ is summed over the steps as they come.

    Args:
        loss: the inner loss of one minibatch.
        params: the initial weights θ_0.
        phi: what is differentiated besides θ_0, any pytree of floats.
        steps: what tells one step from another and is not differentiated, such as positions in φ and keys,
            each leaf `[T, ...]`.
        draw: the minibatch and the learning rate of a step, `(phi, step) -> (inputs, labels, rate [])`; pure.
        optimizer: the inner optimiser at learning rate one, whose updates η scales.
        memory: the strategy for differentiating the training.

    Returns:
        θ_T, and the inner losses `[T]`, each before the update of its step.

    Raises:
        ValueError: `memory` is no `Memory`, or is of first order and the optimiser is not plain descent.
    """
    checks.kind("memory", memory, Memory, remedy="Give one of ddjax.unroll.STRATEGIES.")
    if not memory.first_order:
        return _Training(loss, optimizer, memory, draw, kept=False).run(params, phi, steps, None)
    if optimizer is not OPTIMIZERS["sgd"]:
        raise ValueError(
            "first_order: expected plain descent, ddjax.unroll.OPTIMIZERS['sgd'], whose steps have one "
            "adjoint; got another inner optimiser. Give that one, or an exact memory strategy."
        )
    return _first_order(loss, draw, memory)(phi, params, steps)


@dataclasses.dataclass(frozen=True)
class _Training:
    """The T steps of a training, kept in memory by a strategy; see `unroll_drawn`.

    Attributes:
        loss: the inner loss of one minibatch.
        optimizer: the inner optimiser.
        memory: the strategy for differentiating the training.
        draw: the minibatch and the learning rate of a step.
        kept: whether the minibatches lie in memory anyway, and need not be made again.
    """

    loss: LossFn
    optimizer: optax.GradientTransformation
    memory: Memory
    draw: Draw
    kept: bool

    def step_on(self, phi: PyTree) -> Callable:
        """`((params, state), step, counted) -> ((params, state), loss)`; `counted` false makes η zero."""
        value_and_grad = (mixed_value_and_grad if self.memory.mixed else jax.value_and_grad)(self.loss)

        def step(
            carry: tuple[Params, Any], now: PyTree, counted: jax.Array | None
        ) -> tuple[tuple, jax.Array]:
            params, state = carry
            inputs, labels, lr = self.draw(phi, now)
            if counted is not None:
                lr = jnp.where(counted, lr, 0)
            value, grads = value_and_grad(params, inputs, labels)
            moves, state = updates.update(self.optimizer, grads, state, params)
            return (jax.tree.map(lambda p, u: p + lr.astype(p.dtype) * u, params, moves), state), value

        return step

    def run(
        self, params: Params, phi: PyTree, steps: PyTree, stop: jax.Array | None
    ) -> tuple[Params, jax.Array]:
        """θ_T and the losses; with `stop`, θ_stop and the losses of the window before."""
        memory, num_steps = self.memory, _num_steps(steps)
        step, plain = (self.step_on(one) for one in (phi, jax.lax.stop_gradient(phi)))
        # Steps that are computed again inside a stretch of √T steps keep only θ_t, not all activations A.
        again = (memory.checkpoint is not None and not memory.mixed) or (memory.mixed and not self.kept)
        inner = jax.checkpoint(step, prevent_cse=False) if again else step
        scan = _scan_sqrt if memory.checkpoint == "sqrt" else _scan
        carry = (params, updates.init(self.optimizer, params))
        window = min(memory.window or num_steps, num_steps)
        if stop is not None:
            carry = _train_until(plain, carry, steps, stop - window)
            last = jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, stop - window, window), steps)
            (params, _), losses = scan(inner, carry, last)
            return params, losses
        early = num_steps - window
        first, last = (
            jax.tree.map(lambda leaf, part=part: leaf[part], steps)
            for part in (slice(early), slice(early, None))
        )
        if early:
            carry, losses = jax.lax.stop_gradient(_scan(plain, carry, jax.lax.stop_gradient(first)))
            (params, _), last_losses = scan(inner, carry, last)
            return params, jnp.concatenate([losses, last_losses])
        (params, _), losses = scan(inner, carry, last)
        return params, losses


def _first_order(loss: LossFn, draw: Draw, memory: Memory) -> Callable:
    """`(φ, θ_0, steps) -> (θ_T, losses [T])` by plain descent, with the first-order gradient.

    With every θ_t a constant and λ the adjoint of θ_T, the same at all steps:

        φ̄ = Σ_t ∂/∂φ (c_t ℓ_t - η_t λᵀ ∇_θ ℓ_t),   θ̄_0 = λ

    c_t being the adjoint of the loss of step t. Kept are φ and θ_0; the way back takes the steps again.
    """
    value_and_grad = (mixed_value_and_grad if memory.mixed else jax.value_and_grad)(loss)

    def step(phi: PyTree, params: Params, now: PyTree) -> tuple[Params, jax.Array]:
        inputs, labels, lr = draw(phi, now)
        value, grads = value_and_grad(params, inputs, labels)
        return jax.tree.map(lambda p, g: p - lr.astype(p.dtype) * g, params, grads), value

    @jax.custom_vjp
    def trained(phi: PyTree, params: Params, steps: PyTree) -> tuple[Params, jax.Array]:
        return jax.lax.scan(lambda params, now: step(phi, params, now), params, steps)

    def forward(phi: PyTree, params: Params, steps: PyTree) -> tuple[tuple[Params, jax.Array], tuple]:
        return trained(phi, params, steps), (phi, params, steps)

    def backward(kept: tuple, adjoints: tuple[Params, jax.Array]) -> tuple[PyTree, Params, None]:
        phi, params, steps = kept
        of_params, of_losses = adjoints

        def again(carry: tuple[Params, PyTree], now: tuple[PyTree, jax.Array]) -> tuple[tuple, None]:
            (params, summed), (at, of_loss) = carry, now
            (params, _), pull = jax.vjp(lambda phi: step(phi, params, at), phi)
            return (params, jax.tree.map(jnp.add, summed, pull((of_params, of_loss))[0])), None

        zeros = jax.tree.map(jnp.zeros_like, phi)
        (_, summed), _ = jax.lax.scan(again, (params, zeros), (steps, of_losses))
        return summed, of_params, None

    trained.defvjp(forward, backward)
    return trained


class _Source(NamedTuple):
    """What the steps take their minibatches from.

    Attributes:
        inputs: `[S·B, ...]`, all examples of φ in the order of the steps.
        labels: `[S·B, K]`, their labels.
        lrs: `[T]`, the learning rates.
    """

    inputs: jax.Array
    labels: jax.Array
    lrs: jax.Array


class _Place(NamedTuple):
    """What one step takes from a `_Source`; stacked, each leaf is `[T, ...]`.

    Attributes:
        rows: `[b]`, the positions of the examples.
        number: `[]`, the number of the step.
    """

    rows: jax.Array
    number: jax.Array


def _gathering(schedule: Schedule) -> tuple[_Source, _Place]:
    """All examples of a schedule once, and what each of the T steps takes of them."""
    assert schedule.lrs is not None
    rates = schedule.lrs.ravel()
    rows = schedule.order
    if rows is None:
        blocks = jnp.arange(schedule.labels.shape[0] * schedule.labels.shape[1])
        blocks = blocks.reshape(schedule.labels.shape[:2])
        rows = jnp.broadcast_to(blocks, (len(schedule.lrs), *blocks.shape))
    inputs, labels = (leaf.reshape(-1, *leaf.shape[2:]) for leaf in schedule[:2])
    return _Source(inputs, labels, rates), _Place(rows.reshape(len(rates), -1), jnp.arange(len(rates)))


def _gathered(source: _Source, place: _Place) -> _Step:
    return _Step(source.inputs[place.rows], source.labels[place.rows], source.lrs[place.number])


def _unfold_epochs(schedule: Schedule) -> _Step:
    """The T = E·S steps one after the other; the repeated images take the memory of T·B images."""
    assert schedule.lrs is not None
    epochs = len(schedule.lrs)

    def repeat(leaf: jax.Array) -> jax.Array:
        return jnp.broadcast_to(leaf, (epochs, *leaf.shape)).reshape(-1, *leaf.shape[1:])

    return _Step(repeat(schedule.inputs), repeat(schedule.labels), schedule.lrs.ravel())

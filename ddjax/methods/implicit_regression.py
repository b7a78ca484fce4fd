"""Reparameterised convex implicit gradients: regression with a linearised network (RCIG).

A network is linearised about its weights θ. Its body moves by tangents t, its last layer by a regression on
the features f of θ, which is solved in closed form; with n images, mirror images counted, and λ the penalty,

    out(x) = J_θ(x) t,   α = (F Fᵀ + λ I)⁻¹ (y - out(X)),   logits(x) = out(x) + f(x) Fᵀ α
    ℓ(t; φ) = [½ ‖y - out(X) - F Fᵀ α‖² + ½ λ (tr αᵀ F Fᵀ α + ‖t‖²)] / (n K)

ℓ is quadratic in t, so that conjugate gradients find its minimum t*, and with the same operator v = H⁻¹ ∂L/∂t
for the outer loss L. The gradient of φ is ∂L/∂φ - ∂⟨v, ∇_t ℓ⟩/∂φ at t*.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ddjax import checks, platforms, ridge, updates
from ddjax.chunks import mean_over_chunks
from ddjax.data import minibatch
from ddjax.facts import noted
from ddjax.methods.feature_regression import embedding_of
from ddjax.methods.matching import EXAMPLES_PER_CHUNK
from ddjax.methods.online_pool import OnlinePool, PoolState, flat, mirrored
from ddjax.methods.starts import WithPool, assets_of, parted, with_pool
from ddjax.networks import norms
from ddjax.optimizers import adabelief_outer
from ddjax.recipes import Regress
from ddjax.types import (
    Batch,
    InitDistribution,
    Method,
    Network,
    Params,
    PyTree,
    RealData,
    Recipe,
    Schedule,
    start_of,
)

RATE_OF_TEMPERATURE = 0.03
"""The published rate of the logarithm of the factor on the logits."""


class ImplicitState(NamedTuple):
    """The state of a slot.

    Attributes:
        networks: the pool of networks.
        log_scale: `[]`, the logarithm τ of the factor on the logits in the outer loss, which is learned.
        opt_state: the state of the optimiser of τ.
    """

    networks: PoolState
    log_scale: jax.Array
    opt_state: PyTree


class ImplicitInfo(NamedTuple):
    """Diagnostics of one outer step.

    Attributes:
        inner_loss: `[]`, the inner loss ℓ at the tangents that the solver found.
        accuracy: `[]`, the percent of the real examples that the linearised network classifies correctly.
        direct_norm: `[]`, the norm of the direct part of the gradient of φ.
        implicit_norm: `[]`, the norm of the implicit part, before any clipping.
        grad_log_scale: `[]`, the derivative of the outer loss in τ.
    """

    inner_loss: jax.Array
    accuracy: jax.Array
    direct_norm: jax.Array
    implicit_norm: jax.Array
    grad_log_scale: jax.Array


class Examples(NamedTuple):
    """The images and labels of φ as the regression sees them.

    Attributes:
        inputs: `[n, *input_shape]`, the images.
        labels: `[n, K]`, the labels.
    """

    inputs: jax.Array
    labels: jax.Array


@dataclasses.dataclass(frozen=True, eq=False)
class Linearised:
    """A network linearised about its weights, whose last layer is regressed.

    Attributes:
        network: the network.
        embed: the embedding of the network, `(params, inputs [n, ...]) -> [n, F]`.
        params: the weights θ.
        penalty: λ, the penalty of weights and tangents.
    """

    network: Network
    embed: Callable[[Params, jax.Array], jax.Array]
    params: Params
    penalty: float

    def moved(self, tangents: Params, inputs: jax.Array) -> jax.Array:
        """out(x) = J_θ(x) t.

        Args:
            tangents: t, a tree like the weights.
            inputs: `[n, *input_shape]`.

        Returns:
            `[n, K]`.
        """
        _, out = jax.jvp(lambda params: self.network.apply(params, inputs), (self.params,), (tangents,))
        return out

    def solved(self, tangents: Params, of: Examples) -> tuple[jax.Array, jax.Array]:
        """The regression of what the tangents leave.

        Args:
            tangents: t.
            of: the images and labels.

        Returns:
            The weights of the last layer, Fᵀ α, `[F, K]`, and what is left of the labels, `[n, K]`.
        """
        features = self.embed(self.params, of.inputs)
        gram = ridge.products(features, features)
        rest = of.labels - self.moved(tangents, of.inputs)
        relative = self.penalty * len(gram) / jnp.trace(gram)
        alpha = ridge.solve(gram, rest, penalty=relative)
        return ridge.predict(features.T, alpha), rest - ridge.predict(gram, alpha)

    def inner(self, tangents: Params, of: Examples) -> jax.Array:
        """The inner loss ℓ(t; φ), see the module's docstring.

        Args:
            tangents: t.
            of: the images and labels.

        Returns:
            `[]`.
        """
        head, left = self.solved(tangents, of)
        size = sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(tangents))
        ridge_part = 0.5 * self.penalty * (jnp.sum(jnp.square(head)) + size)
        return (0.5 * jnp.sum(jnp.square(left)) + ridge_part) / left.size

    def minimum(self, of: Examples, trained: PyTree, *, steps: int) -> Params:
        """The tangents t* at the minimum of the inner loss, by conjugate gradients from zero.

        Args:
            of: the images and labels.
            trained: the tree of factors, 1 for each weight with a tangent and 0 for the others.
            steps: the most steps of conjugate gradients.

        Returns:
            t*.
        """
        zero = jax.tree.map(jnp.zeros_like, self.params)
        slope = jax.grad(self.inner)(zero, of)
        return self.inverse(jax.tree.map(jnp.negative, slope), of, trained, steps=steps)

    def inverse(self, vector: Params, of: Examples, trained: PyTree, *, steps: int) -> Params:
        """H⁻¹ times a vector, H the second derivative of the inner loss in t, by conjugate gradients.

        Args:
            vector: the vector, a tree like the weights.
            of: the images and labels.
            trained: see `minimum`.
            steps: the most steps of conjugate gradients.

        Returns:
            The solution, zero at weights without a tangent.
        """
        zero = jax.tree.map(jnp.zeros_like, self.params)

        def masked(tree: Params) -> Params:
            return jax.tree.map(jnp.multiply, trained, tree)

        def curved(direction: Params) -> Params:
            slope = jax.grad(lambda tangents: self.inner(tangents, of))
            return masked(jax.jvp(slope, (zero,), (masked(direction),))[1])

        found, _ = jax.scipy.sparse.linalg.cg(curved, masked(vector), tol=1e-12, maxiter=steps)
        return found


def margin_bonus(labels: jax.Array) -> jax.Array:
    """The mean margin of labels, each counted up to 1/(2K).

    Args:
        labels: `[n, K]`.

    Returns:
        `[]`.
    """
    top, _ = jax.lax.top_k(labels, 2)
    return jnp.mean(jnp.minimum(top[:, 0] - top[:, 1], 0.5 / labels.shape[1]))


def body_of(network: Network, embed: Callable[[Params, jax.Array], jax.Array]) -> PyTree:
    """Which weights the features depend on: those of the body, which tangents move.

    Args:
        network: the network.
        embed: its embedding.

    Returns:
        A tree like the weights, 1.0 for the weights of the body and 0.0 for those of the last layer.
    """
    shapes = jax.eval_shape(network.init, jax.random.key(0))
    inputs = jax.ShapeDtypeStruct((1, *network.input_shape), jnp.zeros(()).dtype)
    traced = jax.make_jaxpr(embed)(shapes, inputs).jaxpr
    used = {var for equation in traced.eqns for var in equation.invars if not hasattr(var, "val")}
    leaves, tree = jax.tree.flatten(shapes)
    return jax.tree.unflatten(tree, [float(var in used) for var in traced.invars[: len(leaves)]])


class Gradient(NamedTuple):
    """The outer loss at given tangents, and its gradient in φ.

    Attributes:
        value: `[]`, the outer loss.
        accuracy: `[]`, the percent of the real examples that are classified correctly.
        of_tangents: ∂L/∂t, a tree like the weights.
        direct: ∂L/∂φ at fixed tangents.
        implicit: -∂⟨v, ∇_t ℓ⟩/∂φ at the minimum of the inner loss.
        of_log_scale: `[]`, ∂L/∂τ.
        solution: v = H⁻¹ ∂L/∂t, a tree like the weights.
    """

    value: jax.Array
    accuracy: jax.Array
    of_tangents: Params
    direct: Examples
    implicit: Examples
    of_log_scale: jax.Array
    solution: Params


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class _ImplicitRegression:
    """See `implicit_regression`; its callables are those of a `Method`.

    Attributes:
        networks: the pool of networks.
        embed: the embedding of the network.
        trained: the tree of factors, 1 for each weight with a tangent and 0 for the others.
        batch_size: N, the number of real examples of a step.
        penalty: the penalty for each image of φ.
        solver_steps: the most steps of conjugate gradients, for each of the two systems.
        clip: whether the implicit part is bounded by the norm of the direct part.
        examples_per_chunk: the number of real examples at once; None for the fastest number.
    """

    networks: OnlinePool
    embed: Callable[[Params, jax.Array], jax.Array]
    trained: PyTree
    batch_size: int
    penalty: float
    solver_steps: int
    clip: bool
    examples_per_chunk: int | None

    def sample(self, data: RealData, key: jax.Array) -> Batch | WithPool:
        """The real examples of a step, drawn uniformly. Consumes the key."""
        checks.network_fits(self.networks.network, data)
        return with_pool(self.networks.inits, data, minibatch(data, key, size=self.batch_size))

    def seen(self, of: Examples) -> Examples:
        """φ's images as the regression sees them: with their mirror images where asked for."""
        return Examples(*mirrored(*of)) if self.networks.flip else of

    def linearised(self, params: Params, count: int) -> Linearised:
        """The network about these weights, for so many images of φ."""
        params = jax.lax.stop_gradient(params)
        return Linearised(self.networks.network, self.embed, params, self.penalty * count)

    def outer(
        self, around: Linearised, tangents: Params, of: Examples, log_scale: jax.Array, real: Batch
    ) -> tuple[jax.Array, jax.Array]:
        """The cross-entropy on real examples less the margin of the labels; the accuracy."""

        def entropy(moving: tuple[Params, jax.Array, jax.Array], batch: Batch) -> tuple[jax.Array, jax.Array]:
            tangents, head, log_scale = moving
            logits = around.moved(tangents, batch.inputs) + self.embed(around.params, batch.inputs) @ head
            losses = optax.softmax_cross_entropy_with_integer_labels(
                jnp.exp(log_scale) * logits, batch.labels
            )
            right = jnp.mean(logits.argmax(-1) == batch.labels, dtype=logits.dtype)
            return losses.mean(), 100 * right

        head, _ = around.solved(tangents, self.seen(of))
        size = self.examples_per_chunk or (
            EXAMPLES_PER_CHUNK if platforms.current() == "cpu" else len(real.labels)
        )
        value, accuracy = mean_over_chunks(entropy, size=size)((tangents, head, log_scale), real)
        return value - margin_bonus(of.labels), accuracy

    def gradient(
        self, around: Linearised, tangents: Params, of: Examples, log_scale: jax.Array, real: Batch
    ) -> Gradient:
        """The outer loss and its gradient at given tangents, which should be those of the inner minimum."""

        def loss(tangents: Params, of: Examples, log_scale: jax.Array) -> tuple[jax.Array, jax.Array]:
            return self.outer(around, tangents, of, log_scale, real)

        (value, accuracy), (slope, direct, of_log_scale) = jax.value_and_grad(
            loss, argnums=(0, 1, 2), has_aux=True
        )(tangents, of, log_scale)
        slope = jax.tree.map(jnp.multiply, self.trained, slope)
        solution = around.inverse(slope, self.seen(of), self.trained, steps=self.solver_steps)

        def along(of: Examples) -> jax.Array:
            _, rate = jax.jvp(lambda t: around.inner(t, self.seen(of)), (tangents,), (solution,))
            return -rate

        return Gradient(value, accuracy, slope, direct, jax.grad(along)(of), of_log_scale, solution)

    def loss(
        self, schedule: Schedule, state: ImplicitState, batch: Batch | WithPool, key: jax.Array
    ) -> tuple[jax.Array, ImplicitInfo]:
        """The outer loss at the inner minimum, `[]`, with its whole gradient; and the diagnostics."""
        del key
        real, _ = parted(batch)
        of = Examples(*flat(schedule))
        fixed = jax.lax.stop_gradient(of)
        around = self.linearised(self.networks.current(state.networks), len(of.inputs))
        seen = self.seen(fixed)
        tangents = around.minimum(seen, self.trained, steps=self.solver_steps)
        found = self.gradient(around, tangents, fixed, state.log_scale, real)
        implicit = jax.tree.map(_bounded, found.implicit, found.direct) if self.clip else found.implicit
        whole = jax.tree.map(jnp.add, found.direct, implicit)
        # The value is that of the outer loss, the derivative is the gradient that was computed.
        surrogate = sum(
            jnp.vdot(slope, leaf - jax.lax.stop_gradient(leaf)) for slope, leaf in zip(whole, of, strict=True)
        )
        value = jax.lax.stop_gradient(found.value) + surrogate
        direct_norm, implicit_norm = (optax.tree.norm(part) for part in (found.direct, found.implicit))
        inner = around.inner(tangents, seen)
        return value, ImplicitInfo(inner, found.accuracy, direct_norm, implicit_norm, found.of_log_scale)

    def init(self, key: jax.Array) -> ImplicitState:
        """A pool of new networks, and the factor one. Consumes the key."""
        networks = self.networks.init(key)
        log_scale = jnp.zeros(())
        return ImplicitState(networks, log_scale, updates.init(_temperature(), log_scale))

    def advance(
        self, schedule: Schedule, state: ImplicitState, batch: Any, info: ImplicitInfo, key: jax.Array
    ) -> ImplicitState:
        """The pool after its step on φ, and the next factor on the logits. Consumes the key."""
        networks = self.networks.advance(schedule, state.networks, key, pool=parted(batch)[1])
        move, opt_state = updates.update(
            _temperature(), info.grad_log_scale, state.opt_state, state.log_scale
        )
        return ImplicitState(networks, state.log_scale + move, opt_state)


def _temperature() -> optax.GradientTransformation:
    return optax.adabelief(RATE_OF_TEMPERATURE)


def _bounded(part: jax.Array, by: jax.Array) -> jax.Array:
    """A gradient, shortened to the norm of another where it is longer."""
    own, bound = jnp.linalg.norm(part.ravel()), jnp.linalg.norm(by.ravel())
    return part * jnp.minimum(1, bound / jnp.where(own > 0, own, 1))


@noted
def implicit_regression(
    network: Network,
    inits: InitDistribution,
    *,
    batch_size: int = 1024,
    penalty: float = 5e-4,
    pool: int = 30,
    reset: int = 100,
    online_lr: float = 5e-5,
    online_steps: int = 15,
    flip: bool = False,
    solver_steps: int = 20,
    clip: bool = True,
    recipe: Recipe | None = None,
    examples_per_chunk: int | None = None,
) -> Method:
    """The cross-entropy on real examples of a linearised network that is trained on φ to the end.

        L(φ) = mean_i CE(exp(τ) logits_t*(x_i), y_i) - mean_j min(margin of ỹ_j, 1/(2K)),
        t*(φ) = argmin_t ℓ(t; φ),   dL/dφ = ∂L/∂φ - ∂⟨H⁻¹ ∂L/∂t, ∇_t ℓ⟩/∂φ

    The inner loss ℓ and the linearised network are those of the module's docstring. τ is learned by the slot,
    and starts at 0. Networks come from a pool as in `feature_regression`, whose ages start at zero; after an
    outer step the network in use takes a number of steps on φ that is drawn uniformly from 1 to
    `online_steps`.

    The original solves both systems by 20 steps of Adam at rates that it tunes while it runs. ℓ is quadratic
    in t, so that conjugate gradients need no rate.

    Args:
        network: a network with an embedding, smooth where its gradient is to be trusted: the published one is
            `convnet(growth=2, norm="none", activation="sharp_softplus")`.
        inits: the distribution p(θ0) of the weights of new networks.
        batch_size: N, the number of real examples of a step, drawn uniformly and shared by all slots.
        penalty: λ / n, the penalty for each of φ's n images, mirror images not counted; not relative to the
            size of the features.
        pool: P, the number of networks of each slot.
        reset: the age above which a network is replaced.
        online_lr: the rate of Adam in the training of the pool's networks.
        online_steps: the most steps of this training after an outer step.
        flip: whether regression and training see φ's images together with their mirror images.
        solver_steps: the most steps of conjugate gradients, for each of the two systems.
        clip: whether the implicit part of the gradient, for images and labels each for itself, is shortened
            to the norm of the direct part, as published. It is usually far longer.
        recipe: the training on the result; by default squared error at the published rate 1e-4.
        examples_per_chunk: the number of real examples that pass through the network at once; the result
            stays the same. By default 16 on CPU, and all elsewhere.

    Returns:
        A method whose state is an `ImplicitState` and which learns no learning rates.

    Raises:
        ValueError: the network has no embedding or has batch norm, or a number is out of range.

    References:
        Loo, Hasani, Lechner, Rus 2023, Dataset Distillation with Convexified Implicit Gradients, arXiv
        2302.06755.
    """
    checks.network_and_inits(network, inits)
    embed = embedding_of(network, "implicit_regression")
    for name, value in (("batch_size", batch_size), ("solver_steps", solver_steps)):
        checks.at_least(name, value, 1)
    if examples_per_chunk is not None:
        checks.at_least("examples_per_chunk", examples_per_chunk, 1)
    checks.positive("penalty", penalty)
    checks.at_least("number of classes", network.num_classes, 2)
    if norms.has_batch_norm(network):
        raise ValueError(
            "implicit_regression: expected a network without batch norm, where each image has outputs of "
            f"its own; {network.name!r} has batch norm. Give another norm."
        )
    networks = OnlinePool(
        network=network,
        inits=inits,
        size=pool,
        reset=reset,
        lr=online_lr,
        most_steps=online_steps,
        flip=flip,
        staggered=False,
    )
    own = _ImplicitRegression(
        networks=networks,
        embed=embed,
        trained=body_of(network, embed),
        batch_size=batch_size,
        penalty=penalty,
        solver_steps=solver_steps,
        clip=clip,
        examples_per_chunk=examples_per_chunk,
    )
    after = recipe or Regress(lr=1e-4)
    after.check(network)
    return Method(
        sample=own.sample,
        loss=own.loss,
        name="implicit_regression",
        recipe=after,
        outer=adabelief_outer,
        assets=assets_of(inits),
        facts=start_of(network, inits),
        init=own.init,
        advance=own.advance,
    )

"""Least squares: the reach of one gradient step on M distilled points, in closed form and simulated.

Real data d `[N, D]` with targets t `[N]` have the loss ‖dθ - t‖² / 2N, the Hessian H = dᵀd / N and, where d
has full rank, one optimum: dᵀd θ* = dᵀt. M distilled points x̃ `[M, D]` with targets ỹ `[M]` move θ0 to

    θ1 = θ0 - η/M x̃ᵀ(x̃θ0 - ỹ),    that is    θ1 - θ* = (I - A)(θ0 - θ*) + b

with A = η/M x̃ᵀx̃, symmetric, positive and of rank M at most, and b = η/M x̃ᵀ(ỹ - x̃θ*) in A's range R.

All θ0 = a + Vz, for every z `[k]`, reach θ* if and only if (I - A)V = 0 and (I - A)(a - θ*) = -b, so that V
and a - θ* lie in R. Then M is at least the dimension of span(V, a - θ*). That many points suffice: let A be
the projection on that span, and b = 0. All θ0 in R^D together need M ≥ D; one known θ0 needs a single point.

With fewer points and z ~ N(0, I), -A(θ0 - θ*) + b lies in R, so that the mean excess loss is at least

    ½ Σ_{i > M} λ_i(√H S √H),    S = E (θ0 - θ*)(θ0 - θ*)ᵀ = VVᵀ + (a - θ*)(a - θ*)ᵀ

where λ are eigenvalues in falling order. If H = I (whitened data), the projection on the first M eigenvectors
of S attains this bound.

References:
    Wang et al. 2018, arXiv 1811.10959, the analysis of a simple linear case: the bound M ≥ D for all θ0.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ddjax import checks, optimizers, updates
from ddjax.types import Schedule
from ddjax.unroll import unroll

OUTER_LR = 0.05
"""The learning rate of Adam at the start of a simulation."""


class Problem(NamedTuple):
    """Least squares on real data.

    Attributes:
        inputs: the real data d, `[N, D]`, of full rank.
        targets: the targets t, `[N]`.
    """

    inputs: np.ndarray
    targets: np.ndarray

    @property
    def hessian(self) -> np.ndarray:
        """The Hessian H = dᵀd / N, `[D, D]`."""
        return self.inputs.T @ self.inputs / len(self.inputs)

    @property
    def optimum(self) -> np.ndarray:
        """The optimum θ*, `[D]`."""
        return np.linalg.lstsq(self.inputs, self.targets, rcond=None)[0]


class Initials(NamedTuple):
    """The distribution p(θ0) of θ0 = a + Vz, z ~ N(0, I).

    Attributes:
        centre: the mean a, `[D]`.
        spread: the directions V, `[D, k]`; k = 0 for a single θ0.
    """

    centre: np.ndarray
    spread: np.ndarray


class Points(NamedTuple):
    """The distilled points.

    Attributes:
        inputs: the points x̃, `[M, D]`.
        targets: the targets ỹ, `[M]`.
        lr: the learning rate η.
    """

    inputs: np.ndarray | jax.Array
    targets: np.ndarray | jax.Array
    lr: float


def whitened(images: np.ndarray, targets: np.ndarray, *, num_features: int) -> Problem:
    """Least squares on the first principal components of images, scaled so that H = I.

    Args:
        images: the images, `[N, ...]`.
        targets: the targets, `[N]`.
        num_features: the number of components, D.

    Returns:
        The least-squares problem, in float64.

    Raises:
        ValueError: `num_features` is below one or above the number of components of the images.
    """
    points = np.asarray(images, np.float64).reshape(len(images), -1)
    left, scales, _ = np.linalg.svd(points - points.mean(0), full_matrices=False)
    rank = int(np.sum(scales > 1e-9 * scales[0]))
    checks.at_least("num_features", num_features, 1)
    if num_features > rank:
        raise ValueError(
            f"num_features: expected at most {rank}, the components that these images have; got "
            f"{num_features}. Ask for fewer."
        )
    return Problem(np.sqrt(len(points)) * left[:, :num_features], np.asarray(targets, np.float64))


def excess(problem: Problem, params: np.ndarray) -> np.ndarray:
    """The excess loss of weights over the optimum, ½ (θ - θ*)ᵀ H (θ - θ*).

    Args:
        problem: the least-squares problem.
        params: the weights θ, `[..., D]`.

    Returns:
        The excess loss, `[...]`.
    """
    offset = params - problem.optimum
    return 0.5 * np.einsum("...i,ij,...j->...", offset, problem.hessian, offset)


def second_moment(problem: Problem, initials: Initials) -> np.ndarray:
    """The second moment of initial weights about the optimum, S = E (θ0 - θ*)(θ0 - θ*)ᵀ.

    Args:
        problem: the least-squares problem.
        initials: the distribution p(θ0).

    Returns:
        The matrix S, `[D, D]`.
    """
    offset = initials.centre - problem.optimum
    return initials.spread @ initials.spread.T + np.outer(offset, offset)


def least_points(problem: Problem, initials: Initials) -> int:
    """The smallest number of points that move every θ0 = a + Vz to θ*: the dimension of span(V, a - θ*).

    Args:
        problem: the least-squares problem.
        initials: the distribution p(θ0).

    Returns:
        The number of points.
    """
    offset = initials.centre - problem.optimum
    return int(np.linalg.matrix_rank(np.column_stack([initials.spread, offset])))


def bound(problem: Problem, initials: Initials, *, num_points: int) -> float:
    """The lower bound of the mean excess loss after one step on M points; attained if H = I or if zero.

    Args:
        problem: the least-squares problem.
        initials: the distribution p(θ0).
        num_points: the number of points, M.

    Returns:
        The bound, ½ Σ_{i > M} λ_i(√H S √H).
    """
    values, vectors = np.linalg.eigh(problem.hessian)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    eigenvalues = np.linalg.eigvalsh(root @ second_moment(problem, initials) @ root)[::-1]
    return float(0.5 * np.clip(eigenvalues[num_points:], 0, None).sum())


def closed_form(problem: Problem, initials: Initials, *, num_points: int, lr: float = 1.0) -> Points:
    """The best points if H = I; for every other H the best from `least_points` points on.

        x̃ = √(M/η) Uᵀ,    ỹ = x̃θ*,    U: the first M eigenvectors of S

    Args:
        problem: the least-squares problem.
        initials: the distribution p(θ0).
        num_points: the number of points, M; points beyond D are zeros.
        lr: the learning rate η > 0; every positive rate gives equally good points.

    Returns:
        The points.

    Raises:
        ValueError: `num_points` is below one, or `lr` is not positive.
    """
    checks.at_least("num_points", num_points, 1)
    checks.positive("lr", lr)
    _, vectors = np.linalg.eigh(second_moment(problem, initials))
    leading = vectors[:, ::-1][:, :num_points].T
    inputs = np.zeros((num_points, len(vectors)))
    inputs[: len(leading)] = np.sqrt(num_points / lr) * leading
    return Points(inputs, inputs @ problem.optimum, lr)


def train(points: Points, params: jax.Array) -> jax.Array:
    """One gradient step on the points, by the same `ddjax.unroll` that every distillation uses.

    Args:
        points: the distilled points.
        params: the initial weights θ0, `[D]`.

    Returns:
        The weights after the step, θ1 `[D]`.
    """

    def loss(params: jax.Array, inputs: jax.Array, labels: jax.Array) -> jax.Array:
        return 0.5 * jnp.mean(jnp.square(inputs[:, 0, 0] @ params - labels[:, 0]))

    inputs = jnp.asarray(points.inputs)[None, :, None, None]
    labels = jnp.asarray(points.targets)[None, :, None]
    lrs = jnp.full((1, 1), points.lr, inputs.dtype)
    return unroll(loss, params, Schedule(inputs, labels, lrs))[0]


def mean_points(initials: Initials) -> np.ndarray:
    """Weights with the mean and covariance of p(θ0), so that means of quadratic functions are exact.

    The weights are a ± √k times each column of V, or a alone if V has no columns.

    Args:
        initials: the distribution p(θ0).

    Returns:
        The weights, `[n, D]` with n = 2k, or n = 1 if k = 0.
    """
    num_directions = initials.spread.shape[1]
    if num_directions == 0:
        return initials.centre[None]
    steps = np.sqrt(num_directions) * initials.spread.T
    return np.concatenate([initials.centre + steps, initials.centre - steps])


def distil(
    problem: Problem,
    initials: Initials,
    *,
    num_points: int,
    key: jax.Array,
    lr: float = 1.0,
    num_outer_steps: int = 3000,
    num_starts: int = 8,
) -> tuple[Points, float]:
    """Distil the points by gradient descent through the unrolled step, as for any network.

    Args:
        problem: the least-squares problem.
        initials: the distribution p(θ0); the outer loss is the exact mean over p(θ0), see `mean_points`.
        num_points: the number of points, M.
        key: the source of the initial points. Consumed.
        lr: the learning rate η, which is constant.
        num_outer_steps: the number of steps of Adam, whose learning rate falls to zero along a cosine.
        num_starts: the number of random starts, of which the best result is kept. With fewer points than
            needed, some starts end where the gradient vanishes above the minimum.

    Returns:
        The points, and the mean excess loss after one step on these points.

    Raises:
        ValueError: `num_points`, `num_outer_steps` or `num_starts` is below one, `lr` is not positive, or the
            descent from every start diverged.
    """
    for name, count in (
        ("num_points", num_points),
        ("num_outer_steps", num_outer_steps),
        ("num_starts", num_starts),
    ):
        checks.at_least(name, count, 1)
    checks.positive("lr", lr)
    optimizer = optimizers.adam_cosine(num_outer_steps, lr=OUTER_LR)
    starts, optimum = jnp.asarray(mean_points(initials)), jnp.asarray(problem.optimum)
    hessian = jnp.asarray(problem.hessian)

    def outer_loss(values: tuple[jax.Array, jax.Array]) -> jax.Array:
        points = Points(values[0], values[1], lr)
        offsets = jax.vmap(lambda params: train(points, params))(starts) - optimum[None]
        return 0.5 * jnp.mean(jnp.einsum("ni,ij,nj->n", offsets, hessian, offsets))

    def step(carry: tuple, _: None) -> tuple[tuple, None]:
        values, state = carry
        moves, state = updates.update(optimizer, jax.grad(outer_loss)(values), state, values)
        return (optax.apply_updates(values, moves), state), None

    def from_start(key: jax.Array) -> tuple:
        input_key, target_key = jax.random.split(key)
        start = (
            jax.random.normal(input_key, (num_points, len(optimum)), optimum.dtype),
            jax.random.normal(target_key, (num_points,), optimum.dtype),
        )
        (values, _), _ = jax.lax.scan(step, (start, updates.init(optimizer, start)), length=num_outer_steps)
        return values, outer_loss(values)

    @jax.jit
    def run(keys: jax.Array) -> tuple:
        values, losses = jax.vmap(from_start)(keys)
        best = jnp.argmin(jnp.where(jnp.isfinite(losses), losses, jnp.inf))
        return jax.tree.map(lambda leaf: leaf[best], values), losses[best]

    (inputs, targets), loss = run(jax.random.split(key, num_starts))
    if not jnp.isfinite(loss):
        raise ValueError(
            f"lr: expected a rate under which the descent stays finite from one of {num_starts} starts; got "
            f"{lr}. Give a smaller one."
        )
    return Points(inputs, targets, lr), float(loss)


def compared(
    problem: Problem,
    initials: Initials,
    *,
    num_points: int,
    key: jax.Array,
    num_outer_steps: int,
    num_starts: int,
    num_unseen: int,
) -> dict[str, float]:
    """The closed form beside M distilled points, which are tried on initial weights that they never saw.

    Args:
        problem: the least-squares problem.
        initials: the distribution p(θ0).
        num_points: the number of points, M.
        key: the source of the random starts and the unseen θ0. Consumed.
        num_outer_steps: see `distil`.
        num_starts: see `distil`.
        num_unseen: the number of θ0 that the points were not distilled for.

    Returns:
        M; the mean excess loss by the closed form, of the points in closed form and of the distilled ones;
        the largest excess loss and distance from the optimum over unseen θ0 of the same p(θ0).
    """
    distil_key, unseen_key = jax.random.split(key)
    given = {"num_points": num_points, "num_outer_steps": num_outer_steps, "num_starts": num_starts}
    points, simulated = distil(problem, initials, key=distil_key, **given)
    exact = closed_form(problem, initials, num_points=num_points)
    on_mean = jax.vmap(lambda params: train(exact, params))(mean_points(initials))
    draws = np.asarray(jax.random.normal(unseen_key, (num_unseen, initials.spread.shape[1]), float))
    unseen = initials.centre + draws @ initials.spread.T
    trained = np.asarray(jax.vmap(lambda params: train(points, params))(unseen))
    return {
        "num_points": num_points,
        "closed_form": bound(problem, initials, num_points=num_points),
        "closed_form_points": float(excess(problem, np.asarray(on_mean)).mean()),
        "simulated": simulated,
        "largest_unseen_excess": float(excess(problem, trained).max()),
        "largest_unseen_distance": float(np.linalg.norm(trained - problem.optimum, axis=-1).max()),
    }


def distributions(num_features: int, seed: int) -> dict[str, Initials]:
    """The three p(θ0): any θ0, an affine set of a quarter of the dimensions, and a single θ0.

    Args:
        num_features: D, the number of weights.
        seed: the seed of the affine set and of the single θ0.

    Returns:
        The distributions, by name.
    """
    rng = np.random.default_rng(seed)
    dimensions = max(1, num_features // 4)
    basis, _ = np.linalg.qr(rng.normal(size=(num_features, dimensions)))
    centre = rng.normal(size=num_features)
    return {
        "any initial weights": Initials(np.zeros(num_features), np.eye(num_features)),
        f"an affine set of {dimensions} dimension(s)": Initials(centre, basis),
        "one set of initial weights": Initials(centre, np.zeros((num_features, 0))),
    }


__all__ = [
    "Initials",
    "Points",
    "Problem",
    "bound",
    "closed_form",
    "compared",
    "distil",
    "distributions",
    "excess",
    "least_points",
    "mean_points",
    "second_moment",
    "train",
    "whitened",
]

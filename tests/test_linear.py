"""One step on least squares: the closed form against simulation, and against what algebra says."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from ddjax import linear
from ddjax.linear import Initials, Points, Problem

FEATURES = 4


@pytest.fixture
def problem(digits) -> Problem:
    parity = 2.0 * (digits.train.labels % 2) - 1
    return linear.whitened(digits.train.images, parity, num_features=FEATURES)


def everywhere() -> Initials:
    return Initials(np.zeros(FEATURES), np.eye(FEATURES))


def in_a_plane(rng: np.random.Generator) -> Initials:
    basis, _ = np.linalg.qr(rng.normal(size=(FEATURES, 2)))
    return Initials(rng.normal(size=FEATURES), basis)


def after_one_step(points: Points, starts: np.ndarray) -> np.ndarray:
    return np.asarray(jax.vmap(lambda params: linear.train(points, params))(starts))


def draws(initials: Initials, rng: np.random.Generator, count: int = 50) -> np.ndarray:
    return initials.centre + rng.normal(size=(count, initials.spread.shape[1])) @ initials.spread.T


def test_whitened_data_have_the_identity_as_hessian_and_the_normal_equations_as_optimum(problem):
    np.testing.assert_allclose(problem.hessian, np.eye(FEATURES), atol=1e-10)
    d, t = problem.inputs, problem.targets
    np.testing.assert_allclose(d.T @ d @ problem.optimum, d.T @ t, atol=1e-8)
    assert linear.excess(problem, problem.optimum) == pytest.approx(0, abs=1e-20)
    loss = [np.sum((d @ params - t) ** 2) / (2 * len(t)) for params in (np.ones(FEATURES), problem.optimum)]
    assert linear.excess(problem, np.ones(FEATURES)) == pytest.approx(loss[0] - loss[1])


def test_a_step_is_the_equation(problem, x64, rng):
    points = Points(rng.normal(size=(3, FEATURES)), rng.normal(size=3), 0.7)
    start = rng.normal(size=FEATURES)
    gradient = points.inputs.T @ (points.inputs @ start - points.targets) / 3
    np.testing.assert_allclose(linear.train(points, start), start - 0.7 * gradient, rtol=1e-12)


@pytest.mark.parametrize("num_points", [1, 3, 4, 5])
def test_the_simulation_is_the_closed_form(problem, x64, rng, num_points):
    initials = everywhere()
    exact = linear.bound(problem, initials, num_points=num_points)
    _, simulated = linear.distil(problem, initials, num_points=num_points, key=jax.random.key(0))
    assert simulated == pytest.approx(exact, abs=1e-6)
    # Half of the unit variance of each direction that no point is left for; the first point takes the mean.
    assert exact == pytest.approx(max(0, FEATURES - num_points) / 2, abs=1e-9)


@pytest.mark.slow
def test_d_points_reach_the_optimum_from_anywhere_and_fewer_do_not(problem, x64, rng):
    starts = 10 * rng.normal(size=(100, FEATURES))
    for count in (FEATURES - 1, FEATURES, FEATURES + 1):
        points, _ = linear.distil(problem, everywhere(), num_points=count, key=jax.random.key(count))
        worst = linear.excess(problem, after_one_step(points, starts)).max()
        assert worst < 1e-12 if count >= FEATURES else worst > 1


def test_an_affine_set_needs_its_span_with_the_optimum(problem, x64, rng):
    initials = in_a_plane(rng)
    assert linear.least_points(problem, initials) == 3
    through = Initials(problem.optimum + initials.spread @ [1.0, 2.0], initials.spread)
    assert linear.least_points(problem, through) == 2
    assert linear.least_points(problem, Initials(initials.centre, np.zeros((FEATURES, 0)))) == 1
    assert linear.least_points(problem, everywhere()) == FEATURES
    points, _ = linear.distil(problem, initials, num_points=3, key=jax.random.key(0))
    assert linear.excess(problem, after_one_step(points, draws(initials, rng))).max() < 1e-10
    assert linear.excess(problem, after_one_step(points, rng.normal(size=(9, FEATURES)))).max() > 1e-2


@pytest.mark.parametrize("num_points", [1, 2, 3, 6])
@pytest.mark.parametrize("lr", [0.3, 1.0])
def test_the_closed_form_s_points_attain_the_bound(problem, x64, rng, num_points, lr):
    initials = in_a_plane(rng)
    points = linear.closed_form(problem, initials, num_points=num_points, lr=lr)
    assert points.inputs.shape == (num_points, FEATURES)
    trained = after_one_step(points, linear.mean_points(initials))
    mean = linear.excess(problem, trained).mean()
    assert mean == pytest.approx(linear.bound(problem, initials, num_points=num_points), abs=1e-10)


@pytest.mark.slow
def test_without_whitening_the_bound_holds_and_enough_points_still_reach_the_optimum(x64, rng):
    inputs = rng.normal(size=(200, FEATURES)) @ rng.normal(size=(FEATURES, FEATURES))
    problem, initials = Problem(inputs, rng.normal(size=200)), in_a_plane(rng)
    for count in (1, 2):
        _, simulated = linear.distil(problem, initials, num_points=count, key=jax.random.key(count))
        assert simulated >= linear.bound(problem, initials, num_points=count) - 1e-9
        assert simulated > 1e-3
    points = linear.closed_form(problem, initials, num_points=3)
    assert linear.excess(problem, after_one_step(points, draws(initials, rng))).max() < 1e-12


def test_means_over_the_stand_in_points_are_exact(rng):
    initials = in_a_plane(rng)
    points = linear.mean_points(initials)
    np.testing.assert_allclose(points.mean(0), initials.centre, atol=1e-12)
    offsets = points - initials.centre
    np.testing.assert_allclose(
        offsets.T @ offsets / len(points), initials.spread @ initials.spread.T, atol=1e-12
    )


def test_what_cannot_be_is_refused(problem, digits):
    with pytest.raises(ValueError, match="num_features: expected at most"):
        linear.whitened(digits.train.images[:5], np.ones(5), num_features=5)
    with pytest.raises(ValueError, match="num_points: expected a whole number >= 1"):
        linear.closed_form(problem, everywhere(), num_points=0)
    with pytest.raises(ValueError, match="lr: expected a finite number > 0"):
        linear.distil(problem, everywhere(), num_points=1, key=jax.random.key(0), lr=0.0)


def test_a_descent_that_diverges_from_every_start_is_refused(problem, x64):
    """And the smallest of some losses and NaN, which is NaN to argmin, is never kept."""
    settings = {"num_points": 2, "lr": 1e300, "num_outer_steps": 2, "num_starts": 2}
    with pytest.raises(ValueError, match="lr: expected a rate under which the descent stays finite"):
        linear.distil(problem, everywhere(), key=jax.random.key(0), **settings)

"""Class subspaces and planes of the embedded digits, against scikit-learn and a second formulation."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import CLASSES, SHAPE, small_form

from ddjax import forms, inits, methods, networks, subspaces
from ddjax.data import Split, to_device
from ddjax.encodings import Encoded
from ddjax.methods.penalised import penalised
from ddjax.types import Schedule


@pytest.fixture(scope="module")
def own(digits):
    return subspaces.class_subspaces(digits.train, dims=5)


@pytest.mark.slow
def test_the_nearest_subspace_classifies_digits(digits, own):
    found = np.asarray(subspaces.errors(own, jnp.asarray(digits.test.encoded())))
    assert (found.argmin(1) == digits.test.labels).mean() > 0.95


@pytest.mark.usefixtures("x64")
def test_the_error_is_what_no_coefficients_explain(digits, own):
    """The least-squares residual, a second formulation."""
    inputs = digits.test.encoded()[:3].astype(np.float64)
    found = subspaces.errors(own, jnp.asarray(inputs))
    for i, x in enumerate(inputs.reshape(3, -1)):
        for k in (0, 7):
            basis, target = own.directions[k].T, x - own.mean[k]
            (residual,) = np.linalg.lstsq(basis, target)[1]
            np.testing.assert_allclose(found[i, k], residual / 64, rtol=1e-9)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_the_own_error_weighs_classes_by_labels(own, rng):
    schedule = Schedule(jnp.asarray(rng.normal(size=(1, 2, *SHAPE))), jnp.asarray(np.eye(10)[[[3, 5]]]), None)
    both = subspaces.errors(own, schedule.inputs[0])
    np.testing.assert_allclose(subspaces.own_error(own, schedule), (both[0, 3] + both[1, 5]) / 2, rtol=1e-12)
    gradient = jax.grad(lambda x: subspaces.own_error(own, schedule._replace(inputs=x)))(schedule.inputs)
    direction, step = rng.normal(size=schedule.inputs.shape), 1e-6
    ends = [
        subspaces.own_error(own, schedule._replace(inputs=schedule.inputs + sign * step * direction))
        for sign in (1, -1)
    ]
    np.testing.assert_allclose(jnp.sum(gradient * direction), (ends[0] - ends[1]) / (2 * step), rtol=1e-6)


@pytest.mark.slow
def test_planes_and_lda(digits):
    plane = subspaces.principal_plane(digits.train)
    places = plane.places(digits.train.encoded())
    np.testing.assert_allclose(places.mean(0), 0, atol=1e-4)
    assert abs(np.corrcoef(places.T)[0, 1]) < 1e-6
    lda = subspaces.discriminant(digits.train)
    assert (lda.named(digits.test.encoded()) == digits.test.labels).mean() > 0.9
    # Within LDA's plane the classes' means are further apart, in units of their spread, than in PCA's.
    assert spread(lda.plane.places(digits.test.encoded()), digits.test.labels) > spread(
        plane.places(digits.test.encoded()), digits.test.labels
    )


def spread(places, labels):
    means = np.stack([places[labels == k].mean(0) for k in range(10)])
    within = np.mean([places[labels == k].var(0).sum() for k in range(10)])
    return means.var(0).sum() / within


def test_constant_pixels_do_not_break_lda(rng):
    """As on MNIST, where float32 and no PCA gave one right answer in ten."""
    labels = np.arange(90) % 3
    x = np.zeros((90, 10, 1, 1), np.float32)
    x[:, :2, 0, 0] = rng.normal(size=(90, 2)) + 4 * np.eye(3)[labels][:, :2]
    lda = subspaces.discriminant(Split(x, labels, Encoded()))
    assert (lda.named(x) == labels).mean() > 0.9
    two = subspaces.discriminant(Split(x[labels < 2], labels[labels < 2], Encoded()))
    assert not two.plane.axes[:, 1].any()


def test_dimensions_that_do_not_fit_are_refused(digits):
    with pytest.raises(
        ValueError, match=r"dims: expected at most 63|dims: expected at most 64|class 0; got 65"
    ):
        subspaces.class_subspaces(digits.train, dims=65)
    with pytest.raises(ValueError, match=r"dims: expected .* >= 2"):
        subspaces.discriminant(digits.train, dims=1)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_images_of_the_form_lie_in_the_subspaces_of_their_classes(own):
    form = forms.subspace(
        own.mean, own.directions, own.scales, SHAPE, inner_steps=2, images_per_class_per_step=3, inner_lr=None
    )
    params = form.init(jax.random.key(0))
    schedule = form.unfold(params)
    assert schedule.inputs.shape == (2, 30, *SHAPE)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 2 * 30 * 5  # codes, no labels
    np.testing.assert_allclose(subspaces.own_error(own, schedule), 0, atol=1e-20)
    assert float(subspaces.errors(own, schedule.inputs[0])[0, 1]) > 0.01
    with pytest.raises(ValueError, match=r"subspace: features: expected 64; got 49"):
        forms.subspace(own.mean, own.directions, own.scales, (7, 7, 1))


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_a_penalty_is_added_and_reported(few_digits):
    network = networks.mlp(SHAPE, CLASSES, widths=(4,))
    plain = methods.distribution_matching(network, inits.random(network), batch_size=4)
    penalty = functools.partial(subspaces.own_error, subspaces.class_subspaces(few_digits.train, dims=3))
    heavy = penalised(plain, penalty, weight=0.5)
    form = small_form(inner_lr=None)
    schedule = form.unfold(form.init(jax.random.key(0)))
    batch = plain.sample(to_device(few_digits.train), jax.random.key(1))
    (without, info), (value, more) = (
        one.loss(schedule, (), batch, jax.random.key(2)) for one in (plain, heavy)
    )
    np.testing.assert_allclose(value, without + 0.5 * penalty(schedule), rtol=1e-10)
    assert more._fields == (*info._fields, "penalty")
    np.testing.assert_allclose(more.penalty, penalty(schedule), rtol=1e-12)
    with pytest.raises(ValueError, match="penalised: weight: expected"):
        penalised(plain, penalty, weight=-1.0)


def test_a_method_s_own_state_advances_under_a_penalty():
    import dataclasses

    seen = []

    def advance(schedule, state, batch, info, key):
        seen.append(info)
        return state

    network = networks.mlp(SHAPE, CLASSES, widths=(4,))
    plain = methods.distribution_matching(network, inits.random(network), batch_size=4)
    bare = dataclasses.replace(plain, loss=lambda *given: (jnp.zeros(()), ()), advance=advance)
    heavy = penalised(bare, lambda schedule: jnp.ones(()), weight=2.0)
    value, info = heavy.loss(None, (), None, jax.random.key(0))  # type: ignore[arg-type] (not looked at)
    assert (float(value), float(info.penalty)) == (2, 1)
    heavy.advance(None, (), None, info, jax.random.key(0))  # type: ignore[arg-type] (not looked at)
    assert seen == [()]

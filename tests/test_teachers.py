"""Soft labels, mixtures, consensus and the losses of knowledge distillation."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import CLASSES, SHAPE, small_form

from ddjax import Recipe, forms, inits, networks, teachers
from ddjax.encodings import Channels
from ddjax.teachers import Risks, Shift
from ddjax.types import Distilled
from ddjax.unroll import tempered_cross_entropy

MLP = networks.mlp(SHAPE, CLASSES, widths=(6,))


@pytest.fixture(scope="module")
def golden(reference):
    with np.load(reference / "kd.npz") as file:
        return {
            name: file[name].astype(np.float64) if file[name].dtype == "f" else file[name] for name in file
        }


def double(golden, name):
    return jnp.asarray(golden[name], jnp.float64)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_losses_and_gradients_of_distillation(golden):
    student, teacher, labels = (
        double(golden, "student_logits"),
        double(golden, "teacher_logits"),
        golden["labels"],
    )
    alpha = float(golden["alpha"])
    for i, temperature in enumerate(golden["temperatures"].tolist()):
        soft = jax.nn.softmax(teacher / temperature)
        tempered = tempered_cross_entropy(student, soft, temperature=temperature).mean() / temperature**2
        np.testing.assert_allclose(tempered, golden["soft_cross_entropy"][i], rtol=1e-12)
        entropy = -jnp.sum(soft * jnp.log(soft), -1).mean()
        np.testing.assert_allclose(tempered - entropy, golden["kl"][i], rtol=1e-9)
        value, grad = jax.value_and_grad(teachers.distillation_loss)(
            student, teacher, labels, temperature=temperature, alpha=alpha
        )
        np.testing.assert_allclose(value, golden["loss"][i], rtol=1e-12)
        np.testing.assert_allclose(grad, golden["grad_loss"][i], rtol=1e-9, atol=1e-14)
        alone = jax.grad(teachers.distillation_loss)(
            student, teacher, labels, temperature=temperature, alpha=1.0
        )
        np.testing.assert_allclose(
            alone / temperature**2, golden["grad_kl_batchmean"][i], rtol=1e-9, atol=1e-14
        )
    hard = teachers.distillation_loss(student, teacher, labels, temperature=1.0, alpha=0.0)
    np.testing.assert_allclose(hard, golden["hard_cross_entropy"], rtol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.slow
def test_a_high_temperature_matches_centred_logits(golden):
    """T² ∇ has a limit, so that the factor T² keeps gradients of one size."""
    student, teacher = double(golden, "student_logits"), double(golden, "teacher_logits")
    grad = jax.grad(teachers.distillation_loss)(
        student, teacher, golden["labels"], temperature=1e5, alpha=1.0
    )
    np.testing.assert_allclose(grad, golden["high_temperature_limit"], atol=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_mixtures_views_and_consensus(golden):
    clients, target = double(golden, "client_logits"), double(golden, "consensus_logits")
    hard = jax.nn.one_hot(golden["labels"], 5, dtype=jnp.float64)
    soft = jax.nn.softmax(double(golden, "teacher_logits"))
    mixed = teachers.mix(hard, soft, float(golden["noisy_weight"]))
    # The reference multiplied float32 labels: 0.3 was rounded, by 1.2e-8.
    np.testing.assert_allclose(mixed, golden["noisy_targets"], atol=1.3e-8)
    views = teachers.mean_probabilities(double(golden, "transform_logits"))
    np.testing.assert_allclose(views, golden["transform_targets"], rtol=1e-12)
    np.testing.assert_allclose(teachers.consensus(clients), target, rtol=1e-12, atol=1e-15)
    value, grad = jax.value_and_grad(teachers.absolute_error)(double(golden, "student_logits"), target)
    np.testing.assert_allclose(value, golden["consensus_mae"], rtol=1e-12)
    np.testing.assert_allclose(grad, golden["grad_consensus_mae"], rtol=1e-12)


def test_the_hedge_is_the_best_weight_of_a_grid(rng):
    truth = np.eye(4)[rng.integers(0, 4, 300)]
    labels = np.where(rng.random((300, 1)) < 0.5, truth, np.roll(truth, 1, -1))
    soft = 0.6 * truth + 0.4 * rng.dirichlet(np.ones(4), 300)
    grid = np.linspace(0, 1, 2001)
    risks = [((teachers.mix(labels, soft, one) - truth) ** 2).sum(-1).mean() for one in grid]
    found = Risks.of(labels, soft, truth)
    assert abs(teachers.hedge(found) - grid[np.argmin(risks)]) < 1e-3
    np.testing.assert_allclose([risks[-1], risks[0]], found[:2])
    assert teachers.hedge(Risks(0.0, 0.0, 0.0)) == 0.5
    assert teachers.hedge(Risks(0.2, 0.5, 0.3)) == 1.0


def test_shifts_move_images_and_repeat_the_border():
    image = jnp.arange(9.0).reshape(1, 3, 3, 1)
    moved = Shift(down=1, right=-1)(image)[0, :, :, 0]
    np.testing.assert_array_equal(moved, [[1, 2, 2], [1, 2, 2], [4, 5, 5]])
    views = teachers.shifts()
    assert len(views) == len(set(views)) == 9
    assert views[4] == Shift()
    with pytest.raises(ValueError, match="reach: expected"):
        teachers.shifts(-1)


@pytest.mark.slow
def test_soft_labels_are_the_mean_over_views_in_pieces(rng, monkeypatch):
    monkeypatch.setattr(teachers, "CHUNK", 4)
    params = MLP.init(jax.random.key(0))
    inputs = jnp.asarray(rng.normal(size=(5, *SHAPE)), jnp.float32)  # a piece, and a rest
    views = (Shift(), Shift(1, 1))
    ours = teachers.soft_labels(MLP, params, inputs, temperature=3.0, views=views)
    each = [jax.nn.softmax(MLP.apply(params, view(inputs)) / 3) for view in views]
    np.testing.assert_allclose(ours, (each[0] + each[1]) / 2, rtol=1e-5)
    np.testing.assert_array_equal(teachers.hardened(ours).argmax(-1), ours.argmax(-1))
    with pytest.raises(ValueError, match="temperature: expected"):
        teachers.soft_labels(MLP, params, inputs, temperature=0.0)
    with pytest.raises(ValueError, match="inputs"):
        teachers.soft_labels(MLP, params, inputs[:, :4])


@pytest.mark.slow
def test_networks_are_trained_each_from_its_own_key(few_digits):
    train = few_digits.train
    examples = teachers.of_examples(train.encoded(), np.eye(CLASSES, dtype=np.float32)[train.labels])
    recipe = Recipe("train", epochs=5, lr=0.1, batch_size=32)
    keys = jax.random.split(jax.random.key(0), 2)
    both = teachers.train(MLP, inits.random(MLP), recipe, examples, keys=keys)
    second = teachers.train(MLP, inits.random(MLP), recipe, examples, keys=keys[1:])
    jax.tree.map(
        lambda two, one: np.testing.assert_allclose(two[1], one[0], rtol=1e-5, atol=1e-6), both, second
    )
    found = MLP.apply(jax.tree.map(lambda leaf: leaf[0], both), few_digits.test.encoded())
    assert (found.argmax(-1) == few_digits.test.labels).mean() > 0.9
    with pytest.raises(ValueError, match="labels: how many: expected"):
        teachers.of_examples(train.encoded(), np.eye(CLASSES)[:1])


def test_only_an_ordinary_training_takes_other_labels():
    schedule = small_form(inner_lr=0.1).unfold(small_form(inner_lr=0.1).init(jax.random.key(0)))
    encoding = Channels(jnp.full(1, 0.5), jnp.full(1, 0.25))
    phi = Distilled(schedule, forms.constant(schedule), encoding, Recipe("train"), {"method": "mine"})
    soft = jnp.full(schedule.labels.shape, 1 / CLASSES)
    new = teachers.relabelled(phi, soft, temperature=4.0)
    assert new.recipe == Recipe("train", temperature=4.0)
    np.testing.assert_array_equal(new.schedule.labels, soft)
    np.testing.assert_array_equal(new.schedule.inputs, schedule.inputs)
    assert new.metadata == phi.metadata
    for recipe in (Recipe("schedule"), Recipe("ridge")):
        with pytest.raises(ValueError, match=f"recipe 'train'; got '{recipe.kind}', whose learned rates"):
            teachers.relabelled(dataclasses.replace(phi, recipe=recipe), soft)
    with pytest.raises(ValueError, match="labels: shape: expected"):
        teachers.relabelled(phi, soft[:1])

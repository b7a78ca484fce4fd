"""Evaluation: against a plain loop written out here, over both recipes."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import CLASSES, SHAPE, small_run, three_digits

import ddjax
from ddjax import Recipe, augment, forms, inits, networks, platforms, pool
from ddjax.judge import Evaluation, Judge, Outcomes, _accuracies, chunks
from ddjax.launch.distillation import validated
from ddjax.networks import norms
from ddjax.recipes import Train
from ddjax.types import InitDistribution


@pytest.fixture(scope="module")
def data():
    return three_digits()


@pytest.fixture(scope="module")
def distilled(data):
    optimizer = ddjax.optimizers.adam_cosine(80, lr=0.1)
    return small_run(data, num_outer_steps=80, optimizer=optimizer).distilled


@pytest.fixture(scope="module")
def network():
    return networks.mlp(SHAPE, CLASSES, widths=(16,))


def accuracy(network, params, split) -> float:
    logits = network.apply(params, jnp.asarray(split.encoded()))
    return 100 * float(np.mean(np.argmax(logits, -1) == split.labels))


@pytest.mark.slow
def test_a_schedule_is_replayed_step_by_step(data, distilled, network):
    distribution, key = inits.random(network), jax.random.key(5)
    score = ddjax.evaluate(distilled, network, distribution, data.test, key=key, num_inits=3)
    schedule, expected = distilled.schedule, []
    for run_key in jax.random.split(key, 3):
        params = distribution.sample(jax.random.split(run_key)[0])
        for lrs in schedule.lrs:
            for x, y, lr in zip(schedule.inputs, schedule.labels, lrs, strict=True):
                grads = jax.grad(
                    lambda p, x=x, y=y: optax.softmax_cross_entropy(network.apply(p, x), y).mean()
                )(params)
                params = jax.tree.map(lambda p, g, lr=lr: p - lr * g, params, grads)
        expected.append(accuracy(network, params, data.test))
    assert score.values == pytest.approx(expected, abs=1e-4)
    assert score.mean == pytest.approx(np.mean(expected))
    assert score.std == pytest.approx(np.std(expected))


@pytest.mark.slow
def test_training_in_epochs_equals_a_plain_loop(data, distilled, network):
    recipe = Recipe("train", lr=0.1, epochs=4, batch_size=100)  # one batch of all images: no order to match
    distilled = dataclasses.replace(distilled, recipe=recipe)
    distribution, key = inits.random(network), jax.random.key(6)
    params = ddjax.train(distilled, network, distribution, key=key)
    expected = distribution.sample(jax.random.split(key)[0])
    x = distilled.schedule.inputs.reshape(-1, *SHAPE)
    y = distilled.schedule.labels.reshape(-1, CLASSES)
    momentum = jax.tree.map(jnp.zeros_like, expected)
    for epoch in range(4):
        lr = 0.1 if epoch < 2 else 0.01
        grads = jax.grad(lambda p: optax.softmax_cross_entropy(network.apply(p, x), y).mean())(expected)
        momentum = jax.tree.map(lambda m, g, p: 0.9 * m + g + 5e-4 * p, momentum, grads, expected)
        expected = jax.tree.map(lambda p, m, lr=lr: p - lr * m, expected, momentum)
    for ours, theirs in zip(*map(jax.tree.leaves, (params, expected)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-6)


def test_an_epoch_visits_every_image_once_also_in_a_last_smaller_batch(data, distilled, network):
    """From zero weights only the last bias learns: each minibatch moves it by lr · mean(y - softmax)."""
    recipe = Recipe("train", lr=0.1, momentum=0.0, weight_decay=0.0, epochs=2, batch_size=4)
    distilled = dataclasses.replace(distilled, recipe=recipe)
    zero = InitDistribution(lambda key: jax.tree.map(jnp.zeros_like, network.init(key)), "zero", fixed=True)
    params = ddjax.train(distilled, network, zero, key=jax.random.key(0))
    y = np.asarray(distilled.schedule.labels).reshape(-1, CLASSES)
    bias = np.zeros(CLASSES)
    for epoch, key in enumerate(jax.random.split(jax.random.split(jax.random.key(0))[1], 2)):
        order = np.asarray(jax.random.permutation(key, len(y)))
        for rows in (order[:4], order[4:]):
            bias += (0.1 if epoch == 0 else 0.01) * (y[rows] - np.exp(bias) / np.exp(bias).sum()).mean(0)
    assert len(y) == 6
    np.testing.assert_allclose(params["classifier"]["bias"], bias, atol=1e-6)


@pytest.mark.slow
def test_each_minibatch_is_augmented_anew_image_by_image(data, distilled, network):
    """The plain loop above, over two epochs of six images in minibatches of four and two."""
    recipe = Train(lr=0.1, momentum=0.0, weight_decay=0.0, epochs=2, batch_size=4)
    strategy = "color+crop+flip"
    augmented = dataclasses.replace(distilled, recipe=dataclasses.replace(recipe, augmentation=strategy))
    augmentation = augment.by_name(strategy, SHAPE)
    distribution, key = inits.random(network), jax.random.key(0)
    params = ddjax.train(augmented, network, distribution, key=key)
    init_key, train_key = jax.random.split(key)
    expected = distribution.sample(init_key)
    x = distilled.schedule.inputs.reshape(-1, *SHAPE)
    y = distilled.schedule.labels.reshape(-1, CLASSES)
    apply, draws = jax.jit(augmentation.apply), []
    grad = jax.jit(jax.grad(lambda p, x, y: optax.softmax_cross_entropy(network.apply(p, x), y).mean()))
    for epoch, epoch_key in enumerate(jax.random.split(train_key, 2)):
        order_key, draw_key = jax.random.split(epoch_key)
        order = jnp.resize(jax.random.permutation(order_key, len(x)), (2, 4))
        for rows, size, step_key in zip(order, (4, 2), jax.random.split(draw_key, 2), strict=True):
            draws.append(augmentation.sample(step_key, 4))
            images = apply(draws[-1], x[rows])[:size]
            lr = 0.1 if epoch == 0 else 0.01
            grads = grad(expected, images, y[rows[:size]])
            expected = jax.tree.map(lambda p, g, lr=lr: p - lr * g, expected, grads)
    for ours, theirs in zip(*map(jax.tree.leaves, (params, expected)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-6)
    brightness = np.stack([draw[0].brightness for draw in draws])
    assert len(np.unique(brightness)) == 16


@pytest.mark.parametrize("recipe", [Recipe("schedule"), Recipe("train", lr=0.1, epochs=2)])
@pytest.mark.slow
def test_a_network_with_batch_norm_is_tested_image_by_image(data, distilled, recipe):
    """Trained, it normalises by φ's statistics, not by those of whatever is tested together."""
    network = networks.convnet(SHAPE, CLASSES, width=4, depth=1, norm="batch")
    params = inits.random(network).sample(jax.random.key(3))
    trained = recipe.fit(network, params, distilled.schedule, jax.random.key(4)).params
    images = jnp.asarray(data.test.encoded()[:20])
    alone = jnp.concatenate([network.apply(trained, image[None]) for image in images])
    together = network.apply(trained, images)
    np.testing.assert_allclose(alone, together, atol=1e-5)
    of_phi = norms.calibrate(network, trained, distilled.schedule.inputs.reshape(-1, *SHAPE))
    np.testing.assert_allclose(together, network.apply(of_phi, images), atol=1e-5)
    score = ddjax.evaluate(
        dataclasses.replace(distilled, recipe=recipe),
        network,
        inits.random(network),
        data.test,
        key=jax.random.key(5),
        num_inits=1,
    )
    keys = jax.random.split(jax.random.split(jax.random.key(5), 1)[0])
    theta = inits.random(network).sample(keys[0])
    params = recipe.fit(network, theta, distilled.schedule, keys[1]).params
    assert score.values == pytest.approx([accuracy(network, params, data.test)], abs=1e-4)


def test_one_call_trains_a_network_that_classifies(data, distilled, network):
    params = ddjax.train(distilled, network, inits.random(network), key=jax.random.key(1))
    assert accuracy(network, params, data.test) > 60


def test_chunks_cover_a_split_once(data):
    pieces = chunks(data.test, size=40)
    kept = np.asarray(pieces.labels).ravel() >= 0
    images = np.asarray(pieces.raw).reshape(-1, *SHAPE)[kept]
    assert np.array_equal(images, data.test.images)
    assert kept.sum() == len(data.test) == int(pieces.size)


def test_networks_that_are_vmapped_share_the_images_of_a_piece(data, distilled, network, monkeypatch):
    monkeypatch.setattr(platforms, "current", lambda: "gpu")
    judges = [Judge(network, inits.random(network), distilled.recipe, data.test, n) for n in (1, 20, 2000)]
    sizes = [judge.pieces.labels.shape[1] for judge in judges]
    assert sizes[0] == min(len(data.test), 1000)
    assert sizes[0] > sizes[1] == sizes[2] > 1
    assert sizes[2] <= 100


@pytest.mark.slow
def test_vmapped_runs_equal_runs_one_by_one(data, distilled, network):
    settings = {"key": jax.random.key(2), "num_inits": 4}
    one, all_four = (
        ddjax.evaluate(distilled, network, inits.random(network), data.test, runs_per_chunk=n, **settings)
        for n in (1, 4)
    )
    np.testing.assert_allclose(one.values, all_four.values, atol=1.0)


def test_a_fixed_theta_is_evaluated_once(data, distilled, network):
    fixed = inits.fixed(network, jax.random.key(0))
    score = ddjax.evaluate(distilled, network, fixed, data.test, key=jax.random.key(1), num_inits=20)
    assert len(score.values) == 1
    assert score.std == 0


def test_a_judge_starts_from_the_same_theta_every_time(data, distilled, network):
    judge = Judge(network, inits.random(network), distilled.recipe, data.validation)
    twice = [judge.score(distilled.schedule, key=jax.random.key(0), num_inits=3) for _ in range(2)]
    assert np.array_equal(twice[0], twice[1])


def test_std_is_that_of_the_population():
    assert Evaluation.of(np.array([1.0, 3.0])) == (2.0, 1.0, pytest.approx([1.0, 3.0]), 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d, n: (d, networks.mlp((9, 9, 1), CLASSES)), "image shape .*expected .*got"),
        (lambda d, n: (d, networks.mlp(SHAPE, 4)), "number of classes: expected 3; got 4"),
        (
            lambda d, n: (
                dataclasses.replace(d, params=d.params._replace(raw_lrs=None), recipe=Recipe("schedule")),
                n,
            ),
            "expected learning rates",
        ),
        (
            lambda d, n: (dataclasses.replace(d, recipe=Recipe("train", augmentation="flop")), n),
            "augmentation: expected one of .*got 'flop'. Did you mean 'flip'",
        ),
    ],
)
def test_what_does_not_fit_is_refused(data, distilled, network, change, message):
    phi, net = change(distilled, network)
    with pytest.raises(ValueError, match=message):
        ddjax.evaluate(phi, net, inits.random(net), data.test, key=jax.random.key(0))


def test_no_inits_is_refused(data, distilled, network):
    with pytest.raises(ValueError, match="num_inits"):
        ddjax.evaluate(
            distilled, network, inits.random(network), data.test, key=jax.random.key(0), num_inits=0
        )


@pytest.mark.slow
def test_the_members_of_a_pool_come_once_each_and_in_their_order(data, distilled, network):
    theta = jax.vmap(inits.random(network).sample)(jax.random.split(jax.random.key(9), 4))
    members = pool.Pool(jax.device_get(theta), 1, np.zeros(4, np.float32))
    held_out = inits.pretrained(members, split="held_out")
    key = jax.random.key(7)
    alone = [
        ddjax.evaluate(
            distilled,
            network,
            inits.pretrained(members, split="held_out", member=member),
            data.test,
            key=key,
            num_inits=1,
        ).values[0]
        for member in range(3)
    ]
    assert len(set(alone)) == 3
    for num_inits, runs_per_chunk in ((3, 1), (20, 1), (20, 3)):
        score = ddjax.evaluate(
            distilled,
            network,
            held_out,
            data.test,
            key=key,
            num_inits=num_inits,
            runs_per_chunk=runs_per_chunk,
        )
        assert score.values == pytest.approx(alone, abs=1e-4)
    # Trainings in epochs differ by their order, so that there may be more of them than members.
    recipe = Recipe("train", lr=0.1, epochs=1, batch_size=4)
    trained = dataclasses.replace(distilled, recipe=recipe)
    assert len(ddjax.evaluate(trained, network, held_out, data.test, key=key, num_inits=5).values) == 5


@pytest.mark.slow
def test_a_pool_is_an_argument_of_the_compiled_evaluation_not_a_constant(data, distilled, network):
    theta = jax.vmap(network.init)(jax.random.split(jax.random.key(9), 500))
    members = inits.pretrained(pool.Pool(jax.device_get(theta), 500, np.zeros(500, np.float32)))
    assert members.pool is not None
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(members.pool))
    schedules = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], distilled.schedule)
    lowered = _accuracies.lower(
        schedules,
        (jnp.zeros(2, jnp.int32), jax.random.split(jax.random.key(0), 2), jnp.arange(2)),
        np.int32(0),
        chunks(data.test),
        members.pool,
        network=network,
        inits=members,
        recipe=distilled.recipe,
        count=1,
    )
    assert len(lowered.as_text()) < size / 5


# Networks that are not finite.


def steep(distilled, rate: float):
    """φ with one learning rate for all steps."""
    schedule = distilled.schedule
    schedule = schedule._replace(lrs=jnp.full_like(schedule.lrs, rate))
    return dataclasses.replace(distilled, params=schedule, form=forms.constant(schedule))


def one_sided(data):
    """A test split of which four fifths are of class 0, the answer of a network whose scores are NaN."""
    labels = data.test.labels
    rows = np.concatenate([np.flatnonzero(labels == 0)[:16], np.flatnonzero(labels == 1)[:4]])
    return data.test.at(rows)


def test_a_network_that_is_not_finite_scores_0_and_is_counted(data, distilled, network):
    distribution, key = inits.random(network), jax.random.key(0)
    diverging, split = steep(distilled, 1e30), one_sided(data)
    score = ddjax.evaluate(diverging, network, distribution, split, key=key, num_inits=3)
    assert score.values.tolist() == [0, 0, 0]
    assert (score.mean, score.diverged, score.as_dict()["diverged"]) == (0, 3, 3)
    assert ddjax.evaluate(distilled, network, distribution, data.test, key=key, num_inits=2).diverged == 0


@pytest.mark.slow
def test_one_diverged_network_of_several_is_counted_and_not_the_others(data, network):
    """One of two schedules diverges; among untrained networks one has a weight that is infinite."""
    judge = Judge(network, inits.random(network), Recipe("schedule"), one_sided(data))
    form = forms.pixels(SHAPE, CLASSES, inner_steps=1, inner_epochs=1, inner_lr=0.1)
    schedule = form.unfold(form.init(jax.random.key(0)))
    both = [schedule, schedule._replace(lrs=jnp.full((1, 1), jnp.inf))]
    found = judge.outcomes(both, jnp.array([0, 1, 0], jnp.int32), jax.random.split(jax.random.key(1), 3))
    assert found.finite.tolist() == [True, False, True]
    assert found.percent[1] == 0
    pooled = Evaluation.pooled([Evaluation.of(found).as_dict()] * 2)
    assert (len(pooled.values), pooled.diverged) == (6, 2)
    params = jax.vmap(network.init)(jax.random.split(jax.random.key(2), 2))
    broken = jax.tree.map(lambda leaf: leaf.at[1].set(jnp.inf), params)
    assert judge.untrained(broken).diverged == 1


def test_distilled_data_on_which_every_network_diverges_are_not_chosen(data, distilled, network, capsys):
    judge = Judge(network, inits.random(network), Recipe("schedule"), one_sided(data))
    score = validated(judge, key=jax.random.key(0), num_inits=2)
    assert np.isnan(score(steep(distilled, 1e30).schedule))
    assert "2 of 2 networks diverged" in capsys.readouterr().out
    assert 0 <= score(distilled.schedule) <= 100


def test_accuracies_that_are_not_finite_are_never_averaged_in_silence():
    score = Evaluation.of(np.array([60.0, np.nan, np.inf]))
    assert (score.mean, score.diverged) == (20, 2)
    assert score.values.tolist() == [60, 0, 0]
    assert Evaluation.of(Outcomes(np.zeros(2), np.zeros(2, bool))).all_diverged


@pytest.mark.parametrize("runs_per_chunk", [1, 2, 3])
@pytest.mark.parametrize("size", [7, 60])
def test_accuracies_are_counts_over_counts(data, distilled, network, runs_per_chunk, size):
    """Exact in float64, however runs and examples are cut: 100 k / n with a whole number k."""
    distribution, key, split = inits.random(network), jax.random.key(4), data.test.at(np.arange(60))
    judge = Judge(network, distribution, distilled.recipe, split, runs_per_chunk)
    judge.__dict__["pieces"] = chunks(split, size=size)
    values = judge.score(distilled.schedule, key=key, num_inits=4)
    assert values.dtype == np.float64
    assert values.tolist() == [100 * round(value * 60 / 100) / 60 for value in values]
    alone = ddjax.evaluate(distilled, network, distribution, split, key=key, num_inits=4)
    assert values.tolist() == alone.values.tolist()

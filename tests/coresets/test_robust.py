"""Training on noisy labels with a selection, on a few digits."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import CLASSES, SHAPE

from ddjax import networks, predictions
from ddjax.coresets import robust as training
from ddjax.coresets.robust import Selected, crust, robust
from ddjax.data import corrupt, transition

MLP = networks.mlp(SHAPE, CLASSES, widths=(16,))
QUICK = Selected(batch_size=32, lr=0.01, length=32, ramp=2)


@pytest.fixture(scope="module")
def noisy(digits):
    kept = digits.train.at(digits.train.labels < CLASSES)
    split = dataclasses.replace(kept, num_classes=CLASSES)
    return corrupt(split, transition("pair", 0.4, CLASSES), seed=0)


@pytest.fixture(scope="module")
def start():
    return MLP.init(jax.random.key(0))


def test_the_share_falls_along_the_ramp():
    shares = [Selected(rate=0.4, ramp=4).share(epoch) for epoch in range(6)]
    np.testing.assert_allclose(shares, [0.9, 0.8, 0.7, 0.6, 0.6, 0.6])


@pytest.mark.slow
def test_a_selection_keeps_its_share_of_each_minibatch_and_most_right_labels(noisy, start):
    found = robust(
        MLP, start, noisy.split, jax.random.key(1), settings=dataclasses.replace(QUICK, rate=0.4), epochs=6
    )
    steps = len(noisy.split) // 32
    assert found.kept.sum(1).tolist() == [steps * int(32 * share) for share in (0.8, 0.6, 0.6, 0.6, 0.6, 0.6)]
    assert noisy.clean[found.kept[-1]].mean() > noisy.clean.mean() + 0.15


@pytest.mark.slow
def test_without_a_rate_all_are_kept_and_the_watch_sees_every_epoch(noisy, start):
    rows = np.flatnonzero(noisy.clean)
    found = robust(
        MLP,
        start,
        noisy.split,
        jax.random.key(1),
        settings=dataclasses.replace(QUICK, score="score3", mixing=0.1),
        epochs=2,
        rows_at=lambda epoch, params: rows,
        watch=lambda epoch, params: (epoch, params),
    )
    assert found.kept.sum(1).tolist() == [len(rows) // 32 * 32] * 2
    assert not found.kept[:, ~noisy.clean].any()
    assert [epoch for epoch, _ in found.watched] == [0, 1]
    jax.tree.map(np.testing.assert_array_equal, found.watched[-1][1], found.params)


@pytest.mark.slow
def test_crust_selects_anew_once_its_time_has_come(noisy, start):
    for select in training.CRUST:
        rows_at = crust(MLP, noisy.split, select=select, share=0.5, first=1)
        assert len(rows_at(0, start)) == len(noisy.split)
        counts = np.bincount(noisy.split.labels[rows_at(1, start)])
        np.testing.assert_array_equal(counts, np.bincount(noisy.split.labels) // 2)
    with pytest.raises(ValueError, match=r"select: expected one of .*Did you mean 'crust'"):
        crust(MLP, noisy.split, select="crest")


@pytest.mark.slow
def test_partners_have_the_same_label(noisy):
    from ddjax.data import to_device

    data, rows = to_device(noisy.split), jnp.arange(0, len(noisy.split), 3)
    at = jnp.arange(len(rows))
    found = np.asarray(training._partners(data, rows)(jax.random.key(0), at))
    np.testing.assert_array_equal(noisy.split.labels[found], noisy.split.labels[np.asarray(rows)])
    assert set(found) <= set(np.asarray(rows).tolist())
    assert (found != np.asarray(rows)).mean() > 0.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"score": "score9"}, "score: expected one of"),
        ({"rate": 1.0}, "rate: expected"),
        ({"ramp": 0}, "ramp: expected"),
        ({"lr": 0.0}, "lr: expected"),
        ({"mixing": -0.1}, "mixing: expected"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        Selected(**settings)


@pytest.mark.slow
def test_classes_are_scored_one_by_one(few_digits):
    logits = np.eye(3)[[0, 1, 1, 2, 0]]
    found = predictions.class_accuracies(logits, np.array([0, 0, 1, 1, 1]))
    np.testing.assert_allclose(found[:2], [50, 100 / 3])
    assert np.isnan(found[2])
    with pytest.raises(ValueError, match="labels: how many"):
        predictions.class_accuracies(logits, np.zeros(2, int))
    params = MLP.init(jax.random.key(0))
    all_of_them = predictions.logits(MLP, params, few_digits.test)
    np.testing.assert_allclose(
        all_of_them, MLP.apply(params, few_digits.test.encoded()), rtol=1e-4, atol=1e-5
    )

"""Selections made once from noisy labels, on given logits and features."""

from __future__ import annotations

import types
from typing import Any

import numpy as np
import pytest

from ddjax.coresets import once
from ddjax.coresets.once import select_once
from ddjax.data import Split, corrupt, transition
from ddjax.encodings import Encoded

LABELS = np.repeat([0, 1], [6, 4]).astype(np.int32)


@pytest.fixture
def learned(rng, monkeypatch) -> Any:
    """What a selection looks at; no network is trained."""
    split = Split(rng.normal(size=(10, 3, 1, 1)).astype(np.float32), LABELS, Encoded())
    logits = rng.normal(size=(10, 2))
    monkeypatch.setattr(once.predictions, "logits", lambda network, params, split: logits)
    monkeypatch.setattr(once, "last_layer_kernel", lambda network, params: np.eye(2))
    scores = np.array([0, 3, 0, 1, 2, 0, 5, 0, 1, 0])
    training = types.SimpleNamespace(params=None, scores=scores)
    return types.SimpleNamespace(split=split, network=None, training=training, points=logits, logits=logits)


def test_the_smallest_losses_of_each_class_are_taken(learned):
    surprise = np.log(np.exp(learned.logits).sum(1)) - learned.logits[np.arange(10), LABELS]
    found = select_once("loss", learned, per_class=2)
    expected = [*np.argsort(surprise[:6])[:2], *(6 + np.argsort(surprise[6:])[:2])]
    np.testing.assert_array_equal(found.rows, expected)
    np.testing.assert_array_equal(found.weights, 1)


def test_the_least_forgotten_are_taken_and_ties_are_drawn(learned):
    draws = {tuple(select_once("forgetting", learned, per_class=2, seed=seed).rows) for seed in range(9)}
    assert all(set(rows[:2]) < {0, 2, 5} and set(rows[2:]) == {7, 9} for rows in draws)
    assert len(draws) > 1


def test_a_random_choice_does_not_know_the_noise_of_its_own_seed(learned):
    raw, labels = np.zeros((4000, 1, 1, 1), np.float32), np.repeat([0, 1, 2, 3], 1000).astype(np.int32)
    true = Split(raw, labels, Encoded(), 4)
    noisy = corrupt(true, transition("symmetric", 0.4, 4), seed=0)
    learned.split, learned.training.scores = noisy.split, np.zeros(4000)
    for name in ("random", "forgetting"):
        rows = select_once(name, learned, per_class=200, seed=0).rows
        right = noisy.clean[rows].reshape(4, 200).mean(1)  # 0.6, and a standard deviation of 0.035
        assert right.min() > 0.45, name
        assert right.max() < 0.75, name


def test_a_share_is_taken_where_no_number_is_given(learned):
    for name in once.ONCE:
        rows = select_once(name, learned, share=0.5).rows
        assert np.bincount(LABELS[rows]).tolist() == [3, 2], name


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_craig_s_weights_are_the_clusters_of_its_points(learned, share):
    found = select_once("craig", learned, share=share)
    np.testing.assert_array_equal(found.rows, select_once("facility_location", learned, share=share).rows)
    sizes = found.weights * 10 / len(found.rows)  # the mean of one, taken back
    np.testing.assert_allclose(np.bincount(LABELS[found.rows], weights=sizes), [6, 4])
    np.testing.assert_allclose(sizes, np.round(sizes))


def test_an_unknown_selection_is_refused(learned):
    with pytest.raises(ValueError, match=r"once: expected one of .*Did you mean 'central'"):
        select_once("centrel", learned)

"""Selections by name."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest

from ddjax import coresets, data, inits, networks
from ddjax.coresets import by_name


@pytest.fixture(scope="module")
def split() -> data.Split:
    return data.load("digits").validation


def learned_of(split: data.Split, **settings: Any) -> coresets.Learned:
    network = networks.mlp((8, 8, 1), 10, widths=(8,))
    keys = jax.random.split(jax.random.key(0))
    return coresets.Learned(split, network, inits.random(network), *keys, epochs=2, lr=0.05, **settings)


@pytest.mark.slow
def test_every_name_gives_so_many_images_of_each_class(split):
    learned = learned_of(split)
    real = split.encoded().reshape(len(split), -1)
    for name in coresets.SELECTIONS:
        found = coresets.select(name, learned, per_class=1, seed=0, num_sets=2)
        assert len(found.sets) == (2 if name == "random" else 1)
        for images in found.sets:
            assert images.shape == (10, 1, 8, 8, 1)
            if name not in ("class_mean", "k_means"):
                away = np.abs(real[:, None] - images.reshape(10, -1)).max(-1)
                assert away.min(0).max() < 1e-6
                assert split.labels[away.argmin(0)].tolist() == list(range(10))
        assert (found.weights is None) == (name != "craig")
        looks = name in (*coresets.BY_FEATURES, "forgetting", "craig")
        assert (found.facts.get("features") == "mlp") == looks


def test_pixels_need_no_training(split, monkeypatch):
    monkeypatch.setattr(by_name, "forgetting", None)
    found = coresets.select("herding", learned_of(split, from_pixels=True), per_class=2, seed=0)
    assert found.facts == {"features": "pixels"}
    points = split.encoded().reshape(len(split), -1)
    rows = coresets.by_class(coresets.herding, points, split, per_class=2)
    np.testing.assert_array_equal(found.sets[0], coresets.images_at(split, rows))


def test_what_cannot_be_selected_is_refused(split):
    with pytest.raises(ValueError, match=r"selection: expected one of .*Did you mean 'herding'"):
        coresets.select("herdng", learned_of(split), per_class=1, seed=0)
    with pytest.raises(ValueError, match="images per class: expected at most"):
        coresets.select("random", learned_of(split), per_class=1000, seed=0)


def test_nothing_is_selected_by_a_network_that_diverged(split):
    """All features are NaN, and the first images of every class were taken for the nearest ones."""
    learned = dataclasses.replace(learned_of(split), lr=1e30)
    with pytest.raises(ValueError, match=r"the training diverged at the learning rate 1e\+30.*--feature_lr"):
        coresets.select("herding", learned, per_class=1, seed=0)

"""Baselines: laid out as φ is, tuned on validation, scored on the test split."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from problems import CLASSES, SHAPE, three_digits
from sklearn.neighbors import KNeighborsClassifier

from ddjax import baselines, coresets, inits, networks
from ddjax.types import Recipe


@pytest.fixture(scope="module")
def setting() -> baselines.Setting:
    data = three_digits()
    network = networks.mlp(SHAPE, CLASSES, widths=(16,))
    return baselines.Setting(data, network, inits.random(network), Recipe(), 2, 2, 3, num_inits=4)


def test_images_are_dealt_out_to_the_steps_in_class_order(setting):
    images = np.arange(CLASSES * 6, dtype=np.float32).reshape(CLASSES, 6, 1, 1, 1)
    schedule = baselines.lay_out(images, setting, lr=0.25)
    assert np.asarray(schedule.inputs).reshape(2, 9).tolist() == [
        [0, 1, 2, 6, 7, 8, 12, 13, 14],
        [3, 4, 5, 9, 10, 11, 15, 16, 17],
    ]
    assert np.argmax(schedule.labels, -1).tolist() == [[0, 0, 0, 1, 1, 1, 2, 2, 2]] * 2
    assert np.asarray(schedule.lrs).tolist() == [[0.25, 0.25]] * 2


def test_one_image_of_a_class_is_repeated_in_every_step(setting):
    schedule = baselines.lay_out(np.arange(3.0).reshape(3, 1, 1, 1, 1), setting, lr=0.1)
    assert np.asarray(schedule.inputs).reshape(2, 9).tolist() == [[0, 0, 0, 1, 1, 1, 2, 2, 2]] * 2


def test_the_paper_s_baselines_are_measured(setting):
    scores = baselines.measure(setting, key=jax.random.key(0), seed=0)
    assert list(scores) == ["random real", "class mean", "k-means", "k-NN, random real", "k-NN, k-means"]
    for name, score in scores.items():
        assert len(score["values"]) == score["n"]
        assert score["mean"] == pytest.approx(np.mean(score["values"]))
        assert 40 < score["mean"] <= 100
        tuned = score["neighbours"] if name.startswith("k-NN") else score["lr"]
        assert tuned in (baselines.NEIGHBOURS if name.startswith("k-NN") else baselines.LEARNING_RATES)
    assert [scores[name]["n"] for name in scores] == [4, 4, 4, 4, 1]


def test_nearest_neighbour_is_scikit_learn_s_on_the_test_split(setting):
    centroids = coresets.k_means(setting.data.train, per_class=2, num_classes=CLASSES, seed=0)
    score = baselines.nearest_neighbour(setting.data, [centroids])
    points = setting.data.test.normalised().reshape(len(setting.data.test), -1)
    model = KNeighborsClassifier(score["neighbours"]).fit(
        centroids.reshape(6, -1), np.repeat(np.arange(3), 2)
    )
    assert score["mean"] == pytest.approx(100 * model.score(points, setting.data.test.labels))


def test_all_data_beats_a_few_real_images(setting):
    ceiling = baselines.all_data(
        setting.data,
        setting.network,
        setting.inits,
        key=jax.random.key(0),
        num_inits=2,
        recipe=Recipe("train", lr=0.05, epochs=10, batch_size=32),
    )
    assert ceiling.mean > 97


def test_a_recipe_of_its_own_is_not_tuned(setting):
    own = Recipe("train", lr=0.05, epochs=20, batch_size=32)
    setting = baselines.Setting(setting.data, setting.network, setting.inits, own, 1, 1, 2, num_inits=2)
    means = coresets.class_means(setting.data.train, num_classes=CLASSES)
    score = baselines.trained_on(setting, [means], [means], key=jax.random.key(0))
    assert score["lr"] is None
    assert score["mean"] > 60

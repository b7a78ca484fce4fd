"""Baselines: laid out as φ is, tuned on validation, scored on the test split."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
from problems import CLASSES, SHAPE, three_digits
from sklearn.neighbors import KNeighborsClassifier

from ddjax import Recipe, baselines, coresets, inits, networks
from ddjax.pool import Pool

pytestmark = pytest.mark.slow


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
    points = setting.data.test.encoded().reshape(len(setting.data.test), -1)
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


def test_every_baseline_of_the_paper_is_measured_and_none_twice(setting):
    told = []
    selection = baselines.Selection(num_candidates=6, num_kept=2, num_inits=2, num_images=64)
    settings = {"key": jax.random.key(0), "seed": 0, "selection": selection, "num_clusterings": 2}
    scores = baselines.measure(
        setting,
        names=baselines.ALL,
        listener=lambda name, score: told.append((name, score["mean"])),
        **settings,
    )
    assert [name for name, _ in told] == list(scores) == list(baselines.ALL)
    assert {name: score["n"] for name, score in scores.items()} == {
        **dict.fromkeys(baselines.KINDS, 4),
        "k-NN, random real": 4,
        "k-NN, optimized real": 2,
        "k-NN, k-means": 2,
        "k-NN, class mean": 1,
    }
    known = {"k-means": {"mean": 1.0}, "random real": scores["random real"]}
    again = baselines.measure(
        setting, names=("k-means", "random real", "class mean"), known=known, **settings
    )
    assert again["k-means"] == {"mean": 1.0}
    assert again["class mean"] == scores["class mean"]


def test_the_best_sets_are_those_that_teach_training_images(setting):
    """Among sets of noise the one of class means is found, and comes first."""
    rng = np.random.default_rng(0)
    means = np.repeat(coresets.class_means(setting.data.train, num_classes=CLASSES), setting.per_class, 1)
    noise = [rng.normal(size=means.shape).astype(np.float32) for _ in range(5)]
    selection = baselines.Selection(num_candidates=6, num_kept=2, num_inits=3, num_images=100)
    kept = baselines.best_sets(
        setting, [*noise[:3], means, *noise[3:]], selection, key=jax.random.key(0), seed=0
    )
    assert len(kept) == 2
    assert np.array_equal(kept[0], means)


def test_optimized_sets_are_chosen_without_validation_or_test_images(setting):
    """With other validation and test images in the data set the choice among candidates stays."""
    tuning = baselines.Tuning(learning_rates=(0.1,))
    sets = baselines.real_sets(setting, range(6))
    selection = baselines.Selection(num_candidates=6, num_kept=3, num_inits=2, num_images=100)
    data = setting.data
    shuffled = dataclasses.replace(
        data,
        validation=dataclasses.replace(data.validation, labels=data.validation.labels[::-1].copy()),
        test=dataclasses.replace(data.test, labels=data.test.labels[::-1].copy()),
    )
    kept = [
        baselines.best_sets(
            dataclasses.replace(setting, data=one, tuning=tuning),
            sets,
            selection,
            key=jax.random.key(0),
            seed=0,
        )
        for one in (data, shuffled)
    ]
    assert all(np.array_equal(a, b) for a, b in zip(*kept, strict=True))


def test_the_epochs_can_be_chosen_too(setting):
    few = baselines.real_sets(setting, [0])
    tuning = baselines.Tuning(learning_rates=(0.01,), epochs=(1, 40))
    setting = dataclasses.replace(setting, tuning=tuning)
    assert baselines.tune(setting, few, key=jax.random.key(0)) == (0.01, 40)
    score = baselines.trained_on(setting, few, few, key=jax.random.key(0))
    assert (score["lr"], score["epochs"]) == (0.01, 40)
    alone = baselines.trained_on(
        dataclasses.replace(setting, tuning=baselines.Tuning(learning_rates=(0.01,), epochs=(1,))),
        few,
        few,
        key=jax.random.key(0),
    )
    assert score["mean"] > alone["mean"] + 5


def test_a_fixed_theta_has_as_many_outcomes_as_sets(setting):
    fixed = dataclasses.replace(setting, inits=inits.fixed(setting.network, jax.random.key(0)))
    scores = baselines.measure(fixed, key=jax.random.key(1), seed=0, names=("random real", "class mean"))
    assert (scores["random real"]["n"], scores["class mean"]["n"]) == (4, 1)
    assert scores["random real"]["std"] > 0


def test_a_pool_is_tuned_on_its_training_members_and_scored_on_each_held_out_one(setting):
    """Held-out members of two kinds, told apart by what they score: each comes as often as the other."""
    zeros = jax.tree.map(lambda leaf: 0 * leaf, setting.network.init(jax.random.key(0)))
    trained = setting.network.init(jax.random.key(1))
    params = jax.tree.map(lambda a, b: np.stack([b, a, b]), zeros, trained)
    members = Pool(params, 1, np.zeros(3, np.float32))
    pooled = dataclasses.replace(
        setting,
        inits=inits.pretrained(members, split="held_out"),
        tuning=baselines.Tuning(num_inits=2, inits=inits.pretrained(members)),
    )
    sets = baselines.real_sets(setting, [0])
    score = baselines.trained_on(pooled, sets, sets, key=jax.random.key(0))
    # From weights that are all zero the hidden units never learn.
    dead, alive = score["values"][::2], score["values"][1::2]
    assert dead[0] == dead[1]
    assert alive[0] == alive[1] > dead[0] + 10


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: baselines.Tuning(learning_rates=()), "learning_rates: expected one or more"),
        (
            lambda: baselines.Tuning(learning_rates=(0.1, -1.0)),
            "learning_rates: expected a finite number > 0",
        ),
        (lambda: baselines.Tuning(epochs=(0,)), "epochs: expected a whole number >= 1"),
        (lambda: baselines.Tuning(num_inits=0), "num_inits of the tuning"),
        (lambda: baselines.Selection(num_candidates=3, num_kept=4), "num_candidates: .*>= 4; got 3"),
        (lambda: baselines.Selection(num_images=0), "num_images"),
    ],
)
def test_protocols_that_cannot_be_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_an_unknown_baseline_is_refused(setting):
    with pytest.raises(ValueError, match="Did you mean 'k-means'"):
        baselines.measure(setting, key=jax.random.key(0), seed=0, names=["kmeans"])


def test_a_rate_under_which_every_network_diverges_is_never_chosen(setting):
    """Of a one-sided split such networks were as good as the share of class 0."""
    data, labels = setting.data, setting.data.validation.labels
    rows = np.concatenate([np.flatnonzero(labels == 0)[:16], np.flatnonzero(labels == 1)[:4]])
    split = data.validation.at(rows)
    data = dataclasses.replace(data, validation=split, test=split)
    tuning = baselines.Tuning(learning_rates=(1e30, 0.01), num_inits=2)
    setting = dataclasses.replace(setting, data=data, num_inits=3, tuning=tuning)
    sets = baselines.real_sets(setting, [0])
    assert baselines.tune(setting, sets, key=jax.random.key(0)).lr == 0.01
    hopeless = dataclasses.replace(setting, tuning=dataclasses.replace(tuning, learning_rates=(1e30,)))
    found = baselines.trained_on(hopeless, sets, sets, key=jax.random.key(0))
    assert (found["mean"], found["diverged"], found["n"]) == (0, 3, 3)

"""Selection from the real set, on the embedded digits and, against brute force, on a few points."""

from __future__ import annotations

import functools
import itertools
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ddjax import Recipe, coresets, data, encodings, inits, networks
from ddjax.coresets import features

SELECTIONS = {
    "herding": coresets.herding,
    "k_center": coresets.k_center,
    "facility_location": coresets.facility_location,
    "nearest": coresets.nearest,
}


@pytest.fixture(scope="module")
def pixels(digits):
    return digits.train.encoded().reshape(len(digits.train), -1)


@pytest.fixture(scope="module")
def network():
    return networks.mlp((8, 8, 1), 10, widths=(12,))


@pytest.fixture(scope="module")
def params(network):
    return jax.jit(inits.random(network).sample)(jax.random.key(0))


@pytest.mark.slow
def test_random_real_draws_distinct_images_of_each_class(digits):
    rows = coresets.random_real(digits.train, per_class=7, num_classes=10, seed=3)
    assert rows.shape == (10, 7)
    assert (digits.train.labels[rows] == np.arange(10)[:, None]).all()
    assert len(np.unique(rows)) == 70
    assert np.array_equal(rows, coresets.random_real(digits.train, per_class=7, num_classes=10, seed=3))
    assert not np.array_equal(rows, coresets.random_real(digits.train, per_class=7, num_classes=10, seed=4))


def test_class_means_are_means(digits):
    means = coresets.class_means(digits.train, num_classes=10)
    images = digits.train.encoded()
    assert means.shape == (10, 1, 8, 8, 1)
    np.testing.assert_allclose(means[4, 0], images[digits.train.labels == 4].mean(0), rtol=1e-5, atol=1e-6)


def test_one_centroid_is_the_class_mean(digits):
    centroids = coresets.k_means(digits.train, per_class=1, num_classes=10, seed=0)
    np.testing.assert_allclose(centroids, coresets.class_means(digits.train, num_classes=10), atol=1e-4)


def test_centroids_are_a_fixed_point_of_lloyd_s_iteration(digits):
    centroids = coresets.k_means(digits.train, per_class=3, num_classes=10, seed=0)[6].reshape(3, -1)
    points = digits.train.encoded()[digits.train.labels == 6].reshape(-1, 64)
    nearest = ((points[:, None] - centroids) ** 2).sum(-1).argmin(1)
    moved = np.stack([points[nearest == j].mean(0) for j in range(3)])
    np.testing.assert_allclose(moved, centroids, atol=1e-3)


def test_more_images_than_a_class_has_are_refused(digits):
    smallest = np.bincount(digits.train.labels).min()
    with pytest.raises(ValueError, match=f"expected at most {smallest}, which class"):
        coresets.random_real(digits.train, per_class=1000, num_classes=10, seed=0)
    with pytest.raises(ValueError, match="expected at most"):
        coresets.k_means(digits.train, per_class=1000, num_classes=10, seed=0)
    with pytest.raises(ValueError, match="expected a whole number >= 1"):
        coresets.random_real(digits.train, per_class=0, num_classes=10, seed=0)


# Selections against their definition.


def distances(points):
    return np.sqrt(((points[:, None] - points) ** 2).sum(-1))


def naive_herding(points, count):
    mean, chosen = points.mean(0), []
    for i in range(count):
        left = [j for j in range(len(points)) if j not in chosen]
        aim = mean * (i + 1) - points[chosen].sum(0)
        chosen.append(left[int(np.linalg.norm(points[left] - aim, axis=1).argmin())])
    return chosen


def naive_k_center(points, count):
    chosen = [int(np.linalg.norm(points - points.mean(0), axis=1).argmin())]
    while len(chosen) < count:
        chosen.append(int(distances(points)[:, chosen].min(1).argmax()))
    return chosen


def location(table, chosen):
    """F(S), with the tightest c."""
    return (table.max() - table[:, list(chosen)].min(1)).sum()


def naive_facility_location(points, count):
    table, chosen = distances(points), []
    for _ in range(count):
        left = [j for j in range(len(points)) if j not in chosen]
        chosen.append(max(left, key=lambda j: location(table, [*chosen, j])))
    return chosen


def naive_nearest(points, count):
    return sorted(range(len(points)), key=lambda j: np.linalg.norm(points[j] - points.mean(0)))[:count]


NAIVE = {
    "herding": naive_herding,
    "k_center": naive_k_center,
    "facility_location": naive_facility_location,
    "nearest": naive_nearest,
}


@pytest.mark.parametrize("name", SELECTIONS)
def test_a_selection_is_its_definition_s(name, rng):
    points = rng.normal(3.0, 1.0, size=(40, 5))
    chosen = SELECTIONS[name](points, 9)
    assert chosen.dtype == np.int64
    assert chosen.tolist() == NAIVE[name](points, 9)
    assert SELECTIONS[name](points, 9).tolist() == chosen.tolist()


@pytest.mark.parametrize("name", SELECTIONS)
def test_a_selection_takes_no_point_twice_even_where_points_coincide(name):
    points = np.repeat(np.eye(3), 3, axis=0)
    chosen = SELECTIONS[name](points, 9)
    assert sorted(chosen) == list(range(9))
    # The first three are one of each place: near to all, and their mean is that of all.
    assert name == "nearest" or len({int(one) // 3 for one in chosen[:3]}) == 3


def test_k_center_s_radius_is_at_most_twice_the_best(rng):
    for _ in range(20):
        points = rng.normal(size=(11, 2))
        table = distances(points)
        best = min(table[:, list(one)].min(1).max() for one in itertools.combinations(range(11), 3))
        ours = table[:, coresets.k_center(points, 3)].min(1).max()
        assert best <= ours <= 2 * best


def test_facility_location_reaches_its_share_of_the_best(rng):
    for _ in range(20):
        points = rng.normal(size=(11, 2))
        table = distances(points)
        best = max(location(table, one) for one in itertools.combinations(range(11), 3))
        ours = location(table, coresets.facility_location(points, 3))
        assert (1 - 1 / np.e) * best <= ours <= best * (1 + 1e-9)


def test_the_mean_of_herded_images_approaches_the_class_s(digits, pixels):
    points = pixels[digits.train.labels == 3]
    order = coresets.herding(points, 64)
    errors = [np.linalg.norm(points[order[:m]].mean(0) - points.mean(0)) for m in (1, 2, 4, 8, 16, 32, 64)]
    assert errors == sorted(errors, reverse=True)
    random = np.random.default_rng(0).choice(len(points), 64, replace=False)
    assert errors[-1] < 0.2 * np.linalg.norm(points[random].mean(0) - points.mean(0))


def test_a_selection_stays_within_its_class(digits, pixels):
    rows = coresets.by_class(coresets.herding, pixels, digits.train, per_class=4)
    assert rows.shape == (10, 4)
    assert (digits.train.labels[rows] == np.arange(10)[:, None]).all()
    members = np.flatnonzero(digits.train.labels == 6)
    assert rows[6].tolist() == members[coresets.herding(pixels[members], 4)].tolist()
    images = coresets.images_at(digits.train, rows)
    np.testing.assert_array_equal(images[6, 2], digits.train.encoded()[rows[6, 2]])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["herding", "k_center", "facility_location"])
def test_sixty_thousand_images_take_seconds(name, rng):
    """Ten of each of ten classes; the processor's time on both cores is 0.1, 0.1 and 3 s."""
    labels = np.repeat(np.arange(10), 6000).astype(np.int32)
    one = np.full(1, 0.5, np.float32)
    split = data.Split(np.zeros((60_000, 1, 1, 1), np.uint8), labels, encodings.Channels(one, one))
    points = rng.normal(size=(60_000, 110)).astype(np.float32)
    began = time.process_time()
    rows = coresets.by_class(getattr(coresets, name), points, split, per_class=10)
    assert time.process_time() - began < 20
    assert (labels[rows] == np.arange(10)[:, None]).all()
    assert len(np.unique(rows)) == 100


def test_cluster_sizes_count_the_nearest_of_a_class(digits, pixels):
    rows = coresets.by_class(coresets.k_center, pixels, digits.train, per_class=4)
    sizes = coresets.cluster_sizes(pixels, digits.train, rows)
    assert sizes.sum(1).tolist() == np.bincount(digits.train.labels).tolist()
    points = pixels[digits.train.labels == 2]
    nearest = ((points[:, None] - pixels[rows[2]]) ** 2).sum(-1).argmin(1)
    assert sizes[2].tolist() == np.bincount(nearest, minlength=4).tolist()


# What selections look at.


@pytest.mark.slow
def test_embeddings_are_the_network_s_for_every_image(digits, network, params, monkeypatch):
    monkeypatch.setattr(features, "CHUNK", 500)  # 1,294 images: two whole chunks and a part
    found = coresets.embeddings(network, params, digits.train)
    expected = jax.jit(network.embed)(params, digits.train.encoded())
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_last_layer_gradients_have_the_norm_of_the_gradient(digits, network, params):
    found = coresets.last_layer_gradients(network, params, digits.train)
    x, y = digits.train.encoded()[:20], digits.train.labels[:20]

    @jax.jit
    def expected(params):
        def loss(last, x, y):
            logits = network.apply({**params, "classifier": last}, x[None])[0]
            return optax.softmax_cross_entropy_with_integer_labels(logits, y)

        grads = jax.vmap(jax.grad(loss), (None, 0, 0))(params["classifier"], x, y)
        norms = jnp.sqrt(sum(jnp.sum(leaf.reshape(20, -1) ** 2, 1) for leaf in jax.tree.leaves(grads)))
        return norms, grads["bias"]

    norms, residuals = expected(params)
    np.testing.assert_allclose(np.linalg.norm(found[:20], axis=1), norms, rtol=1e-4)
    direction = found[:20] / np.linalg.norm(found[:20], axis=1, keepdims=True)
    wanted = residuals / jnp.linalg.norm(residuals, axis=1, keepdims=True)
    np.testing.assert_allclose(direction, wanted, rtol=1e-3, atol=1e-5)


def by_hand(x, y, orders, *, lr, momentum):
    """Softmax regression from zero weights, in NumPy: the answers on the way, and the last weights."""
    weights = np.zeros((x.shape[1] + 1, 3))
    velocity, inputs = np.zeros_like(weights), np.concatenate([x, np.ones((len(x), 1))], 1)
    batches = [rows for order in orders for rows in order]
    right = []
    for step, rows in enumerate(batches):
        logits = inputs[rows] @ weights
        right.append((rows, logits.argmax(1) == y[rows]))
        p = np.exp(logits - logits.max(1, keepdims=True))
        grad = inputs[rows].T @ (p / p.sum(1, keepdims=True) - np.eye(3)[y[rows]]) / len(rows)
        velocity = momentum * velocity + grad
        weights = weights - lr * 0.5 * (1 + np.cos(np.pi * step / len(batches))) * velocity
    return right, weights


@pytest.fixture(scope="module")
def few(digits):
    """Thirty images of three classes, some of them with a wrong label."""
    kept = np.flatnonzero(digits.train.labels < 3)[:30]
    labels = digits.train.labels[kept].copy()
    labels[3::5] = (labels[3::5] + 1) % 3
    split = digits.train
    return data.Split(split.images[kept], labels, split.encoding, 3)


@pytest.mark.slow
def test_forgetting_events_are_those_of_a_training_by_hand(few):
    network = networks.mlp((8, 8, 1), 3, widths=())
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), jax.eval_shape(network.init, jax.random.key(0)))
    count = functools.partial(coresets.forgetting, network, epochs=5, batch_size=7, lr=0.3, momentum=0.5)
    found = jax.jit(count)(zeros, data.to_device(few), jax.random.key(5))

    keys = jax.random.split(jax.random.key(5), 5)
    orders = [np.asarray(jax.random.permutation(key, 30))[:28].reshape(4, 7) for key in keys]
    answers, weights = by_hand(
        few.encoded().reshape(30, -1).astype(float), few.labels, orders, lr=0.3, momentum=0.5
    )
    events, last, learned = np.zeros(30, int), np.zeros(30, bool), np.zeros(30, bool)
    for rows, right in answers:
        events[rows] += last[rows] & ~right
        last[rows] = right
        learned[rows] |= right
    assert events.sum() > 5
    assert 20 < learned.sum() < 30
    assert found.events.tolist() == events.tolist()
    assert found.learned.tolist() == learned.tolist()
    np.testing.assert_allclose(found.params["classifier"]["kernel"], weights[:-1], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found.accuracy[-1], 100 * np.mean([right for _, right in answers[-4:]]))
    scores = found.scores
    assert (scores[~learned] == events.max() + 1).all()
    assert (scores[learned] == events[learned]).all()


def test_the_most_forgotten_come_first_and_equals_at_random():
    events = np.array([0, 3, 1, 3, 0, 0, 0])
    chosen = [coresets.most_forgotten(events, 5, seed=seed).tolist() for seed in range(20)]
    assert all(sorted(one[:2]) == [1, 3] and one[2] == 2 for one in chosen)
    assert {tuple(one[:2]) for one in chosen} == {(1, 3), (3, 1)}
    assert {index for one in chosen for index in one[3:]} == {0, 4, 5, 6}
    assert chosen[4] == coresets.most_forgotten(events, 5, seed=4).tolist()


# Weights.


@pytest.mark.slow
def test_weights_are_factors_of_an_image_s_loss(few):
    network = networks.mlp((8, 8, 1), 3, widths=())
    params = jax.jit(inits.random(network).sample)(jax.random.key(0))
    images = np.stack([few.encoded()[few.labels == k][:4] for k in range(3)])
    weights = np.arange(12.0).reshape(3, 4)
    schedule = coresets.weighted_schedule(images, weights)
    recipe = Recipe("train", lr=0.1, momentum=0.0, weight_decay=0.0, epochs=1)
    trained = jax.jit(lambda p, s: recipe.fit(network, p, s, jax.random.key(1)).params)(params, schedule)

    def loss(params):
        logits = network.apply(params, jnp.asarray(images).reshape(12, 8, 8, 1))
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, np.repeat(np.arange(3), 4))
        return jnp.sum(losses * weights.ravel()) / weights.sum()

    expected = jax.tree.map(lambda p, g: p - 0.1 * g, params, jax.jit(jax.grad(loss))(params))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), trained, expected)
    np.testing.assert_array_equal(
        coresets.weighted_schedule(images).labels,
        coresets.weighted_schedule(images, np.full((3, 4), 7)).labels,
    )


NAN = np.full((4, 2), np.nan)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda g: coresets.herding(np.zeros((4, 2)), 5), "count: expected at most the 4 points .* got 5"),
        (lambda g: coresets.k_center(np.zeros((4, 2)), 0), "count: expected a whole number >= 1; got 0"),
        (lambda g: coresets.facility_location(NAN, 1), r"points: expected finite floats \[n, F\]"),
        (lambda g: coresets.herding(np.zeros((4, 2), int), 1), r"got int64\[4, 2\]"),
        (lambda g: coresets.most_forgotten(np.zeros(3), 1, seed=-1), "seed: expected a whole number >= 0"),
        (
            lambda g: coresets.by_class(coresets.herding, np.zeros((4, 2)), g, per_class=1),
            "points: how many: expected 30; got 4",
        ),
        (
            lambda g: coresets.by_class(coresets.herding, np.zeros((30, 2)), g, per_class=31),
            "expected at most .*, which class",
        ),
        (
            lambda g: coresets.cluster_sizes(np.zeros((30, 2)), g, np.zeros((3, 2), int)),
            "rows: expected .* in row k images of class k",
        ),
        (
            lambda g: coresets.weighted_schedule(np.zeros((3, 2, 8, 8, 1)), np.zeros((3, 2))),
            "weights: expected finite numbers, none negative and one positive",
        ),
        (
            lambda g: coresets.weighted_schedule(np.zeros((3, 2, 8, 8, 1)), np.ones(6)),
            r"weights.shape: expected \(3, 2\); got \(6,\)",
        ),
        (
            lambda g: coresets.weighted_schedule(np.zeros((3, 8))),
            "images: expected .* m images of each",
        ),
        (
            lambda g: coresets.embeddings(networks.mlp((4, 4, 1), 3), {}, g),
            r"image shape \(H, W, C\): expected \(4, 4, 1\); got \(8, 8, 1\)",
        ),
        (
            lambda g: coresets.embeddings(
                networks.from_functions(
                    lambda key: {"b": jnp.zeros(3)},
                    lambda p, x: p["b"][None] + x.sum((1, 2, 3))[:, None],
                    (8, 8, 1),
                    3,
                ),
                {},
                g,
            ),
            "custom: expected a network that gives features; it has no embed",
        ),
        (
            lambda g: coresets.last_layer_gradients(networks.mlp((8, 8, 1), 2), {}, g),
            "mlp's number of classes: expected a whole number >= 3; got 2",
        ),
        (
            lambda g: coresets.forgetting(
                networks.mlp((8, 8, 1), 3), {}, data.to_device(g), jax.random.key(0), epochs=1
            ),
            "number of images: expected a whole number >= 64; got 30. Lessen batch_size",
        ),
    ],
)
def test_what_does_not_fit_is_refused(few, action, message):
    with pytest.raises(ValueError, match=message):
        action(few)

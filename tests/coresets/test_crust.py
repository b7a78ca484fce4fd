"""CRUST's gradients and both of its selections, replayed; central selection against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from problems import CLASSES, SHAPE

from ddjax import coresets, networks
from ddjax.data import Split
from ddjax.encodings import Encoded


@pytest.fixture(scope="module")
def golden(reference):
    with np.load(reference / "crust.npz") as file:
        return {name: file[name] for name in file}


@pytest.fixture(scope="module")
def gradients(golden):
    features, kernel, bias = (golden[name].astype(np.float64) for name in ("features", "kernel", "bias"))
    return coresets.feature_gradients(features @ kernel + bias, golden["labels"], kernel)


def of_points(points: np.ndarray, labels: np.ndarray) -> Split:
    return Split(points.reshape(len(points), -1, 1, 1).astype(np.float32), labels, Encoded())


def distances(points: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points[:, None] - points[None], axis=-1)


def test_gradients_of_features(golden, gradients):
    np.testing.assert_allclose(gradients, golden["gradients"], rtol=1e-9, atol=1e-12)


def test_the_released_selection_is_the_central_half_in_its_order(golden, gradients):
    rows = coresets.by_class_share(
        coresets.central, gradients, of_points(gradients, golden["labels"]), share=float(golden["fraction"])
    )
    np.testing.assert_array_equal(golden["labels"][rows], golden["selected_class"])
    np.testing.assert_array_equal(rows, golden["selected_central"])
    purity = (golden["labels"] == golden["true_labels"])[rows].mean()
    np.testing.assert_allclose(purity, golden["purity_central"], rtol=1e-12)


@pytest.mark.parametrize("name", ["central", "greedy"])
def test_neighbours_within_the_radius(golden, gradients, name):
    for k in range(4):
        members = np.flatnonzero(golden["labels"] == k)
        is_class = golden["selected_class"] == k
        chosen = np.searchsorted(members, golden[f"selected_{name}"][is_class])
        found = coresets.neighbours(gradients[members], chosen, radius=float(golden["radius"]))
        np.testing.assert_array_equal(found, golden[f"neighbours_{name}"][is_class])


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_the_paper_s_selection_gains_as_much_as_true_greedy(golden, gradients):
    for k in range(4):
        members = np.flatnonzero(golden["labels"] == k)
        is_class = golden["selected_class"] == k
        points = gradients[members]
        chosen = coresets.facility_location(points, is_class.sum())
        d = distances(points)
        nearest, gains = np.full(len(points), d.max()), []
        for one in chosen:
            closer = np.minimum(nearest, d[one])
            gains.append((nearest - closer).sum())
            nearest = closer
        # The gains, not the positions: equally good points are tied to rounding.
        np.testing.assert_allclose(gains, golden["gains_greedy"][is_class], rtol=1e-9, atol=1e-9)
        sizes = coresets.cluster_sizes(points, of_points(points, np.zeros(len(points), int)), chosen[None])[0]
        assert sizes.sum() == len(points)
        np.testing.assert_array_equal(np.sort(sizes), np.sort(golden["cluster_sizes_greedy"][is_class]))


def test_central_points_are_those_of_brute_force(rng):
    points = rng.normal(size=(1500, 3))  # more than a chunk
    expected = np.argsort(distances(points).sum(1), kind="stable")
    np.testing.assert_array_equal(coresets.central(points, 40), expected[:40])


def test_a_share_is_of_each_class_whatever_its_size(rng):
    labels = np.repeat([0, 1, 2], [100, 7, 1])
    rows = coresets.by_class_share(
        coresets.nearest, rng.normal(size=(108, 2)), of_points(rng.normal(size=(108, 2)), labels), share=0.29
    )
    assert np.bincount(labels[rows]).tolist() == [29, 2, 1]


def test_settings_out_of_range_are_refused(rng):
    points = rng.normal(size=(6, 2))
    split = of_points(points, np.repeat([0, 1], 3))
    for share, message in ((0.0, "share: expected a finite number > 0"), (1.5, "share: expected at most 1")):
        with pytest.raises(ValueError, match=message):
            coresets.by_class_share(coresets.central, points, split, share=share)
    with pytest.raises(ValueError, match="radius: expected"):
        coresets.neighbours(points, np.arange(2), radius=0.0)
    with pytest.raises(ValueError, match="count: expected at most the 6 points"):
        coresets.central(points, 7)


@pytest.mark.slow
def test_the_last_layer_is_found_by_what_it_does():
    import jax

    network = networks.mlp(SHAPE, CLASSES, widths=(CLASSES, CLASSES))  # three layers of nearly one shape
    params = jax.jit(network.init)(jax.random.key(0))
    np.testing.assert_array_equal(coresets.last_layer_kernel(network, params), params["classifier"]["kernel"])


def test_a_network_without_a_dense_last_layer_is_refused():
    import jax
    import jax.numpy as jnp

    network = networks.from_functions(
        lambda key: {"kernel": jnp.ones((64, CLASSES))},
        lambda params, x: jnp.tanh(x.reshape(len(x), -1) @ params["kernel"]),
        SHAPE,
        CLASSES,
        embed=lambda params, x: x.reshape(len(x), -1),
    )
    with pytest.raises(ValueError, match=r"expected a dense last layer .* Use last_layer_gradients"):
        coresets.last_layer_kernel(network, network.init(jax.random.key(0)))

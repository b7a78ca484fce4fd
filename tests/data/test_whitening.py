"""Tests of `ddjax.data.whitening`: against the recorded whitening, and against scikit-learn's parts."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from ddjax.data import to_device, zca
from ddjax.data.dataset import Split
from ddjax.data.whitening import WHITENINGS, fitted
from ddjax.encodings import Channels


def split_of(images: np.ndarray) -> Split:
    channels = images.shape[-1]
    encoding = Channels(np.zeros(channels, np.float32), np.ones(channels, np.float32))
    return Split(images, np.zeros(len(images), np.int32), encoding, 1)


@pytest.fixture(scope="module")
def recorded(reference) -> np.lib.npyio.NpzFile:
    return np.load(reference / "zca.npz")


def test_the_recorded_whitening_is_replayed(recorded, monkeypatch):
    # The arrays are kept in float32 at the end; the values are compared before that.
    monkeypatch.setattr(np, "float32", np.float64)
    found = zca(split_of(recorded["images"]), penalty=float(recorded["eps"]))
    monkeypatch.undo()
    for name in ("mean", "matrix", "inverse"):
        np.testing.assert_allclose(getattr(found, name), recorded[name], rtol=1e-10, atol=1e-12)
    whitened = found.encode(recorded["test_images"])
    np.testing.assert_allclose(whitened, recorded["whitened"], rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(found.decode(whitened), recorded["restored"], rtol=1e-10, atol=1e-10)


def test_the_standardised_whitening_is_that_of_standardised_pixels(recorded):
    images = recorded["images"]
    found = zca(split_of(images), penalty=0.1, standardised=True)
    pixels = images / 255
    standard = (pixels - pixels.mean((0, 1, 2))) / pixels.std((0, 1, 2))
    flat = standard.reshape(len(images), -1)
    covariance = np.cov(flat.T)
    shift = 0.1 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    left, values, right = np.linalg.svd(covariance + shift)
    expected = (flat - flat.mean(0)) @ ((left / np.sqrt(values)) @ right)
    ours = found.encode(images).reshape(len(images), -1)
    np.testing.assert_allclose(ours, expected, atol=2e-4)
    np.testing.assert_allclose(found.decode(found.encode(images)), pixels, atol=1e-5)


def test_what_cannot_be_whitened_is_refused(recorded):
    images = recorded["images"]
    with pytest.raises(ValueError, match="penalty: expected"):
        zca(split_of(images), penalty=0.0)
    with pytest.raises(ValueError, match="number of images: expected"):
        zca(split_of(images[:1]))
    with pytest.raises(ValueError, match="expected images that differ"):
        zca(split_of(np.full((3, 2, 2, 1), 7, np.uint8)))


@pytest.mark.parametrize("standardised", [True, False])
def test_constant_pixels_stay_finite(standardised, rng):
    images = rng.integers(0, 255, (5, 2, 2, 2), np.uint8)
    images[:, 0] = 7  # two pixels
    images[..., 1] = 9  # a channel
    found = zca(split_of(images), standardised=standardised)
    assert all(np.isfinite(part).all() for part in (found.mean, found.matrix, found.inverse))
    np.testing.assert_allclose(found.decode(found.encode(images)), images / 255, atol=1e-4)


def test_a_published_whitening_is_fitted_once(recorded, tmp_path, monkeypatch):
    monkeypatch.setenv("DDJAX_CACHE_DIR", str(tmp_path))
    split = split_of(recorded["images"])
    found = fitted(split, "zca_standardised")
    wanted = zca(split, **WHITENINGS["zca_standardised"])
    monkeypatch.setattr("ddjax.data.whitening.zca", None)
    again = fitted(split, "zca_standardised")
    for name in ("mean", "matrix", "inverse"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))
        np.testing.assert_array_equal(getattr(again, name), getattr(wanted, name))
    with pytest.raises(ValueError, match="whitening: expected one of zca, zca_standardised"):
        fitted(split, "pca")


def test_whitened_images_are_encoded_ahead_on_the_device(recorded):
    split = split_of(recorded["images"])
    split = dataclasses.replace(split, encoding=zca(split))
    on_device = to_device(split)
    rows = jnp.array([2, 0])
    np.testing.assert_allclose(
        on_device.inputs_at(rows), split.encoded()[np.asarray(rows)], rtol=1e-5, atol=1e-6
    )
    assert on_device.input_shape == split.input_shape
    assert on_device.encoding.decode(on_device.raw) is on_device.raw


def test_a_whitening_of_other_channels_is_refused(recorded):
    encoding = zca(split_of(recorded["images"]))
    grey = recorded["images"][..., :1]
    with pytest.raises(ValueError, match="expected a finite whitening of"):
        encoding.check(grey)

"""Fitting of whitenings: the map after which the pixels of training images are nearly uncorrelated (ZCA)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from ddjax import checks
from ddjax.data import cache
from ddjax.data.dataset import Split
from ddjax.encodings import Whitened

WHITENINGS: Mapping[str, Mapping[str, Any]] = {
    "zca": {"penalty": 0.1},
    "zca_standardised": {"penalty": 0.1, "standardised": True},
}
"""The published whitenings by name, as arguments of `zca`."""

_CHUNK = 1024  # images at a time: bounds the memory of the covariance


def zca(split: Split, *, penalty: float = 0.1, standardised: bool = False) -> Whitened:
    """The zero-phase whitening of a split of images, fitted in float64.

        C = cov(pixel / 255) = U S Uᵀ,   W = U (S + λ)^(-1/2) Uᵀ

    With `standardised`, each channel is first brought to mean 0 and standard deviation 1, and λ is relative
    to the mean variance, λ tr(C)/F. The penalty is large on purpose, so that noise is not blown up; whitened
    pixels have a standard deviation below one.

    Args:
        split: the images to fit on, which should be those of training.
        penalty: λ, the number that is added to the variances.
        standardised: the choice between the whitening of trajectory matching (False) and that of FRePo and
            RFAD (True).

    Returns:
        The encoding, with arrays of float32; `data.encoded_by` applies it to all splits.

    Raises:
        ValueError: the split holds no images or fewer than two, all images are equal, or the penalty is not
            positive.

    References:
        Cazenavette et al. 2022, arXiv 2203.11932, appendix (λ 0.1, absolute). Zhou et al. 2022, arXiv
        2206.00719, appendix (λ 0.1, relative, after standardisation).
    """
    images = split.images
    checks.positive("penalty", penalty)
    checks.at_least("number of images", len(images), 2)
    mean, covariance = _moments(images.reshape(len(images), -1))
    if not covariance.any():
        raise ValueError("split: expected images that differ from one another; got equal ones. Give others.")
    scale = np.ones(len(mean))
    if standardised:
        channels = images.shape[-1]
        variance = np.diag(covariance).reshape(-1, channels) * (1 - 1 / len(images))
        centres = mean.reshape(-1, channels)
        # The variance of all pixels of a channel: within places, and between their means.
        per_channel = np.sqrt(variance.mean(0) + centres.var(0))
        scale = np.tile(np.where(per_channel > 0, per_channel, 1), len(centres))
        covariance = covariance / np.outer(scale, scale)
        penalty = penalty * float(np.trace(covariance)) / len(mean)
    variances, axes = np.linalg.eigh(covariance)
    roots = np.sqrt(np.maximum(variances, 0) + penalty)
    matrix = (axes / roots) @ axes.T / scale[:, None]
    inverse = (axes * roots) @ axes.T * scale
    return Whitened(*(part.astype(np.float32) for part in (mean, matrix, inverse)))


def fitted(split: Split, name: str) -> Whitened:
    """A published whitening, fitted on a split or read from the cache of an earlier fit.

    Args:
        split: the images to fit on, which should be those of training.
        name: the name of the whitening, one of `WHITENINGS`.

    Returns:
        The encoding.

    Raises:
        ValueError: an unknown name, or see `zca`.
    """
    checks.choice("whitening", name, WHITENINGS)
    checks.kind("split", split, Split, remedy="Give the training split of a data set.")
    images = np.ascontiguousarray(split.images)
    total = hashlib.sha256(f"{name} {images.shape} {WHITENINGS[name]}".encode())
    total.update(images.data)

    def fit() -> dict[str, np.ndarray]:
        found = zca(split, **WHITENINGS[name])
        return {"mean": found.mean, "matrix": found.matrix, "inverse": found.inverse}

    return Whitened(**cache.arrays(f"whitening-{total.hexdigest()[:32]}", fit))


def _moments(flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean and the unbiased covariance of pixel / 255, float64, of `[n, F]` uint8."""
    count, size = flat.shape
    mean = flat.mean(0, dtype=np.float64) / 255
    products = np.zeros((size, size))
    for start in range(0, count, _CHUNK):
        centred = flat[start : start + _CHUNK] / 255 - mean
        products += centred.T @ centred
    return mean, products / (count - 1)

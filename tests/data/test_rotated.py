"""Turned images: each by its own angle, the same at every call, and a digest that says so."""

from __future__ import annotations

import numpy as np
import pytest
from problems import three_digits
from scipy import ndimage

from ddjax import data


def test_every_image_is_turned_by_an_angle_of_its_own():
    before = three_digits()
    after = data.rotated(before, 40.0)
    image, found = before.test.images[5, ..., 0].astype(float), after.test.images[5, ..., 0]
    turned = {
        degrees: ndimage.rotate(image, degrees, reshape=False, order=1, mode="grid-constant")
        for degrees in np.linspace(-40, 40, 161)
    }
    errors = {degrees: np.abs(one - found).mean() for degrees, one in turned.items()}
    nearest = min(errors, key=lambda degrees: errors[degrees])
    assert errors[nearest] < 2
    assert errors[0.0] > 3 * errors[nearest]
    np.testing.assert_array_equal(after.test.labels, before.test.labels)
    assert after.origin.form == ({"rotated": 40.0},)


def test_the_same_angles_come_at_every_call_and_other_ones_in_other_splits():
    before = three_digits()
    first, second = (data.rotated(before, 90.0) for _ in range(2))
    assert data.digests(first) == data.digests(second)
    assert data.digest(first.test) != data.digest(before.test)


def test_an_angle_that_is_none_is_refused():
    with pytest.raises(ValueError, match="rotated: expected a finite number > 0"):
        data.rotated(three_digits(), 0.0)

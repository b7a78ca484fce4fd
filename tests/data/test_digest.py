"""Tests of `ddjax.data.digest`."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ddjax.data import digest, digests
from ddjax.data.dataset import Split
from ddjax.encodings import Channels

RAW = np.arange(32, dtype=np.uint8).reshape(2, 4, 4, 1)
BASE = Split(RAW, np.array([0, 1], np.int32), Channels(np.zeros(1, np.float32), np.ones(1, np.float32)), 2)
OTHER = Channels(np.zeros(1, np.float32), np.full(1, 2, np.float32))

CHANGES = {
    "a pixel": {"raw": np.where(RAW == 5, 6, RAW).astype(np.uint8)},
    "the order of the examples": {"raw": RAW[::-1].copy()},
    "the shape of the images": {"raw": RAW.reshape(2, 2, 8, 1)},
    "a label": {"labels": np.array([1, 1], np.int32)},
    "the number of classes": {"num_classes": 3},
    "the encoding": {"encoding": OTHER},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_other_data_have_another_digest(change):
    assert digest(dataclasses.replace(BASE, **change)) != digest(BASE)


def test_how_equal_arrays_lie_in_memory_does_not_count():
    strided = np.repeat(RAW, 2, axis=0)[::2]
    big = BASE.labels.astype(BASE.labels.dtype.newbyteorder(">"))
    assert digest(dataclasses.replace(BASE, raw=strided, labels=big)) == digest(BASE)


def test_each_split_has_its_own(digits):
    found = digests(digits)
    assert sorted(found) == ["test", "train", "validation"]
    assert len(set(found.values())) == 3
    assert found["train"] == digest(digits.train)

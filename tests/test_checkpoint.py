"""Checkpoints: whole or not at all, and damage is noticed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ddjax.checkpoint import Store


def tree(value: float) -> dict:
    return {"a": np.full((3, 4), value, np.float32), "b": (np.int32(value), np.array([True, False]))}


@pytest.fixture
def store(tmp_path) -> Store:
    store = Store(tmp_path / "checkpoints")
    store.save(1, tree(1))
    store.save(2, tree(2))
    return store


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    position = data.index(np.full(12, 2, np.float32).tobytes())
    data[position + 5] ^= 1
    path.write_bytes(data)


DAMAGE = {
    "bit flipped": flip_a_bit,
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-40]),
    "emptied": lambda path: path.write_bytes(b""),
}


def test_the_newest_comes_back_bit_for_bit(store):
    restored = store.restore(tree(0))
    assert restored["a"].dtype == np.float32
    assert np.array_equal(restored["a"], tree(2)["a"])
    assert restored["b"][0] == 2
    assert restored["b"][1].tolist() == [True, False]


def test_only_the_newest_are_kept(store):
    store.save(10, tree(10))
    assert [path.stem for path in store.paths()] == ["step_00000010", "step_00000002"]


def test_an_empty_directory_has_nothing(tmp_path):
    assert Store(tmp_path / "none").restore(tree(0)) is None


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named_and_the_one_before_is_used(store, damage):
    DAMAGE[damage](store.paths()[0])
    with pytest.warns(UserWarning, match="step_00000002.npz is damaged"):
        restored = store.restore(tree(0))
    assert np.array_equal(restored["a"], tree(1)["a"])


def test_all_damaged_is_an_error_and_nothing_is_overwritten(store):
    for path in store.paths():
        path.write_bytes(b"rot")
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(OSError, match="every checkpoint"):
        store.restore(tree(0))
    assert [path.read_bytes() for path in store.paths()] == [b"rot", b"rot"]


@pytest.mark.parametrize(
    "template",
    [
        {"a": np.zeros((3, 5), np.float32), "b": (np.int32(0), np.zeros(2, bool))},
        {"a": np.zeros((3, 4), np.float64), "b": (np.int32(0), np.zeros(2, bool))},
        {"a": np.zeros((3, 4), np.float32)},
        {"a": np.zeros((3, 4), np.float32), "b": (np.int32(0), np.zeros(2, bool)), "c": np.zeros(1)},
    ],
)
def test_another_structure_is_refused(store, template):
    with pytest.raises(ValueError, match="run with other settings"):
        store.restore(template)

"""The cache: whole or not at all, checked on reading, never in the way."""

import os
import warnings
from pathlib import Path

import numpy as np
import pytest

from ddjax.data import cache
from ddjax.data.arrays import RawArrays

RAW = RawArrays(
    np.arange(3 * 2 * 2, dtype=np.uint8).reshape(3, 2, 2, 1),
    np.array([0, 1, 0], np.int32),
    np.ones((2, 2, 2, 1), np.uint8),
    np.array([1, 0], np.int32),
    ("ant", "bœuf"),
)


class Decoder:
    """Counts how often the source is decoded."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return RAW


def assert_same(got):
    for mine, theirs in zip(RAW[:4], got[:4], strict=True):
        np.testing.assert_array_equal(mine, theirs)
        assert mine.dtype == theirs.dtype
    assert got.class_names == RAW.class_names


def test_decodes_once_and_leaves_one_file(cache_dir):
    decoder = Decoder()
    for _ in range(3):
        assert_same(cache.cached("toy", decoder))
    assert decoder.calls == 1
    assert [path.name for path in (cache_dir / "data").iterdir()] == ["toy.npz"]


def test_another_key_decodes_again():
    decoder = Decoder()
    cache.cached("toy-1", decoder)
    cache.cached("toy-2", decoder)
    assert decoder.calls == 2


def test_the_file_holds_plain_arrays(cache_dir):
    cache.cached("toy", Decoder())
    with np.load(cache_dir / "data" / "toy.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["x_train"], RAW.x_train)


@pytest.mark.slow
def test_a_damaged_byte_is_harmless_wherever_it_is(cache_dir):
    """Flip every fifth byte of the file in turn: the arrays are right in any case."""
    cache.cached("toy", Decoder())
    path = cache_dir / "data" / "toy.npz"
    whole = path.read_bytes()
    noticed = 0
    positions = range(0, len(whole), 5)
    for position in positions:
        damaged = bytearray(whole)
        damaged[position] ^= 0x55
        path.write_bytes(damaged)
        decoder = Decoder()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert_same(cache.cached("toy", decoder))
        assert decoder.calls == bool(caught), position
        noticed += decoder.calls
    assert noticed > len(positions) / 2  # the rest are fields of the zip format that hold no data


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04", b"\x80\x04K\x01."])
def test_a_file_that_is_something_else_is_replaced(cache_dir, content):
    path = cache_dir / "data" / "toy.npz"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="cache is damaged"):
        cache.cached("toy", Decoder())
    decoder = Decoder()
    assert_same(cache.cached("toy", decoder))
    assert decoder.calls == 0


def test_exchanged_arrays_are_noticed(cache_dir):
    cache.cached("toy", Decoder())
    path = cache_dir / "data" / "toy.npz"
    with np.load(path) as file:
        members = dict(file)
    members["y_test"] = members["y_test"][::-1]
    np.savez(path, **members)
    with pytest.warns(UserWarning, match="SHA-256"):
        assert_same(cache.cached("toy", Decoder()))


def test_an_unwritable_directory_only_warns(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DDJAX_CACHE_DIR", str(tmp_path / "file" / "below"))
    with pytest.warns(UserWarning, match="Point DDJAX_CACHE_DIR at a directory that can be written"):
        assert_same(cache.cached("toy", Decoder()))


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_an_interrupted_write_leaves_nothing(cache_dir, monkeypatch, broken):
    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, broken, fail)
    with pytest.warns(UserWarning, match="could not be cached"):
        assert_same(cache.cached("toy", Decoder()))
    assert list((cache_dir / "data").iterdir()) == []


def test_the_directory_follows_the_environment(monkeypatch):
    monkeypatch.setenv("DDJAX_CACHE_DIR", "~/mine")
    assert cache.directory() == Path.home() / "mine"
    monkeypatch.delenv("DDJAX_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", "/shared")
    assert cache.directory() == Path("/shared/ddjax")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.directory() == Path.home() / ".cache" / "ddjax"

"""Tests of ddjax.files: the new content or the old, nothing between and nothing beside."""

import os
import stat

import numpy as np
import pytest

from ddjax import files


def test_writes_bytes_and_replaces(tmp_path):
    path = tmp_path / "a.bin"
    files.write_atomic(path, b"old")
    files.write_atomic(str(path), b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_writes_through_a_function(tmp_path):
    path = tmp_path / "a.npz"
    files.write_atomic(path, lambda file: np.savez(file, x=np.arange(3)))
    with np.load(path) as loaded:
        np.testing.assert_array_equal(loaded["x"], [0, 1, 2])


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_failure_leaves_the_old_content_and_no_litter(tmp_path, error):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def fail_half_way(file):
        file.write(b"half")
        raise error

    with pytest.raises(error):
        files.write_atomic(path, fail_half_way)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_failing_rename_leaves_no_litter(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        files.write_atomic(tmp_path / "taken", b"new")
    assert os.listdir(tmp_path) == ["taken"]


def test_missing_directory_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        files.write_atomic(tmp_path / "nowhere" / "a.bin", b"new")


def test_a_new_file_has_the_usual_permissions(tmp_path):
    (tmp_path / "usual").write_bytes(b"")
    files.write_atomic(tmp_path / "atomic", b"")
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("usual", "atomic")}
    assert len(modes) == 1

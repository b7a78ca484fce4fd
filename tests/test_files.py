"""Tests of ddjax.files: the new content or the old, nothing between and nothing beside."""

import contextlib
import os
import resource
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


@contextlib.contextmanager
def small_files():
    """No file of this process may grow beyond 1 KiB: the kernel says so, as a full disk would.

    Only around the calls that are meant to meet it: pytest's own report may go to a file too.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_no_room_leaves_the_old_content_and_says_how_much_is_needed(tmp_path):
    path = tmp_path / "a.bin"
    files.write_atomic(path, b"old")
    with (
        pytest.raises(files.WriteError, match=r"a\.bin: expected room for 5,000 bytes; got File too large"),
        small_files(),
    ):
        files.write_atomic(path, bytes(5000))
    with pytest.raises(files.WriteError, match=r"a\.bin: expected more room"), small_files():
        files.write_atomic(path, lambda file: file.write(bytes(5000)))
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_appending_says_so_too(tmp_path):
    path = tmp_path / "lines"
    with path.open("ab", buffering=0) as file:
        files.append(path, file.fileno(), bytes(1000))
        with (
            pytest.raises(files.WriteError, match="lines: expected room for 1,000 bytes"),
            small_files(),
        ):
            files.append(path, file.fileno(), bytes(1000))


def test_room_is_looked_for_before_it_is_needed(tmp_path):
    with small_files():
        files.check_room(tmp_path, 1024)
        with pytest.raises(files.WriteError, match=f"{tmp_path}: expected room for 1,025 bytes"):
            files.check_room(tmp_path, 1025)
    assert os.listdir(tmp_path) == []


def test_a_system_that_reserves_nothing_is_asked_what_is_free(tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(files.errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(files.os, "posix_fallocate", unsupported)
    files.check_room(tmp_path, 1024)
    with pytest.raises(files.WriteError, match="expected room for 1,152,921,504,606,846,976 bytes"):
        files.check_room(tmp_path, 2**60)
    assert os.listdir(tmp_path) == []


def test_a_directory_that_cannot_be_synced_is_no_error(tmp_path, monkeypatch):
    real = os.fsync

    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(files.errno.EINVAL, "Invalid argument")
        real(descriptor)

    monkeypatch.setattr(files.os, "fsync", fsync)
    files.write_atomic(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"


def test_every_directory_that_is_made_is_synced_into_the_one_above(tmp_path, monkeypatch):
    real, synced = os.fsync, []

    def fsync(descriptor):
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real(descriptor)

    monkeypatch.setattr(files.os, "fsync", fsync)
    files.make_directory(tmp_path / "a" / "b" / "c")
    assert synced == [str(tmp_path / "a" / "b"), str(tmp_path / "a"), str(tmp_path)]
    files.make_directory(tmp_path / "a" / "b")
    assert len(synced) == 3


def test_a_device_that_is_always_full(tmp_path):
    with open("/dev/full", "ab", buffering=0) as file, pytest.raises(files.WriteError, match="No space left"):
        files.append("/dev/full", file.fileno(), b"x")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_directory_that_cannot_be_written(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(files.WriteError, match="expected a place that can be written"):
        files.write_atomic(tmp_path / "a", b"")
    tmp_path.chmod(0o700)


def test_only_temporaries_are_removed(tmp_path):
    names = {
        ".a.npz.0123abcd.tmp": False,
        ".a.npz.tmp": True,
        "a.0123abcd.tmp": True,
        ".b.0123abcg.tmp": True,
    }
    for name in names:
        (tmp_path / name).touch()
    files.remove_temporaries(tmp_path)
    assert set(os.listdir(tmp_path)) == {name for name, stays in names.items() if stays}

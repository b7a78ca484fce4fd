"""The lock: one holder at a time, and none after its process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ddjax import workdir

ROOT = Path(__file__).resolve().parents[1]

HOLD = """
import sys, time
from ddjax import workdir
with workdir.locked(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_directory_has_one_holder(tmp_path):
    folder = tmp_path / "a" / "b"
    with workdir.locked(folder):
        with pytest.raises(workdir.InUseError, match=f"in use by process {os.getpid()} on"):
            workdir.locked(folder).__enter__()
        assert (folder / workdir.LOCK).exists()
    assert list(folder.iterdir()) == []
    with workdir.locked(folder):
        pass


@pytest.mark.slow
def test_another_process_is_met_at_once_and_a_dead_one_never(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match=f"in use by process {process.pid} on .*Wait for its end"):
            workdir.locked(tmp_path).__enter__()
    finally:
        process.kill()
        process.communicate()
    assert (tmp_path / workdir.LOCK).exists()
    with workdir.locked(tmp_path):
        pass


def test_a_lock_that_was_removed_meanwhile_is_asked_for_again(tmp_path, monkeypatch):
    """Between opening the file and locking it, its holder may have ended and removed it."""
    assert workdir.fcntl is not None
    real, calls = workdir.fcntl.flock, []

    def flock(descriptor, operation):
        if not calls:
            (tmp_path / workdir.LOCK).unlink()
        calls.append(descriptor)
        real(descriptor, operation)

    monkeypatch.setattr(workdir.fcntl, "flock", flock)
    with workdir.locked(tmp_path):
        assert len(calls) == 2
        assert (tmp_path / workdir.LOCK).exists()


def test_a_file_system_without_locks_is_warned_of(tmp_path, monkeypatch):
    def flock(descriptor, operation):
        raise OSError(workdir.errno.ENOLCK, "No locks available")

    monkeypatch.setattr(workdir.fcntl, "flock", flock)
    with pytest.warns(UserWarning, match="no lock"), workdir.locked(tmp_path):
        pass


def test_a_holder_that_cannot_sign_for_want_of_room_holds_and_lets_go(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(workdir.errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(workdir.os, "pwrite", full)
        with workdir.locked(tmp_path), pytest.raises(workdir.InUseError, match="in use by another process"):
            workdir.locked(tmp_path).__enter__()
    with workdir.locked(tmp_path):
        pass


def test_a_place_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        ValueError, match=r"run: expected a directory; .*file is a file\. Choose another place"
    ):
        workdir.locked(tmp_path / "file" / "run").__enter__()

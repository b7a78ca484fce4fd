"""One run in each work directory: a lock that refuses a second process at once and ends with its holder."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path

from ddjax import parallel
from ddjax.files import StrPath, explained, make_directory

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None

LOCK = ".lock"
"""The name of the lock's file, which exists while the directory is in use, and stays after a kill."""

_NO_LOCKS_HERE = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})


class InUseError(ValueError):
    """Another process works in the directory."""


@contextlib.contextmanager
def locked(directory: StrPath) -> Iterator[None]:
    """Keep other processes out of a directory inside a `with` block; the directory is made where missing.

    The operating system holds the lock (`flock`), so that the lock ends with the process, also when the
    process is killed, and a file that a killed process left blocks nobody. On NFS the lock holds between
    machines where the mount has locking, which is the default; mounted with `nolock` or `local_lock` NFS
    holds the lock between the processes of one machine only. Where a file system has no locks, a warning says
    so and the block runs without a lock.

    Args:
        directory: the directory to lock.

    Raises:
        InUseError: another process, or another block of this process, holds the lock.
        ValueError: a file has the name of the directory.
        WriteError: the directory cannot be made or written.
    """
    directory = Path(directory)
    path = directory / LOCK
    try:
        make_directory(directory)
        descriptor = _acquire(path)
    except OSError as error:
        raise explained(directory, error) from error
    try:
        yield
    finally:
        if descriptor is not None:
            with contextlib.suppress(OSError):  # a file that cannot be removed blocks nobody
                path.unlink(missing_ok=True)  # while the lock is held, so that the file is nobody else's
            os.close(descriptor)


@contextlib.contextmanager
def held(directory: StrPath) -> Iterator[None]:
    """Keep other runs out of a directory inside a `with` block, for a run of one or several processes.

    Process 0 holds the lock (`locked`) for all processes of the run. Collective: every process must enter.

    Args:
        directory: the directory to lock.

    Raises:
        InUseError: in process 0, another run holds the lock.
        PeerError: in the other processes, process 0 could not get the lock.
    """
    with contextlib.ExitStack() as stack:
        parallel.together(lambda: stack.enter_context(locked(directory)) if parallel.is_lead() else None)
        yield


def _acquire(path: Path) -> int | None:
    """The descriptor of an open, locked file at `path`; None where the system has no locks."""
    if fcntl is None:
        return None
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another process"
            os.close(descriptor)
            if error.errno in _NO_LOCKS_HERE:
                warnings.warn(f"{path}: no lock ({error}); see that no other run uses it.", stacklevel=4)
                return None
            if not isinstance(error, BlockingIOError):
                raise
            raise InUseError(
                f"workdir: expected a directory that no other run uses; {path.parent} is in use by {holder}. "
                "Wait for its end, or choose another directory."
            ) from error
        if _is_at(descriptor, path):
            _sign(descriptor)
            return descriptor
        os.close(descriptor)  # the holder removed the file after it had been opened here


def _sign(descriptor: int) -> None:
    """Write into the lock's file who holds the lock, where the disk has room for that."""
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


__all__ = ["LOCK", "InUseError", "held", "locked"]

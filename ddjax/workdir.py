"""One work directory, one run: a lock that a second process meets at once, and that no dead one holds."""

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
"""The file's name inside the directory; it is there only while the directory is in use, or after a kill."""

_NO_LOCKS_HERE = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})


class InUseError(ValueError):
    """Another process works in the directory."""


@contextlib.contextmanager
def locked(directory: StrPath) -> Iterator[None]:
    """Keep other processes out of a directory inside a `with` block; the directory is made where missing.

    The lock is the operating system's (`flock`), so that it ends with its process however that ends, and a
    file left behind by a killed one blocks nobody. On NFS it holds between machines where the mount has
    locking, which is the default; mounted with `nolock` or `local_lock` it holds between the processes of one
    machine only. Where a file system has no locks, a warning says so and the block runs without.

    Args:
        directory: to lock.

    Raises:
        InUseError: another process, or another block of this one, holds it.
        ValueError: a file is in its place.
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
            with contextlib.suppress(OSError):  # a file that stays blocks nobody
                path.unlink(missing_ok=True)  # while it is still held: nobody else's file can be there
            os.close(descriptor)


@contextlib.contextmanager
def held(directory: StrPath) -> Iterator[None]:
    """`locked`, where there are several processes by the first of them for all. Collective.

    Raises:
        InUseError: as `locked`, in process 0.
        PeerError: the same, in the others.
    """
    with contextlib.ExitStack() as stack:
        parallel.together(lambda: stack.enter_context(locked(directory)) if parallel.is_lead() else None)
        yield


def _acquire(path: Path) -> int | None:
    """An open, locked file at `path`; None where there are no locks."""
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
        os.close(descriptor)  # its holder removed it after we had opened it


def _sign(descriptor: int) -> None:
    """Say who holds the lock, where the disk has room for that."""
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


__all__ = ["LOCK", "InUseError", "held", "locked"]

"""Files that exist whole or not at all: written beside their name, synced to disk, then renamed over it."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

StrPath = str | os.PathLike[str]

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")

_NOT_SUPPORTED = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
"""What file systems say that cannot sync a directory or reserve room."""

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NOT_ALLOWED = frozenset({errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO})


class WriteError(OSError):
    """A file could not be written; the message names it, and the room that it needs where that is lacking."""


def write_atomic(path: StrPath, data: bytes | Callable[[BinaryIO], object]) -> None:
    """Write a file so that a reader, or a crash, meets the old content or the new, never a part.

    Args:
        path: where; its directory exists.
        data: the content, or a function that writes it to the binary file it is handed, e.g.
            `lambda file: numpy.savez(file, **arrays)`.

    Raises:
        WriteError: the disk is full or cannot be written; `path` is as it was.
        FileNotFoundError: the directory is missing.
        Exception: whatever `data` raises; `path` is as it was.
    """
    path = Path(path)
    temporary = _temporary(path)
    try:
        with _opened(temporary) as file:
            if callable(data):
                data(file)
            else:
                file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise explained(path, error, None if callable(data) else len(data)) from error
    finally:
        _discard(temporary)
    _sync_directory(path.parent)


def make_directory(path: StrPath) -> None:
    """Make a directory, and those above it, where they are missing; they survive a power cut.

    Raises:
        ValueError: a file is in the way.
        OSError: it cannot be made.
    """
    path = Path(path)
    there = next(known for known in (path, *path.parents) if known.exists())
    if not there.is_dir():
        raise ValueError(f"{path}: expected a directory; {there} is a file. Choose another place.")
    if there == path:
        return
    path.mkdir(parents=True, exist_ok=True)
    for made in (path, *path.parents):
        if made == there:
            break
        _sync_directory(made.parent)


def append(path: StrPath, descriptor: int, data: bytes) -> None:
    """Write bytes at the end of an open file, all of them.

    Args:
        path: how the error calls the file.
        descriptor: of the file, opened to append.
        data: the bytes.

    Raises:
        WriteError: the disk is full or cannot be written; a part may stand at the file's end.
    """
    written = 0
    try:
        while written < len(data):
            written += os.write(descriptor, data[written:])
    except OSError as error:
        raise explained(Path(path), error, len(data)) from error


def check_room(directory: StrPath, size: int) -> None:
    """Find out now whether a directory can be written and has room for so many bytes.

    A file of that size is reserved and removed: quotas, limits on a file's size and read-only disks are
    met as the real file would meet them.

    Args:
        directory: an existing one.
        size: bytes, one or more.

    Raises:
        WriteError: it cannot be written, or has no room.
    """
    temporary = _temporary(Path(directory) / "room")
    try:
        with _opened(temporary) as file:
            if not _reserved(file.fileno(), size) and shutil.disk_usage(directory).free < size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        raise explained(Path(directory), error, size) from error
    finally:
        _discard(temporary)


def _reserved(descriptor: int, size: int) -> bool:
    """Whether the system reserves room for a file, and has done so.

    Raises:
        OSError: there is no room.
    """
    if not hasattr(os, "posix_fallocate"):
        return False
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise
        return False
    return True


def remove_temporaries(directory: StrPath) -> None:
    """Remove what writers that were killed left in a directory; nobody else may be writing there."""
    for path in Path(directory).glob(".*.tmp"):
        if is_temporary(path):
            path.unlink(missing_ok=True)


def is_temporary(path: StrPath) -> bool:
    """Whether a file bears the name of one that is being written, or that a killed writer left."""
    return _TEMPORARY.fullmatch(Path(path).name) is not None


def _opened(temporary: Path) -> BinaryIO:
    try:
        return temporary.open("xb")
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{temporary.parent}: expected a directory to write to; there is none. Make it, or "
            "choose another."
        ) from error


def _discard(temporary: Path) -> None:
    """Remove what was not renamed; where that fails too, the error that came first says more."""
    with contextlib.suppress(OSError):
        temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    """A name beside `path`, of its own each time, so that two writers never share a half-written file.

    In the same directory, because a rename is atomic within one file system only.
    """
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def explained(path: Path, error: OSError, size: int | None = None) -> OSError:
    """The error with the path, the room needed and the remedy, where it is one of the disk's.

    Args:
        path: what could not be written.
        error: why not.
        size: the bytes that it needs, where they are known.

    Returns:
        A `WriteError`, or the error itself where there is no more to say.
    """
    if error.errno in _NO_ROOM:
        needed = "more room" if size is None else f"room for {size:,} bytes"
        free = shutil.disk_usage(path if path.is_dir() else path.parent).free
        return WriteError(
            f"{path}: expected {needed}; got {error.strerror} ({free:,} bytes are free there). What was "
            "there is untouched; make room, then start the same run again."
        )
    if error.errno in _NOT_ALLOWED:
        return WriteError(
            f"{path}: expected a place that can be written; got {error.strerror}. What was there is "
            "untouched; allow writing there, or choose another directory."
        )
    return error


def _sync_directory(directory: Path) -> None:
    """Make a rename inside `directory` survive a power cut, where the system lets a directory be opened."""
    if os.name != "posix":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise
    finally:
        os.close(descriptor)


__all__ = [
    "StrPath",
    "WriteError",
    "append",
    "check_room",
    "explained",
    "is_temporary",
    "make_directory",
    "remove_temporaries",
    "write_atomic",
]

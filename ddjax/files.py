"""Files that exist whole or not at all: written under a temporary name, synced to disk, then renamed."""

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
"""The errors of file systems that cannot sync a directory or reserve room."""

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NOT_ALLOWED = frozenset({errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO})


class WriteError(OSError):
    """A file could not be written; the message names the file and, on a full disk, the needed room."""


def path_at_home(text: str) -> Path:
    """A path whose `~` at the start stands for the home directory, as no shell writes out in `--flag=~/x`.

    Args:
        text: the path.

    Returns:
        The path, with the home directory written out.

    Raises:
        ValueError: there is no home directory, or no such user.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ValueError(
            f"{text}: expected a home directory for {text.partition('/')[0]!r}; there is none. Give the "
            "whole path, or ./~ for a file of this name."
        ) from error


def write_atomic(path: StrPath, data: bytes | Callable[[BinaryIO], object]) -> None:
    """Write a file so that readers, also after a crash, see the old content or the new, never a part.

    Args:
        path: the file to write, in a directory that exists.
        data: the content, or a function that takes an open binary file and writes the content to that file,
            e.g. `lambda file: numpy.savez(file, **arrays)`.

    Raises:
        WriteError: the disk is full or cannot be written; `path` is as it was.
        FileNotFoundError: the directory is missing.
        Exception: any exception that `data` raises; `path` is as it was.
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
    """Make a directory and its parents where they are missing, so that they survive a power cut.

    Args:
        path: the directory to make.

    Raises:
        ValueError: a file has the name of the directory or of a parent.
        OSError: the directory cannot be made.
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
    """Write all of some bytes at the end of an open file.

    Args:
        path: the name of the file, for the error message.
        descriptor: the descriptor of the file, opened for appending.
        data: the bytes to write.

    Raises:
        WriteError: the disk is full or cannot be written; a part of the bytes may be at the file's end.
    """
    written = 0
    try:
        while written < len(data):
            written += os.write(descriptor, data[written:])
    except OSError as error:
        raise explained(Path(path), error, len(data)) from error


def check_room(directory: StrPath, size: int) -> None:
    """Check that a directory can be written and has room for a file of a given size.

    A file of that size is reserved and removed, so that quotas, limits on a file's size and read-only disks
    show now and not when the real file is written.

    Args:
        directory: the directory, which exists.
        size: the size of the file in bytes, at least 1.

    Raises:
        WriteError: the directory cannot be written, or has too little room.
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
    """Reserve room for a file; False where the system cannot reserve any.

    Raises:
        OSError: there is too little room.
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
    """Remove the temporary files that killed writers left in a directory.

    Args:
        directory: the directory to clean, in which nobody else may be writing.
    """
    for path in Path(directory).glob(".*.tmp"):
        if is_temporary(path):
            path.unlink(missing_ok=True)


def is_temporary(path: StrPath) -> bool:
    """Whether a file has the temporary name of one that is being written, or that a killed writer left.

    Args:
        path: the path of the file; only the name is looked at.

    Returns:
        True for a temporary name.
    """
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
    """Remove a temporary file; a failure is ignored, because the error before it says more."""
    with contextlib.suppress(OSError):
        temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    """A new temporary name for each writer, so that two writers never share a half-written file.

    The name is in the directory of `path`, because a rename is atomic within one file system only.
    """
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def explained(path: Path, error: OSError, size: int | None = None) -> OSError:
    """An error of the disk with the path, the needed room and the remedy in its message.

    Args:
        path: the file or directory that could not be written.
        error: the error of the operating system.
        size: the number of bytes that were to be written; None where that is unknown.

    Returns:
        A `WriteError` where the disk is full or may not be written; else `error` itself.
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
    """Make a rename inside a directory survive a power cut, on systems that can sync directories."""
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
    "path_at_home",
    "remove_temporaries",
    "write_atomic",
]

"""Files that exist whole or not at all: written beside their name, synced to disk, then renamed over it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

StrPath = str | os.PathLike[str]


def write_atomic(path: StrPath, data: bytes | Callable[[BinaryIO], object]) -> None:
    """Write a file so that a reader, or a crash, meets the old content or the new, never a part.

    Args:
        path: where; its directory exists.
        data: the content, or a function that writes it to the binary file it is handed, e.g.
            `lambda file: numpy.savez(file, **arrays)`.

    Raises:
        OSError: the directory is missing or cannot be written; `path` is as it was.
        Exception: whatever `data` raises; `path` is as it was.
    """
    path = Path(path)
    # In the same directory, because a rename is atomic within one file system only. A name of its own each
    # time, so that two writers never share a half-written file.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            if callable(data):
                data(file)
            else:
                file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    """Make a rename inside `directory` survive a power cut, where the system lets a directory be opened."""
    if os.name != "posix":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


__all__ = ["StrPath", "write_atomic"]

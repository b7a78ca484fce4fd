"""The cache of decoded TFDS sets: plain arrays, written whole or not at all, checked on reading.

A file is an uncompressed .npz of the four arrays and the class names, with the SHA-256 of all of them.
Nothing is pickled. The cache only saves time: a file that is damaged or cannot be written is a warning, and
the set is decoded again.
"""

from __future__ import annotations

import hashlib
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ddjax import npz
from ddjax.data.arrays import RawArrays
from ddjax.files import write_atomic


def directory() -> Path:
    """The cache's directory: `$DDJAX_CACHE_DIR`, else `$XDG_CACHE_HOME/ddjax`, else `~/.cache/ddjax`."""
    if own := os.environ.get("DDJAX_CACHE_DIR"):
        return Path(own).expanduser()
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared).expanduser() / "ddjax"
    return Path.home() / ".cache" / "ddjax"


def cached(key: str, decode: Callable[[], RawArrays]) -> RawArrays:
    """The arrays stored under `key`, or else those that `decode` returns, which are then stored.

    Args:
        key: a file name, without suffix, that changes whenever the source changes.
        decode: the function that makes the arrays, called if none are stored or the stored ones are damaged.

    Returns:
        The arrays.
    """
    members = arrays(key, lambda: _members(decode()))
    names = tuple(str(name) for name in members["class_names"])
    return RawArrays(**{**members, "class_names": names})


def arrays(key: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The named arrays stored under `key`, or else those that `make` returns, which are then stored.

    Args:
        key: a file name, without suffix, that changes whenever the source changes.
        make: the function that makes the arrays, called if none are stored or the stored ones are damaged.

    Returns:
        The arrays, by name.
    """
    path = directory() / "data" / f"{key}.npz"
    try:
        return _read(path)
    except (FileNotFoundError, NotADirectoryError):
        pass  # the first time
    except Exception as error:  # a damaged zip or header can raise nearly anything
        warnings.warn(f"{path}: the cache is damaged or unreadable ({error}); making it again.", stacklevel=2)
    made = make()
    try:
        _write(path, made)
    except OSError as error:
        warnings.warn(
            f"{path}: the arrays could not be cached ({error}), so the next load makes them again. "
            "Point DDJAX_CACHE_DIR at a directory that can be written.",
            stacklevel=2,
        )
    return made


def _members(raw: RawArrays) -> dict[str, np.ndarray]:
    return {**raw._asdict(), "class_names": np.array(raw.class_names, dtype=np.str_)}


def _digest(members: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of every member's name, dtype, shape and bytes."""
    digest = hashlib.sha256()
    for name in sorted(members):
        array = np.ascontiguousarray(members[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.view(np.uint8).data if array.size else b"")
    return digest.hexdigest()


def _read(path: Path) -> dict[str, np.ndarray]:
    members = npz.read(path, limit=sys.maxsize)
    stored = str(members.pop("sha256"))
    if _digest(members) != stored:
        raise ValueError("its SHA-256 does not match")
    return members


def _write(path: Path, members: dict[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    everything: dict[str, Any] = {"sha256": np.array(_digest(members)), **members}
    write_atomic(path, lambda file: np.savez(file, allow_pickle=False, **everything))

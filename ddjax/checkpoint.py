"""Checkpoints: a pytree of arrays, on disk whole or not at all, and the guard that asks for one."""

from __future__ import annotations

import hashlib
import io
import json
import re
import signal
import threading
import types
import warnings
import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ddjax.files import write_atomic
from ddjax.types import PyTree

MANIFEST = "manifest"
VERSION = 1


def _digest(array: np.ndarray) -> str:
    header = f"{array.dtype.str}{array.shape}".encode()
    return hashlib.sha256(header + np.ascontiguousarray(array).tobytes()).hexdigest()


def _encode(tree: PyTree) -> bytes:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    arrays = {f"leaf{jax.tree_util.keystr(path)}": np.asarray(leaf) for path, leaf in leaves}
    manifest = {"version": VERSION, "sha256": {name: _digest(array) for name, array in arrays.items()}}
    stream = io.BytesIO()
    members: dict[str, Any] = {MANIFEST: np.array(json.dumps(manifest))} | arrays
    np.savez(stream, allow_pickle=False, **members)
    return stream.getvalue()


class UnreadableError(Exception):
    """A file that is no checkpoint at all."""


def _read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint, each as it was written."""
    # Opened here, because np.load leaves its own handle open when the archive is damaged.
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as members:
            digests = json.loads(str(members[MANIFEST]))["sha256"]
            arrays = {name: members[name] for name in digests}
    except (ValueError, TypeError) as error:
        raise UnreadableError(f"it cannot be read ({error})") from error
    for name, array in arrays.items():
        if _digest(array) != digests[name]:
            raise UnreadableError(f"{name} is not what was written (its sha256 differs)")
    return arrays


def _fill(path: Path, template: PyTree, arrays: dict[str, np.ndarray]) -> PyTree:
    """Put the arrays in the template's places, refusing another structure, shape or dtype."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(template)
    expected = {f"leaf{jax.tree_util.keystr(where)}": leaf for where, leaf in leaves}

    def signature(leaf: Any) -> str:
        return f"{np.dtype(leaf.dtype).name}{list(leaf.shape)}"

    for name in expected.keys() | arrays.keys():
        want = signature(expected[name]) if name in expected else "nothing"
        got = signature(arrays[name]) if name in arrays else "nothing"
        if want != got:
            raise ValueError(
                f"{path}: {name}: expected {want}, got {got}. The directory holds a run with other "
                "settings; give this one a directory of its own."
            )
    return jax.tree_util.tree_unflatten(structure, [arrays[name] for name in expected])


class Store:
    """The checkpoints of one run: `step_00000100.npz` and so on in one directory.

    Each file holds every leaf as an array and a manifest with the sha256 of each. It is written under
    another name, forced to the disk, then renamed; loading it needs no pickle.
    """

    def __init__(self, directory: str | Path, *, keep: int = 2):
        """Use `directory`, made at the first save; keep the newest `keep` checkpoints."""
        self.directory = Path(directory)
        self.keep = keep

    def paths(self) -> list[Path]:
        """All checkpoints, newest first."""
        found = [p for p in self.directory.glob("step_*.npz") if re.fullmatch(r"step_\d+", p.stem)]
        return sorted(found, key=lambda path: int(path.stem[5:]), reverse=True)

    def save(self, step: int, tree: PyTree) -> Path:
        """Write a checkpoint, then drop the oldest beyond `keep`.

        Raises:
            OSError: it could not be written; those that were there still are.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / f"step_{step:08d}.npz"
        write_atomic(path, _encode(jax.device_get(tree)))
        for old in self.paths()[self.keep :]:
            old.unlink(missing_ok=True)
        return path

    def restore(self, template: PyTree) -> PyTree | None:
        """The newest checkpoint that is whole, in the template's structure; None if there never was one.

        A damaged checkpoint is passed over with a warning that names it.

        Raises:
            ValueError: a checkpoint holds another structure: the settings were others.
            OSError: there are checkpoints and all are damaged.
        """
        paths = self.paths()
        for path in paths:
            try:
                arrays = _read(path)
            except (OSError, zipfile.BadZipFile, KeyError, EOFError, UnreadableError) as error:
                warnings.warn(f"checkpoint {path} is damaged and passed over: {error}", stacklevel=2)
            else:
                return _fill(path, template, arrays)
        if paths:
            raise OSError(
                f"every checkpoint in {self.directory} is damaged. Nothing was overwritten; remove or "
                "rename the directory to start anew."
            )
        return None


class PreemptionGuard:
    """Turns the first SIGTERM or SIGINT inside a `with` block into a flag to look at between dispatches.

    A second signal is handled as if there were no guard.
    """

    def __init__(self) -> None:
        """Start with nothing asked for."""
        self.requested = False
        self._previous: dict[int, Any] = {}

    def _handle(self, number: int, frame: types.FrameType | None) -> None:
        del frame
        self.requested = True
        signal.signal(number, self._previous[number])

    def __enter__(self) -> PreemptionGuard:
        # Python delivers signals to the main thread only, and lets only that one set handlers.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

"""The portable result: `distilled.npz`, which NumPy alone can read."""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from ddjax import checks
from ddjax import distilled as forms
from ddjax.files import write_atomic
from ddjax.types import Distilled, Recipe, Schedule
from ddjax.unroll import OPTIMIZERS
from ddjax.version import __version__

FORMAT_VERSION = 1
"""Raised when an older ddjax could no longer read what this one writes."""

REQUIRED = ("images", "labels", "mean", "std", "metadata")


def save(path: str | Path, distilled: Distilled) -> Path:
    """Write φ as an `.npz` that loads with `numpy.load(path, allow_pickle=False)`.

    Members: `images [S, B, H, W, C]` float32, normalised; `labels [S, B, K]` float32 probabilities; `lrs
    [E, S]` float32, absent where the recipe brings its own optimiser; `mean [C]`, `std [C]` float32 with
    x = (pixel / 255 - mean) / std; `metadata`, a JSON string. The same φ gives the same bytes.

    Raises:
        OSError: the file could not be written; what was there is untouched.
    """
    schedule = distilled.schedule
    arrays = {"images": schedule.inputs, "labels": schedule.labels}
    if schedule.lrs is not None:
        arrays["lrs"] = schedule.lrs
    arrays |= {"mean": distilled.mean, "std": distilled.std}
    metadata = {
        **distilled.metadata,
        "format_version": FORMAT_VERSION,
        "ddjax_version": __version__,
        "recipe": dataclasses.asdict(distilled.recipe),
    }
    stream = io.BytesIO()
    members: dict[str, np.ndarray] = {name: np.asarray(value, np.float32) for name, value in arrays.items()}
    members["metadata"] = np.array(json.dumps(metadata, sort_keys=True))
    np.savez(stream, allow_pickle=False, **members)
    path = Path(path)
    write_atomic(path, stream.getvalue())
    return path


def load(path: str | Path) -> Distilled:
    """Read what `save` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no artifact, of a later format, or its arrays do not fit together.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"artifact: expected a file; there is none at {path}. A run writes it as distilled.npz in its "
            "work directory."
        )
    members = _read(path)
    metadata = _metadata(path, members)
    schedule = _schedule(path, members)
    channels = schedule.inputs.shape[-1]
    for name in ("mean", "std"):
        if members[name].shape != (channels,):
            raise ValueError(
                f"{path}: {name}: expected shape {(channels,)}, got {members[name].shape}. Write it again."
            )
    return Distilled(
        params=schedule,
        form=forms.constant(schedule),
        mean=jnp.asarray(members["mean"]),
        std=jnp.asarray(members["std"]),
        recipe=_recipe(path, metadata),
        metadata={k: v for k, v in metadata.items() if k != "recipe"},
    )


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        # Opened here, because np.load leaves its own handle open when the archive is damaged.
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            members = {name: file[name] for name in file.files}
    except (OSError, ValueError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path}: expected an .npz of plain arrays as ddjax writes it; it cannot be read as one "
            f"({error}). Distil again, or give another file."
        ) from error
    missing = [name for name in REQUIRED if name not in members]
    if missing:
        raise ValueError(
            f"{path}: expected the members {', '.join(REQUIRED)}; {', '.join(missing)} missing. Is it a "
            "distilled.npz?"
        )
    return members


def _metadata(path: Path, members: dict[str, np.ndarray]) -> dict[str, Any]:
    try:
        metadata = json.loads(str(members["metadata"]))
        version = int(metadata["format_version"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: metadata: expected a JSON object with a format_version; got {error}."
        ) from error
    if not 1 <= version <= FORMAT_VERSION:
        raise ValueError(
            f"{path}: expected format version 1 to {FORMAT_VERSION}; got {version}. Install a newer ddjax."
        )
    return metadata


def _schedule(path: Path, members: dict[str, np.ndarray]) -> Schedule:
    images, labels, lrs = members["images"], members["labels"], members.get("lrs")
    fits = (
        images.ndim == 5
        and labels.ndim == 3
        and images.shape[:2] == labels.shape[:2]
        and (lrs is None or (lrs.ndim == 2 and lrs.shape[1] == images.shape[0]))
    )
    if not fits:
        shapes = {name: array.shape for name, array in members.items() if name != "metadata"}
        raise ValueError(
            f"{path}: expected images [S, B, H, W, C], labels [S, B, K], lrs [E, S]; got {shapes}. Write it "
            "again."
        )
    for name in ("images", "labels", "lrs", "mean", "std"):
        array = members.get(name)
        if array is not None and not (array.dtype == np.float32 and np.isfinite(array).all()):
            raise ValueError(
                f"{path}: {name}: expected finite float32; got {array.dtype}, or NaN or infinity."
                " Distil again."
            )
    return Schedule(jnp.asarray(images), jnp.asarray(labels), None if lrs is None else jnp.asarray(lrs))


def _recipe(path: Path, metadata: dict[str, Any]) -> Recipe:
    try:
        recipe = Recipe(**metadata["recipe"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: metadata: expected a recipe as ddjax writes it; got {error}.") from error
    for what, value, known in (
        ("kind", recipe.kind, ("schedule", "train")),
        ("optimizer", recipe.optimizer, OPTIMIZERS),
    ):
        checks.choice(f"{path}: the recipe's {what}", value, known, remedy="Install a newer ddjax.")
    return recipe

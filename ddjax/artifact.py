"""The portable result: `distilled.npz`, which NumPy alone can read."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from ddjax import augment, checks, npz
from ddjax import distilled as forms
from ddjax.files import StrPath
from ddjax.types import Distilled, Recipe, Schedule
from ddjax.unroll import OPTIMIZERS
from ddjax.version import __version__

FORMAT_VERSION = 2
"""Raised when an older ddjax could no longer read what this one writes.

2: a recipe with augmentation. One without is written as version 1, which every ddjax reads.
"""

_REMEDY = "Distil again."

REQUIRED = ("images", "labels", "mean", "std", "metadata")
OPTIONAL = ("lrs",)

_KINDS: dict[str, type] = {
    "dataset": str,
    "method": str,
    "network": str,
    "network_settings": dict,
    "class_names": list,
    "recipe": dict,
}
"""What the metadata that ddjax itself reads must be, where it is there."""

_EPOCHS = 1_000_000
"""Most epochs of a recipe: a file from anywhere shall not keep a machine busy for ever."""


def save(path: StrPath, distilled: Distilled) -> Path:
    """Write φ as an `.npz` that loads with `numpy.load(path, allow_pickle=False)`.

    Members: `images [S, B, H, W, C]` float32, normalised; `labels [S, B, K]` float32, rows of probabilities,
    times the image's weight where images have some (`ddjax.coresets.weighted_schedule`); `lrs [E, S]`
    float32, absent where the recipe brings its own optimiser; `mean [C]`, `std [C]` float32 with
    x = (pixel / 255 - mean) / std; `metadata`, a JSON string. The same φ gives the same bytes.

    Raises:
        ValueError: φ holds NaN or infinity, its arrays do not fit together, or the metadata hold something
            that `load` would refuse; nothing was written.
        OSError: the file could not be written; what was there is untouched.
    """
    checks.kind("distilled", distilled, Distilled, remedy="Give the `distilled` of a run.")
    checks.path("path", path, remedy="Give the file to write, e.g. distilled.npz.")
    checks.facts("metadata", distilled.metadata)
    schedule = distilled.schedule
    arrays = {"images": schedule.inputs, "labels": schedule.labels}
    if schedule.lrs is not None:
        arrays["lrs"] = schedule.lrs
    arrays |= {"mean": distilled.mean, "std": distilled.std}
    recipe = dataclasses.asdict(distilled.recipe)
    if recipe["augmentation"] == "":
        del recipe["augmentation"]
    metadata = {
        **distilled.metadata,
        "format_version": FORMAT_VERSION if "augmentation" in recipe else 1,
        "ddjax_version": __version__,
        "recipe": recipe,
    }
    members: dict[str, np.ndarray] = {name: np.asarray(value, np.float32) for name, value in arrays.items()}
    for name, array in members.items():
        npz.check_finite("artifact", name, array, remedy=_REMEDY)
    members["metadata"] = np.array(json.dumps(metadata, sort_keys=True))
    _check_members("artifact", members)  # what could not be loaded is not saved
    return npz.write(path, members)


def load(path: StrPath, *, limit: int = npz.LIMIT) -> Distilled:
    """Read what `save` wrote, from a file that may come from anywhere: nothing in it is executed.

    Args:
        path: of the artifact.
        limit: most bytes that its arrays may take together; more is refused before any is read.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no artifact, of a later format, too large, or its arrays do not fit together.
    """
    checks.path("artifact", path, remedy="Give the path of a distilled.npz.")
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"artifact: expected a file; there is none at {path}. A run writes it as distilled.npz in its "
            "work directory."
        )
    members = _read(path, limit)
    metadata, recipe = _check_members(path, members)
    images, labels, lrs = members["images"], members["labels"], members.get("lrs")
    schedule = Schedule(jnp.asarray(images), jnp.asarray(labels), None if lrs is None else jnp.asarray(lrs))
    return Distilled(
        params=schedule,
        form=forms.constant(schedule),
        mean=jnp.asarray(members["mean"]),
        std=jnp.asarray(members["std"]),
        recipe=recipe,
        metadata={k: v for k, v in metadata.items() if k != "recipe"},
    )


def _read(path: Path, limit: int) -> dict[str, np.ndarray]:
    checks.at_least("limit", limit, 1)
    try:
        members = npz.read(path, limit=limit)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path}: expected an .npz of plain arrays as ddjax writes it; {error}. Distil again, give "
            "another file, or raise `limit` where a large file is right."
        ) from error
    unknown = sorted(members.keys() - {*REQUIRED, *OPTIONAL})
    if unknown:
        raise ValueError(
            f"{path}: expected the members {', '.join(REQUIRED + OPTIONAL)}; got {unknown[0][:80]!r} too. Is "
            "it a distilled.npz of this version of ddjax?"
        )
    missing = [name for name in REQUIRED if name not in members]
    if missing:
        raise ValueError(
            f"{path}: expected the members {', '.join(REQUIRED)}; {', '.join(missing)} missing. Is it a "
            "distilled.npz?"
        )
    return members


def _check_members(where: object, members: dict[str, np.ndarray]) -> tuple[dict[str, Any], Recipe]:
    """The metadata and the recipe in them, all members having been looked at.

    Raises:
        ValueError: something that `save` does not write.
    """
    metadata = _metadata(where, members)
    _check_arrays(where, members)
    recipe = _recipe(where, metadata, has_lrs="lrs" in members)
    try:
        augment.of_recipe(recipe, members["images"].shape[2:])
    except ValueError as error:
        raise ValueError(f"{where}: recipe: {error} Or install a newer ddjax.") from error
    return metadata, recipe


def _metadata(path: object, members: dict[str, np.ndarray]) -> dict[str, Any]:
    remedy = "Write it again."
    metadata = npz.metadata(path, members["metadata"], newest=FORMAT_VERSION, kinds=_KINDS, remedy=remedy)
    for name in metadata.get("class_names", ()):
        checks.kind(f"{path}: metadata: class_names", name, str, remedy=remedy)
    return metadata


def _check_arrays(path: object, members: dict[str, np.ndarray]) -> None:
    images, labels, lrs = members["images"], members["labels"], members.get("lrs")
    fits = (
        images.ndim == 5
        and labels.ndim == 3
        and images.shape[:2] == labels.shape[:2]
        and (lrs is None or (lrs.ndim == 2 and lrs.shape[1] == images.shape[0]))
        and all(array.size for array in (images, labels, lrs) if array is not None)
    )
    if not fits:
        shapes = {name: array.shape for name, array in members.items() if name != "metadata"}
        raise ValueError(
            f"{path}: expected images [S, B, H, W, C], labels [S, B, K], lrs [E, S]; got {shapes}. Write it "
            "again."
        )
    for name in ("mean", "std"):
        if members[name].shape != images.shape[-1:]:
            raise ValueError(
                f"{path}: {name}: expected shape {images.shape[-1:]}, got {members[name].shape}. Write it "
                "again."
            )
    for name in ("images", "labels", "lrs", "mean", "std"):
        array = members.get(name)
        if array is not None:
            npz.check_finite(path, name, array, remedy=_REMEDY)
    if not (members["std"] > 0).all():
        raise ValueError(f"{path}: std: expected numbers > 0; got {members['std'].min()}. Write it again.")


def _recipe(path: object, metadata: dict[str, Any], *, has_lrs: bool) -> Recipe:
    try:
        recipe = Recipe(**metadata["recipe"])
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: metadata: expected a recipe as ddjax writes it; got {error}. Write it again."
        ) from error
    for what, value, known in (
        ("kind", recipe.kind, ("schedule", "train")),
        ("optimizer", recipe.optimizer, OPTIMIZERS),
    ):
        checks.choice(f"{path}: the recipe's {what}", value, known, remedy="Install a newer ddjax.")
    for what in ("lr", "momentum", "weight_decay"):
        checks.at_least(f"{path}: the recipe's {what}", getattr(recipe, what), 0, integer=False)
    for what in ("epochs", "batch_size"):
        checks.at_least(f"{path}: the recipe's {what}", getattr(recipe, what), 1)
    if recipe.epochs > _EPOCHS:
        raise ValueError(
            f"{path}: the recipe's epochs: expected at most {_EPOCHS:,}; got {recipe.epochs}. Write it again."
        )
    if recipe.kind == "schedule" and not has_lrs:
        raise ValueError(
            f"{path}: expected lrs [E, S], which a recipe of kind schedule replays; got none. Write it again."
        )
    return recipe

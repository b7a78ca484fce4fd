"""The portable result: `distilled.npz`, which NumPy alone can read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from ddjax import checks, encodings, forms, npz, recipes, recorded_inits
from ddjax.data import provenance
from ddjax.encodings import Channels, Tokens
from ddjax.files import StrPath
from ddjax.recipes import Replay, Train
from ddjax.types import Distilled, Encoding, Schedule
from ddjax.version import __version__

FORMAT_VERSION = 3
"""The newest version of the format, raised when an older ddjax could no longer read a new file.

Version 2 added a recipe with augmentation. Version 3 added inputs of any rank, encodings other than channel
statistics, and other recipes. Each φ is written in the oldest version that can hold it, so that every ddjax
reads what version 1 can hold.
"""

_REMEDY = "Distil again."

REQUIRED = ("images", "labels", "mean", "std", "metadata")
"""The members of versions 1 and 2."""

REQUIRED_OF_3 = ("inputs", "labels", "metadata")
"""The members of version 3, besides those of the encoding, `encoding.NAME`."""

OPTIONAL = ("lrs",)

_ENCODING = "encoding."

_KINDS: dict[str, type] = {
    "dataset": str,
    "method": str,
    "network": str,
    "network_settings": dict,
    "class_names": list,
    "recipe": dict,
    "encoding": str,
    "tokenizer": str,
    "init": str,
    "init_settings": dict,
    "data": dict,
}
"""The types of the metadata that ddjax itself reads, for those that a file has."""


def _version(distilled: Distilled, schedule: Schedule) -> int:
    """The oldest version that holds all of φ."""
    plain = isinstance(distilled.encoding, Channels) and schedule.inputs.ndim == 5
    if not plain or not isinstance(distilled.recipe, (Replay, Train)):
        return 3
    return 2 if isinstance(distilled.recipe, Train) and distilled.recipe.augmentation else 1


@checks.entry
def save(path: StrPath, distilled: Distilled) -> Path:
    """Write φ as an `.npz` that loads with `numpy.load(path, allow_pickle=False)`.

    Members: `images [S, B, H, W, C]` float32, normalised; `labels [S, B, K]` float32, rows of probabilities,
    times the image's weight where images have weights (`ddjax.coresets.weighted_schedule`); `lrs [E, S]`
    float32, absent where the recipe has its own optimiser; `mean [C]`, `std [C]` float32 with
    x = (pixel / 255 - mean) / std; `metadata`, a JSON string. Inputs that are no images under such a
    normalisation, and other recipes, make version 3: `inputs [S, B, *input_shape]` in the place of images,
    and the arrays of the encoding that `metadata` names, `encoding.NAME`, in the place of mean and std; for
    texts these are the table of word vectors, and `metadata` has the JSON of the tokenizer. The same φ gives
    the same bytes.

    Of the metadata, evaluations read `dataset`, `class_names` and `data` (see `ddjax.data.provenance.facts`),
    `network`, `network_settings`, `init` and `init_settings` (see `ddjax.types.start_of`), where there are
    any; `ddjax.distill` writes them.

    Args:
        path: the file to write.
        distilled: the distilled data φ.

    Returns:
        The path.

    Raises:
        ValueError: φ holds NaN or infinity, the arrays of φ do not fit together, or the metadata hold
            something that `load` would refuse; nothing was written.
        OSError: the file could not be written; what was there is untouched.
    """
    checks.path("path", path, remedy="Give the file to write, e.g. distilled.npz.")
    return npz.write(path, _members(distilled))


@checks.entry
def content(distilled: Distilled) -> bytes:
    """The bytes of the file that `save` would write.

    Args:
        distilled: the distilled data φ.

    Returns:
        The content of the `.npz`.

    Raises:
        ValueError: see `save`.
    """
    return npz.content(_members(distilled))


@checks.entry
def check(distilled: Distilled) -> None:
    """Refuse what `save` would refuse to write; nothing is written.

    Args:
        distilled: the distilled data φ, or data of the same shapes before the distillation.

    Raises:
        ValueError: see `save`.
    """
    _members(distilled)


def _members(distilled: Distilled) -> dict[str, np.ndarray]:
    """The members of the file of φ, all checked."""
    checks.kind("distilled", distilled, Distilled, remedy="Give the `distilled` of a run.")
    checks.facts("metadata", distilled.metadata)
    schedule = distilled.schedule
    version = _version(distilled, schedule)
    parts = encodings.members(distilled.encoding)
    arrays = {"inputs" if version == 3 else "images": schedule.inputs, "labels": schedule.labels}
    if schedule.lrs is not None:
        arrays["lrs"] = schedule.lrs
    arrays |= {f"{_ENCODING}{name}": part for name, part in parts.items()} if version == 3 else parts
    recipe = recipes.as_dict(distilled.recipe)
    if recipe.get("augmentation") == "":
        del recipe["augmentation"]  # a key that version 1 does not have
    metadata = {
        **distilled.metadata,
        "format_version": version,
        "ddjax_version": __version__,
        "recipe": recipe,
    }
    if version == 3:
        metadata["encoding"] = distilled.encoding.kind
    if (tokenizer := encodings.tokenizer_of(distilled.encoding)) is not None:
        metadata["tokenizer"] = tokenizer
    members: dict[str, np.ndarray] = {name: np.asarray(value, np.float32) for name, value in arrays.items()}
    for name, array in members.items():
        npz.check_finite("artifact", name, array, remedy=_REMEDY)
    members["metadata"] = np.array(json.dumps(metadata, sort_keys=True))
    _parsed("artifact", members)  # what could not be loaded is not saved
    return members


@checks.entry
def load(path: StrPath, *, limit: int = npz.LIMIT) -> Distilled:
    """Read a file that `save` wrote; the file may be of any origin, because nothing in it is executed.

    Args:
        path: the file of the artifact.
        limit: the most bytes that all arrays may take together; a larger file is refused before any array is
            read.

    Returns:
        The distilled data φ, with the schedule itself as parameters (`ddjax.forms.constant`).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no artifact, is of a later format or too large, or its arrays do not fit
            together.
    """
    checks.path("artifact", path, remedy="Give the path of a distilled.npz.")
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"artifact: expected a file; there is none at {path}. A run writes it as distilled.npz in its "
            "work directory."
        )
    return _parsed(path, _read(path, limit))


def _read(path: Path, limit: int) -> dict[str, np.ndarray]:
    checks.at_least("limit", limit, 1)
    try:
        members = npz.read(path, limit=limit)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path}: expected an .npz of plain arrays as ddjax writes it; {error}. Distil again, give "
            "another file, or raise `limit` where a large file is right."
        ) from error
    is_new = "inputs" in members
    required = REQUIRED_OF_3 if is_new else REQUIRED
    known = {*required, *OPTIONAL}
    unknown = sorted(n for n in members.keys() - known if not (is_new and n.startswith(_ENCODING)))
    if unknown:
        raise ValueError(
            f"{path}: expected the members {', '.join((*required, *OPTIONAL))}; got {unknown[0][:80]!r} too. "
            "Is it a distilled.npz of this version of ddjax?"
        )
    missing = [name for name in required if name not in members]
    if missing:
        raise ValueError(
            f"{path}: expected the members {', '.join(required)}; {', '.join(missing)} missing. Is it a "
            "distilled.npz?"
        )
    return members


def _parsed(where: object, members: dict[str, np.ndarray]) -> Distilled:
    """The distilled data that the members of a file describe; every member is checked.

    Raises:
        ValueError: a member that `save` would not write.
    """
    metadata = _metadata(where, members)
    inputs = members["inputs"] if "inputs" in members else members["images"]
    labels, lrs = members["labels"], members.get("lrs")
    _check_arrays(where, inputs, members)
    recipe = recipes.from_dict(_recipe(where, metadata), inputs.shape[2:], where=where)
    if recipe.needs_lrs and lrs is None:
        raise ValueError(
            f"{where}: expected lrs [E, S], which a recipe of kind {recipe.kind} uses; got none. Write it "
            "again."
        )
    encoding = _encoding(where, metadata, members, inputs)
    schedule = Schedule(jnp.asarray(inputs), jnp.asarray(labels), None if lrs is None else jnp.asarray(lrs))
    own = ("recipe", "encoding", "tokenizer")
    rest = {name: value for name, value in metadata.items() if name not in own}
    return Distilled(schedule, forms.constant(schedule), encoding, recipe, rest)


def _metadata(path: object, members: dict[str, np.ndarray]) -> dict[str, Any]:
    remedy = "Write it again."
    metadata = npz.metadata(path, members["metadata"], newest=FORMAT_VERSION, kinds=_KINDS, remedy=remedy)
    provenance.recorded(metadata, where=path)
    recorded_inits.recorded(metadata, where=path)
    return metadata


def _recipe(path: object, metadata: dict[str, Any]) -> dict[str, Any]:
    if "recipe" not in metadata:
        raise ValueError(f"{path}: metadata: expected a recipe as ddjax writes it; got none. Write it again.")
    return metadata["recipe"]


def _check_arrays(path: object, inputs: np.ndarray, members: dict[str, np.ndarray]) -> None:
    labels, lrs = members["labels"], members.get("lrs")
    fits = (
        (inputs.ndim == 5 if "images" in members else inputs.ndim >= 3)
        and labels.ndim == 3
        and inputs.shape[:2] == labels.shape[:2]
        and (lrs is None or (lrs.ndim == 2 and lrs.shape[1] == inputs.shape[0]))
        and all(array.size for array in (inputs, labels, lrs) if array is not None)
    )
    if not fits:
        shapes = {name: array.shape for name, array in members.items() if name != "metadata"}
        raise ValueError(
            f"{path}: expected images [S, B, H, W, C], labels [S, B, K], lrs [E, S]; got {shapes}. Write it "
            "again."
        )
    for name, array in members.items():
        if name != "metadata":
            npz.check_finite(path, name, array, remedy=_REMEDY)


def _encoding(
    path: object, metadata: dict[str, Any], members: dict[str, np.ndarray], inputs: np.ndarray
) -> Encoding:
    """The encoding that the members hold, checked against the shape of the inputs.

    Raises:
        ValueError: the arrays are no encoding, or one of inputs of another shape.
    """
    if "images" in members:
        for name in ("mean", "std"):
            if members[name].shape != inputs.shape[-1:]:
                raise ValueError(
                    f"{path}: {name}: expected shape {inputs.shape[-1:]}, got {members[name].shape}. Write "
                    "it again."
                )
        if not (members["std"] > 0).all():
            raise ValueError(
                f"{path}: std: expected numbers > 0; got {members['std'].min()}. Write it again."
            )
        return Channels(jnp.asarray(members["mean"]), jnp.asarray(members["std"]))
    parts = {
        name.removeprefix(_ENCODING): array for name, array in members.items() if name.startswith(_ENCODING)
    }
    try:
        encoding = encodings.from_members(
            metadata.get("encoding", ""), parts, tokenizer=metadata.get("tokenizer")
        )
        raw_shape = inputs.shape[2:3] if isinstance(encoding, Tokens) else inputs.shape[2:]
        dtype = np.int32 if isinstance(encoding, Tokens) else np.uint8
        encoding.check(np.zeros((1, *raw_shape), dtype))
        checks.equal(
            "encoding: shape of an input", encoding.input_shape(raw_shape), inputs.shape[2:], remedy=_REMEDY
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error} Write it again.") from error
    return encoding

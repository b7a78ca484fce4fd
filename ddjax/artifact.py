"""The portable result: `distilled.npz`, which NumPy alone can read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddjax import checks, encodings, forms, npz, recipes, recorded_inits
from ddjax.data import provenance
from ddjax.encodings import Channels, Tokens
from ddjax.files import StrPath
from ddjax.recipes import Replay, Train
from ddjax.types import Distilled, Encoding, Recipe, Schedule
from ddjax.version import __version__

FORMAT_VERSION = 4
"""The newest version of the format, raised when an older ddjax could no longer read a new file.

Version 2 added a recipe with augmentation. Version 3 added inputs of any rank, encodings other than channel
statistics, and other recipes. Version 4 holds the code of a form in the place of inputs, labels and rates
(`save` with `compact`). Each φ is written in the oldest version that can hold it, so that every ddjax
reads what version 1 can hold.
"""

_REMEDY = "Distil again."

REQUIRED = ("images", "labels", "mean", "std", "metadata")
"""The members of versions 1 and 2."""

REQUIRED_OF_3 = ("inputs", "labels", "metadata")
"""The members of version 3, besides those of the encoding, `encoding.NAME`."""

REQUIRED_OF_4 = ("metadata",)
"""The member of version 4, besides those of the encoding and of the form, `form.NAME`."""

OPTIONAL = ("lrs",)

_ENCODING = "encoding."

_FORM = "form."

_KINDS: dict[str, type] = {
    "dataset": str,
    "method": str,
    "network": str,
    "network_settings": dict,
    "class_names": list,
    "recipe": dict,
    "encoding": str,
    "form": dict,
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
def save(path: StrPath, distilled: Distilled, *, compact: bool = False) -> Path:
    """Write φ as an `.npz` that loads with `numpy.load(path, allow_pickle=False)`.

    Members: `images [S, B, H, W, C]` float32, normalised; `labels [S, B, K]` float32, rows of probabilities,
    times the image's weight where images have weights (`ddjax.coresets.weighted_schedule`); `lrs [E, S]`
    float32, absent where the recipe has its own optimiser; `mean [C]`, `std [C]` float32 with
    x = (pixel / 255 - mean) / std; `metadata`, a JSON string. Inputs that are no images under such a
    normalisation, and other recipes, make version 3: `inputs [S, B, *input_shape]` in the place of images,
    and the arrays of the encoding that `metadata` names, `encoding.NAME`, in the place of mean and std; for
    texts these are the table of word vectors, and `metadata` has the JSON of the tokenizer. The same φ gives
    the same bytes.

    Such a file has all images as networks are trained on them. A compact one, version 4, has what the form
    stores in their place: the leaves of the form's parameters, `form.NAME` float32, and `metadata` with the
    name and settings of the form (`ddjax.forms.named`). Its size is what a form of few numbers claims.

    Of the metadata, evaluations read `dataset`, `class_names` and `data` (see `ddjax.data.provenance.facts`),
    `network`, `network_settings`, `init` and `init_settings` (see `ddjax.types.start_of`), where there are
    any; `ddjax.distill` writes them.

    Args:
        path: the file to write.
        distilled: the distilled data φ.
        compact: whether to write the code of the form in the place of its images, labels and rates.

    Returns:
        The path.

    Raises:
        ValueError: the file is to be compact and the form cannot be built from a name; φ holds NaN or
            infinity, the arrays of φ do not fit together, or the metadata hold something that `load` would
            refuse; nothing was written.
        OSError: the file could not be written; what was there is untouched.
    """
    checks.path("path", path, remedy="Give the file to write, e.g. distilled.npz.")
    return npz.write(path, _members(distilled, compact=compact))


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


def _members(distilled: Distilled, *, compact: bool = False) -> dict[str, np.ndarray]:
    """The members of the file of φ, all checked."""
    checks.kind("distilled", distilled, Distilled, remedy="Give the `distilled` of a run.")
    checks.facts("metadata", distilled.metadata)
    schedule = None if compact else distilled.schedule
    version = 4 if schedule is None else _version(distilled, schedule)
    parts = encodings.members(distilled.encoding)
    if schedule is None:
        arrays = {f"{_FORM}{name}": leaf for name, leaf in forms.arrays_of(distilled.params).items()}
    else:
        arrays = {"inputs" if version == 3 else "images": schedule.inputs, "labels": schedule.labels}
        if schedule.lrs is not None:
            arrays["lrs"] = schedule.lrs
    arrays |= {f"{_ENCODING}{name}": part for name, part in parts.items()} if version >= 3 else parts
    recipe = recipes.as_dict(distilled.recipe)
    if recipe.get("augmentation") == "":
        del recipe["augmentation"]  # a key that version 1 does not have
    metadata = {
        **distilled.metadata,
        "format_version": version,
        "ddjax_version": __version__,
        "recipe": recipe,
    }
    if version >= 3:
        metadata["encoding"] = distilled.encoding.kind
    if compact:
        metadata["form"] = forms.named(distilled.form)
    if (tokenizer := encodings.tokenizer_of(distilled.encoding)) is not None:
        metadata["tokenizer"] = tokenizer
    members: dict[str, np.ndarray] = {name: np.asarray(value, np.float32) for name, value in arrays.items()}
    for name, array in members.items():
        npz.check_finite("artifact", name, array, remedy=_REMEDY)
    members["metadata"] = np.array(json.dumps(metadata, sort_keys=True))
    _parsed("artifact", members, npz.LIMIT)  # what could not be loaded is not saved
    return members


@checks.entry
def load(path: StrPath, *, limit: int = npz.LIMIT) -> Distilled:
    """Read a file that `save` wrote; the file may be of any origin, because nothing in it is executed.

    Args:
        path: the file of the artifact.
        limit: the most bytes that all arrays may take together; a larger file is refused before any array is
            read, and a compact one before its few numbers are decoded into more.

    Returns:
        The distilled data φ, with the schedule itself as parameters (`ddjax.forms.constant`); of a compact
        file with the form that the file names, and the form's own parameters.

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
    return _parsed(path, _read(path, limit), limit)


def _read(path: Path, limit: int) -> dict[str, np.ndarray]:
    checks.at_least("limit", limit, 1)
    try:
        members = npz.read(path, limit=limit)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path}: expected an .npz of plain arrays as ddjax writes it; {error}. Distil again, give "
            "another file, or raise `limit` where a large file is right."
        ) from error
    required = _required(members)
    prefixes = (
        () if required is REQUIRED else (_ENCODING, _FORM) if required is REQUIRED_OF_4 else (_ENCODING,)
    )
    known = {*required, *(() if required is REQUIRED_OF_4 else OPTIONAL)}
    unknown = sorted(name for name in members.keys() - known if not name.startswith(prefixes))
    if unknown:
        raise ValueError(
            f"{path}: expected the members {', '.join(sorted(known))}; got {unknown[0][:80]!r} too. "
            "Is it a distilled.npz of this version of ddjax?"
        )
    missing = [name for name in required if name not in members]
    if missing:
        raise ValueError(
            f"{path}: expected the members {', '.join(required)}; {', '.join(missing)} missing. Is it a "
            "distilled.npz?"
        )
    return members


def _required(members: dict[str, np.ndarray]) -> tuple[str, ...]:
    """The members that a file of this kind must have."""
    if "inputs" in members:
        return REQUIRED_OF_3
    is_compact = "images" not in members and any(name.startswith(_FORM) for name in members)
    return REQUIRED_OF_4 if is_compact else REQUIRED


def _parsed(where: object, members: dict[str, np.ndarray], limit: int) -> Distilled:
    """The distilled data that the members of a file describe; every member is checked.

    Raises:
        ValueError: a member that `save` would not write.
    """
    metadata = _metadata(where, members)
    own = ("recipe", "encoding", "tokenizer", "form")
    rest = {name: value for name, value in metadata.items() if name not in own}
    if _required(members) is REQUIRED_OF_4:
        return _unfolded(where, members, metadata, rest, limit)
    inputs = members["inputs"] if "inputs" in members else members["images"]
    labels, lrs = members["labels"], members.get("lrs")
    _check_arrays(where, inputs, members)
    recipe = recipes.from_dict(_recipe(where, metadata), inputs.shape[2:], where=where)
    _check_rates(where, recipe, lrs)
    encoding = _encoding(where, metadata, members, inputs)
    schedule = Schedule(jnp.asarray(inputs), jnp.asarray(labels), None if lrs is None else jnp.asarray(lrs))
    return Distilled(schedule, forms.constant(schedule), encoding, recipe, rest)


def _unfolded(
    where: object,
    members: dict[str, np.ndarray],
    metadata: dict[str, Any],
    facts: dict[str, Any],
    limit: int,
) -> Distilled:
    """The distilled data of a compact file: the form by its name, whose size is bounded before it unfolds.

    Raises:
        ValueError: no form of that name and size, or other arrays than its parameters.
    """
    given = {name: array for name, array in members.items() if name != "metadata"}
    for name, array in given.items():
        npz.check_finite(where, name, array, remedy=_REMEDY)
    try:
        form = forms.by_name(metadata.get("form"), limit=limit)
        codes = {name.removeprefix(_FORM): array for name, array in given.items() if name.startswith(_FORM)}
        params = forms.params_like(form, codes)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    schedule = jax.jit(form.unfold)(params)
    for name, array in zip(("images", "labels"), schedule[:2], strict=True):
        npz.check_finite(where, name, np.asarray(array), remedy=_REMEDY)
    recipe = recipes.from_dict(_recipe(where, metadata), schedule.inputs.shape[2:], where=where)
    _check_rates(where, recipe, schedule.lrs)
    encoding = _encoding(where, metadata, members, schedule.inputs)
    return Distilled(params, form, encoding, recipe, facts)


def _check_rates(where: object, recipe: Recipe, lrs: Any) -> None:
    if recipe.needs_lrs and lrs is None:
        raise ValueError(
            f"{where}: expected lrs [E, S], which a recipe of kind {recipe.kind} uses; got none. Write it "
            "again."
        )


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
    path: object, metadata: dict[str, Any], members: dict[str, np.ndarray], inputs: Any
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

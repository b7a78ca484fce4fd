"""What an artifact says of its data, and the comparison of that with the data at hand."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ddjax import checks
from ddjax.data.dataset import Dataset
from ddjax.data.digest import digest, digests
from ddjax.types import Encoding

KINDS = ("built-in", "file", "arrays")
"""The kinds of sources, see `ddjax.data.dataset.Origin`."""

SPLITS = ("train", "validation", "test")

STEPS = ("resize", "channels", "rotated", "pixels", "whiten", "classes")
"""The conversions that a form may have."""

LARGEST = 2**20
"""The largest side, number of channels or of classes that the metadata of a file may ask for."""

_REMEDY = "Write it again."
_DIGEST = re.compile("[0-9a-f]{64}")


class Recorded(NamedTuple):
    """The data of an artifact, as far as its metadata name them.

    Attributes:
        kind: the kind of the source, one of `KINDS`; empty where the artifact does not say (ddjax 0.1).
        name: the name of the built-in set or of the file; for older artifacts the name of the data set.
        split: the seed and the fraction of the validation split; empty where there are none.
        form: the conversions of the examples, in their order.
        digests: the digests of the splits before the first conversion, by name; empty where not recorded.
        class_names: the names of the classes in the order of the labels; empty where not recorded.
        text: how texts were made examples of, of which only the `label` is used; empty for images.
    """

    kind: str
    name: str
    split: Mapping[str, Any]
    form: tuple[Mapping[str, Any], ...]
    digests: Mapping[str, str]
    class_names: tuple[str, ...]
    text: Mapping[str, Any]


def facts(data: Dataset) -> dict[str, Any]:
    """What an artifact says of its data: the source, its digests, the form of the examples, the classes.

    Args:
        data: the data that φ is distilled from.

    Returns:
        `dataset`, the name; `class_names`, in the order of the labels; and `data` with `source` (one of
        `KINDS`), `name`, `split`, `form`, `digests` (of the splits before the first conversion) and
        `input_shape`, as JSON can hold them; of texts also `text`, the settings that made examples of them.
    """
    origin = data.origin
    described = {
        "source": origin.kind,
        "name": origin.name,
        "split": dict(origin.split),
        "form": [dict(step) for step in origin.form],
        "digests": dict(origin.digests or digests(data)),
        "input_shape": list(data.input_shape),
    }
    if origin.text:
        described["text"] = dict(origin.text)
    return {"dataset": data.name, "class_names": list(data.class_names), "data": described}


def recorded(metadata: Mapping[str, Any], *, where: object) -> Recorded:
    """The data that the metadata of an artifact or a pool name.

    Args:
        metadata: the metadata, which may be of any origin.
        where: the name of the file, for messages.

    Returns:
        The data; what an older file does not say is empty.

    Raises:
        ValueError: the metadata say something of their data that `facts` would not.
    """
    own = metadata.get("data", {})
    checks.kind(f"{where}: metadata: data", own, Mapping, remedy=_REMEDY)
    names = metadata.get("class_names", [])
    checks.kind(f"{where}: metadata: class_names", names, list, remedy=_REMEDY)
    for name in names:
        checks.kind(f"{where}: metadata: class_names", name, str, remedy=_REMEDY)
    called = str(own.get("name", "") if own else metadata.get("dataset", ""))
    kind, parts = own.get("source", ""), {}
    if own:
        checks.choice(f"{where}: metadata: data: source", kind, KINDS, remedy=_REMEDY)
        checks.kind(f"{where}: metadata: data: name", own.get("name", ""), str, remedy=_REMEDY)
    for field, expected in (
        ("split", Mapping),
        ("digests", Mapping),
        ("form", list),
        ("text", Mapping),
    ):
        parts[field] = own.get(field, expected() if expected is list else {})
        checks.kind(f"{where}: metadata: data: {field}", parts[field], expected, remedy=_REMEDY)
    _check_split(where, parts["split"])
    for split, text in parts["digests"].items():
        checks.choice(f"{where}: metadata: data: digests", split, SPLITS, remedy=_REMEDY)
        if not isinstance(text, str) or not _DIGEST.fullmatch(text):
            raise ValueError(
                f"{where}: metadata: data: digests: expected 64 hexadecimal digits; got {str(text)[:80]!r}. "
                f"{_REMEDY}"
            )
    for step in parts["form"]:
        _check_step(where, step)
    label = parts["text"].get("label")
    if label is not None and not isinstance(label, str):
        raise ValueError(
            f"{where}: metadata: data: text: expected a text or none as the label; got {str(label)[:80]}. "
            f"{_REMEDY}"
        )
    form, own_text = tuple(parts["form"]), parts["text"]
    return Recorded(kind, called, parts["split"], form, parts["digests"], tuple(names), own_text)


def _check_split(where: object, split: Mapping[str, Any]) -> None:
    for name in split:
        checks.choice(f"{where}: metadata: data: split", name, ("seed", "fraction"), remedy=_REMEDY)
    if split:
        checks.at_least(f"{where}: metadata: data: split: seed", split.get("seed"), 0, remedy=_REMEDY)
        what = f"{where}: metadata: data: split: fraction"
        checks.fraction(what, split.get("fraction"), remedy=_REMEDY)


def _check_step(where: object, step: Any) -> None:
    what = f"{where}: metadata: data: form"
    checks.kind(what, step, Mapping, remedy=_REMEDY)
    checks.equal(f"{what}: conversions in a step", len(step), 1, remedy=_REMEDY)
    ((name, value),) = step.items()
    checks.choice(what, name, STEPS, remedy=_REMEDY)
    if name in ("pixels", "whiten"):
        checks.text(f"{what}: {name}", value, remedy=_REMEDY)
        return
    if name == "rotated":
        checks.positive(f"{what}: rotated", value, remedy=_REMEDY)
        return
    numbers = [value] if name == "channels" else value
    checks.kind(f"{what}: {name}", numbers, list, remedy=_REMEDY)
    if name == "resize":
        checks.equal(f"{what}: resize: numbers", len(numbers), 2, remedy=_REMEDY)
    for number in numbers:
        checks.at_least(f"{what}: {name}", number, 0 if name == "classes" else 1, remedy=_REMEDY)
        if number > LARGEST:
            raise ValueError(
                f"{what}: {name}: expected at most {LARGEST:,}; got {str(number)[:80]}. {_REMEDY}"
            )


def same_examples(own: Recorded, data: Dataset, encoding: Encoding | None, split: str) -> bool | None:
    """Whether a split is the one that an artifact names.

    Args:
        own: the data of the artifact.
        data: the data at hand, as they were loaded, before any conversion.
        encoding: the encoding that the artifact carries; None where there is none. A digest counts the
            encoding, which may have been changed after loading.
        split: the name of the split.

    Returns:
        Whether the digests are equal; None where the artifact has none.
    """
    if split not in own.digests:
        return None
    part = getattr(data, split)
    if digest(part) == own.digests[split]:
        return True
    try:
        again = dataclasses.replace(part, encoding=encoding) if encoding is not None else part
    except ValueError:  # an encoding of examples of another form
        return False
    return digest(again) == own.digests[split]


def check_classes(where: object, own: Sequence[str], data: Dataset) -> str:
    """Refuse data whose classes are not those of an artifact, in the same order.

    Args:
        where: the name of the file, for messages.
        own: the names of the classes in the artifact, in the order of its labels.
        data: the data at hand, with the same number of classes.

    Returns:
        A sentence about what could not be compared; empty where the names are equal.

    Raises:
        ValueError: the names differ, or come in another order.
    """
    theirs = tuple(data.class_names)
    if tuple(own) == theirs:
        return ""
    numbers = tuple(str(k) for k in range(len(theirs)))
    if sorted(own) == sorted(theirs):
        order = [theirs.index(name) for name in own]
        raise ValueError(
            f"{where}: expected the classes of the artifact in its order, {_short(own)}; {data.name} has "
            f"them as {_short(theirs)}. Bring the data to the artifact's order: "
            f"ddjax.data.with_classes(data, {order if len(order) <= 100 else '[...]'}), or number the labels "
            "of the file so."
        )
    if not own or numbers in (tuple(own), theirs):
        whose = "the artifact" if not own or tuple(own) == numbers else data.name
        return f"assumed: classes in the order {_short(theirs)}; {whose} does not name them"
    raise ValueError(
        f"{where}: expected data with the classes {_short(own)}; got {data.name} with {_short(theirs)}. Give "
        "--dataset=..., data with the artifact's classes."
    )


def _short(names: Sequence[str]) -> str:
    text = ", ".join(names)
    return text if len(text) <= 120 else f"{text[:117]}..."

"""Data sets of Hugging Face's `datasets`: an object in memory, a folder that it saved, or a name of the Hub.

    ddjax.data.from_huggingface(datasets.load_dataset("ylecun/mnist"))
    ddjax.data.load("hf:ylecun/mnist")            needs the package `datasets`: pip install 'ddjax[hf]'
    ddjax.data.load("hf:nyu-mll/glue:sst2")       a configuration of a set

Pictures are decoded by `datasets` and Pillow. An object needs no import of `datasets`: whatever has its
`features`, its length and its columns by name is taken.
"""

from __future__ import annotations

import dataclasses
import importlib
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ddjax import checks
from ddjax.data import pictures, text
from ddjax.data.dataset import Dataset, make_dataset
from ddjax.data.folders import SPLITS
from ddjax.data.text import TextSettings

HUB = "hf:"
"""What the names of sets of the Hub begin with."""

_PICTURES = ("Image", "Array2D", "Array3D")
"""The names of the kinds of columns that hold pictures."""

_INPUTS, _LABELS = ("text", "sentence", "content"), ("label", "labels")
"""The usual names of columns of texts and of labels, where the kinds of the columns leave a choice."""

_TO_CHOOSE = "Give a split `test` to choose them."


@checks.entry
def from_huggingface(
    dataset: Any,
    *,
    inputs: str | None = None,
    label: str | None = None,
    size: int | tuple[int, int] | None = None,
    name: str = "huggingface",
    layout: str | None = None,
    settings: TextSettings | None = None,
    validation_fraction: float = 0.1,
    seed: int = 0,
) -> Dataset:
    """A data set from an object of the package `datasets`.

    Args:
        dataset: a `DatasetDict`, or any mapping of splits by name, or one `Dataset`, whose test split is cut.
        inputs: the name of the column of pictures or texts; by default the only one.
        label: the name of the column of labels; by default the only one of classes, else `label`.
        size: the height and width that every picture is resized to, or one number for both; None takes the
            pictures as they are, which must then be of one size.
        name: the name of the data in artifacts and records.
        layout: the order of the axes of pictures that are arrays, see `ddjax.data.from_arrays`.
        settings: how texts become examples; None for the defaults. Refused for pictures.
        validation_fraction: the share of each training class that becomes the validation split, where there
            is none.
        seed: the seed that decides which examples become the validation split.

    Returns:
        The data set, with the classes in the order that `datasets` gives them.

    Warns:
        UserWarning: splits of other names are not used, the test split has no labels and the validation split
            takes its place, or there is no test split and one is cut.

    Raises:
        ValueError: no such object, a stream, no training split, no plain choice of columns, or examples and
            labels that `ddjax.data.from_arrays` or `from_texts` refuse.
        ImportError: texts, and the package `tokenizers` is not installed.
    """
    return _converted(
        dataset,
        inputs=inputs,
        size=size,
        layout=layout,
        settings=_labelled(settings or TextSettings(), label),
        is_asked=settings is not None,
        name=name,
        validation_fraction=validation_fraction,
        seed=seed,
    )


def _labelled(settings: TextSettings, label: str | None) -> TextSettings:
    return settings if label is None else dataclasses.replace(settings, label=label)


def from_hub(name: str, *, settings: TextSettings | None, validation_fraction: float, seed: int) -> Dataset:
    """A data set of the Hugging Face Hub, downloaded by `datasets` into its own cache.

    Args:
        name: `hf:OWNER/NAME`, or `hf:OWNER/NAME:CONFIGURATION`.
        settings: how texts become examples, with the name of the label; None for the defaults.
        validation_fraction: the share of each training class that becomes the validation split.
        seed: the seed that decides which examples become the validation split.

    Returns:
        The data set, named by the last part of the name.

    Raises:
        ImportError: the package `datasets` is not installed.
        FileNotFoundError: there is no such set, or the Hub cannot be reached.
        ValueError: no name of that form, no such configuration, or what `from_huggingface` refuses.
    """
    repository, _, configuration = name.removeprefix(HUB).partition(":")
    parts = repository.split("/")
    if not 1 <= len(parts) <= 2 or not all(part and not part.startswith((".", "~")) for part in parts):
        raise ValueError(
            f"dataset: expected hf:OWNER/NAME or hf:OWNER/NAME:CONFIGURATION; got {name!r}. Give the "
            "name of a set as the Hub shows it; a folder goes by its path, without hf:."
        )
    package = _package(name)
    try:
        found = package.load_dataset(repository, configuration or None)
    except OSError as error:  # an unknown set, no connection, no disk
        raise FileNotFoundError(
            f"dataset {name!r}: expected it on the Hugging Face Hub or in the cache of `datasets`; got "
            f"{str(error)[:300]}. Correct the name, or download it where there is a connection."
        ) from error
    except ValueError as error:  # a configuration that is missing or unknown
        raise ValueError(
            f"dataset {name!r}: expected a set that `datasets` loads; got {str(error)[:300]}. Name a "
            f"configuration as {HUB}{repository}:CONFIGURATION."
        ) from error
    return _converted(
        found,
        settings=settings or TextSettings(),
        is_asked=settings is not None and settings != TextSettings(label=settings.label),
        name=parts[-1],
        source=("built-in", name),
        validation_fraction=validation_fraction,
        seed=seed,
    )


def is_saved(path: Path) -> bool:
    """Whether a folder was written by `save_to_disk` of `datasets`.

    Args:
        path: the folder.

    Returns:
        True for such a folder.
    """
    is_one = (path / "dataset_info.json").is_file() and (path / "state.json").is_file()
    return is_one or (path / "dataset_dict.json").is_file()


def from_disk(path: Path, settings: TextSettings | None, *, validation_fraction: float, seed: int) -> Dataset:
    """A data set in a folder that `save_to_disk` of `datasets` wrote.

    Args:
        path: the folder.
        settings: how texts become examples, with the name of the label; None for the defaults.
        validation_fraction: the share of each training class that becomes the validation split.
        seed: the seed that decides which examples become the validation split.

    Returns:
        The data set, named by the folder.

    Raises:
        ImportError: the package `datasets` is not installed.
        ValueError: what `from_huggingface` refuses.
    """
    return _converted(
        _package(path).load_from_disk(str(path)),
        settings=settings or TextSettings(),
        is_asked=settings is not None and settings != TextSettings(label=settings.label),
        name=path.resolve().name,
        source=("file", path.resolve().name),
        validation_fraction=validation_fraction,
        seed=seed,
    )


def _package(what: object) -> Any:
    try:
        return importlib.import_module("datasets")
    except ImportError as error:
        raise ImportError(
            f"dataset {str(what)!r}: expected the package datasets to be installed; got {error}. Run "
            "`pip install 'ddjax[hf]'`, or give arrays or a folder of pictures."
        ) from error


def _converted(
    dataset: Any,
    *,
    inputs: str | None = None,
    size: int | tuple[int, int] | None = None,
    layout: str | None = None,
    settings: TextSettings,
    is_asked: bool,
    **facts: Any,
) -> Dataset:
    """The data set of an object; `is_asked` says that settings of texts were given."""
    parts = _parts(dataset, facts["name"])
    columns = _columns(parts["train"], inputs, settings.label)
    labels = {part: _labels(part, own, columns[1]) for part, own in parts.items()}
    names = _class_names(parts, columns[1])
    if "test" in labels and labels["test"].dtype.kind == "i" and (labels["test"] < 0).all():
        parts, labels = _with_labelled_test(parts, labels)
    examples = {part: list(own[columns[0]]) for part, own in parts.items()}
    if all(isinstance(one, str) for one in examples["train"]):
        _refuse_for_texts(size, layout)
        return text.dataset_of(examples, labels, settings, class_names=names, to_choose=_TO_CHOOSE, **facts)
    if is_asked:
        raise ValueError(
            f"settings: expected a data set of texts for settings of texts; {facts['name']} has pictures in "
            f"{columns[0]!r}. Leave the settings out."
        )
    images = _images(examples, columns[0], size)
    held_out = (images["validation"], labels["validation"]) if "validation" in images else None
    return make_dataset(
        images["train"],
        labels["train"],
        images.get("test"),
        labels.get("test"),
        class_names=names,
        validation=held_out,
        layout=layout or ("NHWC" if pictures.is_picture(examples["train"][0]) else None),
        to_choose=_TO_CHOOSE,
        **facts,
    )


def _refuse_for_texts(size: Any, layout: Any) -> None:
    for what, value in (("size", size), ("layout", layout)):
        if value is not None:
            raise ValueError(f"{what}: expected None for texts; got {value!r}. Leave it out.")


def _parts(dataset: Any, name: str) -> dict[str, Any]:
    """The splits `train`, and `test` and `validation` where there are any."""
    given = dict(dataset) if isinstance(dataset, Mapping) else {"train": dataset}
    for split, own in given.items():
        if not hasattr(own, "features") or not hasattr(own, "__getitem__"):
            raise ValueError(
                f"dataset: expected a Dataset or a DatasetDict of the package datasets; got "
                f"{type(own).__name__} as {split!r}. Give what datasets.load_dataset(...) returns, or "
                "arrays to ddjax.data.from_arrays."
            )
        if not hasattr(own, "__len__"):
            raise ValueError(
                f"dataset: expected data in memory; got a stream, {type(own).__name__}. Load it without "
                "streaming=True."
            )
    parts: dict[str, Any] = {}
    for split, own in given.items():
        if SPLITS.get(str(split).lower()) not in (None, *parts):
            parts[SPLITS[str(split).lower()]] = own
    if "train" not in parts:
        raise ValueError(
            f"dataset: expected a split `train`; got {', '.join(map(str, given)) or 'none'}. Give "
            "{'train': dataset['NAME'], ...}, a mapping of the splits to use."
        )
    unused = [str(split) for split, own in given.items() if all(own is not kept for kept in parts.values())]
    if unused:
        warnings.warn(
            f"dataset: {name}: not used: the splits {', '.join(unused)}; those that are used are train, "
            "test and validation. Give {'train': ..., 'test': ...} to choose others.",
            stacklevel=4,
        )
    return parts


def _columns(split: Any, inputs: str | None, label: str | None) -> tuple[str, str]:
    """The names of the columns of examples and of labels."""
    features = dict(split.features or {})
    listed = ", ".join(f"{name}: {_kind(feature)}" for name, feature in features.items())
    for what, name in (("inputs", inputs), ("label", label)):
        if name is not None:
            checks.choice(f"{what} of {listed}", name, features)
    classes = [name for name, feature in features.items() if _names(feature)]
    label = label or _only(classes) or _first(_LABELS, features)
    images = [name for name, feature in features.items() if _kind(feature) in _PICTURES]
    texts = [name for name, feature in features.items() if _kind(feature) == "string" and name != label]
    inputs = inputs or _only(images) or (None if images else _only(texts) or _first(_INPUTS, texts))
    if inputs is None or label is None:
        what = "inputs" if inputs is None else "label"
        raise ValueError(
            f"dataset: expected one column of pictures or texts and one of classes; got {listed or 'none'}. "
            f"Name the column: from_huggingface(dataset, {what}=...); --label=... for the label of hf:NAME."
        )
    return inputs, label


def _kind(feature: Any) -> str:
    """`Image`, `ClassLabel`, ..., and `string` or `int64` for plain values."""
    return str(getattr(feature, "dtype", "")) if type(feature).__name__ == "Value" else type(feature).__name__


def _names(feature: Any) -> list[str]:
    return list(getattr(feature, "names", None) or [])


def _only(names: Sequence[str]) -> str | None:
    return names[0] if len(names) == 1 else None


def _first(wanted: Sequence[str], names: Any) -> str | None:
    return next((name for name in wanted if name in names), None)


def _labels(part: str, split: Any, column: str) -> np.ndarray:
    """`[n]` numbers or texts."""
    if column not in (split.features or {}):
        raise ValueError(
            f"dataset: expected the column {column!r} in {part}, as in train; got none. Rename the column."
        )
    values = list(split[column])
    missing = next((row for row, value in enumerate(values) if value is None), None)
    if missing is not None:
        raise ValueError(
            f"dataset: expected a label in row {missing} of {part}; got none. Leave such rows out: "
            f"dataset.filter(lambda row: row[{column!r}] is not None)."
        )
    return np.asarray(values)


def _class_names(parts: Mapping[str, Any], column: str) -> list[str] | None:
    """The names of the classes, the same in all splits; None where `datasets` has none."""
    names = {part: _names(own.features[column]) for part, own in parts.items()}
    for part, own in names.items():
        if own != names["train"]:
            raise ValueError(
                f"dataset: expected the classes of train in {part}, {', '.join(names['train'])[:200]}; got "
                f"{', '.join(own)[:200]}. Cast the column: dataset.cast_column({column!r}, "
                "datasets.ClassLabel(names=[...]))."
            )
    return names["train"] or None


def _with_labelled_test(
    parts: dict[str, Any], labels: dict[str, np.ndarray]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The splits without a test split that has no labels; the validation split takes its place."""
    warnings.warn(
        "dataset: the test split has no labels, only -1: it is not used"
        + (", and the validation split is the test split." if "validation" in parts else "."),
        stacklevel=4,
    )

    def moved(given: dict[str, Any]) -> dict[str, Any]:
        kept = {part: own for part, own in given.items() if part == "train"}
        return kept | ({"test": given["validation"]} if "validation" in given else {})

    return moved(parts), moved(labels)


def _images(
    examples: Mapping[str, list[Any]], column: str, size: int | tuple[int, int] | None
) -> dict[str, Any]:
    """The pictures of each split as one array."""
    for part, own in examples.items():
        missing = next((row for row, value in enumerate(own) if value is None), None)
        if missing is not None:
            raise ValueError(
                f"dataset: expected a picture in row {missing} of {part}; got none. Leave such rows out."
            )
    if not pictures.is_picture(examples["train"][0]):
        if size is not None:
            raise ValueError(
                f"size: expected pictures that Pillow opened to resize; {column!r} has arrays. Use "
                "ddjax.data.resize(data, size) afterwards."
            )
        return {part: np.asarray(own) if _is_even(own) else own for part, own in examples.items()}
    sides, remedy = pictures.side_lengths(size), "Resize them: from_huggingface(dataset, size=...)."

    def opened(part: str, own: list[Any]) -> np.ndarray:
        names = [f"row {row} of {part}" for row in range(len(own))]
        found = [pictures.decoded(one, name, sides) for one, name in zip(own, names, strict=True)]
        return pictures.stacked(found, names, remedy=remedy)

    return pictures.alike({part: opened(part, own) for part, own in examples.items()})


def _is_even(values: Sequence[Any]) -> bool:
    return len({np.shape(value) for value in values}) == 1


__all__ = ["HUB", "from_disk", "from_hub", "from_huggingface", "is_saved"]

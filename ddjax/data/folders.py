"""Data sets in folders of pictures: a folder for each class, or a `metadata.csv` as Hugging Face reads it.

    pictures/train/cat/1.png   pictures/test/cat/9.png    splits, and in them a folder for each class
    pictures/cat/1.png                                    a folder for each class; a test split is cut
    pictures/metadata.csv      file_name, label           in each split's folder, or in one folder

Pictures are decoded by Pillow. Grey pictures have one channel, all others three; 16 bits become 8.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ddjax import checks
from ddjax.data import pictures
from ddjax.data.dataset import Dataset, make_dataset

SPLITS: Mapping[str, str] = {
    "train": "train",
    "training": "train",
    "test": "test",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
    "dev": "validation",
}
"""The splits that folders may be named for, by the names of the folders."""

TABLE = "metadata.csv"
"""The file that names pictures and labels, in the place of folders of classes."""

_COLUMNS = ("file_name", "label")


class Listed(NamedTuple):
    """The pictures of one split.

    Attributes:
        paths: the files of the pictures, in the order of their names.
        labels: the class of each picture, as the folder or the table names it.
    """

    paths: list[Path]
    labels: list[str]


@checks.entry
def from_folder(
    path: str | os.PathLike[str],
    *,
    size: int | tuple[int, int] | None = None,
    validation_fraction: float = 0.1,
    seed: int = 0,
) -> Dataset:
    """A data set from a folder of pictures.

    Args:
        path: the folder, with folders of splits, of classes, or a `metadata.csv`.
        size: the height and width that every picture is resized to, or one number for both; None takes the
            pictures as they are, which must then be of one size.
        validation_fraction: the share of each training class that becomes the validation split, where the
            folder has none.
        seed: the seed that decides which pictures become the validation split.

    Returns:
        The data set, with uint8 images and classes in the order of their names, or of their numbers where all
        names are numbers.

    Warns:
        UserWarning: there is no folder of test pictures, and a fifth of each class is cut as the test split;
            pictures of 16 bits that use less than half of the levels.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: there are no pictures, a file is no picture, the pictures are of several sizes or
            transparent, or a split has a class that training has not.
    """
    checks.path("path", path, remedy="Give the folder of the pictures.")
    root = Path(path).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(
            f"dataset: expected a folder of pictures; there is none at {root}. Give the path of one."
        )
    listed = _listed(root)
    names = _class_names(listed["train"].labels)
    numbers = {name: number for number, name in enumerate(names)}
    labels = {split: _numbered(root, split, own, numbers) for split, own in listed.items()}
    sides = pictures.side_lengths(size)
    images = pictures.alike({split: _opened(own.paths, sides) for split, own in listed.items()})
    validation = (images["validation"], labels["validation"]) if "validation" in images else None
    return make_dataset(
        images["train"],
        labels["train"],
        images.get("test"),
        labels.get("test"),
        name=root.resolve().name,
        class_names=names,
        validation=validation,
        validation_fraction=validation_fraction,
        seed=seed,
        layout="NHWC",
        source=("file", root.resolve().name),
        to_choose="Make a folder `test` beside `train` to choose them.",
    )


def _listed(root: Path) -> dict[str, Listed]:
    """The pictures of each split; all of them as `train` where there are no folders of splits."""
    own = {SPLITS[one.name.lower()]: one for one in _folders(root) if one.name.lower() in SPLITS}
    if not own:
        return {"train": _of_split(root)}
    if "train" not in own:
        raise ValueError(
            f"dataset: expected a folder `train` in {root} beside {', '.join(sorted(own))}; got none. Add it."
        )
    return {split: _of_split(folder) for split, folder in own.items()}


def _folders(root: Path) -> list[Path]:
    return sorted(one for one in root.iterdir() if one.is_dir() and not one.name.startswith("."))


def _of_split(folder: Path) -> Listed:
    if (folder / TABLE).is_file():
        return _of_table(folder)
    pairs = [(path, one.name) for one in _folders(folder) for path in _files(one)]
    if not pairs:
        raise ValueError(
            f"dataset: expected pictures in {folder}, in a folder for each class, or a {TABLE} with the "
            f"columns {' and '.join(_COLUMNS)}; got neither. Sort the pictures into folders named for their "
            "classes."
        )
    return Listed([path for path, _ in pairs], [name for _, name in pairs])


def _files(folder: Path) -> list[Path]:
    return sorted(one for one in folder.rglob("*") if one.is_file() and not one.name.startswith("."))


def _of_table(folder: Path) -> Listed:
    with (folder / TABLE).open(newline="", encoding="utf-8-sig") as lines:
        rows = list(csv.DictReader(lines))
    missing = [name for name in _COLUMNS if not rows or name not in rows[0]]
    if missing:
        raise ValueError(
            f"dataset: expected rows under the columns {' and '.join(_COLUMNS)} in {folder / TABLE}; "
            f"{' and '.join(missing)} missing, or no row. Write them."
        )
    for number, row in enumerate(rows, start=2):
        path = folder / str(row["file_name"])
        if not path.is_file() or folder.resolve() not in path.resolve().parents:
            raise ValueError(
                f"dataset: expected files inside {folder} in {TABLE}; line {number} names "
                f"{row['file_name']!r}, which is none. Correct the line."
            )
        if not row["label"]:
            raise ValueError(
                f"dataset: expected a label in line {number} of {folder / TABLE}; got none. Add it."
            )
    return Listed([folder / row["file_name"] for row in rows], [row["label"] for row in rows])


def _class_names(labels: Sequence[str]) -> list[str]:
    """The classes, in the order of their numbers where all are numbers, else of the alphabet."""
    found = set(labels)
    return sorted(found, key=int) if all(name.isdecimal() for name in found) else sorted(found)


def _numbered(root: Path, split: str, own: Listed, numbers: Mapping[str, int]) -> np.ndarray:
    for path, label in zip(own.paths, own.labels, strict=True):
        if label not in numbers:
            raise ValueError(
                f"dataset: expected the classes of training, {', '.join(numbers)}, in {split} of {root}; got "
                f"{label!r}, of {path.name}. Move the pictures, or add some of this class to training."
            )
    return np.array([numbers[label] for label in own.labels], np.int32)


def _opened(paths: Sequence[Path], sides: tuple[int, int] | None) -> np.ndarray:
    """`[n, H, W, C]` uint8, the pictures; grey where all of them are grey."""
    found = [_picture(path, sides) for path in paths]
    side = found[0].pixels.shape[0]
    names = [paths[0].name, *map(str, paths[1:])]
    remedy = f"Resize them: ddjax.data.from_folder(path, size={side})."
    return pictures.stacked(found, names, remedy=remedy)


def _picture(path: Path, sides: tuple[int, int] | None) -> pictures.Decoded:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as opened:
            return pictures.decoded(opened, str(path), sides)
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(
            f"dataset: expected pictures that Pillow reads; got {path} ({error}). Remove or repair it."
        ) from error


__all__ = ["SPLITS", "from_folder"]

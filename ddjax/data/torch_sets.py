"""Data sets of PyTorch and torchvision: any object with a length whose items are pairs of picture and label.

    train, test = CIFAR10(root, train=True), CIFAR10(root, train=False)     # of torchvision.datasets
    data = ddjax.data.from_torch(train, test)

PyTorch is not imported: pictures of Pillow's, tensors and arrays are taken as they come.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ddjax import checks
from ddjax.data import pictures
from ddjax.data.dataset import Dataset, make_dataset

_LOOKS = 8
"""The examples that are looked at twice, to notice an augmentation."""

_REMEDY = "Resize them: ddjax.data.from_torch(train, test, size=...)."


@checks.entry
def from_torch(
    train: Any,
    test: Any = None,
    validation: Any = None,
    *,
    size: int | tuple[int, int] | None = None,
    name: str = "torch",
    class_names: Sequence[str] | None = None,
    layout: str | None = None,
    validation_fraction: float = 0.1,
    seed: int = 0,
) -> Dataset:
    """A data set from data sets of PyTorch, such as torchvision's.

    Args:
        train: the training set, with a length and items `(picture, label)`; the picture of Pillow, a tensor
            `[C, H, W]` or `[H, W]`, or an array, the label a number or a name.
        test: the test set, of the same kind; None cuts a fifth of each class of the training set.
        validation: the validation set, of the same kind; None takes a share of the training set.
        size: the height and width that every picture of Pillow is resized to, or one number for both; None
            takes the pictures as they are, which must then be of one size.
        name: the name of the data in artifacts and records.
        class_names: the names of the K classes; by default `train.classes`, where the set has them.
        layout: the order of the axes of pictures that are arrays, see `ddjax.data.from_arrays`; tensors have
            their channels first.
        validation_fraction: the share of each training class that becomes the validation split, where there
            is none.
        seed: the seed that decides which examples become the validation split.

    Returns:
        The data set, with uint8 images.

    Warns:
        UserWarning: labels count the classes from one, or there is no test set and a test split is cut.

    Raises:
        ValueError: no such set, a loader or a stream in its place, items that are no pairs, an augmentation,
            pixels after normalisation, or what `ddjax.data.from_arrays` refuses.
    """
    given = {"train": train, "test": test, "validation": validation}
    items = {part: _items(part, own) for part, own in given.items() if own is not None}
    first = items["train"][0][0]
    if class_names is None:
        class_names = _classes(train)
    images = _images({part: [item[0] for item in own] for part, own in items.items()}, size)
    labels = {part: np.asarray([_plain(item[1]) for item in own]) for part, own in items.items()}
    is_tensor = hasattr(first, "detach") and np.ndim(_plain(first)) == 3
    return make_dataset(
        images["train"],
        labels["train"],
        images.get("test"),
        labels.get("test"),
        name=name,
        class_names=class_names,
        validation=(images["validation"], labels["validation"]) if "validation" in images else None,
        validation_fraction=validation_fraction,
        seed=seed,
        layout=layout or ("NHWC" if pictures.is_picture(first) else "NCHW" if is_tensor else None),
        to_choose="Give a test set to choose them.",
    )


def _items(part: str, dataset: Any) -> list[tuple[Any, Any]]:
    """All pairs of picture and label."""
    if hasattr(dataset, "batch_size") and hasattr(dataset, "dataset"):
        raise ValueError(
            f"{part}: expected a data set; got a loader, {type(dataset).__name__}. Give loader.dataset."
        )
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__") or not len(dataset):
        raise ValueError(
            f"{part}: expected a data set with a length and items (picture, label); got "
            f"{type(dataset).__name__}. Give a map-style data set, such as those of torchvision, or arrays "
            "to ddjax.data.from_arrays."
        )
    items = [dataset[row] for row in range(len(dataset))]
    for row, item in enumerate(items):
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            raise ValueError(
                f"{part}: expected a pair of picture and label as item {row}; got {type(item).__name__}"
                f"{f' of {len(item)}' if isinstance(item, (tuple, list, dict)) else ''}. Wrap the set so "
                "that its items are (picture, label)."
            )
    for row in range(min(_LOOKS, len(items))):
        if not np.array_equal(_plain(dataset[row][0]), _plain(items[row][0])):
            raise ValueError(
                f"{part}: expected the same picture at every look; item {row} changed. Leave random "
                "transforms out of the set: ddjax augments by itself (`--augment`, `--eval_augment`)."
            )
    return [(item[0], item[1]) for item in items]


def _classes(dataset: Any) -> list[str] | None:
    """The names of the classes, of the set itself or of the one that it is a part of."""
    inner, seen = dataset, []
    while inner is not None and inner not in seen:
        names = getattr(inner, "classes", None)
        if names is not None:
            return [str(one) for one in names]
        seen.append(inner)
        inner = getattr(inner, "dataset", None)
    return None


def _plain(value: Any) -> np.ndarray:
    """A tensor, a picture, a number or a text as an array."""
    return np.asarray(value.detach().cpu().numpy() if hasattr(value, "detach") else value)


def _images(examples: dict[str, list[Any]], size: int | tuple[int, int] | None) -> dict[str, np.ndarray]:
    sides = pictures.side_lengths(size)

    def opened(part: str, own: list[Any]) -> np.ndarray:
        names = [f"item {row} of {part}" for row in range(len(own))]
        if pictures.is_picture(own[0]):
            found = [pictures.decoded(one, name, sides) for one, name in zip(own, names, strict=True)]
            return pictures.stacked(found, names, remedy=_REMEDY)
        if sides is not None:
            raise ValueError(
                f"size: expected pictures of Pillow to resize; {part} has {type(own[0]).__name__}. Use "
                "ddjax.data.resize(data, size) afterwards."
            )
        shapes = {np.shape(_plain(one)) for one in own}
        if len(shapes) > 1:
            raise ValueError(
                f"{part}: expected pictures of one size; got {', '.join(map(str, sorted(shapes)[:3]))}. "
                "Bring them to one size by a transform of the set."
            )
        return np.stack([_plain(one) for one in own])

    found = {part: opened(part, own) for part, own in examples.items()}
    return pictures.alike(found) if pictures.is_picture(examples["train"][0]) else found


__all__ = ["from_torch"]

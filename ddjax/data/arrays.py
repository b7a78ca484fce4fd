"""The checks on images and labels, the same for every source, so that all sources refuse the same mistakes.

Every refusal is a ValueError that says what was expected, what was got and what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

_COLOUR_CHANNELS = (1, 3, 4)
_LARGEST_LABEL = np.iinfo(np.int32).max - 1


class RawArrays(NamedTuple):
    """The arrays of a source, before the validation split.

    Attributes:
        x_train: the training images, `[n, H, W, C]` uint8.
        y_train: the labels of the training images, `[n]` int32.
        x_test: the test images, `[m, H, W, C]` uint8.
        y_test: the labels of the test images, `[m]` int32.
        class_names: the names of the K classes; empty if the source has no names.
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    class_names: tuple[str, ...]


def images(what: str, value: Any) -> np.ndarray:
    """Check images and convert them to bytes.

    Args:
        what: the name of the images in error messages.
        value: the images, `[n, H, W, C]` or `[n, H, W]` (one channel), uint8 or floats in [0, 1]; floats are
            rounded to 8 bits.

    Returns:
        The images, `[n, H, W, C]` uint8.

    Raises:
        ValueError: wrong rank, no images, channels first, another dtype, floats outside [0, 1], NaN.
    """
    array = _as_array(what, value)
    if array.ndim not in (3, 4):
        raise ValueError(
            f"{what}: expected images of shape [n, H, W, C] or [n, H, W]; got shape {array.shape}. "
            f"Reshape it, e.g. {what}.reshape(n, height, width, channels)."
        )
    if array.size == 0:
        raise ValueError(f"{what}: expected at least one image; got shape {array.shape}. Give images.")
    if array.ndim == 3:
        array = array[..., None]
    _refuse_channels_first(what, array)
    return _as_bytes(what, array)


def labels(what: str, value: Any, *, length: int, num_classes: int | None = None) -> np.ndarray:
    """Check labels against the images they belong to.

    Args:
        what: the name of the labels in error messages.
        value: the labels, `[n]` integers in [0, K).
        length: the number of images, n.
        num_classes: the number of classes, K; None if the labels themselves define K.

    Returns:
        The labels, `[n]` int32.

    Raises:
        ValueError: wrong rank, dtype or length, a negative label, a label of K or more.
    """
    array = _as_array(what, value)
    if array.ndim != 1:
        remedy = f"Use {what}.argmax(-1) if the labels are one-hot, {what}.ravel() otherwise."
        raise ValueError(f"{what}: expected labels of shape [n]; got shape {array.shape}. {remedy}")
    if not np.issubdtype(array.dtype, np.integer):
        remedy = f"Number the classes from 0, then {what}.astype(np.int32)."
        raise ValueError(f"{what}: expected integer labels; got dtype {array.dtype}. {remedy}")
    if len(array) != length:
        raise ValueError(
            f"{what}: expected one label for each of the {length} images; got {len(array)} labels. "
            "Give images and labels of the same length."
        )
    if array.min() < 0:
        raise ValueError(
            f"{what}: expected labels >= 0; got {array.min()}. Number the classes 0, 1, 2, ... and drop "
            "unlabelled images."
        )
    if array.max() > _LARGEST_LABEL:
        raise ValueError(
            f"{what}: expected labels in [0, K), K classes; got {array.max()}. Number the classes 0, 1, 2, "
            f"..., for instance with np.unique({what}, return_inverse=True)[1]."
        )
    if num_classes is not None and array.max() >= num_classes:
        raise ValueError(
            f"{what}: expected labels in [0, {num_classes}), the classes of the training set; got "
            f"{array.max()}. Number the classes 0 to {num_classes - 1} in every part."
        )
    return array.astype(np.int32)


def every_class_present(what: str, value: np.ndarray, num_classes: int) -> None:
    """Refuse training labels in which a class has no image, or that contain one class only.

    Args:
        what: the name of the labels in error messages.
        value: the labels, `[n]` integers in [0, K).
        num_classes: the number of classes, K.

    Raises:
        ValueError: `num_classes` is below two, or one of the K classes has no label.
    """
    if num_classes < 2:
        raise ValueError(f"{what}: expected at least two classes; got {num_classes}. Nothing to classify.")
    present = np.unique(value)
    if len(present) == num_classes:
        return
    # Not np.setdiff1d(arange(K)): a stray label of 10**9 would allocate for a billion classes.
    absent = next((k for k, label in enumerate(present) if k != label), len(present))
    raise ValueError(
        f"{what}: expected an image of each of the {num_classes} classes; got {len(present)} classes, and "
        f"class {absent} has none. Number the classes that are there 0 to {len(present) - 1}, for instance "
        f"with np.unique({what}, return_inverse=True)[1]."
    )


def same_shape(what: str, value: np.ndarray, expected: np.ndarray) -> None:
    """Refuse images of another shape than the training images.

    Args:
        what: the name of the images in error messages.
        value: the images to check, `[m, H, W, C]`.
        expected: the training images, `[n, H, W, C]`.

    Raises:
        ValueError: the images differ from the training images in height, width or number of channels.
    """
    if value.shape[1:] != expected.shape[1:]:
        raise ValueError(
            f"{what}: expected images of shape {expected.shape[1:]}, as the training images; got "
            f"{value.shape[1:]}. Bring all images to one height, width and number of channels."
        )


def class_names(value: Sequence[str]) -> tuple[str, ...]:
    """Check the names of the classes.

    Args:
        value: the names, a sequence of strings.

    Returns:
        The names as a tuple.

    Raises:
        ValueError: an empty sequence, or items that are no strings.
    """
    names = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else ()
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError(
            f"class_names: expected a sequence of strings, one for each class; got {value!r}. "
            "Give tuple(names), or leave it out."
        )
    return names


def _as_array(what: str, value: Any) -> np.ndarray:
    try:
        array = np.asarray(value)
    except ValueError as error:  # a ragged list
        raise ValueError(
            f"{what}: expected an array; got a sequence whose items differ in shape. "
            "Bring all items to one shape, then np.stack(items)."
        ) from error
    if array.dtype == object:
        raise ValueError(
            f"{what}: expected numbers; got an array of Python objects (shape {array.shape}). "
            "Bring all items to one shape, then np.stack(items)."
        )
    return array


def _refuse_channels_first(what: str, array: np.ndarray) -> None:
    if array.shape[1] in _COLOUR_CHANNELS and array.shape[3] > max(_COLOUR_CHANNELS):
        raise ValueError(
            f"{what}: expected channels last, [n, H, W, C]; got shape {array.shape}, which looks like "
            f"[n, C, H, W]. Use {what}.transpose(0, 2, 3, 1)."
        )


def _as_bytes(what: str, array: np.ndarray) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(
            f"{what}: expected uint8 or floats in [0, 1]; got dtype {array.dtype}. "
            f"Use {what}.astype(np.uint8) if the values lie in [0, 255]."
        )
    if not np.isfinite(array).all():
        bad = int(np.count_nonzero(~np.isfinite(array)))
        raise ValueError(
            f"{what}: expected finite floats in [0, 1]; got {bad} values that are NaN or infinite. "
            "Remove or repair those images."
        )
    low, high = float(array.min()), float(array.max())
    if low < 0 or high > 1:
        raise ValueError(
            f"{what}: expected floats in [0, 1]; got values from {low:g} to {high:g}. Give pixels before "
            "normalisation: divide by 255 if they lie in [0, 255], or give uint8."
        )
    return np.rint(array.astype(np.float64) * 255).astype(np.uint8)

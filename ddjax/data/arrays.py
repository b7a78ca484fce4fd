"""The checks on images and labels, the same for every source, so that all sources refuse the same mistakes.

Every refusal is a ValueError that says what was expected, what was got and what to do.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ddjax import checks

COLOURS = (1, 3, 4)
"""The numbers of channels that pictures have: grey, colour, colour with transparency."""

LAYOUTS = ("NHWC", "NCHW")
"""The orders of the axes that images may come in: number, height, width, channels, by their first letters."""

_LARGEST_LABEL = np.iinfo(np.int32).max - 1


class RawArrays(NamedTuple):
    """The arrays of a source, before the validation split.

    Attributes:
        x_train: the training images, `[n, H, W, C]` uint8, or the training texts as `ddjax.data.text.packed`
            makes them, `[bytes]` uint8.
        y_train: the labels of the training examples, `[n]` int32.
        x_test: the test images or texts, in the same format.
        y_test: the labels of the test examples, `[m]` int32.
        class_names: the names of the K classes; empty if the source has no names.
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    class_names: tuple[str, ...]

    @property
    def is_text(self) -> bool:
        """Whether the examples are texts."""
        return self.x_train.ndim == 1


def images(what: str, value: Any, *, layout: str | None = None) -> np.ndarray:
    """Check images and convert them to bytes.

    Args:
        what: the name of the images in error messages.
        value: the images, `[n, H, W, C]` or `[n, H, W]` (one channel), uint8 or floats in [0, 1]; floats are
            rounded to 8 bits.
        layout: the order of the axes of images with four axes, `"NHWC"` or `"NCHW"`. None takes channels
            last where the last axis has 1, 3 or 4 and the shape cannot be channels first as well: a first
            axis of 1, 3 or 4 needs H = W, and so do images whose W equals C.

    Returns:
        The images, `[n, H, W, C]` uint8.

    Raises:
        ValueError: wrong rank, no images, axes whose order is not plain, another dtype, floats outside
            [0, 1], NaN.
    """
    array = _as_array(what, value)
    if array.dtype.kind in "US":
        raise ValueError(
            f"{what}: expected images; got texts, dtype {array.dtype}. Give texts to ddjax.data.from_texts, "
            "and pixels here, as uint8 or floats in [0, 1]."
        )
    if array.ndim not in (3, 4):
        raise ValueError(
            f"{what}: expected images of shape [n, H, W, C] or [n, H, W]; got shape {array.shape}. "
            f"Reshape it, e.g. {what}.reshape(n, height, width, channels)."
        )
    if array.size == 0:
        raise ValueError(f"{what}: expected at least one image; got shape {array.shape}. Give images.")
    if layout is not None:
        checks.choice("layout", layout, LAYOUTS)
    if array.ndim == 3:
        return _as_bytes(what, array[..., None])
    if layout is None:
        _check_channels_last(what, array.shape)
    return _as_bytes(what, array.transpose(0, 2, 3, 1) if layout == "NCHW" else array)


def flat(what: str, value: Any, *, length: int) -> np.ndarray:
    """Labels as an array of one axis, numbers or texts, one of each example.

    Args:
        what: the name of the labels in error messages.
        value: the labels, `[n]` or `[n, 1]`.
        length: the number of examples, n.

    Returns:
        The labels, `[n]`, of the type that they have.

    Raises:
        ValueError: several labels of an example, labels of no known type, or another number of labels.
    """
    array = _as_array(what, value)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        one_hot = array.ndim == 2 and array.dtype.kind in "biuf" and ((array != 0).sum(1) == 1).all()
        remedy = (
            f"Use {what}.argmax(-1), as they are one-hot."
            if one_hot
            else f"Choose one label of each image, for instance {what}[:, 0]: ddjax learns one class of each."
        )
        raise ValueError(f"{what}: expected labels of shape [n]; got shape {array.shape}. {remedy}")
    if len(array) != length:
        raise ValueError(
            f"{what}: expected one label for each of the {length} images; got {len(array)} labels. "
            "Give images and labels of the same length."
        )
    return array


def from_zero(
    labels: Mapping[str, np.ndarray], names: tuple[str, ...] | None
) -> tuple[dict[str, np.ndarray], tuple[str, ...] | None]:
    """Labels that count the classes from one, counted from zero; their numbers become names of classes.

    Args:
        labels: the labels of `train` and of the other parts, `[n]` each.
        names: the names of the classes; None for none.

    Returns:
        The labels and the names: as they are, unless the training labels are the numbers 1 to K, each of
        them present, and there are no names or K of them.

    Warns:
        UserWarning: the labels count from one.

    Raises:
        ValueError: the training labels count from one, and another part has a label outside 1 to K.
    """
    y = labels["train"]
    count = int(y.max()) if y.size and np.issubdtype(y.dtype, np.integer) and y.min() == 1 else 0
    if count < 2 or len(np.unique(y)) != count or len(names or range(count)) != count:
        return dict(labels), names
    for part, own in labels.items():
        is_whole = np.issubdtype(own.dtype, np.integer)
        outside = own[(own < 1) | (own > count)] if is_whole else own[:0]
        if len(outside):
            raise ValueError(
                f"y_{part}: expected labels from 1 to {count}, as those of training; got {outside[0]}. "
                f"Number the classes 0 to {count - 1} in every part."
            )
    warnings.warn(
        f"y_train: labels from 1 to {count} count the classes from one: class "
        f"{names[0] if names else '1'!r} is number 0 here, and so on. Subtract 1 from all labels, and give "
        "class_names, to say so in the data.",
        stacklevel=5,
    )
    moved = {part: own - 1 if np.issubdtype(own.dtype, np.integer) else own for part, own in labels.items()}
    return moved, names or tuple(str(k) for k in range(1, count + 1))


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
    array = flat(what, value, length=length)
    if not np.issubdtype(array.dtype, np.integer):
        raise ValueError(
            f"{what}: expected integer labels; got dtype {array.dtype}. {_remedy_for_labels(what, array)}"
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


def _remedy_for_labels(what: str, array: np.ndarray) -> str:
    if array.dtype.kind == "f" and np.isnan(array).any():
        return "Drop the examples whose label is NaN."
    if array.dtype.kind in "fb" and (array == np.rint(array.astype(np.float64))).all():
        return f"Use {what}.astype(np.int32)."
    return f"Use np.unique({what}, return_inverse=True)[1], which numbers the classes."


def texts(what: str, value: Any) -> np.ndarray | None:
    """Labels that are names of classes, as texts.

    Args:
        what: the name of the labels in error messages.
        value: the labels, of any kind.

    Returns:
        The names, an array of `str` of the same shape; None where the labels are no texts.

    Raises:
        ValueError: the labels are bytes that are not UTF-8.
    """
    array = _as_array(what, value)
    if array.dtype.kind == "U":
        return array
    if array.dtype.kind != "S":
        return None
    try:
        return np.char.decode(array, "utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{what}: expected labels in UTF-8; got {error}. Use np.char.decode({what}, the encoding)."
        ) from error


def numbered(what: str, names: np.ndarray, class_names: Sequence[str]) -> np.ndarray:
    """The numbers of labels that are names of classes.

    Args:
        what: the name of the labels in error messages.
        names: the labels, `[n]` texts.
        class_names: the names of the K classes; class k has the k-th name.

    Returns:
        The labels as numbers, of the shape of `names`, int32.

    Raises:
        ValueError: a label is none of the names, or two classes have the same name.
    """
    number = {name: k for k, name in enumerate(class_names)}
    if len(number) < len(class_names):
        raise ValueError(
            f"class_names: expected a name of its own for each class; got {len(class_names)} names, "
            f"{len(number)} of them different. Tell the classes apart, or number the labels."
        )
    unknown = sorted(set(names.ravel().tolist()) - number.keys())
    if unknown:
        raise ValueError(
            f"{what}: expected the names of classes, {', '.join(class_names)[:200]}; got "
            f"{unknown[0][:80]!r}. Name the class the same in every part, or give all class_names."
        )
    return np.array([number[name] for name in names.ravel()], np.int32).reshape(names.shape)


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
    if isinstance(value, np.ndarray) and value.ndim == 1:
        value = value.tolist()
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
    if array.dtype == object and array.size and all(isinstance(item, str) for item in array.flat):
        return array.astype(str)  # texts as data frames have them
    if array.dtype == object:
        raise ValueError(
            f"{what}: expected numbers; got an array of Python objects (shape {array.shape}). "
            "Bring all items to one shape, then np.stack(items)."
        )
    return array


def _check_channels_last(what: str, shape: tuple[int, ...]) -> None:
    """Refuse a shape that is not plainly `[n, H, W, C]`: axes that are mixed up would train in silence."""
    _, first, middle, last = shape
    is_colour = last in COLOURS
    if is_colour and (first == middle or not (first in COLOURS or middle == last)):
        return
    if is_colour:
        looks = "which may be [n, H, W, C] or [n, C, H, W]"
    elif first in COLOURS:
        looks = "which looks like [n, C, H, W]"
    else:
        looks = f"whose last axis has {last}"
    raise ValueError(
        f"{what}: expected channels last, [n, H, W, C] with C of 1, 3 or 4; got shape {shape}, {looks}. Use "
        f'{what}.transpose(0, 2, 3, 1) and layout="NHWC" if channels come first; give layout="NHWC" alone if '
        f"these are {last} channel(s) of {first}x{middle} pixels. An .npz has the layout as a member."
    )


def _remedy_for(what: str, array: np.ndarray) -> str:
    """The end of the message that refuses a dtype: the range of the values, and what makes pixels of them."""
    if array.dtype == bool:
        return f". Use {what}.astype(np.float32)."
    if not np.issubdtype(array.dtype, np.integer):
        return ". Give numbers: uint8 from 0 to 255, or floats from 0 to 1."
    low, high = int(array.min()), int(array.max())
    got = f" with values from {low} to {high}"
    if low < 0:
        return f"{got}. Use ({what}.astype(np.float64) - {low}) / {max(high - low, 1)}, in all parts alike."
    if high == 1:
        return f"{got}. Use {what}.astype(np.float32)."
    if high <= 255:
        return f"{got}. Use {what}.astype(np.uint8)."
    return f"{got}. Use {what} / {max(high, 65535)}, in all parts alike."


def _as_bytes(what: str, array: np.ndarray) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(
            f"{what}: expected uint8 or floats in [0, 1]; got dtype {array.dtype}{_remedy_for(what, array)}"
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

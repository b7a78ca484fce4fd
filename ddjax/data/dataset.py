"""`Dataset` and `Split`: the real training, validation and test images, and how to normalise them.

The validation split is taken from training, class by class, by a seed. Images stay uint8; what networks
see is x = (pixel / 255 - mean) / std with the channel statistics of the whole training set, validation
included, so that they do not depend on the seed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from ddjax import checks
from ddjax.data import arrays

_MAX_SEED = 2**32 - 1
_CHUNK = 1024  # images summed at a time: bounds the memory of `channel_statistics`


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """One part of a data set.

    Attributes:
        images: `[n, H, W, C]` uint8.
        labels: `[n]` int32 in [0, K).
        mean: `[C]` float32, of pixel / 255, of the training set.
        std: `[C]` float32, of pixel / 255, of the training set.
        num_classes: K; left out, it is the largest label plus one.
    """

    images: np.ndarray
    labels: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    num_classes: int = 0

    def __post_init__(self) -> None:
        shapes = np.shape(self.images), np.shape(self.labels)
        if len(shapes[0]) != 4 or shapes[1] != shapes[0][:1] or not shapes[1] or not shapes[1][0]:
            raise ValueError(
                f"split: expected images [n, H, W, C] and labels [n], n >= 1; got {shapes[0]}, {shapes[1]}. "
                "Use ddjax.data.from_arrays, which checks and converts."
            )
        self._check_values()
        if self.num_classes == 0:
            object.__setattr__(self, "num_classes", int(self.labels.max()) + 1)

    def _check_values(self) -> None:
        channels = np.shape(self.images)[3:]
        mean, std = np.asarray(self.mean), np.asarray(self.std)
        whole = all(
            isinstance(part, np.ndarray) and np.issubdtype(part.dtype, kind)
            for part, kind in ((self.images, np.uint8), (self.labels, np.integer))
        )
        if not whole or self.labels.min() < 0 or (self.num_classes and self.labels.max() >= self.num_classes):
            raise ValueError(
                "split: expected uint8 images and whole numbers in [0, num_classes) as labels; got others. "
                "Use ddjax.data.from_arrays, which checks and converts."
            )
        if (
            mean.shape != channels
            or std.shape != channels
            or not np.isfinite(mean).all()
            or not (std > 0).all()
        ):
            raise ValueError(
                f"split: expected a finite mean and a std above zero for each of {channels[0]} channels; got "
                f"{mean} and {std}. Use ddjax.data.from_arrays, which measures them."
            )

    def __len__(self) -> int:
        return len(self.labels)

    def normalised(self) -> np.ndarray:
        """`[n, H, W, C]` float32, what a network sees: (pixel / 255 - mean) / std."""
        return (self.images.astype(np.float32) / np.float32(255) - self.mean) / self.std


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """The real data of one problem.

    Attributes:
        name: how artifacts and records call it.
        train: what is distilled.
        validation: taken from training; φ and settings are chosen on it.
        test: seen by the final evaluation only.
        class_names: K names.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """`(H, W, C)`."""
        height, width, channels = self.train.images.shape[1:]
        return height, width, channels

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)

    @property
    def mean(self) -> np.ndarray:
        """`[C]` float32, of pixel / 255, of the training set."""
        return self.train.mean

    @property
    def std(self) -> np.ndarray:
        """`[C]` float32, of pixel / 255, of the training set."""
        return self.train.std


def from_arrays(
    x_train: Any,
    y_train: Any,
    x_test: Any,
    y_test: Any,
    *,
    name: str = "arrays",
    class_names: Sequence[str] | None = None,
    x_validation: Any = None,
    y_validation: Any = None,
    validation_fraction: float = 0.1,
    seed: int = 0,
) -> Dataset:
    """A data set from arrays in memory.

    Args:
        x_train: `[n, H, W, C]` or `[n, H, W]`, uint8 or floats in [0, 1] (rounded to 8 bits).
        y_train: `[n]` integers in [0, K), every class present.
        x_test: `[m, H, W, C]`, as x_train.
        y_test: `[m]` integers in [0, K).
        name: how artifacts and records call the data.
        class_names: K names; "0", "1", ... where left out.
        x_validation: images to validate on; left out, a share of the training set is taken.
        y_validation: their labels.
        validation_fraction: the share of each class that is taken from training, in (0, 1).
        seed: chooses which images are taken.

    Returns:
        The data set.

    Raises:
        ValueError: anything else than the above; the message says what was got and what to do.
    """
    return make_dataset(
        x_train,
        y_train,
        x_test,
        y_test,
        name=name,
        class_names=class_names,
        validation=_pair(x_validation, y_validation),
        validation_fraction=validation_fraction,
        seed=seed,
    )


def make_dataset(
    x_train: Any,
    y_train: Any,
    x_test: Any,
    y_test: Any,
    *,
    name: str,
    class_names: Sequence[str] | None = None,
    validation: tuple[Any, Any] | None = None,
    validation_fraction: float = 0.1,
    seed: int = 0,
    statistics: tuple[np.ndarray, np.ndarray] | None = None,
) -> Dataset:
    """Check, split and normalise: what every source ends with.

    Args:
        x_train: as in `from_arrays`.
        y_train: as in `from_arrays`.
        x_test: as in `from_arrays`.
        y_test: as in `from_arrays`.
        name: how artifacts and records call the data.
        class_names: K names; "0", "1", ... where left out.
        validation: images and labels; None takes a share of the training set.
        validation_fraction: the share of each class, in (0, 1).
        seed: chooses which images are taken.
        statistics: mean `[C]` and std `[C]` of pixel / 255; None measures them on the training set.

    Returns:
        The data set.

    Raises:
        ValueError: as `from_arrays`.
    """
    checks.text("name", name, remedy="Give how artifacts and records shall call the data.")
    x_train = arrays.images("x_train", x_train)
    names = None if class_names is None else arrays.class_names(class_names)
    y_train = arrays.labels(
        "y_train", y_train, length=len(x_train), num_classes=len(names) if names else None
    )
    num_classes = len(names) if names else int(y_train.max()) + 1
    arrays.every_class_present("y_train", y_train, num_classes)
    mean, std = statistics or channel_statistics(x_train)

    def part(which: str, x: Any, y: Any) -> Split:
        x = arrays.images(f"x_{which}", x)
        arrays.same_shape(f"x_{which}", x, x_train)
        y = arrays.labels(f"y_{which}", y, length=len(x), num_classes=num_classes)
        return Split(x, y, mean, std, num_classes)

    test = part("test", x_test, y_test)
    if validation is not None:
        kept, held_out = slice(None), part("validation", *validation)
    else:
        kept, taken = stratified_split(y_train, fraction=validation_fraction, seed=seed)
        held_out = Split(x_train[taken], y_train[taken], mean, std, num_classes)
    train = Split(x_train[kept], y_train[kept], mean, std, num_classes)
    return Dataset(name, train, held_out, test, names or tuple(str(k) for k in range(num_classes)))


def stratified_split(labels: np.ndarray, *, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Divide positions into two parts that hold the same share of every class.

    A class of two images or more has at least one in each part; the only image of a class is kept.

    Args:
        labels: `[n]` integers.
        fraction: the share that is taken, in (0, 1).
        seed: chooses which; the same on every machine and NumPy version.

    Returns:
        (kept, taken), positions in ascending order, n in all.

    Raises:
        ValueError: a fraction or a seed out of range, or no class with two images.
    """
    checks.positive("validation_fraction", fraction)
    if fraction >= 1:
        raise ValueError(
            f"validation_fraction: expected a number between 0 and 1; got {fraction!r}. Try 0.1."
        )
    checks.at_least("seed", seed, 0)
    if seed > _MAX_SEED:
        raise ValueError(f"seed: expected a whole number <= {_MAX_SEED}; got {seed}. Give a smaller one.")
    # The stream of RandomState is frozen for good (NEP 19); default_rng's may change with NumPy.
    random = np.random.RandomState(seed)
    is_taken = np.zeros(len(labels), bool)
    classes, sizes = np.unique(labels, return_counts=True)
    for label, count in zip(classes, _apportion(sizes, fraction), strict=True):
        members = random.permutation(np.flatnonzero(labels == label))
        is_taken[members[:count]] = True
    if not is_taken.any():
        raise ValueError(
            "validation split: expected a class of two images or more; got one image of each. "
            "Give more images, or x_validation and y_validation."
        )
    return np.flatnonzero(~is_taken), np.flatnonzero(is_taken)


def channel_statistics(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and std of pixel / 255 in each channel; a constant channel counts as std 1.

    Args:
        images: `[n, H, W, C]` uint8.

    Returns:
        (mean `[C]`, std `[C]`), float32.
    """
    total = np.zeros(images.shape[-1], np.uint64)
    squares = np.zeros(images.shape[-1], np.uint64)
    for start in range(0, len(images), _CHUNK):
        chunk = images[start : start + _CHUNK].astype(np.uint32)
        total += chunk.sum((0, 1, 2), dtype=np.uint64)
        squares += (chunk * chunk).sum((0, 1, 2), dtype=np.uint64)
    count = images.size // images.shape[-1]
    mean = total / count
    # In whole numbers of any size: the variance of a constant channel is zero exactly.
    variance = [(count * int(q) - int(s) ** 2) / count**2 for s, q in zip(total, squares, strict=True)]
    std = np.sqrt(variance)
    return (mean / 255).astype(np.float32), np.where(std > 0, std / 255, 1).astype(np.float32)


def _apportion(sizes: np.ndarray, fraction: float) -> np.ndarray:
    """How many of each class are taken: the share of the whole, largest remainders first."""
    shares = fraction * sizes
    counts = np.floor(shares).astype(int)
    left = round(fraction * sizes.sum()) - counts.sum()
    counts[np.argsort(counts - shares, kind="stable")[:left]] += 1
    return np.minimum(np.maximum(counts, 1), sizes - 1)


def _pair(x_validation: Any, y_validation: Any) -> tuple[Any, Any] | None:
    if (x_validation is None) != (y_validation is None):
        raise ValueError(
            "x_validation, y_validation: expected both or neither; got one of them. Give the other too."
        )
    return None if x_validation is None else (x_validation, y_validation)

"""`Dataset` and `Split`: the real training, validation and test examples, and how networks see them.

The validation split is taken from the training set, class by class, as a seed decides. Images stay uint8.
Networks see x = (pixel / 255 - mean) / std with the channel statistics of the whole training set, validation
included, so that the statistics do not depend on the seed. Other encodings (`ddjax.encodings`) can replace
this normalisation.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ddjax import checks
from ddjax.brief import Brief
from ddjax.data import arrays
from ddjax.encodings import Channels, channels_of
from ddjax.types import Encoding, as_image_shape

_MAX_SEED = 2**32 - 1
TEST_FRACTION, TEST_SEED = 0.2, 0
"""The share of each class that is cut as the test split where there is none, and the seed: fixed, so that
everybody has the same test examples."""

_CHUNK = 1024  # images summed at a time: bounds the memory of `channel_statistics`


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Split(Brief):
    """One part of a data set.

    Attributes:
        raw: the raw examples, `[n, *raw_shape]`; for images `[n, H, W, C]` uint8, for texts `[n, L]` whole
            numbers.
        labels: the labels of the examples, `[n]` int32 in [0, K).
        encoding: the encoding by which networks see the raw examples.
        num_classes: the number of classes, K; by default the largest label plus one.
    """

    raw: np.ndarray
    labels: np.ndarray
    encoding: Encoding
    num_classes: int = 0

    def __post_init__(self) -> None:
        shapes = np.shape(self.raw), np.shape(self.labels)
        if len(shapes[0]) < 2 or shapes[1] != shapes[0][:1] or not shapes[1] or not shapes[1][0]:
            raise ValueError(
                f"split: expected images [n, H, W, C] and labels [n], n >= 1; got {shapes[0]}, {shapes[1]}. "
                "Use ddjax.data.from_arrays, which checks and converts."
            )
        checks.kind("split: encoding", self.encoding, Encoding, remedy="Give one of ddjax.encodings.")
        self.encoding.check(self.raw)
        labels = self.labels
        whole = isinstance(labels, np.ndarray) and np.issubdtype(labels.dtype, np.integer)
        if not whole or labels.min() < 0 or (self.num_classes and labels.max() >= self.num_classes):
            raise ValueError(
                "split: expected whole numbers in [0, num_classes) as labels; got others. Use "
                "ddjax.data.from_arrays, which checks and converts."
            )
        if self.num_classes == 0:
            object.__setattr__(self, "num_classes", int(labels.max()) + 1)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def images(self) -> np.ndarray:
        """The raw examples of a split of images, `[n, H, W, C]` uint8.

        Raises:
            ValueError: the examples are not images.
        """
        as_image_shape(self.raw.shape[1:], "split")
        return self.raw

    @property
    def mean(self) -> np.ndarray:
        """The mean of pixel / 255 by which images are normalised, `[C]` float32."""
        return channels_of(self.encoding).mean

    @property
    def std(self) -> np.ndarray:
        """The standard deviation of pixel / 255 by which images are normalised, `[C]` float32."""
        return channels_of(self.encoding).std

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of an encoded example."""
        return self.encoding.input_shape(self.raw.shape[1:])

    def encoded(self) -> np.ndarray:
        """The examples as networks see them, `[n, *input_shape]` float32."""
        return np.asarray(self.encoding.encode(self.raw))

    def at(self, rows: np.ndarray) -> Split:
        """A part of the split.

        Args:
            rows: the examples to take, `[m]` positions or `[n]` booleans.

        Returns:
            The examples at these rows, in that order; the number of classes stays the same.
        """
        raw, labels = np.ascontiguousarray(self.raw[rows]), self.labels[rows]
        return dataclasses.replace(self, raw=raw, labels=labels)


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where data come from and what was done to them: what an artifact says of its data.

    Attributes:
        kind: `"built-in"` for a set that `load` knows by its name, `"file"` for a file of the user's,
            `"arrays"` for arrays in memory.
        name: the name of the built-in set or of the file, without its directory; empty for arrays.
        split: the seed and the fraction of the validation split, `{"seed": ..., "fraction": ...}`; empty
            where the source has a validation split of its own.
        form: the conversions of the examples since, in their order, each a dictionary of one name:
            `{"resize": [H, W]}`, `{"channels": C}` (to which grey images were repeated), `{"pixels": name}`
            (whose statistics normalise), `{"whiten": name}` (one of `ddjax.data.whitening.WHITENINGS`),
            `{"rotated": degrees}` (the largest angle that images were turned by),
            `{"classes": [...]}` (the numbers of the classes that were kept).
        digests: the digests of the three splits before the first conversion (`ddjax.data.digests`); empty
            where nothing was converted.
        text: how texts were made examples of, by the names of `ddjax.data.TextSettings`; empty for images.
    """

    kind: str = "arrays"
    name: str = ""
    split: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    form: tuple[Mapping[str, Any], ...] = ()
    digests: Mapping[str, str] = dataclasses.field(default_factory=dict)
    text: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Dataset(Brief):
    """The real data of one problem.

    Attributes:
        name: the name of the data in artifacts and records.
        train: the training split, from which φ is distilled.
        validation: the split taken from the training set, on which φ and settings are chosen.
        test: the test split, which only the final evaluation sees.
        class_names: the names of the K classes.
        origin: where the data come from, and what was done to them.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    origin: Origin = Origin()

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of an encoded example; for images `(H, W, C)`."""
        return self.train.input_shape

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The shape of the images, `(H, W, C)`.

        Raises:
            ValueError: the examples are not images.
        """
        return as_image_shape(self.input_shape, self.name)

    @property
    def num_classes(self) -> int:
        """The number of classes, K."""
        return len(self.class_names)

    @property
    def encoding(self) -> Encoding:
        """The encoding by which networks see the raw examples; the same in all splits."""
        return self.train.encoding

    @property
    def mean(self) -> np.ndarray:
        """The mean of pixel / 255 by which images are normalised, `[C]` float32."""
        return self.train.mean

    @property
    def std(self) -> np.ndarray:
        """The standard deviation of pixel / 255 by which images are normalised, `[C]` float32."""
        return self.train.std

    def with_splits(self, change: Callable[[Split], Split], **facts: Any) -> Dataset:
        """The data with every split changed in the same way.

        Args:
            change: the function that returns the changed split, `split -> split`.
            **facts: other fields of the data set to replace, by name.

        Returns:
            The changed data.
        """
        splits = {name: change(getattr(self, name)) for name in ("train", "validation", "test")}
        return dataclasses.replace(self, **splits, **facts)

    def encoded_by(self, encoding: Encoding) -> Dataset:
        """The same examples under another encoding.

        Args:
            encoding: the encoding of all three splits from now on.

        Returns:
            The data with that encoding.

        Raises:
            ValueError: the encoding does not fit these examples.
        """
        return self.with_splits(lambda split: dataclasses.replace(split, encoding=encoding))


def from_arrays(
    x_train: Any,
    y_train: Any,
    x_test: Any = None,
    y_test: Any = None,
    *,
    name: str = "arrays",
    class_names: Sequence[str] | None = None,
    x_validation: Any = None,
    y_validation: Any = None,
    validation_fraction: float = 0.1,
    seed: int = 0,
    layout: str | None = None,
) -> Dataset:
    """A data set from arrays in memory.

    Args:
        x_train: the training images, `[n, H, W, C]` or `[n, H, W]`, uint8 or floats in [0, 1] (rounded to 8
            bits). Without a `layout`, C is 1, 3 or 4.
        y_train: the labels of the training images, `[n]` or `[n, 1]`, integers in [0, K) or names of classes,
            every class present. Integers from 1 to K become names of classes.
        x_test: the test images, `[m, H, W, C]` or `[m, H, W]`, in the same format as the training images; by
            default a fifth of each class of the training set.
        y_test: the labels of the test images, `[m]`, in the same format as the training labels.
        name: the name of the data in artifacts and records.
        class_names: the names of the K classes; by default the names that the labels are, in alphabetical
            order, or "0", "1", ...
        x_validation: the validation images; by default a share of the training set is taken.
        y_validation: the labels of the validation images.
        validation_fraction: the share of each class that is taken from training, in (0, 1).
        seed: the seed that decides which images are taken.
        layout: the order of the axes of all images that have four, `"NHWC"` with any number of channels, or
            `"NCHW"`; None for channels last where the shape leaves no doubt of it.

    Returns:
        The data set.

    Warns:
        UserWarning: labels count the classes from one, or there are no test images and a test split is cut.

    Raises:
        ValueError: an argument that is not as described above; the message says what was expected, what was
            got and what to do.
    """
    return make_dataset(
        x_train,
        y_train,
        x_test,
        y_test,
        name=name,
        class_names=class_names,
        validation=pair(x_validation, y_validation),
        validation_fraction=validation_fraction,
        seed=seed,
        layout=layout,
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
    layout: str | None = None,
    source: tuple[str, str] = ("arrays", ""),
    to_choose: str = "Give x_test and y_test to choose them.",
) -> Dataset:
    """Check, split and normalise arrays: the last step of every source.

    Args:
        x_train: the training images, in a format that `from_arrays` accepts.
        y_train: the labels of the training images.
        x_test: the test images, in the same format; None cuts a test split from the training images.
        y_test: the labels of the test images.
        name: the name of the data in artifacts and records.
        class_names: the names of the K classes; by default "0", "1", ...
        validation: the validation images and their labels; None takes a share of the training set.
        validation_fraction: the share of each class that is taken from training, in (0, 1).
        seed: the seed that decides which images are taken.
        statistics: the mean `[C]` and standard deviation `[C]` of pixel / 255; None measures them on the
            training set.
        layout: the order of the axes of the images, see `from_arrays`.
        source: the kind and the name of the source, as in `Origin`.
        to_choose: the sentence that tells a user how to choose the test images, where a test split is cut.

    Returns:
        The data set.

    Raises:
        ValueError: an argument that `from_arrays` refuses.
    """
    x_train = arrays.images("x_train", x_train, layout=layout)
    raw, labels = {"train": x_train}, {"train": y_train}
    parts = {"test": pair(x_test, y_test, "test"), "validation": validation}
    for which, given in parts.items():
        if given is not None:
            raw[which], labels[which] = arrays.images(f"x_{which}", given[0], layout=layout), given[1]
            arrays.same_shape(f"x_{which}", raw[which], x_train)
    if "test" not in raw:
        raw, labels = with_test(raw, labels, name=name, to_choose=to_choose)
    return divided(
        raw,
        labels,
        Channels(*(statistics or channel_statistics(raw["train"]))),
        name=name,
        class_names=class_names,
        validation_fraction=validation_fraction,
        seed=seed,
        source=source,
    )


def with_test(
    raw: Mapping[str, Any], labels: Mapping[str, Any], *, name: str, to_choose: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Cut a test split from training examples: a fifth of each class, the same at every load.

    Args:
        raw: the examples of `train`, an array or a list of n texts, and perhaps of `validation`.
        labels: the labels of the same parts, in a format that `from_arrays` accepts.
        name: the name of the data in the warning.
        to_choose: the sentence that tells a user how to choose the test examples.

    Returns:
        The examples and the labels, with `test`.

    Warns:
        UserWarning: always, that a test split is cut.

    Raises:
        ValueError: the labels do not fit the examples, or no class has two of them.
    """
    y = arrays.flat("y_train", labels["train"], length=len(raw["train"]))
    kept, taken = stratified_split(y, fraction=TEST_FRACTION, seed=TEST_SEED, what="test")
    warnings.warn(
        f"dataset: {name} has no test examples: a fifth of each class is the test split, the same at every "
        f"load. {to_choose}",
        stacklevel=4,
    )
    x = raw["train"]
    cut = {
        part: x[rows] if isinstance(x, np.ndarray) else [x[row] for row in rows]
        for part, rows in (("train", kept), ("test", taken))
    }
    return {**raw, **cut}, {**labels, "train": y[kept], "test": y[taken]}


def divided(
    raw: Mapping[str, np.ndarray],
    labels: Mapping[str, Any],
    encoding: Encoding,
    *,
    name: str,
    class_names: Sequence[str] | None,
    validation_fraction: float,
    seed: int,
    source: tuple[str, str],
) -> Dataset:
    """Check labels, number the classes and take the validation split: what examples of all kinds go through.

    Args:
        raw: the raw examples of `train` and `test`, and of `validation` where the source has some; each
            `[n, *raw_shape]`.
        labels: the labels of the same parts, in a format that `from_arrays` accepts.
        encoding: the encoding of the examples.
        name: the name of the data in artifacts and records.
        class_names: the names of the K classes; None for those of the labels.
        validation_fraction: the share of each training class that is taken, in (0, 1), where there are no
            examples for validation.
        seed: the seed that decides which examples are taken.
        source: the kind and the name of the source, as in `Origin`.

    Returns:
        The data set.

    Raises:
        ValueError: labels that `from_arrays` refuses.
    """
    checks.text("name", name, remedy="Give how artifacts and records shall call the data.")
    names = None if class_names is None else arrays.class_names(class_names)
    flat = {part: arrays.flat(f"y_{part}", own, length=len(raw[part])) for part, own in labels.items()}
    labels, names = arrays.from_zero(flat, names)
    y_train, called = labels["train"], arrays.texts("y_train", labels["train"])
    if called is not None:
        names = names or tuple(np.unique(called).tolist())
        y_train = arrays.numbered("y_train", called, names)
    y_train = arrays.labels(
        "y_train", y_train, length=len(raw["train"]), num_classes=len(names) if names else None
    )
    num_classes = len(names) if names else int(y_train.max()) + 1
    arrays.every_class_present("y_train", y_train, num_classes)

    def part(which: str) -> Split:
        y, texts = labels[which], arrays.texts(f"y_{which}", labels[which])
        if texts is not None:
            y = arrays.numbered(f"y_{which}", texts, names or [str(k) for k in range(num_classes)])
        y = arrays.labels(f"y_{which}", y, length=len(raw[which]), num_classes=num_classes)
        return Split(raw[which], y, encoding, num_classes)

    test = part("test")
    if "validation" in raw:
        kept, held_out = slice(None), part("validation")
    else:
        kept, taken = stratified_split(y_train, fraction=validation_fraction, seed=seed)
        held_out = Split(raw["train"][taken], y_train[taken], encoding, num_classes)
    train = Split(raw["train"][kept], y_train[kept], encoding, num_classes)
    origin = Origin(*source, {} if "validation" in raw else {"seed": seed, "fraction": validation_fraction})
    return Dataset(name, train, held_out, test, names or tuple(str(k) for k in range(num_classes)), origin)


def stratified_split(
    labels: np.ndarray, *, fraction: float, seed: int, what: str = "validation"
) -> tuple[np.ndarray, np.ndarray]:
    """Divide the positions of examples into two parts with the same share of every class.

    A class of two images or more has at least one in each part; the only image of a class is kept.

    Args:
        labels: the labels of the examples, `[n]` integers.
        fraction: the share of the examples that is taken, in (0, 1).
        seed: the seed that decides which examples are taken; the result is the same on every machine and with
            every NumPy version.
        what: the name of the part that is taken, for messages.

    Returns:
        The positions of the examples that are kept and of those that are taken, each in ascending order; n
        in all.

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
    # NumPy guarantees RandomState's numbers for all versions (NEP 19); default_rng's may change.
    random = np.random.RandomState(seed)
    is_taken = np.zeros(len(labels), bool)
    classes, sizes = np.unique(labels, return_counts=True)
    for label, count in zip(classes, _apportion(sizes, fraction), strict=True):
        members = random.permutation(np.flatnonzero(labels == label))
        is_taken[members[:count]] = True
    if not is_taken.any():
        raise ValueError(
            f"{what} split: expected a class of two images or more; got one image of each. "
            f"Give more images, or x_{what} and y_{what}."
        )
    return np.flatnonzero(~is_taken), np.flatnonzero(is_taken)


def channel_statistics(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean and standard deviation of pixel / 255 in each channel; 1 replaces a deviation of zero.

    Args:
        images: the images, `[n, H, W, C]` uint8.

    Returns:
        The mean `[C]` and the standard deviation `[C]`, float32.
    """
    total = np.zeros(images.shape[-1], np.uint64)
    squares = np.zeros(images.shape[-1], np.uint64)
    for start in range(0, len(images), _CHUNK):
        chunk = images[start : start + _CHUNK].astype(np.uint32)
        total += chunk.sum((0, 1, 2), dtype=np.uint64)
        squares += (chunk * chunk).sum((0, 1, 2), dtype=np.uint64)
    count = images.size // images.shape[-1]
    mean = total / count
    # Python's whole numbers have no limit, so that the variance of a constant channel is exactly zero.
    variance = [(count * int(q) - int(s) ** 2) / count**2 for s, q in zip(total, squares, strict=True)]
    std = np.sqrt(variance)
    return (mean / 255).astype(np.float32), np.where(std > 0, std / 255, 1).astype(np.float32)


def _apportion(sizes: np.ndarray, fraction: float) -> np.ndarray:
    """The number of examples taken from each class: its share, rounded by the largest remainders."""
    shares = fraction * sizes
    counts = np.floor(shares).astype(int)
    left = round(fraction * sizes.sum()) - counts.sum()
    counts[np.argsort(counts - shares, kind="stable")[:left]] += 1
    return np.minimum(np.maximum(counts, 1), sizes - 1)


def pair(x: Any, y: Any, which: str = "validation") -> tuple[Any, Any] | None:
    """The examples of a split that may be missing, with their labels.

    Args:
        x: the examples; None for none.
        y: the labels of these examples; None for none.
        which: the name of the split, for the message.

    Returns:
        Both; None where there are none.

    Raises:
        ValueError: one of the two is missing.
    """
    if (x is None) != (y is None):
        raise ValueError(
            f"x_{which}, y_{which}: expected both or neither; got one of them. Give the other too."
        )
    return None if x is None else (x, y)

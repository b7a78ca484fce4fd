"""Where data sets come from: `load` by name or by path.

- `digits`: scikit-learn's 1,797 handwritten digits of 8 by 8 pixels, embedded, no download.
- The path of an `.npz` with `x_train`, `y_train`, `x_test`, `y_test`.
- An image-classification set of TFDS, by its TFDS name, prepared as array_record files; read without
  TensorFlow, decoded once and then kept in `ddjax.data.cache`.
"""

from __future__ import annotations

import difflib
import os
import shlex
import sys
from pathlib import Path

import numpy as np

from ddjax import checks, npz
from ddjax.data import cache, tfds_files
from ddjax.data.dataset import Dataset, make_dataset, stratified_split

_DIGITS = "digits"
_DIGITS_TEST_FRACTION = 0.2
_DIGITS_TEST_SEED = 0  # fixed: everybody has the same test images of `digits`

_ARRAYS = ("x_train", "y_train", "x_test", "y_test")

_STATISTICS = {
    "mnist": ((0.1307,), (0.3081,)),
    "fashion_mnist": ((0.2860,), (0.3530,)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "svhn_cropped": ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
}
"""Published mean and standard deviation of pixel / 255 over the training set; measured for all other sets."""


def known_names() -> tuple[str, ...]:
    """The names that `load` knows: `digits`, and the sets that TFDS can prepare (not all of them images)."""
    return (_DIGITS, *tfds_files.builder_names())


def load(
    name: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    validation_fraction: float = 0.1,
    seed: int = 0,
) -> Dataset:
    """Load a data set by its name or path.

    Args:
        name: the data set, as `digits`, the path of an `.npz`, or a TFDS name: `mnist`, `cifar10`,
            `emnist/balanced`, `mnist:3.0.1`. Of several versions on disk the newest is read.
        data_dir: the directory of TFDS sets; by default `$TFDS_DATA_DIR`, else `~/tensorflow_datasets`.
        validation_fraction: the share of each training class that becomes the validation split.
        seed: the seed that decides which images become the validation split.

    Returns:
        The data set, with uint8 images.

    Raises:
        ValueError: an unknown name, or data that are not images with one class label each.
        FileNotFoundError: the set is not prepared in `data_dir`, or there is no such `.npz`.
    """
    if name != "":  # the empty name gets the error that lists the available sets
        checks.path("dataset", name, remedy="Give digits, the path of an .npz, or a TFDS name such as mnist.")
    if data_dir is not None:
        checks.path("data_dir", data_dir, remedy="Give the directory that holds TFDS sets, or leave it out.")
    name = os.fspath(name)
    if name == _DIGITS:
        return _digits(validation_fraction, seed)
    if name.endswith(".npz"):
        return _npz(Path(name).expanduser(), validation_fraction, seed)
    return _tfds(name, tfds_files.data_directory(data_dir), validation_fraction, seed)


def _digits(validation_fraction: float, seed: int) -> Dataset:
    """scikit-learn's digits: grey levels 0 to 16 become bytes; a fifth of each class is the test split."""
    from sklearn.datasets import load_digits

    levels, labels = load_digits(return_X_y=True)
    images = np.rint(levels * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    rest, test = stratified_split(labels, fraction=_DIGITS_TEST_FRACTION, seed=_DIGITS_TEST_SEED)
    return make_dataset(
        images[rest],
        labels[rest],
        images[test],
        labels[test],
        name=_DIGITS,
        validation_fraction=validation_fraction,
        seed=seed,
    )


def _npz(path: Path, validation_fraction: float, seed: int) -> Dataset:
    members = _read_npz(path)
    return make_dataset(
        *(members[key] for key in _ARRAYS),
        name=path.stem,
        validation_fraction=validation_fraction,
        seed=seed,
    )


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    remedy = "Write it with np.savez(path, x_train=..., y_train=..., x_test=..., y_test=...)."
    if not path.is_file():
        raise FileNotFoundError(f"dataset: expected an .npz file; found none at {path}. {remedy}")
    try:
        # As large as it may be: the file is the user's own training data.
        members = npz.read(path, limit=sys.maxsize, only=_ARRAYS)
    except ValueError as error:
        raise ValueError(
            f"dataset: expected an .npz of plain arrays; got {path} ({error}). {remedy}"
        ) from error
    missing = [key for key in _ARRAYS if key not in members]
    if missing:
        raise ValueError(
            f"dataset: expected {', '.join(_ARRAYS)} in {path}; got {', '.join(members) or 'none of them'}, "
            f"without {', '.join(missing)}. {remedy}"
        )
    return members


def _tfds(name: str, data_dir: Path, validation_fraction: float, seed: int) -> Dataset:
    source = tfds_files.find(name, data_dir) if tfds_files.is_name(name) else None
    if source is None:
        raise _missing(name, data_dir)
    raw = cache.cached(tfds_files.identity(name, source), lambda: tfds_files.decode(source))
    return make_dataset(
        *raw[:4],
        name=name,
        class_names=raw.class_names,
        validation_fraction=validation_fraction,
        seed=seed,
        statistics=_published_statistics(name.partition(":")[0]),
    )


def _published_statistics(name: str) -> tuple[np.ndarray, np.ndarray] | None:
    if name not in _STATISTICS:
        return None
    mean, std = _STATISTICS[name]
    return np.array(mean, np.float32), np.array(std, np.float32)


def _missing(name: str, data_dir: Path) -> Exception:
    """The error for a set that is not on disk: an unknown name, or a set that is not prepared."""
    known = known_names()
    builder = name.partition(":")[0].partition("/")[0]
    if tfds_files.is_name(name) and builder in known:
        return FileNotFoundError(
            f"dataset {name!r}: expected it prepared in {data_dir}; found nothing there. Download and "
            f"prepare it: python scripts/prepare_data.py --dataset={name} "
            f"--data_dir={shlex.quote(str(data_dir))}"
        )
    near = difflib.get_close_matches(builder, known, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return ValueError(
        f"dataset: expected {_DIGITS}, the path of an .npz file, or the TFDS name of an image-classification "
        f"set (mnist, fashion_mnist, cifar10, ...); got {name!r}.{hint}"
    )

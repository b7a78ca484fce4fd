"""Where data sets come from: `load` by name or by path.

- `digits`: scikit-learn's 1,797 handwritten digits of 8 by 8 pixels, embedded, no download.
- A set of images or texts of TFDS, by its TFDS name, prepared as array_record files; read without
  TensorFlow, decoded once and then kept in `ddjax.data.cache`.
- A set of the Hugging Face Hub, as `hf:OWNER/NAME` or `hf:OWNER/NAME:CONFIGURATION`; needs the package
  `datasets` (`ddjax.data.huggingface`).
- A file, by its path: an `.npz` with `x_train`, `y_train` and, where there are any, `x_test`, `y_test`,
  `x_validation`, `y_validation` (or `x_val`, `y_val`), `class_names` and `layout`, or with MedMNIST's names;
  or a `.csv` or `.tsv` of texts with the columns `text`, `label` and `split`; or a folder of pictures
  (`ddjax.data.folders`), or one that `datasets` has saved.

Names and paths are told apart by their form, whatever lies in the directory: `digits` and `mnist` are always
the built-in sets, `./digits` and `digits.npz` always files. Where a source has no test examples, a fifth of
each class is cut, and a warning says so.
"""

from __future__ import annotations

import difflib
import os
import shlex
import sys
import warnings
from pathlib import Path

import numpy as np

from ddjax import checks, npz
from ddjax.data import arrays, cache, huggingface, text, tfds_files
from ddjax.data.dataset import Dataset, make_dataset, pair, stratified_split
from ddjax.data.folders import from_folder
from ddjax.data.text import TextSettings

_DIGITS = "digits"
_DIGITS_TEST_FRACTION = 0.2
_DIGITS_TEST_SEED = 0  # fixed: everybody has the same test images of `digits`

_TRAIN, _TEST = ("x_train", "y_train"), ("x_test", "y_test")
_VALIDATION = (("x_validation", "y_validation"), ("x_val", "y_val"))
_MEMBERS = (*_TRAIN, *_TEST, *_VALIDATION[0], *_VALIDATION[1], "class_names", "layout")
"""The members of an `.npz` that are read; others are named in a warning."""

_OTHER_NAMES = {
    f"{part}_{kind}": f"{letter}_{part}"
    for part in ("train", "val", "test")
    for kind, letter in (("images", "x"), ("labels", "y"))
}
"""The names of MedMNIST's files, `train_images` and so on, and the members that they stand for."""

_WRITE = "np.savez('data.npz', x_train=..., y_train=..., x_test=..., y_test=...)"
_FILES = {
    ".h5": "Read its arrays with h5py, each as file['NAME'][:]",
    ".hdf5": "Read its arrays with h5py, each as file['NAME'][:]",
    ".mat": "Read its arrays with scipy.io.loadmat",
    ".npy": "Read it with np.load; a data set has four arrays",
    ".parquet": "Open it with datasets.Dataset.from_parquet and give that to ddjax.data.from_huggingface; or "
    "read its columns into arrays",
    ".pkl": "Read its arrays with what wrote them",
    ".pt": "Read its tensors with torch.load, each as tensor.numpy()",
    ".tar": "Unpack it and give the folder, if it holds pictures by class; else read it into arrays",
    ".zip": "Unpack it and give the folder, if it holds pictures by class; else read it into arrays",
}
"""What to do with a file of another kind than `.npz`, by its suffix, before `_WRITE`."""

_TEXTS = (".csv", ".tsv")
"""The suffixes of files of texts."""

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
    text: TextSettings | None = None,
) -> Dataset:
    """Load a data set by its name or path.

    Args:
        name: the data set, as `digits`, a TFDS name (`mnist`, `cifar10`, `emnist/balanced`, `mnist:3.0.1`; of
            several versions on disk the newest is read), `hf:` and the name of a set of the Hugging Face Hub,
            or the path of an `.npz`, `.csv` or `.tsv`, or of a folder of pictures. A string without a
            separator and without the suffix of a file is a name; a `pathlib.Path` is always a path.
        data_dir: the directory of TFDS sets; by default `$TFDS_DATA_DIR`, else `~/tensorflow_datasets`.
        validation_fraction: the share of each training class that becomes the validation split, where the
            source has none.
        seed: the seed that decides which examples become the validation split.
        text: how texts become examples; None for the defaults. Refused for images, but for the name of the
            label of a set of the Hub.

    Returns:
        The data set, with uint8 images, or texts as numbers of words.

    Warns:
        UserWarning: an `.npz` has members or a set of the Hub splits that are not used, labels count the
            classes from one, or there are no test examples and a test split is cut.

    Raises:
        ValueError: an unknown name, a file of another kind, data that are neither images nor texts with one
            class label each, or settings of texts for images.
        FileNotFoundError: the set is not prepared in `data_dir`, or there is no such file.
        ImportError: texts, and the package `tokenizers` is not installed; a set of the Hub, and the package
            `datasets` is not.
    """
    if name != "":  # the empty name gets the error that lists the available sets
        checks.path("dataset", name, remedy="Give digits, the path of an .npz, or a TFDS name such as mnist.")
    if data_dir is not None:
        checks.path("data_dir", data_dir, remedy="Give the directory that holds TFDS sets, or leave it out.")
    if text is not None:
        checks.kind("text", text, TextSettings, remedy="Give ddjax.data.TextSettings(...), or leave it out.")
    split = {"validation_fraction": validation_fraction, "seed": seed}
    if isinstance(name, str) and name.startswith(huggingface.HUB):
        return huggingface.from_hub(name, settings=text, **split)
    if isinstance(name, os.PathLike) or is_path(name):
        return _file(Path(name).expanduser(), text, **split)
    if name == _DIGITS:
        _refuse_settings_of_texts(name, text)
        return _digits(**split)
    return _tfds(name, tfds_files.data_directory(data_dir), text, **split)


def _refuse_settings_of_texts(name: str, text: TextSettings | None) -> None:
    if text is not None:
        raise ValueError(
            f"text: expected a data set of texts for length, vocabulary, embedding, dim or label; {name} has "
            "images. Leave these settings out, or give texts, e.g. trec."
        )


def is_path(name: str) -> bool:
    """Whether a text names a file or folder of the user's and not a built-in set, by the form of the text.

    Args:
        name: the text.

    Returns:
        True for a text that begins with a dot, a tilde or a separator, ends with a separator, or has the
        suffix of a file; True too where it has a separator and cannot be `BUILDER/CONFIG` of TFDS. False for
        a name of the Hub, `hf:...`.
    """
    if name.startswith(huggingface.HUB):
        return False
    if name.startswith((".", "~", os.sep)) or name.endswith(os.sep):
        return True
    if Path(name).suffix.lower() in {".npz", *_TEXTS, *_FILES}:
        return True
    return os.sep in name and not tfds_files.is_name(name)


def _file(path: Path, settings: TextSettings | None, *, validation_fraction: float, seed: int) -> Dataset:
    """The data of a file or folder; refuses what is no `.npz`, table of texts or folder of pictures."""
    suffix = path.suffix.lower()
    if suffix in _TEXTS:
        return _texts_of_file(path, settings or TextSettings(), validation_fraction, seed)
    if suffix == ".npz":
        _refuse_settings_of_texts(path.name, settings)
        return _npz(path, validation_fraction, seed)
    then = f"and write {_WRITE}."
    if huggingface.is_saved(path):
        return huggingface.from_disk(path, settings, validation_fraction=validation_fraction, seed=seed)
    if path.is_dir():
        _refuse_settings_of_texts(path.name, settings)
        return from_folder(path, validation_fraction=validation_fraction, seed=seed)
    if not path.exists():
        raise FileNotFoundError(
            f"dataset: expected the path of an .npz file; found none at {path}. Write {_WRITE}, or give the "
            "name of a set without a separator or suffix."
        )
    remedy = _FILES.get(suffix, "Read it into arrays")
    raise ValueError(
        f"dataset: expected digits, the path of an .npz file, or a TFDS name; got a file "
        f"{f'of the kind {suffix}' if suffix else 'without a suffix'}, {path}. {remedy}, {then}"
    )


def _digits(validation_fraction: float, seed: int) -> Dataset:
    """scikit-learn's digits: grey levels 0 to 16 become bytes; a fifth of each class is the test split."""
    from sklearn.datasets import load_digits

    levels, classes = load_digits(return_X_y=True)
    labels = np.asarray(classes)
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
        layout="NHWC",
        source=("built-in", _DIGITS),
    )


def _texts_of_file(path: Path, settings: TextSettings, validation_fraction: float, seed: int) -> Dataset:
    found = text.read_file(path, label=settings.label)
    return text.dataset_of(
        found.texts,
        {part: np.array(labels) for part, labels in found.labels.items()},
        settings,
        name=path.stem,
        validation_fraction=validation_fraction,
        seed=seed,
        source=("file", path.name),
        to_choose="Write test into the column `split` to choose them.",
    )


def _npz(path: Path, validation_fraction: float, seed: int) -> Dataset:
    members = _read_npz(path)
    pairs = [tuple(members.get(name) for name in names) for names in _VALIDATION]
    given = [one for one in pairs if any(part is not None for part in one)]
    if len(given) > 1:
        raise ValueError(
            f"dataset: expected one validation split in {path}; got x_validation and x_val. Keep one of them."
        )
    names, layout = members.get("class_names"), members.get("layout")
    return make_dataset(
        *(members.get(key) for key in (*_TRAIN, *_TEST)),
        name=path.stem,
        class_names=None if names is None else _texts("class_names", names).tolist(),
        validation=pair(given[0][0], given[0][1]) if given else None,
        validation_fraction=validation_fraction,
        seed=seed,
        layout=None if layout is None else str(_texts("layout", layout)),
        source=("file", path.name),
        to_choose="Write x_test and y_test into the file to choose them.",
    )


def _texts(name: str, member: np.ndarray) -> np.ndarray:
    """A member that is to hold texts."""
    texts = arrays.texts(name, member)
    if texts is None:
        raise ValueError(
            f"{name}: expected texts; got {member.dtype}. Write {name}=np.array([...]) of strings, or leave "
            "it out."
        )
    return texts


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    remedy = f"Write it with {_WRITE}, texts as array.astype(str)."
    if not path.is_file():
        raise FileNotFoundError(f"dataset: expected an .npz file; found none at {path}. {remedy}")
    try:
        # As large as it may be: the file is the user's own training data.
        found = npz.read(path, limit=sys.maxsize, only=(*_MEMBERS, *_OTHER_NAMES))
        unknown = [name for name in npz.names(path, limit=sys.maxsize) if name not in found]
    except ValueError as error:
        raise ValueError(
            f"dataset: expected an .npz of plain arrays; got {path} ({error}). {remedy}"
        ) from error
    members = {_OTHER_NAMES.get(name, name): value for name, value in found.items()}
    if len(members) < len(found):
        raise ValueError(
            f"dataset: expected each array once in {path}; got {', '.join(found)}, of which train_images and "
            "x_train, and so on, are the same. Keep one of each."
        )
    wanted = (*_TRAIN, *(_TEST if members.keys() & set(_TEST) else ()))
    missing = [key for key in wanted if key not in members]
    if missing:
        raise ValueError(
            f"dataset: expected {', '.join(wanted)} in {path}; got {', '.join(found) or 'none of them'}, "
            f"without {', '.join(missing)}. {remedy}"
        )
    if unknown:
        warnings.warn(
            f"{path}: not used: {', '.join(map(repr, unknown))[:300]}; the members that are used are "
            f"{', '.join(_MEMBERS)}. Rename a member that is to be one of them, or leave it out.",
            stacklevel=4,
        )
    return members


def _tfds(
    name: str, data_dir: Path, settings: TextSettings | None, *, validation_fraction: float, seed: int
) -> Dataset:
    source = tfds_files.find(name, data_dir) if tfds_files.is_name(name) else None
    if source is None:
        raise _missing(name, data_dir)
    label = None if settings is None else settings.label
    key = tfds_files.identity(name, source) + (f"-{label}" if label else "")
    raw = cache.cached(key, lambda: tfds_files.decode(source, label=label))
    if raw.is_text:
        return text.dataset_of(
            {"train": text.unpacked(raw.x_train), "test": text.unpacked(raw.x_test)},
            {"train": raw.y_train, "test": raw.y_test},
            settings or TextSettings(),
            name=name,
            class_names=raw.class_names,
            validation_fraction=validation_fraction,
            seed=seed,
            source=("built-in", name),
        )
    _refuse_settings_of_texts(name, settings)
    return make_dataset(
        *raw[:4],
        name=name,
        class_names=raw.class_names,
        validation_fraction=validation_fraction,
        seed=seed,
        statistics=_published_statistics(name.partition(":")[0]),
        layout="NHWC",
        source=("built-in", name),
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
            f"prepare it: ddjax prepare --dataset={name} "
            f"--data_dir={shlex.quote(str(data_dir))}; or with TensorFlow installed: "
            f"tfds.builder({name!r}, data_dir={str(data_dir)!r}, file_format='array_record')"
            f".download_and_prepare()"
        )
    if os.sep in name:
        return FileNotFoundError(
            f"dataset: expected the path of an .npz file or a TFDS name; got {name!r}, and there is neither. "
            f"Write {_WRITE}, or give another name."
        )
    near = difflib.get_close_matches(builder, known, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return ValueError(
        f"dataset: expected {_DIGITS}, the path of an .npz file, or the TFDS name of a set of images or "
        f"texts (mnist, fashion_mnist, cifar10, trec, ...); got {name!r}.{hint}"
    )

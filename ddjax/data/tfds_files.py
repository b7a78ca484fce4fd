"""TFDS sets on disk: found, identified and decoded from array_record files without TensorFlow.

tensorflow_datasets is imported only inside the functions that use it. So importing ddjax stays cheap, and a
cached set is loaded without tensorflow_datasets.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from ddjax import checks
from ddjax.data.arrays import RawArrays
from ddjax.data.text import packed

_BATCH = 2048  # records fetched in one call
_USUAL_LABELS = {"trec": "label-coarse"}
"""The label that is meant where none is named, of sets with several."""

_NAME = re.compile(r"(?P<builder>\w+)(/(?P<config>[\w.+-]+))?(:(?P<version>\d+\.\d+\.\d+))?")
_VERSION = re.compile(r"\d+\.\d+\.\d+")


def is_name(name: str) -> bool:
    """Whether a name has the form of a TFDS name: `builder`, with or without `/config` and `:1.2.3`.

    Args:
        name: the name to check.

    Returns:
        True if the name has that form; the set itself may not exist.
    """
    return _NAME.fullmatch(name) is not None


def builder_names() -> tuple[str, ...]:
    """The names of all sets that TFDS can prepare, images or not."""
    import tensorflow_datasets as tfds

    # The community sets are listed on a server and need TensorFlow.
    return tuple(tfds.list_builders(with_community_datasets=False))


def data_directory(data_dir: str | os.PathLike[str] | None) -> Path:
    """The directory of TFDS sets.

    Args:
        data_dir: the directory that the user named, or None.

    Returns:
        The path of `data_dir`, else of `$TFDS_DATA_DIR`, else `~/tensorflow_datasets`.
    """
    return Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def find(name: str, data_dir: Path) -> Path | None:
    """The directory of the newest prepared version of a set.

    Args:
        name: the TFDS name of the set, `builder` or `builder/config`, with or without `:version`.
        data_dir: the directory of all TFDS sets.

    Returns:
        The directory, e.g. `data_dir/mnist/3.0.1`; None if the set is not prepared.

    Raises:
        ValueError: the set is prepared in configurations, and `name` does not say which.
    """
    match = _NAME.fullmatch(name)
    assert match is not None, name
    root = data_dir / match["builder"] / (match["config"] or "")
    found = [d for d in _subdirectories(root) if (d / "dataset_info.json").is_file()]
    versions = [d for d in found if _VERSION.fullmatch(d.name) and match["version"] in (None, d.name)]
    if versions:
        return max(versions, key=lambda d: tuple(map(int, d.name.split("."))))
    configs = sorted({d.name for d in _subdirectories(root) if any(d.glob("*/dataset_info.json"))})
    if configs and not match["config"]:
        raise ValueError(
            f"dataset: expected a configuration of {name}; got the bare name. {root} holds "
            f"{', '.join(configs)}: ask for {name}/{configs[0]}, for instance."
        )
    return None


def identity(name: str, source: Path) -> str:
    """A file name for exactly this preparation of a set: the set's name, version and a hash.

    The hash covers the descriptions and the name, size and time of every record file, but not the path: the
    same files mounted elsewhere are the same set.

    Args:
        name: the name of the set, as given to `find`.
        source: the directory that `find` returned.

    Returns:
        The file name, e.g. `mnist-3.0.1-0123456789abcdef`.
    """
    digest = hashlib.sha256()
    for path in sorted(source.iterdir()):
        status = path.stat()
        digest.update(f"{path.name} {status.st_size} {status.st_mtime_ns}\n".encode())
        if path.suffix == ".json":
            digest.update(path.read_bytes())
    bare = name.partition(":")[0].replace("/", "-")
    return f"{bare}-{source.name}-{digest.hexdigest()[:16]}"


def decode(source: Path, *, label: str | None = None) -> RawArrays:
    """Read and decode the training and test parts of a set of images or texts.

    The test part of a set whose own has no labels, as in GLUE, is its validation part.

    Args:
        source: the directory of the set, as returned by `find`.
        label: the name of the label, for a set that has several; None for the only or the usual one.

    Returns:
        The arrays, in the order of the records.

    Raises:
        ValueError: the files are not array_record files, the examples are not images of one size or texts
            with one label each, there is no such label, or the training or test part is missing.
    """
    import tensorflow_datasets as tfds

    # Not tfds.builder: a set's own code may need TensorFlow; the description on disk does not.
    builder: Any = tfds.builder_from_directory(source)
    keys = _keys(builder, label)
    _require_splits(builder)
    _require_array_record(builder)
    is_text = isinstance(builder.info.features[keys[0]], tfds.features.Text)
    read = _read_texts if is_text else _read_split
    x_train, y_train = read(builder, "train", *keys)
    x_test, y_test = read(builder, "test", *keys)
    if is_text and (y_test < 0).all() and "validation" in builder.info.splits:
        x_test, y_test = read(builder, "validation", *keys)
    return RawArrays(x_train, y_train, x_test, y_test, tuple(builder.info.features[keys[1]].names))


def _subdirectories(path: Path) -> list[Path]:
    return [child for child in path.iterdir() if child.is_dir()] if path.is_dir() else []


def _keys(builder: Any, label: str | None) -> tuple[str, str]:
    """The names of the image or text and of the label among the features of a set."""
    import tensorflow_datasets as tfds

    features: dict[str, Any] = dict(builder.info.features)
    supervised: Any = builder.info.supervised_keys or ()
    plain = len(supervised) == 2 and all(isinstance(key, str) for key in supervised)
    input_key, label_key = supervised if plain else ("image", "label")
    texts = [key for key, feature in features.items() if isinstance(feature, tfds.features.Text)]
    if input_key not in features and len(texts) == 1:
        (input_key,) = texts
    classes = [key for key, feature in features.items() if isinstance(feature, tfds.features.ClassLabel)]
    if label is not None:
        checks.choice(f"label of {builder.info.full_name}", label, classes)
    label_key = label or _USUAL_LABELS.get(builder.info.name, label_key)
    is_image = isinstance(features.get(input_key), tfds.features.Image)
    if not (is_image or input_key in texts) or label_key not in classes:
        listed = ", ".join(f"{key}: {type(feature).__name__}" for key, feature in sorted(features.items()))
        raise ValueError(
            f"dataset: expected images or texts with one class label each; got {builder.info.full_name} with "
            f"{listed}. Choose a set for classification (of several labels with label=...), or give arrays "
            "to ddjax.data.from_arrays, strings to ddjax.data.from_texts."
        )
    if is_image:
        _require_images(builder, features[input_key])
    return input_key, label_key


def _require_images(builder: Any, feature: Any) -> None:
    shape, dtype = feature.shape, np.dtype(feature.np_dtype)
    if None in shape or dtype != np.uint8:
        raise ValueError(
            f"dataset: expected uint8 images of one size; got {builder.info.full_name} with images of shape "
            f"{shape} and dtype {dtype}. Resize them and give the arrays to "
            "ddjax.data.from_arrays."
        )


def _require_splits(builder: Any) -> None:
    available = sorted(builder.info.splits)
    if not {"train", "test"} <= set(available):
        raise ValueError(
            f"dataset: expected the splits train and test; got {builder.info.full_name} with "
            f"{', '.join(available) or 'none'}. Divide it yourself and give the arrays to "
            "ddjax.data.from_arrays, or save them as an .npz."
        )


def _require_array_record(builder: Any) -> None:
    file_format = builder.info.file_format
    if file_format is None or file_format.value != "array_record":
        name = file_format.value if file_format else "an unknown format"
        raise ValueError(
            f"dataset: expected array_record files; got {name} in {builder.data_path}. Prepare the set in "
            "another --data_dir as array_record, which the command `ddjax prepare` writes."
        )


def _read_split(builder: Any, split: str, image_key: str, label_key: str) -> tuple[np.ndarray, np.ndarray]:
    """All images `[n, H, W, C]` and labels `[n]` of a split; each record is decoded once."""
    records = builder.as_data_source(split)
    images = np.empty((len(records), *builder.info.features[image_key].shape), np.uint8)
    labels = np.empty(len(records), np.int32)
    for start in range(0, len(records), _BATCH):
        positions = range(start, min(start + _BATCH, len(records)))
        for position, record in zip(positions, records.__getitems__(list(positions)), strict=True):
            images[position] = record[image_key]
            labels[position] = record[label_key]
    return images, labels


def _read_texts(builder: Any, split: str, text_key: str, label_key: str) -> tuple[np.ndarray, np.ndarray]:
    """All texts, packed, and labels `[n]` of a split."""
    records = builder.as_data_source(split)
    texts, labels = [], np.empty(len(records), np.int32)
    for start in range(0, len(records), _BATCH):
        positions = range(start, min(start + _BATCH, len(records)))
        for position, record in zip(positions, records.__getitems__(list(positions)), strict=True):
            texts.append(bytes(record[text_key]).decode("utf-8", errors="replace"))
            labels[position] = record[label_key]
    return packed(texts), labels

"""Small TFDS sets written without TensorFlow, real ones by TFDS_DATA_DIR, and a cache of the test's own."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def cache_dir(tmp_path, monkeypatch):
    """No test reads or writes the user's cache."""
    monkeypatch.setenv("DDJAX_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def real_tfds():
    """A function: the directory of real TFDS sets, or a skip where it lacks the set."""

    def directory(name: str) -> Path:
        root = os.environ.get("TFDS_DATA_DIR")
        if not root or not (Path(root) / name).is_dir():
            pytest.skip(f"needs the real {name}: set TFDS_DATA_DIR to a directory that holds it")
        return Path(root)

    return directory


@pytest.fixture
def write_tfds(tmp_path):
    """A function that writes a small prepared set; it returns the data_dir and the arrays."""
    return lambda name="toy", **settings: _write_tfds(tmp_path / "tfds", name, **settings)


def _write_tfds(
    data_dir,
    name,
    *,
    version="1.0.0",
    splits=None,
    shape=(6, 5, 1),
    dtype="uint8",
    numbers=False,
    texts=False,
    unlabelled="",
    form="array_record",
):
    rng = np.random.RandomState(0)
    directory = data_dir / name / version
    directory.mkdir(parents=True)
    arrays, described = {}, []
    for split, count in (splits or {"train": 30, "test": 9}).items():
        images = rng.randint(0, 256, (count, *[size or 4 for size in shape])).astype(np.uint8)
        labels = np.arange(count) % 3 if split != unlabelled else np.full(count, -1)
        arrays[split] = (images, labels.astype(np.int32))
        builder = name.split("/")[0]
        _write_records(directory / f"{builder}-{split}.{form}-00000-of-00001", images, labels, texts=texts)
        described.append(
            {
                "name": split,
                "shardLengths": [str(count)],
                "numBytes": "1",
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
            }
        )
    info = {"name": name.split("/")[0], "version": version, "fileFormat": form, "splits": described}
    (directory / "dataset_info.json").write_text(json.dumps(info))
    (directory / "features.json").write_text(json.dumps(_features(shape, dtype, numbers, texts)))
    (directory / "label.labels.txt").write_text("ape\nbee\ncat\n")
    return data_dir, arrays


def _features(shape, dtype, numbers, texts):
    package = "tensorflow_datasets.core.features"
    dimensions = ["-1" if size is None else str(size) for size in shape]
    image = {
        "pythonClassName": f"{package}.image_feature.Image",
        "image": {"shape": {"dimensions": dimensions}, "dtype": dtype},
    }
    if numbers:
        tensor = {"shape": {"dimensions": ["3"]}, "dtype": "float32", "encoding": "none"}
        image = {"pythonClassName": f"{package}.tensor_feature.Tensor", "tensor": tensor}
    if texts:
        image = {"pythonClassName": f"{package}.text_feature.Text", "text": {}}
    label = {
        "pythonClassName": f"{package}.class_label_feature.ClassLabel",
        "classLabel": {"numClasses": "3"},
    }
    return {
        "pythonClassName": f"{package}.features_dict.FeaturesDict",
        "featuresDict": {"features": {"image": image, "label": label}},
    }


def _write_records(path, images, labels, *, texts=False):
    from array_record.python.array_record_module import ArrayRecordWriter
    from tensorflow_datasets.proto import tf_example_pb2

    writer = ArrayRecordWriter(str(path), "group_size:1")
    for image, label in zip(images, labels, strict=True):
        png = io.BytesIO()
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(png, "PNG")
        # Protobuf makes its classes when it is imported, so that a type checker sees none of them.
        example = tf_example_pb2.Example()  # pyright: ignore[reportAttributeAccessIssue]
        sentence = f"word {('ape', 'bee', 'cat')[label]} {'ape' if label == 1 else ''}".encode()
        example.features.feature["image"].bytes_list.value.append(sentence if texts else png.getvalue())
        example.features.feature["label"].int64_list.value.append(int(label))
        writer.write(example.SerializeToString())
    writer.close()

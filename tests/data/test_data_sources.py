"""`load`: digits, .npz files, small TFDS sets written here, and the real MNIST."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest

from ddjax.data import known_names, load, sources, tfds_files
from ddjax.data.dataset import channel_statistics


def save(path, **changed):
    arrays = {
        "x_train": np.arange(12 * 16, dtype=np.uint8).reshape(12, 4, 4, 1),
        "y_train": np.arange(12) % 3,
        "x_test": np.zeros((3, 4, 4, 1), np.uint8),
        "y_test": np.arange(3),
    }
    arrays.update(changed)
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


def whole_training_set(data):
    return np.concatenate([data.train.images, data.validation.images])


# digits ------------------------------------------------------------------------------------------------


def test_digits():
    data = load("digits")
    assert data.image_shape == (8, 8, 1)
    assert data.class_names == tuple("0123456789")
    assert (len(data.train), len(data.validation), len(data.test)) == (1294, 144, 359)
    assert data.train.images.max() == 255
    assert len(np.unique(data.train.images)) == 17
    for split in (data.train, data.validation, data.test):
        assert (np.bincount(split.labels) >= 0.95 * len(split) / 10).all()


def test_the_seed_of_digits_moves_validation_but_not_test():
    one, two = load("digits", seed=0), load("digits", seed=1)
    np.testing.assert_array_equal(one.test.images, two.test.images)
    assert not np.array_equal(one.validation.images, two.validation.images)
    np.testing.assert_array_equal(one.mean, two.mean)


# .npz --------------------------------------------------------------------------------------------------


def test_npz_by_its_path(tmp_path):
    path = save(tmp_path / "mine.npz")
    for name in (path, str(path)):
        data = load(name, validation_fraction=0.25)
        assert (data.name, data.num_classes, data.image_shape) == ("mine", 3, (4, 4, 1))
        assert (len(data.train), len(data.validation), len(data.test)) == (9, 3, 3)


def test_npz_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"found none at .*none\.npz.*np\.savez"):
        load(tmp_path / "none.npz")


def test_npz_without_a_member(tmp_path):
    path = save(tmp_path / "x.npz", y_test=None)
    with pytest.raises(ValueError, match=r"without y_test.*np\.savez"):
        load(path)


def test_npz_with_objects_is_never_unpickled(tmp_path):
    path = save(tmp_path / "x.npz", y_train=np.array([{"a": 1}] * 12, dtype=object))
    with pytest.raises(ValueError, match=r"expected an \.npz of plain arrays"):
        load(path)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04rest", b"\x80\x04K\x01."])
def test_npz_that_is_something_else(tmp_path, content):
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"expected an \.npz of plain arrays"):
        load(path)


def test_npz_that_is_a_single_array(tmp_path):
    path = tmp_path / "x.npz"
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ValueError, match=r"expected an \.npz of plain arrays"):
        load(path)


def test_npz_goes_through_the_checks_of_all_arrays(tmp_path):
    path = save(tmp_path / "x.npz", x_train=np.zeros((12, 3, 16, 16), np.uint8))
    with pytest.raises(ValueError, match="transpose"):
        load(path)


@pytest.mark.parametrize("names", [("x_validation", "y_validation"), ("x_val", "y_val")])
def test_npz_with_a_validation_split_and_names_of_classes(tmp_path, names):
    x, y = np.full((2, 4, 4, 1), 9, np.uint8), np.array([2, 0])
    own = dict(zip(names, (x, y), strict=True))
    data = load(save(tmp_path / "x.npz", class_names=np.array(["c", "a", "b"]), **own))
    assert data.class_names == ("c", "a", "b")
    assert (len(data.train), len(data.validation)) == (12, 2)
    np.testing.assert_array_equal(data.validation.images, x)
    np.testing.assert_array_equal(data.validation.labels, y)
    assert data.origin.split == {}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x_val": np.zeros((2, 4, 4, 1), np.uint8)}, "expected both or neither"),
        (
            {name: np.zeros(2) for name in ("x_val", "y_val", "x_validation", "y_validation")},
            "one validation split",
        ),
        ({"class_names": np.arange(3)}, "class_names: expected texts; got int64"),
        ({"class_names": np.array(["a", "b"])}, r"labels in \[0, 2\)"),
        ({"layout": np.array("CHW")}, "layout: expected one of NCHW, NHWC; got 'CHW'"),
        ({"layout": np.array(3)}, "layout: expected texts"),
    ],
)
def test_npz_with_members_that_do_not_fit_is_refused(tmp_path, changed, message):
    with pytest.raises(ValueError, match=message):
        load(save(tmp_path / "x.npz", **changed))


def test_npz_with_its_channels_first_says_so(tmp_path):
    x = np.arange(12 * 2 * 25, dtype=np.uint8).reshape(12, 2, 5, 5)
    path = save(tmp_path / "x.npz", x_train=x, x_test=x[:3], layout=np.array("NCHW"))
    assert load(path).image_shape == (5, 5, 2)


def test_members_that_are_not_used_are_named(tmp_path):
    path = save(tmp_path / "x.npz", x_valid=np.zeros(1), ids=np.array([{}], object))
    with pytest.warns(
        UserWarning, match=r"x\.npz: not used: 'x_valid', 'ids'; the members that are used are x_"
    ):
        load(path)


def test_labels_of_an_npz_may_be_names(tmp_path):
    names = np.array(["cat", "ape", "bee"])
    data = load(save(tmp_path / "x.npz", y_train=names[np.arange(12) % 3], y_test=names))
    assert (data.class_names, data.test.labels.tolist()) == (("ape", "bee", "cat"), [2, 0, 1])


def medmnist(path, **changed):
    """A file with MedMNIST's names and shapes; returns the path and the arrays."""
    rng = np.random.default_rng(0)
    members = {}
    for part, count in (("train", 30), ("val", 6), ("test", 9)):
        members[f"{part}_images"] = rng.integers(0, 256, (count, 28, 28, 3), np.uint8)
        members[f"{part}_labels"] = (np.arange(count) % 3)[:, None].astype(np.uint8)
    members |= changed
    np.savez(path, **{name: value for name, value in members.items() if value is not None})
    return path, members


def test_the_names_of_medmnist(tmp_path):
    path, members = medmnist(tmp_path / "bloodmnist.npz")
    data = load(path)
    assert (data.name, data.class_names, data.image_shape) == ("bloodmnist", ("0", "1", "2"), (28, 28, 3))
    for part, own in (("train", data.train), ("val", data.validation), ("test", data.test)):
        np.testing.assert_array_equal(own.images, members[f"{part}_images"])
        np.testing.assert_array_equal(own.labels, members[f"{part}_labels"][:, 0])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"test_labels": None}, r"got .*test_images.*without y_test"),
        ({"x_train": np.zeros(3)}, "expected each array once .* are the same. Keep one of each"),
        ({"train_labels": np.tile([1, 1, 0], (30, 1))}, r"got shape \(30, 3\)\. Choose one label .*\[:, 0\]"),
        (
            {
                f"{part}_images": np.zeros((count, 9, 9, 9), np.uint8)
                for part, count in (("train", 30), ("val", 6))
            },
            r"expected channels last.*got shape \(30, 9, 9, 9\)",
        ),
    ],
)
def test_a_file_of_medmnist_that_does_not_fit_is_refused(tmp_path, changed, message):
    with pytest.raises(ValueError, match=message):
        load(medmnist(tmp_path / "x.npz", **changed)[0])


def test_an_npz_without_test_images_has_a_test_split_cut_and_it_is_said(tmp_path):
    x, y = np.arange(30 * 16, dtype=np.uint8).reshape(30, 4, 4, 1), np.arange(30) % 3
    path = save(tmp_path / "x.npz", x_train=x, y_train=y, x_test=None, y_test=None)
    with pytest.warns(UserWarning, match=r"x has no test examples: .*Write x_test and y_test into the file"):
        data = load(path)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [21, 3, 6]


# Names and paths are told apart by their form, whatever lies in the directory.


def test_a_built_in_name_never_opens_a_file_nor_a_path_a_built_in_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mine = save(tmp_path / "digits.npz")
    (tmp_path / "digits").mkdir()
    assert load("digits").origin.kind == "built-in"
    for name in ("digits.npz", "./digits.npz", mine, pathlib.Path("digits.npz")):
        data = load(name)
        assert (data.origin.kind, data.origin.name) == ("file", "digits.npz")
        assert data.num_classes == 3
    shutil.copy(mine, tmp_path / "MINE.NPZ")
    assert load("MINE.NPZ").origin.kind == "file"
    for path in ("./digits", "digits/", pathlib.Path("digits")):
        with pytest.raises(ValueError, match="expected pictures in digits, in a folder for each class"):
            load(path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("digits", False),
        ("mnist", False),
        ("mnist:3.0.1", False),
        ("emnist/balanced", False),
        ("./mnist", True),
        ("~/mnist", True),
        ("/data/mnist", True),
        ("mnist/", True),
        ("data/mnist.npz", True),
        ("mnist.NPZ", True),
        ("mnist.h5", True),
        ("my data/mnist", True),
    ],
)
def test_what_is_a_path(name, expected):
    assert sources.is_path(name) == expected


@pytest.mark.parametrize("name", ["../mnist", "arrays.npy", "my data/x", "data/none"])
def test_a_path_at_which_nothing_is(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"expected the path of an \.npz file.*np\.savez"):
        load(name, data_dir=tmp_path)


@pytest.mark.parametrize("suffix", [".h5", ".npy", ".zip", ".xyz", ""])
def test_a_file_of_another_kind_is_refused_by_its_kind(tmp_path, suffix):
    (tmp_path / f"x{suffix}").write_bytes(b"anything")
    with pytest.raises(
        ValueError, match=rf"{suffix or 'without a suffix'}.*and write np\.savez\('data\.npz'"
    ):
        load(str(tmp_path / f"x{suffix}"))


# TFDS sets written by the tests ------------------------------------------------------------------------


def test_tfds_set_is_read_in_the_order_of_its_records(write_tfds):
    data_dir, arrays = write_tfds("toy", shape=(6, 5, 3))
    data = load("toy", data_dir=data_dir)
    assert (data.name, data.class_names, data.image_shape) == ("toy", ("ape", "bee", "cat"), (6, 5, 3))
    np.testing.assert_array_equal(data.test.images, arrays["test"][0])
    np.testing.assert_array_equal(data.test.labels, arrays["test"][1])
    mean, std = channel_statistics(arrays["train"][0])
    np.testing.assert_array_equal(data.mean, mean)
    np.testing.assert_array_equal(data.std, std)


def test_data_dir_comes_from_the_environment(write_tfds, monkeypatch):
    data_dir, _ = write_tfds("toy")
    monkeypatch.setenv("TFDS_DATA_DIR", str(data_dir))
    assert load("toy").num_classes == 3


def test_the_second_load_reads_the_cache(write_tfds, monkeypatch):
    data_dir, _ = write_tfds("toy")
    first = load("toy", data_dir=data_dir)
    monkeypatch.setattr(tfds_files, "decode", lambda _: pytest.fail("decoded again"))
    second = load("toy", data_dir=data_dir)
    np.testing.assert_array_equal(first.train.images, second.train.images)
    assert second.class_names == first.class_names


def test_a_changed_source_is_decoded_again(write_tfds):
    data_dir, _ = write_tfds("toy")
    source = data_dir / "toy" / "1.0.0"
    before = tfds_files.identity("toy", source)
    os.utime(source / "toy-train.array_record-00000-of-00001", (1, 1))
    assert tfds_files.identity("toy", source) != before


def test_a_damaged_cache_is_decoded_again(write_tfds, cache_dir):
    data_dir, arrays = write_tfds("toy")
    load("toy", data_dir=data_dir)
    (path,) = (cache_dir / "data").iterdir()
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.warns(UserWarning, match="cache is damaged"):
        data = load("toy", data_dir=data_dir)
    np.testing.assert_array_equal(data.test.images, arrays["test"][0])


def test_the_newest_version_is_read_unless_one_is_named(write_tfds):
    for version, count in (("1.0.0", 6), ("2.0.0", 9), ("10.0.0", 12)):
        data_dir, _ = write_tfds("toy", version=version, splits={"train": 30, "test": count})
    assert len(load("toy", data_dir=data_dir).test) == 12
    assert len(load("toy:2.0.0", data_dir=data_dir).test) == 9


def test_configurations_are_named(write_tfds):
    data_dir, _ = write_tfds("toy/small")
    write_tfds("toy/tiny")
    assert load("toy/tiny", data_dir=data_dir).name == "toy/tiny"
    with pytest.raises(ValueError, match=r"holds small, tiny: ask for toy/small"):
        load("toy", data_dir=data_dir)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"numbers": True}, r"got toy/1\.0\.0 with image: Tensor, label: ClassLabel\. Choose"),
        ({"shape": (None, None, 3)}, r"images of shape \(None, None, 3\).*Resize"),
        ({"dtype": "uint16"}, r"dtype uint16.*from_arrays"),
        (
            {"splits": {"train": 30, "validation": 9}},
            r"splits train and test; got .* with train, validation\.",
        ),
        ({"form": "tfrecord"}, r"expected array_record files; got tfrecord.*ddjax prepare"),
    ],
)
def test_what_is_not_image_classification_is_refused(write_tfds, settings, message):
    data_dir, _ = write_tfds("toy", **settings)
    with pytest.raises(ValueError, match=message):
        load("toy", data_dir=data_dir)


# what is not there -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mnist", "emnist/letters", "cifar10:3.0.2"])
def test_a_missing_set_names_the_directory_and_the_command(tmp_path, name):
    with pytest.raises(FileNotFoundError) as raised:
        load(name, data_dir=tmp_path / "my data")
    assert f"expected it prepared in {tmp_path / 'my data'}" in str(raised.value)
    assert f"tfds.builder({name!r}, data_dir=" in str(raised.value)
    assert f"ddjax prepare --dataset={name} --data_dir='{tmp_path}/my data'" in str(raised.value)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("mnst", "'mnist'"),
        ("fashion-mnist", "'fashion_mnist'"),
        ("digit", "'digits'"),
        ("cifar_10", "'cifar10'"),
    ],
)
def test_an_unknown_name_gets_the_nearest(tmp_path, name, hint):
    with pytest.raises(ValueError, match=f"got '{name}'. Did you mean {hint}"):
        load(name, data_dir=tmp_path)


@pytest.mark.parametrize("name", ["", "no such set at all", "cifar-10-python"])
def test_what_is_no_name_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"expected digits, the path of an \.npz file"):
        load(name, data_dir=tmp_path)


def test_known_names_begin_with_digits():
    assert known_names()[0] == "digits"
    assert {"mnist", "fashion_mnist", "cifar10", "svhn_cropped"} <= set(known_names())


# the real sets -----------------------------------------------------------------------------------------

LOAD_MNIST = """
import sys, time
import ddjax.data
assert not {"tensorflow", "tensorflow_datasets", "sklearn"} & set(sys.modules)
begin = time.perf_counter()
data = ddjax.data.load("mnist")
seconds = time.perf_counter() - begin
assert "tensorflow" not in sys.modules
print(__import__("json").dumps([seconds, len(data.train), "tensorflow_datasets" in sys.modules]))
"""


def load_mnist_in_a_process(data_dir, cache_dir):
    env = {**os.environ, "TFDS_DATA_DIR": str(data_dir), "DDJAX_CACHE_DIR": str(cache_dir)}
    output = subprocess.run(
        [sys.executable, "-W", "error", "-c", LOAD_MNIST], env=env, check=True, capture_output=True, text=True
    )
    return json.loads(output.stdout.splitlines()[-1])


@pytest.mark.slow
def test_real_mnist(real_tfds, cache_dir):
    """One decode serves all: no TensorFlow in the process, then the cache, its speed and its content."""
    data_dir = real_tfds("mnist")
    _, count, used_tfds = load_mnist_in_a_process(data_dir, cache_dir)
    assert (count, used_tfds) == (54000, True)
    seconds, count, used_tfds = load_mnist_in_a_process(data_dir, cache_dir)
    assert (count, used_tfds) == (54000, False)
    assert seconds < 2

    begin = time.perf_counter()
    data = load("mnist", data_dir=data_dir)
    assert time.perf_counter() - begin < 2
    assert (len(data.train), len(data.validation), len(data.test)) == (54000, 6000, 10000)
    np.testing.assert_array_equal(
        np.bincount(data.test.labels), [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    )
    np.testing.assert_array_equal(
        np.bincount(np.concatenate([data.train.labels, data.validation.labels])),
        [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
    )
    mean, std = channel_statistics(whole_training_set(data))
    np.testing.assert_allclose(data.mean, mean, atol=1e-4)
    np.testing.assert_allclose(data.std, std, atol=1e-4)
    assert data.train.images.flags.c_contiguous


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fashion_mnist", "cifar10"])
def test_published_statistics_of_real_sets(real_tfds, name):
    """A fourteenth of each set bounds the published figures well enough to catch a wrong one."""
    import tensorflow_datasets as tfds

    builder: Any = tfds.builder_from_directory(str(tfds_files.find(name, real_tfds(name))))
    records = builder.as_data_source("train[:7%]")
    images = np.stack([record["image"] for record in records.__getitems__(list(range(len(records))))])
    for published, measured in zip(sources._STATISTICS[name], channel_statistics(images), strict=True):
        np.testing.assert_allclose(published, measured, atol=0.01)


def test_the_sources_are_not_touched(real_tfds):
    """What `load` writes goes to the cache, never beside the data, which may be read-only."""
    source = pathlib.Path(tfds_files.find("trec", real_tfds("trec")) or "")
    before = sorted(source.iterdir())
    assert load("trec", data_dir=real_tfds("trec")).num_classes == 6
    assert sorted(source.iterdir()) == before

"""Data sets of Hugging Face's `datasets`: objects, folders that it saved, names of the Hub; what is refused.

Most tests use an object of the same form, so that they need no package; the last ones use the real package
and are skipped, with the reason, where it is not installed.
"""

from __future__ import annotations

import sys
import types
import warnings
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from ddjax.data import TextSettings, from_arrays, from_huggingface, load

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (30, 5, 6), np.uint8)
NAMES = ["ape", "bee", "cat"]


class Value:
    """A plain column, under the name that `datasets` gives its kind."""

    def __init__(self, dtype: str):
        self.dtype = dtype


class ClassLabel(Value):
    """A column of classes."""

    def __init__(self, names: list[str]):
        super().__init__("int64")
        self.names = names


class Image:
    """A column of pictures."""


class Array2D:
    """A column of arrays."""


class Table:
    """One split: columns by name, a length and the kinds of the columns."""

    def __init__(self, features: dict[str, Any], **columns: list[Any]):
        self.features, self.columns = features, columns

    def __len__(self):
        return len(next(iter(self.columns.values())))

    def __getitem__(self, name: str):
        return self.columns[name]


def pictures(count: int, start: int = 0, kind: Any = None) -> Table:
    rows = [Pillow.fromarray(PIXELS[row % 30]) for row in range(start, start + count)]
    labels = [row % 3 for row in range(count)]
    return Table({"image": Image(), "label": kind or ClassLabel(NAMES)}, image=rows, label=labels)


def texts(count: int, **features: Any) -> Table:
    words = [f"{('apes', 'bees')[i % 2]} like {('sun', 'rain', 'snow')[i % 3]}" for i in range(count)]
    kinds = {"text": Value("string"), "label": ClassLabel(["ape", "bee"])} | features
    return Table(kinds, text=words, label=[i % 2 for i in range(count)])


def test_splits_classes_and_pictures_are_those_of_the_object():
    data = from_huggingface({"train": pictures(30), "valid": pictures(3), "test": pictures(6, 3)})
    assert (data.class_names, data.image_shape) == (tuple(NAMES), (5, 6, 1))
    assert (len(data.train), len(data.validation), len(data.test)) == (30, 3, 6)
    np.testing.assert_array_equal(data.test.raw[..., 0], PIXELS[3:9])
    assert data.test.labels.tolist() == [0, 1, 2] * 2
    assert (data.origin.kind, data.origin.split) == ("arrays", {})


def test_one_split_is_cut_and_said_aloud():
    with pytest.warns(UserWarning, match=r"a fifth of each class is the test split.*Give a split `test`"):
        data = from_huggingface(pictures(30))
    assert np.bincount(data.test.labels).tolist() == [2, 2, 2]


def test_other_splits_are_named():
    given = {"train": pictures(30), "test": pictures(3), "extra": pictures(3)}
    with pytest.warns(UserWarning, match="not used: the splits extra"):
        assert len(from_huggingface(given).test) == 3


def test_pictures_may_be_resized_and_arrays_are_taken():
    data = from_huggingface({"train": pictures(30), "test": pictures(3)}, size=4)
    assert data.image_shape == (4, 4, 1)
    split = Table({"image": Array2D(), "label": Value("int64")}, image=list(PIXELS), label=[0, 1] * 15)
    data = from_huggingface({"train": split, "test": split})
    np.testing.assert_array_equal(data.test.raw[..., 0], PIXELS)
    assert data.class_names == ("0", "1")


def test_labels_may_be_names_or_count_from_one():
    named = pictures(30, kind=Value("string"))
    named.columns["label"] = [NAMES[i] for i in named["label"]]
    assert from_huggingface({"train": named, "test": named}).class_names == tuple(NAMES)
    counted = pictures(30, kind=Value("int64"))
    counted.columns["label"] = [i + 1 for i in counted["label"]]
    with pytest.warns(UserWarning, match="count the classes from one"):
        assert from_huggingface({"train": counted, "test": counted}).class_names == ("1", "2", "3")


@pytest.mark.slow
def test_texts_are_taken_and_a_test_split_without_labels_is_not():
    settings = TextSettings(length=3, vocabulary=20, embedding="random", dim=4)
    unlabelled = texts(6)
    unlabelled.columns["label"] = [-1] * 6
    given = {"train": texts(20), "validation": texts(4), "test": unlabelled}
    with pytest.warns(
        UserWarning, match="only -1: it is not used, and the validation split is the test split"
    ):
        data = from_huggingface(given, settings=settings)
    assert (data.class_names, len(data.test)) == (("ape", "bee"), 4)
    assert data.origin.split == {"seed": 0, "fraction": 0.1}


def two_labels() -> Table:
    table = pictures(30)
    table.features = {"image": Image(), "fine": ClassLabel(NAMES), "coarse": ClassLabel(["x", "y", "z"])}
    table.columns |= {"fine": table["label"], "coarse": table["label"][::-1]}
    return table


def test_a_column_of_several_is_named():
    table = two_labels()
    assert from_huggingface({"train": table, "test": table}, label="coarse").class_names == ("x", "y", "z")


def spoiled(what: str) -> Any:
    train, test = pictures(30), pictures(3)
    if what == "another class":
        test.features = {"image": Image(), "label": ClassLabel(NAMES[::-1])}
    if what == "no label":
        test.columns["label"][1] = None
    if what == "no picture":
        test.columns["image"][2] = None
    if what == "large":
        test.columns["image"][1] = Pillow.fromarray(np.zeros((9, 9), np.uint8))
    if what == "no column":
        test.features = {"image": Image()}
    if what == "floats":
        test.columns["image"][1] = Pillow.fromarray(np.zeros((5, 6), np.float32))
    return {"train": train, "test": test}


@pytest.mark.parametrize(
    ("given", "settings", "message"),
    [
        (5, {}, r"expected a Dataset or a DatasetDict .*; got int as 'train'"),
        ({}, {}, r"expected a split `train`; got none\. Give \{'train'"),
        ({"test": pictures(3)}, {}, "expected a split `train`; got test"),
        (two_labels(), {}, r"fine: ClassLabel, coarse: ClassLabel\. Name the column: .*label=\.\.\."),
        (Table({"x": Value("float32")}, x=[1.0]), {}, r"got x: float32\. Name the column: .*inputs="),
        (
            pictures(30),
            {"label": "klass"},
            "label of image: Image, label: ClassLabel: expected .*got 'klass'",
        ),
        (pictures(30), {"settings": TextSettings(length=3)}, "expected a data set of texts for settings"),
        (texts(20), {"size": 3}, "size: expected None for texts"),
        (spoiled("another class"), {}, r"expected the classes of train in test, ape.*cast_column\('label'"),
        (spoiled("no label"), {}, r"expected a label in row 1 of test.*dataset\.filter"),
        (spoiled("no picture"), {}, "expected a picture in row 2 of test"),
        (spoiled("no column"), {}, "expected the column 'label' in test"),
        (spoiled("large"), {}, r"one size, 5x6 as row 0 of test; got 9x9, row 1 of test\. .*size="),
        (spoiled("floats"), {}, "expected pictures of whole levels; got row 1 of test, of floats"),
    ],
)
def test_what_is_wrong_is_named(given, settings, message):
    with pytest.raises(ValueError, match=message):
        from_huggingface(given, **settings)


def test_a_stream_is_refused():
    class Stream:
        features = pictures(3).features

        def __getitem__(self, name: str): ...

    with pytest.raises(ValueError, match=r"got a stream, Stream\. Load it without streaming=True"):
        from_huggingface({"train": Stream()})


def test_arrays_are_not_resized_here():
    split = Table({"image": Array2D(), "label": Value("int64")}, image=list(PIXELS), label=[0, 1] * 15)
    with pytest.raises(ValueError, match=r"'image' has arrays\. Use ddjax\.data\.resize"):
        from_huggingface({"train": split, "test": split}, size=4)


# Names of the Hub ---------------------------------------------------------------------------------------


def hub(monkeypatch, found: Any) -> list[Any]:
    """A package `datasets` that has one set, or raises; returns what it is asked for."""
    asked: list[Any] = []

    def load_dataset(repository, configuration):
        asked.append((repository, configuration))
        if isinstance(found, Exception):
            raise found
        return found

    package: Any = types.ModuleType("datasets")
    package.load_dataset = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", package)
    return asked


@pytest.mark.parametrize(
    ("name", "asked"), [("hf:me/spots", ("me/spots", None)), ("hf:me/spots:small", ("me/spots", "small"))]
)
def test_a_name_of_the_hub_is_never_a_path(monkeypatch, tmp_path, name, asked):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hf:me" / "spots").mkdir(parents=True)
    found = hub(monkeypatch, {"train": pictures(30), "test": pictures(3)})
    data = load(name)
    assert found == [asked]
    assert (data.name, data.origin.kind, data.origin.name) == ("spots", "built-in", name)


def test_the_label_of_a_set_of_the_hub_is_a_setting(monkeypatch):
    hub(monkeypatch, {"train": two_labels(), "test": two_labels()})
    assert load("hf:me/spots", text=TextSettings(label="fine")).class_names == tuple(NAMES)
    with pytest.raises(ValueError, match=r"spots has pictures in 'image'\. Leave the settings out"):
        load("hf:me/spots", text=TextSettings(label="fine", length=5))


@pytest.mark.parametrize(
    ("raised", "error", "message"),
    [
        (
            FileNotFoundError("doesn't exist"),
            FileNotFoundError,
            "expected it on the Hugging Face Hub .* doesn't",
        ),
        (ConnectionError("no route"), FileNotFoundError, "no route.*download it where there is a connection"),
        (ValueError("Config name is missing"), ValueError, "missing.*hf:me/spots:CONFIGURATION"),
    ],
)
def test_what_the_hub_refuses_is_said(monkeypatch, raised, error, message):
    hub(monkeypatch, raised)
    with pytest.raises(error, match=message):
        load("hf:me/spots")


@pytest.mark.parametrize("name", ["hf:", "hf:a/b/c", "hf:./mine", "hf:/mine", "hf:~/mine"])
def test_what_is_no_name_of_the_hub_is_refused(name):
    with pytest.raises(ValueError, match=r"expected hf:OWNER/NAME .*a folder goes by its path, without hf:"):
        load(name)


def test_without_the_package_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match=r"pip install 'ddjax\[hf\]'"):
        load("hf:me/spots")


# The real package ---------------------------------------------------------------------------------------


@pytest.fixture
def real() -> Any:
    """The package `datasets`, or a skip."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("datasets", reason="needs the package datasets: pip install 'ddjax[hf]'")


def real_pictures(package: Any, count: int) -> Any:
    features = package.Features(image=package.Image(), label=package.ClassLabel(names=NAMES))
    rows = {
        "image": [Pillow.fromarray(PIXELS[i]) for i in range(count)],
        "label": [i % 3 for i in range(count)],
    }
    return package.Dataset.from_dict(rows, features=features)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_real_objects_and_a_saved_folder_are_the_same_data(real, tmp_path):
    both = real.DatasetDict({"train": real_pictures(real, 30), "test": real_pictures(real, 6)})
    data = from_huggingface(both)
    direct = from_arrays(PIXELS, np.arange(30) % 3, PIXELS[:6], np.arange(6) % 3, class_names=NAMES)
    np.testing.assert_array_equal(data.train.raw, direct.train.raw)
    np.testing.assert_array_equal(data.test.raw, direct.test.raw)
    assert data.class_names == tuple(NAMES)
    both.save_to_disk(str(tmp_path / "saved"))
    saved = load(tmp_path / "saved")
    np.testing.assert_array_equal(saved.train.raw, data.train.raw)
    assert (saved.name, saved.origin.kind, saved.origin.name) == ("saved", "file", "saved")
    with pytest.raises(ValueError, match=r"got a stream, IterableDataset"):
        from_huggingface({"train": both["train"].to_iterable_dataset()})


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_real_texts(real):
    rows = {"sentence": ["apes like sun", "bees like rain"] * 10, "kind": ["ape", "bee"] * 10}
    split = real.Dataset.from_dict(rows)
    settings = TextSettings(length=3, vocabulary=20, embedding="random", dim=4)
    data = from_huggingface(
        {"train": split, "test": split}, inputs="sentence", label="kind", settings=settings
    )
    assert data.class_names == ("ape", "bee")

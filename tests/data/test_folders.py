"""Folders of pictures as people have them: real files in every arrangement, and those that are refused."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ddjax.data import from_folder, load

CLASSES = ("ape", "bee")


def picture(level: int, size: tuple[int, int] = (5, 6)) -> np.ndarray:
    """A picture of its own: a gradient from the level on."""
    return (level + np.arange(size[0] * size[1]).reshape(size)).astype(np.uint8)


def save(path: Path, array: Any, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def filled(root: Path, splits: tuple[str, ...] = ("train", "test"), count: int = 4) -> Path:
    """Folders of splits with a folder for each class."""
    for i, split in enumerate(splits):
        for k, name in enumerate(CLASSES):
            for j in range(count):
                save(root / split / name / f"{j}.png", picture(10 * j + 50 * k + i))
    return root


def test_splits_and_classes_are_the_folders(tmp_path):
    data = load(filled(tmp_path / "mine", ("train", "test", "val")))
    assert (data.name, data.class_names, data.image_shape) == ("mine", CLASSES, (5, 6, 1))
    assert [len(split.labels) for split in (data.train, data.validation, data.test)] == [8, 8, 8]
    np.testing.assert_array_equal(data.test.raw[5, ..., 0], picture(61))
    assert data.test.labels.tolist() == [0] * 4 + [1] * 4
    assert (data.origin.kind, data.origin.name) == ("file", "mine")


@pytest.mark.parametrize("path", ["./mine", "mine/"])
def test_a_folder_is_found_by_its_path(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    filled(tmp_path / "mine")
    assert load(path).name == "mine"


def test_without_test_pictures_a_test_split_is_cut_and_said_aloud(tmp_path):
    filled(tmp_path, (".",), count=10)
    with pytest.warns(UserWarning, match="a fifth of each class is the test split.*Make a folder `test`"):
        data = load(tmp_path)
    assert np.bincount(data.test.labels).tolist() == [2, 2]
    assert len(data.train.labels) + len(data.validation.labels) == 16
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_array_equal(from_folder(tmp_path, seed=3).test.raw, data.test.raw)


@pytest.mark.parametrize("places", [("train", "test"), (".",)])
def test_a_table_names_pictures_and_labels(tmp_path, places):
    for place in places:
        rows = ["file_name,label,taken_by"]
        for j in range(20):
            save(tmp_path / place / "all" / f"{j}.png", picture(j))
            rows.append(f"all/{j}.png,{10 - j % 3},me")
        (tmp_path / place / "metadata.csv").write_text("\n".join(rows))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = load(tmp_path)
    assert data.class_names == ("8", "9", "10")
    levels = data.test.raw[:, 0, 0, 0].tolist()
    which = dict(zip(levels, data.test.labels.tolist(), strict=True))
    assert all(label == 2 - level % 3 for level, label in which.items())


def test_pictures_become_one_kind(tmp_path):
    """Colour, grey, palettes, 16 bits, truth values, turned by a camera: what a person sees, in 8 bits."""
    root = filled(tmp_path, count=3)
    folder = root / "train" / "ape"
    colour = np.stack([picture(0), picture(60), picture(120)], -1)
    save(folder / "colour.png", colour)
    save(folder / "deep.png", (picture(0).astype(np.uint16) * 257))
    save(folder / "truth.png", picture(0) > 10)
    Image.fromarray(colour).quantize(30).save(folder / "palette.png")
    turned = Image.fromarray(np.rot90(colour, 1).copy())
    exif = turned.getexif()
    exif[0x0112] = 6  # to be turned clockwise
    turned.save(folder / "turned.png", exif=exif)
    with pytest.warns(
        UserWarning, match=r"1 pictures of 16 bits have levels up to 7453 of 65535.* up to 29\."
    ):
        data = load(root)
    assert data.image_shape == (5, 6, 3)
    images = [*data.train.raw, *data.validation.raw]

    def is_there(wanted: np.ndarray) -> bool:
        return any((image == wanted).all() for image in images)

    assert is_there(colour)
    assert is_there(np.repeat(picture(0)[..., None], 3, -1))
    assert is_there(np.repeat(255 * (picture(0) > 10).astype(np.uint8)[..., None], 3, -1))


def test_pictures_are_resized_as_pillow_does(tmp_path):
    root = filled(tmp_path)
    save(root / "train" / "ape" / "large.png", picture(0, (10, 12)))
    with pytest.raises(ValueError, match=r"one size, 5x6 as 0\.png; got 10x12, .*large\.png.*size=5\)"):
        load(root)
    data = from_folder(root, size=(4, 3))
    assert data.image_shape == (4, 3, 1)
    wanted = Image.fromarray(picture(1)).resize((3, 4), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(data.test.raw[0, ..., 0], np.asarray(wanted))
    assert from_folder(root, size=7).image_shape == (7, 7, 1)


def spoiled(root: Path, what: str) -> None:
    """A good folder with one thing wrong."""
    filled(root)
    if what == "no train":
        (root / "train").rename(root / "val")
    if what == "text":
        (root / "train" / "ape" / "notes.txt").write_text("no picture")
    if what == "new class":
        save(root / "test" / "cat" / "0.png", picture(0))
    if what == "glass":
        save(root / "train" / "ape" / "glass.png", np.full((5, 6, 4), 100, np.uint8))
    if what == "floats":
        Image.fromarray(np.zeros((5, 6), np.float32)).save(root / "train" / "ape" / "floats.tif")
    if what == "deep":
        Image.fromarray(np.full((5, 6), 70000, np.int32)).save(root / "train" / "ape" / "deep.tif")
    if what == "columns":
        (root / "train" / "metadata.csv").write_text("file,label\nape/0.png,1\n")
    if what == "empty table":
        (root / "train" / "metadata.csv").write_text("file_name,label\n")
    if what == "outside":
        save(root / "outside.png", picture(0))
        (root / "train" / "metadata.csv").write_text("file_name,label\n../outside.png,1\n")
    if what == "no label":
        (root / "train" / "metadata.csv").write_text("file_name,label\nape/0.png,\n")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("no train", "expected a folder `train` .* beside test, validation; got none"),
        ("text", r"expected pictures that Pillow reads; got .*notes\.txt"),
        ("new class", r"expected the classes of training, ape, bee, in test of .*; got 'cat', of 0\.png"),
        ("glass", r"expected pictures without transparency; got .*glass\.png"),
        ("floats", r"expected pictures of whole levels; got .*floats\.tif, of floats"),
        ("deep", r"levels from 0 to 65535; got .*deep\.tif with levels from 70000 to 70000"),
        ("columns", "expected rows under the columns file_name and label .* file_name missing"),
        ("empty table", "file_name and label missing, or no row"),
        ("outside", r"line 2 names '\.\./outside\.png', which is none"),
        ("no label", "expected a label in line 2"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, what, message):
    spoiled(tmp_path, what)
    with pytest.raises(ValueError, match=message):
        load(tmp_path)


def test_no_folder_and_an_empty_one_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a folder of pictures; there is none at"):
        from_folder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"in a folder for each class, or a metadata\.csv"):
        from_folder(tmp_path)

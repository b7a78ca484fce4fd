"""Data sets of PyTorch: pairs of picture and label, as pictures, tensors and arrays; what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from ddjax.data import from_torch

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 5, 6, 3), np.uint8)
LABELS = [i % 3 for i in range(30)]


class Pairs:
    """A set as torchvision has them: a length, pairs, and the names of the classes."""

    classes = ("ape", "bee", "cat")

    def __init__(self, pictures: Any, labels: Any = LABELS):
        self.items = list(zip(pictures, labels, strict=False))

    def __len__(self):
        return len(self.items)

    def __getitem__(self, row: int):
        return self.items[row]


class Subset:
    """A part of a set, which has no names of its own."""

    def __init__(self, dataset: Any, rows: range):
        self.dataset, self.rows = dataset, rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, row: int):
        return self.dataset[self.rows[row]]


class Tensor:
    """An array that answers as a tensor of PyTorch does."""

    def __init__(self, array: np.ndarray):
        self.array = array

    def detach(self):
        return self

    def cpu(self):
        return self

    def numpy(self):
        return self.array


def shown() -> list[Any]:
    return [Image.fromarray(one) for one in PIXELS]


def test_pictures_and_classes_are_those_of_the_set():
    whole = Pairs(shown())
    data = from_torch(Subset(whole, range(24)), Subset(whole, range(24, 30)))
    assert (data.class_names, data.image_shape) == (Pairs.classes, (5, 6, 3))
    np.testing.assert_array_equal(data.test.raw, PIXELS[24:])
    assert data.test.labels.tolist() == LABELS[24:]
    assert from_torch(whole, whole, whole, size=(3, 4)).image_shape == (3, 4, 3)


def test_a_test_split_is_cut_and_said_aloud():
    with pytest.warns(UserWarning, match=r"a fifth of each class is the test split.*Give a test set"):
        data = from_torch(Pairs(shown()))
    assert np.bincount(data.test.labels).tolist() == [2, 2, 2]


def test_tensors_have_their_channels_first_and_arrays_last():
    tensors = [Tensor((one / 255).astype(np.float32).transpose(2, 0, 1)) for one in PIXELS]
    labels = [Tensor(np.array(label)) for label in LABELS]
    for one in (Pairs(tensors, labels), Pairs(PIXELS, [np.array([label]) for label in LABELS])):
        data = from_torch(one, one)
        np.testing.assert_array_equal(data.test.raw, PIXELS)
        assert data.test.labels.tolist() == LABELS
    flat = Pairs([Tensor(one[..., 0]) for one in PIXELS])
    assert from_torch(flat, flat).image_shape == (5, 6, 1)


class Shaky(Pairs):
    """A set with an augmentation."""

    looks = 0

    def __getitem__(self, row: int):
        picture, label = self.items[row]
        self.looks += 1
        return np.asarray(picture) ^ self.looks, label


class Loader:
    batch_size, dataset = 4, Pairs(shown())


@pytest.mark.parametrize(
    ("given", "settings", "message"),
    [
        (Loader(), {}, r"train: expected a data set; got a loader, Loader\. Give loader\.dataset"),
        (iter([]), {}, r"with a length and items .*got list_iterator.*map-style"),
        (Pairs([]), {}, "expected a data set with a length"),
        ([1, 2], {}, "expected a pair of picture and label as item 0; got int"),
        ([(1, 2, 3)], {}, "as item 0; got tuple of 3"),
        (Shaky(shown()), {}, "expected the same picture at every look; item 0 changed"),
        (Pairs([(one / 255 - 0.5) / 0.2 for one in PIXELS]), {}, "Give pixels before normalisation"),
        (Pairs([*PIXELS[:29], PIXELS[0, :4]]), {}, r"one size; got \(4, 6, 3\), \(5, 6, 3\)"),
        (Pairs([*shown()[:29], shown()[0].crop((0, 0, 2, 2))]), {}, "got 2x2, item 29 of train. Resize"),
        (Pairs(PIXELS), {"size": 4}, r"size: expected pictures of Pillow to resize; train has ndarray"),
        (Pairs(PIXELS, [[0, 1]] * 30), {}, r"got shape \(30, 2\)"),
    ],
)
def test_what_is_wrong_is_named(given, settings, message):
    with pytest.raises(ValueError, match=message):
        from_torch(given, given, **settings)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_real_folder_of_torchvision(tmp_path):
    torchvision: Any = pytest.importorskip("torchvision", reason="needs torchvision")
    for k, name in enumerate(Pairs.classes):
        (tmp_path / name).mkdir()
        for i in range(4):
            Image.fromarray(PIXELS[3 * i + k]).save(tmp_path / name / f"{i}.png")
    plain = torchvision.datasets.ImageFolder(tmp_path)
    turned = torchvision.datasets.ImageFolder(tmp_path, torchvision.transforms.ToTensor())
    data = from_torch(plain, plain, plain)
    tensors = from_torch(turned, turned, turned)
    assert data.class_names == Pairs.classes
    np.testing.assert_array_equal(data.test.raw, tensors.test.raw)

"""The table of bad inputs: each is refused with what was expected, what was got and what to do."""

import re
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddjax.data import from_arrays
from ddjax.data.arrays import images


def good():
    pictures = np.arange(12 * 8 * 8 * 3, dtype=np.int64).reshape(12, 8, 8, 3).astype(np.uint8)
    labels = np.arange(12) % 3
    return {"x_train": pictures, "y_train": labels, "x_test": pictures[:6], "y_test": labels[:6]}


def ragged():
    value = np.empty(12, object)
    value[:] = [np.zeros((4, 4)) for _ in range(12)]
    return value


FLOATS = np.full((12, 8, 8, 3), 0.5)
ONE_NAN = np.where(np.arange(FLOATS.size).reshape(FLOATS.shape) == 7, np.nan, FLOATS)
ONE_INF = np.where(np.arange(FLOATS.size).reshape(FLOATS.shape) == 7, np.inf, FLOATS)
LABELS = np.arange(12) % 3

BAD = {
    "rank 2": ({"x_train": np.zeros((12, 64), np.uint8)}, "x_train: expected images of shape", "Reshape"),
    "rank 5": ({"x_train": np.zeros((12, 1, 8, 8, 3), np.uint8)}, "got shape (12, 1, 8, 8, 3)", "Reshape"),
    "no images": ({"x_train": np.zeros((0, 8, 8, 3), np.uint8)}, "at least one image", "Give images"),
    "no pixels": ({"x_train": np.zeros((12, 0, 8, 3), np.uint8)}, "got shape (12, 0, 8, 3)", "Give images"),
    "colour first": (
        {"x_train": np.zeros((12, 3, 32, 32), np.uint8)},
        "(12, 3, 32, 32)",
        "x_train.transpose(0, 2, 3, 1)",
    ),
    "grey first": (
        {"x_test": np.zeros((6, 1, 28, 28), np.uint8)},
        "(6, 1, 28, 28)",
        "x_test.transpose(0, 2, 3, 1)",
    ),
    "floats of bytes": ({"x_train": FLOATS * 255}, "values from 127.5 to 127.5", "divide by 255"),
    "negative floats": ({"x_train": FLOATS - 1}, "-0.5", "before normalisation"),
    "NaN": ({"x_train": ONE_NAN}, "1 values that are NaN or infinite", "repair"),
    "infinity": ({"x_train": ONE_INF}, "1 values that are NaN or infinite", "repair"),
    "int64 images": ({"x_train": np.zeros((12, 8, 8, 3), np.int64)}, "got dtype int64", "astype(np.uint8)"),
    "bool images": ({"x_train": np.zeros((12, 8, 8, 3), bool)}, "got dtype bool", "astype(np.float32)"),
    "objects": ({"x_train": ragged()}, "array of Python objects", "np.stack"),
    "ragged list": ({"x_train": [np.zeros((4, 4)), np.zeros((5, 4))]}, "items differ in shape", "np.stack"),
    "other test size": ({"x_test": np.zeros((6, 9, 8, 3), np.uint8)}, "got (9, 8, 3)", "Bring all images"),
    "other test depth": ({"x_test": np.zeros((6, 8, 8), np.uint8)}, "got (8, 8, 1)", "Bring all images"),
    "one-hot": ({"y_train": np.eye(3)[LABELS]}, "got shape (12, 3)", "argmax(-1)"),
    "float labels": ({"y_train": LABELS.astype(float)}, "got dtype float64", "astype(np.int32)"),
    "test labels of another class": (
        {"y_train": np.array(list("abc"))[LABELS], "y_test": np.array(list("abd"))[LABELS[:6]]},
        "got 'd'",
        "Name the class the same",
    ),
    "labels that are no names": (
        {"y_train": LABELS.astype(str), "class_names": list("abc")},
        "got '0'",
        "class_names",
    ),
    "names given twice": (
        {"y_train": np.array(list("aab"))[LABELS], "class_names": list("aab")},
        "3 names, 2 of them different",
        "Tell the classes apart",
    ),
    "an unknown layout": ({"layout": "HWC"}, "got 'HWC'", "NHWC"),
    "too few labels": ({"y_train": LABELS[:11]}, "got 11 labels", "same length"),
    "no labels": ({"y_train": LABELS[:0]}, "got 0 labels", "same length"),
    "negative labels": ({"y_train": LABELS - 1}, "got -1", "drop unlabelled"),
    "missing class": ({"y_train": np.where(LABELS == 1, 2, LABELS)}, "class 1 has none", "np.unique"),
    "labels from 1 in training alone": ({"y_train": LABELS + 1}, "from 1 to 3, as those", "0 to 2 in every"),
    "several labels": ({"y_train": np.eye(3)[LABELS] + 1}, "got shape (12, 3)", "y_train[:, 0]"),
    "test images without labels": ({"y_test": None}, "x_test, y_test: expected both", "Give the other"),
    "stray label": (
        {"y_train": np.where(np.arange(12) == 0, 10**9, LABELS)},
        "class 3 has none",
        "np.unique",
    ),
    "one class": (
        {"y_train": LABELS * 0, "y_test": LABELS[:6] * 0},
        "at least two classes",
        "Nothing to classify",
    ),
    "test label of K": ({"y_test": LABELS[:6] + 1}, "[0, 3)", "Number the classes 0 to 2"),
    "test label of -1": ({"y_test": LABELS[:6] - 1}, "got -1", "Number the classes"),
    "too few names": ({"class_names": ["a", "b"]}, "[0, 2)", "Number the classes"),
    "too many names": ({"class_names": list("abcd")}, "class 3 has none", "np.unique"),
    "a string of names": ({"class_names": "abc"}, "got 'abc'", "tuple(names)"),
    "names that are numbers": ({"class_names": [0, 1, 2]}, "got [0, 1, 2]", "tuple(names)"),
    "half a validation": ({"x_validation": good()["x_test"]}, "expected both or neither", "Give the other"),
    "validation of another size": (
        {"x_validation": np.zeros((2, 4, 4, 3), np.uint8), "y_validation": [0, 1]},
        "x_validation: expected images of shape (8, 8, 3)",
        "Bring all images",
    ),
    "fraction 0": ({"validation_fraction": 0}, "got 0", "greater than zero"),
    "fraction 1": ({"validation_fraction": 1.0}, "got 1.0", "Try 0.1"),
    "fraction NaN": ({"validation_fraction": float("nan")}, "got nan", "greater than zero"),
    "seed -1": ({"seed": -1}, "got -1", "whole number"),
    "seed 0.5": ({"seed": 0.5}, "got 0.5", "whole number"),
    "seed of 33 bits": ({"seed": 2**32}, "got 4294967296", "smaller"),
    "one image of each class": (
        {"x_train": FLOATS[:3], "y_train": LABELS[:3]},
        "got one image of each",
        "x_validation",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_with_a_remedy(case):
    changed, got, remedy = BAD[case]
    with pytest.raises(ValueError, match="expected") as raised:
        from_arrays(**{**good(), **changed})
    assert got in str(raised.value)
    assert remedy in str(raised.value)


def test_the_good_input_of_the_table_is_good():
    assert len(from_arrays(**good()).train) == 9


def test_rank_three_is_one_channel():
    x = np.zeros((12, 8, 8), np.uint8)
    assert from_arrays(x, LABELS, x, LABELS).image_shape == (8, 8, 1)


def test_small_images_with_few_channels_are_not_taken_for_channels_first():
    x = np.zeros((12, 3, 3, 3), np.uint8)
    assert from_arrays(x, LABELS, x, LABELS).image_shape == (3, 3, 3)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_are_rounded_to_the_nearest_byte(dtype):
    levels = (np.arange(12 * 25) % 256).astype(np.uint8).reshape(12, 5, 5, 1)
    data = from_arrays((levels / 255).astype(dtype), LABELS, levels, LABELS)
    both = np.sort(np.concatenate([data.train.images, data.validation.images]), axis=None)
    np.testing.assert_array_equal(both, np.sort(levels, axis=None))


def test_jax_arrays_and_lists_of_labels_are_taken():
    inputs = good()
    data = from_arrays(
        jnp.asarray(inputs["x_train"]),
        list(inputs["y_train"]),
        inputs["x_test"],
        inputs["y_test"].astype(np.uint8),
    )
    assert data.train.labels.dtype == np.int32
    assert data.test.labels.dtype == np.int32


# The order of the axes: no other axis is ever taken for the channels in silence.


def zeros(*shape: int) -> np.ndarray:
    return np.zeros((12, *shape), np.uint8)


@pytest.mark.parametrize(
    "shape",
    [
        (13, 64, 64),
        (2, 32, 32),
        (4, 100, 12),
        (3, 4, 4),
        (4, 1, 1),
        (13, 4, 4),
        (28, 1, 1),
        (3, 32, 4),
        (8, 8, 2),
    ],
)
def test_axes_that_may_be_mixed_up_are_refused_and_both_remedies_work(shape):
    with pytest.raises(ValueError, match=r"expected channels last.*layout=\"NHWC\"") as raised:
        images("x_train", zeros(*shape))
    assert "x_train.transpose(0, 2, 3, 1)" in str(raised.value)
    assert images("x_train", zeros(*shape), layout="NHWC").shape[1:] == shape
    first, middle, last = shape
    turned = zeros(*shape).transpose(0, 2, 3, 1)
    assert images("x_train", turned, layout="NHWC").shape[1:] == (middle, last, first)
    assert images("x_train", zeros(*shape), layout="NCHW").shape[1:] == (middle, last, first)


@settings(max_examples=200, deadline=None)
@given(
    sides=st.one_of(
        st.integers(1, 64).map(lambda side: (side, side)), st.tuples(st.integers(5, 64), st.integers(5, 64))
    ),
    channels=st.integers(1, 16),
)
def test_no_other_axis_is_taken_for_the_channels(sides, channels):
    """Square images of any size, and others with sides above 4: taken as they are, or refused."""
    last, first = zeros(*sides, channels), zeros(channels, *sides)
    taken = channels in (1, 3, 4)
    if taken:
        assert images("x", last).shape[1:] == (*sides, channels)
    else:
        with pytest.raises(ValueError, match="expected channels last"):
            images("x", last)
    if last.shape != first.shape:
        with pytest.raises(ValueError, match="expected channels last"):
            images("x", first)
    assert images("x", first, layout="NCHW").shape == last.shape


def test_channels_first_by_layout_are_the_same_images(rng):
    x = rng.integers(0, 256, (12, 3, 8, 9), np.uint8)
    data = from_arrays(**{**good(), "x_train": x, "x_test": x[:6]}, layout="NCHW")
    assert data.image_shape == (8, 9, 3)
    np.testing.assert_array_equal(data.test.images, x[:6].transpose(0, 2, 3, 1))


# Remedies are tried on their own input.

STRANGE = {
    "16 bits": {"x_train": np.linspace(0, 65535, 12 * 192).astype(np.uint16).reshape(12, 8, 8, 3)},
    "16 bits, dark": {"x_train": np.arange(12 * 192, dtype=np.uint16).reshape(12, 8, 8, 3) % 256},
    "whole numbers": {"x_train": np.arange(12 * 192).reshape(12, 8, 8, 3) % 256},
    "beyond 16 bits": {"x_train": 100 * np.arange(12 * 192).reshape(12, 8, 8, 3)},
    "signed": {"x_train": np.arange(12 * 192).reshape(12, 8, 8, 3) % 256 - 128},
    "bool": {"x_train": np.arange(12 * 192).reshape(12, 8, 8, 3) % 2 == 0},
    "0 and 1": {"x_train": np.arange(12 * 192).reshape(12, 8, 8, 3) % 2},
    "whole labels in floats": {"y_train": LABELS.astype(float)},
    "broken labels": {"y_train": LABELS + 0.5},
}


@pytest.mark.parametrize("case", STRANGE)
def test_a_remedy_works_on_the_input_that_it_is_for(case):
    ((name, value),) = STRANGE[case].items()
    with pytest.raises(ValueError, match="expected") as raised:
        from_arrays(**{**good(), name: value})
    found = re.search(rf"Use (\(?.*{name}.*?)(, in all parts alike|, which.*)?\.$", str(raised.value))
    assert found is not None, str(raised.value)
    mended = eval(found[1], {"np": np, name: value})
    data = from_arrays(**{**good(), name: mended})
    if name == "x_train":  # the order and the spread of the pixels are kept: nothing wraps around
        whole = np.concatenate([data.train.images, data.validation.images])
        assert whole.max() == 255
        assert whole.min() == 0
        before = np.argsort(value.ravel().astype(float), kind="stable")
        assert (np.diff(mended.ravel().astype(float)[before]) >= 0).all()


@pytest.mark.parametrize("kind", ["texts", "bytes", "objects"])
def test_labels_may_be_names(kind):
    names = np.array(["cat", "ape", "bee"])[LABELS]
    names = {"texts": names, "bytes": names.astype("S"), "objects": names.astype(object)}[kind]
    data = from_arrays(**{**good(), "y_train": names, "y_test": names[:6]})
    assert data.class_names == ("ape", "bee", "cat")
    assert [data.class_names[k] for k in data.test.labels] == ["cat", "ape", "bee"] * 2
    own = from_arrays(
        **{**good(), "y_train": names, "y_test": names[:6], "class_names": ["cat", "ape", "bee"]}
    )
    assert own.test.labels.tolist() == [0, 1, 2, 0, 1, 2]


def test_labels_that_count_from_one_become_names_and_it_is_said():
    given: dict[str, Any] = {**good(), "y_train": LABELS + 1, "y_test": LABELS[:6] + 1}
    with pytest.warns(
        UserWarning, match="labels from 1 to 3 count the classes from one: class '1' is number 0"
    ):
        data = from_arrays(**given)
    assert data.class_names == ("1", "2", "3")
    assert data.test.labels.tolist() == [0, 1, 2] * 2
    with pytest.warns(UserWarning, match="class 'a' is number 0"):
        assert from_arrays(**given, class_names=list("abc")).class_names == ("a", "b", "c")


def test_labels_may_have_an_axis_of_one():
    given: dict[str, Any] = {**good(), "y_train": LABELS[:, None], "y_test": LABELS[:6, None]}
    np.testing.assert_array_equal(from_arrays(**given).train.labels, from_arrays(**good()).train.labels)


def test_without_test_images_a_fifth_of_each_class_is_cut_and_it_is_said():
    rng = np.random.default_rng(0)
    pictures, labels = rng.integers(0, 256, (30, 8, 8, 3), np.uint8), np.arange(30) % 3
    with pytest.warns(UserWarning, match="arrays has no test examples: a fifth .*Give x_test and y_test"):
        data = from_arrays(pictures, labels)
    assert np.bincount(data.test.labels).tolist() == [2, 2, 2]
    parts = [data.train, data.validation, data.test]
    together = {one.tobytes() for part in parts for one in part.raw}
    assert together == {one.tobytes() for one in pictures}
    assert sum(map(len, parts)) == 30
    # Statistics are those of what networks train on.
    kept = np.concatenate([data.train.raw, data.validation.raw]) / 255
    np.testing.assert_allclose(data.mean, kept.mean((0, 1, 2)), rtol=1e-5)

"""Bad data sets, arrays and splits: what was expected, what was got, what to do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from refusals import FLAT, NAN, PLAIN, Cases, Refuses

from ddjax import data

REFUSED: Cases = {
    "a data set's name misspelt": (lambda g: data.load("mnits"), "got 'mnits'", "Did you mean 'mnist'"),
    "a data set that is not prepared": (
        lambda g: data.load("mnist", data_dir=g.folder),
        "found nothing there",
        "ddjax prepare --dataset=mnist",
    ),
    "an .npz that is not there": (lambda g: data.load("nowhere.npz"), "none at nowhere.npz", "np.savez"),
    "an .npz that is none": (lambda g: data.load(g.file("a.npz", b"x")), "a.npz (", "np.savez"),
    "an .npz without labels": (lambda g: data.load(g.npz(x_train=1)), "without y_train", "np.savez"),
    "an .npz of objects": (
        lambda g: data.load(
            g.npz(**dict.fromkeys(("x_train", "y_train", "x_test", "y_test"), np.array([{}], object)))
        ),
        "of plain arrays",
        "np.savez",
    ),
    "a fraction of all": (lambda g: data.load("digits", validation_fraction=1.0), "got 1.0", "Try 0.1"),
    "a negative seed": (lambda g: data.load("digits", seed=-1), "got -1", "Give a whole number"),
    "a number as data set": (lambda g: data.load(5), "a path; got int 5", "TFDS name"),  # type: ignore[arg-type]
    "a number as data directory": (
        lambda g: data.load("mnist", data_dir=5),  # type: ignore[arg-type]
        "data_dir: expected a path; got int 5",
        "leave it out",
    ),
    "flat images": (lambda g: g.from_arrays(x_train=np.zeros((6, 64))), "got shape (6, 64)", "Reshape"),
    "channels first": (
        lambda g: g.from_arrays(x_train=np.zeros((6, 3, 32, 32), np.uint8)),
        "looks like [n, C, H, W]",
        "transpose(0, 2, 3, 1)",
    ),
    "floats up to 255": (lambda g: g.from_arrays(x_train=np.full((6, 8, 8, 1), 9.0)), "got values", "255"),
    "NaN in an image": (
        lambda g: g.from_arrays(x_test=np.full((6, 8, 8, 1), NAN)),
        "NaN or infinite",
        "repair",
    ),
    "labels one-hot": (lambda g: g.from_arrays(y_train=np.eye(6)), "got shape (6, 6)", "argmax(-1)"),
    "labels as floats": (lambda g: g.from_arrays(y_train=np.zeros(6)), "got dtype float64", "astype"),
    "fewer labels than images": (lambda g: g.from_arrays(y_train=[0, 1]), "got 2 labels", "same length"),
    "a negative label": (lambda g: g.from_arrays(y_train=[-1, 0, 1, 2, 0, 1]), "got -1", "unlabelled"),
    "a class without images": (lambda g: g.from_arrays(y_train=[0, 2] * 3), "class 1 has none", "Number"),
    "one class": (lambda g: g.from_arrays(y_train=[0] * 6), "got 1", "Nothing to classify"),
    "test images of another size": (
        lambda g: g.from_arrays(x_test=np.zeros((6, 9, 9, 1), np.uint8)),
        "got (9, 9, 1)",
        "Bring all images",
    ),
    "a label beyond all classes": (
        lambda g: g.from_arrays(y_train=np.array([0, 1, 2, 0, 1, 2**32 + 2])),
        "got 4294967298",
        "return_inverse",
    ),
    "a test label beyond the classes": (
        lambda g: g.from_arrays(y_test=np.array([0, 1, 2, 0, 1, 3])),
        "expected labels in [0, 3)",
        "Number the classes 0 to 2",
    ),
    "text as images": (
        lambda g: g.from_arrays(x_train=np.full((6, 8, 8), "a")),
        "got texts, dtype <U1",
        "uint8",
    ),
    "complex images": (lambda g: g.from_arrays(x_test=np.zeros((6, 8, 8), complex)), "complex128", "uint8"),
    "no images": (lambda g: g.from_arrays(x_train=np.zeros((0, 8, 8))), "at least one image", "Give images"),
    "a number as class names": (lambda g: g.from_arrays(class_names=3), "got 3", "leave it out"),
    "more names than classes": (lambda g: g.from_arrays(class_names=list("abcd")), "class 3", "Number the"),
    "a number as the data's name": (lambda g: g.from_arrays(name=3), "a text; got int 3", "artifacts"),
    "validation images alone": (
        lambda g: g.from_arrays(x_validation=np.zeros((6, 8, 8), np.uint8)),
        "both or neither",
        "Give the other too",
    ),
    "a split of flat images": (
        lambda g: data.Split(np.zeros((3, 4)), np.zeros(3, int), PLAIN),
        "got float64[3, 4]",
        "Use ddjax.data.from_arrays",
    ),
    "an empty split": (
        lambda g: data.Split(np.zeros((0, 8, 8, 1)), np.zeros(0, int), PLAIN),
        "got (0, 8, 8, 1), (0,)",
        "Use ddjax.data.from_arrays",
    ),
    "a split of floats": (
        lambda g: data.Split(np.zeros((2, 8, 8, 1)), np.arange(2), PLAIN),
        "uint8 images",
        "from_arrays",
    ),
    "a split whose label has no class": (
        lambda g: data.Split(np.zeros((2, 8, 8, 1), np.uint8), np.arange(2), PLAIN, 1),
        "in [0, num_classes)",
        "from_arrays",
    ),
    "a split without spread": (
        lambda g: data.Split(np.zeros((2, 8, 8, 1), np.uint8), np.arange(2), FLAT),
        "a std above zero",
        "from_arrays",
    ),
    "a minibatch of nothing": (
        lambda g: data.minibatch(data.to_device(g.data.train), g.key, size=0),
        "got 0",
        "1 or more",
    ),
    "arrays to a device": (lambda g: data.to_device(np.zeros(3)), "got ndarray float64[3]", "of a data set"),  # type: ignore[arg-type]
    "a minibatch of a split": (
        lambda g: data.minibatch(g.data.train, g.key, size=4),  # type: ignore[arg-type]
        "a RealData; got Split",
        "to_device",
    ),
    "a class minibatch of a split": (
        lambda g: data.class_minibatch(g.data.train, g.key, size=4),  # type: ignore[arg-type]
        "a RealData; got Split",
        "to_device",
    ),
    "a class minibatch of nothing": (
        lambda g: data.class_minibatch(data.to_device(g.data.train), g.key, size=-1),
        "got -1",
        "1 or more",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused(case, refuses: Refuses):
    refuses(*REFUSED[case])


IMAGES = hnp.arrays(
    st.one_of(hnp.integer_dtypes(), hnp.floating_dtypes(), hnp.boolean_dtypes()),
    hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4),
)
LABELS = hnp.arrays(
    st.one_of(hnp.integer_dtypes(), hnp.floating_dtypes()),
    hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=4),
    elements={"min_value": 0, "max_value": 4},
)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:y_train. labels from 1")
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(x_train=IMAGES, y_train=LABELS, x_test=IMAGES, y_test=LABELS)
def test_any_arrays_are_taken_or_refused(x_train, y_train, x_test, y_test):
    """A data set whose parts fit, or a message."""
    refusal = None
    try:
        dataset = data.from_arrays(x_train, y_train, x_test, y_test)
    except ValueError as error:
        refusal = str(error)
    else:
        assert dataset.train.images.dtype == np.uint8
        assert len(dataset.train) + len(dataset.validation) == len(x_train)
        assert set(np.unique(dataset.train.labels)) == set(range(dataset.num_classes))
        assert np.isfinite(dataset.train.encoded()).all()
    assert refusal is None or ("expected" in refusal and "got" in refusal)

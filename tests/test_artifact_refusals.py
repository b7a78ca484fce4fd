"""Bad artifacts, tables and pictures: what was expected, what was got, what to do."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from problems import CLASSES, SHAPE
from refusals import COLOUR, PLAIN, Cases, Good, Refuses

import ddjax
from ddjax import artifact, figures, report


def _load_saying(good: Good, **metadata: Any) -> None:
    path = good.artifact()
    with np.load(path) as members:
        arrays = dict(members)
    metadata = json.loads(str(arrays["metadata"])) | metadata
    artifact.load(good.npz(**arrays | {"metadata": np.array(json.dumps(metadata))}))


def _picture(good: Good, **changed: Any) -> None:
    arrays: dict[str, Any] = {"images": np.zeros((2, 3, *SHAPE)), "labels": np.zeros((2, 3, CLASSES))}
    arrays |= {"encoding": PLAIN}
    figures.image_grid(good.folder / "grid.png", **(arrays | changed))


REFUSED: Cases = {
    "a path as φ": (lambda g: g.evaluate(distilled="a.npz"), "got str 'a.npz'", "ddjax.artifact.load"),
    "an artifact that is not there": (lambda g: artifact.load("no.npz"), "none at no.npz", "work directory"),
    "an artifact that is none": (lambda g: artifact.load(g.file("a.npz", b"PK")), "cannot be read", "Distil"),
    "another .npz": (lambda g: artifact.load(g.npz(images=1)), "labels, mean, std", "distilled.npz"),
    "an artifact of the future": (
        lambda g: _load_saying(g, format_version=99),
        "got 99",
        "Install a newer ddjax",
    ),
    "an artifact beyond the limit": (
        lambda g: artifact.load(g.artifact(), limit=1000),
        "at most 1,000 bytes together; got",
        "raise `limit`",
    ),
    "a limit of nothing": (lambda g: artifact.load(g.artifact(), limit=0), "limit: expected", "1 or more"),
    "metadata of another kind": (
        lambda g: _load_saying(g, class_names="abc"),
        "class_names: expected a list; got str 'abc'",
        "Write it again",
    ),
    "a dictionary as artifact": (
        lambda g: artifact.save(g.folder / "a.npz", {}),  # type: ignore[arg-type]
        "got dict",
        "`distilled` of a run",
    ),
    "an artifact without a path": (
        lambda g: artifact.save("", g.distilled),
        "path: expected",
        "distilled.npz",
    ),
    "a number as artifact": (lambda g: artifact.load(5), "a path; got int 5", "distilled.npz"),  # type: ignore[arg-type]
    "an artifact into nowhere": (
        lambda g: artifact.save(g.folder / "no" / "a.npz", g.distilled),
        "expected a directory to write to",
        "Make it",
    ),
    "an artifact that could not be loaded": (
        lambda g: artifact.save(g.folder / "a.npz", dataclasses.replace(g.distilled, encoding=COLOUR)),
        "mean: expected shape (1,), got (3,)",
        "again",
    ),
    "an artifact whose network has no name": (
        lambda g: g.artifact(network=5),
        "metadata: network: expected a str; got int 5",
        "Write it again",
    ),
    "an artifact with numbers as class names": (
        lambda g: g.artifact(class_names=[1, 2, 3]),
        "class_names: expected a str; got int 1",
        "Write it again",
    ),
    "an artifact that trains for ever": (
        lambda g: artifact.save(
            g.folder / "a.npz",
            dataclasses.replace(g.distilled, recipe=ddjax.Recipe("train", epochs=10**9)),
        ),
        "epochs: expected at most 1,000,000",
        "Write it again",
    ),
    "a table row too short": (lambda g: report.table([[1]], ["a", "b"]), "got 1: [1]", "for every header"),
    "a picture without images": (
        lambda g: _picture(g, images=np.zeros((0, 3, *SHAPE))),
        "image_grid: expected images",
        "two leading axes",
    ),
    "a picture in other channels": (
        lambda g: _picture(g, encoding=COLOUR),
        "for each of 1 channels",
        "from_arrays",
    ),
    "a picture with a name missing": (lambda g: _picture(g, class_names=["a"]), "got 1", "Name each class"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused(case, refuses: Refuses):
    refuses(*REFUSED[case])

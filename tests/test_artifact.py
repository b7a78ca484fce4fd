"""The artifact: NumPy alone reads it, the same φ gives the same bytes, anything else is refused."""

from __future__ import annotations

import io
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from problems import CLASSES, SHAPE, small_run, three_digits

import ddjax
from ddjax import artifact, inits, networks


@pytest.fixture(scope="module")
def distilled():
    return small_run(three_digits(), metadata={"network": "mlp"}).distilled


@pytest.fixture
def saved(distilled, tmp_path) -> Path:
    return artifact.save(tmp_path / "distilled.npz", distilled)


def test_numpy_alone_reads_it(saved, distilled):
    with np.load(saved, allow_pickle=False) as file:
        members = dict(file)
    shapes = {name: (array.shape, array.dtype.name) for name, array in members.items() if name != "metadata"}
    assert shapes == {
        "images": ((2, 3, 8, 8, 1), "float32"),
        "labels": ((2, 3, 3), "float32"),
        "lrs": ((2, 2), "float32"),
        "mean": ((1,), "float32"),
        "std": ((1,), "float32"),
    }
    metadata = json.loads(str(members["metadata"]))
    assert metadata["dataset"] == "three digits"
    assert metadata["method"] == "unrolled"
    assert metadata["network"] == "mlp"
    assert metadata["recipe"]["kind"] == "schedule"
    assert metadata["format_version"] == 1
    assert metadata["class_names"] == ["0", "1", "2"]
    assert np.array_equal(members["images"], distilled.schedule.inputs)
    np.testing.assert_allclose(members["labels"].sum(-1), 1)


def test_a_round_trip_trains_the_same_network(saved, distilled):
    loaded = artifact.load(saved)
    network = networks.mlp(SHAPE, CLASSES, widths=(16,))
    ours, theirs = (
        ddjax.train(phi, network, inits.random(network), key=jax.random.key(0)) for phi in (loaded, distilled)
    )
    for a, b in zip(*map(jax.tree.leaves, (ours, theirs)), strict=True):
        np.testing.assert_array_equal(a, b)
    assert loaded.recipe == distilled.recipe
    assert loaded.metadata["dataset"] == "three digits"


def test_the_same_phi_gives_the_same_bytes(saved, distilled, tmp_path):
    again = artifact.save(tmp_path / "again.npz", distilled)
    reloaded = artifact.save(tmp_path / "reloaded.npz", artifact.load(saved))
    assert saved.read_bytes() == again.read_bytes() == reloaded.read_bytes()


def rewrite(path: Path, **changes) -> None:
    with np.load(path) as file:
        members = dict(file) | changes
    np.savez(path, **{name: value for name, value in members.items() if value is not None})


def metadata_with(path: Path, **changes) -> np.ndarray:
    with np.load(path) as file:
        return np.array(json.dumps(json.loads(str(file["metadata"])) | changes))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: {"images": None}, "images missing"),
        (lambda p: {"images": np.zeros((2, 3, 8, 8), np.float32)}, r"expected images \[S, B, H, W, C\]"),
        (lambda p: {"labels": np.zeros((2, 4, 3), np.float32)}, r"labels \[S, B, K\]"),
        (lambda p: {"lrs": np.zeros((2, 5), np.float32)}, r"lrs \[E, S\]"),
        (lambda p: {"lrs": np.full((2, 2), np.nan, np.float32)}, "lrs: expected finite float32"),
        (lambda p: {"images": np.zeros((2, 3, 8, 8, 1))}, "images: expected finite float32; got float64"),
        (lambda p: {"mean": np.zeros(3, np.float32)}, "mean: expected shape"),
        (lambda p: {"metadata": np.array("{")}, "metadata: expected a JSON object"),
        (lambda p: {"metadata": np.array("[]")}, "metadata: expected a JSON object"),
        (lambda p: {"metadata": metadata_with(p, format_version=2)}, "Install a newer ddjax"),
        (lambda p: {"metadata": metadata_with(p, recipe={"kind": "ridge"})}, "got 'ridge'"),
        (lambda p: {"metadata": metadata_with(p, recipe={"optimizer": "lion"})}, "got 'lion'"),
        (lambda p: {"metadata": metadata_with(p, recipe={"speed": 1})}, "expected a recipe"),
        (lambda p: {"images": np.array([object()], object)}, "of plain arrays"),
    ],
)
def test_what_is_no_artifact_is_refused(saved, change, message):
    rewrite(saved, **change(saved))
    with pytest.raises(ValueError, match=message):
        artifact.load(saved)


@pytest.mark.parametrize("content", [b"", b"not a zip file", b"PK\x03\x04torn"])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "file.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="of plain arrays"):
        artifact.load(path)


def test_a_lone_array_is_refused(tmp_path):
    stream = io.BytesIO()
    np.save(stream, np.zeros(3))
    (tmp_path / "file.npz").write_bytes(stream.getvalue())
    with pytest.raises(ValueError, match="of plain arrays"):
        artifact.load(tmp_path / "file.npz")


def test_a_missing_file_says_where_it_was_looked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npz"):
        artifact.load(tmp_path / "nowhere.npz")

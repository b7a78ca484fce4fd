"""Weights from users' files: both formats, what is checked, a layer that is fresh."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from problems import CLASSES, SHAPE

from ddjax import networks, weights
from ddjax.types import Network


@pytest.fixture
def network() -> Network:
    return networks.mlp(SHAPE, CLASSES, widths=(5,))


def arrays_of(network: Network, seed: int = 0) -> dict[str, np.ndarray]:
    params = network.init(jax.random.key(seed))
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }


def write_safetensors(path: Path, arrays: dict[str, np.ndarray], *, kind: str = "F32", **changed) -> Path:
    """As the format's specification says: length, JSON, bytes."""
    dtype = {"F32": "<f4", "F64": "<f8", "F16": "<f2"}.get(kind)
    header: dict = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, array in arrays.items():
        raw = array.astype(dtype).tobytes() if dtype else bfloat16(array)
        header[name] = {
            "dtype": kind,
            "shape": list(array.shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        } | changed
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def bfloat16(array: np.ndarray) -> bytes:
    return (np.ascontiguousarray(array, "<f4").view("<u4") >> 16).astype("<u2").tobytes()


@pytest.mark.parametrize("kind", ["F64", "F32", "F16", "BF16"])
def test_safetensors_are_read_as_they_were_written(tmp_path, rng, kind):
    arrays = {"a.b": rng.normal(size=(3, 4)), "c": rng.normal(size=()), "empty": np.zeros((0, 2))}
    found = weights.read(write_safetensors(tmp_path / "w.safetensors", arrays, kind=kind))
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].shape == array.shape
        tolerance = {"F64": 0, "F32": 1e-6, "F16": 1e-2, "BF16": 1e-2}[kind]
        np.testing.assert_allclose(found[name], array, rtol=tolerance, atol=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_weights_come_back_from_a_file(tmp_path, network, suffix):
    arrays = arrays_of(network)
    path = tmp_path / f"w{suffix}"
    if suffix == ".npz":
        np.savez(path, allow_pickle=False, **arrays)
    else:
        write_safetensors(path, arrays)
    leaves = weights.fit(weights.read(path), network)
    theta = weights.loaded(network, leaves, key=jax.random.key(9), name="mine")
    assert theta.fixed
    assert theta.size == 1
    assert theta.name == "loaded(mine)"
    params = theta.sample(jax.random.key(1))
    assert jax.tree.structure(params) == jax.tree.structure(network.init(jax.random.key(0)))
    jax.tree.map(np.testing.assert_array_equal, params, network.init(jax.random.key(0)))
    jax.tree.map(np.testing.assert_array_equal, jax.tree.map(lambda leaf: leaf[0], theta.pool), params)


@pytest.mark.slow
def test_a_fresh_layer_is_drawn_and_the_file_s_is_left_out(network):
    arrays = arrays_of(network)
    last = "classifier"
    other = networks.mlp(SHAPE, 7, widths=(5,))
    leaves = weights.fit(arrays, other, fresh=last)
    assert {name for name in arrays if name not in leaves} == {f"{last}.kernel", f"{last}.bias"}
    params = [
        weights.loaded(other, leaves, key=jax.random.key(seed), name="mine").sample(jax.random.key(0))
        for seed in (0, 1)
    ]
    assert params[0][last]["kernel"].shape == (5, 7)
    assert not np.array_equal(params[0][last]["kernel"], params[1][last]["kernel"])
    assert (params[0][last]["bias"] == 0).all()
    np.testing.assert_array_equal(params[0]["fc1"]["kernel"], arrays["fc1.kernel"])
    without = {name: array for name, array in arrays.items() if not name.startswith(last)}
    assert weights.fit(without, other, fresh=last).keys() == leaves.keys()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("fc1.bias"), "bias is missing"),
        (lambda a: a.update(other=np.zeros(3)), "other is unknown"),
        (lambda a: a.update({"fc1.kernel": np.zeros((3, 2))}), r"kernel is \[3, 2\] instead of"),
        (lambda a: a.update({"fc1.bias": np.full(5, np.nan)}), "expected finite floats"),
        (lambda a: a.update({"fc1.bias": np.zeros(5, int)}), "expected finite floats; got int64"),
    ],
)
def test_weights_of_another_network_are_refused(network, change, message):
    arrays = arrays_of(network)
    change(arrays)
    with pytest.raises(ValueError, match=message):
        weights.fit(arrays, network)


def test_an_unknown_layer_cannot_be_fresh(network):
    with pytest.raises(ValueError, match="fresh layer: expected one of"):
        weights.fit(arrays_of(network), network, fresh="head")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"dtype": "I64"}, "dtype of a: expected one of BF16, F16, F32, F64"),
        ({"shape": [7]}, "a: F32.7. does not fit its place"),
        ({"shape": [-1, -2]}, "does not fit its place"),
        ({"data_offsets": [0, 800]}, "does not fit its place"),
        ({"data_offsets": [-8, 0]}, "does not fit its place"),
        ({"data_offsets": 3}, "its header cannot be read"),
        ({"shape": None}, "its header cannot be read"),
    ],
)
def test_headers_that_claim_too_much_are_refused(tmp_path, changed, message):
    path = write_safetensors(tmp_path / "w.safetensors", {"a": np.zeros(2)}, **changed)
    with pytest.raises(ValueError, match=message):
        weights.read(path)


@pytest.mark.parametrize(
    "content", [b"", b"short", b"\xff" * 40, (3).to_bytes(8, "little") + b"[1]", b"\0" * 9]
)
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"w\.safetensors: expected arrays by name; .*header"):
        weights.read(path)


def test_suffix_place_and_size_are_checked_first(tmp_path):
    with pytest.raises(ValueError, match="suffix of the file: expected one of"):
        weights.read(tmp_path / "w.pth")
    with pytest.raises(FileNotFoundError, match="expected a file; there is none"):
        weights.read(tmp_path / "w.npz")
    path = write_safetensors(tmp_path / "w.safetensors", {"a": np.zeros(100)})
    with pytest.raises(ValueError, match="at most 100 bytes"):
        weights.read(path, limit=100)

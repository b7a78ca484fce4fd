"""The artifact: NumPy alone reads it, the same φ gives the same bytes, anything else is refused."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import pickle
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from problems import CLASSES, SHAPE, small_run, three_digits

import ddjax
from ddjax import Recipe, artifact, inits, networks, recorded_inits
from ddjax.data import provenance
from ddjax.launch import artifacts
from ddjax.recipes import Train


@pytest.fixture(scope="module")
def distilled():
    return small_run(three_digits(), metadata={"network": "mlp"}).distilled


@pytest.fixture
def saved(distilled, tmp_path) -> Path:
    return artifact.save(tmp_path / "distilled.npz", distilled)


@pytest.mark.slow
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
    assert "augmentation" not in metadata["recipe"]
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


def test_a_recipe_with_augmentation_comes_back_in_a_format_that_an_older_ddjax_refuses(distilled, tmp_path):
    recipe = Train(augmentation="color_crop_flip")
    saved = artifact.save(tmp_path / "augmented.npz", dataclasses.replace(distilled, recipe=recipe))
    assert artifact.load(saved).recipe == recipe
    with np.load(saved) as file:
        assert json.loads(str(file["metadata"]))["format_version"] == 2
    unknown = dataclasses.replace(distilled, recipe=dataclasses.replace(recipe, augmentation="turn"))
    with pytest.raises(ValueError, match="got 'turn'"):
        artifact.save(tmp_path / "unknown.npz", unknown)
    assert not (tmp_path / "unknown.npz").exists()


FLIPPED = {"kind": "schedule", "augmentation": "flip"}
TRAINED = {"kind": "train"}


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
        (lambda p: {"metadata": metadata_with(p, format_version=5)}, "Install a newer ddjax"),
        (lambda p: {"metadata": metadata_with(p, recipe={"kind": "lasso"})}, "got 'lasso'"),
        (lambda p: {"metadata": metadata_with(p, recipe={"optimizer": "lion"})}, "got 'lion'"),
        (lambda p: {"metadata": metadata_with(p, recipe={"speed": 1})}, "expected a recipe"),
        (
            lambda p: {"metadata": metadata_with(p, recipe=FLIPPED)},
            "a schedule is replayed on inputs as they are",
        ),
        (lambda p: {"metadata": metadata_with(p, recipe=TRAINED | {"augmentation": "turn"})}, "got 'turn'"),
        (lambda p: {"metadata": metadata_with(p, recipe=TRAINED | {"augmentation": 3})}, "got int 3"),
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


# What somebody may have made to do harm.


def members_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_members(path: Path, members: dict[str, bytes], *, deflate: bool = False) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def npy(array: np.ndarray, **settings) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **settings)
    return stream.getvalue()


def header_of(*shape: int) -> bytes:
    """The first bytes of a float32 array of any size, without the array."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return stream.getvalue()


class Harm:
    """Unpickled, it makes a directory."""

    def __reduce__(self):
        return os.mkdir, ("harm",)


OBJECTS = npy(np.array([Harm()], object), allow_pickle=True)
NO_STEPS = {
    "images.npy": npy(np.zeros((0, 3, 8, 8, 1), "f4")),
    "labels.npy": npy(np.zeros((0, 3, 3), "f4")),
    "lrs.npy": npy(np.zeros((2, 0), "f4")),
}
ONE = npy(np.zeros(1, "f4"))

MALICIOUS: dict[str, tuple[dict[str, bytes], str]] = {
    "objects that would run code": (
        {"images.npy": OBJECTS},
        "plain numbers or text; got dtype object",
    ),
    "a bare pickle": ({"images.npy": pickle.dumps(Harm())}, "magic"),
    "records": ({"mean.npy": npy(np.zeros(1, [("a", "f4")]))}, "plain numbers or text"),
    "a path upwards": ({"../harm.npy": ONE}, r"got '\.\./harm' too"),
    "an absolute path": ({"/tmp/harm.npy": ONE}, "got '/tmp/harm' too"),
    "an unknown member": ({"weights.npy": ONE}, "got 'weights' too"),
    "a member that is no array": ({"run.sh": b"#!/bin/sh"}, "expected NAME.npy"),
    "a name that is none": ({".npy": ONE}, "expected NAME.npy"),
    "a claim of 2^60 bytes": ({"images.npy": header_of(2**58)}, "expected 1,152,921,504,606,846,976 bytes"),
    "a claim beyond all integers": ({"images.npy": header_of(2**62, 2**62)}, "expected .* bytes"),
    "a negative size": ({"images.npy": header_of(-1, 4) + bytes(16)}, "expected -16 bytes"),
    "fewer bytes than claimed": ({"lrs.npy": header_of(2, 2) + bytes(12)}, "expected 16 bytes .*got 12"),
    "more bytes than claimed": ({"lrs.npy": header_of(2, 2) + bytes(99)}, "expected 16 bytes .*got 99"),
    "text in place of numbers": ({"labels.npy": npy(np.zeros((2, 3, 3), str))}, "labels: expected finite"),
    "half precision": ({"images.npy": npy(np.zeros((2, 3, 8, 8, 1), "f2"))}, "got float16"),
    "the other byte order": ({"mean.npy": npy(np.zeros(1, ">f4"))}, "mean: expected finite float32; got >f4"),
    "complex numbers": ({"std.npy": npy(np.ones(1, "c8"))}, "got complex64"),
    "bytes as metadata": ({"metadata.npy": npy(np.array(b"{}"))}, "metadata: expected one text"),
    "many texts": ({"metadata.npy": npy(np.array(["{}", "{}"]))}, "metadata: expected one text"),
    "endless metadata": ({"metadata.npy": npy(np.array(" " * 5_000_000))}, "one text of at most 16,777,216"),
    "endless nesting": ({"metadata.npy": npy(np.array("[" * 100_000))}, "metadata: expected a JSON object"),
    "no steps at all": (NO_STEPS, r"expected images \[S, B, H, W, C\]"),
    "a spread of zero": ({"std.npy": ONE}, "std: expected numbers > 0"),
}


@pytest.mark.parametrize("case", MALICIOUS)
def test_malice_is_refused(saved, tmp_path, monkeypatch, case):
    changed, message = MALICIOUS[case]
    monkeypatch.chdir(tmp_path)
    write_members(saved, members_of(saved) | changed)
    with pytest.raises(ValueError, match=message) as caught:
        artifact.load(saved)
    assert str(saved) in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["distilled.npz"]


@pytest.mark.slow
def test_a_zip_bomb_is_refused_before_it_is_unpacked(saved):
    """A megabyte that says, truly, that it holds half a gigabyte."""
    with (
        zipfile.ZipFile(saved, "a", zipfile.ZIP_DEFLATED) as archive,
        archive.open("lrs2.npy", "w", force_zip64=True) as member,
    ):
        member.write(header_of(2**27))
        for _ in range(512):
            member.write(bytes(2**20))
    assert saved.stat().st_size < 2**20
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"at most 268,435,456 bytes together; got 536,8.*raise `limit`"):
            artifact.load(saved, limit=2**28)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_a_zip_bomb_that_lies_about_its_size_is_refused(saved):
    """The archive's directory says 144 bytes where 64 MiB would come out."""
    large = npy(np.zeros(2**24, "f4"))
    write_members(saved, members_of(saved) | {"mean.npy": large}, deflate=True)
    true, told = len(large).to_bytes(4, "little"), (144).to_bytes(4, "little")
    assert saved.read_bytes().count(true) == 2  # before the data, and in the directory
    saved.write_bytes(saved.read_bytes().replace(true, told))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"mean\.npy"):
            artifact.load(saved)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_a_pipe_and_a_directory_are_no_artifacts(tmp_path):
    os.mkfifo(tmp_path / "pipe.npz")
    for path in (tmp_path / "pipe.npz", tmp_path):
        with pytest.raises(ValueError, match="no regular file"):
            artifact.load(path)


def test_a_member_given_twice_is_refused(saved):
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(saved, "a") as archive:
        archive.writestr("mean.npy", ONE)
    with pytest.raises(ValueError, match=r"mean\.npy': expected once; got it twice"):
        artifact.load(saved)


def test_what_cannot_be_loaded_is_not_saved(distilled, saved):
    before = saved.read_bytes()
    schedule = distilled.schedule._replace(lrs=np.full((2, 2), np.nan))
    broken = dataclasses.replace(distilled, params=schedule, form=ddjax.forms.constant(schedule))
    with pytest.raises(ValueError, match="lrs: expected finite float32"):
        artifact.save(saved, broken)
    with pytest.raises(ValueError, match="metadata: expected what JSON can hold"):
        artifact.save(saved, dataclasses.replace(distilled, metadata={"a": object()}))
    nothing: Any = {}
    with pytest.raises(ValueError, match="distilled: expected a Distilled; got dict"):
        artifact.save(saved, nothing)
    assert saved.read_bytes() == before


# Whatever a file holds, it is loaded or refused with a message.


def load_or_refuse(path: Path) -> ddjax.Distilled | None:
    """What a file holds; None where it was refused with a message that names the file."""
    try:
        return artifact.load(path)
    except ValueError as error:
        told = str(error)
    assert str(path) in told
    assert "expected" in told
    return None


def assert_equal(one: ddjax.Distilled, other: ddjax.Distilled) -> None:
    written = ("format_version", "ddjax_version")  # by each save anew
    facts = [{k: v for k, v in phi.metadata.items() if k not in written} for phi in (one, other)]
    assert (one.recipe, facts[0]) == (other.recipe, facts[1])
    parts = ((phi.schedule, phi.encoding) for phi in (one, other))
    for a, b in zip(*map(jax.tree.leaves, parts), strict=True):
        np.testing.assert_array_equal(a, b)


FILES = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FILES
@given(data=st.data())
def test_damaged_files_are_loaded_or_refused(saved, tmp_path, data):
    content = bytearray(saved.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content)))
        kind = data.draw(st.sampled_from(["flip", "cut", "insert", "remove"]))
        if kind == "flip":
            content[start : start + 1] = data.draw(st.binary(min_size=1, max_size=1))
        elif kind == "insert":
            content[start:start] = data.draw(st.binary(min_size=1, max_size=8))
        else:
            del content[start : len(content) if kind == "cut" else start + data.draw(st.integers(1, 64))]
    (tmp_path / "damaged.npz").write_bytes(content)
    found = load_or_refuse(tmp_path / "damaged.npz")
    if found is not None:  # what was hit means nothing, such as the time of a member
        assert_equal(found, artifact.load(saved))


@FILES
@given(content=st.binary(max_size=400))
@example(content=b"PK\x05\x06" + bytes(18))  # an archive without members
def test_any_bytes_are_refused(tmp_path, content):
    path = tmp_path / "bytes.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="expected"):
        artifact.load(path)


ANY_ARRAY = hnp.arrays(
    st.one_of(hnp.scalar_dtypes(), hnp.unicode_string_dtypes(max_len=4)),
    hnp.array_shapes(min_dims=0, max_dims=6, min_side=0, max_side=3),
)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def places(facts: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where the values of a JSON text lie, nested ones too."""
    inner = facts.items() if isinstance(facts, dict) else enumerate(facts) if isinstance(facts, list) else ()
    return [found for key, value in inner for found in [(*at, key), *places(value, (*at, key))]]


@FILES
@given(data=st.data())
@pytest.mark.slow
def test_any_metadata_are_refused_or_come_back(saved, tmp_path, data):
    """One value of the metadata becomes another; what is loaded is saved again as it was, and can be read."""
    with np.load(saved) as members:
        facts = json.loads(str(members["metadata"]))
    *way, last = data.draw(st.sampled_from(places(facts)))
    inner = facts
    for key in way:
        inner = inner[key]
    if data.draw(st.booleans()) and isinstance(inner, dict):
        del inner[last]
    else:
        inner[last] = data.draw(JSON)
    path = tmp_path / "changed.npz"
    path.write_bytes(saved.read_bytes())
    rewrite(path, metadata=np.array(json.dumps(facts)))
    found = load_or_refuse(path)
    if found is None:
        return
    assert_equal(found, artifact.load(artifact.save(tmp_path / "again.npz", found)))
    provenance.recorded(found.metadata, where=path)
    own = recorded_inits.recorded(found.metadata, where=path)
    if own.is_whole:
        recorded_inits.rebuilt(own, networks.mlp(SHAPE, CLASSES, widths=(2,)))
    with contextlib.suppress(ValueError):
        artifacts.network_of(str(path), found)


OLD_RECIPES = [
    ({"kind": "schedule", "lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4, "epochs": 300}, Recipe()),
    ({"kind": "train", "lr": 0.1, "optimizer": "sgd", "epochs": 7}, Recipe("train", lr=0.1, epochs=7)),
]


@pytest.mark.parametrize(("old", "expected"), OLD_RECIPES)
def test_recipes_of_older_files_are_read(saved, old, expected):
    rewrite(saved, metadata=metadata_with(saved, recipe=old | {"batch_size": 256}))
    assert artifact.load(saved).recipe == expected


@pytest.mark.parametrize(
    ("recipe", "names"),
    [
        (Recipe(optimizer="adam"), {"kind", "optimizer"}),
        (Recipe("train"), {"kind", "lr", "momentum", "weight_decay", "epochs", "batch_size"}),
        (
            Recipe("train", optimizer="adam"),
            {"kind", "lr", "weight_decay", "epochs", "batch_size", "optimizer"},
        ),
        (
            Recipe("train", steps=9, protocol="constant"),
            {"kind", "lr", "momentum", "weight_decay", "batch_size", "steps", "protocol"},
        ),
        (Recipe("ridge"), {"kind", "penalty"}),
    ],
)
def test_a_recipe_says_what_its_kind_uses_and_nothing_else(distilled, tmp_path, recipe, names):
    path = artifact.save(tmp_path / "a.npz", dataclasses.replace(distilled, recipe=recipe))
    with np.load(path) as file:
        assert set(json.loads(str(file["metadata"]))["recipe"]) == names


BAD_FACTS = {
    "a source that there is not": ({"data": {"source": "web"}}, "data: source: expected one of"),
    "a digest too short": ({"data": {"source": "file", "digests": {"test": "ab"}}}, "64 hexadecimal digits"),
    "a form that there is not": ({"data": {"source": "file", "form": [{"turn": 9}]}}, "got 'turn'"),
    "a form of nothing": ({"data": {"source": "file", "form": [{}]}}, "conversions in a step: expected 1"),
    "a huge form": ({"data": {"source": "file", "form": [{"resize": [2**30, 1]}]}}, "at most 1,048,576"),
    "half a size": ({"data": {"source": "file", "form": [{"resize": [4]}]}}, "resize: numbers: expected 2"),
    "a seed below zero": ({"data": {"source": "file", "split": {"seed": -1, "fraction": 0.1}}}, "seed"),
    "a fraction of all": ({"data": {"source": "file", "split": {"seed": 0, "fraction": 1}}}, "fraction"),
    "a kind of p(θ0)": ({"init_settings": {"kind": "dream"}}, "init_settings: kind: expected one of"),
    "a scheme": ({"init_settings": {"kind": "random", "scheme": "x", "gain": 1}}, "scheme: expected one of"),
    "a gain of the network's own weights": (
        {"init_settings": {"kind": "random", "scheme": "network", "gain": 2}},
        "gain: expected 1",
    ),
    "a gain": ({"init_settings": {"kind": "random", "scheme": "pytorch", "gain": 0}}, "gain: expected a fin"),
    "a key": (
        {"init_settings": {"kind": "fixed", "scheme": "pytorch", "gain": 1, "key": [1.5]}},
        "key: expected the numbers of a key",
    ),
    "a key's generator": (
        {"init_settings": {"kind": "fixed", "scheme": "pytorch", "gain": 1, "key": [1], "algorithm": "x"}},
        "key: expected the numbers of a key",
    ),
    "a name that is none": ({"init": 3}, "init: expected a str"),
}


@pytest.mark.parametrize("case", BAD_FACTS)
def test_facts_that_ddjax_would_not_write_are_refused_by_name(saved, case):
    changed, message = BAD_FACTS[case]
    rewrite(saved, metadata=metadata_with(saved, **changed))
    with pytest.raises(ValueError, match=message) as caught:
        artifact.load(saved)
    assert str(saved) in str(caught.value)


@pytest.mark.slow
@FILES
@given(changes=st.dictionaries(st.sampled_from([*artifact.REQUIRED, "lrs", "x"]), ANY_ARRAY, min_size=1))
def test_any_arrays_are_loaded_or_refused(saved, tmp_path, changes):
    with np.load(saved) as members:
        everything: dict[str, Any] = dict(members) | changes
    np.savez(tmp_path / "changed.npz", **everything)
    load_or_refuse(tmp_path / "changed.npz")

"""Directories of experts: written one at a time, read as memory maps, refused where anything differs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from problems import CLASSES, SHAPE

from ddjax import experts, networks
from ddjax.encodings import Channels
from ddjax.experts import Directory, Experts, Flat

NETWORK = networks.mlp(SHAPE, CLASSES, widths=(4,))
STEPS = (0, 5, 10)


def trajectory(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(3, Flat.of(NETWORK).size)).astype(np.float32)


@pytest.fixture
def facts(few_digits) -> dict[str, Any]:
    return experts.described(NETWORK, few_digits)


@pytest.fixture
def written(tmp_path, facts) -> Path:
    """Two experts."""
    place = Directory(tmp_path / "experts", STEPS, facts)
    entries = place.open()
    for seed in range(2):
        entries = place.add(entries, trajectory(seed), 90.0 + seed)
    return place.path


def test_the_order_of_the_weights_is_that_of_the_leaves():
    flat = Flat.of(NETWORK)
    params = jax.tree.map(
        lambda leaf: np.random.default_rng(leaf.size).normal(size=leaf.shape).astype(np.float32), flat.shapes
    )
    vector = flat.vector(params)
    np.testing.assert_array_equal(
        vector, np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(params)])
    )
    for ours, theirs in zip(*map(jax.tree.leaves, (flat.params(vector), params)), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert flat.size == 64 * 4 + 4 + 4 * 3 + 3
    assert sum(np.prod(shape) for shape in flat.names.values()) == flat.size


def test_numpy_alone_reads_what_was_written(written):
    for seed in range(2):
        array = np.load(written / f"{seed:06d}.npy", allow_pickle=False)
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, trajectory(seed))
    assert sorted(path.name for path in written.iterdir()) == ["000000.npy", "000001.npy", "experts.json"]
    assert [one["accuracy"] for one in json.loads((written / "experts.json").read_text())["experts"]] == [
        90,
        91,
    ]


def test_experts_are_read_as_memory_maps_of_the_network_and_data(written, few_digits):
    found = experts.load(written).fit(NETWORK, few_digits)
    assert len(found) == 2
    assert all(isinstance(one, np.memmap) for one in found.trajectories)
    assert found.steps.tolist() == list(STEPS)
    assert found.accuracy.tolist() == [90, 91]
    part = found.window(1, 2)
    assert part.steps.tolist() == [5, 10]
    np.testing.assert_array_equal(part.stacked(), np.stack([trajectory(0)[1:], trajectory(1)[1:]]))
    last = found.last(NETWORK)
    for ours, theirs in zip(
        jax.tree.leaves(last), jax.tree.leaves(Flat.of(NETWORK).params(trajectory(1)[-1])), strict=True
    ):
        assert ours.shape == (2, *theirs.shape)
        np.testing.assert_array_equal(ours[1], theirs)


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-7] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "one bit flipped": (flipped, "expected the bytes with SHA-256"),
    "cut short": (lambda path: path.write_bytes(path.read_bytes()[:-8]), "expected the bytes with SHA-256"),
    "gone": (lambda path: path.unlink(), "expected the weights of expert 1; there is no file"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_file_is_refused_by_name(case, written, facts):
    damage, message = DAMAGE[case]
    damage(written / "000001.npy")
    for read in (lambda: experts.load(written), Directory(written, STEPS, facts).open):
        with pytest.raises((ValueError, FileNotFoundError), match=f"000001.npy: {message}"):
            read()


@pytest.mark.parametrize("text", ["", "[]", '{"format_version": 1}', '{"format_version": 99}', "\x00"])
def test_facts_of_any_origin_are_refused_by_name(text, written):
    (written / "experts.json").write_text(text)
    with pytest.raises(ValueError, match=r"experts\.json"):
        experts.load(written)


def test_an_empty_directory_says_how_to_fill_it(tmp_path, facts):
    with pytest.raises(FileNotFoundError, match="ddjax experts"):
        experts.load(tmp_path)
    assert Directory(tmp_path, STEPS, facts).open() == []
    with pytest.raises(ValueError, match="expected experts; none is finished"):
        experts.load(tmp_path)


def test_another_training_is_not_mixed_in(written, facts):
    for changed, name in (
        (Directory(written, (0, 5, 11), facts), "steps"),
        (Directory(written, STEPS, facts | {"train": "0" * 64}), "train"),
        (Directory(written, STEPS, facts | {"seed": 3}), "seed"),
    ):
        before = {path: path.read_bytes() for path in written.iterdir()}
        with pytest.raises(ValueError, match=f"expected experts with {name} .*or another directory"):
            changed.open()
        assert {path: path.read_bytes() for path in written.iterdir()} == before


def test_trainings_that_diverged_or_stood_still_are_not_written(written, facts):
    place = Directory(written, STEPS, facts)
    entries = place.open()
    for weights, message in (
        (np.where(np.arange(3)[:, None] == 2, np.nan, trajectory(5)), "the training diverged"),
        (trajectory(5)[[0, 1, 1]], "expected other weights at every checkpoint"),
    ):
        with pytest.raises(ValueError, match=message):
            place.add(entries, weights, 0.0)
    assert len(experts.load(written)) == 2


def test_experts_of_something_else_are_refused(written, few_digits):
    found = experts.load(written)
    with pytest.raises(ValueError, match=r"expected those of mlp with .*; got experts of mlp with 275"):
        found.fit(networks.mlp(SHAPE, CLASSES, widths=(5,)))
    fewer = dataclasses.replace(few_digits, train=few_digits.train.at(np.arange(30)))
    # As many weights in other places.
    turned = networks.mlp((4, 16, 1), CLASSES, widths=(4,))
    assert found.fit(turned) is found
    with pytest.raises(ValueError, match="experts trained under the encoding of three digits"):
        found.fit(NETWORK, few_digits.encoded_by(Channels(np.zeros(1), np.ones(1))))
    with pytest.raises(ValueError, match="experts trained under the training split of three digits"):
        found.fit(NETWORK, fewer)
    with pytest.raises(ValueError, match=r"window: expected checkpoints from 1 to at most 2.*got up to 3"):
        found.window(1, 3)


def test_experts_must_fit_together():
    for shapes, count in (([(3, 4), (3, 5)], 2), ([(2, 4)], 1), ([], 0), ([(3, 4)], 2)):
        with pytest.raises(ValueError, match="experts: expected one or more, each"):
            Experts([np.zeros(shape, np.float32) for shape in shapes], np.arange(3), np.zeros(count))

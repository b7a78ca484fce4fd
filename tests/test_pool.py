"""Pools: written and read whole, split in two, only into the network that they are of; p(θ0) from them."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from problems import CLASSES, SHAPE

from ddjax import inits, networks, pool
from ddjax.pool import Pool

NETWORK = networks.mlp(SHAPE, CLASSES, widths=(4,))
FACTS = {
    "dataset": "spots",
    "network": "mlp",
    "network_settings": {"widths": [4]},
    "image_shape": list(SHAPE),
    "num_classes": CLASSES,
}


@pytest.fixture(scope="module")
def five() -> Pool:
    params = jax.vmap(NETWORK.init)(jax.random.split(jax.random.key(0), 5))
    return Pool(jax.device_get(params), 3, np.arange(5, dtype=np.float32), FACTS)


@pytest.fixture
def saved(five, tmp_path) -> Path:
    return pool.save(tmp_path / "pool.npz", five)


def same(ours: Any, theirs: Any) -> bool:
    pairs = zip(*map(jax.tree.leaves, (ours, theirs)), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


@pytest.mark.slow
def test_numpy_alone_reads_it(saved):
    with np.load(saved, allow_pickle=False) as file:
        members = dict(file)
    metadata = json.loads(str(members.pop("metadata")))
    assert {name: (array.shape, array.dtype.name) for name, array in members.items()} == {
        "accuracy": ((5,), "float32"),
        "params.fc1.kernel": ((5, 64, 4), "float32"),
        "params.fc1.bias": ((5, 4), "float32"),
        "params.classifier.kernel": ((5, 4, 3), "float32"),
        "params.classifier.bias": ((5, 3), "float32"),
    }
    assert metadata == FACTS | {
        "num_train": 3,
        "format_version": 1,
        "ddjax_version": metadata["ddjax_version"],
    }


def test_a_round_trip_keeps_every_member(five, saved, tmp_path):
    loaded = pool.load(saved).fit(NETWORK)
    assert same(loaded.params, five.params)
    assert jax.tree.structure(loaded.params) == jax.tree.structure(NETWORK.init(jax.random.key(0)))
    assert loaded.num_train == 3
    assert dict(loaded.metadata) == FACTS
    assert np.array_equal(loaded.accuracy, five.accuracy)
    again = pool.save(tmp_path / "again.npz", loaded)
    assert again.read_bytes() == saved.read_bytes()


def test_the_splits_share_no_member(five):
    assert (five.size("train"), five.size("held_out"), len(five)) == (3, 2, 5)
    both = jax.tree.map(lambda *leaves: np.concatenate(leaves), *map(five.members, pool.SPLITS))
    assert same(both, five.params)
    assert np.array_equal(five.accuracies("held_out"), [3, 4])


def test_parts_join_in_their_order(five):
    first, rest = (
        Pool(five.members(split), five.size(split), five.accuracies(split)) for split in pool.SPLITS
    )
    whole = pool.joined([first, rest], num_train=3, metadata=FACTS)
    assert same(whole.params, five.params)
    assert np.array_equal(whole.accuracy, five.accuracy)


@pytest.mark.slow
def test_the_weights_take_the_network_s_dtype(five, x64):
    wide = networks.lenet((12, 12, 1), 3)
    params = jax.vmap(wide.init)(jax.random.split(jax.random.key(0), 2))
    narrow = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), params)
    fitted = Pool(narrow, 2, np.zeros(2, np.float32)).fit(wide)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(fitted.params)} == {"float64"}


CHANGES = {
    "another version": ({"metadata": np.array(json.dumps(FACTS | {"format_version": 2}))}, "Install a newer"),
    "no JSON": ({"metadata": np.array("{")}, "expected a JSON object"),
    "no metadata": ({"metadata": None}, "metadata: expected one text"),
    "a list of facts": ({"metadata": np.array("[1]")}, "expected a JSON object"),
    "a fact of another kind": (
        {"metadata": np.array(json.dumps(FACTS | {"format_version": 1, "num_train": 1, "network": 3}))},
        "network: expected a str",
    ),
    "no number of members": (
        {"metadata": np.array(json.dumps({"format_version": 1}))},
        "num_train: expected a whole number",
    ),
    "more training members than members": (
        {"metadata": np.array(json.dumps({"format_version": 1, "num_train": 6}))},
        "of n >= 6",
    ),
    "NaN": (
        {"params.classifier.bias": np.full((5, 3), np.nan, np.float32)},
        "params.classifier.bias: expected finite",
    ),
    "float64": ({"accuracy": np.zeros(5)}, "accuracy: expected finite float32"),
    "a member too few": ({"params.classifier.bias": np.zeros((4, 3), np.float32)}, "for each of n"),
    "a number in the place of members": (
        {"params.classifier.bias": np.zeros((), np.float32)},
        "for each of n",
    ),
    "no accuracy": ({"accuracy": None}, "accuracy: expected finite float32"),
    "another member": ({"optimizer": np.zeros(5, np.float32)}, "got 'optimizer'"),
    "a member without a name": ({"params.": np.zeros(5, np.float32)}, "got 'params.'"),
    "weights above weights": ({"params.fc1": np.zeros(5, np.float32)}, "no weights (above|below) it"),
    "objects": ({"accuracy": np.array([{}] * 5)}, "plain"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_what_is_no_pool_is_refused(saved, case):
    changes, message = CHANGES[case]
    with np.load(saved) as file:
        members = {**file, **changes}
    np.savez(saved, **{name: value for name, value in members.items() if value is not None})
    with pytest.raises(ValueError, match=message) as caught:
        pool.load(saved)
    assert str(saved) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"not an archive", pickle.dumps({"params": 1})])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "pool.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="Train the pool again"):
        pool.load(path)


def test_a_truncated_pool_is_refused(saved):
    saved.write_bytes(saved.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"expected an \.npz"):
        pool.load(saved)


def test_a_pool_larger_than_allowed_is_refused(saved):
    with pytest.raises(ValueError, match="at most 100 bytes"):
        pool.load(saved, limit=100)


def test_a_missing_file_says_how_to_make_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="ddjax pretrain"):
        pool.load(tmp_path / "nowhere.npz")


def test_what_cannot_be_loaded_is_not_saved(five, tmp_path):
    spoilt = jax.tree.map(np.copy, five.params)
    spoilt["fc1"]["kernel"][0, 0, 0] = np.inf
    for bad, message in (
        (Pool(spoilt, 3, five.accuracy), "fc1.kernel: expected finite"),
        (Pool(five.params, 3, five.accuracy, {"what": {1, 2}}), "metadata: expected what JSON can hold"),
    ):
        with pytest.raises(ValueError, match=message):
            pool.save(tmp_path / "bad.npz", bad)
    with pytest.raises(ValueError, match="pool: expected a Pool"):
        pool.save(tmp_path / "bad.npz", five.params)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (networks.mlp((9, 9, 1), CLASSES, widths=(4,)), r"image shape .* got \[8, 8, 1\]. .*--resize"),
        (networks.mlp(SHAPE, 4, widths=(4,)), "number of classes: expected 4; got 3"),
        (
            networks.mlp(SHAPE, CLASSES, widths=(5,)),
            r"classifier\.kernel, fc1\.bias, fc1\.kernel are missing, unknown",
        ),
        (networks.mlp(SHAPE, CLASSES, widths=(4, 4)), r"fc2\.bias, fc2\.kernel are missing"),
    ],
)
def test_another_network_s_pool_is_refused(five, network, message):
    with pytest.raises(ValueError, match=message):
        five.fit(network)


def member_of(params: Any, candidates: Any) -> list[int]:
    """Which of the candidates `[n, ...]` the weights are."""
    count = len(jax.tree.leaves(candidates)[0])
    return [i for i in range(count) if same(params, jax.tree.map(lambda leaf, i=i: leaf[i], candidates))]


@pytest.mark.parametrize("split", pool.SPLITS)
@pytest.mark.slow
def test_samples_are_the_members_of_the_split_each_as_often(five, split):
    distribution = inits.pretrained(five, split=split)
    assert (distribution.size, distribution.fixed) == (five.size(split), False)
    assert distribution.name == f"pretrained(spots, {split})"
    members = five.members(split)
    drawn = jax.vmap(distribution.sample)(jax.random.split(jax.random.key(1), 300))
    found = [member_of(jax.tree.map(lambda leaf, i=i: leaf[i], drawn), members) for i in range(300)]
    assert all(len(one) == 1 for one in found)
    counts = np.bincount([one[0] for one in found], minlength=five.size(split))
    assert len(counts) == five.size(split)
    assert (abs(counts - 300 / len(counts)) < 5 * np.sqrt(300 / len(counts))).all()


def test_one_member_is_a_fixed_distribution(five):
    distribution = inits.pretrained(five, split="held_out", member=1)
    assert (distribution.size, distribution.fixed, distribution.pool) == (1, True, None)
    assert distribution.name == "pretrained(spots, held_out 1)"
    for seed in range(3):
        assert member_of(distribution.sample(jax.random.key(seed)), five.params) == [4]


def test_what_the_pool_has_not_is_refused(five):
    for bad, message in (
        (lambda: inits.pretrained(five, split="test"), "split: expected one of held_out, train; got 'test'"),
        (lambda: inits.pretrained(five, member=3), "one of the 3 train members, 0 to 2; got 3"),
        (lambda: inits.pretrained(five, member=-1), "got -1"),
        (lambda: inits.pretrained(five.params), "pool: expected a Pool"),  # type: ignore[arg-type]
        (
            lambda: inits.pretrained(Pool(five.params, 5, five.accuracy), split="held_out"),
            "expected held_out members; it has none among its 5",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            bad()

"""The sets that come with ddjax: each is whole, small, and as good as the card says."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import numpy as np
import pytest

import ddjax
from ddjax import forms, sets

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", sets.names())
def test_a_set_is_whole_and_its_card_says_what_it_is(name):
    card, phi = sets.card(name), sets.load(name)
    assert {path.suffix for path in sets.path(name).parent.glob(f"{name}.*")} >= {".npz", ".json"}
    assert sets.path(name).stat().st_size <= 400_000
    assert card["dataset"] == phi.metadata["dataset"]
    assert card["licence of the data"]
    assert card["examples"] == phi.schedule.labels.shape[0] * phi.schedule.labels.shape[1]
    stored = card["numbers stored"]
    if "labels" in stored:
        assert stored["labels"] == phi.schedule.labels.size
    else:  # a compact set, of what its form stores
        assert stored == dict(forms.storage(phi.form).numbers)
    assert card["accuracy"]["n"] >= 1
    assert "/" not in card["command"].replace("runs/", "")


def test_the_sets_are_small_together():
    place = sets.folder()
    assert place is not None
    assert sum(path.stat().st_size for path in place.iterdir()) <= 5_000_000


@pytest.mark.slow
def test_three_lines_train_a_network_as_well_as_the_card_says():
    distilled, data, card = sets.load("digits-10"), ddjax.data.load("digits"), sets.card("digits-10")
    network = ddjax.networks.by_name(
        card["network"], data.image_shape, data.num_classes, **card["network_settings"]
    )
    inits = ddjax.inits.random(network, scheme=card["init"])
    score = ddjax.evaluate(distilled, network, inits, data.test, key=jax.random.key(5), num_inits=4)
    assert abs(score.mean - card["accuracy"]["mean"]) <= 2 * card["accuracy"]["std"]


def test_the_command_lists_and_shows(capsys):
    assert sets.main([]) == 0
    assert "digits-10: digits, 10 examples, convnet: " in capsys.readouterr().out
    assert sets.main(["digits-10"]) == 0
    assert json.loads(capsys.readouterr().out)["path"].endswith("digits-10.npz")
    assert sets.main(["digits-11"]) == 2
    assert "got 'digits-11'. `ddjax sets` lists them." in capsys.readouterr().err


def test_numpy_alone_reads_a_set():
    with np.load(sets.path("digits-10"), allow_pickle=False) as members:
        assert members["images"].shape == (1, 10, 8, 8, 1)

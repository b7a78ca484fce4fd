"""The launcher of federated learning, as its users meet it."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from ddjax import Recipe, artifact, forms
from ddjax.data import load
from ddjax.launch.clients import ALONE, CONTROL, PUBLIC
from ddjax.types import Distilled, Schedule
from experiments import federated

TINY: dict[str, Any] = {
    "public": "digits",
    "networks": "mlp:widths=8x,mlp:widths=12x",
    "num_public": 200,
    "per_round": 100,
    "rounds": 2,
    "public_epochs": 3,
    "private_epochs": 3,
    "revisit_epochs": 1,
    "train_lr": 0.01,
    "num_seeds": 1,
}


def tiny(tmp_path, **settings: Any) -> federated.Config:
    return federated.Config(**{"workdir": str(tmp_path / "run"), **TINY, **settings})


@pytest.mark.slow
def test_ways_of_working_together_are_measured_and_drawn(tmp_path, capsys):
    digits = load("digits")
    images = jnp.asarray(digits.train.encoded()[None, :20])
    schedule = Schedule(images, jnp.eye(10)[digits.train.labels[None, :20]], None)
    phi = Distilled(schedule, forms.constant(schedule), digits.encoding, Recipe("train"))
    path = artifact.save(tmp_path / "a.npz", phi)
    result = federated.run(tiny(tmp_path, consensus=str(path), consensus_images=20))
    assert list(result["scores"]) == [ALONE, CONTROL, PUBLIC, "distilled images", "20 fixed images"]
    assert result["floats_per_round"] == {PUBLIC: 1000, "distilled images": 200, "20 fixed images": 200}
    for curve in result["rounds"].values():
        assert np.shape(curve) == (1, 3)
        assert curve[0][0] == result["scores"][ALONE]["mean"]
    assert np.shape(result["scores"][PUBLIC]["clients"]) == (1, 2)
    assert (tmp_path / "run" / "federated.png").exists()
    assert "floats a round" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"resize": 9, "public": "digits", "per_class": 1000}, "images per class: expected at most"),
        ({"networks": "mlp:widths=8x,mlpp"}, "networks: .*Did you mean 'mlp'"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        federated.run(tiny(tmp_path, **settings))
    assert not (tmp_path / "run").exists()


def test_data_of_other_classes_are_refused(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (60, 8, 8, 1), np.uint8), np.arange(60) % 3
    np.savez(tmp_path / "three.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    with pytest.raises(ValueError, match=r"public: classes: expected 10; got 3"):
        federated.run(tiny(tmp_path, public=str(tmp_path / "three.npz")))

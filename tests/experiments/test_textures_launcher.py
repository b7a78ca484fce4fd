"""The launcher of textures: its form, what its record adds, what it refuses."""

from __future__ import annotations

import json
from typing import Any

import jax
import numpy as np
import pytest

from ddjax.data import load
from ddjax.launch import Parts
from experiments import textures as launcher

TINY = {"dataset": "digits", "depth": 1, "width": 4}


def parts(**settings: Any) -> Parts:
    return launcher.LAUNCHER.parts(launcher.Config(**TINY, **settings), load("digits"))


def test_canvases_are_stored_and_cuts_are_seen():
    found = parts(images_per_class=2, canvas=3, cuts=5)
    code = found.form.init(jax.random.key(0)).code
    assert code.shape == (10, 2, 24, 24, 1)
    shapes = jax.eval_shape(lambda key: found.form.unfold(found.form.init(key)), jax.random.key(0))
    assert shapes.inputs.shape == (1, 100, 8, 8, 1)
    assert found.form.draw is not None
    with pytest.raises(ValueError, match=r"initial_images: expected noise .*; got real"):
        parts(initial_images="real")


@pytest.mark.slow
def test_a_run_shows_its_tiling_and_measures_its_seam(tmp_path):
    config = launcher.Config(
        **TINY,
        workdir=str(tmp_path / "run"),
        batch_size=4,
        cuts=2,
        num_outer_steps=2,
        train_epochs=1,
        num_eval_inits=2,
        num_val_inits=1,
        baselines=False,
    )
    launcher.LAUNCHER.run(config)
    record = json.loads((tmp_path / "run" / "result.json").read_text())
    assert record["seam"] == pytest.approx(1, abs=0.2)  # still noise
    assert record["random_cuts"]["n"] == 2
    assert np.isfinite(record["random_cuts"]["mean"])
    assert (tmp_path / "run" / "textures.png").stat().st_size > 1000

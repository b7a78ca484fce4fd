"""The launcher of noisy labels, as its users meet it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from ddjax import artifact
from experiments import noise

TINY: dict[str, Any] = {
    "network": "mlp:widths=16x",
    "num_examples": 300,
    "epochs": 3,
    "last_epochs": 2,
    "ramp": 1,
    "batch_size": 32,
    "train_lr": 0.01,
    "buffer_length": 32,
    "num_seeds": 2,
}


def tiny(tmp_path, **settings: Any) -> noise.Config:
    return noise.Config(**{"workdir": str(tmp_path / "run"), **TINY, **settings})


@pytest.mark.slow
def test_selections_are_measured_kept_drawn_and_found(tmp_path, capsys):
    settings = tiny(tmp_path, select="all,score3,clean", once="central,random", images_per_class=5)
    result = noise.run(settings)
    found = result["selections"]
    assert list(found) == ["all", "score3", "clean", "once central", "once random"]
    for name in ("all", "score3", "clean"):
        assert np.shape(found[name]["pure_rate"]) == np.shape(found[name]["validation"]) == (2, 3)
        assert found[name]["worst"]["mean"] <= found[name]["mean"]
    assert found["clean"]["pure"]["values"] == [100, 100]
    assert 50 < found["all"]["pure"]["mean"] < 70
    assert found["score3"]["pure"]["mean"] > found["all"]["pure"]["mean"]
    assert found["once central"]["pure"]["mean"] > found["once random"]["pure"]["mean"]
    assert result["num_examples"] == 300
    folder = tmp_path / "run"
    assert {"accuracy.png", "pure_rate.png", "result.json"} <= {path.name for path in folder.iterdir()}
    assert json.loads((folder / "result.json").read_text()) == result
    assert "once central" in capsys.readouterr().out
    assert noise.run(settings) == result


@pytest.mark.slow
def test_what_is_kept_is_distilled(tmp_path):
    quick = "width=4:depth=1:num_outer_steps=2:num_eval_inits=1:train_epochs=2:batch_size=4"
    spec = f"distribution_matching:{quick}"
    result = noise.run(tiny(tmp_path, select="clean", num_seeds=1, epochs=2, distil=spec))
    assert result["selections"]["clean"]["distilled"]["n"] == 1
    saved = artifact.load(tmp_path / "run" / "clean" / "distilled.npz")
    assert saved.metadata["dataset"] == "digits, noisy, clean"
    assert saved.metadata["data"]["source"] == "arrays"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"select": "los"}, "select: expected one of .*Did you mean 'loss'"),
        ({"once": "centre"}, "once: expected one of .*central"),
        ({"once": "forgetting", "warm_up": 1}, "forgetting: warm_up: expected .* >= 2; got 1"),
        ({"noise": "pair", "rate": 0.5}, "nothing says which of the two is right"),
        ({"distil": "distribution_matching:width"}, "distil: expected a launcher and its flags"),
        ({"distil": "evaluate"}, "distil: expected a launcher that distils; evaluate does not"),
        ({"network": "mlp:widhts=3"}, "Did you mean 'widths'"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        noise.run(tiny(tmp_path, **settings))
    assert not (tmp_path / "run").exists()

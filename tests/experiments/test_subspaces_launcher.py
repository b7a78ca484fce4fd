"""The launcher of class subspaces, as its users meet it."""

from __future__ import annotations

import pytest

from experiments import subspaces

QUICK = "width=4:depth=1:num_outer_steps=2:num_eval_inits=1:train_epochs=2:batch_size=4"


@pytest.mark.slow
def test_each_weight_and_the_form_inside_are_measured_and_drawn(tmp_path, capsys):
    config = subspaces.Config(
        workdir=str(tmp_path / "run"),
        distil=f"distribution_matching:{QUICK}",
        weights="0,10",
        num_shown=40,
        dims=3,
    )
    result = subspaces.run(config)
    found = result["distilled"]
    assert list(found) == ["β 0", "β 10", "inside"]
    assert found["inside"]["own_error"] < 1e-6 < result["real"]["own_error"]
    assert found["β 10"]["own_error"] < found["β 0"]["own_error"]
    assert found["inside"]["named_by_subspace"] == 100
    assert len(result["real"]["pca"]) == 40
    assert {"pca.png", "lda.png"} <= {path.name for path in (tmp_path / "run").iterdir()}
    assert "real images" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"distil": "sweep"}, "distil: expected a launcher that distils; sweep does not"),
        ({"weights": "a"}, "weights: expected numbers"),
        ({"dims": 1000}, "dims: expected at most"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        subspaces.run(subspaces.Config(**{"workdir": str(tmp_path / "run"), **settings}))
    assert not (tmp_path / "run").exists()

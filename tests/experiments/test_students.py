"""The launchers of students under noisy labels and of unlabelled examples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ddjax.launch.students import Seat
from experiments import noisy_teacher, omni

TINY: dict[str, Any] = {
    "network": "mlp:widths=16x",
    "epochs": 4,
    "teacher_epochs": 30,
    "batch_size": 32,
    "train_lr": 0.01,
    "num_seeds": 1,
}


@pytest.mark.slow
def test_a_teacher_of_few_clean_labels_mends_many_noisy_ones(tmp_path, capsys):
    settings: dict[str, Any] = {"num_clean": 60, "num_noisy": 400, "weights": "0,1"}
    result = noisy_teacher.run(noisy_teacher.Config(workdir=str(tmp_path / "run"), **TINY, **settings))
    scores, facts = result["scores"], result["facts"]
    assert list(scores) == [
        "teacher",
        "noisy alone",
        "noisy and clean",
        "teacher's hard labels",
        "λ 0",
        "λ 1",
        "λ predicted",
        "true labels",
    ]
    assert scores["λ predicted"]["mean"] > scores["noisy alone"]["mean"]
    assert scores["λ 1"]["values"] == scores["noisy and clean"]["values"]  # the same labels, the same θ0
    assert 0 <= facts["λ"][0] <= 1
    # ‖y - y*‖² is 2 for a wrong label.
    assert 0.5 < facts["R_y"][0] < 1.3
    assert "R_s" in capsys.readouterr().out


@pytest.mark.slow
def test_students_learn_from_merged_views(tmp_path):
    settings: dict[str, Any] = {"num_labelled": 60, "num_unlabelled": 400}
    result = omni.run(omni.Config(workdir=str(tmp_path / "run"), **TINY, **settings))
    assert {"teacher", "one view, hard", "9 views, hard", "9 views, soft"} < {*result["scores"]}
    right = result["facts"]["right labels, 9 views, %"][0]
    assert 60 < right <= 100
    assert result["scores"]["true labels"]["mean"] > 70


def test_groups_have_no_example_in_common(few_digits):
    train = few_digits.train
    groups = Seat.drawn(train, (10, 20), seed=3)
    assert [len(group.split) for group in groups] == [10, 20]
    seen = np.concatenate([group.split.raw for group in groups]).reshape(30, -1)
    whole = train.raw.reshape(len(train), -1)
    assert len(np.unique(seen, axis=0)) >= len(np.unique(whole, axis=0)) - (len(train) - 30)
    np.testing.assert_array_equal(groups[1].inputs, groups[1].split.encoded())
    with pytest.raises(ValueError, match=r"examples: expected at most .*; got 10 \+ 100,000"):
        Seat.drawn(train, (10, 100_000), seed=0)


@pytest.mark.parametrize(
    ("module", "settings", "message"),
    [
        (noisy_teacher, {"rate": 0.6}, "nothing says which of the two is right"),
        (noisy_teacher, {"weights": "0,1.5"}, "weights: expected numbers from 0 to 1; got 1.5"),
        (noisy_teacher, {"num_noisy": 10**6}, "examples: expected at most"),
        (omni, {"num_unlabelled": 10**6}, "examples: expected at most"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path, module, settings, message):
    with pytest.raises(ValueError, match=message):
        module.run(module.Config(workdir=str(tmp_path / "run"), **{**TINY, **settings}))
    assert not (tmp_path / "run").exists()

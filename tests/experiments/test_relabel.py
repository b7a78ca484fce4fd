"""The launcher of labels by teachers, as its users meet it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddjax import Recipe, artifact, forms
from ddjax.data import load
from ddjax.launch import relabelling
from ddjax.networks import num_weights
from ddjax.types import Distilled, Schedule
from experiments import relabel

TINY: dict[str, Any] = {
    "network": "mlp:widths=16x",
    "select": None,
    "images_per_class": 2,
    "num_sets": 2,
    "num_examples": 320,
    "teacher_epochs": "1,6",
    "teacher_lr": 0.01,
    "temperature": "1,20",
    "train_steps": 60,
    "train_lr": 0.01,
    "num_eval_inits": 2,
}


def tiny(tmp_path, **settings: Any) -> relabel.Config:
    return relabel.Config(**{"workdir": str(tmp_path / "run"), **TINY, **settings})


def an_artifact(path, recipe, **facts):
    digits = load("digits")
    schedule = Schedule(
        jnp.asarray(digits.train.encoded()[None, :20]), jnp.eye(10)[digits.train.labels[None, :20]], None
    )
    return artifact.save(path, Distilled(schedule, forms.constant(schedule), digits.encoding, recipe, facts))


@pytest.mark.slow
def test_random_images_are_always_relabelled_beside_the_artifact(tmp_path, capsys):
    path = an_artifact(tmp_path / "a.npz", Recipe("train", epochs=30, lr=0.1))
    result = relabel.run(tiny(tmp_path, artifact=str(path), num_teachers=2))
    assert list(result["sets"]) == ["artifact", "random"]
    assert result["images"] == {"artifact": 20, "random": 20}
    for scores in result["sets"].values():
        assert list(scores) == [
            relabelling.OWN,
            *(f"teacher of {age} epochs, T {t}" for age in (1, 6) for t in (1, 20)),
        ]
    assert [one["epochs"] for one in result["teachers"]] == [1, 6]
    assert result["teachers"][1]["validation"] > result["teachers"][0]["validation"]
    assert "* chosen on validation" in capsys.readouterr().out


@pytest.mark.slow
def test_labels_are_those_of_the_teachers_mean_logits(tmp_path, monkeypatch):
    config = tiny(tmp_path, teacher_epochs="2", num_teachers=2)
    task = relabelling.task_of(config)
    (teacher,) = relabelling.teachers_of(config, task)
    sets = relabelling.sets_of(config, task)["random"]
    inputs = sets[0].inputs[0]
    each = [
        task.network.apply(jax.tree.map(lambda leaf, i=i: leaf[i], teacher.params), inputs) for i in (0, 1)
    ]
    np.testing.assert_allclose(teacher.logits(inputs), (each[0] + each[1]) / 2, rtol=1e-4, atol=1e-5)
    seen = []
    monkeypatch.setattr(
        relabelling.Judge,
        "outcomes",
        lambda self, sets, *rest: seen.append((self.recipe, sets)) or np.ones(2),
    )
    relabelling.score(config, task, sets, teacher, 20.0)
    recipe, sets = seen[0]
    assert (recipe.temperature, recipe.steps, len(sets)) == (20.0, 60, 2)
    np.testing.assert_allclose(sets[0].labels[0], jax.nn.softmax(teacher.logits(inputs) / 20), rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": "1,0"}, "temperature: expected a finite number > 0"),
        ({"temperature": ""}, "temperature: expected"),
        ({"teacher_epochs": "0"}, "teacher_epochs: expected"),
        ({"eval_augment": "spin"}, "augmentation: expected one of"),
        ({"select": "herdng"}, "select: expected one of .*Did you mean 'herding'"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        relabel.run(tiny(tmp_path, **settings))
    assert not (tmp_path / "run").exists()


def test_an_artifact_with_learned_rates_is_refused(tmp_path):
    path = an_artifact(tmp_path / "a.npz", Recipe("regress"))
    with pytest.raises(ValueError, match="relabel: expected data that networks are trained on by the recipe"):
        relabel.run(tiny(tmp_path, artifact=str(path)))


@pytest.mark.parametrize(
    ("network", "width", "weights"),
    [(None, None, 64 * 7 + 7 + 70 + 10), (None, 5, 0), ("mlp:widths=9x", None, 0)],
)
def test_students_have_the_artifact_s_network_unless_flags_name_another(tmp_path, network, width, weights):
    own = {"network": "mlp", "network_settings": {"widths": [7]}}
    path = str(an_artifact(tmp_path / "a.npz", Recipe("train"), **own))
    if width is not None:  # a setting that this network does not have
        with pytest.raises(ValueError, match="width"):
            relabelling.task_of(tiny(tmp_path, artifact=path, network=network, width=width))
        return
    found = relabelling.task_of(tiny(tmp_path, artifact=path, network=network)).network
    assert num_weights(found) == (weights or 64 * 9 + 9 + 90 + 10)

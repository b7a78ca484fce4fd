"""The launcher of the coresets, as its users meet it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from problems import CLASSES, SHAPE, write_npz

import ddjax
from ddjax import artifact, coresets, networks
from ddjax.coresets import by_name
from ddjax.launch import directory, load_data, parse
from ddjax.launch.selecting import UNWEIGHTED, Task
from ddjax.recipes import Train
from experiments import coreset

TINY: dict[str, Any] = {
    "network": "mlp",
    "images_per_class": 2,
    "feature_epochs": 2,
    "feature_lr": 0.02,
    "train_epochs": 20,
    "num_eval_inits": 2,
}
ALL = "random,k_means,herding,k_center,forgetting,craig"


@pytest.fixture
def dataset(tmp_path, rng) -> Path:
    return write_npz(tmp_path / "spots.npz", rng)


def tiny(dataset: Path, workdir: Path, **settings: Any) -> coreset.Config:
    places: dict[str, Any] = {"dataset": str(dataset), "workdir": str(workdir)}
    return coreset.Config(**(TINY | places | settings))


@pytest.mark.slow
def test_all_selections_are_measured_kept_and_found(dataset, tmp_path, capsys):
    settings = tiny(dataset, tmp_path / "run", select=ALL)
    result = coreset.run(settings)
    scores = result["baselines"]
    assert list(scores) == [*ALL.split(","), UNWEIGHTED]
    assert result["layout"] == {"steps": 1, "epochs": 20, "images": 2 * CLASSES}
    assert all(score["n"] == 2 and score["mean"] > 60 for score in scores.values())
    assert scores["herding"]["features"] == "mlp"
    assert len(scores["craig"]["training_accuracy"]) == 2
    assert "features" not in scores["random"]
    weights = np.array(scores["craig"]["weights"])
    train = load_data(settings).train
    assert weights.sum(1).tolist() == np.bincount(train.labels).tolist()
    assert "weights" not in scores[UNWEIGHTED]
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == result
    assert "craig, equal weights" in capsys.readouterr().out
    assert coreset.run(settings) == result
    assert "is finished" in capsys.readouterr().out

    saved = artifact.load(tmp_path / "run" / "k_center.npz")
    assert saved.schedule.inputs.shape == (1, 2 * CLASSES, *SHAPE)
    assert saved.recipe == Train(epochs=20, protocol="condensation")
    assert (saved.metadata["method"], saved.metadata["network"]) == ("k_center", "mlp")
    np.testing.assert_array_equal(saved.schedule.labels[0].argmax(-1), [0, 0, 1, 1, 2, 2])
    real = train.encoded().reshape(len(train), -1)
    for image in np.asarray(saved.schedule.inputs[0]).reshape(2 * CLASSES, -1):
        assert np.abs(real - image).max(1).min() < 1e-6


@pytest.mark.slow
def test_a_stopped_run_continues_with_what_is_missing(dataset, tmp_path, monkeypatch):
    settings = tiny(dataset, tmp_path / "run", select="class_mean,random", images_per_class=1)
    score, scored = Task.score, []

    def interrupted(task, found):
        if scored:
            raise KeyboardInterrupt
        scored.append(score(task, found))
        return scored[0]

    monkeypatch.setattr(Task, "score", interrupted)
    with pytest.raises(KeyboardInterrupt):
        coreset.run(settings)
    monkeypatch.setattr(Task, "score", score)
    result = coreset.run(settings)
    assert result["baselines"]["class_mean"]["values"] == scored[0].values.tolist()
    assert list(result["baselines"]) == ["class_mean", "random"]


@pytest.mark.slow
def test_runs_take_turns_with_random_sets_and_pixels_need_no_training(dataset, tmp_path, monkeypatch):
    settings = tiny(dataset, tmp_path / "run", select="random,herding,k_center", features="pixels")
    task = Task.of(settings, load_data(settings))
    monkeypatch.setattr(by_name, "forgetting", None)
    learned = task.learned()
    random = task.selected("random", learned)
    assert len(random.sets) == 2
    first, second = random.sets
    assert not np.array_equal(first, second)
    herded = task.selected("herding", learned)
    assert herded.facts == {"features": "pixels"}
    train = task.data.train
    rows = coresets.by_class(coresets.herding, train.encoded().reshape(len(train), -1), train, per_class=2)
    np.testing.assert_array_equal(herded.sets[0], coresets.images_at(train, rows))


@pytest.mark.slow
def test_another_network_gives_the_features_and_a_batch_norm_is_calibrated(dataset, tmp_path):
    settings = tiny(dataset, tmp_path / "run", feature_network="convnet", feature_width=4)
    task = Task.of(settings, load_data(settings))
    assert (task.network.name, task.feature_network.name) == ("mlp", "convnet")
    shapes = jax.eval_shape(task.feature_network.init, jax.random.key(0))
    assert shapes["conv1"]["kernel"].shape == (3, 3, 1, 4)
    normed = networks.convnet(SHAPE, CLASSES, depth=1, width=4, norm="batch", conv_form="lax")
    learned = task._replace(feature_network=normed).learned()
    params = learned.training.params
    assert params["norm1"]["mean"].shape == (4,)
    assert normed.embed is not None
    alone = np.asarray(jax.jit(normed.embed)(params, task.data.train.encoded()[:1]))
    np.testing.assert_allclose(learned.points[:1], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["k_means", "craig"])
def test_the_score_is_that_of_evaluate(dataset, tmp_path, name):
    """CRAIG's weights are in the artifact too."""
    settings = tiny(dataset, tmp_path / "run")
    task = Task.of(settings, load_data(settings))
    found = task.selected(name, task.learned())
    task.write(tmp_path / "a.npz", name, found)
    saved = artifact.load(tmp_path / "a.npz")
    assert (len(np.unique(saved.schedule.labels.sum(-1))) > 1) == (name == "craig")
    expected = ddjax.evaluate(
        saved, task.network, task.inits, task.data.test, key=task.keys.test, num_inits=2
    )
    np.testing.assert_allclose(task.score(found).values, expected.values, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"select": "herdng"}, "select: expected one of .*Did you mean 'herding'"),
        ({"select": " , "}, "select: expected one or more of random, .*; got ' , '"),
        ({"select": "class_mean"}, "class_mean: images_per_class: expected 1; got 2"),
        (
            {"select": "forgetting", "feature_epochs": 1},
            "forgetting: feature_epochs: expected .* >= 2; got 1",
        ),
        ({"images_per_class": 37}, "images per class: expected at most 36, which class 0 has"),
        ({"train_lr": 0.0}, "train_lr: expected a finite number > 0"),
        ({"eval_augment": "crop_flop"}, "augmentation: expected one of .*Did you mean 'flip'"),
        ({"network": "vgg11"}, "vgg11: expected images of 28x28"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(dataset, tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        coreset.run(tiny(dataset, tmp_path / "run", **settings))
    assert not (tmp_path / "run").exists()


def test_the_flags_of_the_docstring_are_flags():
    from absl import flags

    assert coreset.__doc__ is not None
    command = coreset.__doc__.partition("experiments.coreset ")[2].partition("\n\n")[0]
    command = command.replace("\\", " ").split()
    config = parse(coreset.Config, ["coreset", *command], flags.FlagValues())
    assert config.eval_augment == "dc"
    assert directory.describe_settings(config, experiment="coreset")["feature_width"] == 32

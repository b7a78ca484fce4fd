"""The launcher of continual learning, as its users meet it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddjax import artifact, data
from ddjax.data import with_classes
from ddjax.launch import Scores, memories
from ddjax.launch.selecting import Task
from experiments import continual
from experiments.continual import Config

FOUR = 4


@pytest.fixture
def dataset(tmp_path, rng) -> Path:
    """Four classes of bright spots."""
    centres = rng.integers(0, 256, (FOUR, 8, 8, 1))
    labels = np.arange(120) % FOUR
    images = np.clip(centres[labels] + rng.normal(0, 20, (120, 8, 8, 1)), 0, 255).astype(np.uint8)
    path = tmp_path / "spots.npz"
    np.savez(path, x_train=images, y_train=labels, x_test=images[:40], y_test=labels[:40])
    return path


def tiny(dataset: Path, workdir: Path, **settings: Any) -> Config:
    small: dict[str, Any] = {
        "dataset": str(dataset),
        "workdir": str(workdir),
        "memory": "random,distribution_matching",
        "network": "mlp",
        "num_tasks": 2,
        "images_per_class": 2,
        "num_outer_steps": 5,
        "batch_size": 8,
        "train_epochs": 20,
        "train_lr": 0.05,
        "num_eval_inits": 2,
    }
    return Config(**(small | settings))


@pytest.mark.slow
def test_memories_grow_task_by_task_and_are_kept_and_found(dataset, tmp_path, capsys):
    settings = tiny(dataset, tmp_path / "run")
    result = continual.run(settings)
    assert result["tasks"] == [[0, 1], [2, 3]]
    for row in result["accuracy"].values():
        assert list(row) == ["2", "4"]
        assert all(score["n"] == 2 and score["mean"] > 60 for score in row.values())
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == result
    assert (tmp_path / "run" / "continual.png").stat().st_size > 1000
    assert "4 classes" in capsys.readouterr().out
    assert continual.run(settings) == result
    assert "is finished" in capsys.readouterr().out


@pytest.mark.slow
def test_a_memory_holds_images_of_its_task_alone(dataset, tmp_path):
    settings = tiny(dataset, tmp_path / "run", memory="random", shuffled=True, seed=3)
    result = continual.run(settings)
    stream = memories.stream_of(settings)
    assert sorted(k for classes in result["tasks"] for k in classes) == list(range(FOUR))
    assert result["tasks"] != [[0, 1], [2, 3]]
    for task in range(2):
        kept = np.asarray(artifact.load(tmp_path / "run" / f"random-{task + 1}.npz").schedule.inputs)[0]
        own = stream.data.train
        for place, image in enumerate(kept):
            label = result["tasks"][task][place // 2]
            there = np.abs(own.encoded()[own.labels == label] - image).max((1, 2, 3))
            assert there.min() < 1e-5


@pytest.mark.slow
def test_a_stopped_run_continues_and_takes_memories_from_their_files(dataset, tmp_path, monkeypatch):
    add, select, selected = Scores.add, Task.selected, []

    def stop(self: Scores, name: str, score: Any) -> None:
        add(self, name, score)
        raise KeyboardInterrupt

    whole = continual.run(tiny(dataset, tmp_path / "whole", memory="random"))
    settings = tiny(dataset, tmp_path / "run", memory="random")
    with monkeypatch.context() as patch:
        patch.setattr(Scores, "add", stop)
        with pytest.raises(KeyboardInterrupt):
            continual.run(settings)
    monkeypatch.setattr(Task, "selected", lambda *args: selected.append(args) or select(*args))
    assert continual.run(settings)["accuracy"] == whole["accuracy"]
    assert len(selected) == 1


def test_classes_are_numbered_anew_in_the_order_given(dataset):
    everything = data.load(str(dataset))
    some = with_classes(everything, [3, 1])
    assert some.class_names == (everything.class_names[3], everything.class_names[1])
    for name in ("train", "validation", "test"):
        before, after = getattr(everything, name), getattr(some, name)
        assert after.num_classes == some.num_classes == 2
        for new, old in enumerate((3, 1)):
            assert np.array_equal(after.images[after.labels == new], before.images[before.labels == old])
        assert len(after) == sum(before.labels == 3) + sum(before.labels == 1)
        assert np.array_equal(after.mean, before.mean)


@pytest.mark.parametrize("classes", [[], [0, 0], [4], [-1]])
def test_classes_that_are_not_there_are_refused(dataset, classes):
    with pytest.raises(ValueError, match="classes: expected one or more of 0 to 3, each once"):
        with_classes(data.load(str(dataset)), classes)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"memory": "herdng"}, "memory: expected one of .*Did you mean 'herding'"),
        ({"memory": ""}, "memory: expected one or more of random"),
        ({"memory": "forgetting", "feature_epochs": 1}, "forgetting: feature_epochs"),
        ({"num_tasks": 3}, "num_tasks: classes left over: expected 0; got 1"),
        ({"num_tasks": 4}, "classes of a task: expected a whole number >= 2; got 1"),
        ({"images_per_class": 100}, "images per class: expected at most"),
        ({"network": "mlpp"}, "Did you mean 'mlp'"),
        ({"norm": "batch"}, "norm"),
        ({"train_lr": 0.0}, "train_lr: expected"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    dataset, tmp_path, monkeypatch, settings, message
):
    monkeypatch.setattr("ddjax.launch.kept.once", None)
    with pytest.raises(ValueError, match=message):
        continual.run(tiny(dataset, tmp_path / "run", **settings))
    assert not (tmp_path / "run").exists()

"""The matrix of artifacts and networks, as its users meet it."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from problems import CLASSES, SHAPE, write_npz

import ddjax
from ddjax import Recipe, artifact, forms, inits, networks, recipes, types
from ddjax.encodings import Channels
from ddjax.launch import Keys, Scores, matrix
from ddjax.launch.matrix import recipe_of
from ddjax.types import Distilled, Schedule
from experiments import cross_architecture
from experiments.cross_architecture import Config

pytestmark = pytest.mark.slow

MLP, CONVNET = "mlp:widths=8x", "convnet:depth=1:width=4:norm=none"


def write_artifact(
    path: Path, rng: np.random.Generator, recipe: types.Recipe, *, lrs: Any, init: str = ""
) -> Path:
    """Noise with soft labels."""
    labels = rng.dirichlet(np.ones(CLASSES), (2, CLASSES)).astype(np.float32)
    images = rng.normal(size=(2, CLASSES, *SHAPE)).astype(np.float32)
    schedule = Schedule(jnp.asarray(images), jnp.asarray(labels), lrs)
    facts = {"init": init} if init else {}
    distilled = Distilled(
        schedule, forms.constant(schedule), Channels(jnp.full(1, 0.5), jnp.full(1, 0.3)), recipe, facts
    )
    return artifact.save(path, distilled)


@pytest.fixture
def artifacts(tmp_path, rng) -> tuple[Path, Path]:
    """A schedule and one to train on."""
    return (
        write_artifact(
            tmp_path / "replayed.npz", rng, Recipe(), lrs=jnp.full((2, 2), 0.1), init="kaiming_normal"
        ),
        write_artifact(tmp_path / "trained.npz", rng, Recipe("train", epochs=3), lrs=None),
    )


@pytest.fixture
def asked(tmp_path, rng, artifacts) -> dict[str, Any]:
    """Both on two networks."""
    return {
        "artifact": ",".join(map(str, artifacts)),
        "networks": f"{MLP},{CONVNET}",
        "num_nets": 2,
        "dataset": str(write_npz(tmp_path / "spots.npz", rng)),
        "workdir": str(tmp_path / "run"),
    }


def test_the_matrix_is_measured_told_and_found(asked, artifacts, tmp_path, capsys):
    result = cross_architecture.run(Config(**asked))
    replayed, trained = map(str, artifacts)
    assert list(result["matrix"]) == [replayed, trained]
    assert all(list(row) == [MLP, CONVNET] for row in result["matrix"].values())
    assert result["networks"][MLP] == 64 * 8 + 8 + 8 * CLASSES + CLASSES
    facts = result["artifacts"]
    assert (facts[replayed]["init"], facts[trained]["init"]) == ("kaiming_normal", "pytorch")
    assert (facts[replayed]["recipe"]["kind"], facts[trained]["recipe"]["epochs"]) == ("schedule", 3)
    assert facts[trained]["images"] == 2 * CLASSES
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == result

    data = matrix.prepare(Config(**asked)).data
    network = networks.by_text(MLP, data.image_shape, data.num_classes)
    for path in (replayed, trained):
        expected = ddjax.evaluate(
            artifact.load(path),
            network,
            inits.random(network, scheme=facts[path]["init"]),
            data.test,
            key=Keys.of(0).test,
            num_inits=2,
        )
        assert result["matrix"][path][MLP]["values"] == expected.values.tolist()

    told = capsys.readouterr().out
    lines = told[told.index("test accuracy, %") :].splitlines()
    assert re.split(r"\s{2,}", lines[0]) == ["test accuracy, %", MLP, CONVNET]
    score = result["matrix"][trained][CONVNET]
    assert lines[3].startswith(trained)
    assert lines[3].endswith(f"{score['mean']:.1f} ± {score['std']:.1f}")
    assert cross_architecture.run(Config(**asked)) == result
    assert "is finished" in capsys.readouterr().out


def test_a_stopped_matrix_continues_and_refuses_artifacts_that_have_changed(
    asked, artifacts, rng, tmp_path, monkeypatch
):
    add = Scores.add

    def stop(self: Scores, name: str, score: Any) -> None:
        add(self, name, score)
        raise KeyboardInterrupt

    settings = Config(**asked | {"networks": MLP, "protocol": "train", "train_epochs": 3})
    with monkeypatch.context() as patch:
        patch.setattr(Scores, "add", stop)
        with pytest.raises(KeyboardInterrupt):
            cross_architecture.run(settings)
    path = tmp_path / "run" / "scores.json"
    known = json.loads(path.read_text())
    assert list(known) == [f"{artifacts[0]} on {MLP}"]
    before = artifacts[0].read_bytes()
    write_artifact(artifacts[0], rng, Recipe(), lrs=jnp.full((2, 2), 0.1))
    with pytest.raises(ValueError, match=r"replayed\.npz: expected the artifact that .* has scores of"):
        cross_architecture.run(settings)
    artifacts[0].write_bytes(before)
    # What is there is not measured again: a mark on it stays.
    known[f"{artifacts[0]} on {MLP}"]["mark"] = 1
    path.write_text(json.dumps(known))
    result = cross_architecture.run(settings)
    assert result["matrix"][str(artifacts[0])][MLP]["mark"] == 1
    followed = recipes.as_dict(Recipe("train", epochs=3))
    assert [one["recipe"] for one in result["artifacts"].values()] == [followed] * 2
    write_artifact(artifacts[1], rng, Recipe("train", epochs=3), lrs=None)
    with pytest.raises(ValueError, match=r"trained\.npz: expected the artifact that .* has scores of"):
        cross_architecture.run(settings)


@pytest.mark.parametrize(
    ("settings", "own", "expected"),
    [
        ({}, Recipe(optimizer="adam"), Recipe(optimizer="adam")),
        (
            {"train_epochs": 7, "eval_augment": "crop"},
            Recipe("train", lr=0.3, augmentation="color"),
            Recipe("train", lr=0.3, epochs=7, augmentation="crop"),
        ),
        ({"eval_augment": ""}, Recipe("train", augmentation="color"), Recipe("train")),
        ({"train_epochs": 7}, Recipe(), Recipe()),
        (
            {"train_epochs": 7},
            Recipe("train", protocol="constant", steps=5),
            Recipe("train", protocol="constant", epochs=7),
        ),
        ({"protocol": "train"}, Recipe("train", lr=0.3, epochs=9), Recipe("train")),
        (
            {"protocol": "condensation", "eval_augment": "dsa"},
            Recipe(),
            Recipe("train", augmentation="color_crop_cutout_scale_rotate", protocol="condensation"),
        ),
    ],
)
def test_an_artifact_s_own_recipe_is_followed_unless_the_flags_say_otherwise(asked, settings, own, expected):
    data = matrix.prepare(Config(**asked)).data
    assert recipe_of(Config(**settings), own, data) == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"artifact": ""}, "artifact: expected one or more, each once; got ''"),
        ({"artifact": "nowhere.npz"}, r"artifact: expected a file; there is none at nowhere\.npz"),
        ({"networks": "mlp,mlp"}, "networks: expected one or more, each once"),
        ({"networks": "mlp,lenett"}, "networks: lenett: .*Did you mean 'lenet'"),
        ({"networks": "mlp,resnet18"}, "networks: resnet18: .* images of at least 9x9"),
        ({"networks": "convnet:depth=4"}, "networks: convnet:depth=4: .*; got 8x8. Set depth=3"),
        ({"networks": "convnet:image_shape=8"}, "networks: .*expected settings as in .*got 'image_shape=8'"),
        ({"networks": "convnet:width"}, "networks: .*expected settings as in .*got 'width'"),
        ({"networks": "mlp:widths=8"}, r"networks: mlp:widths=8: widths: expected whole numbers"),
        ({"init": "xavier"}, "init: expected one of .*Did you mean"),
        ({"eval_augment": "crop_flop"}, "augmentation: expected one of .*Did you mean 'flip'"),
        ({"resize": 16}, r"image shape \(H, W, C\): expected \(16, 16, 1\); got \(8, 8, 1\)"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_compiles(asked, settings, message, monkeypatch):
    monkeypatch.setattr(matrix, "evaluate", None)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        cross_architecture.run(Config(**asked | settings))
    assert not Path(asked["workdir"]).exists()


def test_settings_of_a_training_need_an_artifact_that_is_trained_on(asked, artifacts):
    with pytest.raises(ValueError, match="train_epochs: expected an artifact that networks are trained on"):
        matrix.prepare(Config(**asked | {"artifact": str(artifacts[0]), "train_epochs": 5}))


def test_artifacts_of_different_data_are_refused(asked, artifacts, monkeypatch):
    spots = matrix.prepare(Config(**asked)).data

    def named(path: str, *_: Any, **__: Any) -> tuple[Distilled, Any, tuple[str, ...]]:
        return artifact.load(path), dataclasses.replace(spots, name=Path(path).stem), ()

    monkeypatch.setattr("ddjax.launch.artifacts.opened", named)
    with pytest.raises(ValueError, match=r"trained\.npz: dataset: expected replayed; got trained\. Compare"):
        matrix.prepare(Config(**asked))


def test_artifacts_of_other_images_under_one_name_are_refused(asked, monkeypatch):
    spots = matrix.prepare(Config(**asked)).data
    tests = iter([spots.test, dataclasses.replace(spots.test, raw=spots.test.raw ^ 1)])

    def other(path: str, *_: Any, **__: Any) -> tuple[Distilled, Any, tuple[str, ...]]:
        return artifact.load(path), dataclasses.replace(spots, test=next(tests)), ()

    monkeypatch.setattr("ddjax.launch.artifacts.opened", other)
    with pytest.raises(ValueError, match=r"trained\.npz: expected the test images of .*replayed\.npz"):
        matrix.prepare(Config(**asked))

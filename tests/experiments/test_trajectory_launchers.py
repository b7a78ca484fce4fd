"""The launchers of experts and of trajectory matching: one after the other on digits, flags, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from ddjax import artifact, experts, sets
from ddjax.expert_labels import classified_right, mean_logits
from ddjax.experts import Experts, Flat
from ddjax.launch import trajectories
from ddjax.launch.choices import in_form
from ddjax.launch.flags import without_effect
from ddjax.launch.types import Parts
from ddjax.networks import mlp
from ddjax.plan import Plan
from ddjax.recipes import Train
from ddjax.unroll import Memory
from experiments import experts as experts_launcher
from experiments import trajectory_matching
from scripts import first_order

SMALL: dict[str, Any] = {"dataset": "digits", "network": "mlp"}
TRAINING = {"num_experts": 2, "checkpoints": 3, "record_every": 8, "lr": 0.2, "batch_size": 64, "augment": ""}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Two experts of the digits."""
    directory = tmp_path_factory.mktemp("experts")
    result = experts_launcher.LAUNCHER.carry_out({**SMALL, **TRAINING}, directory)
    assert result["num_experts"] == 2
    assert result["steps"] == [0, 8, 16, 24]
    assert min(result["validation"]["values"]) > 50
    return directory


def parts(made: Path, digits, **given: Any) -> Parts:
    settings = trajectory_matching.Config(**{**SMALL, "experts": str(made), "augment": "", **given})
    return trajectory_matching.LAUNCHER.parts(settings, digits)


@pytest.mark.slow
def test_more_experts_are_added_and_the_rest_stays(made, tmp_path):
    given = {**SMALL, **TRAINING, "num_experts": 1}
    experts_launcher.LAUNCHER.carry_out(given, tmp_path)
    first = (tmp_path / "000000.npy").read_bytes()
    result = experts_launcher.LAUNCHER.carry_out({**given, "num_experts": 2}, tmp_path)
    assert result["num_experts"] == 2
    assert (tmp_path / "000000.npy").read_bytes() == first
    assert (tmp_path / "000001.npy").read_bytes() == (made / "000001.npy").read_bytes()
    with pytest.raises(ValueError, match="lr"):
        experts_launcher.LAUNCHER.carry_out({**given, "lr": 0.3}, tmp_path)


@pytest.mark.slow
def test_a_whole_run(made, tmp_path):
    given = {
        **SMALL,
        "experts": str(made),
        "inner_steps": 4,
        "student_batch": 5,
        "starts_below": 2,
        "starts_below_at_first": 1,
        "grows_over": 4,
        "soft_labels": True,
        "initial_images": "classified",
        "augment": "",
        "num_outer_steps": 4,
        "num_eval_inits": 2,
        "validate_every": 4,
        "record_every": 1,
        "train_epochs": 20,
    }
    result = trajectory_matching.LAUNCHER.carry_out(given, tmp_path)
    phi = artifact.load(tmp_path / "distilled.npz")
    assert phi.recipe == Train(lr=None, epochs=20, protocol="condensation")
    assert phi.schedule.lrs is not None
    assert phi.schedule.lrs.shape == (1, 1)
    assert float(phi.schedule.lrs[0, 0]) != pytest.approx(0.01, rel=1e-4)
    np.testing.assert_allclose(phi.schedule.labels.sum(-1), 1, rtol=1e-5)
    assert result["layout"] == {"steps": 1, "epochs": 1, "images": 10}
    assert len(result["test_accuracy"]["values"]) == 2
    again = trajectory_matching.LAUNCHER.carry_out(given, tmp_path)
    assert again["test_accuracy"] == result["test_accuracy"]

    # After one step both gradients are the same; after several the first-order one points elsewhere.
    compared = first_order.Config(str(tmp_path / "distilled.npz"), str(made), "1,8", calls=1)
    one, eight = first_order.run(compared)["rows"].values()
    assert one["cosine"]["mean"] == pytest.approx(1, abs=1e-5)
    assert one["ratio of norms"]["mean"] == pytest.approx(1, rel=1e-4)
    assert 0 < eight["cosine"]["mean"] < 0.99999
    assert eight["ratio of norms"]["mean"] < 0.999
    assert eight["cosine"]["n"] == 2


@pytest.mark.slow
def test_textures_are_cut_anew_for_every_step_of_the_student(made, digits, tmp_path):
    canvases = {"form": "textures", "initial_images": "noise", "canvas": 1, "cuts": 3}
    given = {**SMALL, **canvases, "experts": str(made), "inner_steps": 3, "student_batch": 10, "augment": ""}
    form = parts(made, digits, **canvases).form
    assert form.draw is not None
    phi = form.init(jax.random.key(0))
    first, second = (form.draw(phi, key) for key in jax.random.split(jax.random.key(1)))
    assert first.inputs.shape == (1, 30, 8, 8, 1)  # as many as three steps of ten take
    assert np.abs(first.inputs - second.inputs).max() > 0.1
    brief = {"num_outer_steps": 2, "validate_every": 2, "train_epochs": 2, "num_eval_inits": 2}
    result = trajectory_matching.LAUNCHER.carry_out({**given, **brief}, tmp_path)
    assert result["storage"]["numbers"]["data"] == 640
    assert result["seam"] == pytest.approx(1, abs=0.2)  # still noise
    assert result["random_cuts"]["n"] == 2
    assert (tmp_path / "textures.png").stat().st_size > 1000


def test_steps_that_are_none_and_images_without_a_rate_are_refused(tmp_path):
    for text in ("", "4,x", "0"):
        with pytest.raises(ValueError, match="whole numbers above zero"):
            first_order.run(first_order.Config(inner_steps=text))
    with pytest.raises(ValueError, match="a directory that exists"):
        first_order.run(first_order.Config(json=str(tmp_path / "none" / "record.json")))
    with pytest.raises(ValueError, match="learned rate"):
        first_order.run(first_order.Config(str(sets.path("mnist-dc-10"))))


@pytest.mark.slow
def test_the_flags_choose_the_parts(made, digits):
    plain = parts(made, digits)
    assert plain.num_outer_steps == 5000
    assert plain.method.recipe == Train(lr=None, epochs=1000, protocol="condensation")
    # Starts 0 and 1, the targets two checkpoints later: all four checkpoints.
    assert plain.method.assets.shape[:2] == (2, 4)
    assert parts(made, digits, span=1, starts_below=1).method.assets.shape[:2] == (2, 2)
    tiles = parts(made, digits, form="multi_formation", images_per_class=2).form
    assert jax.eval_shape(lambda key: tiles.unfold(tiles.init(key)), jax.random.key(0)).labels.shape == (
        1,
        80,
        10,
    )
    cropped = parts(made, digits, augment="crop", train_epochs=7).method.recipe
    assert cropped == Train(lr=None, epochs=7, augmentation="crop", protocol="condensation")
    config = trajectory_matching.Config(first_order=True, memory="mixed_sqrt", grows_over=3, batch_size=9)
    assert trajectories.memory_of(config, Plan(memory="mixed_sqrt")) == Memory(mixed=True, first_order=True)
    assert set(without_effect(config)) == {"memory", "grows_over", "batch_size"}


@pytest.mark.slow
def test_bad_settings_are_refused(made, digits, tmp_path):
    for given, message in (
        ({"experts": ""}, "experts: expected a directory of `ddjax experts`; got none"),
        ({"network": "convnet", "width": 2, "depth": 1}, "experts: expected those of convnet"),
        ({"starts_below": 3}, "window: expected starts below 2"),
        ({"starts_below_at_first": 1}, "grows_over: expected the outer steps"),
        ({"form": "stored", "soft_labels": True}, "soft_labels: expected none of that kind with --form"),
        ({"soft_labels": True, "initial_images": "noise"}, "initial_images: expected real images"),
    ):
        with pytest.raises(ValueError, match=message):
            parts(made, digits, **given)
    with pytest.raises(FileNotFoundError, match=r"experts: expected a directory with experts\.json"):
        parts(tmp_path, digits)
    whitened = trajectory_matching.Config(**SMALL, experts=str(made), whiten="zca", augment="")
    with pytest.raises(ValueError, match="experts trained under the encoding of"):
        trajectory_matching.LAUNCHER.parts(whitened, in_form(digits, whitened))


def constant_experts(network, answers: list[int]) -> Experts:
    """Experts of an mlp that give every image the same class, with logit 1 + the number of the expert."""
    flat = Flat.of(network)
    shapes = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), flat.shapes)
    weights = []
    for number, answer in enumerate(answers):
        last = dict(shapes["classifier"])
        last["bias"] = np.where(np.arange(len(last["bias"])) == answer, 1.0 + number, 0).astype(np.float32)
        vector = np.asarray(flat.vector({**shapes, "classifier": last}))
        weights.append(np.stack([vector, vector]))
    return Experts(weights, np.arange(2), np.zeros(len(answers)))


@pytest.mark.slow
def test_labels_are_the_mean_logits_of_the_experts_that_are_right(few_digits):
    network = mlp((8, 8, 1), 3, widths=(4,))
    found = constant_experts(network, [0, 1, 1])
    images = few_digits.train.at(np.arange(3)).encoded()
    logits = mean_logits(found, network, images, np.array([0, 1, 2]))
    np.testing.assert_allclose(logits, [[1, 0, 0], [0, 2.5, 0], [1 / 3, 5 / 3, 0]], rtol=1e-6)
    settings = {"per_class": 2, "num_classes": 3, "seed": 0}
    with pytest.raises(ValueError, match=r"expected at most 0, which expert . classifies right in class"):
        classified_right(found, network, few_digits.train, **settings)


@pytest.mark.slow
def test_images_that_an_expert_classifies_right_are_found(made, digits):
    found = experts.load(made)
    network = mlp((8, 8, 1), 10)
    rows = classified_right(found, network, digits.train, per_class=3, num_classes=10, seed=1)
    assert rows.shape == (10, 3)
    assert len(np.unique(rows)) == 30
    np.testing.assert_array_equal(digits.train.labels[rows], np.arange(10)[:, None].repeat(3, 1))
    images = digits.train.at(rows.ravel()).encoded()
    answers = np.asarray(jax.vmap(lambda params: network.apply(params, images))(found.last(network))).argmax(
        -1
    )
    assert (answers == digits.train.labels[rows.ravel()]).all(1).any()

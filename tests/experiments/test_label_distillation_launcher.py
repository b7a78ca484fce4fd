"""The launcher of label distillation: base images, starts, baselines, refusals, a whole run on digits."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
from absl import flags

from ddjax import artifact
from ddjax.data import from_arrays
from ddjax.launch.flags import command_line, parse, without_effect
from ddjax.launch.labelling import (
    base_split,
    form_of,
    known_labels,
    order_of,
    outer_of,
    published_batch,
    smoothed,
)
from ddjax.types import Schedule
from experiments.label_distillation import LAUNCHER, Config


def config(**given) -> Config:
    everything = {"network": "mlp", "num_images": 20, **given}
    return parse(Config, ["x", *command_line(everything)], flags.FlagValues())


def start(settings: Config, data) -> Schedule:
    form = form_of(settings, data)
    return form.unfold(form.init(jax.random.key(0)))


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory) -> str:
    """A data set of other images, 6 by 10 pixels, of three classes."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("base") / "other.npz"
    images, labels = rng.integers(0, 256, (60, 6, 10, 1)).astype(np.uint8), np.arange(60) % 3
    np.savez(path, x_train=images, y_train=labels, x_test=images, y_test=labels)
    return str(path)


def test_base_images_are_as_many_of_each_class(digits):
    split, rows = base_split(config(), digits)
    assert np.bincount(split.labels[rows]).tolist() == [2] * 10
    schedule = start(config(start="true"), digits)
    assert schedule.inputs.shape == (1, 20, 8, 8, 1)
    np.testing.assert_array_equal(schedule.labels[0].argmax(-1), split.labels[rows])
    np.testing.assert_allclose(start(config(), digits).labels, 0.1)
    np.testing.assert_allclose(start(config(start="smoothed"), digits).labels.max(-1), 0.91)


def test_base_images_can_be_chosen_by_their_pixels(digits):
    split, rows = base_split(config(select="nearest"), digits)
    assert split.labels[rows].tolist() == [k for k in range(10) for _ in range(2)]
    points = split.encoded().reshape(len(split), -1)
    for k in range(10):
        own = np.flatnonzero(split.labels == k)
        distances = np.linalg.norm(points[own] - points[own].mean(0), axis=-1)
        assert set(rows[2 * k : 2 * k + 2]) == set(own[np.argsort(distances)[:2]])
    # One image nearest to all others of its class is its medoid.
    _, medoids = base_split(config(select="facility_location", num_images=10), digits)
    for k, row in enumerate(medoids):
        own = points[split.labels == k]
        sums = np.linalg.norm(own[:, None] - own[None], axis=-1).sum(1)
        np.testing.assert_allclose(np.linalg.norm(own - points[row], axis=-1).sum(), sums.min(), rtol=1e-5)
    with pytest.raises(ValueError, match="images per class: expected at most"):
        base_split(config(select="nearest", num_images=20_000), digits)


def test_the_steps_of_unrolled_have_all_classes(digits):
    settings = config(method="unrolled", start="true", inner_steps=2, inner_epochs=3)
    schedule = start(settings, digits)
    assert schedule.lrs is not None
    assert schedule.lrs.shape == (3, 2)
    for labels in schedule.labels:
        assert sorted(labels.argmax(-1).tolist()) == list(range(10))
    assert order_of(settings).shape == (2, 10)
    known = known_labels(settings, digits)
    np.testing.assert_array_equal(known["true labels"], schedule.labels)
    np.testing.assert_allclose(known["true labels, smoothed"], smoothed(np.asarray(schedule.labels)))


def test_images_from_elsewhere_take_the_target_s_shape_and_the_nearest_images_labels(digits, elsewhere):
    settings = config(num_images=7, base=elsewhere, start="true")
    split, rows = base_split(settings, digits)
    schedule = start(settings, digits)
    assert schedule.inputs.shape == (1, 7, 8, 8, 1)
    train = digits.train.encoded().reshape(len(digits.train), -1)
    mine = split.at(rows).encoded().reshape(7, -1)
    nearest = ((mine[:, None] - train[None]) ** 2).sum(-1).argmin(1)
    wanted = np.eye(10)[digits.train.labels[nearest]]
    np.testing.assert_array_equal(schedule.labels[0], wanted)
    assert set(known_labels(settings, digits)) == {
        "labels of the nearest images",
        "labels of the nearest images, smoothed",
    }


def test_bad_settings_are_refused(digits, elsewhere):
    colour = from_arrays(
        *(np.zeros((20, 8, 8, 3), np.uint8), np.arange(20) % 10) * 2,  # type: ignore[arg-type]
    )
    for data, given, message in (
        (digits, {"num_images": 15}, "num_images: expected a multiple of the 10 classes"),
        (digits, {"num_images": 100, "base": elsewhere}, "num_images: expected at most"),
        (digits, {"method": "unrolled", "inner_steps": 3}, "inner_steps: expected a divisor of the 20"),
        (colour, {"base": elsewhere}, "base: channels"),
    ):
        with pytest.raises(ValueError, match=message):
            form_of(config(**given), data)


def test_flags_of_other_methods_are_named():
    assert set(without_effect(config(method="unrolled", patience=3))) == {"patience"}
    assert set(without_effect(config(inner_epochs=3))) == {"inner_epochs"}
    assert set(without_effect(config(method="ridge", inner_lr=0.1))) == {"inner_lr"}
    assert set(without_effect(config(select="herding", base="elsewhere.npz"))) == {"select"}


def test_the_published_settings_can_be_had(digits):
    assert [published_batch(n) for n in (5, 10, 20, 50, 100, 500)] == [5, 10, 10, 25, 50, 50]
    settings = config(falling=False)
    parts = LAUNCHER.parts(settings, digits)
    assert outer_of(settings, parts.method, 10).facts == {"outer_optimizer": "adam", "outer_lr": 1e-3}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["online", "ridge"])
def test_a_whole_run(method, tmp_path):
    given = {
        "method": method,
        "network": "mlp",
        "num_images": 10,
        "batch_size": 32,
        "num_outer_steps": 4,
        "num_eval_inits": 2,
        "num_val_inits": 2,
        "train_steps": 20,
        "validate_every": 4,
    }
    result = LAUNCHER.carry_out(given, tmp_path)
    phi = artifact.load(tmp_path / "distilled.npz")
    assert result["recipe"]["steps"] == phi.recipe.steps == 20  # type: ignore[attr-defined] (a recipe that counts)
    assert result["layout"] == {"steps": 1, "epochs": 1, "images": 10}
    np.testing.assert_allclose(phi.schedule.labels.sum(-1), 1, rtol=1e-5)
    assert list(result["baselines"]) == ["true labels", "true labels, smoothed"]
    assert all(score["steps"] == 20 for score in result["baselines"].values())
    assert (tmp_path / "labels.png").read_bytes()[:4] == b"\x89PNG"
    again = LAUNCHER.carry_out(given, tmp_path)
    assert again["test_accuracy"] == result["test_accuracy"]
    assert dataclasses.is_dataclass(phi.recipe)

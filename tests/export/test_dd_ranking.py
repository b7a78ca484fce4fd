"""The export for DD-Ranking: tensors, normalisation and settings; what the evaluator cannot be told."""

from __future__ import annotations

import dataclasses
import sys
import types
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from problems import small_form

from ddjax import Recipe, export
from ddjax.encodings import Channels, Whitened
from ddjax.export.dd_ranking import exported
from ddjax.recipes import Train
from ddjax.types import Distilled, Schedule

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(1, 20, 32, 32, 3)).astype(np.float32)
LABELS = np.tile(np.eye(10, dtype=np.float32), (2, 1))[None]
FACTS = {"dataset": "cifar10", "network": "convnet", "network_settings": {"depth": 3, "norm": "instance"}}
PLAIN = Train(epochs=300, lr=0.02)
MEAN, STD = np.array([0.5, 0.4, 0.3], np.float32), np.array([0.2, 0.25, 0.3], np.float32)


def distilled(
    images: Any = IMAGES, labels: Any = LABELS, recipe: Any = PLAIN, encoding: Any = None, **facts: Any
) -> Distilled:
    schedule = Schedule(jnp.asarray(images), jnp.asarray(labels), None)
    form = dataclasses.replace(small_form(inner_lr=0.1), unfold=lambda params: params)
    own = encoding or Channels(jnp.asarray(MEAN), jnp.asarray(STD))
    return Distilled(schedule, form, own, recipe, {**FACTS, **facts})


def test_images_are_normalised_as_the_evaluator_does():
    found = exported(distilled())
    assert (found.images.shape, found.images.dtype) == ((20, 3, 32, 32), np.float32)
    pixels = IMAGES[0].transpose(0, 3, 1, 2) * STD[:, None, None] + MEAN[:, None, None]
    theirs = np.array([0.4914, 0.4822, 0.4465]), np.array([0.2023, 0.1994, 0.2010])
    again = found.images * theirs[1][:, None, None] + theirs[0][:, None, None]
    np.testing.assert_allclose(again, pixels, atol=1e-6)
    np.testing.assert_array_equal(found.labels, np.tile(np.arange(10), 2))
    assert (found.labels.dtype, found.lr, found.config["ipc"]) == (np.int64, 0.02, 2)


def test_soft_labels_are_logarithms_of_which_the_evaluator_takes_the_softmax():
    soft = 0.9 * LABELS + 0.01
    found = exported(distilled(labels=soft))
    again = np.exp(found.labels) / np.exp(found.labels).sum(-1, keepdims=True)
    np.testing.assert_allclose(again, soft[0], rtol=1e-5)
    assert (found.is_soft, found.config["soft_label_mode"]) == (True, "S")
    assert found.config["soft_label_criterion"] == "sce"
    assert "LabelRobustScoreSoft" in found.script()
    assert "soft_labels=labels" in found.script()
    compile(found.script(), "score.py", "exec")


def rates(recipe: Train, count: int) -> list[float]:
    """The learning rate of each step as `Train` has it."""
    of_epoch = -(-count // recipe.batch_size)
    published, lr = recipe.protocol == "condensation", recipe.lr
    assert lr is not None
    steps = of_epoch * (recipe.epochs + published)
    fall = of_epoch * (recipe.epochs // 2 + 2) if published else -(-of_epoch * recipe.epochs // 2)
    return [lr * (0.1 if step >= fall and recipe.protocol != "constant" else 1) for step in range(steps)]


@pytest.mark.parametrize(
    "recipe",
    [
        Train(epochs=6, batch_size=8),
        Train(epochs=7),
        Train(epochs=6, batch_size=8, protocol="condensation"),
        Train(epochs=7, protocol="condensation"),
        Train(epochs=5, batch_size=8, protocol="constant"),
    ],
)
def test_the_rate_of_every_step_is_that_of_the_recipe(recipe):
    """The evaluator's StepLR: a tenth after every `step_size` epochs."""
    found = exported(distilled(recipe=recipe))
    own = found.config
    of_epoch = -(-20 // own["syn_batch_size"])
    theirs = [
        found.lr * 0.1 ** (epoch // own["step_size"])
        for epoch in range(own["num_epochs"])
        for _ in range(of_epoch)
    ]
    np.testing.assert_allclose(theirs, rates(recipe, 20))
    assert any("momentum of zero" in note for note in found.notes) == (recipe.protocol == "condensation")


def test_settings_are_those_of_the_recipe_and_read_back_from_yaml():
    yaml = pytest.importorskip("yaml", reason="needs PyYAML")
    dsa = "color_crop_cutout_flip_scale_rotate"
    recipe = Train(epochs=10, optimizer="adam", weight_decay=1e-5, augmentation=dsa, batch_size=5)
    found = exported(distilled(recipe=recipe, network="lenet", network_settings={"width": 3}))
    read = yaml.safe_load(found.yaml())
    assert read == found.config
    assert (read["optimizer"], read["weight_decay"], read["syn_batch_size"]) == ("adam", 1e-5, 5)
    assert (read["data_aug_func"], read["aug_params"]["flip"], read["im_size"]) == ("dsa", 0.5, [32, 32])
    assert "# The network of the artifact: lenet (width=3)" in found.yaml()
    assert all(len(line) <= 110 for line in found.yaml().splitlines() if line.startswith("#"))


def test_the_format_writes_the_folder(monkeypatch):
    """With a stand-in for PyTorch, whose tensors are NumPy's arrays."""
    torch: Any = types.ModuleType("torch")
    torch.from_numpy, torch.save = (lambda array: array), (lambda tensor, stream: np.save(stream, tensor))
    monkeypatch.setitem(sys.modules, "torch", torch)
    files = export.FORMATS["dd_ranking"](distilled())
    assert isinstance(files, dict)
    assert set(files) == {"images.pt", "labels.pt", "lr.pt", "config.yaml", "score.py"}
    assert b"hard_labels=labels" in files["score.py"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"dataset": "mnist"}, "data set that the evaluator tests on, cifar10, cifar100; got 'mnist'"),
        ({"data": {"form": [{"classes": [0, 1]}]}}, "expected all 10 classes of CIFAR10"),
        ({"recipe": Recipe()}, "replays learned steps with a rate of each, in their order, which"),
        ({"recipe": Recipe("ridge")}, "the recipe solves a regression"),
        ({"recipe": Recipe("regress")}, "trains by squared error"),
        ({"recipe": Train(augmentation="dc")}, "DSA's; got 'dc', which the evaluator does not have"),
        ({"recipe": Train(protocol="idc")}, "got the protocol 'idc', which it cannot be told"),
        ({"recipe": Train(mix="cutmix")}, "got the mixture 'cutmix'"),
        ({"recipe": Train(temperature=2.0)}, r"got the temperature 2\.0"),
        ({"recipe": Train(lr=None)}, "the recipe takes the learned ones, and there are none"),
        ({"recipe": Train(epochs=7, batch_size=8)}, "expected an even number of epochs; got 7"),
        (
            {"recipe": Train(protocol="constant", steps=9, batch_size=8)},
            "counts 9 steps of 8 of 20 images, drawn anew",
        ),
        ({"encoding": Whitened(jnp.zeros(4), jnp.eye(4), jnp.eye(4))}, "encoding 'whitened'. The evaluator"),
        ({"images": IMAGES[:, :, :28, :28]}, r"32x32 pixels and 3 channels; got shape \(28, 28, 3\)"),
        ({"labels": LABELS[:, ::-1] * 2}, "each row with the sum one; got others: free labels, or weights"),
        ({"labels": LABELS * np.array([1] * 9 + [-1])}, "expected labels that are probabilities"),
        ({"images": IMAGES[:, :19], "labels": LABELS[:, :19]}, r"as many images of each .*got \[2, 2"),
    ],
)
def test_what_the_evaluator_cannot_be_told_is_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        exported(distilled(**changed))

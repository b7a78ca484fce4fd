"""An artifact as DD-Ranking's evaluator takes it: tensors under its normalisation, and its settings as YAML.

The evaluator (ddranking 0.2, `LabelRobustScoreHard` and `LabelRobustScoreSoft`) trains by a plain optimiser
on shuffled minibatches for a number of epochs, with a rate that falls by steps, on data sets that it knows.
What it cannot be told is refused; what it does otherwise than the recipe stands in the notes on top of the
YAML.

References:
    Li et al. 2025, DD-Ranking, arXiv 2505.13300; github.com/NUS-HPC-AI-Lab/DD-Ranking.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ddjax import encodings
from ddjax.encodings import Channels
from ddjax.recipes import Train
from ddjax.types import Distilled


class Known(NamedTuple):
    """A data set that the evaluator has.

    Attributes:
        name: how the evaluator calls the data set.
        num_classes: the number of classes, in the order of ddjax.
        mean: `[C]`, the mean of pixel / 255 that the evaluator subtracts.
        std: `[C]`, the standard deviation that the evaluator divides by.
    """

    name: str
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


_CIFAR = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)

DATASETS: Mapping[str, Known] = {
    "cifar10": Known("CIFAR10", 10, *_CIFAR),
    "cifar100": Known("CIFAR100", 100, *_CIFAR),
}
"""The data sets that both know, by the names of ddjax, and the evaluator's own normalisation."""

SIDE, CHANNELS = 32, 3

_DSA = {
    "flip": 0.5,
    "rotate": 15.0,
    "saturation": 2.0,
    "brightness": 1.0,
    "contrast": 0.5,
    "scale": 1.2,
    "crop": 0.125,
    "cutout": 0.5,
}
"""The ranges of DSA, in the evaluator's names; the same as those of `ddjax.augment`."""

_OPERATIONS = {"color", "crop", "cutout", "flip", "scale", "rotate"}

_FLOOR = 1e-12
"""The least probability of a soft label, of which the evaluator wants the logarithm."""


class Exported(NamedTuple):
    """What the evaluator takes.

    Attributes:
        images: `[n, C, H, W]` float32, normalised as the evaluator normalises.
        labels: `[n]` int64, or `[n, K]` float32 logits of soft labels.
        lr: the learning rate at the start.
        config: the settings of the evaluator, by its names.
        notes: sentences about what the evaluator does otherwise than the recipe.
    """

    images: np.ndarray
    labels: np.ndarray
    lr: float
    config: dict[str, Any]
    notes: tuple[str, ...]

    @property
    def is_soft(self) -> bool:
        """Whether the labels are soft, which the evaluator scores by another class."""
        return self.labels.ndim == 2

    def yaml(self) -> str:
        """The settings as the text of a YAML file, with the notes as comments."""
        lines = [f"# {note}" for note in self.notes]
        return "\n".join([*lines, *(f"{name}: {_yaml(value)}" for name, value in self.config.items()), ""])

    def script(self) -> str:
        """The Python program that scores the folder."""
        evaluator = "LabelRobustScoreSoft" if self.is_soft else "LabelRobustScoreHard"
        labels = "soft_labels" if self.is_soft else "hard_labels"
        return _SCRIPT.format(evaluator=evaluator, labels=labels)


_SCRIPT = '''"""Scores these images with DD-Ranking: pip install ddranking; python score.py in this folder."""

import torch
from ddranking.config import Config
from ddranking.metrics import {evaluator}

evaluator = {evaluator}(Config.from_file("config.yaml"))
images, labels, lr = (torch.load(f"{{name}}.pt") for name in ("images", "labels", "lr"))
print(evaluator.compute_metrics(image_tensor=images, {labels}=labels, syn_lr=lr))
'''


def exported(distilled: Distilled) -> Exported:
    """An artifact as the evaluator takes it.

    Args:
        distilled: the content of the artifact.

    Returns:
        The tensors, the settings and the notes.

    Raises:
        ValueError: the evaluator does not have the data set, the images were whitened or are of another size,
            the recipe replays learned steps or is a regression, or the evaluator has no words for the
            training, the augmentation or the labels.
    """
    known = _known(distilled)
    recipe = _recipe(distilled)
    schedule = distilled.schedule
    inputs = np.asarray(schedule.inputs, np.float32)
    images = _images(inputs.reshape(-1, *inputs.shape[2:]), distilled, known)
    labels = np.asarray(schedule.labels, np.float64).reshape(len(images), -1)
    soft, per_class = _logits(labels), _per_class(labels, known)
    model, notes = _model(distilled.metadata)
    rate, note = _rate(recipe, len(images))
    config = {
        "dataset": known.name,
        "real_data_path": "./dataset/",
        "ipc": per_class,
        "im_size": [SIDE, SIDE],
        "model_name": model,
        "data_aug_func": "dsa" if recipe.augmentation else None,
        "aug_params": dict(_DSA) if recipe.augmentation else None,
        "use_zca": False,
        "custom_train_trans": None,
        "custom_val_trans": None,
        "optimizer": recipe.optimizer,
        "weight_decay": recipe.weight_decay,
        "momentum": recipe.momentum,
        **rate,
        "num_eval": 5,
        "syn_batch_size": recipe.batch_size,
        "real_batch_size": 256,
        "default_lr": 0.01,
        "num_workers": 4,
        "device": "cuda",
        "dist": False,
        "random_data_format": "tensor",
        "random_data_path": "./random_data",
        "save_path": f"./results/{known.name}/ipc{per_class}.csv",
        **({} if soft is None else _SOFT | {"teacher_model_names": [model]}),
    }
    shown = labels.argmax(-1).astype(np.int64) if soft is None else soft
    return Exported(images, shown, _lr(recipe, schedule.lrs), config, (*_NOTES, *notes, *note))


_NOTES = (
    "Written by ddjax. The rate at the start is in lr.pt; images.pt is normalised as the evaluator does.",
    "The evaluator keeps the best test accuracy of all that it measures while it trains, so that its scores",
    "are higher than those of `ddjax evaluate`, which measures once, after the last step.",
)

_SOFT = {
    "stu_use_torchvision": False,
    "tea_use_torchvision": False,
    "teacher_dir": "./teacher_models",
    "soft_label_mode": "S",
    "soft_label_criterion": "sce",
    "loss_fn_kwargs": {"temperature": 1.0, "scale_loss": False},
    "use_aug_for_hard": True,
}
"""The settings of soft labels: one label of each image, under cross-entropy. The evaluator takes the softmax
of the labels, which are therefore logarithms of probabilities."""


def _known(distilled: Distilled) -> Known:
    name = str(distilled.metadata.get("dataset", ""))
    if name.partition(":")[0] not in DATASETS:
        raise ValueError(
            f"dd_ranking: expected images of a data set that the evaluator tests on, {', '.join(DATASETS)}; "
            f"got {name[:80]!r}. Evaluate them with `ddjax evaluate`, or take --format=torch."
        )
    known = DATASETS[name.partition(":")[0]]
    form = [next(iter(step)) for step in distilled.metadata.get("data", {}).get("form", [])]
    if "classes" in form:
        raise ValueError(
            f"dd_ranking: expected all {known.num_classes} classes of {known.name}; the artifact has some of "
            "them. Distil all classes."
        )
    return known


def _recipe(distilled: Distilled) -> Train:
    recipe = distilled.recipe
    if not isinstance(recipe, Train):
        reasons = {
            "schedule": "the recipe replays learned steps with a rate of each, in their order",
            "ridge": "the recipe solves a regression",
            "regress": "the recipe trains by squared error under its own rise and fall of the rate",
            "train_head": "the recipe averages regressions for the last layer",
        }
        reason = reasons.get(recipe.kind, f"the recipe is of the kind {recipe.kind!r}")
        raise ValueError(
            f"dd_ranking: expected a recipe that trains in epochs on shuffled images, 'train'; {reason}, "
            "which the evaluator cannot be told. Distil by a method with such a recipe "
            "(distribution_matching, gradient_matching), or take --format=torch, which replays any recipe."
        )
    if recipe.augmentation and set(recipe.augmentation.split("_")) != _OPERATIONS:
        raise ValueError(
            f"dd_ranking: expected no augmentation or {'_'.join(sorted(_OPERATIONS))}, DSA's; got "
            f"{recipe.augmentation!r}, which the evaluator does not have. Take --format=torch."
        )
    for what, is_known in (
        (f"the protocol {recipe.protocol!r}", recipe.protocol in ("plain", "condensation", "constant")),
        (f"the mixture {recipe.mix!r}", not recipe.mix),
        (f"the temperature {recipe.temperature}", recipe.temperature == 1),
    ):
        if not is_known:
            raise ValueError(
                f"dd_ranking: expected a training that the evaluator has; got {what}, which it cannot "
                "be told. Take --format=torch."
            )
    return recipe


def _lr(recipe: Train, lrs: Any) -> float:
    """The rate at the start: that of the recipe, else the mean of the learned ones."""
    if recipe.lr is not None:
        return recipe.lr
    if lrs is None:
        raise ValueError(
            "dd_ranking: expected a learning rate; the recipe takes the learned ones, and there are none. "
            "Write the artifact with a rate in its recipe."
        )
    return float(np.mean(np.asarray(lrs, np.float64)))


def _images(inputs: np.ndarray, distilled: Distilled, known: Known) -> np.ndarray:
    """`[n, C, H, W]` float32 under the evaluator's normalisation."""
    if not isinstance(distilled.encoding, Channels):
        raise ValueError(
            f"dd_ranking: expected images under a mean and a standard deviation; got the encoding "
            f"{distilled.encoding.kind!r}. The evaluator whitens in its own way. Take --format=torch."
        )
    if inputs.shape[1:] != (SIDE, SIDE, CHANNELS):
        raise ValueError(
            f"dd_ranking: expected images of {SIDE}x{SIDE} pixels and {CHANNELS} channels; got shape "
            f"{inputs.shape[1:]}. Distil {known.name} at its own size."
        )
    own = encodings.channels_of(distilled.encoding)
    pixels = inputs.astype(np.float64) * np.asarray(own.std) + np.asarray(own.mean)
    normalised = (pixels - np.array(known.mean)) / np.array(known.std)
    return np.ascontiguousarray(normalised.transpose(0, 3, 1, 2), np.float32)


def _per_class(labels: np.ndarray, known: Known) -> int:
    """The images of each class, as many in each."""
    counts = np.bincount(labels.argmax(-1), minlength=known.num_classes)
    if labels.shape[-1] != known.num_classes or len(set(counts.tolist())) > 1:
        raise ValueError(
            f"dd_ranking: expected as many images of each of {known.num_classes} classes, by their largest "
            f"label; got {counts.tolist()[:20]}. The evaluator compares with so many random images of a "
            "class. Take --format=torch."
        )
    return int(counts[0])


def _logits(labels: np.ndarray) -> np.ndarray | None:
    """The logarithms of soft labels, `[n, K]` float32; None where every label is one class."""
    if (labels < 0).any() or not np.allclose(labels.sum(-1), 1, atol=1e-4):
        raise ValueError(
            "dd_ranking: expected labels that are probabilities, each row with the sum one; got others: free "
            "labels, or weights of images, which the evaluator cannot be told. Take --format=torch."
        )
    if (labels.max(-1) > 1 - 1e-6).all():
        return None
    return np.log(np.maximum(labels, _FLOOR)).astype(np.float32)


def _rate(recipe: Train, count: int) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The number of epochs and the fall of the rate; a note where they are not all of it."""
    of_epoch = -(-count // recipe.batch_size)
    epochs, note = recipe.epochs, ()
    if recipe.protocol == "condensation":
        epochs, fall = recipe.epochs + 1, recipe.epochs // 2 + 2
        note = (
            f"The recipe starts a new optimiser, with a momentum of zero, where the rate falls, after {fall}",
            "epochs; the evaluator keeps the momentum.",
        )
    elif recipe.protocol == "constant":
        if recipe.steps is not None and of_epoch > 1:
            raise ValueError(
                f"dd_ranking: expected a training in epochs; the recipe counts {recipe.steps} steps of "
                f"{recipe.batch_size} of {count} images, drawn anew in each. Take --format=torch."
            )
        epochs = recipe.epochs if recipe.steps is None else recipe.steps
        fall = epochs + 1
    else:
        fall = -(-recipe.epochs // 2)
        if recipe.epochs % 2 and of_epoch > 1:
            raise ValueError(
                f"dd_ranking: expected an even number of epochs; got {recipe.epochs}, with a fall of the "
                "rate in the middle of one, where the evaluator has none. Evaluate with an even number."
            )
    return {"num_epochs": epochs, "lr_scheduler": "step", "step_size": fall}, note


def _model(metadata: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """The evaluator's network, and a note where the artifact names another."""
    name, own = metadata.get("network"), dict(metadata.get("network_settings") or {})
    model = "ConvNet-3-BN" if own.get("norm") == "batch" else "ConvNet-3"
    if name == "convnet" and own.get("depth", 3) == 3 and own.get("width", 128) == 128:
        return model, ()
    listed = ", ".join(f"{key}={value}" for key, value in sorted(own.items()))
    said = f"{str(name)[:40]}{f' ({listed[:60]})' if listed else ''}" if name else "none"
    return model, (f"The network of the artifact: {said}. The evaluator trains a {model} of 128 channels.",)


def _yaml(value: Any) -> str:
    """A value in YAML's flow style, which is JSON's but for small floats: 1e-05 would be read as a text."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_yaml(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    text = json.dumps(value)
    if isinstance(value, float) and "e" in text and "." not in text:
        return text.replace("e", ".0e")
    return text


__all__ = ["DATASETS", "Exported", "Known", "exported"]

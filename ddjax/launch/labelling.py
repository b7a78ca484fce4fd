"""What the launcher of label distillation is made of: base images, methods, steps by validation, scores."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from ddjax import checks, coresets, forms, methods, optimizers
from ddjax.data import Dataset, Split, load, resize
from ddjax.judge import Evaluation, Judge, choose_steps, evaluate, scores_along
from ddjax.launch.choices import bounded, runs_at_once
from ddjax.launch.flags import flag, flag_like
from ddjax.launch.process import tell
from ddjax.launch.results import record_of_run
from ddjax.launch.settings import Common, DataChoice
from ddjax.launch.types import Finished, Launch
from ddjax.recipes import Train, TrainHead, counting
from ddjax.run import Run
from ddjax.types import Distilled, Form, InitDistribution, Method, Network, Outer, Recipe, Schedule
from ddjax.unroll import OPTIMIZERS

METHODS = ("online", "ridge", "unrolled")
STARTS = ("uniform", "smoothed", "true")
SMOOTHING = 0.1
"""The share of a smoothed label that is spread evenly over all classes, as published."""

RANDOM = "random"
BY_PIXELS = {**coresets.BY_FEATURES, "facility_location": coresets.facility_location}
SELECTED = (RANDOM, *BY_PIXELS)
"""The ways to choose the base images from the data set itself, by name."""

STEPS, MANY_STEPS = (50, 100, 200, 300, 400, 600, 1000), (100, 200, 400, 700, 1000, 1700)
"""The numbers of training steps that are tried on the validation split, for up to 100 images and for more."""


@dataclasses.dataclass(frozen=True)
class Labelling(Common):
    """The settings of a label distillation."""

    init: str = flag_like(DataChoice, "init", default="pytorch")
    method: str = flag("online", "how the labels are learned", choices=METHODS)
    num_images: int = flag(100, "base images, whose labels are learned", low=1)
    base: str | None = flag(
        None, "whose images: a TFDS name or the path of an .npz; by default the data set itself", path=True
    )
    select: str = flag(
        RANDOM,
        "which images of the data set: random ones, as published, or by their pixels",
        choices=SELECTED,
    )
    validate_every: int = flag_like(Common, "validate_every", default=1000)
    start: str = flag("uniform", "the labels at the start", choices=STARTS)
    inner_batch: int | None = flag(None, "base images in a step; by default as published", low=1)
    patience: int | None = flag(
        None, "steps that a network's error may stagnate; by default as published", low=1
    )
    inner_lr: float | None = flag(
        None, "rate of the step ahead, 0.01; of unrolled, the learned rates' start, 0.02", positive=True
    )
    falling: bool = flag(True, "whether the labels' rate falls along a cosine; published: constant")
    train_lr: float = flag(1e-3, "Adam's rate in every training on the labels", positive=True)
    train_steps: int | None = flag(
        None, "steps of the training on the result; by default chosen on validation", low=1, same_step=True
    )
    inner_steps: int = flag(2, "of unrolled: S, gradient steps with images of their own", low=1)
    inner_epochs: int = flag(20, "of unrolled: E, passes over those steps", low=1)
    inner_optimizer: str = flag("sgd", "of unrolled: whose updates η scales", choices=tuple(OPTIMIZERS))

    def differentiated_steps(self) -> int | None:
        """The inner steps that an outer step differentiates through; None but for `unrolled`.

        Returns:
            The number.
        """
        return self.inner_steps * self.inner_epochs if self.method == "unrolled" else None

    def idle(self) -> dict[str, str]:
        """The settings that change nothing under the other settings.

        Returns:
            The reasons, by the names of the flags.
        """
        found = super().idle()
        if self.base is not None:
            found["select"] = "images of another data set are drawn at random"
        if self.method == "unrolled":
            names = ("inner_batch", "patience", "train_lr", "train_steps")
            return found | dict.fromkeys(names, "--method=unrolled trains by the learned steps")
        names = ("inner_steps", "inner_epochs", "inner_optimizer")
        found |= dict.fromkeys(names, "only --method=unrolled has such steps")
        if self.method == "ridge":
            found["inner_lr"] = "--method=ridge looks no step ahead"
        return found


# Base images and their labels.


def base_split(config: Labelling, data: Dataset) -> tuple[Split, np.ndarray]:
    """The split that base images are taken from, and their places there.

    Args:
        config: the settings.
        data: the target data.

    Returns:
        The split, under the encoding of the target data, and `[n]`, the places: of the data set itself as
        many of each class, of another one any.

    Raises:
        ValueError: too many images are asked for, or images of another shape.
    """
    count, seed = config.num_images, config.seed
    if config.base is None:
        if count % data.num_classes:
            raise ValueError(
                f"num_images: expected a multiple of the {data.num_classes} classes, as many of each; got "
                f"{count}. Give one, or images from elsewhere with --base."
            )
        return data.train, _own_images(config, data)
    other = load(config.base, data_dir=config.data_dir, seed=seed)
    if other.image_shape[:2] != data.image_shape[:2]:
        other = resize(other, data.image_shape[:2])
    checks.equal(
        "base: channels",
        other.image_shape[2],
        data.image_shape[2],
        remedy="Take another base, or --channels.",
    )
    split = other.encoded_by(data.encoding).train
    if count > len(split):
        raise ValueError(f"num_images: expected at most {len(split)}, which the base has; got {count}.")
    return split, np.random.default_rng(seed).permutation(len(split))[:count]


def _own_images(config: Labelling, data: Dataset) -> np.ndarray:
    """The places `[n]` of base images in the training split of the data set itself, as many of each class."""
    train, per_class = data.train, config.num_images // data.num_classes
    if config.select == RANDOM:
        rows = coresets.random_real(
            train, per_class=per_class, num_classes=data.num_classes, seed=config.seed
        )
    else:
        points = train.encoded().reshape(len(train), -1)
        rows = coresets.by_class(BY_PIXELS[config.select], points, train, per_class=per_class)
    return rows.ravel()


def classes_of(config: Labelling, data: Dataset, split: Split, rows: np.ndarray) -> np.ndarray:
    """The class that each base image is known for: its own, or for images from elsewhere the nearest image's.

    Args:
        config: the settings.
        data: the target data.
        split: the split that base images are taken from.
        rows: `[n]`, their places.

    Returns:
        `[n]`, classes of the target data.
    """
    if config.base is None:
        return split.labels[rows]
    from sklearn.neighbors import KNeighborsClassifier

    points = data.train.encoded().reshape(len(data.train), -1)
    nearest = KNeighborsClassifier(1).fit(points, data.train.labels)
    return nearest.predict(split.at(rows).encoded().reshape(len(rows), -1))


def smoothed(labels: np.ndarray, share: float = SMOOTHING) -> np.ndarray:
    """Labels of which a share is spread evenly over all classes.

    Args:
        labels: `[..., K]`, the labels.
        share: the share, in [0, 1].

    Returns:
        `[..., K]`.
    """
    return (1 - share) * labels + share / labels.shape[-1]


def known_labels(config: Labelling, data: Dataset) -> dict[str, np.ndarray]:
    """The labels that the learned ones have to beat, `[S, B, K]` each, by their names in the record.

    Args:
        config: the settings.
        data: the target data.

    Returns:
        One-hot and smoothed labels.
    """
    classes = classes_of(config, data, *base_split(config, data))
    hard = np.eye(data.num_classes)[classes[order_of(config)]]
    name = "true labels" if config.base is None else "labels of the nearest images"
    return {name: hard, f"{name}, smoothed": smoothed(hard)}


def layout_of(config: Labelling) -> tuple[int, int]:
    """The numbers S of steps and B of images in a step.

    Args:
        config: the settings.

    Returns:
        The two numbers; one step of all images for the methods that train in minibatches.

    Raises:
        ValueError: the images cannot be divided among the steps of `unrolled`.
    """
    if config.method != "unrolled":
        return 1, config.num_images
    if config.num_images % config.inner_steps:
        raise ValueError(
            f"inner_steps: expected a divisor of the {config.num_images} images; got {config.inner_steps}. "
            "Give one."
        )
    return config.inner_steps, config.num_images // config.inner_steps


def order_of(config: Labelling) -> np.ndarray:
    """The base image at each place of φ, in turn, so that each of the steps of `unrolled` has all classes.

    Args:
        config: the settings.

    Returns:
        `[S, B]`, numbers of base images.
    """
    steps, size = layout_of(config)
    return np.arange(config.num_images).reshape(size, steps).T


def form_of(config: Labelling, data: Dataset) -> Form:
    """The form of φ: base images that stay, and labels on the simplex.

    Args:
        config: the settings.
        data: the target data.

    Returns:
        The form.

    Raises:
        ValueError: see `base_split` and `layout_of`.
    """
    split, rows = base_split(config, data)
    order = order_of(config)
    images = coresets.images_at(split, rows[order])
    start = None
    if config.start != "uniform":
        hard = np.eye(data.num_classes)[classes_of(config, data, split, rows)[order]]
        start = hard if config.start == "true" else smoothed(hard)
    rates = {"inner_lr": config.inner_lr or 0.02, "inner_epochs": config.inner_epochs}
    return forms.labels(
        images,
        data.num_classes,
        initial_labels=start,
        **(rates if config.method == "unrolled" else {}),
    )


# The method.


def published_batch(num_images: int) -> int:
    """The published number of base images in a step.

    Args:
        num_images: the number of all base images.

    Returns:
        The number.
    """
    return min(num_images, 10 if num_images <= 20 else 25 if num_images <= 50 else 50)


def method_of(config: Labelling, network: Network, distribution: InitDistribution) -> Method:
    """The method that the flags choose.

    Args:
        config: the settings.
        network: the network.
        distribution: p(θ0), the distribution of initial weights.

    Returns:
        The method.
    """
    if config.method == "unrolled":
        return methods.unrolled(
            network,
            distribution,
            batch_size=config.batch_size,
            inner_optimizer=config.inner_optimizer,
        )
    size = config.inner_batch or published_batch(config.num_images)
    shared: dict[str, Any] = {
        "batch_size": config.batch_size,
        "inner_batch": size,
        "lr": config.train_lr,
        "window": config.patience or (50 if config.num_images <= 100 else 200),
    }
    steps = config.train_steps or 300
    if config.method == "ridge":
        recipe: Recipe = TrainHead(lr=config.train_lr, steps=steps, batch_size=size)
        return methods.ridge_label_distillation(network, distribution, **shared, recipe=recipe)
    recipe = plain_training(config, size, steps)
    inner_lr = config.inner_lr or 0.01
    return methods.label_distillation(network, distribution, **shared, inner_lr=inner_lr, recipe=recipe)


def plain_training(config: Labelling, size: int, steps: int) -> Train:
    """The training on labels that were not learned with a recipe of their own: Adam at a constant rate.

    Args:
        config: the settings.
        size: the number of images in a step.
        steps: the number of steps.

    Returns:
        The recipe.
    """
    return Train(
        lr=config.train_lr,
        weight_decay=0.0,
        batch_size=size,
        protocol="constant",
        optimizer="adam",
        steps=steps,
    )


def outer_of(config: Labelling, method: Method, steps: int) -> Outer:
    """The outer optimiser: Adam at 0.01 along a cosine or at the published constant rate; or of `unrolled`.

    Args:
        config: the settings.
        method: the method.
        steps: the number of outer steps.

    Returns:
        The optimiser.
    """
    falls = config.method != "unrolled" and config.falling
    outer = optimizers.adam_outer(0.01, falls=True) if falls else method.outer
    return bounded(outer(steps, lr=config.outer_lr), config.clip_norm)


# What is left after the outer loop.


def steps_by_validation(launch: Launch, recipe: Recipe, schedule: Schedule) -> tuple[int, dict[str, Any]]:
    """The number of training steps for some labels, and the accuracy on validation of each number tried.

    Args:
        launch: the run.
        recipe: the recipe of the training, which counts steps.
        schedule: images and labels.

    Returns:
        The number, and mean accuracies by number.
    """
    config, parts = launch.config, launch.parts
    judge = Judge(
        parts.network, parts.inits, recipe, launch.data.validation, runs_at_once(config.num_val_inits)
    )
    tried = STEPS if config.num_images <= 100 else MANY_STEPS
    choices = tried if config.train_steps is None else (config.train_steps,)
    chosen, scores = choose_steps(
        judge, schedule, choices, key=launch.keys.validation, num_inits=config.num_val_inits
    )
    return chosen, {str(steps): score.mean for steps, score in scores.items()}


def settle(launch: Launch, outcome: Run) -> Run:
    """The outcome, with the number of steps in its recipe that is best on validation.

    Args:
        launch: the run.
        outcome: the outcome of the outer loop.

    Returns:
        The outcome, whose artifact has the recipe.
    """
    phi = outcome.distilled
    steps, scores = steps_by_validation(launch, phi.recipe, phi.schedule)
    tell(f"{steps} training steps, by validation: {scores}")
    recipe = counting(phi.recipe).with_steps(steps)
    return dataclasses.replace(
        outcome, distilled=dataclasses.replace(phi, recipe=recipe), val_accuracy=scores[str(steps)]
    )


def with_labels(launch: Launch, phi: Distilled, labels: np.ndarray) -> dict[str, Any]:
    """The score of the base images under labels that were not learned.

    Args:
        launch: the run.
        phi: the distilled data, whose images are taken.
        labels: `[S, B, K]`, the labels.

    Returns:
        The accuracies on the test split, and the number of steps, which validation chose.
    """
    images = phi.schedule.inputs
    schedule = Schedule(images, jnp.asarray(labels, images.dtype), None)
    size = launch.config.inner_batch or published_batch(launch.config.num_images)
    recipe = plain_training(launch.config, size, 300)
    steps, _ = steps_by_validation(launch, recipe, schedule)
    given = {"params": schedule, "form": forms.constant(schedule)}
    own = dataclasses.replace(phi, **given, recipe=recipe.with_steps(steps))
    score = scored(launch, own)
    return {**score.as_dict(), "steps": steps}


def scored(launch: Launch, phi: Distilled) -> Evaluation:
    """The accuracies on the test split of networks that the distillation never saw.

    Args:
        launch: the run.
        phi: images, labels and recipe.

    Returns:
        The evaluation.
    """
    config, parts, key = launch.config, launch.parts, launch.keys.test
    count, at_once = config.num_eval_inits, runs_at_once(config.num_eval_inits)
    steps = getattr(phi.recipe, "steps", None)
    if steps is None:
        test = launch.data.test
        return evaluate(
            phi, parts.network, parts.judged_inits, test, key=key, num_inits=count, runs_per_chunk=at_once
        )
    judge = Judge(parts.network, parts.judged_inits, phi.recipe, launch.data.test, at_once)
    return scores_along(judge, phi.schedule, (steps,), key=key, num_inits=count)[steps]


def measure(finished: Finished) -> dict[str, Any]:
    """The content of `result.json`: the score of the learned labels, and of labels that were not learned.

    Args:
        finished: the run.

    Returns:
        The record.
    """
    evaluating = time.monotonic()
    launch, phi = finished.launch, finished.outcome.distilled
    config, data = launch.config, launch.data
    score = scored(launch, phi)
    compared: Mapping[str, Any] | None = None
    if config.baselines:
        compared = {
            name: with_labels(launch, phi, labels) for name, labels in known_labels(config, data).items()
        }
    found = {
        "method": config.method,
        "base": Path(config.base).stem if config.base else data.name,
        "select": RANDOM if config.base else config.select,
        "layout": launch.parts.facts.layout.as_dict(data.num_classes),
        "test_accuracy": score.as_dict(),
    }
    return record_of_run(finished, found, {"baselines": compared}, evaluating=evaluating)

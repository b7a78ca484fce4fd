"""Selections by name: which images of a split each of them takes, and what a training tells of all images."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddjax import checks
from ddjax.coresets.features import embeddings, last_layer_gradients
from ddjax.coresets.forgetting import Forgetting, forgetting
from ddjax.coresets.images import class_means, images_at, k_means, real_images
from ddjax.coresets.selection import (
    by_class,
    cluster_sizes,
    facility_location,
    herding,
    k_center,
    most_forgotten,
    nearest,
)
from ddjax.data import Split, to_device
from ddjax.engine import compiler_options
from ddjax.networks import calibrate
from ddjax.types import InitDistribution, Network

BY_FEATURES: Mapping[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "herding": herding,
    "nearest": nearest,
    "k_center": k_center,
}
"""Selections that look at the features of each image."""

SELECTIONS = ("random", "class_mean", "k_means", *BY_FEATURES, "forgetting", "craig")
"""The names that `select` knows."""

CALIBRATION_IMAGES = 1024
"""Training images that a batch norm's statistics are measured on before features are taken."""


@dataclasses.dataclass(frozen=True)
class Learned:
    """What one training on all images tells of them; nothing is computed before it is asked for.

    Attributes:
        split: the real images.
        network: the network of features, gradients and forgetting events.
        inits: p(θ0) of that network.
        theta_key: key of its initial weights.
        key: key of the order of the training images.
        epochs: passes of the training over all images.
        lr: learning rate of the training at its start.
        from_pixels: whether the features are the normalised pixels, for which nothing is trained.
    """

    split: Split
    network: Network
    inits: InitDistribution
    theta_key: jax.Array
    key: jax.Array
    epochs: int
    lr: float
    from_pixels: bool = False

    @functools.cached_property
    def training(self) -> Forgetting:
        """The trained network, with the forgetting events of all images."""
        count = functools.partial(
            forgetting,
            self.network,
            epochs=self.epochs,
            batch_size=min(64, len(self.split)),
            lr=self.lr,
        )
        arguments = jax.jit(self.inits.sample)(self.theta_key), to_device(self.split), self.key
        options = compiler_options(jax.default_backend())
        found = jax.jit(count).lower(*arguments).compile(options)(*arguments)
        images = images_at(self.split, np.arange(min(CALIBRATION_IMAGES, len(self.split))))
        return found._replace(params=calibrate(self.network, found.params, jnp.asarray(images)))

    @functools.cached_property
    def points(self) -> np.ndarray:
        """`[n, F]`, the features of all images."""
        if self.from_pixels:
            return self.split.encoded().reshape(len(self.split), -1)
        return embeddings(self.network, self.training.params, self.split)

    @functools.cached_property
    def gradients(self) -> np.ndarray:
        """`[n, K]`, the gradient of each image's loss in the network's outputs."""
        return last_layer_gradients(self.network, self.training.params, self.split)

    def facts(self) -> dict[str, Any]:
        """The network's name and its training accuracy after each epoch, for the record."""
        accuracy = [round(float(value), 2) for value in self.training.accuracy]
        return {"features": self.network.name, "training_accuracy": accuracy}


class Coreset(NamedTuple):
    """Images to train on, as a selection took them.

    Attributes:
        sets: `[K, m, H, W, C]` each, normalised; several runs take turns with them.
        weights: `[K, m]`, of each image's loss; None for equal ones.
        facts: what the selection looked at, for the record.
    """

    sets: list[np.ndarray]
    weights: np.ndarray | None = None
    facts: Mapping[str, Any] = {}


def select(name: str, learned: Learned, *, per_class: int, seed: int, num_sets: int = 1) -> Coreset:
    """The images that a selection takes.

    Args:
        name: one of `SELECTIONS`. `class_mean` gives one image of each class, whatever `per_class` says.
        learned: the real images, and what a training on them tells.
        per_class: number of images of each class.
        seed: seed of what is drawn: random images, the start of k-means, which of equally forgotten images.
        num_sets: number of sets of `random`, with the seeds from `seed` on; all other selections have one.

    Returns:
        The images, with weights for `craig`.

    Raises:
        ValueError: no such selection, or fewer images of a class than `per_class`.
    """
    checks.choice("selection", name, SELECTIONS)
    split = learned.split
    count = {"per_class": per_class, "num_classes": split.num_classes}
    if name == "random":
        return Coreset([real_images(split, **count, seed=s) for s in range(seed, seed + num_sets)])
    if name == "class_mean":
        return Coreset([class_means(split, num_classes=split.num_classes)])
    if name == "k_means":
        return Coreset([k_means(split, **count, seed=seed)])
    within = functools.partial(by_class, split=split, per_class=per_class)
    if name == "craig":
        rows = within(facility_location, learned.gradients)
        weights = cluster_sizes(learned.gradients, split, rows)
        return Coreset([images_at(split, rows)], weights, learned.facts())
    if name == "forgetting":
        rows = within(functools.partial(most_forgotten, seed=seed), learned.training.scores)
        return Coreset([images_at(split, rows)], facts=learned.facts())
    rows = within(BY_FEATURES[name], learned.points)
    facts = {"features": "pixels"} if learned.from_pixels else learned.facts()
    return Coreset([images_at(split, rows)], facts=facts)

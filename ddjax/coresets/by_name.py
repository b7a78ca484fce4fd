"""Selections by name: the images that each selection takes, and the training that selections look at."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddjax import checks, platforms
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
"""The number of training images on which batch norm's statistics are measured, before features are taken."""


@dataclasses.dataclass(frozen=True)
class Learned:
    """The results of one training on all images, each computed when first used.

    A training that diverges raises ValueError: nothing is selected by features that are not finite.

    Attributes:
        split: the real images.
        network: the network whose features, gradients and forgetting events are used.
        inits: the distribution p(θ0) of the network's initial weights.
        theta_key: the source of the initial weights.
        key: the source of the order of the training images.
        epochs: the number of passes over all images.
        lr: the learning rate at the start of the training.
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
        options = compiler_options(platforms.current())
        found = jax.jit(count).lower(*arguments).compile(options)(*arguments)
        if not all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(found.params)):
            raise ValueError(
                f"the network of the features: expected finite weights after {self.epochs} epochs; the "
                f"training diverged at the learning rate {self.lr}. Give a smaller one (--feature_lr)."
            )
        images = images_at(self.split, np.arange(min(CALIBRATION_IMAGES, len(self.split))))
        return found._replace(params=calibrate(self.network, found.params, jnp.asarray(images)))

    @functools.cached_property
    def points(self) -> np.ndarray:
        """The features of all images, `[n, F]`."""
        if self.from_pixels:
            return self.split.encoded().reshape(len(self.split), -1)
        return embeddings(self.network, self.training.params, self.split)

    @functools.cached_property
    def gradients(self) -> np.ndarray:
        """The gradient of each image's loss in the last layer, as in `last_layer_gradients`, `[n, K]`."""
        return last_layer_gradients(self.network, self.training.params, self.split)

    def facts(self) -> dict[str, Any]:
        """The network's name and its training accuracy after each epoch, for the record."""
        accuracy = [round(float(value), 2) for value in self.training.accuracy]
        return {"features": self.network.name, "training_accuracy": accuracy}


class Coreset(NamedTuple):
    """The images that a selection took, to train networks on.

    Attributes:
        sets: the sets of normalised images, `[K, m, H, W, C]` each; several training runs take turns with the
            sets.
        weights: the weight of each image's loss, `[K, m]`; None for equal weights.
        facts: the features or the training that the selection looked at, for the record.
    """

    sets: list[np.ndarray]
    weights: np.ndarray | None = None
    facts: Mapping[str, Any] = {}


def select(name: str, learned: Learned, *, per_class: int, seed: int, num_sets: int = 1) -> Coreset:
    """The images that a selection takes.

    Args:
        name: the name of the selection, one of `SELECTIONS`. `class_mean` always gives one image of each
            class and ignores `per_class`.
        learned: the real images, and the results of a training on them.
        per_class: the number of images of each class.
        seed: the seed of all random draws: of random images, of the start of k-means, of the order among
            equally forgotten images.
        num_sets: the number of sets that `random` draws, with the seeds `seed`, `seed + 1`, ...; all other
            selections give one set.

    Returns:
        The images, with weights for `craig`.

    Raises:
        ValueError: `name` is none of `SELECTIONS`, or a class has fewer than `per_class` images.
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

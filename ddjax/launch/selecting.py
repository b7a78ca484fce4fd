"""The parts of a comparison of coresets: selections, what they look at, trainings on what they take."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ddjax import artifact, checks, coresets, forms, networks, recipes
from ddjax.coresets import BY_FEATURES, SELECTIONS, Coreset, Learned
from ddjax.data import Dataset, provenance
from ddjax.judge import Evaluation, Judge, check_split
from ddjax.launch.choices import (
    build_network,
    choose_network,
    other_network,
    random_inits,
    runs_at_once,
    trained_recipe,
)
from ddjax.launch.flags import flag, flag_like, listed
from ddjax.launch.kept import Scores
from ddjax.launch.settings import AUGMENTATIONS, DataChoice, Matching, Where
from ddjax.launch.types import Keys, Layout
from ddjax.networks.ops import CONV_FORMS
from ddjax.recipes import MOST_EPOCHS
from ddjax.types import Distilled, InitDistribution, Network, Recipe, start_of

UNWEIGHTED = "craig, equal weights"
"""The name of the score of CRAIG's images without its weights."""


@dataclasses.dataclass(frozen=True)
class Selecting(Where, DataChoice):
    """The settings of a comparison of coresets; the published ones where they apply."""

    workdir: str | None = flag_like(
        Where, "workdir", help="directory of the scores; runs/coreset-DATASET-IMAGES_PER_CLASS by default"
    )
    select: str = flag("random,herding,k_center", f"which, with commas between them: {', '.join(SELECTIONS)}")
    images_per_class: int = flag(1, "selected images of each class", low=1)
    network: str | None = flag("convnet", f"what is trained on them: {', '.join(networks.NAMES)}")
    init: str = flag_like(DataChoice, "init", default="pytorch")
    conv_form: str = flag("auto", "how convolutions are computed", choices=CONV_FORMS)
    features: str = flag("trained", f"what {', '.join(BY_FEATURES)} look at", choices=("trained", "pixels"))
    feature_network: str | None = flag(None, "the network of features and gradients; by default --network")
    feature_width: int | None = flag(None, "channels of its layers; by default the network's own", low=1)
    feature_epochs: int = flag(10, "passes over all images that train it", low=1)
    feature_lr: float = flag(0.05, "learning rate of that training at the start", positive=True)
    train_epochs: int = flag(
        300, "epochs that a network trains on the selected images", low=1, high=MOST_EPOCHS
    )
    train_lr: float = flag(0.01, "learning rate of that training", positive=True)
    protocol: str = flag_like(Matching, "protocol")
    eval_augment: str | None = flag(
        None, f"augmentation of each image that a network trains on; {AUGMENTATIONS}"
    )
    num_eval_inits: int = flag(
        20, "initial weights behind each score; each has random images of its own", low=1
    )

    def idle(self) -> dict[str, str]:
        """The settings that change nothing under the other settings.

        Returns:
            The reasons, by the names of the flags.
        """
        found, wanted = super().idle(), listed("select", self.select, SELECTIONS)
        by_training = {*wanted} - {"random", "class_mean", "k_means"}
        if self.features == "pixels":
            by_training -= {*BY_FEATURES}
        if not {*wanted} & {*BY_FEATURES}:
            found["features"] = f"none of {', '.join(BY_FEATURES)} is among --select"
        if not by_training:
            learned = ("feature_network", "feature_width", "feature_epochs", "feature_lr")
            found |= dict.fromkeys(learned, "nothing in --select looks at a trained network")
        return found


class Task(NamedTuple):
    """A comparison of coresets.

    Attributes:
        config: the settings.
        data: the real data.
        network: the network to train on the selected images.
        inits: p(θ0), the distribution of initial weights.
        recipe: the recipe by which the network is trained on the selected images.
        feature_network: the network that gives features, gradients and forgetting events.
        keys: the keys of the seed.
    """

    config: Selecting
    data: Dataset
    network: Network
    inits: InitDistribution
    recipe: Recipe
    feature_network: Network
    keys: Keys

    @classmethod
    def of(cls, config: Selecting, data: Dataset) -> Task:
        """Build everything that is needed before the first computation.

        Args:
            config: the settings.
            data: the real data.

        Returns:
            The parts of the comparison.

        Raises:
            ValueError: the settings do not fit each other or the data.
        """
        coresets.check_enough(data.train, config.images_per_class, data.num_classes)
        checks.positive("train_lr", config.train_lr)
        checks.positive("feature_lr", config.feature_lr)
        choice = choose_network(config, data)
        other = other_network(choice, name=config.feature_network, width=config.feature_width)
        network, feature_network = (
            build_network(one, data, conv_form=config.conv_form) for one in (choice, other)
        )
        check_split(data.test, network)
        recipe = trained_recipe(
            data,
            train_lr=config.train_lr,
            train_epochs=config.train_epochs,
            eval_augment=config.eval_augment,
            protocol=config.protocol,
        )
        drawn = random_inits(config, network)
        return cls(config, data, network, drawn, recipe, feature_network, Keys.of(config.seed))

    def learned(self) -> Learned:
        """Features, gradients and forgetting events of one training on all images, computed when needed.

        Returns:
            The knowledge that selections may use.
        """
        config, network = self.config, self.feature_network
        return Learned(
            self.data.train,
            network,
            random_inits(config, network),
            self.keys.theta,
            self.keys.run,
            epochs=config.feature_epochs,
            lr=config.feature_lr,
            from_pixels=config.features == "pixels",
        )

    def selected(self, name: str, learned: Learned) -> Coreset:
        """The images of a selection: a random set for each score, or a single set of any other selection.

        Args:
            name: the name of the selection.
            learned: the knowledge that the selection may use.

        Returns:
            The coreset.
        """
        config = self.config
        sizes = {"per_class": config.images_per_class, "num_sets": config.num_eval_inits}
        return coresets.select(name, learned, seed=config.seed, **sizes)

    def score(self, found: Coreset) -> Evaluation:
        """The test accuracy of networks trained on selected images.

        Args:
            found: the coreset.

        Returns:
            The accuracies, one for each set of initial weights.
        """
        count = self.config.num_eval_inits
        schedules = [coresets.weighted_schedule(images, found.weights) for images in found.sets]
        judge = Judge(self.network, self.inits, self.recipe, self.data.test, runs_at_once(count))
        which = jnp.arange(count, dtype=jnp.int32) % len(schedules)
        return Evaluation.of(judge.outcomes(schedules, which, jax.random.split(self.keys.test, count)))

    def write(self, path: Path, name: str, found: Coreset) -> None:
        """Write selected images, with their weights, as an artifact that any network can be trained on.

        Args:
            path: the file to write.
            name: the name of the selection.
            found: the coreset; of several sets the first is written.
        """
        schedule = coresets.weighted_schedule(found.sets[0], found.weights)
        own = {**provenance.facts(self.data), "method": name, **start_of(self.network, self.inits)}
        phi = Distilled(
            schedule,
            forms.constant(schedule),
            self.data.encoding,
            self.recipe,
            {"experiment": "coreset", **own},
        )
        artifact.save(path, phi)


def selections(config: Selecting) -> tuple[str, ...]:
    """The selections that the flag lists.

    Args:
        config: the settings.

    Returns:
        The names.

    Raises:
        ValueError: no selection is listed, one is listed twice or unknown, or one cannot select this number
            of images.
    """
    wanted = listed("select", config.select, SELECTIONS)
    if "class_mean" in wanted:
        remedy = "A class has one mean: leave class_mean out, or give --images_per_class=1."
        checks.equal("class_mean: images_per_class", config.images_per_class, 1, remedy=remedy)
    check_forgetting(wanted, config.feature_epochs)
    return wanted


def check_forgetting(wanted: tuple[str, ...], epochs: int) -> None:
    """Refuse to count forgetting events in a training in which nothing is seen twice.

    Args:
        wanted: the names of the selections.
        epochs: the number of passes of the training that they look at.

    Raises:
        ValueError: forgetting is among the selections, and the training has a single pass.
    """
    if "forgetting" in wanted:
        remedy = "Nothing is forgotten in a single epoch: give more --feature_epochs."
        checks.at_least("forgetting: feature_epochs", epochs, 2, remedy=remedy)


def measure(task: Task, wanted: tuple[str, ...], scores: Scores) -> dict[str, Any]:
    """What `result.json` says of a comparison; coresets and scores are kept as soon as they are known.

    Args:
        task: the parts of the comparison.
        wanted: the names of the selections.
        scores: the scores that are known already, to which the others are added.

    Returns:
        The findings.
    """
    learned, config = task.learned(), task.config
    for name in wanted:
        names = (name, UNWEIGHTED) if name == "craig" else (name,)
        if all(one in scores.known for one in names):
            continue
        selecting = time.monotonic()
        found = task.selected(name, learned)
        facts = {**found.facts, "seconds": {"select": time.monotonic() - selecting}}
        task.write(scores.workdir / f"{name}.npz", name, found)
        for one in names:
            weights = found.weights if one == name else None
            own = {} if weights is None else {"weights": weights.tolist()}
            scores.add(one, {**task.score(found._replace(weights=weights)).as_dict(), **facts, **own})
    layout = Layout(1, config.train_epochs, config.images_per_class)
    return {
        "network": task.network.name,
        "init": task.inits.name,
        "layout": layout.as_dict(task.data.num_classes),
        "recipe": recipes.as_dict(task.recipe),
        "baselines": scores.known,
    }

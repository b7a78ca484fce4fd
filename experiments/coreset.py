"""Measure coresets: networks trained from scratch on a few real images of each class, selected in many ways.

Features, gradients and forgetting events are those of one network trained on all images. CRAIG's images are
scored with its weights and with equal ones. The work directory keeps each score as it comes (a stopped run
continues with the next score), and the images as an artifact named after each selection.

Claim: MNIST, five networks. One image per class: herding 89.7 ± 0.8 (published 89.2 ± 1.6), random 67.1 ± 5.0
(64.9 ± 3.5). Ten images per class, 300 epochs of training: herding 96.0 ± 0.2 (93.7 ± 0.3), random 95.2 ± 0.4
(95.1 ± 0.9). The records' networks were trained by --protocol=plain, which scored higher than the
published protocol where both were measured.
Cost: two CPU cores beside other runs: 1,602 s for one image per class, 2,498 s for ten.
Records: results/condense-mnist-1-small.json, results/coreset-mnist-10.json

    python -m experiments.coreset --dataset=mnist --select=random,herding,k_center,forgetting,craig \
        --images_per_class=1 --train_epochs=1000 --eval_augment=dc --feature_width=32 --num_eval_inits=5
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ddjax import artifact, checks, coresets, forms, inits, networks, recipes
from ddjax.coresets import BY_FEATURES, SELECTIONS, Coreset, Learned
from ddjax.data import Dataset, provenance
from ddjax.judge import Evaluation, Judge, check_split
from ddjax.launch import Keys, Launcher, Layout, Scores, inputs_of, once, results
from ddjax.launch.choices import (
    build_network,
    choose_network,
    load_data,
    other_network,
    runs_at_once,
    trained_recipe,
)
from ddjax.launch.flags import flag, flag_like, listed
from ddjax.launch.settings import AUGMENTATIONS, DataChoice, Matching, Where
from ddjax.networks.ops import CONV_FORMS
from ddjax.recipes import MOST_EPOCHS
from ddjax.types import Distilled, InitDistribution, Network, Recipe, start_of

UNWEIGHTED = "craig, equal weights"


@dataclasses.dataclass(frozen=True)
class Config(Where, DataChoice):
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
    """The parts of a comparison of coresets, built from the settings.

    Attributes:
        config: the settings.
        data: the real data.
        network: the network to train on the selected images.
        inits: p(θ0), the distribution of initial weights.
        recipe: the recipe by which the network is trained on the selected images.
        feature_network: the network that gives features, gradients and forgetting events.
        keys: the keys of the seed.
    """

    config: Config
    data: Dataset
    network: Network
    inits: InitDistribution
    recipe: Recipe
    feature_network: Network
    keys: Keys


def selections(config: Config) -> tuple[str, ...]:
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
    if "forgetting" in wanted:
        remedy = "Nothing is forgotten in a single epoch: give more --feature_epochs."
        checks.at_least("forgetting: feature_epochs", config.feature_epochs, 2, remedy=remedy)
    return wanted


def task_of(config: Config, data: Dataset) -> Task:
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
    network, feature_network = (
        build_network(one, data, conv_form=config.conv_form)
        for one in (choice, other_network(choice, name=config.feature_network, width=config.feature_width))
    )
    check_split(data.test, network)
    recipe = trained_recipe(
        data,
        train_lr=config.train_lr,
        train_epochs=config.train_epochs,
        eval_augment=config.eval_augment,
        protocol=config.protocol,
    )
    distribution = inits.random(network, scheme=config.init, gain=config.init_gain)
    return Task(config, data, network, distribution, recipe, feature_network, Keys.of(config.seed))


def learned_of(task: Task) -> Learned:
    """Features, gradients and forgetting events of one training on all images, computed when first needed.

    Args:
        task: the parts of the comparison.

    Returns:
        The knowledge that selections may use.
    """
    config, network = task.config, task.feature_network
    return Learned(
        task.data.train,
        network,
        inits.random(network, scheme=config.init, gain=config.init_gain),
        task.keys.theta,
        task.keys.run,
        epochs=config.feature_epochs,
        lr=config.feature_lr,
        from_pixels=config.features == "pixels",
    )


def coreset(name: str, task: Task, learned: Learned) -> Coreset:
    """The images that a selection takes: a random set for each score, or a single set of any other selection.

    Args:
        name: the name of the selection.
        task: the parts of the comparison.
        learned: the knowledge that the selection may use.

    Returns:
        The coreset.
    """
    config = task.config
    return coresets.select(
        name,
        learned,
        per_class=config.images_per_class,
        seed=config.seed,
        num_sets=config.num_eval_inits,
    )


def score(task: Task, found: Coreset) -> Evaluation:
    """The test accuracy of networks trained on selected images.

    Args:
        task: the parts of the comparison.
        found: the coreset.

    Returns:
        The accuracies, one for each set of initial weights.
    """
    count = task.config.num_eval_inits
    schedules = [coresets.weighted_schedule(images, found.weights) for images in found.sets]
    judge = Judge(task.network, task.inits, task.recipe, task.data.test, runs_at_once(count))
    which = jnp.arange(count, dtype=jnp.int32) % len(schedules)
    return Evaluation.of(judge.outcomes(schedules, which, jax.random.split(task.keys.test, count)))


def write_artifact(path: Path, name: str, task: Task, found: Coreset) -> None:
    """Write selected images, with their weights, as an artifact that any network can be trained on.

    Args:
        path: the file to write.
        name: the name of the selection.
        task: the parts of the comparison.
        found: the coreset; of several sets the first is written.
    """
    schedule = coresets.weighted_schedule(found.sets[0], found.weights)
    metadata = {
        "experiment": "coreset",
        **provenance.facts(task.data),
        "method": name,
        **start_of(task.network, task.inits),
    }
    encoding = task.data.encoding
    artifact.save(path, Distilled(schedule, forms.constant(schedule), encoding, task.recipe, metadata))


def measure(task: Task, wanted: Sequence[str], scores: Scores, workdir: Path) -> dict[str, Any]:
    """The content of `result.json`; each score is kept as soon as it is known.

    Args:
        task: the parts of the comparison.
        wanted: the names of the selections.
        scores: the scores that are known already, to which the others are added.
        workdir: the directory of the artifacts.

    Returns:
        The record.
    """
    began, learned, config = time.monotonic(), learned_of(task), task.config
    for name in wanted:
        names = (name, UNWEIGHTED) if name == "craig" else (name,)
        if all(one in scores.known for one in names):
            continue
        selecting = time.monotonic()
        found = coreset(name, task, learned)
        facts = {**found.facts, "seconds": {"select": time.monotonic() - selecting}}
        write_artifact(workdir / f"{name}.npz", name, task, found)
        for one in names:
            weights = found.weights if one == name else None
            own = {} if weights is None else {"weights": weights.tolist()}
            scores.add(one, {**score(task, found._replace(weights=weights)).as_dict(), **facts, **own})
    layout = Layout(1, config.train_epochs, config.images_per_class)
    measured = {
        "network": task.network.name,
        "init": task.inits.name,
        "layout": layout.as_dict(task.data.num_classes),
        "recipe": recipes.as_dict(task.recipe),
        "baselines": scores.known,
    }
    seconds = {"total": time.monotonic() - began}
    return results.record("coreset", task.data.name, measured, seconds=seconds, seed=config.seed)


def run(config: Config) -> dict[str, Any]:
    """Select, train, test, print and return the scores; or find them measured.

    Args:
        config: the settings.

    Returns:
        The content of `result.json`.

    Raises:
        ValueError: the settings do not fit each other, the data or the directory.
        FileNotFoundError: the data are missing.
    """
    wanted, task = selections(config), task_of(config, load_data(config))
    workdir = Path(config.workdir or f"runs/coreset-{Path(config.dataset).stem}-{config.images_per_class}")
    return once(
        workdir,
        config,
        lambda: measure(task, wanted, Scores(workdir), workdir),
        experiment="coreset",
        what=f"coresets of {task.data.name}, {config.images_per_class} image(s) of each class: "
        f"{task.network.name} from {task.inits.name}, {config.train_epochs} epochs",
        written="scores.json, result.json, an .npz for each",
        inputs=inputs_of(config, task.data),
    )


LAUNCHER = Launcher("coreset", __doc__, Config, run=run)

if __name__ == "__main__":
    LAUNCHER.main()

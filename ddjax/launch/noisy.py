"""The parts of a comparison of selections under label noise: data, noise, trainings, what is measured."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddjax import checks, figures, predictions, report, teachers
from ddjax.coresets import robust
from ddjax.coresets.by_name import Learned
from ddjax.coresets.once import ONCE, select_once
from ddjax.coresets.robust import Robust, Selected
from ddjax.data import Dataset, Noisy, Split, corrupt, transition
from ddjax.data.noise import KINDS, with_training_split
from ddjax.judge import Chunks, Evaluation, Judge, chunks
from ddjax.launch import onward
from ddjax.launch.choices import fewer, load_data, random_inits, spelled_network
from ddjax.launch.flags import flag, listed
from ddjax.launch.kept import Scores
from ddjax.launch.settings import DataChoice, Where
from ddjax.recipes import Train
from ddjax.types import InitDistribution, Network, Params

AFRESH = Train(lr=1e-3, weight_decay=0.0, batch_size=128, protocol="constant", optimizer="adam", steps=600)
"""The training of new networks on what a selection made once has taken."""


class NoisyTask(NamedTuple):
    """A comparison under label noise.

    Attributes:
        data: the real data with their own labels.
        matrix: `[K, K]`, the probabilities of the labels (`ddjax.data.transition`).
        network: the network to train.
        inits: p(θ0), the distribution of initial weights.
        settings: the settings of trainings, of which each takes what it uses.
        epochs: the number of passes of each training.
        last: the number of last epochs whose test accuracies are averaged.
    """

    data: Dataset
    matrix: np.ndarray
    network: Network
    inits: InitDistribution
    settings: Selected
    epochs: int
    last: int

    def noisy(self, seed: int) -> Noisy:
        """The training split under the noisy labels of a seed.

        Args:
            seed: the seed.

        Returns:
            The split, and which labels are right.
        """
        return corrupt(self.data.train, self.matrix, seed=seed)


class Trained(NamedTuple):
    """What one training under label noise gave.

    Attributes:
        kept: `[n]` bool, the images of the last epoch.
        pure: `[epochs]`, the percentage of right labels among the kept ones.
        validation: `[epochs]`, the accuracy on the validation split, in percent.
        test: the mean over the last epochs of the accuracy on the test split, in percent.
        worst: the same of the class with the lowest such mean.
    """

    kept: np.ndarray
    pure: np.ndarray
    validation: np.ndarray
    test: float
    worst: float


@dataclasses.dataclass(frozen=True)
class Noise(Where, DataChoice):
    """The settings of a comparison under label noise."""

    noise: str = flag("symmetric", "what wrong labels are drawn from", choices=KINDS)
    rate: float = flag(0.4, "share of wrong labels, which scores know", low=0)
    select: str = flag("all,loss,score1,score3,crust,clean", f"trainings, of {', '.join(robust.TRAININGS)}")
    once: str | None = flag(None, f"selections made once after a warm-up, of {', '.join(ONCE)}")
    images_per_class: int | None = flag(
        None, "images of each class for --once; by default half of all", low=1
    )
    num_examples: int | None = flag(None, "training images, drawn; by default all", low=1)
    epochs: int = flag(30, "passes of each training", low=1)
    last_epochs: int = flag(3, "last epochs whose test accuracies are averaged", low=1)
    ramp: int = flag(10, "epochs in which selections grow to their full share", low=1)
    batch_size: int = flag(128, "images in one step", low=1)
    train_lr: float = flag(1e-3, "rate of Adam", positive=True)
    buffer_length: int = flag(256, "losses kept of each class", low=1)
    warm_up: int = flag(3, "passes before a selection is made once", low=1)
    warm_up_lr: float = flag(0.05, "learning rate of these passes at the start", positive=True)
    num_seeds: int = flag(5, "draws of noise, initial weights and order behind each score", low=1)
    distil: str | None = flag(None, "distil what is kept: NAME:flag=value:flag=value of a launcher")

    def task(self) -> NoisyTask:
        """The comparison that the settings ask for.

        Returns:
            The parts of the comparison.

        Raises:
            ValueError: the settings do not fit each other or the data.
            FileNotFoundError: the data are missing.
        """
        for name, known in (("select", robust.TRAININGS), ("once", tuple(ONCE))):
            if getattr(self, name) is not None:
                listed(name, getattr(self, name), known)
        if "forgetting" in (self.once or ""):
            remedy = "Nothing is forgotten in a single epoch: give more --warm_up."
            checks.at_least("forgetting: warm_up", self.warm_up, 2, remedy=remedy)
        data = load_data(self)
        train = fewer(data.train, self.num_examples, seed=self.seed)
        data = dataclasses.replace(data, train=train)
        network = spelled_network(self, data)
        settings = Selected("loss", self.rate, self.ramp, self.batch_size, self.train_lr, self.buffer_length)
        start = random_inits(self, network)
        matrix = transition(self.noise, self.rate, data.num_classes)
        return NoisyTask(data, matrix, network, start, settings, self.epochs, self.last_epochs)

    def idle(self) -> dict[str, str]:
        """The settings that change nothing under the other settings.

        Returns:
            The reasons, by the names of the flags.
        """
        found = super().idle()
        if self.once is None:
            alone = ("images_per_class", "warm_up", "warm_up_lr")
            found |= dict.fromkeys(alone, "no selection is made once (--once)")
        return found


def trained(task: NoisyTask, name: str, *, seed: int) -> Trained:
    """Train a network under the noise of a seed. The test split is read after the last epochs alone.

    Args:
        task: the comparison.
        name: the way to train, one of `ddjax.coresets.robust.TRAININGS`.
        seed: the seed of the noise, of θ0 and of the order of the images.

    Returns:
        What the training gave.
    """
    noisy, (theta_key, key) = task.noisy(seed), jax.random.split(jax.random.key(seed))

    splits = task.data.validation, task.data.test
    pieces = [chunks(split) for split in splits]

    def watch(epoch: int, params: Params) -> list[np.ndarray]:
        read = slice(2 if epoch >= task.epochs - task.last else 1)
        both = zip(splits[read], pieces[read], strict=True)
        return [_by_class(task.network, params, split, piece) for split, piece in both]

    start = jax.jit(task.inits.sample)(theta_key)
    found = robust.by_name(
        name, task.network, start, noisy, key, settings=task.settings, epochs=task.epochs, watch=watch
    )
    return _summary(found, noisy)


def _by_class(network: Network, params: Params, split: Split, pieces: Chunks) -> np.ndarray:
    """`[1 + K]`, the accuracy on a split and on each of its classes, in percent."""
    logits = predictions.logits(network, params, split, pieces=pieces)
    whole = 100 * np.mean(np.argmax(logits, -1) == split.labels)
    return np.array([whole, *predictions.class_accuracies(logits, split.labels)])


def _summary(found: Robust, noisy: Noisy) -> Trained:
    tests = np.mean([seen[1] for seen in found.watched if len(seen) > 1], 0)
    return Trained(
        found.kept[-1],
        np.array([100 * noisy.clean[kept].mean() for kept in found.kept]),
        np.array([seen[0][0] for seen in found.watched]),
        float(tests[0]),
        float(np.nanmin(tests[1:])),
    )


def summarised(runs: Sequence[Trained]) -> dict[str, Any]:
    """The trainings of several seeds, for a record.

    Args:
        runs: the trainings.

    Returns:
        Mean, standard deviation and values of the test accuracy; those of the worst class as `worst`; of the
        kept images' purity in the last epoch as `pure`; and the curves `pure_rate` and `validation`,
        `[seeds][epochs]`.
    """
    return {
        **Evaluation.of(np.array([run.test for run in runs])).as_dict(),
        "worst": Evaluation.of(np.array([run.worst for run in runs])).as_dict(),
        "pure": Evaluation.of(np.array([run.pure[-1] for run in runs])).as_dict(),
        "pure_rate": [run.pure.tolist() for run in runs],
        "validation": [run.validation.tolist() for run in runs],
    }


def warmed_up(
    task: NoisyTask, seeds: Sequence[int], *, epochs: int, lr: float
) -> dict[int, tuple[Noisy, Learned]]:
    """What selections that are made once look at: a short training on all noisy labels of each seed.

    Args:
        task: the comparison.
        seeds: the seeds of the noise.
        epochs: the number of passes of the short training, which counts forgetting events too.
        lr: the learning rate of the short training at its start.

    Returns:
        The noisy split of each seed, and the training, which is done when first asked for.
    """
    found = {}
    for seed in seeds:
        noisy, keys = task.noisy(seed), jax.random.split(jax.random.key(seed), 3)
        learned = Learned(noisy.split, task.network, task.inits, keys[0], keys[1], epochs=epochs, lr=lr)
        found[seed] = noisy, learned
    return found


def chosen_once(
    task: NoisyTask, name: str, warm: Mapping[int, tuple[Noisy, Learned]], *, per_class: int | None
) -> dict[str, Any]:
    """A selection made once after a short training on all noisy labels, scored by new networks.

    Args:
        task: the comparison.
        name: the selection, one of `ddjax.coresets.once.ONCE`.
        warm: what `warmed_up` returned; one network is trained for each seed.
        per_class: the number of images of each class; None for half of each.

    Returns:
        Mean, standard deviation and values of the test accuracy, and those of the purity as `pure`.
    """
    judge = Judge(task.network, task.inits, AFRESH, task.data.test)
    tests, pure = [], []
    for seed, (noisy, learned) in warm.items():
        found = select_once(name, learned, per_class=per_class, seed=seed)
        labels = np.eye(task.data.num_classes, dtype=np.float32)[noisy.split.labels[found.rows]]
        weighted = labels * found.weights[:, None].astype(np.float32)
        schedule = teachers.of_examples(noisy.split.at(found.rows).encoded(), weighted)
        key = jax.random.split(jax.random.key(seed), 3)[2:]
        tests.append(judge.accuracies([schedule], jnp.zeros(1, jnp.int32), key)[0])
        pure.append(100 * noisy.clean[found.rows].mean())
    return {
        **Evaluation.of(np.array(tests)).as_dict(),
        "pure": Evaluation.of(np.array(pure)).as_dict(),
    }


def measure(config: Noise, task: NoisyTask, scores: Scores) -> dict[str, Any]:
    """What `result.json` says of the selections; each score is kept as soon as it is known.

    Args:
        config: the settings.
        task: the comparison.
        scores: the scores that are known already, to which the others are added.

    Returns:
        The findings.
    """
    seeds = range(config.seed, config.seed + config.num_seeds)
    warm = warmed_up(task, seeds, epochs=config.warm_up, lr=config.warm_up_lr)

    def while_training(name: str) -> dict[str, Any]:
        runs = [trained(task, name, seed=seed) for seed in seeds]
        found = summarised(runs)
        if config.distil:
            split = task.noisy(config.seed).split.at(runs[0].kept)
            data = with_training_split(task.data, split, name=f"{task.data.name}, noisy, {name}")
            where = scores.workdir / name
            found["distilled"] = onward.distilled(config.distil, data, where, seed=config.seed).score
        return found

    def made_once(name: str) -> dict[str, Any]:
        return chosen_once(task, name, warm, per_class=config.images_per_class)

    training = listed("select", config.select, robust.TRAININGS)
    wanted = {name: functools.partial(while_training, name) for name in training}
    for name in listed("once", config.once, tuple(ONCE)) if config.once else ():
        wanted[f"once {name}"] = functools.partial(made_once, name)
    scores.each(wanted)
    facts = {"network": task.network.name, "num_examples": len(task.data.train)}
    return {**facts, "selections": scores.known}


def table(result: dict[str, Any]) -> str:
    """A row for each selection: accuracy, purity, the worst class, and what was distilled from what it kept.

    Args:
        result: the content of `result.json`.

    Returns:
        The table as text.
    """
    columns = ("pure", "worst", "distilled")
    rows = [
        (name, report.format_score(one), *(report.format_score(one[c]) if c in one else "" for c in columns))
        for name, one in result["selections"].items()
    ]
    return report.table(rows, ("test, %", "accuracy", "right labels", "worst class", "distilled"))


def draw(path: Path, result: dict[str, Any], field: str, y_label: str) -> None:
    """Draw the curves of all trainings over the epochs, means over the seeds.

    Args:
        path: the file of the figure.
        result: the content of `result.json`.
        field: the curves to draw, `pure_rate` or `validation`.
        y_label: the name of the vertical axis.
    """
    curves = {name: one[field] for name, one in result["selections"].items() if field in one}
    series = [
        figures.Line(name, range(1, len(runs[0]) + 1), np.mean(runs, 0).tolist(), marked=False)
        for name, runs in curves.items()
    ]
    figures.lines(path, series, x_label="epoch", y_label=y_label, title=result["dataset"])


PICTURES = {
    "pure_rate.png": functools.partial(draw, field="pure_rate", y_label="right labels among the kept, %"),
    "accuracy.png": functools.partial(draw, field="validation", y_label="validation accuracy, %"),
}
"""The figures of a comparison: the purity of what is kept, and the accuracy, over the epochs."""

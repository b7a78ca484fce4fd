"""Students under several labels of the same inputs: the trainings, their scores over seeds, the table."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddjax import predictions, report, teachers
from ddjax.data import Dataset, Split
from ddjax.judge import Evaluation
from ddjax.launch.choices import load_data, random_inits, spelled_network
from ddjax.launch.flags import flag, numbers
from ddjax.launch.kept import each_seed, recorded_once
from ddjax.launch.settings import DataChoice, Where
from ddjax.recipes import Train
from ddjax.types import InitDistribution, Network, Params


class School(NamedTuple):
    """Who learns, and where all are tested.

    Attributes:
        experiment: the launcher's name.
        data: the real data.
        network: the network of teachers and students.
        inits: p(θ0), the distribution of initial weights.
        recipe: the recipe of the students.
        teacher: the recipe of the teachers.
    """

    experiment: str
    data: Dataset
    network: Network
    inits: InitDistribution
    recipe: Train
    teacher: Train

    def one_hot(self, labels: np.ndarray) -> np.ndarray:
        """Labels as probabilities.

        Args:
            labels: `[n]` whole numbers in [0, K).

        Returns:
            `[n, K]` float32.
        """
        return np.eye(self.data.num_classes, dtype=np.float32)[labels]

    def trained(
        self,
        inputs: np.ndarray | jax.Array,
        labels: np.ndarray | jax.Array,
        key: jax.Array,
        *,
        is_teacher: bool = False,
    ) -> Params:
        """The weights of one network after its training.

        Args:
            inputs: `[n, *input_shape]`, the encoded examples.
            labels: `[n, K]`, the labels.
            key: the source of θ0 and of the order of the examples. Consumed.
            is_teacher: whether the teachers' recipe is used.

        Returns:
            The trained weights.
        """
        recipe = self.teacher if is_teacher else self.recipe
        schedule = teachers.of_examples(inputs, labels)
        found = teachers.train(self.network, self.inits, recipe, schedule, keys=key[None])
        return jax.tree.map(lambda leaf: leaf[0], found)

    def score(self, params: Params) -> Score:
        """The accuracies of a network.

        Args:
            params: the weights of the network.

        Returns:
            Those on the validation and the test split.
        """
        on = self.data.validation, self.data.test
        return Score(*(predictions.accuracy(self.network, params, split) for split in on))


class Score(NamedTuple):
    """The accuracies of one network.

    Attributes:
        validation: the accuracy on the validation split, in percent.
        test: the accuracy on the test split, in percent.
    """

    validation: float
    test: float


class Seat(NamedTuple):
    """Some training examples with all that is known of them.

    Attributes:
        split: the examples with their own labels.
        inputs: `[n, *input_shape]`, the encoded examples.
    """

    split: Split
    inputs: np.ndarray

    @classmethod
    def drawn(cls, split: Split, counts: Sequence[int], *, seed: int) -> list[Seat]:
        """Groups of examples that have none in common.

        Args:
            split: the examples to draw from.
            counts: the number of examples of each group.
            seed: the seed of the draw.

        Returns:
            The groups.

        Raises:
            ValueError: there are fewer examples than the groups need.
        """
        if sum(counts) > len(split):
            raise ValueError(
                f"examples: expected at most {len(split):,}, which the training split has; got "
                f"{' + '.join(f'{one:,}' for one in counts)}. Ask for fewer."
            )
        order, places = np.random.default_rng(seed).permutation(len(split)), np.cumsum([0, *counts])
        parts = [split.at(np.sort(order[a:b])) for a, b in itertools.pairwise(places)]
        return [cls(part, part.encoded()) for part in parts]


@dataclasses.dataclass(frozen=True)
class Schooling(Where, DataChoice):
    """The settings that all comparisons of students have."""

    temperature: float = flag(1.0, "T of the teacher's labels, and of the training on them", positive=True)
    epochs: int = flag(12, "passes of a student over its examples", low=1)
    teacher_epochs: int = flag(100, "passes of a teacher over its examples", low=1)
    batch_size: int = flag(128, "examples in one step", low=1)
    train_lr: float = flag(1e-3, "learning rate of Adam; a tenth after half of the steps", positive=True)
    num_seeds: int = flag(5, "draws of examples, labels and initial weights", low=1)

    def school(self, *, experiment: str) -> School:
        """Who learns, and from which data.

        Args:
            experiment: the launcher's name.

        Returns:
            The parts of the comparison.

        Raises:
            ValueError: the settings do not fit each other or the data.
            FileNotFoundError: the data are missing.
        """
        data = load_data(self)
        network = spelled_network(self, data)

        def adam(epochs: int, temperature: float) -> Train:
            return Train(
                lr=self.train_lr,
                weight_decay=0.0,
                epochs=epochs,
                batch_size=self.batch_size,
                optimizer="adam",
                temperature=temperature,
            )

        recipes = adam(self.epochs, self.temperature), adam(self.teacher_epochs, 1.0)
        return School(experiment, data, network, random_inits(self, network), *recipes)


OneSeed = Callable[[int], tuple[Mapping[str, "Score"], Mapping[str, float]]]
"""`seed -> (scores by name, facts by name)`, all trainings of one seed."""


def compared(config: Schooling, school: School, one: OneSeed, *, what: str) -> dict[str, Any]:
    """The result of a comparison: measured over the seeds and written, or found in the work directory.

    Args:
        config: the settings.
        school: who learns.
        one: the trainings of one seed.
        what: a line that says what is compared.

    Returns:
        The content of `result.json`.

    Raises:
        ValueError: the work directory belongs to something else.
    """
    seeds = range(config.seed, config.seed + config.num_seeds)
    own = {"network": school.network.name, "init": school.inits.name}
    return recorded_once(
        school.experiment,
        config,
        school.data,
        lambda scores: {**own, **measured(one, scores.workdir, seeds)},
        what=f"{school.data.name}: {what}",
        written="seeds.json, result.json",
        table=table,
    )


def measured(one: OneSeed, workdir: Path, seeds: Sequence[int]) -> dict[str, Any]:
    """The scores of several seeds, for a record.

    Args:
        one: the trainings of one seed.
        workdir: the directory where each seed is kept as soon as it is known.
        seeds: the seeds.

    Returns:
        `scores`: for each name mean, standard deviation and values on the test split, and those on the
        validation split as `validation`; `facts`: the values of each fact.
    """

    def kept(number: int) -> dict[str, Any]:
        scores, facts = one(number)
        shown = ", ".join(f"{name} {score.test:.1f}" for name, score in scores.items())
        print(f"seed {number}: {shown}", flush=True)
        return {"scores": {name: score._asdict() for name, score in scores.items()}, "facts": dict(facts)}

    runs = each_seed(workdir, seeds, kept)
    scores = [{name: Score(**score) for name, score in run["scores"].items()} for run in runs]
    facts = [run["facts"] for run in runs]
    return {
        "scores": {
            name: {
                **_evaluation([run[name].test for run in scores]),
                "validation": _evaluation([run[name].validation for run in scores]),
            }
            for name in scores[0]
        },
        "facts": {name: [run[name] for run in facts] for name in facts[0]},
    }


def _evaluation(values: Sequence[float]) -> dict[str, Any]:
    return dict(Evaluation.of(np.array(values)).as_dict())


def table(result: Mapping[str, Any]) -> str:
    """A row for each student, then the means of the facts.

    Args:
        result: the content of `result.json`.

    Returns:
        The table as text.
    """
    rows = [
        (name, report.format_score(one), report.format_score(one["validation"]), one["n"])
        for name, one in result["scores"].items()
    ]
    means = [f"{name} {np.mean(values):.3g}" for name, values in result["facts"].items()]
    text = report.table(rows, ("accuracy, %", "test", "validation", "n"))
    return f"{text}\n\n{', '.join(means)}" if means else text


def shares(name: str, text: str) -> tuple[float, ...]:
    """The shares in the value of a flag, numbers from 0 to 1.

    Args:
        name: the name of the flag.
        text: the value of the flag, with commas between the numbers.

    Returns:
        The numbers, in their order.

    Raises:
        ValueError: a part of the text is no such number.
    """
    found = numbers(name, text, float)
    for one in found:
        if not 0 <= one <= 1:
            raise ValueError(f"{name}: expected numbers from 0 to 1; got {one:g}. Give shares, e.g. 0,0.5,1.")
    return found


def stacked(*parts: Any) -> jax.Array:
    """Labels or inputs of several groups, one group after the other.

    Args:
        *parts: the groups, each `[n, ...]`.

    Returns:
        `[sum of n, ...]`.
    """
    return jnp.concatenate([jnp.asarray(part) for part in parts])

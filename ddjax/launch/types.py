"""The vocabulary of launchers: the parts that a launcher builds, a run before and after the outer loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from ddjax.data import Dataset
from ddjax.launch.settings import Common
from ddjax.plan import Plan
from ddjax.run import Run
from ddjax.types import Form, InitDistribution, Method, Network, Outer, Schedule


class Keys(NamedTuple):
    """The random keys of a run, all split from its seed; none is used twice.

    Attributes:
        theta: the key of the one θ0 where p(θ0) is fixed.
        run: the key of the distillation.
        validation: the key of the initial weights that choose the best φ.
        test: the key of the initial weights of the final score.
        baselines: the key of the initial weights of the baselines.
    """

    theta: jax.Array
    run: jax.Array
    validation: jax.Array
    test: jax.Array
    baselines: jax.Array

    @classmethod
    def of(cls, seed: int) -> Keys:
        """The keys of a seed.

        Args:
            seed: the seed of the run.

        Returns:
            The keys.
        """
        return cls(*jax.random.split(jax.random.key(seed), len(cls._fields)))


class Layout(NamedTuple):
    """How many images φ has, and in how many steps; baselines lay real images out in the same way.

    Attributes:
        inner_steps: S, the number of inner steps that have images of their own.
        inner_epochs: E, the number of passes over these steps.
        per_class_per_step: the number of images of one class in one step.
        per_step: the number of all images in one step, where that is no multiple of the number of classes;
            None where each class has as many.
    """

    inner_steps: int
    inner_epochs: int
    per_class_per_step: int
    per_step: int | None = None

    def as_dict(self, num_classes: int) -> dict[str, int]:
        """S, E and the number of all images, for a record.

        Args:
            num_classes: K, the number of classes.

        Returns:
            The numbers, by name.
        """
        images = self.inner_steps * (self.per_step or self.per_class_per_step * num_classes)
        return {"steps": self.inner_steps, "epochs": self.inner_epochs, "images": images}


class Facts(NamedTuple):
    """The facts about the parts that are written to files.

    Attributes:
        layout: the sizes of φ.
        plan: the automatic choices by name, for `plan.json`.
        network_settings: the settings that `ddjax.networks.by_name` needs to build the network again, for the
            artifact.
    """

    layout: Layout
    plan: Mapping[str, Any]
    network_settings: Mapping[str, Any]


class Hooks(NamedTuple):
    """The functions by which a launcher departs from what all others do.

    Attributes:
        score: makes the function `schedule -> percent` that the best φ is chosen by; by default accuracy on
            the validation split.
        measure: makes the content of `result.json`; by default `ddjax.launch.results.measure`.
        settle: chooses, on the validation split, what the outer loop has left open, such as the number of
            training steps in the recipe; by default nothing is left open.
    """

    score: Callable[[Launch], Callable[[Schedule], jax.Array | float]] | None = None
    measure: Callable[[Finished], dict[str, Any]] | None = None
    settle: Callable[[Launch, Run], Run] | None = None


@dataclasses.dataclass(frozen=True)
class Parts:
    """The choices of a distillation's launcher; everything else is the same for all launchers.

    Attributes:
        network: the network that trains on φ.
        inits: p(θ0), the distribution of initial weights.
        method: the method, with the loss of the outer loop.
        form: the parametrisation of φ.
        outer: the outer optimiser, which moves φ.
        num_outer_steps: the number of updates of φ.
        facts: the facts about these parts that are written to files.
        eval_inits: p(θ0) of the final score where it differs, such as the held-out members of a pool; else
            None.
        hooks: the functions by which this launcher departs from the others.
    """

    network: Network
    inits: InitDistribution
    method: Method
    form: Form
    outer: Outer
    num_outer_steps: int
    facts: Facts
    eval_inits: InitDistribution | None = None
    hooks: Hooks = dataclasses.field(default_factory=Hooks)

    @property
    def judged_inits(self) -> InitDistribution:
        """p(θ0) of the final score."""
        return self.eval_inits or self.inits


Build = Callable[[Any, Dataset, Keys, Plan], Parts]
"""`(config, data, keys, plan) -> Parts`: all that the launcher of a distillation has of its own.

The function gets the settings, the real data, the keys of the seed and the plan, with the form of
convolutions and the memory strategy. It returns the parts, and raises ValueError where the settings do not
fit each other or the data, FileNotFoundError where a file that a flag names is missing. The docstring of a
launcher's own function does not say that again.
"""


@dataclasses.dataclass(frozen=True)
class Case:
    """The run that a plan is made for.

    Attributes:
        config: the settings as the user gave them.
        data: the real data.
        keys: the keys of the seed.
        build: the function that builds the launcher's parts.
        start: the plan that the flags and the backend's default make.
    """

    config: Common
    data: Dataset
    keys: Keys
    build: Build
    start: Plan

    def parts(self, plan: Plan) -> Parts:
        """The parts under a plan.

        Args:
            plan: the plan.

        Returns:
            The parts.
        """
        return self.build(self.config, self.data, self.keys, plan)


@dataclasses.dataclass(frozen=True)
class Launch:
    """One run, ready to start.

    Attributes:
        experiment: the launcher's name.
        case: the settings, the real data, the keys and the function that builds the parts.
        plan: the plan by which the parts are computed; the case's first plan until the final one is settled.
        parts: the choices of the launcher.
        workdir: the directory of all files that the run writes.
        inputs: the identity of the data and files that the run reads (`ddjax.launch.inputs_of`).
    """

    experiment: str
    case: Case
    plan: Plan
    parts: Parts
    workdir: Path
    inputs: Mapping[str, Any]

    @property
    def config(self) -> Any:
        """The settings as the user gave them."""
        return self.case.config

    @property
    def data(self) -> Dataset:
        """The real data."""
        return self.case.data

    @property
    def keys(self) -> Keys:
        """The keys of the seed."""
        return self.case.keys


class Finished(NamedTuple):
    """A run whose outer loop has ended, and whose final numbers are still to be measured.

    Attributes:
        launch: the run.
        outcome: the outcome of the outer loop.
        began: the time when the run began, on the monotonic clock.
    """

    launch: Launch
    outcome: Run
    began: float

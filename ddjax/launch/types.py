"""The vocabulary of launchers: what one of them builds, how that is carried out, what it ends with."""

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
    """The keys of a run, all from its seed; none is used twice.

    Attributes:
        theta: θ0 of a fixed p(θ0).
        run: the distillation.
        validation: the initial weights that choose the best φ.
        test: the initial weights of the final score.
        baselines: the initial weights of the baselines.
    """

    theta: jax.Array
    run: jax.Array
    validation: jax.Array
    test: jax.Array
    baselines: jax.Array

    @classmethod
    def of(cls, seed: int) -> Keys:
        """Split a seed."""
        return cls(*jax.random.split(jax.random.key(seed), len(cls._fields)))


class Layout(NamedTuple):
    """How many images φ has, and in how many steps; baselines lay real images out in the same way.

    Attributes:
        inner_steps: S.
        inner_epochs: E.
        per_class_per_step: images of one class in one step.
    """

    inner_steps: int
    inner_epochs: int
    per_class_per_step: int

    def as_dict(self, num_classes: int) -> dict[str, int]:
        """S, E and the number of all images, for a record."""
        images = self.inner_steps * self.per_class_per_step * num_classes
        return {"steps": self.inner_steps, "epochs": self.inner_epochs, "images": images}


class Facts(NamedTuple):
    """What files say of the parts.

    Attributes:
        layout: the sizes of φ.
        plan: the automatic choices by name, for `plan.json`.
        network_settings: what `ddjax.networks.by_name` needs to build the network again, for the artifact.
    """

    layout: Layout
    plan: Mapping[str, Any]
    network_settings: Mapping[str, Any]


class Hooks(NamedTuple):
    """What a launcher does in its own way instead of as all do.

    Attributes:
        score: makes the function `schedule -> percent` that the best φ is chosen by; by default accuracy on
            the validation split.
        measure: makes what `result.json` holds; by default `ddjax.launch.results.measure`.
    """

    score: Callable[[Launch], Callable[[Schedule], jax.Array]] | None = None
    measure: Callable[[Finished], dict[str, Any]] | None = None


@dataclasses.dataclass(frozen=True)
class Parts:
    """What a launcher of a distillation chooses; everything else is the same for all.

    Attributes:
        network: the network that trains on φ.
        inits: p(θ0).
        method: the loss.
        form: the parametrisation of φ.
        outer: how φ moves.
        num_outer_steps: the number of updates of φ.
        facts: what files say of all this.
        eval_inits: p(θ0) of the final score where it is another one, e.g. the held-out members of a pool.
        hooks: what is done in the launcher's own way.
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
"""`(config, data, keys, plan) -> Parts`: all that a launcher of a distillation says of its own."""


@dataclasses.dataclass(frozen=True)
class Case:
    """What a plan is made for.

    Attributes:
        config: the settings as the user gave them.
        data: the real data.
        keys: the keys of the seed.
        build: the function that makes the launcher's parts.
        start: the plan that flags and the backend's default make.
    """

    config: Common
    data: Dataset
    keys: Keys
    build: Build
    start: Plan

    def parts(self, plan: Plan) -> Parts:
        """The parts under a plan."""
        return self.build(self.config, self.data, self.keys, plan)


@dataclasses.dataclass(frozen=True)
class Launch:
    """One run, ready to go.

    Attributes:
        experiment: the launcher's name.
        case: the settings, the real data, the keys and how to build the parts.
        plan: how the parts are computed; the start of the case until the run is settled.
        parts: what the launcher chose.
        workdir: the directory of all that the run writes.
    """

    experiment: str
    case: Case
    plan: Plan
    parts: Parts
    workdir: Path

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
    """A run whose outer loop has ended; what is measured of it follows.

    Attributes:
        launch: the run.
        outcome: what the outer loop returned.
        began: when the run began, on the monotonic clock.
    """

    launch: Launch
    outcome: Run
    began: float

"""A schedule that is its own parameters: a loaded artifact, or real images in the place of distilled ones."""

from __future__ import annotations

import copyreg
import dataclasses
from typing import Any

import jax

from ddjax import checks
from ddjax.facts import noted
from ddjax.types import Distilled, Encoding, Form, Recipe, Schedule


@noted
def constant(schedule: Schedule) -> Form:
    """A form whose parameters are a schedule itself, for a loaded artifact or for real images as a baseline.

    When such a φ is distilled further, the inputs move; labels and learning rates stay as they are, because
    this form does not keep labels probabilities or rates positive. `pixels` with `initial_images` and
    `initial_labels` learns all three.

    Args:
        schedule: the schedule, which is also the starting point of the parameters.

    Returns:
        A form whose parameters are a `Schedule`, with the inputs in the group "data" and the rest "frozen".

    Raises:
        ValueError: `schedule` is no `Schedule`, or its arrays have shapes that do not fit each other.
    """
    checks.schedule(schedule)
    return Form(_Held(schedule), _itself, "schedule", groups=_groups)


@dataclasses.dataclass(frozen=True, eq=False)
class _Held:
    """The function `key -> schedule` of one schedule, in a form that can be pickled."""

    schedule: Schedule

    def __call__(self, key: jax.Array) -> Schedule:
        del key
        return self.schedule


def _itself(params: Schedule) -> Schedule:
    return params


def _groups(params: Schedule) -> Schedule:
    names: tuple[Any, ...] = ("data", "frozen", None if params.lrs is None else "frozen")
    return Schedule(*names)


def _as_schedule(distilled: Distilled) -> tuple[Any, ...]:
    """A pickle of φ, which holds what an artifact holds: the schedule in the place of parameters and form."""
    schedule = jax.device_get(distilled.schedule)
    return _of_schedule, (schedule, distilled.encoding, distilled.recipe, dict(distilled.metadata))


def _of_schedule(
    schedule: Schedule, encoding: Encoding, recipe: Recipe, metadata: dict[str, Any]
) -> Distilled:
    return Distilled(schedule, constant(schedule), encoding, recipe, metadata)


# Here and not in the class, which knows no form.
copyreg.pickle(Distilled, _as_schedule)

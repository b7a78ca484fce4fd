"""A schedule that is its own parameters: a loaded artifact, or real images in the place of distilled ones."""

from __future__ import annotations

from typing import Any

from ddjax import checks
from ddjax.facts import noted
from ddjax.types import Form, Schedule


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

    def groups(params: Schedule) -> Schedule:
        names: tuple[Any, ...] = ("data", "frozen", None if params.lrs is None else "frozen")
        return Schedule(*names)

    return Form(lambda key: schedule, lambda params: params, "schedule", groups=groups)

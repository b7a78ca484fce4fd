"""A schedule as it stands: an artifact after loading, real images in the place of distilled ones."""

from __future__ import annotations

from typing import Any

from ddjax import checks
from ddjax.types import Form, Schedule


def constant(schedule: Schedule) -> Form:
    """A schedule as it stands: what an artifact is after loading, and what real images are as a baseline.

    Where such a φ is distilled further its inputs move; labels and learning rates stay as they are, because
    nothing here keeps labels probabilities or rates positive. `pixels` with `initial_images` and
    `initial_labels` learns all three.

    Args:
        schedule: the parameters and, unfolded, the schedule.

    Returns:
        A form whose parameters are the `Schedule` itself, its inputs in the group "data", the rest "frozen".

    Raises:
        ValueError: an object of another type, or arrays whose shapes do not fit each other.
    """
    checks.schedule(schedule)

    def groups(params: Schedule) -> Schedule:
        names: tuple[Any, ...] = ("data", "frozen", None if params.lrs is None else "frozen")
        return Schedule(*names)

    return Form(lambda key: schedule, lambda params: params, "schedule", groups=groups)

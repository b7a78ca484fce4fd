"""A data set whose classes come a few at a time: the tasks of continual learning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ddjax import checks
from ddjax.data.classes import with_classes
from ddjax.data.dataset import Dataset


class Stream(NamedTuple):
    """Tasks one after the other, each of some classes that no other has.

    Attributes:
        data: the whole data set.
        tasks: numbers of the classes of each task, in the order in which they come.
    """

    data: Dataset
    tasks: Sequence[Sequence[int]]

    def own(self, task: int) -> Dataset:
        """The classes of one task, numbered anew: what is there to train on while the task lasts.

        Args:
            task: number of the task, from 0.
        """
        return with_classes(self.data, self.tasks[task])

    def seen(self, task: int) -> Dataset:
        """The classes of all tasks up to and with this one, numbered anew: what is tested after the task.

        Args:
            task: number of the task, from 0.
        """
        return with_classes(self.data, [k for classes in self.tasks[: task + 1] for k in classes])


def in_tasks(data: Dataset, num_tasks: int, *, seed: int | None = None) -> Stream:
    """The classes of a data set, divided evenly into tasks.

    Args:
        data: the data set.
        num_tasks: number of tasks; each gets two classes or more.
        seed: seed of the order in which the classes come; None for the order of their numbers.

    Returns:
        The tasks and their data.

    Raises:
        ValueError: the classes cannot be divided so.
    """
    checks.at_least("num_tasks", num_tasks, 1)
    remedy = f"{data.name} has {data.num_classes} classes: give a num_tasks that divides them."
    checks.equal("num_tasks: classes left over", data.num_classes % num_tasks, 0, remedy=remedy)
    remedy = "A task of one class teaches no features: give a smaller num_tasks."
    checks.at_least("classes of a task", data.num_classes // num_tasks, 2, remedy=remedy)
    order = np.arange(data.num_classes)
    if seed is not None:
        order = np.random.default_rng(seed).permutation(order)
    return Stream(data, order.reshape(num_tasks, -1).tolist())

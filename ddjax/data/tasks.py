"""A data set whose classes arrive a few at a time: the tasks of continual learning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ddjax import checks
from ddjax.data.classes import with_classes
from ddjax.data.dataset import Dataset


class Stream(NamedTuple):
    """A sequence of tasks, each with its own classes.

    Attributes:
        data: the whole data set.
        tasks: the numbers of the classes of each task, in the order of the tasks.
    """

    data: Dataset
    tasks: Sequence[Sequence[int]]

    def own(self, task: int) -> Dataset:
        """The data of one task, classes numbered anew: the data to train on during that task.

        Args:
            task: the number of the task, from 0.

        Returns:
            The data set of the task's classes.
        """
        return with_classes(self.data, self.tasks[task])

    def seen(self, task: int) -> Dataset:
        """The data of all tasks up to and including one, classes numbered anew: the test after that task.

        Args:
            task: the number of the last task, from 0.

        Returns:
            The data set of the classes of these tasks.
        """
        return with_classes(self.data, [k for classes in self.tasks[: task + 1] for k in classes])


def in_tasks(data: Dataset, num_tasks: int, *, seed: int | None = None) -> Stream:
    """Divide the classes of a data set evenly into tasks.

    Args:
        data: the data set to divide.
        num_tasks: the number of tasks; each has two classes or more.
        seed: the seed of the order of the classes; None for the order of their numbers.

    Returns:
        The tasks and their data.

    Raises:
        ValueError: `num_tasks` is below one or does not divide the number of classes, or a task would have
            fewer than two classes.
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

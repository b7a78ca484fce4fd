"""The stream of tasks."""

from __future__ import annotations

import pytest

from ddjax import data


def test_each_task_has_classes_of_its_own_and_later_ones_are_not_seen():
    digits = data.load("digits")
    tasks = data.in_tasks(digits, 5)
    assert tasks.tasks == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
    assert tasks.own(1).class_names == digits.class_names[2:4]
    assert tasks.seen(1).class_names == digits.class_names[:4]
    assert sum(len(tasks.own(task).train) for task in range(5)) == len(digits.train)


def test_a_seed_draws_an_order():
    digits = data.load("digits")
    first, again, other = (data.in_tasks(digits, 2, seed=seed).tasks for seed in (0, 0, 1))
    assert first == again != other
    assert sorted(k for classes in first for k in classes) == list(range(10))
    names = data.in_tasks(digits, 2, seed=1).seen(0).class_names
    assert names == tuple(digits.class_names[k] for k in other[0])


@pytest.mark.parametrize(
    ("num_tasks", "message"),
    [
        (3, "num_tasks: classes left over: expected 0; got 1.*digits has 10 classes"),
        (10, "classes of a task: expected a whole number >= 2; got 1"),
        (0, "num_tasks: expected a whole number >= 1; got 0"),
    ],
)
def test_classes_that_cannot_be_divided_so_are_refused(num_tasks, message):
    with pytest.raises(ValueError, match=message):
        data.in_tasks(data.load("digits"), num_tasks)

"""A part of a data set's classes, as a data set of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from ddjax import checks
from ddjax.data.dataset import Dataset, Split


def with_classes(data: Dataset, classes: Sequence[int]) -> Dataset:
    """The examples of some classes, numbered anew in the order given; encoded as before.

    Args:
        data: the data set to take classes from.
        classes: the numbers of the classes to keep, of `range(data.num_classes)`, each at most once.

    Returns:
        A data set of `len(classes)` classes in which `classes[k]` is class k, in all three splits.

    Raises:
        ValueError: no class, one twice, or one that is not there.
    """
    checks.kind("data", data, Dataset, remedy="Use ddjax.data.load or ddjax.data.from_arrays.")
    wanted = [int(k) for k in classes]
    if not wanted or len(set(wanted)) < len(wanted) or not set(wanted) <= set(range(data.num_classes)):
        raise ValueError(
            f"classes: expected one or more of 0 to {data.num_classes - 1}, each once; got {wanted}. "
            "Give the numbers of the classes to keep."
        )
    # What a class is called now, by what it was; -1 where it is left out.
    names = np.full(data.num_classes, -1, np.int32)
    names[wanted] = np.arange(len(wanted))

    def part(split: Split) -> Split:
        kept = split.at(names[split.labels] >= 0)
        return dataclasses.replace(kept, labels=names[kept.labels], num_classes=len(wanted))

    return data.with_splits(part, class_names=tuple(data.class_names[k] for k in wanted))

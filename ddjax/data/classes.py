"""Some classes of a data set, as a data set of their own."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from ddjax import checks
from ddjax.data.dataset import Dataset, Split
from ddjax.data.digest import converted


def with_classes(data: Dataset, classes: Sequence[int]) -> Dataset:
    """The examples of some classes, which are numbered anew in the given order; the encoding stays.

    Args:
        data: the data set to take classes from.
        classes: the numbers of the classes to keep, from `range(data.num_classes)`, each at most once.

    Returns:
        A data set of `len(classes)` classes in which `classes[k]` is class k, in all three splits.

    Raises:
        ValueError: no data set, an empty `classes`, a repeated class, or a class that the data do not have.
    """
    checks.kind("data", data, Dataset, remedy="Use ddjax.data.load or ddjax.data.from_arrays.")
    wanted = [int(k) for k in classes]
    if not wanted or len(set(wanted)) < len(wanted) or not set(wanted) <= set(range(data.num_classes)):
        raise ValueError(
            f"classes: expected one or more of 0 to {data.num_classes - 1}, each once; got {wanted}. "
            "Give the numbers of the classes to keep."
        )
    # The new number of each old class; -1 for classes that are left out.
    names = np.full(data.num_classes, -1, np.int32)
    names[wanted] = np.arange(len(wanted))

    def part(split: Split) -> Split:
        kept = split.at(names[split.labels] >= 0)
        return dataclasses.replace(kept, labels=names[kept.labels], num_classes=len(wanted))

    kept = data.with_splits(part, class_names=tuple(data.class_names[k] for k in wanted))
    return converted(data, kept, classes=wanted)

"""The identity of data: a digest of the arrays, by which runs and artifacts tell data sets apart."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import jax
import numpy as np

from ddjax.data.dataset import Dataset, Split


def digest(split: Split) -> str:
    """The identity of one split: equal for equal examples, labels, number of classes and encoding, in order.

    Args:
        split: the examples, their labels and their encoding.

    Returns:
        64 hexadecimal digits of SHA-256. The name of the data set and the names of the classes do not count.
    """
    total = hashlib.sha256(f"split of {split.num_classes} classes under {split.encoding.kind}".encode())
    members = [("raw", split.raw), ("labels", split.labels.astype(np.int64))]
    parts, _ = jax.tree_util.tree_flatten_with_path(split.encoding)
    members += [(jax.tree_util.keystr(path), part) for path, part in parts]
    for name, member in members:
        array = np.ascontiguousarray(member)
        # Byte order does not make other data.
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        total.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        total.update(array.data)
    return total.hexdigest()


def digests(data: Dataset) -> dict[str, str]:
    """The identity of each split of a data set.

    Args:
        data: the data set.

    Returns:
        `digest` of `train`, `validation` and `test`, by these names.
    """
    return {name: digest(getattr(data, name)) for name in ("train", "validation", "test")}


def converted(before: Dataset, after: Dataset, **step: Any) -> Dataset:
    """Converted data that remember what they were converted from, and how.

    Args:
        before: the data before the conversion.
        after: the data after the conversion.
        **step: the name of the conversion and its setting, one of the steps of `Origin.form`.

    Returns:
        `after`, with the digests of the data before the first conversion and all conversions in `origin`.
    """
    known = before.origin
    origin = dataclasses.replace(known, form=(*known.form, step), digests=known.digests or digests(before))
    return dataclasses.replace(after, origin=origin)

"""How a check says that something does not keep its contract."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import jax
import numpy as np

from ddjax.types import PyTree

CaseT = TypeVar("CaseT")

Checks = Mapping[str, Callable[[CaseT], None]]
"""The checks of a suite by name; each raises a `ContractError` where the case does not keep the promise."""


class ContractError(AssertionError):
    """A part does not keep its contract; the message says which promise, what was found and what to do."""


@contextlib.contextmanager
def double() -> Iterator[None]:
    """Float64 for all that is traced inside; labels and counts of real data stay int32, and are promoted."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        yield


def run(checks: Checks[CaseT], case: CaseT) -> None:
    """All checks of a suite, one after the other.

    Args:
        checks: the suite.
        case: what is checked.

    Raises:
        ContractError: a promise that is not kept; the first one that is found.
    """
    for check in checks.values():
        check(case)


def require(holds: Any, promise: str, *, found: object, remedy: str) -> None:
    """Refuse a promise that is not kept.

    Args:
        holds: whether the promise is kept.
        promise: what was expected, in words.
        found: what was found instead.
        remedy: what to do.

    Raises:
        ContractError: the promise is not kept.
    """
    if not bool(holds):
        raise ContractError(f"expected {promise}; got {found}. {remedy}")


def distance(ours: PyTree, others: PyTree) -> float:
    """‖ours - others‖ / ‖others‖ over all leaves of two trees.

    Args:
        ours: the tree to compare.
        others: the tree to compare with.

    Returns:
        The relative distance; absolute where the second tree is zero.

    Raises:
        ContractError: trees of different structures.
    """
    structures = [jax.tree.structure(tree) for tree in (ours, others)]
    require(
        structures[0] == structures[1],
        f"the structure {structures[1]}",
        found=structures[0],
        remedy="Return the same structure from every call.",
    )
    flat = [
        np.concatenate([np.zeros(1), *(np.ravel(np.asarray(leaf, float)) for leaf in jax.tree.leaves(tree))])
        for tree in (ours, others)
    ]
    size = float(np.linalg.norm(flat[1]))
    return float(np.linalg.norm(flat[0] - flat[1])) / (size or 1.0)


def all_finite(tree: PyTree) -> bool:
    """Whether every number of a tree is finite."""
    return all(bool(np.isfinite(np.asarray(leaf, float)).all()) for leaf in jax.tree.leaves(tree))


def shapes(tree: PyTree) -> PyTree:
    """Shape and dtype of every leaf, as text."""
    return jax.tree.map(lambda leaf: f"{leaf.dtype}{list(leaf.shape)}", tree)

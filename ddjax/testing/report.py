"""The error of a check whose promise is not kept, and the comparisons that checks use."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import jax
import numpy as np

from ddjax.types import PyTree

CaseT = TypeVar("CaseT")

Checks = Mapping[str, Callable[[CaseT], None]]
"""The checks of a suite by name; each raises a `ContractError` where the promise is not kept."""


class ContractError(AssertionError):
    """A promise is not kept; the message says what was expected, what was found and what to do."""


@contextlib.contextmanager
def double() -> Iterator[None]:
    """Float64 for all that is traced inside; labels and counts of real data stay int32, and are promoted."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        yield


def run(checks: Checks[CaseT], case: CaseT) -> None:
    """Run all checks of a suite, one after the other.

    Args:
        checks: the checks of the suite, by name.
        case: the case to check.

    Raises:
        ContractError: a promise is not kept; the error is that of the first such promise.
    """
    for check in checks.values():
        check(case)


def require(holds: Any, promise: str, *, found: object, remedy: str) -> None:
    """Refuse a promise that is not kept.

    Args:
        holds: whether the promise is kept.
        promise: the expectation in words, for the message.
        found: the thing that was found instead, for the message.
        remedy: the sentence of the message that says what to do.

    Raises:
        ContractError: the promise is not kept.
    """
    if not bool(holds):
        raise ContractError(f"expected {promise}; got {found}. {remedy}")


def distance(ours: PyTree, others: PyTree) -> float:
    """The relative distance of two trees over all leaves, ‖ours - others‖ / ‖others‖.

    Args:
        ours: the tree to compare.
        others: the tree to compare with.

    Returns:
        The relative distance; the absolute distance where every number of `others` is zero.

    Raises:
        ContractError: the trees have different structures.
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
    """Whether every number of a tree is finite.

    Args:
        tree: the tree of arrays.

    Returns:
        False where a number is NaN or infinite.
    """
    return all(bool(np.isfinite(np.asarray(leaf, float)).all()) for leaf in jax.tree.leaves(tree))


def shapes(tree: PyTree) -> PyTree:
    """Shape and dtype of every leaf, as text.

    Args:
        tree: the tree of arrays.

    Returns:
        A tree like `tree` of texts such as `"float32[2, 3]"`.
    """
    return jax.tree.map(lambda leaf: f"{leaf.dtype}{list(leaf.shape)}", tree)

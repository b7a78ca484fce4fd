"""Functions whose copies between host and device are their own business."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax

P = ParamSpec("P")
R = TypeVar("R")


def own(function: Callable[P, R]) -> Callable[P, R]:
    """A function that copies between host and device whatever `jax.transfer_guard` its caller has set.

    A guard is there to find copies that nobody asked for. Who calls a function that reads real data, runs for
    hours and returns numbers asks for these copies.

    Args:
        function: the function.

    Returns:
        The same function, inside of which copies are allowed.
    """

    @functools.wraps(function)
    def called(*arguments: P.args, **settings: P.kwargs) -> R:
        with jax.transfer_guard("allow"):
            return function(*arguments, **settings)

    return called


__all__ = ["own"]

"""The checks at the library's borders: what was expected, what was got, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


def choice(what: str, value: Any, choices: Iterable[str], *, remedy: str = "") -> None:
    """Refuse a name that is not among `choices`, naming the nearest one.

    Raises:
        ValueError: `value` is none of `choices`.
    """
    known = sorted(choices)
    if value in known:
        return
    near = difflib.get_close_matches(str(value), known, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(
        f"{what}: expected one of {', '.join(known)}; got {value!r}.{hint}{' ' + remedy if remedy else ''}"
    )


def at_least(what: str, value: Any, minimum: float, *, integer: bool = True, remedy: str = "") -> None:
    """Refuse a number below `minimum`, or one that is not a (whole) finite number.

    Raises:
        ValueError: as said.
    """
    is_number = hasattr(value, "__index__") if integer else isinstance(value, (int, float))
    if isinstance(value, bool) or not is_number or not minimum <= value < float("inf"):
        noun = "a whole number" if integer else "a finite number"
        remedy = remedy or f"Give {noun} of {minimum:g} or more."
        raise ValueError(f"{what}: expected {noun} >= {minimum:g}; got {value!r}. {remedy}")


def positive(what: str, value: Any, *, remedy: str = "") -> None:
    """Refuse a number that is not finite and greater than zero.

    Raises:
        ValueError: as said.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        remedy = remedy or "Give a finite number greater than zero."
        raise ValueError(f"{what}: expected a finite number > 0; got {value!r}. {remedy}")


def equal(what: str, value: Any, expected: Any, *, remedy: str) -> None:
    """Refuse a value that is not the expected one.

    Raises:
        ValueError: as said.
    """
    if value != expected:
        raise ValueError(f"{what}: expected {expected}; got {value}. {remedy}")

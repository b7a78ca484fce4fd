"""The checks at the library's borders: what was expected, what was got, what to do."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from typing import Any

import jax


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


def kind(what: str, value: Any, expected: type, *, remedy: str) -> None:
    """Refuse an object of another type than the expected one.

    Raises:
        ValueError: as said.
    """
    if not isinstance(value, expected):
        raise ValueError(f"{what}: expected a {expected.__name__}; got {_described(value)}. {remedy}")


def function(what: str, value: Any, *, remedy: str) -> None:
    """Refuse what cannot be called.

    Raises:
        ValueError: as said.
    """
    if not callable(value):
        raise ValueError(f"{what}: expected a function; got {_described(value)}. {remedy}")


def prng_key(what: str, value: Any) -> None:
    """Refuse what is no single key of `jax.random.key`.

    Raises:
        ValueError: a number, a raw `uint32` key, an array of several keys, something else.
    """
    is_key = isinstance(value, jax.Array) and jax.numpy.issubdtype(value.dtype, jax.dtypes.prng_key)
    if not is_key or value.shape != ():
        got = f"keys of shape {value.shape}" if is_key else _described(value)
        raise ValueError(f"{what}: expected one key; got {got}. Give jax.random.key(0), or another seed.")


def jsonable(what: str, value: Any) -> None:
    """Refuse what JSON cannot hold.

    Raises:
        ValueError: as said.
    """
    try:
        json.dumps(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{what}: expected what JSON can hold; got {error}. Give text, numbers, lists and dictionaries."
        ) from error


def _described(value: Any) -> str:
    """A value for a message: its type, with shape or text where they are short."""
    name = type(value).__name__
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{name} {value.dtype}{list(value.shape)}"
    text = repr(value)
    return f"{name} {text}" if len(text) <= 40 else name

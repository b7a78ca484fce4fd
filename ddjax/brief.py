"""One-line texts of objects that hold arrays and functions, for people who print them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

_LONGEST = 60
_MOST = 6


class Brief:
    """The base of dataclasses whose `repr` names arrays by dtype and shape, functions by their names."""

    def __repr__(self) -> str:
        fields = dataclasses.fields(self)  # type: ignore[arg-type] (every subclass is a dataclass)
        shown = [
            f"{field.name}={text(getattr(self, field.name))}"
            for field in fields
            if field.repr and not _is_default(field, getattr(self, field.name))
        ]
        return f"{type(self).__name__}({', '.join(shown)})"


def _is_default(field: dataclasses.Field[Any], value: Any) -> bool:
    return value is field.default or (isinstance(value, (str, int, tuple)) and value == field.default)


def text(value: Any) -> str:
    """A value in a few words.

    Args:
        value: the value.

    Returns:
        An array as its dtype and shape, a function as its name, a long text or collection cut short, anything
        else as Python shows it.
    """
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{value.dtype}{list(value.shape)}"
    if isinstance(value, Mapping):
        return _collection([f"{key}: {text(one)}" for key, one in value.items()], "{}")
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        parts = [f"{name}={text(one)}" for name, one in zip(value._fields, value, strict=True)]  # type: ignore[attr-defined] (a named one)
        return f"{type(value).__name__}({', '.join(parts)})"
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return _collection([text(one) for one in value], "[]")
    if callable(value) and not isinstance(value, Brief) and not dataclasses.is_dataclass(value):
        return getattr(value, "__qualname__", type(value).__name__).replace("<locals>.", "")
    shown = repr(value)
    return shown if isinstance(value, Brief) or len(shown) <= _LONGEST else f"{shown[:_LONGEST]}…"


def _collection(parts: Sequence[str], ends: str) -> str:
    more = [] if len(parts) <= _MOST else [f"… {len(parts)} in all"]
    return f"{ends[0]}{', '.join([*parts[:_MOST], *more])}{ends[1]}"

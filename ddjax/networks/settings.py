"""The settings of networks as texts of command lines and as JSON, which artifacts and tables name."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any


def text_of(value: Any) -> str:
    """A setting as command lines have it.

    Args:
        value: a text, a number, or several whole numbers.

    Returns:
        The text; several numbers have `x` between them, as in `"64x32"`, and one alone ends with it.
    """
    if not isinstance(value, (list, tuple)):
        return str(plain(value))
    return "x".join(map(str, value)) + ("x" if len(value) < 2 else "")


def plain(value: Any) -> Any:
    """A setting as JSON has it.

    Args:
        value: a text, a number, or several whole numbers.

    Returns:
        The same as `str`, `float`, `int` or a list of `int`.
    """
    if isinstance(value, (str, float)):
        return value
    return [operator.index(one) for one in value] if isinstance(value, Sequence) else operator.index(value)

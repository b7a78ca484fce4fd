"""The settings of networks, which artifacts name so that the same network can be built again."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import operator
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec

from ddjax.types import Network

_P = ParamSpec("_P")

FROM_ELSEWHERE = ("name", "image_shape", "num_classes", "conv_form")
"""The arguments of a network that are no settings of its own.

The first three follow from the data, and the last does not change what the network is.
"""


def with_settings(builder: Callable[_P, Network]) -> Callable[_P, Network]:
    """A builder whose networks know the settings that they were built with, defaults included.

    Args:
        builder: the function `(image_shape, num_classes, ...) -> network`.

    Returns:
        The same function, whose networks have `Network.settings`.
    """
    signature = inspect.signature(builder)

    @functools.wraps(builder)
    def build(*args: _P.args, **kwargs: _P.kwargs) -> Network:
        network = builder(*args, **kwargs)
        given = signature.bind(*args, **kwargs)
        given.apply_defaults()
        settings = {
            name: plain(value) for name, value in given.arguments.items() if name not in FROM_ELSEWHERE
        }
        return dataclasses.replace(network, settings=settings)

    return build


def text_of(value: Any) -> str:
    """A setting as command lines have it.

    Args:
        value: a text, a whole number, or several whole numbers.

    Returns:
        The text; several numbers have `x` between them, as in `"64x32"`, and one alone ends with it.
    """
    if not isinstance(value, (list, tuple)):
        return str(value)
    return "x".join(map(str, value)) + ("x" if len(value) < 2 else "")


def plain(value: Any) -> Any:
    """A setting as JSON has it.

    Args:
        value: a text, a whole number, or several whole numbers.

    Returns:
        The same as `str`, `int` or a list of `int`.
    """
    if isinstance(value, str):
        return value
    return [operator.index(one) for one in value] if isinstance(value, Sequence) else operator.index(value)

"""The checks at the library's borders: what was expected, what was got, what to do."""

from __future__ import annotations

import difflib
import json
import math
import numbers
import operator
import os
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np

from ddjax.types import InitDistribution, Network, RealData, Schedule


def choice(what: str, value: Any, choices: Iterable[str], *, remedy: str = "") -> None:
    """Refuse a name that is not among `choices`, naming the nearest one.

    Raises:
        ValueError: `value` is none of `choices`.
    """
    known = sorted(choices)
    if isinstance(value, str) and value in known:
        return
    near = difflib.get_close_matches(str(value), known, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(
        f"{what}: expected one of {', '.join(known)}; got {_short(value)}.{hint}"
        f"{' ' + remedy if remedy else ''}"
    )


def at_least(what: str, value: Any, minimum: float, *, integer: bool = True, remedy: str = "") -> None:
    """Refuse a number below `minimum`, or one that is not a (whole) finite number.

    Raises:
        ValueError: as said.
    """
    is_number = _is_whole(value) if integer else _is_finite(value)
    if not is_number or value < minimum:
        noun = "a whole number" if integer else "a finite number"
        remedy = remedy or f"Give {noun} of {minimum:g} or more."
        raise ValueError(f"{what}: expected {noun} >= {minimum:g}; got {_short(value)}. {remedy}")


def positive(what: str, value: Any, *, remedy: str = "") -> None:
    """Refuse a number that is not finite and greater than zero.

    Raises:
        ValueError: as said.
    """
    if not _is_finite(value) or value <= 0:
        remedy = remedy or "Give a finite number greater than zero."
        raise ValueError(f"{what}: expected a finite number > 0; got {_short(value)}. {remedy}")


def fraction(what: str, value: Any, *, remedy: str = "") -> None:
    """Refuse a number outside [0, 1).

    Raises:
        ValueError: as said.
    """
    if not _is_finite(value) or not 0 <= value < 1:
        remedy = remedy or "Give a number from 0 to below 1."
        raise ValueError(f"{what}: expected a number in [0, 1); got {_short(value)}. {remedy}")


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


def text(what: str, value: Any, *, remedy: str) -> None:
    """Refuse what is no text, or an empty one.

    Raises:
        ValueError: as said.
    """
    if not isinstance(value, str) or not value:
        raise ValueError(f"{what}: expected a text; got {_described(value)}. {remedy}")


def path(what: str, value: Any, *, remedy: str) -> None:
    """Refuse what names no file or directory.

    Raises:
        ValueError: as said.
    """
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise ValueError(f"{what}: expected a path; got {_described(value)}. {remedy}")


def image_shape(value: Any) -> tuple[int, int, int]:
    """`value` as three positive whole numbers.

    Raises:
        ValueError: it is not `(H, W, C)`.
    """
    shape = tuple(value) if isinstance(value, (tuple, list)) else ()
    if len(shape) != 3 or not all(_is_whole(size) and size >= 1 for size in shape):
        raise ValueError(
            "image_shape: expected (height, width, channels), three whole numbers >= 1; "
            f"got {_short(value)}. Grey images have one channel, e.g. (28, 28, 1)."
        )
    height, width, channels = (int(size) for size in shape)
    return height, width, channels


def input_shape(value: Any) -> tuple[int, ...]:
    """The shape of an input as positive whole numbers.

    Args:
        value: a sequence of sizes, of images `(H, W, C)`.

    Returns:
        The sizes.

    Raises:
        ValueError: no such sequence.
    """
    shape = tuple(value) if isinstance(value, (tuple, list)) else ()
    if not shape or not all(_is_whole(size) and size >= 1 for size in shape):
        raise ValueError(
            "image_shape: expected (height, width, channels), or the shape of another input, whole numbers "
            f">= 1; got {_short(value)}. Grey images have one channel, e.g. (28, 28, 1)."
        )
    return tuple(int(size) for size in shape)


def network_and_inits(network: Any, inits: Any) -> None:
    """Refuse what is no network, or no distribution of initial weights.

    Raises:
        ValueError: as said.
    """
    kind("network", network, Network, remedy="Build it with ddjax.networks.")
    kind("inits", inits, InitDistribution, remedy="Build it with ddjax.inits.")


def schedule(value: Any, *, needs_lrs: bool = False) -> None:
    """Refuse what is no `Schedule`, or one whose shapes do not fit each other.

    Raises:
        ValueError: as said.
    """
    kind("schedule", value, Schedule, remedy="Give ddjax.Schedule(inputs, labels, lrs).")
    inputs, labels, lrs = ([*getattr(array, "shape", ())] for array in value)
    fits = len(inputs) >= 3 and len(labels) == 3 and inputs[:2] == labels[:2] and 0 not in inputs
    if value.lrs is not None:
        fits = fits and len(lrs) == 2 and lrs[1] == inputs[0] and 0 not in lrs
    elif needs_lrs:
        raise ValueError("schedule: expected learning rates [E, S]; got none. Give one for each step.")
    if not fits:
        raise ValueError(
            "schedule: expected inputs [S, B, ...], labels [S, B, K], lrs [E, S] or None; got "
            f"{tuple(inputs)}, {tuple(labels)}, {tuple(lrs)}. Bring them to these shapes."
        )


def same_inputs(what: str, shape: tuple[int, ...], network: Network) -> None:
    """Refuse inputs of another shape than a network's.

    Args:
        what: the name of the inputs' owner.
        shape: the shape of one of the inputs.
        network: the network that shall see them.

    Raises:
        ValueError: the shapes differ.
    """
    equal(
        f"{what}'s {_shape_name(network.input_shape)}",
        tuple(shape),
        tuple(network.input_shape),
        remedy=f"Use inputs of the shape that {network.name} was built for, or build it for these.",
    )


def network_fits(network: Network, data: RealData) -> None:
    """Refuse a network for other inputs or classes than those of the real data.

    Args:
        network: the network that shall be trained or passed.
        data: the real data.

    Raises:
        ValueError: another shape of inputs, or another number of classes.
    """
    fits(network, data.input_shape, data.num_classes, remedy="Build the network for these data.")


def fits(network: Network, shape: tuple[int, ...], num_classes: int, *, remedy: str) -> None:
    """Refuse a network for other inputs or classes.

    Args:
        network: the network.
        shape: the shape of one input.
        num_classes: K.
        remedy: what to do, for the message.

    Raises:
        ValueError: the network was built for others.
    """
    equal(f"{network.name}'s {_shape_name(shape)}", tuple(network.input_shape), tuple(shape), remedy=remedy)
    equal(f"{network.name}'s number of classes", network.num_classes, num_classes, remedy=remedy)


def _shape_name(shape: tuple[int, ...]) -> str:
    return "image shape (H, W, C)" if len(shape) == 3 else "input shape"


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


def facts(what: str, value: Any) -> None:
    """Refuse what is no mapping from names to what JSON can hold.

    Raises:
        ValueError: as said.
    """
    kind(what, value, Mapping, remedy="Give a dictionary, or leave it out.")
    jsonable(what, dict(value))


def _is_whole(value: Any) -> bool:
    if isinstance(value, (bool, np.bool_)):
        return False
    try:
        operator.index(value)
    except TypeError:
        return False
    return True


def _is_finite(value: Any) -> bool:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def _short(value: Any) -> str:
    """A value for a message, in one short line."""
    written = _written(value)
    return written if len(written) <= 80 else _described(value)


def _written(value: Any) -> str:
    try:
        return repr(value)
    except ValueError:  # a whole number of more digits than Python writes
        return "of thousands of digits"


def _described(value: Any) -> str:
    """A value for a message: its type, with shape or text where they are short."""
    name = type(value).__name__
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{name} {value.dtype}{list(value.shape)}"
    written = _written(value)
    return f"{name} {written}" if len(written) <= 40 else name

"""The checks of arguments at the library's borders.

Every refusal is a ValueError that says what was expected, what was got and what to do.
"""

from __future__ import annotations

import difflib
import functools
import json
import math
import numbers
import operator
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ParamSpec, TypeVar

import jax
import numpy as np
from jax.core import Tracer

from ddjax.types import InitDistribution, Network, RealData, Schedule

P = ParamSpec("P")
R = TypeVar("R")


def entry(function: Callable[P, R]) -> Callable[P, R]:
    """A function by which programs of others enter the library, whatever numbers and rules they use.

    Scalars of NumPy and arrays without axes, such as `jnp.float32(0.1)`, become Python's numbers first; PRNG
    keys and values that are being traced stay as they are. Inside, copies between host and device are
    allowed, whatever `jax.transfer_guard` the caller has set: a guard finds copies that nobody asked for, and
    who calls a function that reads real data or returns numbers asks for these.

    Args:
        function: the function.

    Returns:
        The same function under these terms.
    """

    @functools.wraps(function)
    def called(*arguments: P.args, **settings: P.kwargs) -> R:
        plain: Any = {name: _plain(value) for name, value in settings.items()}
        with jax.transfer_guard("allow"):
            return function(*map(_plain, arguments), **plain)  # type: ignore[call-arg] (plain values of its types)

    return called


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    is_array = isinstance(value, (np.ndarray, jax.Array)) and not isinstance(value, Tracer)
    if not is_array or value.shape != () or jax.numpy.issubdtype(value.dtype, jax.dtypes.prng_key):
        return value
    return value.item()


def _sizes(value: Any) -> tuple[Any, ...]:
    """The sizes in a tuple, a list or an array of one axis; nothing for anything else."""
    if isinstance(value, (np.ndarray, jax.Array)) and value.ndim == 1:
        return tuple(value.tolist())
    return tuple(map(_plain, value)) if isinstance(value, (tuple, list)) else ()


def choice(what: str, value: Any, choices: Iterable[str], *, remedy: str = "") -> None:
    """Refuse a name that is not among `choices`; the message names the nearest one.

    Args:
        what: the name of the checked thing, for the message.
        value: the name to check.
        choices: the names that are accepted.
        remedy: a further sentence for the message that says what to do.

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
    """Refuse what is no whole (or finite) number of at least `minimum`.

    Args:
        what: the name of the checked thing, for the message.
        value: the number to check.
        minimum: the least number that is accepted.
        integer: whether only whole numbers are accepted; else every finite number is.
        remedy: the sentence of the message that says what to do; by default it names the minimum.

    Raises:
        ValueError: `value` is no whole (or finite) number of at least `minimum`.
    """
    is_number = _is_whole(value) if integer else _is_finite(value)
    if not is_number or value < minimum:
        noun = "a whole number" if integer else "a finite number"
        remedy = remedy or f"Give {noun} of {minimum:g} or more."
        raise ValueError(f"{what}: expected {noun} >= {minimum:g}; got {_short(value)}. {remedy}")


def positive(what: str, value: Any, *, remedy: str = "") -> None:
    """Refuse what is no finite number greater than zero.

    Args:
        what: the name of the checked thing, for the message.
        value: the number to check.
        remedy: the sentence of the message that says what to do; by default it names the range.

    Raises:
        ValueError: `value` is no finite number greater than zero.
    """
    if not _is_finite(value) or value <= 0:
        remedy = remedy or "Give a finite number greater than zero."
        raise ValueError(f"{what}: expected a finite number > 0; got {_short(value)}. {remedy}")


def fraction(what: str, value: Any, *, remedy: str = "") -> None:
    """Refuse what is no number in [0, 1).

    Args:
        what: the name of the checked thing, for the message.
        value: the number to check.
        remedy: the sentence of the message that says what to do; by default it names the range.

    Raises:
        ValueError: `value` is no number in [0, 1).
    """
    if not _is_finite(value) or not 0 <= value < 1:
        remedy = remedy or "Give a number from 0 to below 1."
        raise ValueError(f"{what}: expected a number in [0, 1); got {_short(value)}. {remedy}")


def equal(what: str, value: Any, expected: Any, *, remedy: str) -> None:
    """Refuse a value that is not the expected one.

    Args:
        what: the name of the checked thing, for the message.
        value: the value to check.
        expected: the only value that is accepted.
        remedy: the sentence of the message that says what to do.

    Raises:
        ValueError: `value` does not equal `expected`.
    """
    if value != expected:
        raise ValueError(f"{what}: expected {expected}; got {value}. {remedy}")


def kind(what: str, value: Any, expected: type, *, remedy: str) -> None:
    """Refuse an object of another type than the expected one.

    Args:
        what: the name of the checked thing, for the message.
        value: the object to check.
        expected: the type that is accepted, with its subtypes.
        remedy: the sentence of the message that says what to do.

    Raises:
        ValueError: `value` is no instance of `expected`.
    """
    if not isinstance(value, expected):
        raise ValueError(f"{what}: expected a {expected.__name__}; got {_described(value)}. {remedy}")


def text(what: str, value: Any, *, remedy: str) -> None:
    """Refuse what is no text, and the empty text.

    Args:
        what: the name of the checked thing, for the message.
        value: the text to check.
        remedy: the sentence of the message that says what to do.

    Raises:
        ValueError: `value` is no `str`, or is empty.
    """
    if not isinstance(value, str) or not value:
        raise ValueError(f"{what}: expected a text; got {_described(value)}. {remedy}")


def path(what: str, value: Any, *, remedy: str) -> None:
    """Refuse what cannot be the path of a file or directory; nothing is looked up on disk.

    Args:
        what: the name of the checked thing, for the message.
        value: the path to check.
        remedy: the sentence of the message that says what to do.

    Raises:
        ValueError: `value` is neither text nor `os.PathLike`, or is empty.
    """
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise ValueError(f"{what}: expected a path; got {_described(value)}. {remedy}")


def image_shape(value: Any) -> tuple[int, int, int]:
    """The shape of an image as three positive whole numbers.

    Args:
        value: a tuple, list or array `(H, W, C)`.

    Returns:
        Height, width and channels.

    Raises:
        ValueError: `value` is not three positive whole numbers.
    """
    shape = _sizes(value)
    if len(shape) != 3 or not all(_is_whole(size) and size >= 1 for size in shape):
        raise ValueError(
            "image_shape: expected (height, width, channels), three whole numbers >= 1; "
            f"got {_short(value)}. Grey images have one channel, e.g. (28, 28, 1)"
            f"{'; for texts give a network for texts, e.g. textconv' if len(shape) == 2 else ''}."
        )
    height, width, channels = (int(size) for size in shape)
    return height, width, channels


def encoded_images(what: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Encoded inputs to start from, as an array.

    Args:
        what: the name of the checked thing, for the message.
        value: the inputs.
        shape: the shape that the inputs must have.

    Returns:
        The inputs, in their own dtype.

    Raises:
        ValueError: the shape differs, or the inputs are no finite floats.
    """
    array = np.asarray(value)
    equal(f"{what}.shape", array.shape, shape, remedy="Give one image for each label.")
    if not np.issubdtype(array.dtype, np.floating) or not np.isfinite(array).all():
        raise ValueError(
            f"{what}: expected finite floats, normalised; got {array.dtype}, or NaN or infinity. "
            "Give what the data's encoding makes of images, (pixel / 255 - mean) / std."
        )
    return array


def input_shape(value: Any) -> tuple[int, ...]:
    """The shape of an input as positive whole numbers.

    Args:
        value: a tuple, list or array of sizes; for images `(H, W, C)`.

    Returns:
        The sizes.

    Raises:
        ValueError: `value` is empty, or is no tuple, list or array of positive whole numbers.
    """
    shape = _sizes(value)
    if not shape or not all(_is_whole(size) and size >= 1 for size in shape):
        raise ValueError(
            "image_shape: expected (height, width, channels), or the shape of another input, whole numbers "
            f">= 1; got {_short(value)}. Grey images have one channel, e.g. (28, 28, 1)."
        )
    return tuple(int(size) for size in shape)


def text_shape(what: str, value: Any) -> tuple[int, int]:
    """The shape of an embedded text as two positive whole numbers.

    Args:
        what: the name of the network that reads the text, for the message.
        value: a tuple, list or array `(L, F)`.

    Returns:
        The number of words, and the number of numbers in a word's vector.

    Raises:
        ValueError: `value` is not two positive whole numbers.
    """
    shape = _sizes(value)
    if len(shape) != 2 or not all(_is_whole(size) and size >= 1 for size in shape):
        raise ValueError(
            f"{what}: expected texts (words, numbers in a word's vector), two whole numbers >= 1; got "
            f"{_short(value)}. Give texts, or a network for images, e.g. convnet."
        )
    words, features = (int(size) for size in shape)
    return words, features


def network_and_inits(network: Any, inits: Any) -> None:
    """Refuse what is no network, or no distribution of initial weights.

    Args:
        network: the network to check.
        inits: the distribution of initial weights, p(θ0), to check.

    Raises:
        ValueError: `network` is no `Network`, or `inits` no `InitDistribution`.
    """
    kind("network", network, Network, remedy="Build it with ddjax.networks.")
    kind("inits", inits, InitDistribution, remedy="Build it with ddjax.inits.")


def schedule(value: Any, *, needs_lrs: bool = False) -> None:
    """Refuse what is no `Schedule`, and a schedule whose shapes do not fit each other.

    Args:
        value: the schedule to check.
        needs_lrs: whether a schedule without learning rates is refused.

    Raises:
        ValueError: `value` is no `Schedule`, its arrays are not `[S, B, ...]`, `[S, B, K]` and `[E, S]` with
            at least one input and one rate, the order is not `[E, S, b]`, or learning rates are needed and
            missing.
    """
    kind("schedule", value, Schedule, remedy="Give ddjax.Schedule(inputs, labels, lrs).")
    inputs, labels, lrs, order = ([*getattr(array, "shape", ())] for array in value)
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
    if value.order is not None and (len(order) != 3 or order[:2] != lrs or 0 in order):
        raise ValueError(
            f"schedule: expected an order [E, S, b] beside learning rates [E, S]; got {tuple(order)} beside "
            f"{tuple(lrs)}. Give the examples of each step, or None."
        )


def same_inputs(what: str, shape: tuple[int, ...], network: Network) -> None:
    """Refuse inputs of another shape than a network's.

    Args:
        what: the name of the inputs' owner, for the message.
        shape: the shape of one input.
        network: the network that is to take the inputs.

    Raises:
        ValueError: the shapes differ.
    """
    equal(
        f"{what}'s {_shape_name(network.input_shape)}",
        tuple(shape),
        tuple(network.input_shape),
        remedy=f"Test {network.name} on images of the shape that it was built for, or build it for these.",
    )


def network_fits(network: Network, data: RealData) -> None:
    """Refuse a network for other inputs or classes than those of the real data.

    Args:
        network: the network that is to be trained or tested.
        data: the real data.

    Raises:
        ValueError: the network was built for inputs of another shape, or for another number of classes.
    """
    fits(network, data.input_shape, data.num_classes, remedy="Build the network for these data.")


def fits(network: Network, shape: tuple[int, ...], num_classes: int, *, remedy: str) -> None:
    """Refuse a network for inputs of another shape or for another number of classes.

    Args:
        network: the network to check.
        shape: the shape of one input, as it must be.
        num_classes: the number K of classes, as it must be.
        remedy: the sentence of the message that says what to do.

    Raises:
        ValueError: the network was built for inputs of another shape, or for another number of classes.
    """
    equal(f"{network.name}'s {_shape_name(shape)}", tuple(network.input_shape), tuple(shape), remedy=remedy)
    equal(f"{network.name}'s number of classes", network.num_classes, num_classes, remedy=remedy)


def _shape_name(shape: tuple[int, ...]) -> str:
    return "image shape (H, W, C)" if len(shape) == 3 else "input shape"


def function(what: str, value: Any, *, remedy: str) -> None:
    """Refuse what cannot be called.

    Args:
        what: the name of the checked thing, for the message.
        value: the function to check.
        remedy: the sentence of the message that says what to do.

    Raises:
        ValueError: `value` is not callable.
    """
    if not callable(value):
        raise ValueError(f"{what}: expected a function; got {_described(value)}. {remedy}")


def prng_key(what: str, value: Any) -> None:
    """Refuse what is no single key of `jax.random.key`.

    Args:
        what: the name of the checked thing, for the message.
        value: the key to check.

    Raises:
        ValueError: `value` is a number, a raw `uint32` key, an array of several keys, or something else.
    """
    is_key = isinstance(value, jax.Array) and jax.numpy.issubdtype(value.dtype, jax.dtypes.prng_key)
    if not is_key or value.shape != ():
        got = f"keys of shape {value.shape}" if is_key else _described(value)
        raise ValueError(f"{what}: expected one key; got {got}. Give jax.random.key(0), or another seed.")


def jsonable(what: str, value: Any) -> None:
    """Refuse what JSON cannot hold.

    Args:
        what: the name of the checked thing, for the message.
        value: the object to check.

    Raises:
        ValueError: `value` cannot be written as JSON.
    """
    try:
        json.dumps(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{what}: expected what JSON can hold; got {error}. Give text, numbers, lists and dictionaries."
        ) from error


def facts(what: str, value: Any) -> None:
    """Refuse what is no mapping from names to values that JSON can hold.

    Args:
        what: the name of the checked thing, for the message.
        value: the mapping to check.

    Raises:
        ValueError: `value` is no mapping, or cannot be written as JSON.
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
    """The text of a value for a message, in one short line."""
    written = _written(value)
    return written if len(written) <= 80 else _described(value)


def _written(value: Any) -> str:
    try:
        return repr(value)
    except ValueError:  # a whole number of more digits than Python writes
        return "of thousands of digits"


def _described(value: Any) -> str:
    """The text of a value for a message: the type, with the shape or the value where that is short."""
    name = type(value).__name__
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{name} {value.dtype}{list(value.shape)}"
    written = _written(value)
    return f"{name} {written}" if len(written) <= 40 else name

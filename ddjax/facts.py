"""Facts: what networks, forms, methods and p(θ0) are made of, as plain values that JSON can hold and compare.

A network or a method is a pair of closures, which cannot be compared. So the functions that build them are
`noted`: what they return carries the name of the function and its arguments, from which `plain` makes facts.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import math
import numbers
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

import jax
import numpy as np

from ddjax import checks
from ddjax.types import Form, Images, InitDistribution, Made, Method, Network

P = ParamSpec("P")
BuiltT = TypeVar("BuiltT", Network, InitDistribution, Form, Images, Method)

MADE_BY = "made_by"
"""The fact that names the function which built a part."""


class Facts(dict[str, Any]):
    """Facts by name, with the values that stand for facts which an earlier version did not note.

    Attributes:
        defaults: the value of each fact where a record does not have it.
    """

    def __init__(self, given: Mapping[str, Any], *, defaults: Mapping[str, Any] | None = None):
        super().__init__(given)
        self.defaults: Mapping[str, Any] = defaults or {}


def noted(build: Callable[P, BuiltT]) -> Callable[P, BuiltT]:
    """Let what a function builds carry the name of the function and the arguments; see `checks.entry` too.

    Args:
        build: the function that builds a network, a p(θ0), a form, the images of a form, or a method.

    Returns:
        The function, whose results have `made`. A part that was built by another noted function inside keeps
        the facts of the outer call, which has all the arguments.
    """
    signature = inspect.signature(build)
    defaults = {
        name: parameter.default
        for name, parameter in signature.parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }

    @functools.wraps(build)
    def built(*args: P.args, **kwargs: P.kwargs) -> BuiltT:
        part = build(*args, **kwargs)
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return dataclasses.replace(part, made=Made(build.__name__, dict(bound.arguments), defaults))

    return checks.entry(built)


def plain(value: Any) -> Any:
    """A value as JSON can hold it, so that equal facts come from equal values in any process.

    Args:
        value: the value: numbers, texts, arrays, sequences, mappings, dataclasses, parts with `made`,
            functions.

    Returns:
        Numbers, texts and None as they are (numbers that are not finite as text); arrays as a text of dtype,
        shape and SHA-256; a part with `made` as the facts of its arguments; a part without `made` by its name
        and its plain fields; a function by its name in its module; anything else by its type.
    """
    for kinds, described in _DESCRIBED:
        if isinstance(value, kinds):
            return described(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _of_dataclass(value)
    return _of_function(value) if callable(value) else _name(type(value))


def _number(value: Any) -> Any:
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value) if math.isfinite(value) else str(float(value))
    return str(value)


def _name(value: Any) -> str:
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    return f"{module}.{name}" if name else f"{type(value).__module__}.{type(value).__qualname__}"


def _of_mapping(value: Mapping[Any, Any]) -> Any:
    """The facts of a mapping; the weights of a network in one text."""
    leaves = jax.tree.leaves(dict(value))
    if leaves and all(isinstance(leaf, (np.ndarray, jax.Array)) for leaf in leaves):
        return tree(dict(value))
    described = {str(key): plain(one) for key, one in value.items()}
    return Facts(described, defaults=value.defaults) if isinstance(value, Facts) else described


def _of_array(value: Any) -> Any:
    """The facts of an array; a scalar as the number that it is."""
    dtype = value.dtype  # that of a key is none of NumPy's
    if value.ndim == 0 and isinstance(dtype, np.dtype) and dtype.kind in "biuf":
        return plain(np.asarray(value).item())
    return array(value)


def _of_dataclass(value: Any) -> Facts:
    fields = {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    defaults = {
        field.name: plain(field.default)
        for field in dataclasses.fields(value)
        if field.default is not dataclasses.MISSING
    }
    return Facts({MADE_BY: type(value).__name__, **fields}, defaults=defaults)


def _of_function(value: Callable[..., Any]) -> Any:
    """The name of a function; of a bound function with its object or its arguments."""
    if isinstance(value, functools.partial):
        return {MADE_BY: plain(value.func), "args": plain(value.args), "kwargs": plain(value.keywords)}
    own = getattr(value, "__self__", None)
    if own is None or isinstance(own, types.ModuleType):
        return _name(value)
    return {MADE_BY: _name(value), "self": plain(own)}


def _of_part(part: Network | InitDistribution | Form | Method) -> Facts:
    """The facts of a part; functions of a user's own count by the part's name alone."""
    if part.made is not None:
        return Facts(
            {MADE_BY: part.made.by, **plain(part.made.arguments)}, defaults=plain(part.made.defaults)
        )
    own: dict[str, Any] = {}
    if isinstance(part, Network):
        own = {"input_shape": part.input_shape, "num_classes": part.num_classes}
    if isinstance(part, InitDistribution):
        own = {"fixed": part.fixed, "pool": None if part.pool is None else tree(part.pool)}
    return Facts({MADE_BY: type(part).__name__, "name": part.name, **plain(own)})


def array(value: Any) -> str:
    """An array as a text: its dtype, shape and the SHA-256 of its numbers.

    Args:
        value: an array or scalar of NumPy or JAX, or a key of JAX.

    Returns:
        The text; a scalar of a plain dtype as its value.
    """
    if isinstance(value, jax.Array) and jax.numpy.issubdtype(value.dtype, jax.dtypes.prng_key):
        return f"{jax.random.key_impl(value)} key {np.asarray(jax.random.key_data(value)).ravel().tolist()}"
    found = np.asarray(value)
    if found.ndim == 0 and found.dtype.kind in "biuf":
        return f"{found.dtype.name} {found.item()!r}"
    if found.dtype.kind == "O":
        return f"object{list(found.shape)}"
    data = np.ascontiguousarray(found)
    # Byte order does not make another array.
    data = data.astype(data.dtype.newbyteorder("<"), copy=False)
    digest = hashlib.sha256(data.reshape(-1).view(np.uint8).data).hexdigest()
    return f"{found.dtype.name}{list(found.shape)} {digest}"


def tree(value: Any) -> str | None:
    """All arrays of a pytree as one text.

    Args:
        value: the pytree.

    Returns:
        The number of arrays and one SHA-256; None for a pytree without arrays.
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(value)
    if not leaves:
        return None
    total = hashlib.sha256()
    for path, leaf in leaves:
        total.update(f"{jax.tree_util.keystr(path)} {array(leaf)}\n".encode())
    return f"{len(leaves)} arrays {total.hexdigest()}"


def differences(found: Any, wanted: Any, where: str = "") -> list[str]:
    """The facts that differ between a record and a run.

    A fact that the record does not have was unknown to the version that wrote the record, and takes its
    default (`Facts.defaults`); where there is no default, the fact is not compared. A fact that only the
    record has comes from a newer version, and counts as equal where it is null or false: not given, or off.

    Args:
        found: the facts of the record, as JSON gave them.
        wanted: the facts of the run.
        where: the name of the facts, for the texts.

    Returns:
        A text for each fact that differs, such as `"method.batch_size was 64, is 32"`.
    """
    if not isinstance(found, Mapping) or not isinstance(wanted, Mapping):
        return [] if found == wanted else [f"{where} was {shown(found)}, is {shown(wanted)}"]
    if found.get(MADE_BY) != wanted.get(MADE_BY):
        return [f"{where} was {shown(found)}, is {shown(wanted)}"]
    lines = []
    for name in [*wanted, *(name for name in found if name not in wanted)]:
        place = f"{where}.{name}" if where else name
        if name in found and name in wanted:
            lines += differences(found[name], wanted[name], place)
        elif name in found:
            if found[name] not in (None, False):
                lines.append(f"{place} was {shown(found[name])}, which this version does not know")
        elif not isinstance(wanted, Facts):
            lines.append(f"{place} was not given, is {shown(wanted[name])}")
        elif name in wanted.defaults:
            lines += differences(wanted.defaults[name], wanted[name], place)
    return lines


def shown(fact: Any) -> str:
    """A fact in a few words, for a message.

    Args:
        fact: the fact.

    Returns:
        The text: the name of what was built, or the value with long digests shortened.
    """
    if isinstance(fact, Mapping):
        return str(fact.get("name", fact[MADE_BY])) if MADE_BY in fact else "{...}"
    if isinstance(fact, str):
        words = [f"{word[:12]}…" if len(word) == 64 else word for word in fact.split(" ")]
        return repr(" ".join(words)) if len(fact) <= 200 else repr(fact[:200] + "…")
    text = repr(fact)
    return text if len(text) <= 200 else f"{text[:200]}…"


_DESCRIBED: Sequence[tuple[Any, Callable[[Any], Any]]] = (
    ((type(None), bool, str), lambda value: value),
    ((np.ndarray, np.generic, jax.Array), _of_array),
    (numbers.Number, _number),
    (Mapping, _of_mapping),
    (Sequence, lambda value: [plain(one) for one in value]),
    ((Network, InitDistribution, Form, Images, Method), _of_part),
)
"""The kinds of values, each with the function that describes them; the first that fits counts."""

__all__ = ["MADE_BY", "Facts", "array", "differences", "noted", "plain", "shown", "tree"]

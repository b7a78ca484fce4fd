"""The identity of a program: one digest of all operations and constants of a traced function.

The digest sees what no list of settings can: the functions of a user's own, and arrays that are closed over.
It is that of JAX's intermediate representation, whose form belongs to no stable interface: digests are to be
compared only where the versions of JAX and of all traced code are the same (`traced_under`).
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.extend import core

from ddjax import facts, forms, platforms, updates
from ddjax.engine import Problem
from ddjax.types import PyTree, RealData, Schedule

_NAMES = frozenset({"name", "debug_info", "donated_invars", "keep_unused", "inline", "compiler_options_kvs"})
"""Parameters of operations that say nothing of what is computed."""


def digest(function: Callable[..., Any], *arguments: PyTree) -> str:
    """The identity of a function as a program.

    Args:
        function: the function to trace; nothing is compiled.
        *arguments: arguments of the right structure, shapes and dtypes, whose values do not count.

    Returns:
        64 hexadecimal digits of SHA-256: equal for equal operations on equal constants.
    """
    total = hashlib.sha256()
    for token in _closed(jax.make_jaxpr(function)(*arguments)):
        total.update(token.encode())
        total.update(b"\n")
    return total.hexdigest()


def parts(problem: Problem, key: jax.Array, data: RealData) -> dict[str, str]:
    """The programs of an outer step of one slot, independent of the number of slots, chunks and devices.

    Args:
        problem: the method, form and optimiser.
        key: a key, whose value does not count.
        data: the real training data, whose values do not count.

    Returns:
        The digests by name: `start` (of φ and of a slot), `sample`, `loss` (not its gradient, which takes
        thrice as long to trace: rules of differentiation count by name), `optimizer` (with the projection),
        `advance`.
    """
    method, form = problem.method, problem.form
    data = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), data)

    def start(key: jax.Array) -> tuple[PyTree, PyTree]:
        return form.init(key), method.init(key)

    def loss(params: PyTree, slot: PyTree, batch: Any, key: jax.Array) -> tuple[jax.Array, Any]:
        schedule, key = forms.drawn(form, forms.freeze(form, params), key)
        return method.loss(schedule, slot, batch, key)

    def advance(schedule: Schedule, slot: PyTree, batch: Any, info: Any, key: jax.Array) -> PyTree:
        return method.advance(schedule, slot, batch, info, key)

    params, slot = jax.eval_shape(start, key)
    batch = jax.eval_shape(method.sample, data, key)
    _, info = jax.eval_shape(loss, params, slot, batch, key)
    return {
        "start": digest(start, key),
        "sample": digest(method.sample, data, key),
        "loss": digest(loss, params, slot, batch, key),
        "optimizer": optimizer(problem, problem.optimizer, key),
        "advance": digest(advance, jax.eval_shape(form.unfold, params), slot, batch, info, key),
    }


def optimizer(problem: Problem, moving: optax.GradientTransformation, key: jax.Array) -> str:
    """The program by which an optimiser moves the φ of a problem.

    Args:
        problem: the form.
        moving: the optimiser of all leaves of φ.
        key: a key, whose value does not count.

    Returns:
        The digest.
    """

    def value_and_grad(params: PyTree) -> tuple[jax.Array, PyTree]:
        """A loss for optimisers that ask for one; others leave it aside."""
        return jnp.asarray(optax.tree.sum(params)), params

    def move(params: PyTree, grads: PyTree) -> PyTree:
        # From the first state on: its values, such as the rate at the start, count too.
        asked = updates.Loss(value_and_grad(params)[0], grads, value_and_grad)
        moves, _ = updates.update(moving, grads, updates.init(moving, params), params, loss=asked)
        moved = optax.apply_updates(params, moves)
        return moved if problem.form.project is None else problem.form.project(moved)

    params = jax.eval_shape(problem.form.init, key)
    return digest(move, params, params)


def traced_under() -> dict[str, str]:
    """The versions and settings that digests of programs depend on.

    Returns:
        The versions of JAX, Flax, optax and NumPy, the digest of ddjax's source, JAX's backend and width of
        numbers, by name.
    """
    versions = {
        name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "flax", "optax", "numpy")
    }
    settings = {name: str(jax.config.values[f"jax_{name}"]) for name in ("enable_x64", "disable_jit")}
    return {**versions, "ddjax": _source(), "backend": platforms.current(), **settings}


@functools.cache
def _source() -> str:
    """The digest of this package's own files: two states of the code may have one version."""
    total, folder = hashlib.sha256(), Path(__file__).parent
    for path in sorted(folder.rglob("*.py")):
        total.update(f"{path.relative_to(folder).as_posix()}\n".encode())
        total.update(path.read_bytes())
    return total.hexdigest()


def _closed(closed: core.ClosedJaxpr) -> Iterable[str]:
    yield from (facts.array(const) for const in closed.consts)
    yield from _open(closed.jaxpr)


def _open(jaxpr: core.Jaxpr) -> Iterable[str]:
    """The operations in order; variables by the order in which they appear."""
    numbers: dict[Any, int] = {}

    def atom(one: Any) -> str:
        if isinstance(one, core.Literal):
            return f"{one.aval} {_token(one.val)}"
        number = numbers.setdefault(one, len(numbers))
        return f"{number}:{one.aval}"

    yield " ".join(map(atom, (*jaxpr.constvars, *jaxpr.invars)))
    for eqn in jaxpr.eqns:
        yield eqn.primitive.name
        yield " ".join(map(atom, eqn.invars))
        for name in sorted(set(eqn.params) - _NAMES):
            yield f"{name}={_token(eqn.params[name])}"
        yield " ".join(map(atom, eqn.outvars))
    yield " ".join(map(atom, jaxpr.outvars))


def _token(value: Any) -> str:
    """A parameter of an operation as text, without addresses in memory."""
    for kinds, written in _WRITTEN:
        if isinstance(value, kinds):
            return written(value)
    if callable(value) and not isinstance(value, type):
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__name__)}"
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


_WRITTEN: Sequence[tuple[Any, Callable[[Any], str]]] = (
    (core.ClosedJaxpr, lambda value: "{" + "\n".join(_closed(value)) + "}"),
    (core.Jaxpr, lambda value: "{" + "\n".join(_open(value)) + "}"),
    ((np.ndarray, np.generic, jax.Array), facts.array),
    (Mapping, lambda value: _token(list(value.items()))),
    ((tuple, list), lambda value: "(" + ", ".join(map(_token, value)) + ")"),
)
"""The kinds of parameters, each with the function that writes them; the first that fits counts."""

__all__ = ["digest", "optimizer", "parts", "traced_under"]

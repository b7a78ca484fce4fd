"""The digest of a program: equal for equal operations on equal constants, and for nothing else."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddjax.program import digest, traced_under

X = jax.ShapeDtypeStruct((3,), jnp.float32)


def scaled(factor: float):
    return lambda x: factor * jnp.sin(x)


def shifted(by: np.ndarray):
    constant = jnp.asarray(by)

    def named_otherwise(x):
        return jax.jit(lambda y: y + constant)(x)

    return named_otherwise


def looped(count: int, step: float):
    return lambda x: jax.lax.scan(lambda y, _: (y * step, y), x, None, length=count)


def with_rule(scale: float):
    @jax.custom_vjp
    def rule(x):
        return x * scale

    rule.defvjp(lambda x: (rule(x), None), lambda _, g: (g,))
    return rule


PROGRAMS = {
    "a number": (lambda: scaled(2.0), lambda: scaled(3.0)),
    "an operation": (lambda: jnp.sin, lambda: jnp.cos),
    "an array that is closed over": (lambda: shifted(np.ones(3)), lambda: shifted(np.zeros(3))),
    "the length of a loop": (lambda: looped(3, 2.0), lambda: looped(4, 2.0)),
    "the body of a loop": (lambda: looped(3, 2.0), lambda: looped(3, 2.5)),
    "the order of operands": (lambda: lambda x: x - x[0], lambda: lambda x: x[0] - x),
    "a rule of differentiation": (lambda: with_rule(1.0), lambda: with_rule(2.0)),
    "a branch": (
        lambda: lambda x: jax.lax.cond(x[0] > 0, lambda: x, lambda: 2 * x),
        lambda: lambda x: jax.lax.cond(x[0] > 0, lambda: x, lambda: 3 * x),
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_are_told_apart(name):
    build, other = PROGRAMS[name]
    first = digest(build(), X)
    assert first == digest(build(), X)
    assert first != digest(other(), X)


def test_names_and_values_of_arguments_make_no_other_program():
    def a_name(x):
        return x * 2

    def another(y):
        return y * 2

    assert digest(jax.jit(a_name), X) == digest(jax.jit(another), X)
    assert digest(a_name, np.ones(3, np.float32)) == digest(a_name, np.zeros(3, np.float32))
    assert digest(a_name, X) != digest(a_name, jax.ShapeDtypeStruct((4,), jnp.float32))
    assert digest(functools.partial(jnp.add, 1.0), X) == digest(lambda x: 1.0 + x, X)


def test_what_digests_depend_on_is_said():
    under = traced_under()
    assert under == traced_under()
    assert under["jax"] == jax.__version__
    assert under["backend"] == jax.default_backend()
    assert len(under["ddjax"]) == 64

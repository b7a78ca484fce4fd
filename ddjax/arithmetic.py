"""The arithmetic of a traced program: the operations of its matrix products and convolutions.

Two operations count for each multiplication; convolutions without the zeros of padding and dilation, as XLA
counts them. What XLA itself counts is no measure of a program with loops: it counts the body of each once.
Beside them the speed at which this machine does products.
"""

from __future__ import annotations

import math
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Jaxpr, JaxprEqn, jaxprs_in_params


def flops(jaxpr: Jaxpr) -> int:
    """The operations of a traced program: scans times their length, `cond` as its most expensive branch.

    Args:
        jaxpr: the traced program.

    Returns:
        The number of operations.
    """
    return sum(map(_flops_of_equation, jaxpr.eqns))


def _flops_of_equation(equation: JaxprEqn) -> int:
    params, name = equation.params, equation.primitive.name
    if name == "dot_general":
        return _flops_of_product(equation)
    if name == "conv_general_dilated":
        return _flops_of_convolution(equation)
    inside = [flops(jaxpr) for jaxpr in jaxprs_in_params(params)]
    if name == "scan":
        return params["length"] * sum(inside)
    if name == "shard_map":
        return params["mesh"].size * sum(inside)
    return max(inside) if name == "cond" else sum(inside)


def _shapes(equation: JaxprEqn) -> list[tuple[int, ...]]:
    """The shapes of both operands and the result."""
    avals: list[Any] = [var.aval for var in (*equation.invars, *equation.outvars)]
    return [aval.shape for aval in avals]


def _flops_of_product(equation: JaxprEqn) -> int:
    lhs, _, out = _shapes(equation)
    (contracted, _), _ = equation.params["dimension_numbers"]
    return 2 * math.prod(out) * math.prod(lhs[axis] for axis in contracted)


def _flops_of_convolution(equation: JaxprEqn) -> int:
    lhs, rhs, out = _shapes(equation)
    params = equation.params
    axes = params["dimension_numbers"]
    products = math.prod(out[axis] for axis in axes.out_spec[:2]) * rhs[axes.rhs_spec[1]]
    names = ("window_strides", "padding", "lhs_dilation", "rhs_dilation")
    windows = zip(*(params[name] for name in names), strict=True)
    for i, (stride, (low, _), spread, hop) in enumerate(windows, start=2):
        # The pairs of an output and a tap that meet an input, not a zero around or between the inputs.
        outputs, taps = np.ogrid[: out[axes.out_spec[i]], : rhs[axes.rhs_spec[i]]]
        at = outputs * stride + taps * hop - low
        inside = (at >= 0) & (at <= (lhs[axes.lhs_spec[i]] - 1) * spread)
        products *= int(np.count_nonzero(inside & (at % spread == 0)))
    return 2 * products


def speed_of_product(size: int = 1024, *, seconds: float = 0.1) -> float:
    """Operations per second of a dense float32 product on the default device, the best of three measurements.

    Args:
        size: the number of rows and of columns of both matrices.
        seconds: the time that a measurement should take.

    Returns:
        The speed.
    """
    multiply = jax.jit(jnp.matmul)
    matrix = jax.random.normal(jax.random.key(0), (size, size), jnp.float32) / math.sqrt(size)

    def timed(times: int) -> float:
        began = time.perf_counter()
        product = matrix
        for _ in range(times):  # each product needs the one before, so the last one ends last
            product = multiply(product, matrix)
        jax.block_until_ready(product)
        return time.perf_counter() - began

    timed(1)
    times = math.ceil(seconds / timed(1))
    return 2 * size**3 * times / min(timed(times) for _ in range(3))

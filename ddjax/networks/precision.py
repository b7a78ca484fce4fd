"""Networks that compute in fewer bits than float32, while weights, gradients and φ stay float32."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ddjax import checks
from ddjax.facts import noted
from ddjax.types import Network, PyTree

PRECISIONS = ("float32", "tf32", "bf16")
"""The precisions that `at_precision` knows."""

_PRODUCTS = {"float32": "highest", "tf32": "tensorfloat32"}


@noted
def at_precision(network: Network, precision: str) -> Network:
    """The same network, computed at a chosen precision.

    | precision | activations | products of two numbers |
    |---|---|---|
    | float32 | float32 | float32 on every device, in several passes on TPUs |
    | tf32 | float32 | of 10 bits of mantissa (TF32) on GPUs, in three passes of bfloat16 on TPUs |
    | bf16 | bfloat16, half the memory | bfloat16, summed in float32 where the device does so |

    CPUs compute products of float32 in float32 whatever the precision is. Weights are rounded where they are
    used; they themselves, their gradients and logits have the dtype that they had.

    Args:
        network: the network.
        precision: one of `PRECISIONS`.

    Returns:
        The network, with the same weights.

    Raises:
        ValueError: the precision is unknown, or the network is defined by its kernel, whose matrices are
            inverted.
    """
    checks.choice("precision", precision, PRECISIONS)
    if network.kernel is not None:
        raise ValueError(
            f"precision: expected a network with weights; {network.name} is a kernel, and its matrices are "
            "inverted. Leave precision out."
        )
    at = _in_bfloat16 if precision == "bf16" else _with_products(_PRODUCTS[precision])
    embed = None if network.embed is None else at(network.embed)
    return dataclasses.replace(network, apply=at(network.apply), embed=embed)


Function = Callable[[Any, jax.Array], jax.Array]


def _in_bfloat16(function: Function) -> Function:
    def rounded(params: PyTree, inputs: jax.Array) -> jax.Array:
        return function(_rounded(params), _rounded(inputs)).astype(inputs.dtype)

    return rounded


def _rounded(tree: PyTree) -> PyTree:
    return jax.tree.map(
        lambda leaf: leaf.astype(jnp.bfloat16) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, tree
    )


def _with_products(precision: str) -> Callable[[Function], Function]:
    """The wrapper under which products have a precision; their derivatives take it over."""

    def at(function: Function) -> Function:
        def precise(params: PyTree, inputs: jax.Array) -> jax.Array:
            with jax.default_matmul_precision(precision):
                return function(params, inputs)

        return precise

    return at

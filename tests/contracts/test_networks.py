"""Every network keeps the contract of networks."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from problems import CLASSES, SHAPE

from ddjax import networks, testing
from ddjax.networks.norms import NORMS
from ddjax.testing import NETWORK_CHECKS, NetworkCase

# The deep networks are differentiated twice where gradient matching meets them (test_combinations.py).
TABLE = {
    "mlp": lambda: networks.mlp(SHAPE, CLASSES, widths=(8,)),
    "lenet": lambda: networks.lenet((12, 12, 1), CLASSES),
    **{
        f"convnet, {norm}": lambda norm=norm: networks.convnet(SHAPE, CLASSES, depth=1, width=4, norm=norm)
        for norm in NORMS
    },
    "textconv": lambda: networks.textconv((5, 3), CLASSES, width=4, windows=(2, 3)),
    "bilstm": lambda: networks.bilstm((4, 3), CLASSES, width=3, depth=1),
    "transformer": lambda: networks.transformer((4, 3), CLASSES, width=4, depth=1, heads=2),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLE)
def test_a_network_keeps_its_contract(name):
    case = NetworkCase(TABLE[name]())
    for check in NETWORK_CHECKS.values():
        check(case)


@pytest.mark.slow
def test_a_network_that_looks_at_its_neighbours_fails():
    crowd = networks.from_functions(
        lambda key: {"kernel": jax.random.normal(key, (64, CLASSES))},
        lambda params, x: (x - x.mean(0, keepdims=True)).reshape(len(x), -1) @ params["kernel"],
        SHAPE,
        CLASSES,
        name="crowd",
    )
    with pytest.raises(testing.ContractError, match="the same logits for an input alone"):
        testing.check_network(crowd)


def test_a_network_with_a_root_at_zero_fails():
    rooted = networks.from_functions(
        lambda key: {"kernel": jax.random.normal(key, (64, CLASSES)), "bias": jnp.zeros(CLASSES)},
        lambda params, x: x.reshape(len(x), -1) @ params["kernel"] + jnp.sqrt(params["bias"])[None],
        SHAPE,
        CLASSES,
        name="rooted",
    )
    with pytest.raises(testing.ContractError, match="finite second derivatives"):
        testing.check_network(rooted)

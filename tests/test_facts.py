"""Facts: equal where values are equal, in any process; what an older or newer version wrote is told apart."""

from __future__ import annotations

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddjax import facts, forms, inits, methods, networks, pool, recipes, types
from ddjax.facts import Facts, differences, plain
from ddjax.unroll import STRATEGIES

SHAPE = (4, 4, 1)


def mlp(**settings):
    return networks.mlp(SHAPE, 3, **({"widths": (4,)} | settings))


def members(scale: float) -> pool.Pool:
    params = {"kernel": scale * np.ones((3, 2, 2), np.float32)}
    return pool.Pool(params, num_train=2, accuracy=np.full(3, 50, np.float32))


VALUES = {
    "a network": (mlp, lambda: mlp(widths=(5,))),
    "its inputs": (mlp, lambda: networks.mlp((4, 4, 3), 3, widths=(4,))),
    "a scheme": (lambda: inits.random(mlp()), lambda: inits.random(mlp(), scheme="pytorch")),
    "a gain": (lambda: inits.random(mlp()), lambda: inits.random(mlp(), gain=2.0)),
    "a fixed θ0": (
        lambda: inits.fixed(mlp(), jax.random.key(0)),
        lambda: inits.fixed(mlp(), jax.random.key(1)),
    ),
    "N": (
        lambda: methods.unrolled(mlp(), inits.random(mlp())),
        lambda: methods.unrolled(mlp(), inits.random(mlp()), batch_size=64),
    ),
    "a recipe": (recipes.Train, lambda: recipes.Train(epochs=3)),
    "a rate": (lambda: forms.pixels(SHAPE, 3), lambda: forms.pixels(SHAPE, 3, inner_lr=0.03)),
    "images to start from": (
        lambda: forms.pixels(SHAPE, 3, inner_steps=1, initial_images=np.zeros((1, 3, *SHAPE), np.float32)),
        lambda: forms.pixels(SHAPE, 3, inner_steps=1, initial_images=np.ones((1, 3, *SHAPE), np.float32)),
    ),
    "a pool": (lambda: members(1.0), lambda: members(2.0)),
    "an array": (lambda: np.arange(3), lambda: np.arange(3) + 1),
    "a dtype": (lambda: np.arange(3, dtype=np.int32), lambda: np.arange(3, dtype=np.int64)),
    "a key": (lambda: jax.random.key(0), lambda: jax.random.key(1)),
    "a function": (lambda: np.sum, lambda: np.mean),
    "arguments of a function": (lambda: functools.partial(max, 1), lambda: functools.partial(max, 2)),
    "a number": (lambda: 1.5, lambda: float("nan")),
}


@pytest.mark.parametrize("name", VALUES)
def test_facts_are_equal_for_equal_values_and_differ_for_others(name):
    build, other = VALUES[name]
    first, again, changed = (json.dumps(plain(one())) for one in (build, build, other))
    assert first == again
    assert first != changed
    assert "0x" not in first  # an address would differ from process to process
    assert differences(json.loads(first), plain(build())) == []
    assert differences(json.loads(first), plain(other()), "it") != []


def test_what_differs_is_named():
    before, now = (
        plain(methods.unrolled(mlp(widths=(w,)), inits.random(mlp(widths=(w,))), batch_size=n))
        for w, n in ((4, 64), (5, 32))
    )
    assert differences(json.loads(json.dumps(before)), now, "method") == [
        "method.network.widths was [4], is [5]",
        "method.inits.network.widths was [4], is [5]",
        "method.batch_size was 64, is 32",
    ]
    other = plain(methods.distribution_matching(mlp(), inits.random(mlp())))
    assert differences(before, other, "method") == ["method was unrolled, is distribution_matching"]


def test_byte_order_and_layout_make_no_other_array():
    array = np.arange(6, dtype="<f4").reshape(2, 3)
    assert facts.array(array) == facts.array(array.astype(">f4")) == facts.array(np.asfortranarray(array))
    assert facts.array(array) == facts.array(jnp.asarray(array))


def test_a_fact_that_an_older_version_did_not_have_takes_its_default():
    """F9 in the library: an argument that a later version adds changes no identity."""
    now = plain(methods.unrolled(mlp(), inits.random(mlp()), batch_size=64))
    older = {name: value for name, value in now.items() if name != "horizon"}
    assert differences(older, now) == []
    memory = dataclasses.replace(STRATEGIES["reverse"], window=3)
    other = plain(
        methods.unrolled(mlp(), inits.random(mlp()), batch_size=64, horizon="random", memory=memory)
    )
    assert "horizon was 'full', is 'random'" in differences(older, other)


def test_a_fact_of_a_newer_version_counts_where_it_is_given():
    now = Facts({"made_by": "f", "a": 1})
    assert differences({"made_by": "f", "a": 1, "novel": None, "other": False}, now) == []
    assert differences({"made_by": "f", "a": 1, "novel": 3}, now) == [
        "novel was 3, which this version does not know"
    ]


def test_scalars_are_the_numbers_that_they_are():
    assert plain([np.float64(0.1), np.int32(3), jnp.float32(0.5), np.array(2.5)]) == [0.1, 3, 0.5, 2.5]


def test_parts_of_a_user_s_own_are_known_by_name():
    own = types.Network(lambda key: key, lambda params, inputs: inputs, None, "mine", SHAPE, 3)
    assert plain(own) == {"made_by": "Network", "name": "mine", "input_shape": [4, 4, 1], "num_classes": 3}
    finite = types.InitDistribution(lambda key: key, "mine", pool={"w": np.ones((2, 3))})
    changed = types.InitDistribution(lambda key: key, "mine", pool={"w": np.zeros((2, 3))})
    assert plain(finite) != plain(changed)


def test_a_noted_part_is_what_it_was():
    network = mlp()
    assert network.made is not None
    assert network.made.by == "mlp"
    assert network.made.arguments["widths"] == (4,)
    assert network == dataclasses.replace(network, made=None)
    assert networks.mlp.__name__ == "mlp"

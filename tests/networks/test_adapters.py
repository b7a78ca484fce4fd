"""Linen modules, NNX modules and plain functions become networks; what is no pure classifier is refused."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ddjax import networks

SHAPE = (4, 4, 1)


class Linen(nn.Module):
    norm: bool = False
    dropout: bool = False
    flatten: bool = True

    @nn.compact
    def __call__(self, x):
        x = x.reshape(x.shape[0], -1) if self.flatten else x
        x = nn.Dense(5)(x)
        if self.norm:
            x = nn.BatchNorm(use_running_average=False)(x)
        if self.dropout:
            x = nn.Dropout(0.5, deterministic=False)(x)
        return nn.Dense(3)(x)


class Nnx(nnx.Module):
    def __init__(self, rngs, *, norm=False, size=16):
        self.hidden = nnx.Linear(size, 5, rngs=rngs)
        self.norm = nnx.BatchNorm(5, rngs=rngs) if norm else None
        self.last = nnx.Linear(5, 3, rngs=rngs)

    def embed(self, x):
        x = self.hidden(x.reshape(x.shape[0], -1))
        return nnx.relu(x if self.norm is None else self.norm(x))

    def __call__(self, x):
        return self.last(self.embed(x))


def _linear(key):
    return {"kernel": jax.random.normal(key, (16, 3)), "bias": jnp.zeros(3)}


def _apply(params, x):
    return x.reshape(x.shape[0], -1) @ params["kernel"] + params["bias"][None]


NETWORKS = {
    "linen": lambda: networks.from_linen(Linen(), SHAPE, 3),
    "nnx": lambda: networks.from_nnx(Nnx, SHAPE, 3),
    "nnx_built": lambda: networks.from_nnx(Nnx(nnx.Rngs(0)), SHAPE, 3),
    "functions": lambda: networks.from_functions(_linear, _apply, SHAPE, 3),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", NETWORKS)
def test_adapted_networks_are_pure_jittable_and_differentiable(kind):
    network = NETWORKS[kind]()
    params = jax.jit(network.init)(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (6, *SHAPE))
    plain, jitted = network.apply(params, x), jax.jit(network.apply)(params, x)
    assert plain.shape == (6, 3)
    np.testing.assert_allclose(plain, jitted, rtol=1e-5, atol=1e-6)
    gradient = jax.grad(lambda p: jnp.sum(network.apply(p, x) ** 2))(params)
    assert all(jnp.any(leaf != 0) for leaf in jax.tree.leaves(gradient))
    many = jax.jit(jax.vmap(network.init))(jax.random.split(jax.random.key(2), 4))
    assert jax.vmap(network.apply, in_axes=(0, None))(many, x).shape == (4, 6, 3)


def test_names_and_embeddings_are_the_modules():
    linen, from_nnx = NETWORKS["linen"](), NETWORKS["nnx"]()
    assert (linen.name, linen.embed) == ("linen", None)
    assert from_nnx.name == "nnx"
    assert from_nnx.embed is not None
    params = from_nnx.init(jax.random.key(0))
    assert from_nnx.embed(params, jnp.ones((2, *SHAPE))).shape == (2, 5)
    assert networks.from_linen(Linen(), SHAPE, 3, name="mine").name == "mine"


@pytest.mark.slow
def test_an_nnx_factory_draws_and_a_built_module_keeps_its_weights():
    def first_weights(kind):
        init = NETWORKS[kind]().init
        return [jax.tree.leaves(init(jax.random.key(seed)))[1] for seed in (1, 2)]

    assert not jnp.array_equal(*first_weights("nnx"))
    assert jnp.array_equal(*first_weights("nnx_built"))


def _integers(key):
    return {**_linear(key), "steps": jnp.zeros((), int)}


def _bad(apply=_apply, embed=None, init=_linear):
    return lambda: networks.from_functions(init, apply, SHAPE, 3, embed=embed)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: networks.from_linen(Linen(norm=True), SHAPE, 3), "batch_stats.*replace batch norm"),
        (lambda: networks.from_linen(Linen(dropout=True), SHAPE, 3), "random numbers.*deterministic=True"),
        (lambda: networks.from_linen(Linen(), SHAPE, 4), r"expected \(2, 4\); got \(2, 3\)"),
        (lambda: networks.from_linen(Linen(flatten=False), SHAPE, 3), r"got \(2, 4, 4, 3\)"),
        (lambda: networks.from_nnx(lambda rngs: Nnx(rngs, norm=True), SHAPE, 3), "BatchStat besides"),
        (lambda: networks.from_nnx(lambda rngs: Nnx(rngs, size=9), SHAPE, 3), "tracing it failed"),
        (_bad(apply=lambda p, x: (_apply(p, x), x)), r"custom: logits of two images: expected \(2, 3\)"),
        (_bad(embed=lambda p, x: x), r"embed to map two images to \[2, F\]; got \(2, 4, 4, 1\)"),
        (_bad(init=_integers), r"got int32 at \['steps'\]"),
    ],
)
def test_what_is_no_pure_classifier_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


class Convolutional(nn.Module):
    own: bool = False

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(5, (3, 3), strides=2, padding="SAME")(x))
        x = nn.Conv(4, (2, 2), conv_general_dilated=jax.lax.conv_general_dilated if self.own else None)(x)
        return nn.Dense(3)(x.reshape(x.shape[0], -1))


def convolutions(network) -> int:
    """How many of XLA's own convolutions applying the network takes."""
    params = network.init(jax.random.key(0))
    return str(jax.make_jaxpr(network.apply)(params, jnp.zeros((2, *SHAPE)))).count("conv_general_dilated[")


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_a_linen_module_s_convolutions_are_computed_in_the_chosen_form():
    forms = {
        form: networks.from_linen(Convolutional(), SHAPE, 3, conv_form=form) for form in ("lax", "im2col")
    }
    assert {form: convolutions(network) for form, network in forms.items()} == {"lax": 2, "im2col": 0}
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), forms["lax"].init(jax.random.key(1)))
    inputs = jax.random.normal(jax.random.key(2), (3, *SHAPE))
    np.testing.assert_allclose(
        forms["im2col"].apply(params, inputs), forms["lax"].apply(params, inputs), rtol=1e-12
    )


@pytest.mark.slow
def test_a_convolution_of_the_module_s_own_is_left_alone():
    assert convolutions(networks.from_linen(Convolutional(own=True), SHAPE, 3, conv_form="im2col")) == 1


def test_an_unknown_form_is_refused():
    with pytest.raises(ValueError, match="conv_form: expected one of"):
        networks.from_linen(Convolutional(), SHAPE, 3, conv_form="fft")

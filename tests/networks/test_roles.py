"""The roles of weights come from layers, names and the user's word: what p(θ0) draws and what it leaves."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ddjax import inits, networks
from ddjax.leaves import name as leaf_name
from ddjax.networks import Kernel
from ddjax.types import Network

SHAPE, CLASSES = (8, 8, 1), 3
WIDTH, HEADS, DEPTH = 32, 4, 8


class ViT(nn.Module):
    """A small vision transformer with a class token, position embeddings and an attention with biases."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        patches = nn.Conv(WIDTH, (4, 4), strides=(4, 4), name="patches")(x)
        tokens = patches.reshape(len(x), -1, WIDTH)
        cls = self.param("cls", nn.initializers.normal(0.02), (1, 1, WIDTH))
        tokens = jnp.concatenate([jnp.tile(cls, (len(x), 1, 1)), tokens], 1)
        tokens = tokens + self.param("pos_embedding", nn.initializers.normal(0.02), (1, 5, WIDTH))
        bias = nn.initializers.constant(0.25)
        attended = nn.MultiHeadDotProductAttention(HEADS, bias_init=bias, name="attention")(tokens, tokens)
        mixed = (tokens + attended).reshape(len(x), 5, 1, WIDTH)
        mixed = mixed * self.param("scale", nn.initializers.ones, (1, 1, 1, WIDTH))
        return nn.Dense(CLASSES, name="head")(mixed[:, 0, 0])


class NnxAttention(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.attention = nnx.MultiHeadAttention(HEADS, WIDTH, decode=False, rngs=rngs)
        self.head = nnx.Linear(WIDTH, CLASSES, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        tokens = x.reshape(len(x), 2, WIDTH)
        return self.head(self.attention(tokens).mean(1))


@pytest.fixture(scope="module")
def vit() -> Network:
    return networks.from_linen(ViT(), SHAPE, CLASSES)


def drawn(network: Any, **settings: Any) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The weights of p(θ0), and those that the network itself draws from the same key."""
    distribution = inits.random(network, **settings)
    both = jax.jit(lambda key: (distribution.sample(key), network.init(jax.random.split(key)[0])))
    samples = both(jax.random.key(3))
    named = (
        {leaf_name(p): np.asarray(x) for p, x in jax.tree_util.tree_leaves_with_path(t)} for t in samples
    )
    ours, own = named
    return ours, own


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["xavier_normal", "pytorch", "orthogonal"])
def test_a_vit_keeps_tokens_embeddings_scales_and_attention_biases(vit, scheme):
    ours, own = drawn(vit, scheme=scheme)
    kept = [
        "cls",
        "pos_embedding",
        "scale",
        *(f"attention.{name}.bias" for name in ("query", "key", "value")),
    ]
    for name in kept:
        np.testing.assert_array_equal(ours[name], own[name], err_msg=name)
    for name in own:
        if name.endswith("kernel"):
            assert not np.array_equal(ours[name], own[name]), name


@pytest.mark.slow
def test_the_kernels_of_an_attention_have_the_fans_of_their_matrices(vit):
    ours, _ = drawn(vit)
    for name in ("query", "key", "value", "out"):
        kernel = ours[f"attention.{name}.kernel"]
        assert kernel.shape == ((HEADS, DEPTH, WIDTH) if name == "out" else (WIDTH, HEADS, DEPTH))
        # 1,024 draws: the standard error is 2.2 %. By the last two axes it would be 4 times off.
        assert kernel.std() == pytest.approx(np.sqrt(2 / (2 * WIDTH)), rel=0.08)


@pytest.mark.slow
def test_orthogonal_attention_kernels_are_orthogonal_as_matrices(vit):
    ours, _ = drawn(vit, scheme="orthogonal")
    for name in ("query", "out"):
        matrix = ours[f"attention.{name}.kernel"].reshape(WIDTH, WIDTH)
        np.testing.assert_allclose(matrix.T @ matrix, np.eye(WIDTH), atol=1e-5)


@pytest.mark.slow
def test_an_nnx_attention_has_the_same_roles():
    network = networks.from_nnx(NnxAttention, SHAPE, CLASSES)
    known = dict(network.roles)
    assert known["attention.query.kernel"] == Kernel(1, 2, 0)
    assert known["attention.out.kernel"] == Kernel(2, 1, 0)
    assert known["head.kernel"] == Kernel(field=0)
    assert known["attention.query.bias"] == "own"


@pytest.mark.slow
def test_layers_stacked_by_a_scan_have_the_fans_of_one_layer():
    class Stacked(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            def body(layer: nn.Module, carry: jax.Array, _: None) -> tuple[jax.Array, None]:
                return layer(carry), None

            scan = nn.scan(body, variable_axes={"params": 0}, split_rngs={"params": True}, length=6)
            hidden, _ = scan(nn.Dense(64, name="layers"), x.reshape(len(x), -1), None)
            return nn.Dense(CLASSES, name="head")(hidden)

    ours, _ = drawn(networks.from_linen(Stacked(), SHAPE, CLASSES))
    assert ours["layers.kernel"].shape == (6, 64, 64)
    # 24,576 draws: the standard error is 0.5 %. As a receptive field, six layers would give 0.41 times this.
    assert ours["layers.kernel"].std() == pytest.approx(np.sqrt(2 / 128), rel=0.02)


def plain(params: dict[str, Any], roles: Any = None) -> Any:
    def apply(weights: dict[str, Any], x: jax.Array) -> jax.Array:
        total = sum(jnp.sum(leaf) for leaf in jax.tree.leaves(weights))
        return jnp.zeros((len(x), CLASSES)) + total

    return networks.from_functions(lambda key: params, apply, SHAPE, CLASSES, roles=roles)


@pytest.mark.parametrize(
    "own",
    [
        {"scale": jnp.full((1, 1, 1, 4), 3.0)},
        {"bias": jnp.full((1, 4), 3.0)},
        {"embedding": jnp.full((9, 4), 3.0)},
        {"norm": {"scale": jnp.full((2, 4), 3.0)}},
        {"kernel": jnp.full((4,), 3.0)},
    ],
)
def test_names_that_are_no_kernels_keep_the_networks_values(own):
    network = plain({"layer": {"kernel": jnp.zeros((4, 4))}, "rest": own})
    params = inits.random(network).sample(jax.random.key(0))
    assert all((leaf == 3).all() for leaf in jax.tree.leaves(params["rest"]))
    assert params["layer"]["kernel"].std() > 0


def test_names_alone_tell_the_kernels_of_an_attention():
    names = {one: {"kernel": jnp.zeros((40, 4, 10))} for one in ("query", "key", "value")}
    tree = {
        "block": names | {"out": {"kernel": jnp.zeros((4, 10, 40))}},
        "conv": {"kernel": jnp.zeros((5, 4, 9))},
    }
    known = dict(plain(tree).roles)
    assert known["block.query.kernel"] == Kernel(1, 2, 0)
    assert known["block.out.kernel"] == Kernel(2, 1, 0)
    assert known["conv.kernel"] == Kernel(), "a convolution over one axis"


def test_the_users_word_counts():
    tree = {"fc": {"w": jnp.full((30, 20), 3.0), "b": jnp.full(20, 3.0)}, "v": jnp.full((4, 5, 50), 3.0)}
    network = plain(tree, {"w": "kernel", "fc.b": "bias", "v": Kernel(1, 2, 0)})
    treatment = inits.random(network).treatment
    assert treatment is not None
    assert treatment() == {"drawn": ("fc.w", "v"), "zero": ("fc.b",), "own": ()}
    params = inits.random(network, scheme="kaiming_normal").sample(jax.random.key(0))
    assert params["fc"]["w"].std() == pytest.approx(np.sqrt(2 / 30), rel=0.15)
    assert params["v"].std() == pytest.approx(np.sqrt(2 / 4), rel=0.15)
    assert not params["fc"]["b"].any()


def test_a_scheme_that_draws_nothing_says_so():
    with pytest.warns(UserWarning, match=r"roles of the weights w are not known.*roles=\{...\}"):
        distribution = inits.random(plain({"w": jnp.ones((4, 4))}))
    assert (distribution.sample(jax.random.key(0))["w"] == 1).all()


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        ({"w": "kernle"}, "expected kernel, bias, own"),
        ({"x": "kernel"}, "expected names of weights, w; got 'x'"),
        ({"w": "bias"}, r"expected a vector as a bias; got shape \(4, 4\)"),
        ({"w": Kernel(2, 2)}, "expected a kernel of 4 or more axes"),
    ],
)
def test_roles_that_fit_no_weight_are_refused(roles, message):
    with pytest.raises(ValueError, match=message):
        plain({"w": jnp.ones((4, 4))}, roles)


def by_rank(network: Any, scheme: str, key: jax.Array) -> Any:
    """p(θ0) as ddjax 0.1 drew it, a second formulation: every weight of two or more axes is a kernel."""
    own_key, draw_key = jax.random.split(key)
    own, tree = jax.tree_util.tree_flatten_with_path(network.init(own_key))
    shapes = {jax.tree_util.keystr(p): x.shape for p, x in own}

    def draw(index: int, path: Any, leaf: jax.Array) -> jax.Array:
        one = jax.random.fold_in(draw_key, index)
        beside = shapes.get(jax.tree_util.keystr((*path[:-1], jax.tree_util.DictKey("kernel"))))
        shape = leaf.shape if leaf.ndim >= 2 else beside
        if leaf.ndim < 2 and path[-1].key != "bias":
            return leaf
        if shape is None or (leaf.ndim < 2 and scheme != "pytorch"):
            return jnp.zeros_like(leaf)
        fan_in, fan_out = (int(np.prod(shape[:-2])) * size for size in shape[-2:])
        if scheme == "pytorch":
            bound = float(np.sqrt(3 * (1 / (3 * fan_in))))
            return jax.random.uniform(one, leaf.shape, leaf.dtype, -bound, bound)
        return float(np.sqrt(2 / (fan_in + fan_out))) * jax.random.normal(one, leaf.shape, leaf.dtype)

    return jax.tree.unflatten(tree, [draw(i, path, leaf) for i, (path, leaf) in enumerate(own)])


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["xavier_normal", "pytorch"])
@pytest.mark.parametrize(
    ("name", "shape", "settings"),
    [
        ("lenet", (12, 12, 1), {}),
        ("convnet", (4, 4, 3), {"width": 8, "depth": 2}),
        ("convnet", (4, 4, 3), {"width": 8, "depth": 1, "norm": "layer"}),
        ("mlp", (4, 4, 1), {"widths": (8, 4)}),
    ],
)
def test_the_networks_of_ddjax_start_bit_for_bit_as_before(name, shape, settings, scheme):
    network = networks.by_name(name, shape, 10, **settings)
    distribution = inits.random(network, scheme=scheme)
    both = jax.jit(lambda key: (distribution.sample(key), by_rank(network, scheme, key)))
    ours, before = both(jax.random.key(7))
    jax.tree.map(np.testing.assert_array_equal, ours, before)


TEXTS = ("bilstm", "textconv", "transformer")
BUILT_IN: dict[str, tuple[int, ...]] = {
    **{name: (32, 32, 3) for name in networks.NAMES if name not in TEXTS},
    "alexnet": (227, 227, 3),
    "lenet": (28, 28, 1),
}


@pytest.mark.parametrize("name", TEXTS)
def test_the_kernels_of_networks_for_texts_are_known(name):
    network = networks.by_name(name, (12, 8), 10)
    shapes = jax.eval_shape(network.init, jax.random.key(0))
    known = dict(network.roles)
    for path, _ in jax.tree_util.tree_leaves_with_path(shapes):
        assert isinstance(known[leaf_name(path)], Kernel) == (path[-1].key == "kernel")


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILT_IN)
def test_no_weight_of_our_networks_is_unknown(name):
    network = networks.by_name(name, BUILT_IN[name], 10, conv_form="lax")  # the form has no weights
    shapes = jax.eval_shape(network.init, jax.random.key(0))
    known = dict(network.roles)
    for path, leaf in jax.tree_util.tree_leaves_with_path(shapes):
        role, last = known[leaf_name(path)], path[-1].key
        # What the rule by rank said, too: kernels are the weights of two or more axes, HWIO or IO.
        assert isinstance(role, Kernel) == (leaf.ndim >= 2) == (last == "kernel")
        assert (role == "bias") == (last == "bias")
        if isinstance(role, Kernel):
            assert role._replace(field=None) == Kernel()
            assert role.field == leaf.ndim - 2

"""p(θ0): the distributions from which initial weights are drawn.

A scheme redraws every weight of two or more dimensions, each from its own key, with the fans of a kernel
`[..., in, out]` (HWIO for convolutions, `[in, out]` for dense layers):

    fan_in = in * receptive field,    fan_out = out * receptive field

Vectors named `bias` become zero, except under the scheme `pytorch`, which draws them too. Other vectors, such
as the scales of a norm, keep the network's own value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from ddjax import checks
from ddjax.facts import noted
from ddjax.pool import SPLITS, Pool, digest
from ddjax.types import InitDistribution, Network, Params

_Draw = Callable[[jax.Array, tuple[int, ...], tuple[int, ...], Any], jax.Array]
"""A function that draws a weight: `(key, shape, the kernel's shape, dtype) -> weights`."""


@noted
def random(network: Network, *, scheme: str = "xavier_normal", gain: float = 1.0) -> InitDistribution:
    """Initial weights drawn anew from every key.

    Args:
        network: the network that the weights belong to.
        scheme: the name of the distribution of kernels; the normal distributions are not truncated.

            | scheme | distribution |
            |---|---|
            | `"xavier_normal"` | N(0, gain² · 2 / (fan_in + fan_out)) |
            | `"xavier_uniform"` | U(-a, a), a = gain · √(6 / (fan_in + fan_out)) |
            | `"kaiming_normal"` | N(0, gain² · 2 / fan_in) |
            | `"kaiming_uniform"` | U(-a, a), a = gain · √(6 / fan_in) |
            | `"lecun_normal"` | N(0, gain² / fan_in) |
            | `"pytorch"` | U(-a, a), a = gain / √fan_in, for a kernel and the layer's bias |
            | `"orthogonal"` | gain · a random `[fan_in, out]` matrix of orthonormal columns (or rows) |
            | `"network"` | the network's own initial weights, vectors included; gain must be 1 |
        gain: the factor on all weights that are drawn.

    Returns:
        The distribution, named after its scheme; its weights have the dtypes of the network's own.

    Raises:
        ValueError: an unknown scheme, or a gain that is not positive.

    References:
        Xavier: Glorot and Bengio 2010. Kaiming: He et al. 2015, arXiv 1502.01852. Orthogonal: Saxe et al.
        2014, arXiv 1312.6120. LeCun: LeCun et al. 1998, Efficient BackProp. `pytorch` is the
        default of `torch.nn.Linear` and `torch.nn.Conv2d`, with which all networks of the condensation papers
        start.
    """
    checks.kind("network", network, Network, remedy="Build it with ddjax.networks.")
    checks.choice("scheme", scheme, SCHEMES)
    checks.positive("gain", gain)
    name = scheme if gain == 1 else f"{scheme}(gain={gain:g})"
    settings = {"kind": "random", "scheme": scheme, "gain": float(gain)}
    if scheme == "network":
        checks.equal("gain", gain, 1, remedy="The scheme 'network' takes the network's own scale.")
        return InitDistribution(network.init, name, settings=settings)
    draw, draws_biases = _DRAWS[scheme], scheme == "pytorch"

    def sample(key: jax.Array) -> Params:
        own_key, draw_key = jax.random.split(key)
        # The network draws kernels of its own too; under jit nothing uses them and XLA removes the draw.
        own, tree = jax.tree_util.tree_flatten_with_path(network.init(own_key))
        keys = (jax.random.fold_in(draw_key, i) for i in range(len(own)))
        kernels = _kernel_shapes(own) if draws_biases else {}
        leaves = [
            _redraw(draw, gain, path, leaf, key, kernel=kernels.get(jax.tree_util.keystr(path[:-1])))
            for (path, leaf), key in zip(own, keys, strict=True)
        ]
        return jax.tree.unflatten(tree, leaves)

    return InitDistribution(sample, name, settings=settings)


@noted
def fixed(
    network: Network, key: jax.Array, *, scheme: str = "xavier_normal", gain: float = 1.0
) -> InitDistribution:
    """One fixed θ0, drawn by this call.

    Args:
        network: the network that the weights belong to.
        key: the source of the random draw of θ0. Consumed.
        scheme: the name of the distribution of kernels, see `random`.
        gain: the factor on all weights that are drawn.

    Returns:
        The distribution whose every sample is θ0, for every key.

    Raises:
        ValueError: `key` is no PRNG key, or `random` refuses the scheme or the gain.
    """
    checks.prng_key("key", key)
    distribution = random(network, scheme=scheme, gain=gain)
    params = jax.jit(distribution.sample)(key)
    settings = {**distribution.settings, "kind": "fixed", **_key_facts(key)}
    return InitDistribution(lambda key: params, f"fixed({distribution.name})", fixed=True, settings=settings)


def _key_facts(key: jax.Array) -> dict[str, Any]:
    """A key as JSON can hold it: its numbers and the algorithm that reads them; nothing inside a trace."""
    if isinstance(key, Tracer):
        return {}
    return {
        "key": jax.device_get(jax.random.key_data(key)).tolist(),
        "algorithm": str(jax.random.key_impl(key)),
    }


@noted
def pretrained(pool: Pool, *, split: str = "train", member: int | None = None) -> InitDistribution:
    """Weights that were trained before: members of a pool, drawn anew from every key, or one fixed member.

    Args:
        pool: the pool of trained networks.
        split: the part of the pool, `"train"` for the members to distil with or `"held_out"` for the members
            kept for evaluation.
        member: the number of the member that every sample is; None draws the members uniformly.

    Returns:
        The distribution. With `member=None` the distribution has all members as its `pool`, so that an
        evaluation uses each member once instead of drawing members.

    Raises:
        ValueError: `pool` is no `Pool`, `split` is unknown, or the split has no such member.
    """
    checks.kind("pool", pool, Pool, remedy="Give ddjax.pool.load(path).")
    checks.choice("split", split, SPLITS)
    members = jax.tree.map(jnp.asarray, pool.members(split))
    name = f"pretrained({pool.name}, {split})"
    settings = {"kind": "pretrained", "pool": pool.name, "digest": digest(pool), "split": split}
    if member is None:
        return InitDistribution(lambda key: draw(members, key), name, pool=members, settings=settings)
    count = pool.size(split)
    checks.at_least("member", member, 0)
    if member >= count:
        raise ValueError(
            f"member: expected one of the {count} {split} members, 0 to {count - 1}; got {member}. Give a "
            "smaller number."
        )
    params = jax.tree.map(lambda leaf: leaf[member], members)
    name, settings = f"pretrained({pool.name}, {split} {member})", {**settings, "member": int(member)}
    return InitDistribution(lambda key: params, name, fixed=True, settings=settings)


def draw(pool: Params, key: jax.Array) -> Params:
    """Draw one of n networks' weights, with equal probabilities.

    Args:
        pool: the stacked weights of n networks, with leaves `[n, ...]`.
        key: the source of the random draw. Consumed.

    Returns:
        The weights of one network, with leaves `[...]`.
    """
    index = jax.random.randint(key, (), 0, len(jax.tree.leaves(pool)[0]))
    return jax.tree.map(lambda leaf: leaf[index], pool)


def _redraw(
    draw: _Draw,
    gain: float,
    path: tuple[Any, ...],
    leaf: jax.Array,
    key: jax.Array,
    *,
    kernel: tuple[int, ...] | None,
) -> jax.Array:
    """A leaf drawn anew; `kernel` is the shape of the kernel in the layer of a bias that is drawn too."""
    if leaf.ndim >= 2:
        return gain * draw(key, leaf.shape, leaf.shape, leaf.dtype)
    if not _is_called(path, "bias"):
        return leaf
    return jnp.zeros_like(leaf) if kernel is None else gain * draw(key, leaf.shape, kernel, leaf.dtype)


def _kernel_shapes(leaves: Sequence[tuple[tuple[Any, ...], jax.Array]]) -> dict[str, tuple[int, ...]]:
    """The shapes of the kernels, by the path of their layer."""
    return {
        jax.tree_util.keystr(path[:-1]): leaf.shape
        for path, leaf in leaves
        if leaf.ndim >= 2 and _is_called(path, "kernel")
    }


def _fans(shape: tuple[int, ...]) -> tuple[int, int]:
    field = math.prod(shape[:-2])
    return field * shape[-2], field * shape[-1]


def _normal(variance: Callable[[int, int], float]) -> _Draw:
    def draw(key: jax.Array, shape: tuple[int, ...], kernel: tuple[int, ...], dtype: Any) -> jax.Array:
        return math.sqrt(variance(*_fans(kernel))) * jax.random.normal(key, shape, dtype)

    return draw


def _uniform(variance: Callable[[int, int], float]) -> _Draw:
    def draw(key: jax.Array, shape: tuple[int, ...], kernel: tuple[int, ...], dtype: Any) -> jax.Array:
        # U(-a, a) has the variance a² / 3.
        bound = math.sqrt(3 * variance(*_fans(kernel)))
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return draw


def _orthogonal(key: jax.Array, shape: tuple[int, ...], kernel: tuple[int, ...], dtype: Any) -> jax.Array:
    del kernel
    return jax.nn.initializers.orthogonal()(key, shape, dtype)


def _xavier(fan_in: int, fan_out: int) -> float:
    return 2 / (fan_in + fan_out)


def _kaiming(fan_in: int, _: int) -> float:
    return 2 / fan_in


def _lecun(fan_in: int, _: int) -> float:
    return 1 / fan_in


def _pytorch(fan_in: int, _: int) -> float:
    return 1 / (3 * fan_in)


_DRAWS: dict[str, _Draw] = {
    "xavier_normal": _normal(_xavier),
    "xavier_uniform": _uniform(_xavier),
    "kaiming_normal": _normal(_kaiming),
    "kaiming_uniform": _uniform(_kaiming),
    "lecun_normal": _normal(_lecun),
    "pytorch": _uniform(_pytorch),
    "orthogonal": _orthogonal,
}
SCHEMES = (*_DRAWS, "network")


def _is_called(path: tuple[Any, ...], name: str) -> bool:
    last = path[-1] if path else None
    return getattr(last, "key", getattr(last, "name", None)) == name

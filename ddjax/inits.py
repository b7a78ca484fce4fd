"""p(θ0): the distributions from which initial weights are drawn.

A scheme redraws the kernels of a network, each from its own key. Which weights are kernels, and which of
their axes are inputs and outputs, is said by the layers of a Flax module, by names, or by the user
(`ddjax.networks.roles`), never by the number of axes. A kernel `[..., *in, *out]`, such as HWIO of a
convolution, `[in, out]` of a dense layer or `[in, heads, d]` of an attention's queries, has the fans

    fan_in = product of in * receptive field,    fan_out = product of out * receptive field

Vectors named `bias` become zero, except under the scheme `pytorch`, which draws the bias beside a kernel too.
All other weights, such as the scales of a norm, class tokens, position embeddings and tables of embeddings,
keep the network's own values.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer

from ddjax import checks
from ddjax.facts import noted
from ddjax.leaves import name as leaf_name
from ddjax.networks import roles
from ddjax.pool import SPLITS, Pool, digest
from ddjax.types import InitDistribution, Kernel, Network, Params, Role


class _Layout(NamedTuple):
    """A kernel's role and shape."""

    role: Kernel
    shape: tuple[int, ...]


_Draw = Callable[[jax.Array, tuple[int, ...], _Layout, Any], jax.Array]
"""A function that draws a weight: `(key, shape, the layer's kernel, dtype) -> weights`."""


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

    Warns:
        UserWarning: the network has weights of two or more axes, and none of them is known as a kernel, so
            that the scheme draws nothing.

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
        own = functools.partial(_treatment, network, scheme)
        return InitDistribution(network.init, name, treatment=own, settings=settings)
    draw, draws_biases = _DRAWS[scheme], scheme == "pytorch"
    _warn_where_nothing_is_drawn(network, scheme)

    def sample(key: jax.Array) -> Params:
        own_key, draw_key = jax.random.split(key)
        # The network draws kernels of its own too; under jit nothing uses them and XLA removes the draw.
        own, tree = jax.tree_util.tree_flatten_with_path(network.init(own_key))
        keys = (jax.random.fold_in(draw_key, i) for i in range(len(own)))
        shapes = {leaf_name(path): leaf.shape for path, leaf in own}
        known = _roles(network, shapes)
        leaves = [
            _redraw(draw, gain, leaf, key, kernel=_kernel_of(name, known, shapes), draws_biases=draws_biases)
            if known[name] != "own"
            else leaf
            for (name, (_, leaf)), key in zip(zip(shapes, own, strict=True), keys, strict=True)
        ]
        return jax.tree.unflatten(tree, leaves)

    treatment = functools.partial(_treatment, network, scheme)
    return InitDistribution(sample, name, treatment=treatment, settings=settings)


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
    name, treatment = f"fixed({distribution.name})", distribution.treatment
    return InitDistribution(lambda key: params, name, fixed=True, treatment=treatment, settings=settings)


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


def _roles(network: Network, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Role]:
    """The roles of the weights: those that the network states, the others by name."""
    known = roles.by_name(shapes)
    known.update((name, role) for name, role in network.roles if name in shapes)
    return known


def _kernel_of(name: str, known: Mapping[str, Role], shapes: Mapping[str, tuple[int, ...]]) -> _Layout | None:
    """The kernel that a weight is, or that a bias has beside it in the same layer; None without a kernel."""
    role = known[name]
    if isinstance(role, Kernel):
        return _Layout(role, shapes[name])
    layer = name.rpartition(".")[0]
    kernels = (one for one, role in known.items() if isinstance(role, Kernel))
    found = next((one for one in kernels if one.rpartition(".")[0] == layer), None)
    return None if found is None else _kernel_of(found, known, shapes)


def _redraw(
    draw: _Draw, gain: float, leaf: jax.Array, key: jax.Array, *, kernel: _Layout | None, draws_biases: bool
) -> jax.Array:
    """A kernel or bias drawn anew; `kernel` is the kernel of the layer."""
    is_kernel = kernel is not None and kernel.shape == leaf.shape
    if kernel is None or not (is_kernel or draws_biases):
        return jnp.zeros_like(leaf)
    return gain * draw(key, leaf.shape, kernel, leaf.dtype)


def _shapes(network: Network) -> dict[str, tuple[int, ...]]:
    weights = jax.eval_shape(network.init, jax.random.key(0))
    return {leaf_name(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(weights)}


def _treatment(network: Network, scheme: str) -> dict[str, tuple[str, ...]]:
    """What a scheme does with each weight; see `ddjax.types.InitDistribution`."""
    shapes = _shapes(network)
    found: dict[str, list[str]] = {"drawn": [], "zero": [], "own": []}
    known = _roles(network, shapes)
    for name, role in known.items():
        is_drawn = isinstance(role, Kernel)
        if role == "bias" and scheme == "pytorch":
            is_drawn = _kernel_of(name, known, shapes) is not None
        kind = "own" if scheme == "network" or role == "own" else "drawn" if is_drawn else "zero"
        found[kind].append(name)
    return {kind: tuple(names) for kind, names in found.items()}


def _warn_where_nothing_is_drawn(network: Network, scheme: str) -> None:
    if any(isinstance(role, Kernel) for _, role in network.roles):
        return
    shapes = _shapes(network)
    known = _roles(network, shapes)
    unknown = [name for name, shape in shapes.items() if len(shape) >= 2]
    if unknown and not any(isinstance(role, Kernel) for role in known.values()):
        warnings.warn(
            f"{network.name}: scheme {scheme!r}: expected kernels to draw; the roles of the weights "
            f"{', '.join(unknown)} are not known, and they keep the values that the network draws. Name "
            "kernels `kernel`, give roles={...} to ddjax.networks.from_functions, or give scheme='network'.",
            stacklevel=3,
        )


def _axes(kernel: _Layout) -> tuple[tuple[int, ...], ...]:
    """The sizes of the copies, the receptive field, the inputs and the outputs of a kernel."""
    role, shape = kernel
    last = len(shape)
    first, second = (role.outputs, role.inputs) if role.swapped else (role.inputs, role.outputs)
    middle = last - second
    start = middle - first
    copies = 0 if role.field is None else start - role.field
    field, one, two = shape[copies:start], shape[start:middle], shape[middle:]
    return shape[:copies], field, *((two, one) if role.swapped else (one, two))


def _fans(kernel: _Layout) -> tuple[int, int]:
    _, field, inputs, outputs = (math.prod(sizes) for sizes in _axes(kernel))
    return field * inputs, field * outputs


def _normal(variance: Callable[[int, int], float]) -> _Draw:
    def draw(key: jax.Array, shape: tuple[int, ...], kernel: _Layout, dtype: Any) -> jax.Array:
        return math.sqrt(variance(*_fans(kernel))) * jax.random.normal(key, shape, dtype)

    return draw


def _uniform(variance: Callable[[int, int], float]) -> _Draw:
    def draw(key: jax.Array, shape: tuple[int, ...], kernel: _Layout, dtype: Any) -> jax.Array:
        # U(-a, a) has the variance a² / 3.
        bound = math.sqrt(3 * variance(*_fans(kernel)))
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return draw


def _orthogonal(key: jax.Array, shape: tuple[int, ...], kernel: _Layout, dtype: Any) -> jax.Array:
    copies, field, inputs, outputs = (math.prod(sizes) for sizes in _axes(kernel))
    columns = inputs if kernel.role.swapped else outputs
    matrix = (field * inputs * outputs // columns, columns)
    one = functools.partial(jax.nn.initializers.orthogonal(), shape=matrix, dtype=dtype)
    if copies == 1:
        return one(key).reshape(shape)
    return jax.vmap(one)(jax.random.split(key, copies)).reshape(shape)


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

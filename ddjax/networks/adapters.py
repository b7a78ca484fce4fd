"""Networks from a Flax linen module, an NNX module, a pair of plain functions or a kernel."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp

from ddjax import checks
from ddjax.leaves import name as leaf_name
from ddjax.networks import ops
from ddjax.networks import roles as roles_of
from ddjax.types import Network, Params, Role

if TYPE_CHECKING:
    from flax import nnx

_PURE = "A network must be a pure function of its weights and inputs"


@checks.entry
def from_functions(
    init: Callable[[jax.Array], Params],
    apply: Callable[[Params, jax.Array], jax.Array],
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    embed: Callable[[Params, jax.Array], jax.Array] | None = None,
    name: str = "custom",
    roles: Mapping[str, Role | str] | None = None,
) -> Network:
    """A network from a pair of pure functions.

    Args:
        init: the function that draws initial weights, `key -> params`.
        apply: the function that computes logits, `(params, inputs [n, *input_shape]) -> logits [n, K]`.
        input_shape: the shape of one input; for images `(H, W, C)`.
        num_classes: the number of classes, K.
        embed: the function that computes the input of the last layer,
            `(params, inputs [n, *input_shape]) -> features [n, F]`. None for a network without one.
        name: the name of the network in artifacts and records.
        roles: what `ddjax.inits` may do with each weight, by the weight's name, such as `"conv1.w"`, or by
            the last part of the name, such as `"w"`: `"kernel"` for axes `[..., in, out]`, a
            `ddjax.networks.Kernel` for other axes, `"bias"` for a layer's bias, `"own"` to keep the value
            that `init` draws. A weight that is not listed is known by its name: `kernel` and `bias` have
            these roles, and all others keep their own values.

    Returns:
        The network. Nothing has been computed yet, but all shapes have been checked.

    Raises:
        ValueError: an invalid input shape or number of classes, outputs of the wrong shape, weights that are
            not floating-point numbers, or roles that do not fit the weights.
    """
    shape = checks.input_shape(input_shape)
    checks.at_least("num_classes", num_classes, 1)
    checks.text("name", name, remedy="Give how artifacts and records shall call the network.")
    for what, function in (("init", init), ("apply", apply)):
        checks.function(what, function, remedy="A network is a pair of functions, init and apply.")
    network = Network(init, apply, embed, name, shape, num_classes)
    shapes = {leaf_name(path): leaf.shape for path, leaf in _checked_weights(network)}
    known = roles_of.by_name(shapes) | roles_of.stated(roles or {}, shapes, network=name)
    return dataclasses.replace(network, roles=tuple(known.items()))


@checks.entry
def from_kernel(
    kernel: Callable[[jax.Array, jax.Array], jax.Array],
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    name: str = "kernel",
    gram: Callable[[jax.Array], jax.Array] | None = None,
) -> Network:
    """A network without weights, known by its kernel alone, such as an infinitely wide one.

    Args:
        kernel: the function that computes the kernel matrix,
            `(inputs [n, *input_shape], others [m, *input_shape]) -> [n, m]`; symmetric and positive
            semi-definite.
        input_shape: the shape of one input; for images `(H, W, C)`.
        num_classes: the number of classes, K.
        name: the name of the network in artifacts and records.
        gram: the function that computes the kernel matrix of inputs with themselves, `inputs [n,
            *input_shape] -> [n, n]`, where its diagonal can be known better; by default `kernel` does.

    Returns:
        The network. The recipe `Ridge` predicts with its kernel; every other recipe fails with the
        ValueError that the network's `apply` raises.

    Raises:
        ValueError: an invalid input shape or number of classes, or a kernel matrix of another shape.
    """
    shape = checks.input_shape(input_shape)
    checks.at_least("num_classes", num_classes, 1)
    checks.text("name", name, remedy="Give a name for artifacts and records.")
    checks.function("kernel", kernel, remedy="Give (inputs, others) -> [n, m].")
    two, three = (jax.ShapeDtypeStruct((n, *shape), jnp.zeros(()).dtype) for n in (2, 3))
    found = _traced(name, two, kernel, two, three)
    remedy = "kernel must map [n, ...] and [m, ...] to [n, m]."
    checks.equal(f"{name}: kernel of two and three inputs", found.shape, (2, 3), remedy=remedy)

    def apply(params: Params, inputs: jax.Array) -> jax.Array:
        raise ValueError(
            f"{name}: expected a network with weights; a kernel has none to train or apply. Give "
            "recipe=ddjax.Recipe('ridge')."
        )

    def matrix(params: Params, inputs: jax.Array, others: jax.Array | None) -> jax.Array:
        del params
        if others is None:
            return kernel(inputs, inputs) if gram is None else gram(inputs)
        return kernel(inputs, others)

    return Network(lambda key: (), apply, None, name, shape, num_classes, matrix)


@checks.entry
def from_linen(
    module: nn.Module,
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    name: str | None = None,
    conv_form: str = "auto",
) -> Network:
    """A network from a Flax linen module.

    Args:
        module: the module, which maps inputs `[n, *input_shape]` to logits `[n, K]`. If the module has a
            method `embed`, that method maps the same inputs to the input of the last layer, `[n, F]`.
        input_shape: the shape of one input; for images `(H, W, C)`.
        num_classes: the number of classes, K.
        name: the name of the network in artifacts and records; by default the name of the module's class
            in lower case.
        conv_form: the form in which the module's `nn.Conv` layers are computed, see
            `ddjax.networks.ops.conv`. A layer that was built with its own `conv_general_dilated` keeps that.

    Returns:
        The network, whose weights are the module's collection `params`.

    Raises:
        ValueError: a module that keeps other collections (such as batch statistics), that needs random
            numbers when applied (such as dropout), or that returns outputs of the wrong shape.
    """
    checks.kind("module", module, nn.Module, remedy="Give a linen module, already built.")
    checks.at_least("num_classes", num_classes, 1)
    label = name or type(module).__name__.lower()
    dummy = jax.ShapeDtypeStruct((2, *checks.input_shape(input_shape)), jnp.zeros(()).dtype)

    def init(key: jax.Array) -> Params:
        variables = module.init(key, jnp.zeros(dummy.shape))
        _refuse_state(label, sorted(set(variables) - {"params"}))
        # Without the boxes of `nn.with_partitioning`, so that the tree has the plain names of the weights.
        return nn.meta.unbox(variables["params"])

    swap = _swap_convolutions(ops.conv_op(conv_form))

    def apply(params: Params, inputs: jax.Array) -> jax.Array:
        with nn.intercept_methods(swap):
            logits: Any = module.apply({"params": params}, inputs)
            return logits

    def embed(params: Params, inputs: jax.Array) -> jax.Array:
        with nn.intercept_methods(swap):
            features: Any = module.apply({"params": params}, inputs, method="embed")
            return features

    # The layers are looked at once, here; JAX remembers the shapes, which `from_functions` asks for again.
    with roles_of.of_linen() as of_layers:
        params = _traced(label, dummy, init, jax.random.key(0))
    _check_linen_draws_nothing(apply, params, dummy, label)
    has_embed = callable(getattr(module, "embed", None))
    network = from_functions(
        init, apply, input_shape, num_classes, embed=embed if has_embed else None, name=label
    )
    return _with_roles(network, of_layers)


def _with_roles(network: Network, of_layers: Mapping[str, Role]) -> Network:
    """The network whose kernels have the roles of its module's layers."""
    roles = tuple((name, of_layers.get(name, role)) for name, role in network.roles)
    return dataclasses.replace(network, roles=roles)


def _swap_convolutions(op: Callable[..., jax.Array]) -> Callable[..., Any]:
    """An interceptor under which every plain `nn.Conv` convolves with `op`."""

    def swap(call: Callable, args: tuple, kwargs: dict, context: nn.module.InterceptorContext) -> Any:
        conv = context.module
        is_conv = isinstance(conv, nn.Conv) and context.method_name == "__call__"
        if is_conv and conv.conv_general_dilated is None and conv.conv_general_dilated_cls is None:
            # Flax freezes modules; this bound one exists for a single application, and nothing else sees it.
            object.__setattr__(conv, "conv_general_dilated", op)
        return call(*args, **kwargs)

    return swap


@checks.entry
def from_nnx(
    module: nnx.Module | Callable[[nnx.Rngs], nnx.Module],
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    name: str | None = None,
) -> Network:
    """A network from a Flax NNX module.

    Args:
        module: a factory `rngs -> module`, e.g. `lambda rngs: MyNet(rngs=rngs)`, so that initial weights can
            be drawn; or a module that is already built, whose present weights are then the one θ0 for every
            key. The module maps inputs `[n, *input_shape]` to logits `[n, K]`. If the module has a method
            `embed`, that method maps the same inputs to the input of the last layer, `[n, F]`.
        input_shape: the shape of one input; for images `(H, W, C)`.
        num_classes: the number of classes, K.
        name: the name of the network in artifacts and records; by default the name of the module's class
            in lower case.

    Returns:
        The network, whose weights are a nested dict of the module's `nnx.Param`s.

    Raises:
        ValueError: a module with other state than parameters (batch statistics, random number streams), or
            with outputs of the wrong shape.
    """
    from flax import nnx  # a tenth of what importing ddjax takes, and most networks are none of its modules

    if not isinstance(module, nnx.Module):
        checks.function(
            "module", module, remedy="Give an nnx.Module, or a function of nnx.Rngs that builds one."
        )
    build = (lambda rngs: module) if isinstance(module, nnx.Module) else module
    abstract = nnx.eval_shape(lambda: build(nnx.Rngs(0)))
    label = name or type(abstract).__name__.lower()
    graphdef, _, rest = nnx.split(abstract, nnx.Param, ...)
    left = jax.tree.leaves(rest, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))
    _refuse_state(label, sorted({leaf.type.__name__ for leaf in left}))

    def init(key: jax.Array) -> Params:
        return nnx.to_pure_dict(nnx.state(build(nnx.Rngs(key)), nnx.Param))

    def apply(params: Params, inputs: jax.Array) -> jax.Array:
        return nnx.merge(graphdef, params)(inputs)

    def embed(params: Params, inputs: jax.Array) -> jax.Array:
        merged: Any = nnx.merge(graphdef, params)
        return merged.embed(inputs)

    has_embed = callable(getattr(abstract, "embed", None))
    network = from_functions(
        init, apply, input_shape, num_classes, embed=embed if has_embed else None, name=label
    )
    return _with_roles(network, roles_of.of_nnx(abstract))


def _check_linen_draws_nothing(
    apply: Callable[..., jax.Array], params: Params, inputs: jax.ShapeDtypeStruct, label: str
) -> None:
    try:
        # JAX remembers the shapes that a function leads to: `from_functions` asks for them for nothing.
        jax.eval_shape(apply, params, inputs)
    except flax.errors.InvalidRngError as error:
        raise ValueError(
            f"{label}: expected a module that needs no random numbers when it is applied; it asks for some. "
            f"{_PURE}: switch dropout and the like off (deterministic=True)."
        ) from error


class _StateError(ValueError):
    """A module keeps other state than its weights."""


def _refuse_state(label: str, kinds: list[str]) -> None:
    if kinds:
        raise _StateError(
            f"{label}: expected a module whose only state is its weights; got {', '.join(kinds)} besides. "
            f"{_PURE}: replace batch norm by instance, group or layer norm, and leave dropout out."
        )


def _traced(label: str, inputs: jax.ShapeDtypeStruct, function: Callable[..., Any], *args: Any) -> Any:
    """The shapes that `function` returns; an error in tracing names the network and its input shape."""
    try:
        return jax.eval_shape(function, *args)
    except _StateError:
        raise
    except (TypeError, ValueError, flax.errors.FlaxError) as error:
        raise ValueError(
            f"{label}: expected a network for inputs [n, {', '.join(map(str, inputs.shape[1:]))}]; "
            f"tracing it failed: {error}. Give the image_shape that it was written for."
        ) from error


def _checked_weights(network: Network) -> list[tuple[Any, Any]]:
    """The shapes of the weights with their paths, once the shapes of all functions have been checked."""
    float_dtype = jnp.zeros(()).dtype
    inputs = jax.ShapeDtypeStruct((2, *network.input_shape), float_dtype)
    params = _traced(network.name, inputs, network.init, jax.random.key(0))
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise ValueError(
                f"{network.name}: expected weights that are floating-point numbers; "
                f"got {leaf.dtype} at {jax.tree_util.keystr(path)}. Keep constants out of the weights."
            )
    logits = _traced(network.name, inputs, network.apply, params, inputs)
    checks.equal(
        f"{network.name}: logits of two images",
        jax.tree.map(jnp.shape, logits),
        (2, network.num_classes),
        remedy="apply must map [n, ...] to [n, K], one score for each class, without softmax.",
    )
    if network.embed is not None:
        features = _traced(network.name, inputs, network.embed, params, inputs)
        if jax.tree.structure(features) != jax.tree.structure(0) or features.shape[:-1] != (2,):
            raise ValueError(
                f"{network.name}: expected embed to map two images to [2, F]; "
                f"got {jax.tree.map(jnp.shape, features)}. Flatten the features of each image."
            )
    return jax.tree_util.tree_leaves_with_path(params)

"""The roles of a network's weights: which are kernels, with which axes, and which are something else.

A role comes from what is known: the layer of a Flax module, the name of the weight, or the user's word. The
number of axes alone says nothing: class tokens, position embeddings and the scales of norms have two or more
axes too, and the kernels of an attention have three.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import flax.linen as nn

from ddjax.types import Kernel, Role

if TYPE_CHECKING:
    from flax import nnx

WORDS = ("kernel", "bias", "own")
"""The roles that users give by name; `"kernel"` stands for `Kernel()`, the axes `[..., in, out]`."""

_ATTENTION = {
    "query": Kernel(1, 2, 0),
    "key": Kernel(1, 2, 0),
    "value": Kernel(1, 2, 0),
    "out": Kernel(2, 1, 0),
}
"""The kernels of an attention in Flax: `[in, heads, d]` and `[heads, d, out]`, by the names of the layers."""


def by_name(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Role]:
    """The roles of weights that are known by their names alone.

    | the last part of the name | role |
    |---|---|
    | `kernel`, two or more axes | kernel `[..., in, out]` |
    | `kernel`, three axes, of an attention's `query`, `key` or `value` | kernel `[in, heads, d]` |
    | `kernel`, three axes, of an attention's `out` | kernel `[heads, d, out]` |
    | `bias`, one axis | bias |
    | any other | own |

    Args:
        shapes: the shape of each weight, by its name.

    Returns:
        The role of each weight, by its name.
    """
    return {name: _named(name, shape, shapes) for name, shape in shapes.items()}


def _named(name: str, shape: tuple[int, ...], shapes: Mapping[str, tuple[int, ...]]) -> Role:
    layer, _, last = name.rpartition(".")
    if last == "bias" and len(shape) == 1:
        return "bias"
    if last != "kernel" or len(shape) < 2:
        return "own"
    block, _, called = layer.rpartition(".")
    beside = (f"{block}.{one}.kernel".lstrip(".") in shapes for one in _ATTENTION)
    return _ATTENTION[called] if len(shape) == 3 and called in _ATTENTION and all(beside) else Kernel()


@contextlib.contextmanager
def of_linen() -> Iterator[dict[str, Role]]:
    """The roles of the kernels of all linen layers that are applied inside, from the layers themselves.

    Returns:
        A context, whose value fills with the roles by the names of the weights; layers that are not Flax's
        own are left out.
    """
    found: dict[str, Role] = {}

    def look(call: Any, args: tuple, kwargs: dict, context: nn.module.InterceptorContext) -> Any:
        role = _of_linen_layer(context.module) if context.method_name == "__call__" else None
        if role is not None:
            found[".".join((*context.module.path, "kernel"))] = role
        return call(*args, **kwargs)

    with nn.intercept_methods(look):
        yield found


def _of_linen_layer(layer: nn.Module) -> Role | None:
    if isinstance(layer, nn.Dense):
        return Kernel(field=0)
    if isinstance(layer, nn.DenseGeneral):
        return Kernel(_count(layer.axis), _count(layer.features), 0)
    if isinstance(layer, nn.Conv):
        return Kernel(field=_count(layer.kernel_size))
    if isinstance(layer, nn.ConvTranspose):
        return Kernel(field=_count(layer.kernel_size), swapped=layer.transpose_kernel)
    return "own" if isinstance(layer, (nn.ConvLocal, nn.Einsum)) else None


def of_nnx(module: nnx.Module) -> dict[str, Role]:
    """The roles of the kernels of an NNX module's layers, from the layers themselves.

    Args:
        module: the module, of which the structure alone is read.

    Returns:
        The roles, by the names of the weights; layers that are not Flax's own are left out.
    """
    from flax import nnx

    layers: Iterator[tuple[tuple[Any, ...], Any]] = nnx.iter_graph(module)
    found: dict[str, Role] = {}
    for path, layer in layers:
        role = _of_nnx_layer(layer)
        if role is not None:
            found[".".join(map(str, (*path, "kernel")))] = role
    return found


def _of_nnx_layer(layer: Any) -> Role | None:
    from flax import nnx

    if isinstance(layer, nnx.Linear):
        return Kernel(field=0)
    if isinstance(layer, nnx.LinearGeneral):
        return Kernel(_count(layer.in_features), _count(layer.out_features), 0)
    if isinstance(layer, nnx.Conv):
        return Kernel(field=len(layer.kernel_shape) - 2)
    if isinstance(layer, nnx.ConvTranspose):
        return Kernel(field=len(layer.kernel_shape) - 2, swapped=layer.transpose_kernel)
    return "own" if isinstance(layer, nnx.Einsum) else None


def _count(sizes: Any) -> int:
    return len(sizes) if isinstance(sizes, Sequence) else 1


def stated(
    word: Mapping[str, Role | str], shapes: Mapping[str, tuple[int, ...]], *, network: str
) -> dict[str, Role]:
    """The roles that a user gives.

    Args:
        word: the roles, by the whole names of weights or by the last parts of names, such as `"w"` for every
            weight that is called so.
        shapes: the shape of each weight, by its name.
        network: the name of the network, for messages.

    Returns:
        The roles, by the whole names.

    Raises:
        ValueError: a name that no weight has, an unknown role, or a kernel with more axes than the weight.
    """
    found: dict[str, Role] = {}
    for name, role in word.items():
        if (isinstance(role, str) and role not in WORDS) or not isinstance(role, (str, Kernel)):
            raise ValueError(
                f"{network}: roles: expected kernel, bias, own or a ddjax.networks.Kernel; got {role!r} for "
                f"{name!r}. Give one of these."
            )
        meant = [whole for whole in shapes if whole == name or whole.endswith(f".{name}")]
        if not meant:
            raise ValueError(
                f"{network}: roles: expected names of weights, {', '.join(shapes)}; got {name!r}. Give one "
                "of these, or the last part of one."
            )
        for whole in meant:
            found[whole] = _fitting(role, shapes[whole], f"{network}: roles: {whole}")
    return found


def _fitting(role: Role | str, shape: tuple[int, ...], what: str) -> Role:
    """The role, which a weight of this shape must be able to have."""
    if role == "own":
        return "own"
    if role == "bias":
        if len(shape) == 1:
            return "bias"
        raise ValueError(f"{what}: expected a vector as a bias; got shape {shape}. Give 'own'.")
    kernel = role if isinstance(role, Kernel) else Kernel()
    needed = kernel.inputs + kernel.outputs + (kernel.field or 0)
    if min(kernel.inputs, kernel.outputs, kernel.field or 0) < 0 or len(shape) < needed:
        raise ValueError(
            f"{what}: expected a kernel of {needed} or more axes; got shape {shape}. Give 'own', or a "
            "ddjax.networks.Kernel with the numbers of its axes."
        )
    return kernel


__all__ = ["WORDS", "by_name", "of_linen", "of_nnx", "stated"]

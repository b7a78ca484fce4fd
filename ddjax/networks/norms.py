"""Normalisation between a convolution and its activation, by name; batch norm without hidden state.

| name | statistics over | scale and bias for |
|---|---|---|
| `instance` | each channel of each image | each channel |
| `group` | four groups of channels of each image | each channel |
| `layer` | all of each image | each channel of each pixel |
| `batch` | each channel of all images of a batch | each channel |
| `none` | nothing is done | |

All but `batch` treat an image the same, independently of the other images in its batch. The weights alone
determine by which statistics batch norm normalises. So a network stays a pure function of weights and inputs:

- Weights that `init` draws, and that training updates, contain no statistics. Batch norm then takes the
  statistics of the present batch and differentiates through them, as in the training mode of other libraries.
  Images that are tested in this way are normalised by the statistics of all images in the same batch.
- `calibrate` returns the same weights with statistics measured on given images, e.g. those that the network
  was trained on, or a batch of real images before their gradients are matched. Batch norm then takes these
  constants, as in the evaluation mode of other libraries. Those libraries average the statistics over the
  whole training; here the statistics belong to the final weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from ddjax import checks, platforms
from ddjax.types import Network, Params

EPSILON = 1e-5
GROUPS = 4
NORMS = ("batch", "group", "instance", "layer", "none")
CALIBRATION_BATCH = 256
"""The largest number of images whose statistics are measured together."""


class BatchNorm(nn.Module):
    """(x - mean) / √(var + ε) · scale + bias for each channel; the module's docstring defines both."""

    @nn.compact
    def __call__(self, x: jax.Array, *, ignore_stored: bool = False) -> jax.Array:
        """The normalised batch: `[n, H, W, C] -> [n, H, W, C]`.

        Args:
            x: the batch, `[n, H, W, C]`.
            ignore_stored: whether to take the statistics of the batch even if the weights contain some.

        Returns:
            The normalised batch, `[n, H, W, C]`.
        """
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:], float)
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:], float)
        if self.has_variable("params", "mean") and not ignore_stored:
            stored = (self.get_variable("params", name) for name in ("mean", "var"))
            mean, var = (lax.stop_gradient(leaf) for leaf in stored)
        else:
            mean, var = _moments(x, (0, 1, 2))
        centred = x - mean[None, None, None]
        normed = centred * lax.rsqrt(var + EPSILON)[None, None, None]
        return normed * scale[None, None, None] + bias[None, None, None]


class InstanceNorm(nn.Module):
    """(x - mean) / √(var + ε) · scale + bias for each channel of each image."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """The normalised images: `[n, H, W, C] -> [n, H, W, C]`."""
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:], float)
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:], float)
        flat = x.reshape(x.shape[0], -1, x.shape[-1])
        size = flat.shape[1]
        # Added, not subtracted: the derivative of a difference would be a negated copy of the whole map.
        centred = flat + _spread(_sum(flat) / -size, size)
        factor = lax.rsqrt(_sum(jnp.square(centred)) / size + EPSILON) * scale[None]
        shift = jnp.broadcast_to(bias, factor.shape)
        return (centred * _spread(factor, size) + _spread(shift, size)).reshape(x.shape)


def _sum(x: jax.Array) -> jax.Array:
    """The sum over s, `[n, s, C] -> [n, C]`; on CPU as a product with ones, whose derivative is `_spread`.

    XLA would fuse a plain sum with all operations that lead to the summands, and would compute those again
    for each sum of a derivative. A product reads summands that have been computed once.
    """
    if platforms.current() != "cpu":
        return x.sum(1)
    return jnp.einsum("ns,nsc->nc", jnp.ones(x.shape[:2], x.dtype), x, precision=lax.Precision.HIGHEST)


def _spread(x: jax.Array, size: int) -> jax.Array:
    """A copy for each of s places, `[n, C] -> [n, s, C]`; on CPU by a product, whose derivative is `_sum`."""
    if platforms.current() != "cpu":
        return jnp.broadcast_to(x[:, None], (x.shape[0], size, x.shape[1]))
    return jnp.einsum("ns,nc->nsc", jnp.ones((len(x), size), x.dtype), x, precision=lax.Precision.HIGHEST)


class LayerNorm(nn.Module):
    """(x - mean) / √(var + ε) · scale + bias over a whole image; scale and bias are vectors of H·W·C."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """The normalised images: `[n, H, W, C] -> [n, H, W, C]`."""
        flat = x.reshape(len(x), -1)
        # Vectors, as in the pools of trained networks that exist.
        scale = self.param("scale", nn.initializers.ones, flat.shape[1:], float)
        bias = self.param("bias", nn.initializers.zeros, flat.shape[1:], float)
        mean, var = _moments(flat, (1,))
        normed = (flat - mean[:, None]) * lax.rsqrt(var[:, None] + EPSILON)
        return (normed * scale[None] + bias[None]).reshape(x.shape)


def _moments(x: jax.Array, axes: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """Mean and variance over the axes; the variance is divided by n, not by n - 1."""
    mean = x.mean(axes, keepdims=True)
    return mean.squeeze(axes), jnp.square(x - mean).mean(axes)


def norm(kind: str, *, name: str | None = None) -> Callable[[jax.Array], jax.Array]:
    """A norm by name, for a module's `setup`.

    Args:
        kind: the name of the norm, one of `NORMS`.
        name: the name of the norm's weights; None leaves the choice to Flax.

    Returns:
        The function that normalises, `[n, H, W, C] -> [n, H, W, C]`.
    """
    if kind == "none":
        return lambda x: x
    if kind == "batch":
        return BatchNorm(name=name)
    if kind == "layer":
        return LayerNorm(name=name)
    if kind == "instance":
        return InstanceNorm(name=name)
    return nn.GroupNorm(GROUPS, epsilon=EPSILON, use_fast_variance=False, param_dtype=float, name=name)


def check(kind: str, width: int) -> None:
    """Refuse an unknown norm, or one that does not fit the channels.

    Args:
        kind: the name of the norm.
        width: the number of channels of the narrowest convolution.

    Raises:
        ValueError: `kind` is none of `NORMS`, `width` is below one, or `width` is no multiple of `GROUPS`
            for the norm `"group"`.
    """
    checks.choice("norm", kind, NORMS)
    checks.at_least("width", width, 1)
    if kind == "group" and width % GROUPS:
        raise ValueError(f"width: expected a multiple of {GROUPS} for norm='group'; got {width}. Give one.")


def has_batch_norm(network: Network) -> bool:
    """Whether a network normalises its images together, so that they must not be passed in chunks.

    Args:
        network: the network to look at.

    Returns:
        True if the network contains a `BatchNorm`.
    """
    if network.kernel is not None:
        return False
    params = jax.eval_shape(network.init, jax.random.key(0))
    images = jax.ShapeDtypeStruct((2, *network.input_shape), jnp.zeros(()).dtype)
    measured = jax.eval_shape(lambda *args: calibrate(network, *args), params, images)
    return jax.tree.structure(measured) != jax.tree.structure(params)


def calibrate(
    network: Network, params: Params, inputs: jax.Array, *, batch_size: int = CALIBRATION_BATCH
) -> Params:
    """The weights together with statistics, by which batch norms then normalise.

        mean = (1/b) Σ_j mean of batch j,    var = (1/b) Σ_j variance of batch j, divided by n, not n - 1

    Each batch passes through the network normalised by its own statistics, as in training. At most
    `batch_size` images form one batch; on these images the network then returns the same logits as in
    training on all of them at once. More images form b batches, as few and as large as `batch_size` allows.
    Batch j contains every b-th image from the j-th on, so that images in the order of their classes, such as
    those of φ, are spread over all batches. Pure, for use under `jit`; but `network.apply` itself must not be
    jitted, because its layers are intercepted while they are traced.

    Args:
        network: the network that the weights belong to.
        params: the weights, with or without statistics; old statistics have no influence.
        inputs: the images to measure on, `[n, H, W, C]`; the last `n mod b` are not used.
        batch_size: the largest number of images in a batch.

    Returns:
        The weights, with `mean [C]` and `var [C]` next to each batch norm's scale and bias. Unchanged weights
        if the network has no `BatchNorm`.

    References:
        Ioffe and Szegedy 2015, arXiv 1502.03167. The gradient-matching code freezes statistics of real images
        before it matches: Zhao et al. 2021, arXiv 2006.05929.
    """
    return with_statistics(params, statistics(network, params, inputs, batch_size=batch_size))


Statistics = dict[str, dict[str, jax.Array]]
"""The `mean [C]` and `var [C]` of each batch norm of a network, by the name of the layer, e.g. `"norm2"`."""


def statistics(
    network: Network, params: Params, inputs: jax.Array, *, batch_size: int = CALIBRATION_BATCH
) -> Statistics:
    """The statistics that `calibrate` adds to the weights.

    Args:
        network: the network that the weights belong to.
        params: the weights, with or without statistics; old statistics have no influence.
        inputs: the images to measure on, `[n, H, W, C]`; see `calibrate`.
        batch_size: the largest number of images in a batch.

    Returns:
        The statistics of each batch norm; nothing where the network has none.
    """

    def measure(batch: jax.Array) -> Statistics:
        found = {}

        def record(call: Callable, args: tuple, kwargs: dict, context: nn.module.InterceptorContext) -> Any:
            if not isinstance(context.module, BatchNorm) or context.method_name != "__call__":
                return call(*args, **kwargs)
            name = "/".join(context.module.path)
            found[name] = dict(zip(("mean", "var"), _moments(args[0], (0, 1, 2)), strict=True))
            return call(*args, ignore_stored=True)

        with nn.intercept_methods(record):
            network.apply(params, batch)
        return found

    count = -(-len(inputs) // batch_size)
    size = len(inputs) // count
    batches = inputs[: count * size].reshape(size, count, *inputs.shape[1:]).swapaxes(0, 1)
    return jax.tree.map(lambda leaf: leaf.mean(0), lax.map(measure, batches))


def with_statistics(params: Params, measured: Statistics) -> Params:
    """The weights together with statistics, by which batch norms then normalise.

    Args:
        params: the weights.
        measured: the statistics of each batch norm, as `statistics` gives them.

    Returns:
        The weights, with `mean [C]` and `var [C]` next to each batch norm's scale and bias.
    """
    for name, leaves in measured.items():
        params = _added(params, tuple(filter(None, name.split("/"))), leaves)
    return params


def _added(params: Params, path: tuple[str, ...], leaves: dict[str, jax.Array]) -> Params:
    """The nested dictionaries, with more leaves in the dictionary at `path`."""
    if not path:
        return {**params, **leaves}
    return {**params, path[0]: _added(params[path[0]], path[1:], leaves)}

"""Kernel inducing points: ridge regression on φ is to predict the labels of real examples."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddjax import checks, platforms, ridge
from ddjax.chunks import mean_over_chunks
from ddjax.data import class_rows, examples_at
from ddjax.facts import noted
from ddjax.methods.starts import assets_of, parted, theta, with_pool
from ddjax.networks import norms
from ddjax.optimizers import adam_outer
from ddjax.recipes import Ridge, kernel_of
from ddjax.types import InitDistribution, Method, Network, Params, RealData, Recipe, Schedule, start_of

REAL_AT_ONCE = 5_000
"""The number of real images in a block of the label solve."""

EXAMPLES_PER_CHUNK = 200
"""The number of real examples that are read and compared with φ at once on CPU, where they fit its cache."""


class InducingInfo(NamedTuple):
    """Diagnostics of one outer step.

    Attributes:
        accuracy: `[]`, the percent of the step's real examples whose label the regression predicts.
    """

    accuracy: jax.Array


def centred(labels: jax.Array, num_classes: int) -> jax.Array:
    """The labels of kernel regression: one at an example's own class, and all rows summing to zero.

        y_k = 1[k = class] - 1/K

    Args:
        labels: the classes, `[...]` int.
        num_classes: the number of classes, K.

    Returns:
        `[..., K]` float.
    """
    return jax.nn.one_hot(labels, num_classes) - 1 / num_classes


class Drawn(NamedTuple):
    """The real examples of a step, read where they are needed.

    Attributes:
        data: the split that they were drawn from, on the device.
        rows: `[K, N]` int32, their positions as `ddjax.data.class_rows` draws them.
    """

    data: RealData
    rows: jax.Array


class _Real(NamedTuple):
    """Some of the real examples of a step.

    Attributes:
        rows: `[n]` int32, their positions.
        classes: `[n]` int32, the class of each.
    """

    rows: jax.Array
    classes: jax.Array


def _error(found: jax.Array, classes: jax.Array) -> tuple[jax.Array, InducingInfo]:
    """Half the mean squared error of predictions `[n, K]`, and how often the largest is right."""
    difference = found - centred(classes, found.shape[-1]).astype(found.dtype)
    accuracy = 100 * jnp.mean(found.argmax(-1) == classes, dtype=found.dtype)
    return 0.5 * jnp.mean(jnp.square(difference)), InducingInfo(accuracy)


def solved_labels(
    network: Network, params: Params, images: jax.Array, data: RealData, *, penalty: float
) -> jax.Array:
    """The labels of fixed images that predict those of all real examples best (label solve).

    Args:
        network: a network with a kernel or an embedding.
        params: the weights of the network.
        images: `[B, *input_shape]`, the fixed images.
        data: the real examples, on the device.
        penalty: λ, the weight of the penalty, relative to the kernel's mean diagonal.

    Returns:
        `[B, K]`.

    References:
        Nguyen, Chen, Lee 2021, arXiv 2011.00050 (label solve).
    """
    kernel = kernel_of(network)
    block = jax.jit(lambda rows: kernel(params, data.inputs_at(rows), images))
    rows = np.arange(len(data.labels), dtype=np.int32)
    parts = [block(rows[start : start + REAL_AT_ONCE]) for start in range(0, len(rows), REAL_AT_ONCE)]
    targets = centred(data.labels, data.num_classes)
    return ridge.label_solve(kernel(params, images, None), jnp.concatenate(parts), targets, penalty=penalty)


@noted
def kernel_inducing_points(
    network: Network,
    inits: InitDistribution,
    *,
    batch_size: int = 500,
    penalty: float = 1e-6,
    networks: int = 1,
    recipe: Recipe | None = None,
) -> Method:
    """The squared error on real examples of kernel ridge regression on φ.

        L(φ) = E ½ mean (K_ts (K_ss + λ tr(K_ss)/n I)⁻¹ ỹ - y)²,   K_ts = k(x, x̃), K_ss = k(x̃, x̃)

    k is the kernel of an infinitely wide network (KIP), or the mean over some random networks of the products
    of their features (RFAD's kernel, there with eight networks and a loss of its own). The mean in L is over
    real examples and classes; the labels y of real examples are centred, see `centred`. The labels ỹ of φ are
    any numbers: a form with free labels that start centred learns them.

    Args:
        network: a network with a kernel (`ddjax.networks.infinite_mlp`), or with an embedding.
        inits: the distribution p(θ0) of the weights of the random networks, drawn anew at every outer step;
            that of a network without weights draws nothing.
        batch_size: N, the number of real examples of *each class*, drawn uniformly and shared by all slots;
            500 of each of ten classes are the published 5,000.
        penalty: λ, the weight of the penalty, relative to the mean of K_ss's diagonal.
        networks: the number of random networks whose kernels are averaged; one for a kernel without weights.
        recipe: the use of the result; by default ridge regression with the same penalty.

    Returns:
        A method without a state that learns no learning rates.

    Raises:
        ValueError: the network has neither a kernel nor an embedding, or has batch norm; a number is below
            one, or the penalty is not positive.

    References:
        Nguyen, Chen, Lee 2021, arXiv 2011.00050, equation 6. Loo et al. 2022, arXiv 2210.12067 (RFAD).
    """
    checks.network_and_inits(network, inits)
    checks.at_least("batch_size", batch_size, 1)
    checks.at_least("networks", networks, 1)
    checks.positive("penalty", penalty)
    kernel = kernel_of(network)
    if norms.has_batch_norm(network):
        raise ValueError(
            "kernel_inducing_points: expected a network without batch norm, where each image has features of "
            f"its own; {network.name!r} has batch norm. Give another norm."
        )
    own = recipe or Ridge(penalty)
    own.check(network)

    def sample(data: RealData, key: jax.Array) -> Any:
        checks.network_fits(network, data)
        return with_pool(inits, data, Drawn(data, class_rows(data, key, size=batch_size)))

    def loss(
        schedule: Schedule, state: tuple[()], batch: Any, key: jax.Array
    ) -> tuple[jax.Array, InducingInfo]:
        del state
        drawn, pool = parted(batch)
        num_classes, count = drawn.rows.shape
        real = _Real(drawn.rows.ravel(), jnp.repeat(jnp.arange(num_classes), count))
        inputs = schedule.inputs.reshape(-1, *schedule.inputs.shape[2:])
        labels = schedule.labels.reshape(len(inputs), -1)

        def of_network(key: jax.Array) -> tuple[jax.Array, jax.Array]:
            params = theta(inits, pool, key)
            return kernel(params, inputs, None), kernel(params, examples_at(drawn.data, real.rows), inputs)

        def of_some(fitted: tuple[jax.Array, jax.Array], some: _Real) -> tuple[jax.Array, InducingInfo]:
            flat, weights = fitted
            cross = kernel((), examples_at(drawn.data, some.rows), flat.reshape(inputs.shape))
            return _error(ridge.predict(cross, weights), some.classes)

        if networks == 1 and not jax.tree.leaves(theta(inits, pool, key)):
            # Without weights there are no features of φ that every chunk would compute anew.
            # φ goes in as rows of numbers: their gradients are added up in one loop.
            weights = ridge.solve(kernel((), inputs, None), labels, penalty=penalty)
            size = EXAMPLES_PER_CHUNK if platforms.current() == "cpu" else len(real.rows)
            return mean_over_chunks(of_some, size=size)((inputs.reshape(len(inputs), -1), weights), real)
        if networks == 1:
            gram, cross = of_network(key)
        else:
            # One network after the other, so that the activations of one are in memory at a time.
            each = jax.lax.map(jax.checkpoint(of_network), jax.random.split(key, networks))
            gram, cross = (matrices.mean(0) for matrices in each)
        return _error(ridge.predict(cross, ridge.solve(gram, labels, penalty=penalty)), real.classes)

    return Method(
        sample=sample,
        loss=loss,
        name="kernel_inducing_points",
        recipe=own,
        outer=adam_outer(0.04),
        assets=assets_of(inits),
        facts=start_of(network, inits),
    )

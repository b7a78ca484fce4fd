"""A network whose last layer is a running average of ridge regressions on small batches.

    h(x) = features of the network,   X = [h(x̃), 1]  [n, F + 1]
    w_l = Xᵀ (X Xᵀ + λ I)⁻¹ ỹ,   w ← (1 - μ) sg(w) + μ w_l,   logits = [h(x), 1] (s w)

sg stops the gradient. θ and the number s learn by Adam from the cross-entropy on x̃; w has no gradient step of
its own. Predictions are those of w alone: a positive s leaves the largest logit where it is.

References:
    Bohdal, Yang and Hospedales 2020, Flexible Dataset Distillation, arXiv 2006.08572, algorithm 2.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from ddjax import checks, ridge, updates
from ddjax.networks import norms
from ddjax.types import Network, Params


class Head(NamedTuple):
    """A network in training, with its last layer.

    Attributes:
        params: the weights θ, of which the features are used.
        classifier: `[F + 1, K]`, the running average w; the last row belongs to the constant 1.
        scale: `[]`, the factor s on the logits.
        optimizers: the states of the optimisers of θ and of s.
    """

    params: Params
    classifier: jax.Array
    scale: jax.Array
    optimizers: tuple[optax.OptState, optax.OptState]


@dataclasses.dataclass(frozen=True)
class RidgeHead:
    """The settings of such a training, and its steps.

    Attributes:
        penalty: λ, the weight of the penalty of each regression, absolute.
        momentum: μ, the share of the newest regression in w.
        lr: the learning rate of θ, by Adam.
        lr_of_scale: the learning rate of s, by Adam.
    """

    penalty: float = 1.0
    momentum: float = 0.01
    lr: float = 1e-3
    lr_of_scale: float = 0.01

    def init(self, network: Network, params: Params) -> Head:
        """A network before its first step: w is zero and s is one.

        Args:
            network: the network, with features.
            params: the initial weights θ0.

        Returns:
            The head.
        """
        embed = embedding(network)
        dtype = jax.tree.leaves(params)[0].dtype
        one = jax.ShapeDtypeStruct((1, *network.input_shape), dtype)
        size = jax.eval_shape(embed, params, one).shape[1] + 1
        scale = jnp.ones((), dtype)
        states = (updates.init(self._of_params, params), updates.init(self._of_scale, scale))
        return Head(params, jnp.zeros((size, network.num_classes), dtype), scale, states)

    def renewed(self, classifier: jax.Array, features: jax.Array, labels: jax.Array) -> jax.Array:
        """The running average after one more regression, `(1 - μ) sg(w) + μ w_l`.

        Args:
            classifier: `[F + 1, K]`, the average w so far.
            features: `[n, F + 1]`, the features X of the base examples.
            labels: `[n, K]`, the labels ỹ of the base examples.

        Returns:
            `[F + 1, K]`, differentiable in `features` and `labels`.
        """
        gram = features @ features.T
        relative = self.penalty * len(gram) / jnp.trace(gram)
        newest = features.T @ ridge.solve(gram, labels, penalty=relative)
        return (1 - self.momentum) * jax.lax.stop_gradient(classifier) + self.momentum * newest

    def step(
        self, network: Network, head: Head, inputs: jax.Array, labels: jax.Array, targets: jax.Array
    ) -> tuple[Head, jax.Array]:
        """One step of θ, s and w on base examples.

        Args:
            network: the network, with features.
            head: the network in training.
            inputs: `[n, *input_shape]`, the base examples x̃.
            labels: `[n, K]`, the labels of the regression.
            targets: `[n, K]`, the labels of the cross-entropy. The published code regresses on the labels
                before they moved and takes those after for targets.

        Returns:
            The network after the step, and the cross-entropy before it, `[]`.
        """
        embed = embedding(network)

        def loss(params: Params, scale: jax.Array) -> tuple[jax.Array, jax.Array]:
            features = with_one(embed(params, inputs))
            classifier = self.renewed(head.classifier, features, labels)
            logits = features @ (scale * classifier)
            return optax.softmax_cross_entropy(logits, targets).mean(), classifier

        (value, classifier), grads = jax.value_and_grad(loss, (0, 1), has_aux=True)(head.params, head.scale)
        of_params, first = updates.update(self._of_params, grads[0], head.optimizers[0], head.params)
        of_scale, second = updates.update(self._of_scale, grads[1], head.optimizers[1], head.scale)
        params = optax.apply_updates(head.params, of_params)
        scale = jnp.asarray(optax.apply_updates(head.scale, of_scale))
        return Head(params, classifier, scale, (first, second)), value

    @property
    def _of_params(self) -> optax.GradientTransformation:
        return optax.adam(self.lr)

    @property
    def _of_scale(self) -> optax.GradientTransformation:
        return optax.adam(self.lr_of_scale)


def with_one(features: jax.Array) -> jax.Array:
    """Features with the constant 1 behind them.

    Args:
        features: `[n, F]`, the features.

    Returns:
        `[n, F + 1]`.
    """
    return jnp.concatenate([features, jnp.ones((len(features), 1), features.dtype)], axis=1)


def embedding(network: Network) -> Callable[[Params, jax.Array], jax.Array]:
    """The features of a network that a ridge head can stand on.

    Args:
        network: the network.

    Returns:
        `(params, inputs [n, *input_shape]) -> features [n, F]`.

    Raises:
        ValueError: the network has no features, or has batch norm, under which an example has no features of
            its own.
    """
    embed = network.embed
    if embed is None:
        raise ValueError(
            f"{network.name}: expected a network with features (embed), for a ridge head; it has none. Give "
            "its adapter `embed=`, or take the second-order method."
        )
    if norms.has_batch_norm(network):
        raise ValueError(
            f"{network.name}: expected a network without batch norm, where each example has features of its "
            "own, for a ridge head; it has batch norm. Give another norm."
        )
    return embed


def check(settings: RidgeHead) -> None:
    """Refuse numbers that are out of range.

    Args:
        settings: the settings of the training.

    Raises:
        ValueError: a rate or the penalty is not positive, or the momentum is not in (0, 1].
    """
    for name in ("penalty", "momentum", "lr", "lr_of_scale"):
        checks.positive(name, getattr(settings, name))
    if settings.momentum > 1:
        raise ValueError(f"momentum: expected a share of at most 1; got {settings.momentum}. Give e.g. 0.01.")

"""The contract of `ddjax.types.Network`: the promises of every network, as checks for users' own networks.

Every check takes a `NetworkCase` and raises a `ContractError` where the promise is not kept.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from ddjax.networks import norms
from ddjax.testing.report import Checks, all_finite, distance, require, run
from ddjax.types import Network, Params


@dataclasses.dataclass(frozen=True, eq=False)
class NetworkCase:
    """A network to check.

    Attributes:
        network: the network to check, which has weights and is not defined by a kernel alone.
    """

    network: Network

    @functools.cached_property
    def init(self) -> Callable[[jax.Array], Params]:
        """The network's `init`, compiled."""
        return jax.jit(self.network.init)

    @functools.cached_property
    def apply(self) -> Callable[[Params, jax.Array], jax.Array]:
        """The network's `apply`, compiled."""
        return jax.jit(self.network.apply)

    def parts(self) -> tuple[Params, jax.Array]:
        """Initial weights of the network, and four inputs of noise."""
        inputs = jax.random.normal(jax.random.key(1), (4, *self.network.input_shape))
        return self.init(jax.random.key(0)), inputs


def starts_from_its_key(case: NetworkCase) -> None:
    """`init` gives the same weights for the same key, and other weights for another key."""
    first, again, other = (case.network.init(jax.random.key(seed)) for seed in (0, 0, 1))
    remedy = "Draw the weights from the key."
    require(distance(again, first) == 0, "the same weights from the same key", found="others", remedy=remedy)
    require(distance(other, first) > 0, "other weights from another key", found="the same", remedy=remedy)


def gives_a_score_for_each_class(case: NetworkCase) -> None:
    """`apply` maps `[n, *input_shape]` to finite `[n, K]`, `embed` to `[n, F]`."""
    params, inputs = case.parts()
    logits = case.apply(params, inputs)
    wanted = (len(inputs), case.network.num_classes)
    remedy = "apply must give one score for each class, without softmax."
    require(logits.shape == wanted, f"logits {wanted}", found=logits.shape, remedy=remedy)
    require(all_finite(logits), "finite logits", found="NaN or infinity", remedy="Look at the first weights.")
    if case.network.embed is not None:
        features = jax.jit(case.network.embed)(params, inputs)
        fits = features.ndim == 2 and len(features) == len(inputs)
        require(fits, "features [n, F]", found=features.shape, remedy="Flatten the features of each input.")


def looks_at_each_input_alone(case: NetworkCase) -> None:
    """The logits of an input do not depend on the other inputs; networks with batch norms are not checked."""
    if norms.has_batch_norm(case.network):
        return
    params, inputs = case.parts()
    together = case.apply(params, inputs)
    alone = jnp.concatenate([case.apply(params, one[None]) for one in inputs])
    found = distance(alone, together)
    remedy = "Use instance, group or layer norm, and leave dropout out."
    require(found < 1e-4, "the same logits for an input alone", found=f"{found:.1e} apart", remedy=remedy)


def is_differentiable_twice(case: NetworkCase) -> None:
    """Second derivatives in weights and inputs are finite."""
    params, inputs = case.parts()

    def slope(params: Params, inputs: jax.Array) -> jax.Array:
        grads = jax.grad(lambda p: jnp.sum(jnp.sin(case.network.apply(p, inputs))))(params)
        return jnp.sum(jnp.stack([jnp.sum(leaf * leaf) for leaf in jax.tree.leaves(grads)]))

    second = jax.jit(jax.grad(slope, argnums=(0, 1)))(params, inputs)
    remedy = "Roots and norms need a where inside and outside at zero."
    require(all_finite(second), "finite second derivatives", found="NaN or infinity", remedy=remedy)


NETWORK_CHECKS: Checks[NetworkCase] = {
    check.__name__: check
    for check in (
        starts_from_its_key,
        gives_a_score_for_each_class,
        looks_at_each_input_alone,
        is_differentiable_twice,
    )
}
"""The checks of all promises of a network, by name."""


def check_network(network: Network) -> None:
    """Check every promise of a network.

    Args:
        network: the network to check, which has weights and is not defined by a kernel alone.

    Raises:
        ContractError: a promise is not kept.
    """
    run(NETWORK_CHECKS, NetworkCase(network))

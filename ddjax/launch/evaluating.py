"""The evaluation of an artifact: what networks start from, what is said of the network that is trained."""

from __future__ import annotations

from typing import Any

from ddjax import inits, networks, recorded_inits
from ddjax import pool as pools
from ddjax.launch import artifacts
from ddjax.launch.artifacts import Start
from ddjax.launch.types import Keys
from ddjax.types import Distilled, Network

OTHERWISE = "xavier_normal"
"""The initial weights for an artifact that does not say which it was distilled with."""


def initial_weights(config: Any, network: Network, distilled: Distilled) -> Start:
    """p(θ0) of the flags, or the artifact's.

    Args:
        config: the settings of `experiments.evaluate`.
        network: the network that the weights belong to.
        distilled: the artifact.

    Returns:
        p(θ0): a pool's held-out members, the θ0 of `fixed_init` with this seed, fresh draws by the flags, or
        the artifact's own; and a note that says which.

    Raises:
        ValueError: the flags name both a pool and a fixed θ0, or a pool of another network; or they name no
            weights, and those of the artifact are not in it.
        FileNotFoundError: there is no pool.
    """
    own = recorded_inits.recorded(distilled.metadata, where=config.artifact)
    if config.pool and config.fixed:
        raise ValueError("pool: expected it alone; got --fixed too. Give one of them.")
    if config.pool:
        return artifacts.start_of_pool(own, pools.load(config.pool), network)
    by_flags = artifacts.start_by_flags(
        own, network, scheme=config.init, gain=config.init_gain, otherwise=OTHERWISE
    )
    if config.fixed:
        scheme, gain = by_flags.inits.settings["scheme"], by_flags.inits.settings["gain"]
        chosen = inits.fixed(network, Keys.of(config.seed).theta, scheme=scheme, gain=gain)
        is_own = dict(chosen.settings) == dict(own.settings)
        text = "as in the artifact" if is_own else "assumed" if "key" not in own.settings else "differs"
        return Start(chosen, f"{text}: initial weights: the one θ0 of --seed={config.seed}")
    if config.init is not None or config.init_gain is not None:
        return by_flags
    return artifacts.start_of_artifact(config.artifact, distilled, network, otherwise=OTHERWISE)


def about_network(distilled: Distilled, network: Network) -> list[str]:
    """A note on a network that is not the one of the distillation.

    Args:
        distilled: the artifact.
        network: the network that is trained.

    Returns:
        The note; none where the network is the artifact's, or where the artifact names none.
    """
    own = distilled.metadata.get("network")
    if not own or artifacts.is_own_network(distilled, network):
        return []
    here = networks.as_text(network.name, network.settings)
    return [f"differs: trained {here}; the artifact was distilled with {str(own)[:80]}"]

"""Federated learning by agreement on a public set: clients share logits, and each has a network of its own.

Each client trains on the public set, then on its own few examples. In every round all clients say their
logits for some public inputs, learn the mean of them, and train on their own examples again.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ddjax import checks, teachers
from ddjax.training import Examples, fit, weighted_loss
from ddjax.types import InitDistribution, Network, Params


@dataclasses.dataclass(frozen=True)
class Phase:
    """A training by Adam, with a new optimiser.

    Attributes:
        epochs: the number of passes over the examples.
        batch_size: the number of examples in one step.
        lr: the constant learning rate.

    Raises:
        ValueError: a count below one, or a rate that is not positive.
    """

    epochs: int
    batch_size: int
    lr: float = 1e-3

    def __post_init__(self) -> None:
        checks.at_least("epochs", self.epochs, 1)
        checks.at_least("batch_size", self.batch_size, 1)
        checks.positive("lr", self.lr)


@dataclasses.dataclass(frozen=True)
class Protocol:
    """The phases of FedMD; the defaults are those of the authors' code where the classes are balanced.

    Attributes:
        public: the first training, on the public set with its labels.
        private: the second training, on a client's own examples.
        digest: the training on the consensus, in each round.
        revisit: the training on a client's own examples, in each round.
    """

    public: Phase = Phase(20, 128)
    private: Phase = Phase(25, 32)
    digest: Phase = Phase(1, 256)
    revisit: Phase = Phase(4, 5)


class Labelled(NamedTuple):
    """Examples with targets.

    Attributes:
        inputs: `[n, *input_shape]`, the encoded inputs.
        targets: `[n, K]`, probabilities, or logits of a consensus.
    """

    inputs: jax.Array | np.ndarray
    targets: jax.Array | np.ndarray


class Client(NamedTuple):
    """A client: its network, its weights and its own examples.

    Attributes:
        network: the client's network, whose shape others need not know.
        params: the weights.
        private: the client's own examples, with probabilities as targets.
    """

    network: Network
    params: Params
    private: Labelled

    def after(self, phase: Phase, examples: Labelled, key: jax.Array, *, agrees: bool = False) -> Client:
        """The client after a training.

        Args:
            phase: the settings of the training.
            examples: the examples to train on.
            key: the source of the order of the examples. Consumed.
            agrees: whether the targets are the logits of a consensus, learned by their mean absolute error;
                else they are probabilities, learned by cross-entropy.

        Returns:
            The client with other weights.
        """
        arrays = jnp.asarray(examples.inputs), jnp.asarray(examples.targets)
        settings = {"network": self.network, "phase": phase, "agrees": agrees}
        return self._replace(params=_trained(self.params, *arrays, key, **settings))

    def logits(self, inputs: jax.Array | np.ndarray) -> jax.Array:
        """What the client says of inputs.

        Args:
            inputs: `[n, *input_shape]`, the encoded inputs.

        Returns:
            `[n, K]`.
        """
        return _logits(self.params, jnp.asarray(inputs), network=self.network)


@functools.partial(jax.jit, static_argnames=("network", "phase", "agrees"))
def _trained(
    params: Params,
    inputs: jax.Array,
    targets: jax.Array,
    key: jax.Array,
    *,
    network: Network,
    phase: Phase,
    agrees: bool,
) -> Params:
    def distance(params: Params, batch: Any) -> tuple[jax.Array, tuple[()]]:
        inputs, targets, weights = batch
        each = jax.vmap(teachers.absolute_error)(network.apply(params, inputs), targets)
        return jnp.mean(weights * each), ()

    trained, _ = fit(
        distance if agrees else weighted_loss(network),
        params,
        key,
        examples=Examples(lambda rows: (inputs[rows], targets[rows]), len(inputs)),
        optimizer=optax.adam(phase.lr),
        epochs=phase.epochs,
        batch_size=phase.batch_size,
    )
    return trained


@functools.partial(jax.jit, static_argnames="network")
def _logits(params: Params, inputs: jax.Array, *, network: Network) -> jax.Array:
    return network.apply(params, inputs)


def enrolled(
    members: Sequence[tuple[Network, InitDistribution]],
    public: Labelled,
    private: Sequence[Labelled],
    key: jax.Array,
    *,
    protocol: Protocol,
) -> list[Client]:
    """Clients after their first two trainings, before they have worked together.

    Args:
        members: the network of each client, with its p(θ0).
        public: the public set, with probabilities as targets.
        private: each client's own examples.
        key: the source of initial weights and orders. Consumed.
        protocol: the settings of the trainings.

    Returns:
        The clients.

    Raises:
        ValueError: there are not as many private sets as networks.

    References:
        Li and Wang 2019, FedMD, arXiv 1910.03581, algorithm 1, initialisation.
    """
    checks.equal("private sets", len(private), len(members), remedy="Give each network one.")
    found = []
    for (network, inits), own, one in zip(members, private, jax.random.split(key, len(members)), strict=True):
        theta, first, second = jax.random.split(one, 3)
        client = Client(network, jax.jit(inits.sample)(theta), own)
        found.append(client.after(protocol.public, public, first).after(protocol.private, own, second))
    return found


def together(
    clients: Sequence[Client],
    consult: Callable[[int], jax.Array | np.ndarray] | None,
    key: jax.Array,
    *,
    rounds: int,
    protocol: Protocol,
    watch: Callable[[int, Sequence[Client]], None] | None = None,
) -> list[Client]:
    """Clients after rounds of agreement, and of training on their own examples.

    Args:
        clients: the clients before the first round.
        consult: `round -> inputs [m, *input_shape]`, the public inputs of each round, from 0, which all
            clients label together; None leaves out the agreement, so that the private trainings alone are
            left, which is the control.
        key: the source of the orders of examples. Consumed.
        rounds: the number of rounds.
        protocol: the settings of the trainings.
        watch: `(round, clients) -> None`, called after each round.

    Returns:
        The clients after the last round.

    Raises:
        ValueError: `rounds` is below one.

    References:
        Li and Wang 2019, FedMD, arXiv 1910.03581, algorithm 1: communicate, aggregate, digest, revisit.
    """
    checks.at_least("rounds", rounds, 1)
    present = list(clients)
    for number, round_key in enumerate(jax.random.split(key, rounds)):
        agreed = None
        if consult is not None:
            inputs = jnp.asarray(consult(number))
            agreed = Labelled(inputs, teachers.consensus(jnp.stack([one.logits(inputs) for one in present])))
        after = []
        for client, one in zip(present, jax.random.split(round_key, len(present)), strict=True):
            digest_key, revisit_key = jax.random.split(one)
            digested = client
            if agreed is not None:
                digested = client.after(protocol.digest, agreed, digest_key, agrees=True)
            after.append(digested.after(protocol.revisit, client.private, revisit_key))
        present = after
        if watch is not None:
            watch(number, present)
    return present

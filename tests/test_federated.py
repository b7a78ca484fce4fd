"""Clients that agree on public inputs, on a few digits."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import CLASSES, SHAPE

from ddjax import inits, networks
from ddjax.federated import Client, Labelled, Phase, Protocol, enrolled, together

NETWORKS = [networks.mlp(SHAPE, CLASSES, widths=(width,)) for width in (6, 9)]
QUICK = Protocol(Phase(2, 32, 0.01), Phase(3, 4, 0.01), Phase(3, 16, 0.01), Phase(1, 4, 0.001))


def labelled(split, rows) -> Labelled:
    part = split.at(rows)
    return Labelled(part.encoded(), np.eye(CLASSES, dtype=np.float32)[part.labels])


@pytest.mark.slow
def test_clients_come_to_agree_and_the_control_does_not(few_digits):
    members = [(network, inits.random(network)) for network in NETWORKS]
    train = few_digits.train
    private = [labelled(train, np.arange(start, start + 12)) for start in (0, 12)]
    clients = enrolled(
        members, labelled(train, np.arange(24, 88)), private, jax.random.key(0), protocol=QUICK
    )
    public, seen = train.encoded()[100:164], []

    def apart(clients):
        first, second = (client.logits(public) for client in clients)
        return float(jnp.abs(first - second).mean())

    agreed = together(
        clients,
        lambda number: public,
        jax.random.key(1),
        rounds=3,
        protocol=QUICK,
        watch=lambda number, present: seen.append((number, apart(present))),
    )
    alone = together(clients, None, jax.random.key(1), rounds=3, protocol=QUICK)
    assert [number for number, _ in seen] == [0, 1, 2]
    assert apart(agreed) == seen[-1][1] < 0.7 * apart(alone)


@pytest.mark.slow
def test_a_step_on_the_consensus_follows_the_absolute_error():
    """One full step of Adam moves each weight by the rate, against the sign of the gradient."""
    network = networks.from_functions(
        lambda key: jnp.zeros(CLASSES),
        lambda bias, x: jnp.broadcast_to(bias, (len(x), CLASSES)),
        SHAPE,
        CLASSES,
    )
    target = jnp.asarray([[1.0, -2.0, 0.5], [3.0, -1.0, 1.5]])
    examples = Labelled(jnp.zeros((2, *SHAPE)), target)
    client = Client(network, jnp.zeros(CLASSES), examples)
    after = client.after(Phase(1, 2, 0.1), examples, jax.random.key(0), agrees=True)
    np.testing.assert_allclose(after.params, [0.1, -0.1, 0.1], rtol=1e-5)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"epochs: expected .* >= 1"):
        Phase(0, 1)
    with pytest.raises(ValueError, match="lr: expected"):
        Phase(1, 1, 0.0)
    with pytest.raises(ValueError, match="private sets: expected 1; got 0"):
        enrolled(
            [(NETWORKS[0], inits.random(NETWORKS[0]))],
            Labelled(np.zeros(1), np.zeros(1)),
            [],
            jax.random.key(0),
            protocol=QUICK,
        )
    with pytest.raises(ValueError, match="rounds: expected"):
        together([], None, jax.random.key(0), rounds=0, protocol=QUICK)

"""Bad initial weights, unrolls and optimisers: what was expected, what was got, what to do."""

from __future__ import annotations

import pytest
from refusals import INFINITY, NAN, Cases, Refuses, without_lrs

from ddjax import inits, optimizers, unroll

REFUSED: Cases = {
    "an unknown p(θ0)": (
        lambda g: inits.random(g.network, scheme="xavier"),
        "got 'xavier'",
        "Did you mean 'xavier_normal'",
    ),
    "a gain of zero": (lambda g: inits.random(g.network, gain=0.0), "got 0.0", "greater than zero"),
    "a gain of NaN": (lambda g: inits.fixed(g.network, g.key, gain=NAN), "got nan", "greater than zero"),
    "a gain on the network's own": (
        lambda g: inits.random(g.network, scheme="network", gain=2.0),
        "got 2.0",
        "takes the network's own scale",
    ),
    "p(θ0) of a number": (lambda g: inits.random(5), "a Network; got int 5", "ddjax.networks"),  # type: ignore[arg-type]
    "θ0 from a seed": (lambda g: inits.fixed(g.network, 0), "one key; got int 0", "jax.random.key"),  # type: ignore[arg-type]
    "an unknown memory strategy": (
        lambda g: unroll.Memory(checkpoint="cubic"),  # type: ignore[arg-type]
        "got 'cubic'",
        "expected one of",
    ),
    "a window of nothing": (lambda g: unroll.Memory(window=0), "window: expected", "1 or more"),
    "an unroll without learning rates": (
        lambda g: unroll.unroll(
            unroll.cross_entropy(g.network.apply), g.network.init(g.key), without_lrs(g).schedule
        ),
        "expected learning rates [E, S]; got none",
        "one for each step",
    ),
    "a learning rate of steps": (lambda g: optimizers.adam_cosine(0), "got 0", "1 or more"),
    "a negative learning rate": (lambda g: optimizers.adam_cosine(9, lr=-0.1), "got -0.1", "greater than"),
    "a rate of labels of zero": (
        lambda g: optimizers.unrolled_outer(9, lr_of_labels=0.0),
        "lr_of_labels: expected",
        "greater than",
    ),
    "a negative rate of rates": (
        lambda g: optimizers.unrolled_outer(9, lr_of_lrs=-0.1),
        "lr_of_lrs: expected a finite number >= 0; got -0.1",
        "0 or more",
    ),
    "a rate halved at once": (lambda g: optimizers.adam_halving(0), "steps_between: expected", "1 or more"),
    "a rate of NaN": (lambda g: optimizers.adam_halving(9, lr=NAN), "got nan", "greater than zero"),
    "an infinite rate": (lambda g: optimizers.sgd_momentum(lr=INFINITY), "got inf", "greater than zero"),
    "a momentum of one": (lambda g: optimizers.sgd_momentum(momentum=1.0), "in [0, 1); got 1.0", "below 1"),
    "a rate beyond all floats": (lambda g: optimizers.adam_cosine(9, lr=10**400), "lr: expected", "finite"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused(case, refuses: Refuses):
    refuses(*REFUSED[case])

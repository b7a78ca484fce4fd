"""Bad settings of methods: what was expected, what was got, what to do."""

from __future__ import annotations

import pytest
from problems import CLASSES, SHAPE
from refusals import Cases, Refuses

from ddjax import methods, networks

REFUSED: Cases = {
    "a batch of nothing": (
        lambda g: methods.unrolled(g.network, g.inits, batch_size=0),
        "batch_size: expected",
        "1 or more",
    ),
    "an inner optimiser misspelt": (
        lambda g: methods.unrolled(g.network, g.inits, inner_optimizer="adamm"),
        "got 'adamm'",
        "Did you mean 'adam'",
    ),
    "matching without an embedding": (
        lambda g: methods.distribution_matching(
            networks.from_functions(g.network.init, g.network.apply, SHAPE, CLASSES, name="own"), g.inits
        ),
        "'own' has none",
        "Give its adapter `embed=`",
    ),
    "a name as memory strategy": (
        lambda g: methods.unrolled(g.network, g.inits, memory="sqrt"),  # type: ignore[arg-type]
        "a Memory; got str 'sqrt'",
        "STRATEGIES",
    ),
    "a method of no network": (lambda g: methods.unrolled(abs, g.inits), "network: expected", "networks"),  # type: ignore[arg-type]
    "a method of no p(θ0)": (lambda g: methods.unrolled(g.network, g.key), "inits: expected", "inits"),  # type: ignore[arg-type]
    "a matching of no p(θ0)": (
        lambda g: methods.distribution_matching(g.network, abs),  # type: ignore[arg-type]
        "inits: expected",
        "ddjax.inits",
    ),
    "a name as recipe": (
        lambda g: methods.distribution_matching(g.network, g.inits, recipe="train"),  # type: ignore[arg-type]
        "a Recipe; got str 'train'",
        "ddjax.Recipe",
    ),
    "examples in chunks of none": (
        lambda g: methods.unrolled(g.network, g.inits, examples_per_chunk=0),
        "examples_per_chunk: expected",
        "1 or more",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused(case, refuses: Refuses):
    refuses(*REFUSED[case])

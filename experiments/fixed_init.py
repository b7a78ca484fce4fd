"""Distil for one known θ0: the fixed-init setting of Wang et al. 2018, table 1.

Claim: REPLACED WHEN MEASURED

    python -m experiments.fixed_init --dataset=mnist
"""

from __future__ import annotations

from ddjax import inits
from ddjax.data import Dataset
from experiments import launch
from experiments.config import Unrolled as Config
from experiments.parts import Keys, Parts, unrolled_parts


def build(config: Config, data: Dataset, keys: Keys) -> Parts:
    """p(θ0) is a single draw of the init scheme, the same at every outer step and in the evaluation."""
    return unrolled_parts(
        config,
        data,
        lambda network: inits.fixed(network, keys.theta, scheme=config.init, gain=config.init_gain),
    )


if __name__ == "__main__":
    launch.main("fixed_init", __doc__, Config, lambda config: launch.run("fixed_init", config, build))

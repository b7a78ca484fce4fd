"""Distil for initial weights never seen before: the random-init setting of Wang et al. 2018, table 1.

Claim: REPLACED WHEN MEASURED

    python -m experiments.random_init --dataset=mnist
"""

from __future__ import annotations

from ddjax import inits
from ddjax.data import Dataset
from experiments import launch
from experiments.config import Unrolled as Config
from experiments.parts import Keys, Parts, unrolled_parts


def build(config: Config, data: Dataset, keys: Keys) -> Parts:
    """p(θ0) is the init scheme itself: every outer step draws its own weights."""
    return unrolled_parts(
        config, data, lambda network: inits.random(network, scheme=config.init, gain=config.init_gain)
    )


if __name__ == "__main__":
    launch.main("random_init", __doc__, Config, lambda config: launch.run("random_init", config, build))

"""Distil by matching first and second moments of embeddings under random networks.

Claim: none: an example of a method in three files; see CONTRIBUTING.md.
Cost: not recorded

    python -m experiments.moment_matching --dataset=digits --width=32 --batch_size=64 --num_outer_steps=500
"""

from __future__ import annotations

import dataclasses

from ddjax.data import Dataset
from ddjax.launch import Keys, Launcher, Matching, Parts, Plan, flag, matching_parts
from ddjax.methods.moment_matching import moment_matching


@dataclasses.dataclass(frozen=True)
class Config(Matching):
    """The settings of moment matching."""

    weight: float = flag(1.0, "weight of the second moments against the first", low=0)


def build(config: Config, data: Dataset, keys: Keys, plan: Plan) -> Parts:
    """The parts of moment matching: a thousand outer steps unless the flags say otherwise."""
    del keys
    if config.augment is not None:
        raise ValueError(
            f"augment: expected none; got {config.augment}. Leave it out, or take distribution_matching."
        )
    return matching_parts(
        config,
        data,
        plan,
        lambda matched: moment_matching(
            matched.network,
            matched.inits,
            batch_size=config.batch_size,
            weight=config.weight,
            recipe=matched.recipe,
        ),
        num_outer_steps=1000,
    )


LAUNCHER = Launcher("moment_matching", __doc__, Config, build=build)

if __name__ == "__main__":
    LAUNCHER.main()

"""Distil codes of each class and small decoders that all classes share, by distribution matching (KFS, HaBa).

    x̃_k(d·n + i) = decoder_d(z_ki)

As many codes of each class as the storage of --images_per_class plain images holds beside the decoders.

Claim: none: no record yet.
Cost: not recorded.

    python -m experiments.latents --dataset=mnist --num_decoders=4 --code_scale=2 --decoder_width=4 \
        --width=32 --num_outer_steps=500
"""

from __future__ import annotations

import dataclasses

from ddjax import methods
from ddjax.data import Dataset
from ddjax.launch import Keys, Launcher, Matching, Parts, Plan, flag_like, matching_parts


@dataclasses.dataclass(frozen=True)
class Config(Matching):
    """The settings of a distillation of codes and decoders."""

    form: str = flag_like(Matching, "form", default="latents", choices=("latents",))


def build(config: Config, data: Dataset, keys: Keys, plan: Plan) -> Parts:
    """The parts of a distillation of codes and decoders: a thousand outer steps unless the flags differ."""
    del keys
    return matching_parts(
        config,
        data,
        plan,
        lambda matched: methods.distribution_matching(**matched._asdict(), batch_size=config.batch_size),
        num_outer_steps=1000,
    )


LAUNCHER = Launcher("latents", __doc__, Config, build=build)

if __name__ == "__main__":
    LAUNCHER.main()

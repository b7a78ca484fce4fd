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

from ddjax.launch import Launcher, Matching, flag_like

from .distribution_matching import build


@dataclasses.dataclass(frozen=True)
class Config(Matching):
    """The settings of a distillation of codes and decoders."""

    form: str = flag_like(Matching, "form", default="latents", choices=("latents",))


LAUNCHER = Launcher("latents", __doc__, Config, build=build)

if __name__ == "__main__":
    LAUNCHER.main()

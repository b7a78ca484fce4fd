"""Distil textures: canvases with joined edges, of which networks see cuts of an image's size from anywhere.

Every outer step matches the means of embeddings (DM) of real images and of cuts at random places, so that the
canvases have no edge and tile a plane to the pixel; `textures.png` shows a canvas of each class laid side by
side with itself. --images_per_class is the number of canvases, each of --canvas times --canvas images.
`seam` in the record is how much neighbouring pixels differ across the seams of the tiling, against neighbours
elsewhere: 1 where no seam can be seen. `random_cuts` is the accuracy of networks that train on cuts at places
drawn anew for each network, the score beside it that of cuts at fixed places.

Claim: none: no record yet.
Cost: not recorded.

    python -m experiments.textures --dataset=digits --width=32 --batch_size=64 --num_outer_steps=500
"""

from __future__ import annotations

import dataclasses

from ddjax import forms, methods
from ddjax.data import Dataset
from ddjax.launch import Keys, Launcher, Matching, Parts, Plan, flag_like
from ddjax.launch.forming import images_of
from ddjax.launch.matching import matching_parts
from ddjax.types import Form


@dataclasses.dataclass(frozen=True)
class Config(Matching):
    """The settings of textures."""

    form: str = flag_like(Matching, "form", default="textures", choices=("textures",))
    initial_images: str = flag_like(Matching, "initial_images", default="noise")


def _form_of(config: Config, data: Dataset) -> Form:
    """The form of φ: canvases, --images_per_class of each class."""
    per_class = config.images_per_class * config.cuts
    return forms.composed(images_of(config, data, per_class, initial=config.initial_images, seed=config.seed))


def build(config: Config, data: Dataset, keys: Keys, plan: Plan) -> Parts:
    """The parts of a distillation of textures by distribution matching."""
    del keys
    return matching_parts(
        config,
        data,
        plan,
        lambda matched: methods.distribution_matching(**matched._asdict(), batch_size=config.batch_size),
        num_outer_steps=1000,
        form_of=_form_of,
    )


LAUNCHER = Launcher("textures", __doc__, Config, build=build)

if __name__ == "__main__":
    LAUNCHER.main()

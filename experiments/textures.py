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
from typing import Any

import jax
import numpy as np

from ddjax import figures, forms, methods
from ddjax.data import Dataset
from ddjax.forms.textures import seam_ratio, tiling
from ddjax.judge import Evaluation, Judge
from ddjax.launch import Finished, Hooks, Keys, Launcher, Matching, Parts, Plan, flag, flag_like
from ddjax.launch.matching import matching_parts
from ddjax.launch.results import measure
from ddjax.types import Form


@dataclasses.dataclass(frozen=True)
class Config(Matching):
    """The settings of textures."""

    form: str = flag_like(Matching, "form", default="textures", choices=("textures",))
    initial_images: str = flag_like(Matching, "initial_images", default="noise")
    canvas: int = flag(2, "images along each side of a canvas", low=1)
    cuts: int = flag(8, "cuts of each canvas that a network sees", low=1)


def _form_of(config: Config, data: Dataset) -> Form:
    """The form of φ: canvases that start from noise, for an image has edges."""
    if config.initial_images != "noise":
        raise ValueError(
            f"initial_images: expected noise, images have edges; got {config.initial_images}. Leave it out."
        )
    images = forms.textures(
        data.image_shape,
        data.num_classes,
        canvas=config.canvas,
        canvases_per_class=config.images_per_class,
        cuts=config.cuts,
    )
    return forms.composed(images)


def build(config: Config, data: Dataset, keys: Keys, plan: Plan) -> Parts:
    """The parts of a distillation of textures by distribution matching."""
    del keys
    parts = matching_parts(
        config,
        data,
        plan,
        lambda matched: methods.distribution_matching(**matched._asdict(), batch_size=config.batch_size),
        num_outer_steps=1000,
        form_of=_form_of,
    )
    return dataclasses.replace(parts, hooks=Hooks(measure=_measured))


def _measured(finished: Finished) -> dict[str, Any]:
    """The usual record, with the seam and the accuracy of networks that train on cuts at random places."""
    launch, distilled = finished.launch, finished.outcome.distilled
    parts, code = launch.parts, np.asarray(distilled.params.code)
    judge = Judge(parts.network, parts.judged_inits, parts.method.recipe, launch.data.test)
    assert parts.form.draw is not None
    scores = [
        judge.score(parts.form.draw(distilled.params, key), key=key, num_inits=1)[0]
        for key in jax.random.split(launch.keys.test, launch.config.num_eval_inits)
    ]
    tiles = np.stack([tiling(one[0]) for one in code])[None]
    figures.image_grid(
        launch.workdir / "textures.png",
        tiles,
        np.eye(len(code))[None],
        encoding=launch.data.encoding,
        class_names=launch.data.class_names,
        side=max(tiles.shape[2:4]),
    )
    random = Evaluation.of(np.array(scores)).as_dict()
    return measure(finished) | {"seam": seam_ratio(code), "random_cuts": random}


LAUNCHER = Launcher("textures", __doc__, Config, build=build)

if __name__ == "__main__":
    LAUNCHER.main()

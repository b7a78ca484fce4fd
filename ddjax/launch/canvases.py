"""What the record of a run tells about textures: the seams of the tiling, and training on cuts at random."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from ddjax import figures
from ddjax.forms.textures import seam_ratio, tiling
from ddjax.judge import Evaluation, Judge
from ddjax.launch.types import Finished


def measured(finished: Finished) -> dict[str, Any]:
    """The seams of the tiling, and the accuracy of networks that train on cuts at random places.

    Draws `textures.png`, a canvas of each class laid side by side with itself.

    Args:
        finished: the run that has ended.

    Returns:
        For the record: `seam` is how much neighbouring pixels differ across the seams of the tiling, against
        neighbours elsewhere, and `random_cuts` the score of networks of which each trains on cuts at places
        of its own. Nothing where the form of φ is not of textures.
    """
    if not finished.launch.parts.form.name.startswith("textures"):
        return {}
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
    return {"seam": seam_ratio(code), "random_cuts": random}

"""Learn from unlabelled examples through a teacher's views of them (data distillation, omni-supervision).

A teacher trains on a few labelled images, moved by up to a pixel; its answers to nine views of each
unlabelled image are merged into a label, and a student trains from scratch on both sets together. Beside it
stand a student of the teacher's answers to the images as they are (self-training), soft labels in the place
of hard ones, and the true labels.

Claim: MNIST, 300 labelled images, five draws: no gain from nine views, 89.0 ± 0.6, over one, 89.0 ± 0.6, nor
over the teacher, 88.9 ± 0.5.
Cost: one H100 beside about ten other runs: 8 s.
Records: results/omni-mnist.json

    python -m experiments.omni --dataset=mnist --network=mlp:widths=256x128

References:
    Radosavovic, Dollár, Girshick, Gkioxari and He 2018, Data Distillation: Towards Omni-Supervised Learning,
    arXiv 1712.04440.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddjax import teachers
from ddjax.launch import Launcher, flag
from ddjax.launch.students import School, Schooling, Score, Seat, compared, stacked


@dataclasses.dataclass(frozen=True)
class Config(Schooling):
    """The settings of learning from unlabelled examples."""

    num_labelled: int = flag(300, "examples with labels", low=1)
    num_unlabelled: int = flag(8000, "examples without", low=1)
    reach: int = flag(1, "pixels that a view is moved by at most, (2 reach + 1)² views", low=1)


def _one(config: Config, school: School, seed: int) -> tuple[dict[str, Score], dict[str, float]]:
    """The scores of all students, and how many of the labels made for them are right, under one seed."""
    few, many = Seat.drawn(school.data.train, (config.num_labelled, config.num_unlabelled), seed=seed)
    views, keys = teachers.shifts(config.reach), jax.random.split(jax.random.key(seed), 2)
    truth = [school.one_hot(one.split.labels) for one in (few, many)]
    moved = stacked(*(view(jnp.asarray(few.inputs)) for view in views))
    params = school.trained(moved, stacked(*[truth[0]] * len(views)), keys[0], is_teacher=True)

    def answers(views: tuple[teachers.View, ...]) -> jax.Array:
        how = {"temperature": config.temperature, "views": views}
        return teachers.soft_labels(school.network, params, many.inputs, **how)

    one_view, all_views = answers(()), answers(views)
    made = {
        "one view, hard": teachers.hardened(one_view),
        f"{len(views)} views, hard": teachers.hardened(all_views),
        "one view, soft": one_view,
        f"{len(views)} views, soft": all_views,
        "true labels": truth[1],
    }
    inputs = stacked(few.inputs, many.inputs)
    scores = {
        name: school.score(school.trained(inputs, stacked(truth[0], labels), keys[1]))
        for name, labels in made.items()
    }
    right = {
        f"right labels, {name}, %": 100 * float(np.mean(np.argmax(soft, -1) == many.split.labels))
        for name, soft in (("one view", one_view), (f"{len(views)} views", all_views))
    }
    return {"teacher": school.score(params), **scores}, right


def run(config: Config) -> dict[str, Any]:
    """Train teachers and students, print and return the scores; or find them measured."""
    school = config.school(experiment="omni")
    Seat.drawn(school.data.train, (config.num_labelled, config.num_unlabelled), seed=0)
    what = f"{config.num_labelled} labelled examples, {config.num_unlabelled} others"
    return compared(config, school, lambda seed: _one(config, school, seed), what=what)


LAUNCHER = Launcher("omni", __doc__, Config, run=run)

if __name__ == "__main__":
    LAUNCHER.main()

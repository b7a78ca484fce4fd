"""Relabel images by teachers of several ages and temperatures, beside random real images.

Soft labels alone make random real images much better, so that distilled images relabelled by a teacher are
to be compared with real ones under the same teacher: the table always has these. Students are trained at the
temperature of the labels, by the recipe of the artifact, or by Adam on real images. Ages and temperatures
are chosen on the validation split; the table marks the choice.

Claim: none: no record yet.
Cost: not recorded.

    python -m experiments.relabel --dataset=mnist --network=mlp:widths=256x128 --num_examples=10000
    python -m experiments.relabel --artifact=runs/distribution_matching-mnist/distilled.npz --dataset=mnist \
        --network=convnet --select=herding

References:
    Hinton, Vinyals and Dean 2015, arXiv 1503.02531; Qin, Deng and Alvarez-Melis 2024, A Label is Worth a
    Thousand Images in Dataset Distillation, arXiv 2406.10485.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ddjax.launch import Launcher, Scores, inputs_of, once, relabelling, results
from ddjax.launch.relabelling import Relabel as Config

OWN = "own labels"


def _measure(config: Config, task: relabelling.RelabelTask, workdir: Path) -> dict[str, Any]:
    """The content of `result.json`; each score is kept as soon as it is known."""
    began, scores = time.monotonic(), Scores(workdir)
    sets, teachers = relabelling.sets_of(config, task), relabelling.teachers_of(config, task)
    rows: dict[str, tuple] = {OWN: ()}
    for teacher in teachers:
        for temperature in relabelling.temperatures(config):
            rows[f"teacher of {teacher.epochs} epochs, T {temperature:g}"] = (teacher, temperature)
    for name, images in sets.items():
        for row, labels in rows.items():
            if f"{name}: {row}" not in scores.known:
                scores.add(f"{name}: {row}", relabelling.score(config, task, images, *labels))
    found = {
        "network": task.network.name,
        "teachers": [{"epochs": one.epochs, "validation": one.accuracy} for one in teachers],
        "images": {name: images[0].labels.shape[1] for name, images in sets.items()},
        "sets": {name: {row: scores.known[f"{name}: {row}"] for row in rows} for name in sets},
    }
    seconds = {"total": time.monotonic() - began}
    return results.record("relabel", task.data.name, found, seconds=seconds, seed=config.seed)


def run(config: Config) -> dict[str, Any]:
    """Train teachers, relabel, train students, print and return the scores; or find them measured.

    Args:
        config: the settings.

    Returns:
        The content of `result.json`.

    Raises:
        ValueError: the settings do not fit each other, the data, the artifact or the directory.
        FileNotFoundError: the data or the artifact are missing.
    """
    workdir = config.directory("relabel")
    task = relabelling.task_of(config)
    return once(
        workdir,
        config,
        lambda: _measure(config, task, workdir),
        experiment="relabel",
        what=f"{task.data.name}: {task.per_class} images of each class under labels of teachers",
        written="scores.json, result.json",
        inputs=inputs_of(config, task.data),
        table=relabelling.table,
    )


LAUNCHER = Launcher("relabel", __doc__, Config, run=run)

if __name__ == "__main__":
    LAUNCHER.main()

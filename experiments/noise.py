"""Choose among wrong labels: small loss, class-wise scores, CRUST, and selections that are made once.

Labels are made wrong at a known rate. Networks then train on what each selection keeps, anew in every
minibatch or before every epoch, and the run records how many of the kept labels are right (the pure rate),
and the accuracy after each epoch on the validation split, whose labels are right. The test split is read
after the last epochs alone. `--distil` hands what the first seed's selections keep in the end to a
distillation.

Claim: none: no record yet.
Cost: not recorded.

    python -m experiments.noise --dataset=mnist --noise=symmetric --rate=0.6 --num_examples=5120 \
        --network=mlp:widths=256x128 --ramp=3 --select=all,loss,score1,score3,crust,clean
    python -m experiments.noise --dataset=mnist --rate=0.4 --select=clean --epochs=10 --num_examples=6000 \
        --once=random,herding,k_center,facility_location,central,loss,forgetting --images_per_class=10
    python -m experiments.noise --rate=0.4 --select=all,score1,clean --distil=distribution_matching:width=32
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ddjax.coresets.once import ONCE
from ddjax.coresets.robust import TRAININGS
from ddjax.data import noise
from ddjax.launch import Launcher, Scores, inputs_of, listed, noisy, once, onward, results
from ddjax.launch.noisy import Noise as Config


def _distilled(config: Config, task: noisy.NoisyTask, name: str, run: noisy.Trained, workdir: Path) -> Any:
    """The score of a distillation from the images that a training kept in its last epoch."""
    split = task.noisy(config.seed).split.at(run.kept)
    data = noise.with_training_split(task.data, split, name=f"{task.data.name}, noisy, {name}")
    return onward.distilled(str(config.distil), data, workdir / name, seed=config.seed).score


def _measure(config: Config, task: noisy.NoisyTask, workdir: Path) -> dict[str, Any]:
    """The content of `result.json`; each score is kept as soon as it is known."""
    began, scores = time.monotonic(), Scores(workdir)
    seeds = range(config.seed, config.seed + config.num_seeds)
    for name in listed("select", config.select, TRAININGS):
        if name not in scores.known:
            runs = [noisy.trained(task, name, seed=seed) for seed in seeds]
            found = noisy.summarised(runs)
            if config.distil:
                found["distilled"] = _distilled(config, task, name, runs[0], workdir)
            scores.add(name, found)
    warm = noisy.warmed_up(task, seeds, epochs=config.warm_up, lr=config.warm_up_lr)
    for name in listed("once", config.once, tuple(ONCE)) if config.once else ():
        if f"once {name}" not in scores.known:
            found = noisy.chosen_once(task, name, warm, per_class=config.images_per_class)
            scores.add(f"once {name}", found)
    facts = {"network": task.network.name, "num_examples": len(task.data.train)}
    found = {**facts, "selections": scores.known}
    seconds = {"total": time.monotonic() - began}
    return results.record("noise", task.data.name, found, seconds=seconds, seed=config.seed)


def run(config: Config) -> dict[str, Any]:
    """Train under noise with every selection, print and return the scores; or find them measured.

    Args:
        config: the settings.

    Returns:
        The content of `result.json`.

    Raises:
        ValueError: the settings do not fit each other, the data or the directory.
        FileNotFoundError: the data are missing.
    """
    task, workdir = config.task(), config.directory("noise")
    if config.distil:
        onward.check(config.distil, workdir)
    return once(
        workdir,
        config,
        lambda: _measure(config, task, workdir),
        experiment="noise",
        what=f"{task.data.name}, {config.noise} noise, {config.rate:.0%} of the labels: {config.select}",
        written="scores.json, result.json",
        inputs=inputs_of(config, task.data),
        table=noisy.table,
        pictures=noisy.PICTURES,
    )


LAUNCHER = Launcher("noise", __doc__, Config, run=run)

if __name__ == "__main__":
    LAUNCHER.main()

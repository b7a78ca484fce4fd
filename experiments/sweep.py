"""Accuracy against the number of steps, epochs or images, the initial weights or the labels: the 2018 plots.

Each value of the axis, and each seed, is a run of `experiments.random_init` or `experiments.fixed_init` in a
directory of its own inside --workdir; a finished run is found finished, a stopped one continues. `sweep.png`
is drawn from their records, which `result.json` gathers. All other flags are those of the runs.

Claim: MNIST, LeNet, from noise with class labels, 300 outer steps, 20 unseen initial weights: from 25.2 ± 5.1
with one inner step an epoch (E 3) to 82.2 ± 1.8 with 20.
Cost: two CPU cores beside other runs: 278 s, 259 s, 273 s, 177 s and 479 s of the five points.
Records: results/mnist-sweep-steps.json

    python -m experiments.sweep --axis=epochs --values=1,2,3,5,10 --dataset=mnist --num_outer_steps=300
    python -m experiments.sweep --axis=steps --values=1,2,5,10,20 --of=fixed_init --seeds=0,1,2
    python -m experiments.sweep --axis=labels --values=softmax,free --of=fixed_init --images_per_step=5
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ddjax.launch import Launcher, Unrolled, flag, flag_like, sweeps

LAUNCHERS = ("random_init", "fixed_init")

PUBLISHED: Mapping[tuple[str, str, str], float] = {
    ("random_init", "mnist", "lenet"): 79.5,
    ("random_init", "cifar10", "alexcifar"): 36.8,
    ("fixed_init", "mnist", "lenet"): 96.6,
    ("fixed_init", "cifar10", "alexcifar"): 54.0,
}
"""The accuracy of 100 images in Wang et al. 2018 (10 steps, 3 epochs), by launcher, data and network."""


@dataclasses.dataclass(frozen=True)
class Config(Unrolled):
    """The settings of a sweep: the axis, and all settings that the runs share."""

    axis: str = flag("epochs", "what is varied", choices=tuple(sweeps.AXES))
    values: str = flag("1,2,3,5", "of the axis; names for --axis=init and --axis=labels, e.g. softmax,free")
    of: str = flag("random_init", "the launcher of the runs", choices=LAUNCHERS)
    seeds: str = flag("0", "a run for each; with --of=fixed_init each has a θ0 of its own")
    yes: bool = flag(False, "start all runs without asking")
    baselines: bool = flag_like(
        Unrolled, "baselines", default=False, help="measure the baselines of each run too"
    )

    def idle(self) -> dict[str, str]:
        """The settings that change nothing under the other settings."""
        found = super().idle()
        if self.axis == "labels":
            found.pop("outer_lr_of_labels", None)
        return found


def run(config: Config) -> dict[str, Any]:
    """Carry out all runs of the sweep, one after the other, then draw the plot."""
    return sweeps.swept(config, PUBLISHED)


LAUNCHER = Launcher("sweep", __doc__, Config, run=run, runs=sweeps.planned)

if __name__ == "__main__":
    LAUNCHER.main()

"""Measure what a distillation has to beat: every baseline of Wang et al. 2018, for any p(θ0) and layout.

Random real images, the best of many random sets (chosen on training images), k-means of each class, class
means, each under a constant learning rate chosen on the validation split; k-NN on the same images; the whole
training set. The work directory keeps each score as it comes: a stopped run continues with the next score.

Claim: MNIST, LeNet, 100 images, S 10, E 3, over 50 unseen initial weights: random real 55.9 ± 12.2, the best
of many random sets 63.6 ± 6.6, k-means 62.8 ± 12.1, class means 74.2 ± 5.9; k-NN on k-means 92.3 ± 0.1; all
images 99.1 ± 0.0.
Cost: 1,385 s of two CPU cores beside other runs.
Records: results/paper-basic-mnist-small.json

    python -m experiments.baselines --dataset=mnist --workdir=runs/baselines-mnist
    python -m experiments.baselines --dataset=mnist --theta=fixed --inner_steps=1
"""

from __future__ import annotations

import dataclasses
from typing import Any

from ddjax.launch import Launcher, comparison, load_data, recorded_once
from ddjax.launch.comparison import CHOICES
from ddjax.launch.flags import FILE, flag, flag_like
from ddjax.launch.settings import DataChoice, TextChoice, Where
from ddjax.unroll import OPTIMIZERS


@dataclasses.dataclass(frozen=True)
class Config(Where, DataChoice, TextChoice):
    """The settings of a comparison."""

    workdir: str | None = flag_like(
        Where, "workdir", help="directory of the scores; runs/baselines-DATASET by default"
    )
    seed: int = flag_like(
        Where, "seed", help="of everything random; the θ0 of --theta=fixed is that of fixed_init"
    )
    theta: str = flag(
        "random", "initial weights: drawn anew, one θ0, or --pool's", choices=("random", "fixed", "pool")
    )
    pool: str = flag(
        "",
        "pool.npz of --theta=pool: tuned on its training members, scored on the held-out",
        path=True,
        role=FILE,
    )
    inner_steps: int = flag(10, "S, gradient steps with images of their own", low=1)
    inner_epochs: int = flag(3, "E, passes over those steps", low=1)
    images_per_class_per_step: int = flag(1, "images of one class in one step", low=1)
    inner_optimizer: str = flag("sgd", "whose updates the learning rate scales", choices=tuple(OPTIMIZERS))
    learning_rates: str = flag(
        "0.003,0.01,0.02,0.03,0.05,0.07,0.1,0.15,0.2,0.5", "to choose from on validation"
    )
    epochs: str = flag("", "numbers of epochs to choose from too, e.g. 1,3,10; by default E alone")
    baselines: str = flag("", f"which ones, with ; between them; by default all: {'; '.join(CHOICES)}")
    num_eval_inits: int = flag(50, "unseen initial weights behind each score", low=1)
    num_tuning_inits: int = flag(50, "initial weights behind each choice on validation", low=1)
    num_candidates: int = flag(100, "random sets that compete to be the optimized ones", low=1)
    num_selection_inits: int = flag(20, "initial weights that each of them trains", low=1)
    num_kept: int = flag(10, "the best of them, that are kept", low=1)
    num_clusterings: int = flag(3, "k-means from so many starts", low=1)

    def idle(self) -> dict[str, str]:
        """The settings that change nothing under the other settings."""
        found, wanted = super().idle(), comparison.names(self)
        if self.theta == "pool":
            found |= dict.fromkeys(("init", "init_gain"), "--theta=pool has the weights")
        else:
            found["pool"] = "only --theta=pool reads it"
        if not any("optimized" in name for name in wanted):
            sets = ("num_candidates", "num_selection_inits", "num_kept")
            found |= dict.fromkeys(sets, "no optimized sets are among --baselines")
        if not any("k-means" in name for name in wanted):
            found["num_clusterings"] = "k-means is not among --baselines"
        return found


def run(config: Config) -> dict[str, Any]:
    """Measure the baselines, print and return them; or find them measured."""
    comparison.selection_of(config)  # refuses numbers that do not fit each other
    setting = comparison.setting_of(config, load_data(config))
    return recorded_once(
        "baselines",
        config,
        setting.data,
        lambda scores: comparison.measure(config, setting, scores),
        what=f"baselines of {setting.data.name}, {setting.per_class * setting.data.num_classes} images, "
        f"S {config.inner_steps}, E {config.inner_epochs}: {setting.network.name} from {setting.inits.name}",
    )


LAUNCHER = Launcher("baselines", __doc__, Config, run=run)

if __name__ == "__main__":
    LAUNCHER.main()

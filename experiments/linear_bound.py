"""How many distilled points does one gradient step need? The linear analysis of Wang et al. 2018.

Least squares on the first D whitened principal components of real images, whose label is odd (+1) or even
(-1). Points are distilled by gradient descent through the step, for three p(θ0): any θ0 in R^D, those of an
affine set of D/4 dimensions that misses the optimum, and a single one. Their mean excess loss is laid beside
the closed form (`ddjax/linear.py`), and the points are tried on θ0 that they were not distilled for.

Claim: D = 8: 8 points are needed for any initial weights, 3 for an affine set of two dimensions, one for a
single θ0; closed form and simulation agree to 2e-15.
Cost: 1,254 s of two CPU cores beside other runs.
Records: results/paper-linear-mnist-small.json

    python -m experiments.linear_bound
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from ddjax.data import load
from ddjax.launch import Launcher, Where, bounds, flag, flag_like, recorded_once


@dataclasses.dataclass(frozen=True)
class Config(Where):
    """The settings of the analysis."""

    workdir: str | None = flag_like(
        Where, "workdir", help="directory of the run; runs/linear_bound-DATASET by default"
    )
    num_features: int = flag(8, "D, principal components of the images", low=1)
    max_points: int | None = flag(None, "M goes from 1 to this; by default to D + 2", low=1)
    num_examples: int = flag(5000, "real images, at most", low=2)
    num_unseen: int = flag(1000, "θ0 that the points were not distilled for", low=1)
    num_outer_steps: int = flag(5000, "gradient steps of each distillation", low=1)
    num_starts: int = flag(8, "random starts of each distillation, of which the best end is kept", low=1)


def run(config: Config) -> dict[str, Any]:
    """Carry the whole analysis out: simulate, compare, draw; or find it finished."""
    data = load(config.dataset, data_dir=config.data_dir, seed=config.seed)
    problem = bounds.problem_of(config, data)
    return recorded_once(
        "linear_bound",
        config,
        data,
        lambda scores: bounds.measure(config, problem),
        what=f"least squares on {Path(config.dataset).stem}, D = {config.num_features}",
        written="result.json",
        table=bounds.table,
        pictures={"linear_bound.png": bounds.draw},
    )


LAUNCHER = Launcher("linear_bound", __doc__, Config, run=run)

if __name__ == "__main__":
    LAUNCHER.main()

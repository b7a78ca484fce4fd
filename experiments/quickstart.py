"""Ten distilled digits in a minute: scikit-learn's embedded handwritten digits, for random initial weights.

Claim: one image per class trains a small ConvNet from initial weights it has never seen to 84.6 ± 1.7 %; ten
real images to 49.0 ± 5.9, class means to 65.8 ± 7.6. Cost: 30 s of two CPU cores. No download.

    bash scripts/quickstart.sh
"""

from __future__ import annotations

import dataclasses

from ddjax.launch import run as launch
from ddjax.launch.settings import Unrolled, flag
from experiments import random_init

NEXT = """
what to try next
  look at    {workdir}/distilled.png, the ten images, and {workdir}/curves.png
  MNIST      python scripts/prepare_data.py --dataset=mnist
             python -m experiments.random_init --dataset=mnist
  elsewhere  python -m experiments.evaluate --artifact={workdir}/distilled.npz --network=mlp
  your data  an .npz with x_train, y_train, x_test, y_test:  --dataset=path/to/data.npz
"""


@dataclasses.dataclass(frozen=True)
class Config(Unrolled):
    """The settings of `random_init`, small enough for a minute on two cores."""

    workdir: str | None = flag("runs/quickstart", "directory of the run", recorded=False)
    num_outer_steps: int | None = flag(300, "updates of the distilled images", low=1)
    num_inits: int = flag(2, "M, initial weights in one outer step", low=1)
    batch_size: int = flag(256, "N, real images in a minibatch", low=1)
    inner_steps: int = flag(1, "S, gradient steps with images of their own", low=1)
    inner_epochs: int = flag(5, "E, passes over those steps", low=1)
    inner_lr: float = flag(0.05, "the learned learning rates' start")
    validate_every: int = flag(50, "outer steps from one validation to the next", low=1)


def run(config: Config) -> None:
    """The whole of it, and what to do then."""
    if launch.run("quickstart", config, random_init.build):
        launch.tell(NEXT.format(workdir=config.workdir))


if __name__ == "__main__":
    launch.main("quickstart", __doc__, Config, run)

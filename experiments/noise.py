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

from typing import Any

from ddjax.launch import Launcher, noisy, onward, recorded_once
from ddjax.launch.noisy import Noise as Config


def run(config: Config) -> dict[str, Any]:
    """Train under noise with every selection, print and return the scores; or find them measured."""
    task = config.task()
    if config.distil:
        onward.check(config.distil, config.directory("noise"))
    return recorded_once(
        "noise",
        config,
        task.data,
        lambda scores: noisy.measure(config, task, scores),
        what=f"{task.data.name}, {config.noise} noise, {config.rate:.0%} of the labels: {config.select}",
        table=noisy.table,
        pictures=noisy.PICTURES,
    )


LAUNCHER = Launcher("noise", __doc__, Config, run=run)

if __name__ == "__main__":
    LAUNCHER.main()

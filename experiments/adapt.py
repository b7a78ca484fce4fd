"""Distil images that adapt pretrained networks to another data set: the adaptation of Wang et al. 2018.

p(θ0) is a pool made by `experiments.pretrain`: every outer step draws one of the networks kept for
distilling, and the final score is over the networks held out, each counted once. `--fixed` takes one network
for both. The baselines are the same networks without any adaptation, after the same number of steps on real
images, and after training on all of the target's images.

Claim: LeNet, 100 images, 64 networks to distil with and 20 held out. For any network MNIST to USPS 95.5 ± 0.5
(78.4 ± 2.2 before) and USPS to MNIST 93.7 ± 0.9 (56.2 ± 5.5 before). For one known network, mean over three
of them, 97.9 ± 0.2 and 97.4 ± 0.3. USPS is divided anew into 7,438 and 1,860 images.
Cost: two CPU cores beside other runs: 357 s and 363 s of distillation for any network; for a known one 414 s,
398 s, 362 s (MNIST to USPS) and 145 s, 131 s, 154 s (USPS to MNIST). The two pools took 1,734 s and 1,235 s.
Records: results/paper-adaptation-mnist-small.json

    python -m experiments.pretrain --dataset=mnist
    python -m experiments.adapt --pool=runs/pretrain-mnist/pool.npz --dataset=path/to/usps.npz --resize=28
    python -m experiments.adapt --pool=runs/pretrain-mnist/pool.npz --dataset=path/to/usps.npz --resize=28 \
        --fixed

From SVHN (32×32, colour) to MNIST, where SVHN has been prepared:

    python -m experiments.pretrain --dataset=svhn_cropped
    python -m experiments.adapt --pool=runs/pretrain-svhn_cropped/pool.npz --dataset=mnist --resize=32 \
        --channels=3
"""

from __future__ import annotations

import dataclasses

from ddjax.data import Dataset
from ddjax.launch import Hooks, Keys, Launcher, Parts, Plan, Unrolled, flag, load_pool
from ddjax.launch.flags import FILE
from ddjax.launch.pools import measure_adaptation, pool_parts


@dataclasses.dataclass(frozen=True)
class Config(Unrolled):
    """The settings of an adaptation."""

    pool: str = flag("", "pool.npz of the source, from `ddjax pretrain`", path=True, role=FILE)
    fixed: bool = flag(False, "adapt one member, known in advance, instead of any")
    member: int = flag(0, "which training member --fixed takes", low=0)

    def idle(self) -> dict[str, str]:
        """The settings that change nothing under the other settings."""
        found = super().idle()
        if not self.fixed:
            found["member"] = "only --fixed adapts one member"
        if not self.baselines:
            found |= dict.fromkeys(
                ("init", "init_gain"), "the pool has the weights, and no baseline draws any"
            )
        return found


def build(config: Config, data: Dataset, keys: Keys, plan: Plan) -> Parts:
    """The parts of an adaptation: a pool's training and held-out members, or with `--fixed` one member."""
    del keys
    member = config.member if config.fixed else None
    hooks = Hooks(measure=measure_adaptation)
    return pool_parts(config, data, plan, load_pool(config.pool), hooks=hooks, member=member)


LAUNCHER = Launcher("adapt", __doc__, Config, build=build)

if __name__ == "__main__":
    LAUNCHER.main()

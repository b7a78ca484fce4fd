"""Distil images that poison well-trained networks in one step: the attack of Wang et al. 2018.

Networks of a pool, trained on the same data, take one gradient step on φ and are then to take the attacked
class for the target class, and still to recognise the other classes: the outer loss is the cross-entropy with
the attacked images relabelled. The experiment is for studying a risk: how far a few images in a training
stream can bend a network, and whether a defence notices. It says nothing of how such images would get there,
and making them needs networks like the victim's.

Claim: MNIST, LeNet, 100 images, over 20 held-out networks: 79.8 ± 16.9 % of the zeros are taken for ones and
94.0 ± 3.6 % of the other classes are right. Random real images with wrong labels: 83.1 ± 14.3 % and
83.8 ± 11.6 %.
Cost: two CPU cores beside other runs: 231 s of distillation and 178 s for the scores; the pool took 1,734 s.
Records: results/paper-attack-mnist-small.json

    python -m experiments.pretrain --dataset=mnist --epochs=2 --num_held_out=20
    python -m experiments.attack --pool=runs/pretrain-mnist/pool.npz --initial_images=k_means \
        --label_confidence=0.9 --batch_size=512 --outer_lr=0.1 --num_outer_steps=800 --validate_every=50 \
        --num_val_inits=8
"""

from __future__ import annotations

import dataclasses

from ddjax.data import Dataset
from ddjax.launch import Hooks, Keys, Launcher, Parts, Plan, Unrolled, flag, flag_like, load_pool
from ddjax.launch.flags import FILE
from ddjax.launch.pools import check_attack, measure_attack, pool_parts, score_of_attack
from ddjax.methods.unrolled import relabelled


@dataclasses.dataclass(frozen=True)
class Config(Unrolled):
    """The settings of an attack."""

    dataset: str = flag_like(
        Unrolled,
        "dataset",
        default="mnist",
        help="what the pool was trained on: a TFDS name, or the path of an .npz",
    )
    pool: str = flag("", "pool.npz of well-trained networks, from `ddjax pretrain`", path=True, role=FILE)
    attacked: int = flag(0, "class that is to be taken for another", low=0)
    target: int = flag(1, "class that it is to be taken for", low=0)  # type: ignore[assignment] (a class, not devices)
    inner_steps: int = flag_like(Unrolled, "inner_steps", default=1)
    inner_epochs: int = flag_like(Unrolled, "inner_epochs", default=1)
    images_per_class_per_step: int = flag_like(Unrolled, "images_per_class_per_step", default=10)

    def idle(self) -> dict[str, str]:
        """The settings that change nothing under the other settings."""
        return super().idle() | dict.fromkeys(("init", "init_gain"), "the pool has the weights")

    @property
    def compiled_for(self) -> None:
        """No other devices: `--target` is a class here."""
        return None


def build(config: Config, data: Dataset, keys: Keys, plan: Plan) -> Parts:
    """The parts of an attack: p(θ0) is a pool's training members, and the held-out ones give the score."""
    del keys
    pool = load_pool(config.pool)
    check_attack(config, data, pool)
    hooks, objective = Hooks(score_of_attack, measure_attack), relabelled(config.attacked, config.target)
    return pool_parts(config, data, plan, pool, hooks=hooks, objective=objective)


LAUNCHER = Launcher("attack", __doc__, Config, build=build)

if __name__ == "__main__":
    LAUNCHER.main()

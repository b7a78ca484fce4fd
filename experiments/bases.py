"""Distil images that are combinations of a few bases which all classes share (RememberThePast).

    x̃_ki = up(Σ_b a_kib · B_b)

From real images the start is their best approximation by so many bases, and trains networks well before the
first outer step: more images and longer training for the same stored numbers.

Claim: none: outer steps have no record yet; the start alone has, by distribution_matching --form=bases.
Cost: not recorded.

Storage of 10 images per class for LeNet, 1,600 images, 800 steps of 80:

    python -m experiments.bases --dataset=mnist --num_bases=32 --inner_steps=20 --inner_epochs=40 \
        --images_per_class_per_step=8 --inner_optimizer=adam --inner_lr=0.003 --inner_lr_decay=cosine \
        --window=30 --horizon=random --batch_size=512 --num_outer_steps=200
"""

from __future__ import annotations

import dataclasses

import optax

from ddjax import optimizers
from ddjax.data import Dataset
from ddjax.launch import Keys, Launcher, Parts, Plan, Unrolled, flag, flag_like, unrolled_parts
from ddjax.types import Outer


@dataclasses.dataclass(frozen=True)
class Config(Unrolled):
    """The settings of a distillation of bases."""

    form: str = flag_like(Unrolled, "form", default="bases", choices=("bases",))
    initial_images: str = flag_like(Unrolled, "initial_images", default="real")
    inner_optimizer: str = flag_like(Unrolled, "inner_optimizer", default="momentum")
    baselines: bool = flag_like(Unrolled, "baselines", default=False)
    outer_lr_of_coefficients: float | None = flag(
        None,
        "learning rate of the coefficients at the start; by default that of the n bases over √n",
        positive=True,
        same_step=True,
    )
    running_clip: float | None = flag(
        None,
        "bound on the gradient of each group, in running means of its norm",
        positive=True,
        same_step=True,
    )


def outer_by_group(config: Config, outer: Outer, steps: int) -> Outer:
    """The outer optimiser with a rate of its own for the coefficients, and a bound by running means.

    Bases of mean square one move by their rate; a coefficient of one of n bases has 1/√n of the effect.
    """
    if not isinstance(outer.optimizer, dict):  # --original moves everything by one optimiser
        return outer
    lr = config.outer_lr or optimizers.LR
    own = config.outer_lr_of_coefficients or lr / config.num_bases**0.5
    each = {**outer.optimizer, "coefficients": optimizers.adam_cosine(steps, lr=own)}
    if config.running_clip is not None:
        clip = optimizers.clip_by_running_norm(factor=config.running_clip)
        each = {group: optax.chain(clip, moving) for group, moving in each.items()}
    named = {"outer_lr_of_coefficients": own, "running_clip": config.running_clip}
    return dataclasses.replace(outer, optimizer=each, facts={**outer.facts, **named})


def build(config: Config, data: Dataset, keys: Keys, plan: Plan) -> Parts:
    """The parts of a distillation of bases for unseen initial weights."""
    del keys
    parts = unrolled_parts(config, data, plan)
    return dataclasses.replace(parts, outer=outer_by_group(config, parts.outer, parts.num_outer_steps))


LAUNCHER = Launcher("bases", __doc__, Config, build=build)

if __name__ == "__main__":
    LAUNCHER.main()

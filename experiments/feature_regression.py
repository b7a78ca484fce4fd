"""Distil by ridge regression on the features of networks that train on the images meanwhile (FRePo).

Networks are trained on the result by squared error on learned, centred labels, never by cross-entropy.

Claim: one image per class, over five new networks of 128 to 512 channels, trained as published: MNIST
93.2 ± 0.2 (published 93.0), Fashion-MNIST 76.0 ± 0.3 (75.6), CIFAR-10 44.7 ± 0.2 (46.8), after 2,500,
5,000 and 2,000 outer steps of 256, 512 and 512 real images; published are 500,000 of 1,024. Four images in
the place of each, on the same networks: MNIST 96.2 ± 0.2, Fashion-MNIST 80.3 ± 0.3, CIFAR-10 57.1 ± 0.7. Ten
per class: MNIST 98.0 ± 0.0 (98.6), CIFAR-10 53.5 ± 1.4 (65.5). Networks of 32 to 128 channels, which one CPU
core trains: four in one on MNIST 95.9 ± 0.3; pixels, under DSA's augmentation, 84.5 ± 1.8.
Cost: MNIST two CPU cores, 228 s of distillation and 233 s for the scores; one H100 beside about ten other
runs: 130 s and 62 s of distillation, then 106 s, 112 s and 128 s, then 111 s and 124 s; 275 s of one CPU
core; the last number two beside fifteen processes: 2,196 s.
Records: results/mnist-feature-regression-1-batch-norm.json, results/fashion-feature-regression-1-longer.json,
results/cifar10-feature-regression-1-wide.json, results/mnist-multi-formation-frepo-1.json,
results/fashion-multi-formation-frepo-1-flips.json, results/cifar10-multi-formation-frepo-1.json,
results/mnist-feature-regression-10.json, results/cifar10-feature-regression-10.json,
results/mnist-multi-formation-frepo-1-narrow.json, results/mnist-feature-regression-1.json

As recorded, on MNIST with two CPU cores, on CIFAR-10 as pixels and four in one, and narrow networks alone:

    python -m experiments.feature_regression --dataset=mnist --eval_augment=frepo --width=32 \
        --eval_width=128 --norm=batch --batch_size=256 --outer_lr=0.02 --label_rate=0.1 --online_lr=1e-3 \
        --num_val_inits=1 --validate_every=2500 --num_outer_steps=2500
    python -m experiments.feature_regression --dataset=cifar10 --whiten=zca_standardised --flip \
        --eval_augment=frepo_flip --width=128 --batch_size=512 --outer_lr=0.02 --label_rate=0.1 \
        --num_val_inits=1 --num_outer_steps=2000 --validate_every=1000
    python -m experiments.feature_regression --dataset=cifar10 --whiten=zca_standardised --flip \
        --eval_augment=frepo_flip --pool_augment=frepo_flip --width=128 --batch_size=512 --outer_lr=0.02 \
        --label_rate=0.1 --num_val_inits=1 --num_outer_steps=5000 --validate_every=2500 \
        --form=multi_formation --train_steps=2000
    python -m experiments.feature_regression --dataset=mnist --width=32 --batch_size=256 --outer_lr=0.02 \
        --num_outer_steps=1200 --label_rate=0.1 --online_lr=1e-3 --train_lr=1e-3 --eval_augment=dsa \
        --validate_every=300
"""

from __future__ import annotations

import dataclasses

from ddjax import methods
from ddjax.data import Dataset
from ddjax.launch import (
    AUGMENTATIONS,
    Keys,
    Launcher,
    Parts,
    Plan,
    Regressed,
    Regression,
    flag,
    regression_parts,
)
from ddjax.launch import augmentation as augmentation_of
from ddjax.optimizers import lamb_outer
from ddjax.types import Method, Outer

NUM_OUTER_STEPS = 1_000
"""The outer steps where the flags give none; the published number is 500,000."""


@dataclasses.dataclass(frozen=True)
class Config(Regression):
    """The settings of feature regression; the published ones where they apply."""

    pool_augment: str | None = flag(
        None, f"augmentation in the training of the pool's networks; {AUGMENTATIONS}"
    )
    penalty: float = flag(
        1e-6, "penalty of the regression, relative to the kernel's mean diagonal", positive=True
    )
    margin: float = flag(1.0, "weight of the margin of the labels", low=0)
    label_rate: float = flag(1.0, "rate of the labels, as a factor on that of the images", positive=True)


def build(config: Config, data: Dataset, keys: Keys, plan: Plan) -> Parts:
    """The parts of feature regression: a thousand outer steps unless the flags say otherwise."""
    del keys

    def method_of(regressed: Regressed) -> Method:
        return methods.feature_regression(
            **regressed._asdict(),
            penalty=config.penalty,
            margin_weight=config.margin,
            augmentation=augmentation_of(config.pool_augment, data),
        )

    def outer_of(method: Method, steps: int) -> Outer:
        del method
        lr = config.outer_lr or 3e-4
        return lamb_outer(steps, lr=lr, lr_of_labels=config.label_rate * lr)

    return regression_parts(
        config,
        data,
        plan,
        method_of,
        outer_of,
        num_outer_steps=NUM_OUTER_STEPS,
        pool_augment=config.pool_augment,
    )


LAUNCHER = Launcher("feature_regression", __doc__, Config, build=build)

if __name__ == "__main__":
    LAUNCHER.main()

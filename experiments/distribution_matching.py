"""Distil by matching class means of embeddings under random networks (DM).

Claim: the embedded digits, one image per class, over 20 unseen initial weights: 90.1 ± 1.1; k-means of each
class 87.8 ± 1.2. MNIST, the storage of one image per class, ten networks trained by IDC's evaluation: four
images in one 94.7 ± 0.1, pixels 90.6 ± 0.4. CIFAR-10, the same, five networks: four in one 39.1 ± 0.7.
Cost: the digits on two CPU cores beside other runs: 20 s of distillation, 39 s for the scores and the
baselines; the others on one H100 beside about ten other runs, distillation alone: 20 s, 29 s, 45 s.
Records: results/digits-distribution-matching.json, results/mnist-multi-formation-dm-1.json,
results/mnist-pixels-dm-1.json, results/cifar10-multi-formation-dm-1.json

    python -m experiments.distribution_matching --dataset=digits --width=32 --batch_size=64 \
        --num_outer_steps=500 --protocol=plain
    python -m experiments.distribution_matching --dataset=digits --width=32 --batch_size=64 \
        --num_outer_steps=500 --augment=dsa --eval_augment=dsa --nobaselines
    python -m experiments.distribution_matching --dataset=mnist --images_per_class=1 --form=multi_formation \
        --outer_optimizer=adam --outer_lr=0.02 --batch_size=64 "--augment=color+(crop_scale_rotate)" \
        --num_outer_steps=1500 --validate_every=1500 --num_val_inits=1 --num_eval_inits=10 --protocol=idc \
        --train_batch=64 --train_epochs=1000 "--eval_augment=color+(crop_scale_rotate)" --nobaselines
"""

from __future__ import annotations

from ddjax import methods
from ddjax.data import Dataset
from ddjax.launch import Keys, Launcher, Parts, Plan, matching_parts
from ddjax.launch import Matching as Config


def build(config: Config, data: Dataset, keys: Keys, plan: Plan) -> Parts:
    """The parts of distribution matching: a thousand outer steps unless the flags say otherwise.

    The published number is 20,000.
    """
    del keys
    return matching_parts(
        config,
        data,
        plan,
        lambda matched: methods.distribution_matching(**matched._asdict(), batch_size=config.batch_size),
        num_outer_steps=1000,
    )


LAUNCHER = Launcher("distribution_matching", __doc__, Config, build=build)

if __name__ == "__main__":
    LAUNCHER.main()

"""Distil for initial weights never seen before: the random-init setting of Wang et al. 2018, table 1.

Claim: MNIST, LeNet, 100 images, over 50 unseen initial weights: 82.0 ± 2.8 with 30 inner steps (S 10, E 3),
93.9 ± 0.6 with 200 (E 20) from k-means centroids with learned labels.
Cost: two CPU cores: 30 inner steps, 1,000 outer steps: 271 s of distillation, 130 s for score and baselines;
200 inner steps, 2,000 outer steps beside other work: 890 s of distillation.
Records: results/mnist-random-init.json, results/paper-basic-mnist-small.json

    python -m experiments.random_init --dataset=mnist --num_inits=2 --num_val_inits=8 --num_eval_inits=50
    python -m experiments.random_init --dataset=mnist --initial_images=k_means --label_confidence=0.9 \
        --inner_epochs=20 --inner_optimizer=adam --inner_lr=0.002 --window=30 --horizon=random --num_inits=2 \
        --batch_size=256 --outer_lr=0.03 --num_outer_steps=2000 --num_val_inits=8 \
        --num_eval_inits=50 --nobaselines
"""

from __future__ import annotations

from ddjax.data import Dataset
from ddjax.launch import Keys, Launcher, Parts, Plan, unrolled_parts
from ddjax.launch import Unrolled as Config


def build(config: Config, data: Dataset, keys: Keys, plan: Plan) -> Parts:
    """The parts of a distillation for unseen initial weights: every outer step draws new ones from p(θ0)."""
    del keys
    return unrolled_parts(config, data, plan)


LAUNCHER = Launcher("random_init", __doc__, Config, build=build)

if __name__ == "__main__":
    LAUNCHER.main()

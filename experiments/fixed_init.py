"""Distil for one known θ0: the fixed-init setting of Wang et al. 2018, table 1.

Claim: MNIST, LeNet, over three θ0 (seeds 0 to 2), from k-means centroids with learned labels: 98.0 ± 0.0 with
100 images (S 10, E 10) after 1,500 outer steps, 95.3 ± 0.6 with 10 images (S 1, E 30) after 2,500.
With free labels, three θ0, S 1, E 20, 6,000 outer steps: 93.6 ± 0.4 with 5 images for the ten classes,
96.2 ± 0.2 with 10.
Cost: distillation on two CPU cores: 257 s for 100 images where little else ran, 921 s and 978 s beside other
runs; 357 s, 285 s and 377 s for ten. With free labels, on one core beside another run: 424 s for 5
images, 631 s for 10.
Records: results/paper-basic-mnist-small.json, results/soft-labels-mnist.json,
results/soft-labels-mnist-5-e20.json, results/soft-labels-mnist-10.json

    python -m experiments.fixed_init --dataset=mnist --inner_epochs=10 \
        --inner_optimizer=momentum --inner_lr=0.01 --outer_lr=0.03 --num_outer_steps=1500 \
        --initial_images=k_means --label_confidence=0.9 --batch_size=512 --nobaselines
    python -m experiments.fixed_init --dataset=mnist --inner_steps=1 --inner_epochs=30 \
        --inner_optimizer=momentum --inner_lr=0.01 --outer_lr=0.05 --num_outer_steps=2500 \
        --initial_images=k_means --label_confidence=0.9 --batch_size=512 --nobaselines
    python -m experiments.fixed_init --dataset=mnist --inner_steps=1 --inner_epochs=20 --images_per_step=5 \
        --label_form=free --inner_optimizer=momentum --inner_lr=0.02 --max_inner_lr=0.2 --outer_lr=0.02 \
        --outer_lr_of_labels=0.01 --num_outer_steps=6000 --initial_images=k_means --batch_size=256 \
        --nobaselines --validate_every=1000 --on_nonfinite=rollback
"""

from __future__ import annotations

from ddjax import inits
from ddjax.data import Dataset
from ddjax.launch import Keys, Launcher, Parts, Plan, unrolled_parts
from ddjax.launch import Unrolled as Config


def build(config: Config, data: Dataset, keys: Keys, plan: Plan) -> Parts:
    """The parts of a distillation for one θ0, a single draw of the init scheme.

    The θ0 is the same at every outer step and in the evaluation.
    """
    return unrolled_parts(
        config,
        data,
        plan,
        lambda network: inits.fixed(network, keys.theta, scheme=config.init, gain=config.init_gain),
    )


LAUNCHER = Launcher("fixed_init", __doc__, Config, build=build)

if __name__ == "__main__":
    LAUNCHER.main()

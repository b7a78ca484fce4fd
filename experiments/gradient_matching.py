"""Distil by matching the gradients of real and distilled images, class by class: DC, or, with --augment, DSA.

An outer step is one update of the images; the published 1,000 networks are 1,000 outer steps at one image per
class, 10,000 at ten and 50,000 at fifty.

Claim: one image per class, 64 real images of each class in a step, over ten unseen initial weights: MNIST, DC
91.8 ± 0.5 (published, with 256: 91.7 ± 0.5), DSA 89.1 ± 0.5 (88.7 ± 0.6); CIFAR-10, DC 28.6 ± 0.4
(28.3 ± 0.5), DSA 28.4 ± 0.4 (28.8 ± 0.7).
Cost: an H100 that about ten other runs shared: DC on MNIST 69 s to compile, 65 s of distillation and 50 s for
the score, DSA 104 s, 56 s and 46 s.
Records: results/condense-mnist-1-small.json, results/condense-cifar10-1-small.json

As DC was published, then as DSA was:

    python -m experiments.gradient_matching --dataset=mnist --train_epochs=1000 --eval_augment=dc
    python -m experiments.gradient_matching --dataset=mnist --initial_images=real --augment=dsa \
        --train_epochs=1000 --eval_augment=dsa
"""

from __future__ import annotations

import dataclasses

from ddjax import methods
from ddjax.data import Dataset
from ddjax.launch import Keys, Launcher, Matching, Parts, Plan, flag, flag_like, matching_parts
from ddjax.methods import DISTANCES, Loops

NETWORKS = 1000
"""The published number of networks that are drawn."""


@dataclasses.dataclass(frozen=True)
class Config(Matching):
    """The settings of gradient matching; the published ones where they apply."""

    initial_images: str = flag_like(Matching, "initial_images", default="noise")
    distance: str = flag("layerwise", "of two gradients", choices=tuple(DISTANCES))
    matches: int | None = flag(
        None, "outer steps before a new network is drawn; by default the published 1, 10 or 50", low=1
    )
    net_epochs: int | None = flag(
        None, "epochs of training on the distilled images between two of them; by default 1, 50 or 10", low=1
    )
    net_lr: float = flag(0.01, "learning rate of that training", positive=True)
    net_batch_size: int = flag(256, "distilled images in one of its steps", low=1)

    def idle(self) -> dict[str, str]:
        """The settings that change nothing under the other settings."""
        found = super().idle()
        if choose_loops(self).matches == 1:
            training = ("net_epochs", "net_lr", "net_batch_size")
            found |= dict.fromkeys(training, "with one match a network is never trained between matches")
        return found


def build(config: Config, data: Dataset, keys: Keys, plan: Plan) -> Parts:
    """The parts of gradient matching: as many outer steps as go with the published number of networks.

    The flags may say another number of steps.
    """
    del keys
    loops = choose_loops(config)
    return matching_parts(
        config,
        data,
        plan,
        lambda matched: methods.gradient_matching(
            **matched._asdict(),
            batch_size=config.batch_size,
            distance=config.distance,
            matches=loops.matches,
            epochs=loops.epochs,
            lr_net=config.net_lr,
            batch_train=config.net_batch_size,
        ),
        num_outer_steps=NETWORKS * loops.matches,
        resolved=loops._asdict(),
    )


def choose_loops(config: Config) -> Loops:
    """The loops of gradient matching: the published ones, with the values of the flags that are given."""
    if config.matches is not None and config.net_epochs is not None:
        return Loops(config.matches, config.net_epochs)
    try:
        published = methods.schedule_for(config.images_per_class)
    except ValueError as error:
        raise ValueError(f"{error} The flags are --matches and --net_epochs.") from error
    return Loops(config.matches or published.matches, config.net_epochs or published.epochs)


LAUNCHER = Launcher("gradient_matching", __doc__, Config, build=build)

if __name__ == "__main__":
    LAUNCHER.main()

"""Distil labels: real images stay as they are, and their labels are learned (flexible dataset distillation).

Three methods: `online` (one step ahead of a network that trains beside the labels), `ridge` (the same with a
last layer solved by ridge regression) and `unrolled` (through a whole training, with learned rates). The base
images come from the data set itself, as many of each class, random ones or such as stand for their class
(`--select`), or from another one (`--base`), whose labels are not looked at. The training on the result is
Adam at a constant rate; its number of steps is chosen on the validation split. Beside the result stand the
images with their true labels, hard and smoothed, or for images from elsewhere the labels of the nearest
training images.

Claim: MNIST, LeNet, ten real images, over 20 unseen initial weights: 61.0 ± 2.1 after 15,000 outer steps;
smoothed true labels 47.0 ± 2.0, true labels 45.3 ± 2.4.
Cost: one CPU core beside another run: 261 s of distillation, 47 s for the scores.
Records: results/labels-mnist-10-anew.json

    python -m experiments.label_distillation --dataset=mnist --num_images=10 --num_outer_steps=15000 \
        --batch_size=256 --start=smoothed --num_val_inits=2
    python -m experiments.label_distillation --dataset=mnist --num_images=100 --select=facility_location
    python -m experiments.label_distillation --dataset=mnist --num_images=100 --method=ridge
    python -m experiments.label_distillation --dataset=mnist --num_images=100 --base=fashion_mnist
"""

from __future__ import annotations

import dataclasses

from ddjax import inits
from ddjax.data import Dataset
from ddjax.launch import Facts, Hooks, Keys, Launcher, Layout, Parts, Plan, labelling
from ddjax.launch.choices import build_network, choose_network, network_of_plan


@dataclasses.dataclass(frozen=True)
class Config(labelling.Labelling):
    """The settings of a label distillation."""


def build(config: Config, data: Dataset, keys: Keys, plan: Plan) -> Parts:
    """The parts of a label distillation."""
    del keys
    choice = choose_network(config, data)
    network = build_network(choice, data, conv_form=plan.conv_form)
    distribution = inits.random(network, scheme=config.init, gain=config.init_gain)
    method = labelling.method_of(config, network_of_plan(network, plan), distribution)
    steps = config.num_outer_steps or 5000
    outer = labelling.outer_of(config, method, steps)
    inner_steps, size = labelling.layout_of(config)
    epochs = config.inner_epochs if config.method == "unrolled" else 1
    layout = Layout(inner_steps, epochs, max(1, size // data.num_classes), size)
    facts = Facts(layout, dict(outer.facts), choice[1])
    hooks = Hooks(measure=labelling.measure, settle=None if config.method == "unrolled" else labelling.settle)
    return Parts(
        network, distribution, method, labelling.form_of(config, data), outer, steps, facts, hooks=hooks
    )


LAUNCHER = Launcher("label_distillation", __doc__, Config, build=build)

if __name__ == "__main__":
    LAUNCHER.main()

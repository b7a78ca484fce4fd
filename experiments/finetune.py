"""Distil images that fine-tune a large pretrained network: AlexNet, 224 pixels, one image per class.

The weights come from a file of the user's: `.npz` or `.safetensors`, with ddjax's names (`conv1.kernel` ...
`fc3.bias`, see `ddjax/weights.py`) or those of PyTorch's torchvision (`features.0.weight` ...
`classifier.6.bias`). The last layer is drawn anew for the classes of the data, unless `--last_layer=loaded`.
`--pixels=imagenet` normalises as torchvision's weights expect. S 1, E 3, as in Wang et al. 2018.

Claim: none: no pretrained weights of this size were at hand; the path is tested with small ones.
Cost: not recorded; `--dry_run` prints time and memory for the machine at hand.

    python -m experiments.finetune --weights=alexnet.safetensors --dataset=path/to/birds.npz --resize=224 \
        --pixels=imagenet --dry_run
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax

from ddjax import checks, weights
from ddjax.data import Dataset
from ddjax.launch import Keys, Launcher, Parts, Plan, Unrolled, flag, flag_like, unrolled_parts
from ddjax.launch.flags import FILE
from ddjax.networks.alexnet import from_torch
from ddjax.types import InitDistribution, Network

LAST_LAYERS = {"alexnet": "fc3", "alexcifar": "fc3", "lenet": "fc3", "convnet": "classifier"}
"""The layer that depends on the number of classes, by the name of the network."""


@dataclasses.dataclass(frozen=True)
class Config(Unrolled):
    """The settings of a fine-tuning."""

    network: str | None = flag("alexnet", f"whose weights they are: {', '.join(LAST_LAYERS)}")
    weights: str = flag("", "the file of the weights, .npz or .safetensors", path=True, role=FILE)
    last_layer: str = flag("fresh", "the weights of the last dense layer", choices=("fresh", "loaded"))
    inner_steps: int = flag_like(Unrolled, "inner_steps", default=1)
    inner_lr: float = flag_like(Unrolled, "inner_lr", default=0.001)
    batch_size: int = flag_like(Unrolled, "batch_size", default=64)

    def idle(self) -> dict[str, str]:
        """The settings that change nothing under the other settings."""
        found = super().idle()
        if self.last_layer == "loaded":
            found |= dict.fromkeys(("init", "init_gain"), "--last_layer=loaded draws no weights")
        return found


def initial_weights(config: Config, network: Network, key: jax.Array) -> InitDistribution:
    """p(θ0), which is one θ0: the weights of the file, with a last layer that is drawn anew or loaded too."""
    if not config.weights:
        raise ValueError("weights: expected a file; got none. Give --weights=path/to/alexnet.safetensors.")
    checks.choice("network", network.name, LAST_LAYERS)
    leaves = weights.fit(
        weights.read(config.weights),
        network,
        fresh=LAST_LAYERS[network.name] if config.last_layer == "fresh" else None,
        rename=from_torch if network.name == "alexnet" else None,
    )
    return weights.loaded(
        network, leaves, key=key, name=Path(config.weights).stem, scheme=config.init, gain=config.init_gain
    )


def build(config: Config, data: Dataset, keys: Keys, plan: Plan) -> Parts:
    """The parts of a fine-tuning: p(θ0) is one θ0, for all outer steps and for the evaluation."""
    return unrolled_parts(config, data, plan, lambda network: initial_weights(config, network, keys.theta))


LAUNCHER = Launcher("finetune", __doc__, Config, build=build)

if __name__ == "__main__":
    LAUNCHER.main()

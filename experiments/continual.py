"""Continual learning: classes come a few at a time, and a memory keeps a few images of each.

After every task networks are trained from scratch on the memory alone, and tested on all classes seen so far
(GDumb). The memory's images of a task are selected, or distilled, from that task's training images while
these are there; features too are learned on them alone. The work directory keeps every memory as an artifact
and each score as it comes: a stopped run continues with the next score, a distillation with its last
checkpoint.

Claim: the embedded digits, five tasks of two classes, one image of each class in memory, after the last task,
five networks: random real images 76.9 ± 1.3, herding 84.5 ± 1.3, distribution matching 88.9 ± 0.5.
Cost: 99 s of two CPU cores beside other runs.
Records: results/continual-digits.json

    python -m experiments.continual --dataset=digits --width=32 --images_per_class=1 --train_epochs=300 \
        --protocol=plain
    python -m experiments.continual --dataset=mnist --width=32 --num_outer_steps=500 --eval_augment=dsa \
        --augment=dsa

References:
    Prabhu, Torr and Dokania 2020, GDumb, ECCV; with condensed memories Zhao, Mopuri and Bilen 2021, arXiv
    2006.05929, and Zhao and Bilen 2023, arXiv 2110.04181.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from ddjax import networks
from ddjax.launch import Launcher, recorded_once
from ddjax.launch import memories as parts
from ddjax.launch.flags import flag, flag_like, listed
from ddjax.launch.memories import DISTILLATIONS, MEMORIES
from ddjax.launch.settings import AUGMENTATIONS, DataChoice, Matching, Where
from ddjax.networks.ops import CONV_FORMS
from ddjax.recipes import MOST_EPOCHS


@dataclasses.dataclass(frozen=True)
class Config(Where, DataChoice):
    """The settings of a comparison of memories."""

    workdir: str | None = flag_like(
        Where, "workdir", help="directory of the memories and scores; runs/continual-DATASET by default"
    )
    memory: str = flag(
        "random,herding,distribution_matching", f"which, with commas between them: {', '.join(MEMORIES)}"
    )
    num_tasks: int = flag(5, "the classes are divided evenly into so many", low=1)
    shuffled: bool = flag(False, "classes come in an order drawn from the seed, not in that of their numbers")
    images_per_class: int = flag(10, "images of each class in the memory", low=1)
    network: str | None = flag("convnet", f"what is trained on the memory: {', '.join(networks.NAMES)}")
    init: str = flag_like(DataChoice, "init", default="pytorch")
    conv_form: str = flag("auto", "how convolutions are computed", choices=CONV_FORMS)
    num_outer_steps: int = flag(300, "outer steps of a distillation, for each task", low=1)
    batch_size: int = flag(64, "N, real images of each class in an outer step", low=1)
    augment: str | None = flag(None, f"augmentation while distilling; {AUGMENTATIONS}")
    feature_epochs: int = flag(10, "passes over a task's images that train herding's network", low=1)
    train_epochs: int = flag(300, "epochs that a network trains on the memory", low=1, high=MOST_EPOCHS)
    train_lr: float = flag(0.01, "learning rate of that training", positive=True)
    protocol: str = flag_like(Matching, "protocol")
    eval_augment: str | None = flag(None, f"augmentation of each image there; {AUGMENTATIONS}")
    num_eval_inits: int = flag(5, "initial weights behind each score", low=1)

    def idle(self) -> dict[str, str]:
        """The settings that change nothing under the other settings."""
        found, wanted = super().idle(), listed("memory", self.memory, MEMORIES)
        if not {*wanted} & {*DISTILLATIONS}:
            distilling = ("num_outer_steps", "batch_size", "augment")
            found |= dict.fromkeys(distilling, "no memory is distilled")
        if not {*wanted} - {*DISTILLATIONS} - {"random", "class_mean", "k_means"}:
            found["feature_epochs"] = "no memory looks at a trained network"
        return found


def run(config: Config) -> dict[str, Any]:
    """Fill the memories task by task, train, test, print and return the scores; or find them measured."""
    wanted, stream = parts.memories(config), parts.stream_of(config)
    parts.task_of(config, stream.own(0))  # refuses a network or an augmentation that does not fit
    return recorded_once(
        "continual",
        config,
        stream.data,
        lambda scores: parts.measure(config, stream, wanted, scores),
        what=f"{stream.data.name} in {config.num_tasks} tasks, {config.images_per_class} image(s) of each "
        "class in memory",
        written="scores.json, result.json, an .npz for each memory and task",
        table=parts.table,
        pictures={"continual.png": parts.draw},
    )


LAUNCHER = Launcher("continual", __doc__, Config, run=run)

if __name__ == "__main__":
    LAUNCHER.main()

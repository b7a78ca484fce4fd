"""Regenerate a block of the condensation papers' table: one data set, one number of images, ours beside it.

Random, herding, k-center, forgetting, DC, DSA, DM and all images with a ConvNet-3; for MNIST and CIFAR-10 DD
and DC with the network of the 2018 paper too. `--budget=full` is the published protocol, `small` what two CPU
cores can do; what differs stands at the head of experiments/condensation.py, and in every run's record. Each
run has a directory of its own inside --workdir: one that is finished is found finished, one that was stopped
continues. The table goes to --output as JSON and as text, the pictures beside it.

    python -m experiments.condense_table --dataset=mnist --images_per_class=1
    python -m experiments.condense_table --dataset=cifar10 --images_per_class=10 --budget=full
    python -m experiments.condense_table --dataset=mnist --images_per_class=1 --dry_run
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from ddjax.launch import Launcher, flag
from experiments import condensation
from experiments.regenerate import Settings, regenerate


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """The settings of a block."""

    images_per_class: int = flag(1, f"images of each class: {', '.join(map(str, condensation.SIZES))}", low=1)
    workdir: str | None = flag(
        None, "directory of the runs; runs/condense-DATASET-IMAGES_PER_CLASS-BUDGET by default"
    )


def title_of(config: Config) -> str:
    """Of the table's files."""
    return f"condense-{Path(config.dataset).stem}-{config.images_per_class}-{config.budget}"


def run(config: Config) -> dict[str, Any]:
    """All runs of a block, one after the other, then the table; see `experiments.regenerate`."""
    title = title_of(config)
    table = condensation.block(config.dataset, config.images_per_class, config.budget)
    root = Path(config.workdir or f"runs/{title}")
    return regenerate("condense_table", config, table, title=title, root=root)


LAUNCHER = Launcher("condense_table", __doc__, Config, run=run)

if __name__ == "__main__":
    LAUNCHER.main()

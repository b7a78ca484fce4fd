"""Regenerate a block of the condensation papers' table: one data set, one number of images, ours beside it.

Random, herding, k-center, forgetting, DC, DSA, DM and all images with a ConvNet-3; for MNIST and CIFAR-10 DD
and DC too, with the network of the 2018 paper. `--budget=full` is the published protocol, `small` what two
CPU cores can do; what differs stands at the head of experiments/published/condensation.toml and
in every run's record. Each run has a
directory of its own inside --workdir: a finished run is found finished, a stopped one continues. The table
goes to --output as JSON and as text, the pictures beside it.

Claim: one image per class, ten networks: MNIST, DC 91.8 ± 0.5 (published 91.7 ± 0.5), DSA 89.1 ± 0.5
(88.7 ± 0.6), DM 89.6 ± 0.8 (89.7), herding 86.5 ± 0.7 (89.2 ± 1.6), random 67.0 ± 4.0 (64.9 ± 3.5);
CIFAR-10, DC 28.6 ± 0.4 (28.3 ± 0.5), DSA 28.4 ± 0.4 (28.8 ± 0.7), DM 26.8 ± 0.3 (26.0 ± 0.8).
Cost: an H100 that about ten other runs shared: 241 s the selections, 216 s DC, 229 s DSA, 220 s DM; two CPU
cores: 575 s DD.
Records: results/condense-mnist-1-small.json, results/condense-cifar10-1-small.json

    python -m experiments.condense_table --dataset=mnist --images_per_class=1
    python -m experiments.condense_table --dataset=cifar10 --images_per_class=10 --budget=full
    python -m experiments.condense_table --dataset=mnist --images_per_class=1 --dry_run
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from ddjax.launch import Launcher, flag, tables
from ddjax.launch.regenerate import Settings, planned, regenerate
from ddjax.launch.tables import Table
from ddjax.methods.gradient_matching import PUBLISHED_LOOPS

SIZES = tuple(PUBLISHED_LOOPS)
"""The numbers of images per class that have published numbers."""

_PUBLISHED = Path(__file__).with_name("published")
SHEETS = tables.read(*(_PUBLISHED / f"{name}.toml" for name in ("wang2018", "condensation", "storage")))
"""The tables of the files, by name."""

SHEET = SHEETS["block"]
"""Every block of the table: rows, flags and published numbers."""

TABLES = ("block", "storage")
"""The tables that can be asked for: pixels as they are stored, or several images stored in one (IDC)."""


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """The settings of a block."""

    images_per_class: int = flag(1, f"images of each class: {', '.join(map(str, SIZES))}", low=1)
    table: str = flag("block", "of images as they are stored, or of several stored in one", choices=TABLES)
    workdir: str | None = flag(
        None, "directory of the runs; runs/condense-DATASET-IMAGES_PER_CLASS-BUDGET by default", path=True
    )

    @property
    def title(self) -> str:
        """The title of the table's files."""
        kind = "" if self.table == "block" else f"-{self.table}"
        return f"condense-{Path(self.dataset).stem}-{self.images_per_class}-{self.budget}{kind}"


def table_of(config: Config) -> Table:
    """The rows for one data set and one number of images."""
    number = config.images_per_class
    if number not in SIZES:
        raise ValueError(
            f"images_per_class: expected {', '.join(map(str, SIZES))}, for which there are published "
            f"numbers; got {number}. Give one of them."
        )
    return tables.expand(
        SHEETS[config.table],
        dataset=config.dataset,
        budget=config.budget,
        words=(f"{number}-per-class",),
        values={"images_per_class": number, "images": f"{number} image{'s' if number > 1 else ''}"},
    )


def run(config: Config) -> dict[str, Any]:
    """Carry out all runs of a block in turn, then write the table."""
    return regenerate("condense_table", config, table_of(config))


LAUNCHER = Launcher(
    "condense_table", __doc__, Config, run=run, runs=lambda config: planned(config, table_of(config))
)

if __name__ == "__main__":
    LAUNCHER.main()

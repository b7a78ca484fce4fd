"""Regenerate a table of Wang et al. 2018: run what its cells come from, print ours beside the paper's.

Each run has a directory of its own inside --workdir: a finished run is found finished, a stopped one
continues. The table, with the whole record of every run, goes to --output as JSON and as text, the pictures
beside it. `--budget=small` is what two CPU cores do in an hour or two, `full` the paper's numbers of outer
steps and of held-out initial weights.

Claim: MNIST, LeNet, 100 images: fixed init 98.0 ± 0.0 (the paper's 96.6), random init 93.9 ± 0.6
(79.5 ± 8.1).
Cost: two CPU cores beside other runs: 6,856 s for the basic table of MNIST, nine runs.
Records: results/paper-basic-mnist-small.json

    python -m experiments.paper --table=basic --dataset=mnist
    python -m experiments.paper --table=adaptation --dataset=mnist --usps=path/to/usps.npz
    python -m experiments.paper --table=attack --dataset=mnist
    python -m experiments.paper --table=linear --dataset=mnist
    python -m experiments.paper --table=ablation --dataset=mnist
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from ddjax.launch import Launcher, flag
from experiments.regenerate import Settings, regenerate
from experiments.tables import TABLES, Request


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """The settings of a table."""

    table: str = flag("basic", "which one", choices=tuple(TABLES))
    usps: str | None = flag(None, "an .npz of USPS, for --table=adaptation")
    svhn: str | None = flag(None, "SVHN by name or path, for --table=adaptation")
    workdir: str | None = flag(None, "directory of the runs; runs/paper-TABLE-DATASET-BUDGET by default")


def title_of(config: Config) -> str:
    """Of the table's files."""
    return f"paper-{config.table}-{Path(config.dataset).stem}-{config.budget}"


def run(config: Config) -> dict[str, Any]:
    """All runs of a table, one after the other, then the table; see `experiments.regenerate`."""
    title = title_of(config)
    root = Path(config.workdir or f"runs/{title}")
    table = TABLES[config.table](Request(config.dataset, config.budget, root, config.usps, config.svhn))
    return regenerate("paper", config, table, title=title, root=root)


LAUNCHER = Launcher("paper", __doc__, Config, run=run)

if __name__ == "__main__":
    LAUNCHER.main()

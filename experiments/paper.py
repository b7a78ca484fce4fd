"""Regenerate a table of Wang et al. 2018: run what its cells come from, print ours beside the paper's.

Each run has a directory of its own inside --workdir: a finished run is found finished, a stopped one
continues. The table, with the whole record of every run, goes to --output as JSON and as text, the pictures
beside it. `--budget=small` is what two CPU cores do in an hour or two, `full` the paper's numbers of outer
steps and of held-out initial weights. Rows, flags and published numbers: experiments/published/wang2018.toml.

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

from ddjax.launch import Launcher, flag, tables
from ddjax.launch.regenerate import Settings, planned, regenerate
from ddjax.launch.tables import Table

TABLES = tables.read(Path(__file__).with_name("published") / "wang2018.toml")
"""The tables, by name."""


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """The settings of a table."""

    table: str = flag("basic", "which one", choices=tuple(TABLES))
    usps: str | None = flag(None, "an .npz of USPS, for --table=adaptation", path=True)
    svhn: str | None = flag(None, "SVHN by name or path, for --table=adaptation", path=True)
    workdir: str | None = flag(
        None, "directory of the runs; runs/paper-TABLE-DATASET-BUDGET by default", path=True
    )

    def idle(self) -> dict[str, str]:
        """The settings that change nothing under the other settings."""
        if self.table == "adaptation":
            return {}
        return dict.fromkeys(("usps", "svhn"), "only --table=adaptation reads it")

    @property
    def title(self) -> str:
        """The title of the table's files."""
        return f"paper-{self.table}-{Path(self.dataset).stem}-{self.budget}"


def table_of(config: Config) -> Table:
    """The runs and cells that the flags ask for."""
    sheet, others = TABLES[config.table], {"usps": config.usps, "svhn": config.svhn}
    given = {name: where for name, where in others.items() if where}
    table = tables.expand(
        sheet,
        dataset=config.dataset,
        budget=config.budget,
        words=tuple(given),
        values={"root": str(config.root), **given},
    )
    if not table.cells:
        raise ValueError(
            f"table: expected {sheet.needs} for {config.table}; got {config.dataset}, usps {config.usps}, "
            f"svhn {config.svhn}. Give what there is."
        )
    return table


def run(config: Config) -> dict[str, Any]:
    """Carry out all runs of a table in turn, then write the table."""
    return regenerate("paper", config, table_of(config))


LAUNCHER = Launcher("paper", __doc__, Config, run=run, runs=lambda config: planned(config, table_of(config)))

if __name__ == "__main__":
    LAUNCHER.main()

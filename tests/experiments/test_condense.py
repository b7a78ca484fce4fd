"""The blocks of the condensation papers' table, as their users meet them."""

from __future__ import annotations

import importlib
import itertools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from absl import flags
from problems import CLASSES, write_npz

from ddjax.launch import parse, regenerate, selecting, tables
from ddjax.launch.tables import Cell, Published, Run, Table
from ddjax.methods.gradient_matching import PUBLISHED_LOOPS
from experiments import condense_table, coreset
from experiments.condense_table import Config

SELECTED: dict[str, Any] = {
    "select": "random,k_center",
    "features": "pixels",
    "network": "mlp",
    "train_epochs": 5,
    "num_eval_inits": 2,
}


def block(dataset: str, images_per_class: int, budget: str) -> Table:
    return condense_table.table_of(Config(dataset=dataset, images_per_class=images_per_class, budget=budget))


@pytest.mark.parametrize(
    ("dataset", "images_per_class", "budget"),
    [*itertools.product(("mnist", "svhn_cropped", "cifar10", "digits"), (1, 10), regenerate.BUDGETS)],
)
def test_the_runs_of_a_block_are_command_lines_that_parse(dataset, images_per_class, budget):
    table = block(dataset, images_per_class, budget)
    named = [name for cell in table.cells for name in cell.runs]
    assert sorted(named) == sorted(
        run.name for run in table.runs for _ in range(4 if run.launcher == "coreset" else 1)
    )
    assert len({run.name for run in table.runs}) == len(table.runs)
    for run in table.runs:
        module = importlib.import_module(f"experiments.{run.launcher}")
        argv = [run.launcher, *regenerate.command(run, Path("runs") / run.name)]
        parsed = parse(module.Config, argv, flags.FlagValues())
        for name, value in run.flags.items():
            assert getattr(parsed, name) == value, (run.name, name)
        if run.launcher == "coreset":
            assert selecting.selections(parsed) == ("random", "herding", "k_center", "forgetting")


def test_rows_stand_beside_what_was_published():
    table = block("mnist", 10, "small")
    assert {cell.row: cell.published for cell in table.cells} == {
        "random": Published(95.1, 0.9),
        "herding": Published(93.7, 0.3),
        "k-center": Published(84.4, 1.7),
        "forgetting": Published(68.1, 3.3),
        "DC": Published(97.4, 0.2),
        "DSA": Published(97.8, 0.1),
        "DM": Published(97.5),
        "whole": Published(99.6, 0.0),
        "DD, LeNet": Published(79.5, 8.1),
        "DC, LeNet": Published(93.9, 0.6),
        "whole, LeNet": Published(99.5),
    }
    by_row = {cell.row: cell.published for cell in block("mnist", 1, "small").cells}
    assert by_row["DD, LeNet"] is None
    assert {cell.published for cell in block("digits", 1, "small").cells} == {None}


def test_every_published_number_stands_in_some_block():
    listed = {
        (row, column): tuple(number)
        for numbers in condense_table.SHEET.published
        for row, there in numbers.numbers.items()
        for column, number in zip(numbers.columns, there, strict=True)
        if number
    }
    shown = {
        (cell.row, cell.column): tuple(value for value in cell.published if value is not None)
        for dataset in ("mnist", "fashion_mnist", "svhn_cropped", "cifar10")
        for images_per_class in condense_table.SIZES
        for cell in block(dataset, images_per_class, "full").cells
        if cell.published is not None
    }
    assert shown == listed
    assert len(shown) == 102


def test_some_rows_need_their_own_runs_only():
    table = block("mnist", 1, "small")
    some = tables.only(table, "herding; DD, LeNet")
    assert [cell.row for cell in some.cells] == ["herding", "DD, LeNet"]
    assert [run.name for run in some.runs] == ["coreset-seed0", "dd"]
    assert tables.only(table, None) is table
    needed = table._replace(runs=[Run("pool", "pretrain", {}), *table.runs])
    assert [run.name for run in tables.only(needed, "DM").runs] == ["pool", "dm-seed0"]
    for wrong in ("herdng", ";"):
        with pytest.raises(ValueError, match=r"rows: expected one of .*herding.*Separate them by semicolons"):
            tables.only(table, wrong)


def test_the_full_budget_is_the_published_one():
    by_name = {run.name: run.flags for run in block("mnist", 10, "full").runs}
    assert [name for name in by_name if name.startswith("dsa")] == [f"dsa-seed{seed}" for seed in range(5)]
    dc, dsa, dm = (by_name[f"{name}-seed4"] for name in ("dc", "dsa", "dm"))
    assert [flags["num_outer_steps"] for flags in (dc, dsa, dm)] == [10_000, 10_000, 20_000]
    for run in (dc, dsa, dm, by_name["dc-old-seed0"]):
        assert (run["num_eval_inits"], run["batch_size"], run["train_epochs"]) == (20, 256, 1000)
        assert run["validate_every"] == run["num_outer_steps"]
    assert dc["eval_augment"] == by_name["coreset-seed0"]["eval_augment"] == "dc"
    assert "augment" not in dc
    assert dsa["augment"] == dsa["eval_augment"] == dm["augment"] == dm["eval_augment"] == "dsa"
    assert (dc["initial_images"], dsa["initial_images"], dm["initial_images"]) == ("noise", "real", "real")
    assert "feature_network" not in by_name["coreset-seed0"]
    assert by_name["dd"]["num_outer_steps"] == 23_600
    cifar = {run.name: run.flags for run in block("cifar10", 50, "full").runs}
    assert (cifar["dc-seed0"]["train_epochs"], cifar["dsa-seed0"]["train_epochs"]) == (300, 1000)
    assert "eval_augment" not in cifar["dc-seed0"]
    for images_per_class, loops in PUBLISHED_LOOPS.items():
        runs = {run.name: run.flags for run in block("cifar10", images_per_class, "full").runs}
        assert runs["dc-seed0"]["num_outer_steps"] == 1000 * loops.matches
    assert (cifar["dd"]["inner_steps"], cifar["dd"]["inner_epochs"]) == (50, 4)
    assert (cifar["dd"]["network"], cifar["dc-old-seed0"]["network"]) == ("alexcifar", "alexnet32")


def test_the_small_budget_trains_as_published_on_one_image_per_class_alone():
    for images_per_class, epochs in ((1, 1000), (10, 300)):
        runs = block("mnist", images_per_class, "small").runs
        flags = {run.name: run.flags for run in runs if "train_epochs" in run.flags}
        assert {name: run["train_epochs"] for name, run in flags.items()} == dict.fromkeys(flags, epochs)
        assert flags["dc-seed0"]["num_outer_steps"] == 1000
        assert flags["dm-seed0"]["num_outer_steps"] == 1500


def test_other_numbers_of_images_are_refused(tmp_path):
    settings = Config(images_per_class=5, workdir=str(tmp_path / "runs"), output=str(tmp_path / "results"))
    with pytest.raises(ValueError, match=r"images_per_class: expected 1, 10, 50, for which .*; got 5"):
        condense_table.run(settings)
    assert not list(tmp_path.iterdir())


def test_a_dry_run_tells_the_commands_and_runs_nothing(tmp_path, capsys):
    settings = Config(workdir=str(tmp_path / "runs"), output=str(tmp_path / "results"), dry_run=True)
    assert condense_table.run(settings) == {}
    told = capsys.readouterr().out
    for launcher in ("coreset", "gradient_matching", "distribution_matching", "random_init", "baselines"):
        assert f"python -m experiments.{launcher} --" in told
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_block_is_run_written_and_found_again(tmp_path, rng, monkeypatch, capsys):
    dataset = write_npz(tmp_path / "spots.npz", rng)
    asked = []

    def made_up(config: Config) -> Table:
        asked.append(config)
        runs = [
            Run(f"coreset-seed{seed}", "coreset", {**SELECTED, "dataset": str(dataset), "seed": seed})
            for seed in (0, 1)
        ]
        names = tuple(run.name for run in runs)
        cells = [
            Cell("random", "spots", names, ("baselines", "random"), Published(64.9, 3.5)),
            Cell("k-center", "spots", names, ("baselines", "k_center")),
        ]
        return Table(runs, cells, source="published")

    monkeypatch.setattr(condense_table, "table_of", made_up)
    settings = Config(dataset=str(dataset), workdir=str(tmp_path / "runs"), output=str(tmp_path / "results"))
    records = condense_table.run(settings)
    assert asked == [settings]
    record = json.loads((tmp_path / "results" / "condense-spots-1-small.json").read_text())
    assert (record["experiment"], record["images_per_class"]) == ("condense_table", 1)
    values = np.array([one["baselines"]["k_center"]["values"] for one in records.values()])
    assert values.shape == (2, 2)
    assert values.max() > 100 / CLASSES
    ours = {cell["row"]: cell["ours"] for cell in record["cells"]}
    assert ours["k-center"] == {
        "mean": pytest.approx(values.mean()),
        "std": pytest.approx(values.std()),
        "n": 4,
    }
    lines = (tmp_path / "results" / "condense-spots-1-small.txt").read_text().splitlines()
    assert re.split(r"\s{2,}", lines[0]) == ["%", "spots", "published"]
    assert lines[2].endswith("64.9 ± 3.5")
    assert lines[3].endswith("–")
    capsys.readouterr()
    monkeypatch.setattr(coreset, "measure", None)
    condense_table.run(settings)
    assert capsys.readouterr().out.count("is finished") == 2

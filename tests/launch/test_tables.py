"""Tables as data: which layer wins, what stands in braces, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from ddjax.launch import tables
from ddjax.launch.tables import Cell, Published, Run, Table

FILE = """
[flags.start]
images = "noise"
width = 8
full = {steps = 100}
"cifar10 full" = {steps = 50, width = 4}
cifar10 = {width = 16, steps = 7}

[cases.nets]
LeNet = {when = "mnist", values = {net = "lenet", depth = 2, where = "{root}/a"}}
MLP = {values = {net = "mlp", depth = 1, where = "b"}, flags = [{width = 1}]}

[tables.one]
unit = "points"
digits = 2
source = "theirs"
needs = "--dataset=mnist"

[[tables.one.blocks]]
[[tables.one.blocks.runs]]
name = "run-{seed}"
launcher = "train"
flags = ["start", {images = "{dataset}"}]
seed_flag = "seed"
seeds = {"" = [0, 1], cifar10 = [], "cifar10 full" = [5]}
is_pictured = {"" = true, small = false}
[[tables.one.blocks.rows]]
title = "{of} image"
of = ["first", "last"]
run = "run-{seed}"
columns = {"{dataset}, {of}" = ["scores", "{of}"]}

[[tables.one.blocks]]
cases = "nets"
rows = [{title = "{case}", run = "{case}", columns = {accuracy = ["accuracy"], loss = ["loss"]}}]
[[tables.one.blocks.runs]]
name = "{case}"
launcher = "test"
flags = ["start", {net = "{net}", depth = "{depth}", where = "{where}"}]

[[published]]
source = "a paper"
columns = ["accuracy", "loss"]
numbers = {MLP = [[80.0, 1.5], []], LeNet = [[90], [0.1]]}

[[published]]
source = "another"
when = "cifar10"
columns = ["loss"]
numbers = {MLP = [[2.5]]}
"""


def table(tmp_path: Path, dataset: str, budget: str, text: str = FILE) -> Table:
    path = tmp_path / "file.toml"
    path.write_text(text)
    sheet = tables.read(path)["one"]
    return tables.expand(sheet, dataset=dataset, budget=budget, values={"root": "runs"})


def test_rows_are_expanded_to_runs_and_cells(tmp_path):
    found = table(tmp_path, "mnist", "small")
    assert found == Table(
        [
            Run("run-0", "train", {"images": "mnist", "width": 8, "seed": 0}, False),
            Run("run-1", "train", {"images": "mnist", "width": 8, "seed": 1}, False),
            Run(
                "LeNet",
                "test",
                {"images": "noise", "width": 8, "net": "lenet", "depth": 2, "where": "runs/a"},
                False,
            ),
            Run(
                "MLP",
                "test",
                {"images": "noise", "width": 1, "net": "mlp", "depth": 1, "where": "b"},
                False,
            ),
        ],
        [
            Cell("first image", "mnist, first", ("run-0", "run-1"), ("scores", "first")),
            Cell("last image", "mnist, last", ("run-0", "run-1"), ("scores", "last")),
            Cell("LeNet", "accuracy", ("LeNet",), ("accuracy",), Published(90)),
            Cell("LeNet", "loss", ("LeNet",), ("loss",), Published(0.1)),
            Cell("MLP", "accuracy", ("MLP",), ("accuracy",), Published(80.0, 1.5)),
            Cell("MLP", "loss", ("MLP",), ("loss",), None),
        ],
        unit="points",
        digits=2,
        source="theirs",
    )
    assert list(found.runs[0].flags) == ["images", "width", "seed"]


def test_the_layer_with_more_words_wins_and_then_the_later(tmp_path):
    found = table(tmp_path, "cifar10", "full")
    (run, _) = found.runs
    assert run == Run("run-5", "train", {"images": "cifar10", "width": 4, "steps": 50, "seed": 5}, True)
    # Without layers of two words, the one that stands later in the file.
    later = table(tmp_path, "cifar10", "full", FILE.replace('"cifar10 full" = {', '"other" = {'))
    assert later.runs[0].flags["steps"] == 7
    assert found.cells[-1].published == Published(2.5)


def test_without_a_seed_there_is_no_run_and_no_row(tmp_path):
    found = table(tmp_path, "cifar10", "small")
    assert [run.name for run in found.runs] == ["MLP"]
    assert {cell.row for cell in found.cells} == {"MLP"}


def test_a_file_uses_the_groups_of_those_before(tmp_path):
    first, second = tmp_path / "first.toml", tmp_path / "second.toml"
    first.write_text("flags = {start = {width = 3}}")
    second.write_text('[[tables.x.blocks]]\nruns = [{name = "a", launcher = "b", flags = ["start"]}]')
    sheets = tables.read(first, second)
    assert tables.expand(sheets["x"], dataset="mnist", budget="small").runs == [Run("a", "b", {"width": 3})]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('flags = ["start", {images', 'flags = ["strat", {images', r"flags of run-\{seed\}: .*'start'"),
        (
            'run = "{case}"',
            'run = "case"',
            r"run of \{case\}: expected one of .*got 'case'",
        ),
        ('cases = "nets"', 'cases = "net"', r"cases: expected one of nets; got 'net'"),
        ('"{net}"', '"{nett}"', r"braces of '\{nett\}': .*Did you mean 'net'"),
        ("is_pictured", "pictured", r"file\.toml, RunEntry: .*got 'pictured'. Did you mean 'is_pictured'"),
        ('launcher = "test"', "", r"file\.toml: expected launcher in every RunEntry"),
        ("[[published]]", "[[published", "line"),
    ],
)
def test_what_a_file_gets_wrong_is_refused(tmp_path, old, new, message):
    assert old in FILE
    with pytest.raises(ValueError, match=message):
        table(tmp_path, "mnist", "small", FILE.replace(old, new))

"""Published tables as data: one function expands rows, flags in layers and published numbers to runs.

A run is a launcher with flags. A cell is a place in the results of one run, or of several runs where each of
them has one θ0 or one seed only. A file of tables (TOML) says which runs each cell comes from:

    [flags.start]                       # a group of flags, in layers
    initial_images = "k_means"          # holds always
    full = {num_outer_steps = 20_000}   # holds where the full budget is asked for
    "cifar10 small" = {width = 32}      # holds where both words are asked for

    [cases.old]                         # a block is repeated for each case, with the values of the case
    LeNet = {when = "mnist", values = {net = "lenet"}, flags = [{width = 3}]}

    [tables.block]                      # unit, digits, source, needs; see `Sheet`
    [[tables.block.blocks]]
    cases = "old"
    runs = [{name = "dd-seed{seed}", launcher = "random_init", flags = ["start", {network = "{net}"}],
             seeds = {"" = [0], full = [0, 1, 2]}, seed_flag = "seed", is_pictured = true}]
    rows = [{title = "DD, {case}", run = "dd-seed{seed}", columns = {"{dataset}" = ["test_accuracy"]}}]

    [[published]]
    source = "Wang et al. 2018, arXiv 1811.10959"
    columns = ["mnist", "cifar10"]
    numbers = {"DD, LeNet" = [[79.5, 8.1], []]}

Two rules resolve the flags of a run. Within a group, the layer with more words wins, and of two layers with
equally many words the later one. Among the groups of a run, the later group wins. `{name}` stands for a value
of the case or of the request. A flag whose whole value is `{name}` gets that value with its type unchanged.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from ddjax import checks

Value = str | int | float | bool
"""The value of a flag."""

Flags = dict[str, Value]
"""Flags by name, in the order of the command line."""

Layers = Mapping[str, Any]
"""Settings by the words that have to be asked for, with spaces between the words; `""` holds always."""

_BRACES = re.compile(r"\{(\w+)\}")


class Published(NamedTuple):
    """A number of a paper.

    Attributes:
        mean: the number, in percent or as a count.
        std: the standard deviation in the same unit; None where the paper gives none.
    """

    mean: float
    std: float | None = None


class Run(NamedTuple):
    """A launcher with its flags, in a directory of its own.

    Attributes:
        name: the name of the directory. Flags of later runs may name files in this directory.
        launcher: the name of the launcher.
        flags: the flags by name; `--workdir` is added to them.
        is_pictured: whether the pictures of the run belong to the table.
    """

    name: str
    launcher: str
    flags: Mapping[str, Value]
    is_pictured: bool = False


class Cell(NamedTuple):
    """A number of ours and the published number that belongs next to it.

    Attributes:
        row: the title of the row.
        column: the title of the column.
        runs: the names of the runs, whose values are pooled.
        place: the keys that lead through `result.json` to a score (`mean`, `std`, `values`) or a number.
        published: the published number; None where there is none.
    """

    row: str
    column: str
    runs: tuple[str, ...]
    place: tuple[str, ...]
    published: Published | None = None


class Table(NamedTuple):
    """A table for one data set and one budget, ready to be carried out.

    Attributes:
        runs: all runs, in an order in which each run comes after those that it needs.
        cells: all cells, row by row.
        unit: the unit of all numbers.
        digits: the number of digits after the point.
        source: the title of the published numbers.
    """

    runs: Sequence[Run]
    cells: Sequence[Cell]
    unit: str = "%"
    digits: int = 1
    source: str = "the paper's"


class RunEntry(NamedTuple):
    """A run as a file of tables describes it.

    Attributes:
        name: the name of the directory; `{seed}` tells repetitions apart.
        launcher: the name of the launcher.
        flags: names of groups of flags, or groups themselves; the later group wins.
        seeds: the seeds of the repetitions, or lists of seeds in layers. Without any seed there is no run.
        seed_flag: the name of the flag that is set to the seed; None for a run without repetitions.
        is_pictured: whether pictures of the first repetition belong to the table, or such values in layers.
    """

    name: str
    launcher: str
    flags: Sequence[str | Layers] = ()
    seeds: Any = (0,)
    seed_flag: str | None = None
    is_pictured: Any = False


class RowEntry(NamedTuple):
    """One row, or several rows of one kind, as a file of tables describes them.

    Attributes:
        title: the title of the row.
        run: the name of the run, as it is written in the entry of the run. A row without runs is left out.
        columns: the places in `result.json`, by column.
        of: the values of `{of}`; there is one row for each value.
    """

    title: str
    run: str
    columns: Mapping[str, Sequence[str]]
    of: Sequence[str] = ("",)


class Case(NamedTuple):
    """One of the cases that a block is repeated for.

    Attributes:
        when: the words that have to be asked for.
        values: the values that `{name}` stands for in the block, by name.
        flags: the groups of flags that all runs of the block get after their own.
    """

    when: str = ""
    values: Mapping[str, Value] = {}
    flags: Sequence[str | Layers] = ()


class Block(NamedTuple):
    """Runs and rows that are expanded together.

    Attributes:
        runs: the entries of the runs.
        rows: the entries of the rows, which may use runs of this block or an earlier one.
        cases: the name of the set of cases that the block is repeated for; None for a block that is expanded
            once. The name of a case is the value of `{case}`, and a word for choosing layers.
        when: the words that have to be asked for.
    """

    runs: Sequence[RunEntry] = ()
    rows: Sequence[RowEntry] = ()
    cases: str | None = None
    when: str = ""


class Numbers(NamedTuple):
    """Published numbers from one source.

    Attributes:
        source: the title and address of the source.
        columns: the titles of the columns.
        numbers: one list of `[mean]`, `[mean, std]` or `[]` for each row, with an entry for each column.
        when: the words that have to be asked for.
    """

    source: str
    columns: Sequence[str]
    numbers: Mapping[str, Sequence[Sequence[float]]]
    when: str = ""


class Sheet(NamedTuple):
    """A table as its file describes it, for every data set and budget.

    Attributes:
        blocks: the blocks, in order.
        unit: the unit of all numbers.
        digits: the number of digits after the point.
        source: the title of the published numbers.
        needs: the data that have to be asked for so that there is any run, for messages.
        groups: the groups of flags, by name.
        cases: the cases, by the name of their set and their own name.
        published: the published numbers.
    """

    blocks: Sequence[Block]
    unit: str = "%"
    digits: int = 1
    source: str = "the paper's"
    needs: str = ""
    groups: Mapping[str, Layers] = {}
    cases: Mapping[str, Mapping[str, Case]] = {}
    published: Sequence[Numbers] = ()


EntryT = TypeVar("EntryT", RunEntry, RowEntry, Case, Block, Numbers, Sheet)


def read(*paths: Path) -> dict[str, Sheet]:
    """The tables in some files.

    Args:
        paths: the files of tables. A file may use the groups of flags of the files before it.

    Returns:
        The tables by name, in the order of the files.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file is no TOML, or one of its entries has an unknown field or lacks a needed one.
    """
    sheets: dict[str, Sheet] = {}
    groups: dict[str, Layers] = {}
    for path in paths:
        with path.open("rb") as file:
            found = tomllib.load(file)
        groups |= found.get("flags", {})
        shared: dict[str, Any] = {
            "groups": dict(groups),
            "cases": {
                name: {case: _entry(Case, one, path) for case, one in some.items()}
                for name, some in found.get("cases", {}).items()
            },
            "published": [_entry(Numbers, one, path) for one in found.get("published", ())],
        }
        for name, table in found.get("tables", {}).items():
            blocks = [_block(one, path) for one in table.get("blocks", ())]
            sheets[name] = _entry(Sheet, table | {"blocks": blocks} | shared, path)
    return sheets


def _block(found: Mapping[str, Any], path: Path) -> Block:
    runs = [_entry(RunEntry, one, path) for one in found.get("runs", ())]
    rows = [_entry(RowEntry, one, path) for one in found.get("rows", ())]
    return _entry(Block, {**found, "runs": runs, "rows": rows}, path)


def _entry(kind: type[EntryT], found: Mapping[str, Any], path: Path) -> EntryT:
    for field in found:
        checks.choice(f"{path.name}, {kind.__name__}", field, kind._fields)
    for field in kind._fields:
        if field not in found and field not in kind._field_defaults:
            raise ValueError(
                f"{path.name}: expected {field} in every {kind.__name__}; got {dict(found)}. Add it."
            )
    return kind(**found)


class _Asked(NamedTuple):
    """A request: the words that choose layers, and the values that fill braces."""

    words: frozenset[str]
    values: Mapping[str, Value]


def expand(
    sheet: Sheet,
    *,
    dataset: str,
    budget: str,
    words: Collection[str] = (),
    values: Mapping[str, Value] | None = None,
) -> Table:
    """The runs and cells of a table for one data set and one budget.

    Args:
        sheet: the table as its file describes it.
        dataset: the name of the data set. It is a word for choosing layers, and the value of `{dataset}`.
        budget: the name of the budget, a word for choosing layers.
        words: further words for choosing layers, cases and blocks.
        values: the values of further `{names}`.

    Returns:
        The table. Entries that expand to the same name are one run. The table may be empty.

    Raises:
        ValueError: a row names an unknown run, a run an unknown group of flags, a block unknown cases, or
            braces an unknown value.
    """
    asked = _Asked(frozenset((dataset, budget, *words)), {"dataset": dataset, **(values or {})})
    published = _published(sheet.published, asked.words)
    runs: dict[str, Run] = {}
    names: dict[str, tuple[str, ...]] = {}
    cells: list[Cell] = []
    for block, case, one in _blocks(sheet, asked):
        for entry in block.runs:
            made = _runs(entry, [*entry.flags, *case.flags], sheet.groups, one)
            names[_without_seed(entry.name, one)] = tuple(run.name for run in made)
            for run in made:
                runs.setdefault(run.name, run)
        for row in block.rows:
            cells += _cells(row, one, names, published)
    return Table(list(runs.values()), cells, sheet.unit, sheet.digits, sheet.source)


def only(table: Table, rows: str | None) -> Table:
    """Some rows of a table, and the runs that they need.

    Args:
        table: the whole table.
        rows: the titles of the wanted rows, with semicolons between them; None for all rows.

    Returns:
        The table without the other rows, and without the runs that only the other rows need.

    Raises:
        ValueError: there is no such row, or no row is named.
    """
    if rows is None:
        return table
    there, _ = rows_and_columns(table.cells)
    wanted = {title.strip() for title in rows.split(";") if title.strip()}
    for title in wanted or {""}:
        checks.choice("rows", title, there, remedy="Separate them by semicolons.")
    cells = [cell for cell in table.cells if cell.row in wanted]
    left_out = {name for cell in table.cells for name in cell.runs}
    left_out -= {name for cell in cells for name in cell.runs}
    return table._replace(cells=cells, runs=[run for run in table.runs if run.name not in left_out])


def rows_and_columns(cells: Sequence[Cell]) -> tuple[list[str], list[str]]:
    """The titles of the rows and of the columns, each once and in order.

    Args:
        cells: the cells of a table.

    Returns:
        The titles of the rows, and the titles of the columns.
    """
    rows, columns = dict.fromkeys(c.row for c in cells), dict.fromkeys(c.column for c in cells)
    return list(rows), list(columns)


def _blocks(sheet: Sheet, asked: _Asked) -> Iterator[tuple[Block, Case, _Asked]]:
    """Every block with each of its cases that is asked for, and the request with the values of the case."""
    for block in sheet.blocks:
        if block.cases is not None:
            checks.choice("cases", block.cases, sheet.cases)
        cases = {"": Case()} if block.cases is None else sheet.cases[block.cases]
        for name, case in cases.items():
            if _holds(block.when, asked.words) and _holds(case.when, asked.words):
                values = {key: _filled(value, asked.values) for key, value in case.values.items()}
                yield block, case, _Asked(asked.words | {name}, {**asked.values, "case": name, **values})


def _runs(
    entry: RunEntry, flags: Sequence[str | Layers], groups: Mapping[str, Layers], asked: _Asked
) -> list[Run]:
    """The repetitions of a run."""
    resolved: Flags = {}
    for group in flags:
        if isinstance(group, str):
            checks.choice(f"flags of {entry.name}", group, groups)
        resolved |= _flags(groups[group] if isinstance(group, str) else group, asked.words)
    resolved = {name: _filled(value, asked.values) for name, value in resolved.items()}
    seeds = _latest(entry.seeds, asked.words, otherwise=())
    is_pictured = _latest(entry.is_pictured, asked.words, otherwise=False)
    return [
        Run(
            str(_filled(entry.name, {**asked.values, "seed": seed})),
            entry.launcher,
            resolved if entry.seed_flag is None else {**resolved, entry.seed_flag: seed},
            is_pictured and seed == seeds[0],
        )
        for seed in seeds
    ]


def _cells(
    row: RowEntry,
    asked: _Asked,
    names: Mapping[str, tuple[str, ...]],
    published: Mapping[tuple[str, str], Published],
) -> Iterator[Cell]:
    """The cells of an entry of rows; none where the run has no repetition."""
    run = _without_seed(row.run, asked)
    checks.choice(f"run of {row.title}", run, names)
    for of in row.of if names[run] else ():
        values = {**asked.values, "of": of}
        title = str(_filled(row.title, values))
        for heading, place in row.columns.items():
            column = str(_filled(heading, values))
            keys = tuple(str(_filled(key, values)) for key in place)
            yield Cell(title, column, names[run], keys, published.get((title, column)))


def _published(numbers: Sequence[Numbers], words: Collection[str]) -> dict[tuple[str, str], Published]:
    """The published numbers by row and column."""
    return {
        (row, column): Published(*number)
        for one in numbers
        if _holds(one.when, words)
        for row, there in one.numbers.items()
        for column, number in zip(one.columns, there, strict=True)
        if number
    }


def _holds(when: str, words: Collection[str]) -> bool:
    return all(word in words for word in when.split())


def _layers(layers: Layers, words: Collection[str]) -> Iterator[Any]:
    """The layers that hold, those with fewer words first."""
    there = [when for when in layers if _holds(when, words)]
    yield from (layers[when] for when in sorted(there, key=lambda when: len(when.split())))


def _latest(found: Any, words: Collection[str], *, otherwise: Any) -> Any:
    """The value of the layer with the most words; a value without layers holds always."""
    return [otherwise, *_layers(found, words)][-1] if isinstance(found, Mapping) else found


def _flags(group: Layers, words: Collection[str]) -> Flags:
    """The flags of a group; flags outside of layers hold always."""
    flags: Flags = {name: value for name, value in group.items() if not isinstance(value, Mapping)}
    layers = {when: layer for when, layer in group.items() if isinstance(layer, Mapping)}
    for layer in _layers(layers, words):
        flags |= layer
    return flags


def _filled(template: Any, values: Mapping[str, Value]) -> Any:
    """A text with the braces filled; where the whole text is one pair of braces, the value itself."""
    if not isinstance(template, str):
        return template
    for name in _BRACES.findall(template):
        checks.choice(f"braces of {template!r}", name, values)
    whole = _BRACES.fullmatch(template)
    return values[whole[1]] if whole else _BRACES.sub(lambda match: str(values[match[1]]), template)


def _without_seed(name: str, asked: _Asked) -> str:
    """The name of a run before the seed is filled in."""
    return str(_filled(name, {**asked.values, "seed": "{seed}"}))

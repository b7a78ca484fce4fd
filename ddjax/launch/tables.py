"""Published tables as data: rows, flags in layers and published numbers, which one function expands to runs.

A run is a launcher with flags; a cell is a place in the results of one run or, where each knows one θ0 or one
seed only, of several. A file of tables (TOML) says which runs each cell comes from:

    [flags.start]                       # a group of flags, in layers
    initial_images = "k_means"          # always
    full = {num_outer_steps = 20_000}   # where the full budget is asked for
    "cifar10 small" = {width = 32}      # where both words are what was asked for

    [cases.old]                         # what a block is repeated for, each time with other values
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

Two rules resolve the flags of a run: within a group, the layer with more words wins, and of two with as many
words the one that stands later; among the groups of a run, the later wins. `{name}` is a value of the case or
of the request; where it is all of a flag's value, the type of the value is kept.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from ddjax import checks

Value = str | int | float | bool
"""Of a flag."""

Flags = dict[str, Value]
"""Flags by name, in the order of the command line."""

Layers = Mapping[str, Any]
"""What holds, by the words that have to be asked for, with spaces between them; `""` holds always."""

_BRACES = re.compile(r"\{(\w+)\}")


class Published(NamedTuple):
    """A number of a paper.

    Attributes:
        mean: percent, or a count.
        std: percent; None where the paper gives none.
    """

    mean: float
    std: float | None = None


class Run(NamedTuple):
    """A launcher with its flags, in a directory of its own.

    Attributes:
        name: name of the directory; flags of later runs may name files in it.
        launcher: name of the launcher.
        flags: flags by name; `--workdir` is added.
        is_pictured: whether its pictures belong to the table.
    """

    name: str
    launcher: str
    flags: Mapping[str, Value]
    is_pictured: bool = False


class Cell(NamedTuple):
    """A number of ours beside the published one.

    Attributes:
        row: title of the row.
        column: title of the column.
        runs: names of the runs; their values are pooled.
        place: keys into `result.json`, to a score (`mean`, `std`, `values`) or a number.
        published: the published number; None where there is none.
    """

    row: str
    column: str
    runs: tuple[str, ...]
    place: tuple[str, ...]
    published: Published | None = None


class Table(NamedTuple):
    """A table as it is carried out.

    Attributes:
        runs: all runs, in the order in which they need each other.
        cells: all cells, row by row.
        unit: unit of all numbers.
        digits: number of digits after the point.
        source: title of the published numbers.
    """

    runs: Sequence[Run]
    cells: Sequence[Cell]
    unit: str = "%"
    digits: int = 1
    source: str = "the paper's"


class RunEntry(NamedTuple):
    """A run as a file of tables has it.

    Attributes:
        name: name of the directory; `{seed}` tells repetitions apart.
        launcher: name of the launcher.
        flags: names of groups of flags, or groups themselves; the later wins.
        seeds: seeds of the repetitions, or such lists in layers; without any seed there is no run.
        seed_flag: name of the flag that a seed is given to; None for a run without repetitions.
        is_pictured: whether pictures of the first repetition belong to the table, or layers of that.
    """

    name: str
    launcher: str
    flags: Sequence[str | Layers] = ()
    seeds: Any = (0,)
    seed_flag: str | None = None
    is_pictured: Any = False


class RowEntry(NamedTuple):
    """One row, or several alike, as a file of tables has them.

    Attributes:
        title: title of the row.
        run: name of the run, as the run's entry writes it; a row without runs is left out.
        columns: places in `result.json` by column.
        of: values of `{of}`, one row for each.
    """

    title: str
    run: str
    columns: Mapping[str, Sequence[str]]
    of: Sequence[str] = ("",)


class Case(NamedTuple):
    """One of the things that a block is repeated for.

    Attributes:
        when: words that have to be asked for.
        values: what `{name}` stands for in the block.
        flags: groups of flags that all runs of the block get after their own.
    """

    when: str = ""
    values: Mapping[str, Value] = {}
    flags: Sequence[str | Layers] = ()


class Block(NamedTuple):
    """Runs and rows that are expanded together.

    Attributes:
        runs: entries of runs.
        rows: entries of rows, of runs of this block or an earlier one.
        cases: name of the cases that the block is repeated for; None for a block that stands once. The name
            of a case is `{case}`, and a word of its own in layers.
        when: words that have to be asked for.
    """

    runs: Sequence[RunEntry] = ()
    rows: Sequence[RowEntry] = ()
    cases: str | None = None
    when: str = ""


class Numbers(NamedTuple):
    """Published numbers from one source.

    Attributes:
        source: title and address of the source.
        columns: titles of the columns.
        numbers: `[mean]`, `[mean, std]` or `[]` at each column, by row.
        when: words that have to be asked for.
    """

    source: str
    columns: Sequence[str]
    numbers: Mapping[str, Sequence[Sequence[float]]]
    when: str = ""


class Sheet(NamedTuple):
    """A table before it is known what is asked for.

    Attributes:
        blocks: the blocks, in order.
        unit: unit of all numbers.
        digits: number of digits after the point.
        source: title of the published numbers.
        needs: what has to be asked for so that there is any run, for messages.
        groups: groups of flags, by name.
        cases: cases by the name of their set and their own.
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
    """The tables of some files.

    Args:
        paths: files of tables; a file may use the groups of flags of the files before.

    Returns:
        Tables by name, in the order of the files.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file is no TOML, or has an entry with an unknown or without a needed field.
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
    """What is asked for: words that choose layers, values that fill braces."""

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
        sheet: the table as its file has it.
        dataset: name of the data set: a word, and `{dataset}`.
        budget: name of the budget: a word.
        words: more words that layers, cases and blocks are chosen by.
        values: what more `{names}` stand for.

    Returns:
        The table. Runs of the same name are one run; it may be without any.

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
        rows: titles of the wanted rows, with semicolons between them; None for all.

    Returns:
        The same table without the cells of other rows, and without the runs that only those have.

    Raises:
        ValueError: there is no such row, or none is named.
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
    """The titles of rows and of columns, in their order, each once."""
    rows, columns = dict.fromkeys(c.row for c in cells), dict.fromkeys(c.column for c in cells)
    return list(rows), list(columns)


def _blocks(sheet: Sheet, asked: _Asked) -> Iterator[tuple[Block, Case, _Asked]]:
    """Every block with each of its cases that is asked for, and what is asked for in it."""
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
    """The cells of an entry of rows; none where its run has no repetition."""
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
    """The layers that hold, the more special the later."""
    there = [when for when in layers if _holds(when, words)]
    yield from (layers[when] for when in sorted(there, key=lambda when: len(when.split())))


def _latest(found: Any, words: Collection[str], *, otherwise: Any) -> Any:
    """The most special layer, or what holds always because it stands there without layers."""
    return [otherwise, *_layers(found, words)][-1] if isinstance(found, Mapping) else found


def _flags(group: Layers, words: Collection[str]) -> Flags:
    """The flags of a group: those outside of layers hold always."""
    flags: Flags = {name: value for name, value in group.items() if not isinstance(value, Mapping)}
    layers = {when: layer for when, layer in group.items() if isinstance(layer, Mapping)}
    for layer in _layers(layers, words):
        flags |= layer
    return flags


def _filled(template: Any, values: Mapping[str, Value]) -> Any:
    """A text with values in its braces; the value itself where the braces are all of the text."""
    if not isinstance(template, str):
        return template
    for name in _BRACES.findall(template):
        checks.choice(f"braces of {template!r}", name, values)
    whole = _BRACES.fullmatch(template)
    return values[whole[1]] if whole else _BRACES.sub(lambda match: str(values[match[1]]), template)


def _without_seed(name: str, asked: _Asked) -> str:
    """The name that a run has before its seed is known."""
    return str(_filled(name, {**asked.values, "seed": "{seed}"}))

"""Tables in the README files equal their records, and no text has a number that no record holds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts import tables

SECTIONS = [
    (str(file.relative_to(tables.ROOT)), section)
    for file in tables.FILES
    for section in re.split(r"(?m)^(?=#{1,3} )", re.sub(r"```.*?```", "", file.read_text(), flags=re.DOTALL))
    if section
]


def leaves(at: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every score (a dictionary with a mean) and every number of a record, with the key that leads there."""
    if isinstance(at, dict):
        if "mean" in at:
            yield key, at
        for name, value in at.items():
            if name != "values":  # the single values behind a mean
                yield from leaves(value, "seconds" if key == "seconds" else name)
    elif isinstance(at, list):
        for value in at:
            yield from leaves(value, key)
    elif isinstance(at, int | float) and not isinstance(at, bool):
        yield key, at


def records_of(section: str) -> list[Any]:
    """The records that a section links to, and the published numbers."""
    names = re.findall(r"\]\([^)]*?([^/)]+)\.json\)", section)
    return [tables.record(name) for name in names] + [tables.PUBLISHED]


def total_seconds(record: Any) -> float:
    """What all runs of a record took."""
    return sum(run["result"]["seconds"]["total"] for run in record.get("runs", {}).values())


def has_score(figure: tuple[str, str], known: list[tuple[str, Any]]) -> bool:
    """Whether `mean ± std` is a score, at the digits it is written with."""
    digits = [len(part.partition(".")[2]) for part in figure]
    scores = [score for _, score in known if isinstance(score, dict) and score["std"] is not None]
    return figure in {(f"{s['mean']:.{digits[0]}f}", f"{s['std']:.{digits[1]}f}") for s in scores}


def has_percent(figure: str, known: list[tuple[str, Any]]) -> bool:
    """Whether a percent figure is a mean or a validation accuracy, at the digits it is written with."""
    digits = len(figure.partition(".")[2])
    return figure in {f"{value:.{digits}f}" for key, value in known if key in {"mean", "val_accuracy"}}


def has_seconds(figure: str, known: list[tuple[str, Any]], totals: list[float]) -> bool:
    """Whether a figure in seconds is one that a record holds, or the sum of a record's runs."""
    values = [value for key, value in known if key == "seconds"] + totals
    return figure in {f"{value:,.0f}" for value in values}


def has_milliseconds(figure: str, known: list[tuple[str, Any]]) -> bool:
    """Whether a figure in milliseconds is a measured median of an outer step, or a published one."""
    return figure in {tables.three_digits(value) for key, value in known if key in {"median", "ms"}}


def unknown_figures(section: str) -> list[str]:
    """The figures of a section that are in none of its records."""
    found = records_of(section)
    known = [leaf for record in found for leaf in leaves(record)]
    scores = re.findall(r"(\d+(?:\.\d+)?) ± (\d+(?:\.\d+)?)", section)
    percents = re.findall(r"(?<![±\d.] )(?<![\d.])(\d+(?:\.\d+)?) ?%", section)
    seconds = re.findall(r"(\d[\d,]*) s\b", section)
    milliseconds = re.findall(r"(\d[\d,]*) ms\b", section)
    totals = [total_seconds(record) for record in found]
    return [
        *(f"{mean} ± {std}" for mean, std in scores if not has_score((mean, std), known)),
        *(f"{figure} %" for figure in percents if not has_percent(figure, known)),
        *(f"{figure} ms" for figure in milliseconds if not has_milliseconds(figure, known)),
        *(f"{figure} s" for figure in seconds if not has_seconds(figure, known, totals)),
    ]


def without_tables(section: str) -> str:
    return re.sub(r"(?m)^\|.*$", "", section)


@pytest.mark.parametrize("file", tables.FILES, ids=lambda file: str(file.relative_to(tables.ROOT)))
def test_the_tables_equal_their_records(file):
    assert tables.with_tables(file.read_text()) == file.read_text(), "run python scripts/tables.py"


def test_check_tells_a_difference(tmp_path, monkeypatch, capsys):
    changed = tmp_path / "README.md"
    changed.write_text("<!-- cifar10: begin -->\n| 99.9 |\n<!-- cifar10: end -->\n")
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    monkeypatch.setattr(tables, "FILES", (changed,))
    monkeypatch.setattr(tables, "launcher_list", str)
    assert tables.main(["--check"]) == 1
    assert "README.md: differs from the records" in capsys.readouterr().out
    assert tables.main([]) == 0
    assert "41.2 ± 1.0" in changed.read_text()
    assert tables.main(["--check"]) == 0


def test_every_table_stands_somewhere_and_all_marks_are_known():
    text = "".join(file.read_text() for file in tables.FILES)
    marks = re.findall(r"<!-- (.*?): begin -->", text)
    assert sorted(marks) == sorted({*tables.generated(), "what combines with what"})
    assert marks == re.findall(r"<!-- (.*?): end -->", text)


@pytest.mark.parametrize(
    ("place", "section"), SECTIONS, ids=[f"{name} {text[:40]!r}" for name, text in SECTIONS]
)
def test_a_text_has_no_number_that_no_record_holds(place, section):
    assert unknown_figures(without_tables(section)) == [], place


def test_a_number_that_no_record_holds_is_named():
    figures = "95.3 ± 0.6, 99.9 ± 0.1, 50.3 %, 77.7 %, 257 s, 258 s, 233 ms, 234 ms"
    text = f"{figures} ([record](results/paper-basic-mnist-small.json))"
    assert unknown_figures(text) == ["99.9 ± 0.1", "50.3 %", "77.7 %", "234 ms", "258 s"]


def test_a_place_that_a_record_lacks_is_named():
    with pytest.raises(KeyError, match=r"bench-cpu-conv\.json: expected items > W7; found no 'W7'"):
        tables.look_up(tables.Number("bench-cpu-conv", ("items", "W7")))


def test_a_launcher_without_a_claim_is_refused(tmp_path):
    launcher = tmp_path / "mine.py"
    launcher.write_text('"""What it does.\n\nCost: 3 s.\n\n    python -m experiments.mine\n"""\n')
    with pytest.raises(ValueError, match=r"mine.py: expected a docstring with a title, `Claim"):
        tables.head(launcher)


def test_a_launcher_s_docstring_is_read_whole(tmp_path: Path):
    launcher = tmp_path / "mine.py"
    launcher.write_text(
        '"""What it\ndoes.\n\nClaim: 1.0 ± 0.1\nof 3.\nCost: 3 s.\n'
        "Records: results/a.json, results/b.json\n\n"
        '    python -m experiments.mine \\\n        --flag=1\n    python -m experiments.mine\n"""\n'
    )
    assert tables.head(launcher) == tables.Head(
        "What it does.",
        "1.0 ± 0.1 of 3.",
        "3 s.",
        ("results/a.json", "results/b.json"),
        ("python -m experiments.mine --flag=1", "python -m experiments.mine"),
    )


def test_a_command_is_broken_before_flags_only():
    command = 'python -m experiments.mine --rows="a b; c" ' + " ".join(f"--flag{i}=value" for i in range(9))
    lines = tables.wrapped(command).split(" \\\n  ")
    assert len(lines) == 2
    assert all(line.startswith("--") for line in lines[1:])
    assert " ".join(lines) == command


def test_every_record_that_a_launcher_names_is_there():
    for name, file in tables.launchers().items():
        what = tables.head(file)
        assert all((tables.ROOT / "experiments" / record).is_file() for record in what.records), name
        assert bool(what.records) == (not what.claim.startswith("none: ")), name

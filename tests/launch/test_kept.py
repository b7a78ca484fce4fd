"""Measurements by name and over seeds: kept one by one, read by the next start, recorded once."""

from __future__ import annotations

import types
from typing import Any

import pytest

from ddjax.launch import Where
from ddjax.launch.kept import SEEDS, Kept, Scores, each_seed, recorded_once


def test_a_stopped_measurement_goes_on_with_the_seeds_that_are_missing(tmp_path):
    asked = []

    def one(seed):
        if seed == 2 and len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(seed)
        return {"value": seed / 3}

    with pytest.raises(KeyboardInterrupt):
        each_seed(tmp_path, range(4), one)
    asked.append("a second start")
    assert each_seed(tmp_path, range(4), one) == [{"value": seed / 3} for seed in range(4)]
    assert asked == [0, 1, "a second start", 2, 3]


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / SEEDS).write_text("[1")
    with pytest.raises(ValueError, match=r"seeds.json: expected JSON .* Remove it"):
        each_seed(tmp_path, range(2), dict)  # type: ignore[arg-type] (never called)


def test_what_is_known_is_not_measured_again_and_the_order_is_that_asked_for(tmp_path):
    first = Kept(tmp_path / "some.json")
    first.add("b", {"value": 1})
    found = Kept(tmp_path / "some.json").each({"a": lambda: {"value": 2}, "b": pytest.fail})
    assert list(found.items()) == [("a", {"value": 2}), ("b", {"value": 1})]
    assert Kept(tmp_path / "some.json").known == found


def test_findings_are_recorded_with_all_seconds_and_found_by_the_next_start(tmp_path, capsys):
    config, asked = Where(workdir=str(tmp_path / "run"), seed=3), []

    def measure(scores: Scores) -> dict[str, Any]:
        asked.append(scores.workdir)
        return {"value": 5, "seconds": {"part": 1.0}}

    def run() -> dict[str, Any]:
        data: Any = types.SimpleNamespace(name="spots")
        given: Any = {
            "what": "a number",
            "inputs": {"data": "spots"},
            "table": lambda one: f"value {one['value']}",
        }
        return recorded_once("mine", config, data, measure, **given)

    result = run()
    assert {name: result[name] for name in ("experiment", "dataset", "value", "seed")} == {
        "experiment": "mine",
        "dataset": "spots",
        "value": 5,
        "seed": 3,
    }
    assert list(result["seconds"]) == ["total", "part"]
    assert "value 5" in capsys.readouterr().out
    assert run() == result
    assert asked == [tmp_path / "run"]

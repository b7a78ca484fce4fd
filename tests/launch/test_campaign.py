"""A command that starts many runs asks first."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace

import pytest

from ddjax.launch.campaign import Planned, confirm, cost_in
from experiments import condense_table, paper, sweep


class Terminal(io.StringIO):
    def isatty(self):
        return True


def asked(tmp_path, answer, monkeypatch, **flags):
    runs = [Planned(name, tmp_path / name) for name in ("one", "two", "three")]
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "result.json").write_text("{}")
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    confirm(SimpleNamespace(**{"yes": False, "dry_run": False, **flags}), runs, cost="an hour")


def test_the_runs_and_their_cost_are_told_and_yes_starts_them(tmp_path, monkeypatch, capsys):
    asked(tmp_path, "y\n", monkeypatch)
    told = capsys.readouterr().out
    assert told.startswith("2 runs to do, 1 finished:\n  one  (")
    assert "two" not in told.replace(str(tmp_path), "").split(":")[1]
    assert "recorded cost: an hour" in told


@pytest.mark.parametrize("answer", ["\n", "n\n", "perhaps\n"])
def test_anything_else_starts_nothing(tmp_path, monkeypatch, answer):
    with pytest.raises(ValueError, match=r"not started. Add --yes .* 2 runs"):
        asked(tmp_path, answer, monkeypatch)


@pytest.mark.parametrize("flags", [{"yes": True}, {"dry_run": True}])
def test_with_a_flag_nothing_is_asked(tmp_path, monkeypatch, capsys, flags):
    asked(tmp_path, "", monkeypatch, **flags)
    assert capsys.readouterr().out == ""


def test_where_nobody_can_be_asked_the_flag_is_named(tmp_path, monkeypatch):
    runs = [Planned(name, tmp_path / name) for name in ("one", "two")]
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    with pytest.raises(ValueError, match="expected --yes where nobody can be asked"):
        confirm(SimpleNamespace(yes=False, dry_run=False), runs, cost="")


def test_a_campaign_names_its_runs_before_the_first_one_starts(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["condense_table", "--dataset=digits"])
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with pytest.raises(SystemExit) as end:
        condense_table.LAUNCHER.main()
    assert end.value.code == 2
    found = capsys.readouterr()
    assert "runs to do:" in found.out
    assert "recorded cost: an H100" in found.out
    assert "expected --yes" in found.err


@pytest.mark.parametrize("launcher", [condense_table.LAUNCHER, paper.LAUNCHER, sweep.LAUNCHER])
def test_a_campaign_knows_its_runs(launcher, tmp_path):
    runs = launcher.runs(launcher.settings({"dataset": "digits"}, tmp_path))
    assert len({run.workdir for run in runs}) == len(runs) > 2
    assert all(run.workdir.parent == tmp_path and not run.is_finished for run in runs)


def test_the_cost_is_the_paragraph_of_the_docstring():
    assert cost_in("Title.\n\nClaim: x\nCost: two\ncores.\nRecords: y\n") == "two cores."
    assert cost_in("Title.") == ""

"""The command `ddjax`: what it lists, what it runs, what it refuses."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from ddjax import __main__ as command
from ddjax import help_text, launchers
from ddjax.launch import launcher
from ddjax.launch.flags import usage
from ddjax.version import __version__

ROOT = Path(__file__).resolve().parents[1]
DOCSTRINGS = launchers.docstrings()


def test_every_launcher_and_tool_has_a_line(capsys):
    assert command.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    for path in (ROOT / "experiments").glob("*.py"):
        if path.stem != "__init__":
            (line,) = [one for one in lines if one.split()[:1] == [path.stem] and one.startswith("  ")]
            assert line.split(maxsplit=1)[1] == path.read_text().split('"""')[1].partition("\n")[0]
    assert any(line.split()[:1] == ["export"] for line in lines)
    assert launchers.package() == "experiments"


def test_a_launcher_gets_its_flags(monkeypatch):
    seen = []
    monkeypatch.setattr(runpy, "run_module", lambda *args, **kwargs: seen.append((*args, list(sys.argv))))
    monkeypatch.setattr(sys, "argv", ["ddjax"])
    assert command.main(["random_init", "--dataset=digits"]) == 0
    assert seen == [("experiments.random_init", ["ddjax random_init", "--dataset=digits"])]


def test_a_tool_gets_its_flags(tmp_path, capsys):
    assert (
        command.main(["export", "--artifact=nowhere.npz", "--format=png", f"--output={tmp_path / 'out'}"])
        == 2
    )
    assert "there is none at nowhere.npz" in capsys.readouterr().err


def test_an_unknown_name_is_refused_with_the_nearest(capsys):
    assert command.main(["randominit"]) == 2
    assert "got 'randominit'. Did you mean random_init?" in capsys.readouterr().err


def test_the_version(capsys):
    assert command.main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == __version__


@pytest.mark.slow
def test_help_needs_no_jax():
    lines = (
        "import sys",
        "from ddjax import __main__",
        "__main__.main([])",
        "print({'jax'} & {*sys.modules})",
    )
    program = "; ".join(lines)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "set()"


def test_help_is_printed_without_jax():
    program = (
        "import sys; from ddjax import __main__; __main__.main(sys.argv[1:]); print({'jax'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "random_init", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    *text, loaded = done.stdout.splitlines()
    assert loaded == "set()"
    assert any(line.startswith("  --num_outer_steps: ") for line in text)


@pytest.mark.parametrize("name", sorted(DOCSTRINGS))
def test_help_is_what_the_launcher_says(name):
    found = launcher.find(name)
    assert help_text.text_of(name, DOCSTRINGS[name]) == usage(found.docstring or name, found.config_class), (
        "run python scripts/help_lines.py"
    )


def test_a_launcher_without_lines_speaks_for_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(help_text, "FILE", tmp_path / "none.json")
    assert help_text.text_of("random_init", "") is None
    (tmp_path / "none.json").write_text('{"lines": {}, "flags": {}, "free": {}}')
    assert help_text.text_of("random_init", "") is None


def test_a_line_with_two_wordings_is_kept_twice():
    told = {
        name: help_text.Told({"seed": f"  --seed: {name}"}, ["seed"]) for name in ("one", "two", "one more")
    }
    lines = json.loads(help_text.packed(told))["lines"]
    assert lines == {"seed": "  --seed: one", "seed 2": "  --seed: two", "seed 3": "  --seed: one more"}

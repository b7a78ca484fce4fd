"""The command `ddjax`: what it lists, what it runs, what it refuses."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from ddjax import __main__ as command
from ddjax import kept_help, launchers
from ddjax.version import __version__

ROOT = Path(__file__).resolve().parents[1]


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


def test_help_is_kept_until_the_program_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("DDJAX_CACHE_DIR", str(tmp_path))
    made = []
    for _ in range(2):
        assert kept_help.text_of("random_init", lambda: made.append(1) or "flags:\n") == "flags:\n"
    assert made == [1]
    (kept,) = (tmp_path / "help").iterdir()
    monkeypatch.setattr(kept_help.sys, "version", "another")
    assert kept_help.path_of("random_init") != kept
    assert kept_help.text_of("random_init", lambda: "new") == "new"
    assert not kept.exists()


def test_help_needs_no_cache(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("DDJAX_CACHE_DIR", str(tmp_path / "file"))
    assert kept_help.text_of("random_init", lambda: "flags:\n") == "flags:\n"


@pytest.mark.slow
def test_kept_help_is_what_the_launcher_says(tmp_path):
    def say(*command):
        return subprocess.run(
            [sys.executable, *command, "--help"],
            cwd=ROOT,
            env=os.environ | {"DDJAX_CACHE_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    first, second = (say("-m", "ddjax", "baselines") for _ in range(2))
    assert first == second
    assert "--num_eval_inits: " in second

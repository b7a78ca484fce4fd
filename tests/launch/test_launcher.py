"""Launchers as objects."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest
from launchers import ROOT, TINY
from problems import write_npz

from ddjax import launch, launchers
from ddjax.launch import Launcher, Unrolled, Where, flag
from ddjax.launch.flags import usage
from ddjax.launch.memories import DISTILLATIONS
from ddjax.launchers import as_typed
from experiments import random_init, sweep

NAMES = sorted(path.stem for path in (ROOT / "experiments").glob("[!_]*.py"))


@pytest.mark.parametrize("name", NAMES)
def test_a_launcher_has_the_name_of_its_file_and_starts_from_the_shell(name):
    found = launch.find(name)
    assert found.name == name
    assert found.docstring
    text = (ROOT / "experiments" / f"{name}.py").read_text()
    assert text.endswith('\n\nif __name__ == "__main__":\n    LAUNCHER.main()\n')


@pytest.mark.parametrize("name", NAMES)
def test_the_help_names_what_every_flag_is_where_it_is_not_given(name):
    found = launch.find(name)
    lines = usage(found.docstring or "", found.config_class).partition("\nflags:\n")[2].splitlines()
    assert lines
    for line in lines:
        if line.startswith("  --"):
            assert "default" in line, line


def test_commands_are_those_that_can_be_typed(monkeypatch):
    text = "    python -m experiments.sweep --axis=steps"
    assert as_typed(text) == text
    monkeypatch.setattr(launchers, "package", lambda: launchers.INSTALLED)
    assert as_typed(text) == "    ddjax sweep --axis=steps"


def test_launchers_are_found_in_a_package_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "none.py").touch()
    own = 'from ddjax.launch import Launcher, Where\nLAUNCHER = Launcher("own", None, Where, run=vars)\n'
    (tmp_path / "mine" / "own.py").write_text(own)
    monkeypatch.syspath_prepend(tmp_path)
    assert launch.find("own", package="mine").config_class is Where
    with pytest.raises(ValueError, match=r"a module with LAUNCHER = Launcher\(...\); mine.none has none"):
        launch.find("none", package="mine")
    with pytest.raises(ValueError, match="launcher: expected a module of mine; got 'other'"):
        launch.find("other", package="mine")


@pytest.mark.parametrize(("given", "got"), [({}, "neither"), ({"build": len, "run": len}, "both")])
def test_a_launcher_builds_or_runs(given, got):
    with pytest.raises(ValueError, match=f"expected either build or run; got {got}"):
        Launcher("mine", None, Where, **given)


def test_what_is_no_distillation_has_no_parts(digits):
    with pytest.raises(ValueError, match="launcher sweep: expected a distillation"):
        sweep.LAUNCHER.parts(sweep.Config(), digits)


@pytest.mark.slow
def test_a_command_is_carried_out_as_the_shell_would(tmp_path, rng):
    dataset = write_npz(tmp_path / "spots.npz", rng)
    given = TINY | {"dataset": str(dataset), "baselines": False}
    result = random_init.LAUNCHER.carry_out(given, tmp_path / "run")
    assert result == json.loads((tmp_path / "run" / "result.json").read_text())
    assert random_init.LAUNCHER.carry_out(given, tmp_path / "run") == result
    with pytest.raises(ValueError, match="Unknown command line flag 'sede'"):
        random_init.LAUNCHER.carry_out({"sede": 1}, tmp_path / "other")


def test_a_launcher_of_ones_own_needs_nothing_but_the_package(tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Config(Where):
        size: int = flag(2, "a size", low=1)

    def run(config: Config) -> dict:
        return launch.once(
            config.directory("mine"),
            config,
            lambda: {"size": config.size},
            experiment="mine",
            what="a size",
            written="result.json",
            table=str,
        )

    mine = Launcher("mine", "A launcher of one's own.", Config, run=run)
    assert mine.carry_out({"size": 5}, tmp_path / "run") == {"size": 5}
    written = json.loads((tmp_path / "run" / "config.json").read_text())
    assert written == {"experiment": "mine", "dataset": "digits", "data_dir": None, "seed": 0, "size": 5}


def test_those_who_carry_out_others_name_distillations():
    assert set(sweep.LAUNCHERS) == {"random_init", "fixed_init"}
    assert all(launch.find(name).build is not None for name in (*sweep.LAUNCHERS, *DISTILLATIONS))


def test_a_family_says_itself_what_it_differentiates():
    assert launch.Matching().differentiated_steps() is None
    assert Unrolled(inner_steps=4, inner_epochs=5).differentiated_steps() == 20
    assert Unrolled(inner_steps=4, inner_epochs=5, window=3).differentiated_steps() == 3


@pytest.mark.slow
def test_importing_the_machinery_touches_no_device():
    code = (
        "import ddjax, sys\n"
        "assert 'ddjax.launch' not in sys.modules\n"
        "import ddjax.launch\n"
        "heavy = {'tensorflow', 'tensorflow_datasets', 'matplotlib', 'sklearn', 'PIL', 'experiments'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "from jax._src import xla_bridge\n"
        "assert not xla_bridge._backends, 'a backend was initialised'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

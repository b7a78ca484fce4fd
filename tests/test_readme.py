"""The README's examples, run as they stand but for the number of steps; what importing ddjax brings."""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from absl import flags
from problems import write_npz

from experiments import config as settings

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
LAUNCHERS = {path.stem: path.read_text() for path in (ROOT / "experiments").glob("*.py")}
RECORDS = {path.name: path for path in (ROOT / "experiments" / "results").glob("*.json")}
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def shortened(code: str) -> str:
    code = re.sub(r"num_outer_steps=\d+", "num_outer_steps=3", code)
    return re.sub(r"num_inits=20", "num_inits=2", code)


def test_there_are_examples():
    assert len(EXAMPLES) == 3


@pytest.mark.parametrize("index", range(3))
def test_an_example_runs(index, tmp_path, monkeypatch, rng):
    code = shortened(EXAMPLES[index])
    if '"mnist"' in code and not (Path(os.environ.get("TFDS_DATA_DIR", "nowhere")) / "mnist").is_dir():
        pytest.skip("MNIST is not in TFDS_DATA_DIR")
    write_npz(tmp_path / "my_images.npz", rng, shape=(16, 16, 3))
    np.savez(
        tmp_path / "distilled.npz",
        images=rng.normal(size=(2, 3, 8, 8, 1)).astype(np.float32),
        labels=np.tile(np.eye(3, dtype=np.float32), (2, 1, 1)),
        lrs=np.full((4, 2), 0.1, np.float32),
        mean=np.zeros(1, np.float32),
        std=np.ones(1, np.float32),
    )
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(code, f"README example {index}", "exec"), names)
    if "score" in names:
        assert 0 <= names["score"].mean <= 100
        assert len(names["score"].values) == 2


def test_every_launcher_is_in_the_readme():
    shared = {"__init__", "condensation", "config", "launch", "parts", "planning", "regenerate", "results"}
    shared |= {"scores", "tables"}
    for name in LAUNCHERS:
        assert name in shared or f"experiments.{name}" in README, name


FLAG = r'--[^\s`"]+(?:"[^"]*")?|\$\w+'


def launches(text: str) -> list[tuple[str, list[str]]]:
    """The commands in a text that start a launcher: its name and its arguments."""
    text = text.replace("\\\n", " ")
    # NAME="..." stands for $NAME in what follows, and the number of a loop for 0.
    variables = dict(re.findall(r'^(\w+)="(--.*)"$', text, re.MULTILINE))
    found = re.findall(rf"python -m experiments\.(\w+)((?:\s+(?:{FLAG}))*)", text)
    return [
        (name, shlex.split(re.sub(r"\$(\w+)", lambda match: variables.get(match[1], "0"), rest)))
        for name, rest in found
    ]


@pytest.mark.parametrize("place", ["README.md", *(name for name in LAUNCHERS if name != "__init__")])
def test_documented_commands_have_only_flags_that_exist(place):
    for name, arguments in launches(README if place == "README.md" else LAUNCHERS[place]):
        # A choice of several, or a place that is left open, is no command.
        if not {"…", "|"} & set(" ".join(arguments)):
            config = importlib.import_module(f"experiments.{name}").Config
            settings.parse(config, [name, *arguments], flags.FlagValues())


def test_there_are_commands_in_the_readme():
    found = [name for name, _ in launches(README)]
    assert len(found) > 30
    assert {"quickstart", "condense_table", "sweep", "architecture_search"} <= set(found)


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_s_command_can_be_given_again(name):
    command = json.loads(RECORDS[name].read_text())["command"]
    for launcher, arguments in launches(command if isinstance(command, str) else " ".join(command)):
        config = importlib.import_module(f"experiments.{launcher}").Config
        settings.parse(config, [launcher, *arguments], flags.FlagValues())


def test_links_lead_somewhere():
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert len(links) > 40
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_importing_ddjax_loads_nothing_heavy_and_touches_no_device():
    code = (
        "import sys, jax, ddjax\n"
        "heavy = {'tensorflow', 'tensorflow_datasets', 'matplotlib', 'sklearn', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "from jax._src import xla_bridge\n"
        "assert not xla_bridge._backends, 'a backend was initialised'\n"
        "assert not jax.config.jax_enable_x64\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

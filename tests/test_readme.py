"""The files for people: the README's examples run, documented commands parse, links lead somewhere."""

from __future__ import annotations

import dataclasses
import importlib
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from absl import flags
from problems import write_npz

import ddjax
from ddjax.launch import parse
from scripts import tables

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
TEXTS = {
    name: (ROOT / name).read_text()
    for name in (
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "experiments/README.md",
        "experiments/results/README.md",
        "tests/golden/README.md",
    )
}
LAUNCHERS = {name: path.read_text() for name, path in tables.launchers().items()}
RECORDS = {path.name: path for path in tables.RESULTS.glob("*.json")}
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def shortened(code: str) -> str:
    code = re.sub(r"num_outer_steps=\d+", "num_outer_steps=3", code)
    return re.sub(r"num_inits=20", "num_inits=2", code)


def test_there_are_examples():
    assert len(EXAMPLES) == 2


@pytest.mark.slow
@pytest.mark.parametrize("index", range(2))
def test_an_example_runs(index, tmp_path, monkeypatch, rng):
    code = shortened(EXAMPLES[index])
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
    # As a reader runs it: under JAX's own settings, not the strict ones of these tests.
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        exec(compile(code, f"README example {index}", "exec"), names)
    if "score" in names:
        assert 0 <= names["score"].mean <= 100
        assert len(names["score"].values) == 2


def test_the_readme_is_one_page_with_both_commands():
    assert len(README.splitlines()) <= 250
    assert "bash scripts/quickstart.sh" in README
    assert "bash scripts/test.sh" in README


FLAG = r'--[^\s`"]+(?:"[^"]*")?|\$\w+'


def launches(text: str) -> list[tuple[str, list[str]]]:
    """The commands in a text that start a launcher: its name and its arguments."""
    text = text.replace("\\\n", " ")
    # NAME="..." stands for $NAME in what follows, and the number of a loop for 0.
    variables = dict(re.findall(r'^(\w+)="(--.*)"$', text, re.MULTILINE))
    found = re.findall(rf"python -m experiments\.([a-z_]+)((?:\s+(?:{FLAG}))*)", text)
    return [
        (name, shlex.split(re.sub(r"\$(\w+)", lambda match: variables.get(match[1], "0"), rest)))
        for name, rest in found
    ]


def fields(launcher: str) -> set[str]:
    """The flags of a launcher, without the dashes."""
    return {
        field.name for field in dataclasses.fields(importlib.import_module(f"experiments.{launcher}").Config)
    }


@pytest.mark.parametrize("place", [*TEXTS, *LAUNCHERS])
def test_documented_commands_have_only_flags_that_exist(place):
    for name, arguments in launches((TEXTS | LAUNCHERS)[place]):
        config = importlib.import_module(f"experiments.{name}").Config
        parse(config, [name, *arguments], flags.FlagValues())


@pytest.mark.parametrize("place", ["README.md", "experiments/README.md", "experiments/results/README.md"])
def test_flags_that_are_mentioned_exist(place):
    known = {"help", "nobaselines"}.union(*map(fields, LAUNCHERS))
    codes = re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", TEXTS[place], flags=re.DOTALL))
    mentioned = {flag for code in codes if "scripts/" not in code for flag in re.findall(r"--(\w+)", code)}
    for tool in ("export", "prepare"):
        parser = importlib.import_module(f"ddjax.{tool}").parser()
        known |= {option.removeprefix("--") for option in parser._option_string_actions}
    assert mentioned - known == set()


def test_there_are_commands_in_the_files():
    found = [name for place in TEXTS for name, _ in launches(TEXTS[place])]
    assert len(found) > 50
    assert set(LAUNCHERS) <= set(found)


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_s_command_can_be_given_again(name):
    command = json.loads(RECORDS[name].read_text())["command"]
    for launcher, arguments in launches(command if isinstance(command, str) else " ".join(command)):
        config = importlib.import_module(f"experiments.{launcher}").Config
        parse(config, [launcher, *arguments], flags.FlagValues())


def anchors(file: Path) -> set[str]:
    """The names of a Markdown file's headings in links."""
    headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", TEXTS)
def test_links_lead_somewhere(name):
    file = ROOT / name
    for link in re.findall(r"\]\(([^)]+)\)", TEXTS[name]):
        if "://" not in link:
            path, _, anchor = link.partition("#")
            target = file.parent / path if path else file
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_files_that_are_named_exist(name):
    codes = re.findall(r"`((?:ddjax|experiments|scripts|tests)/[\w./-]*)`", TEXTS[name])
    assert codes
    assert [code for code in codes if "NAME" not in code and not (ROOT / code).exists()] == []


def test_every_golden_file_is_described_and_small():
    files = {file.stem: file.stat().st_size for file in (ROOT / "tests" / "golden").glob("*.npz")}
    rows = re.findall(r"^\| (`.*?`) \|", TEXTS["tests/golden/README.md"], re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", "".join(rows))) == set(files)
    assert max(files.values()) <= 2**20


def test_the_citation_has_the_version():
    assert f"\nversion: {ddjax.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_every_picture_and_record_is_shown():
    shown = {Path(link).name for link in re.findall(r"\]\(([^)]+)\)", "".join(TEXTS.values()))}
    there = {file.name for file in tables.RESULTS.iterdir() if file.suffix in {".json", ".png"}}
    assert there - shown == set()


@pytest.mark.slow
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


def test_every_name_of_the_readme_is_public_and_there():
    names = set(re.findall(r"\bddjax\.([A-Za-z]\w*)", README))
    assert names - set(ddjax.__all__) == set()
    assert [name for name in ddjax.__all__ if not hasattr(ddjax, name)] == []

"""The README's examples, run as they stand but for the number of steps; what importing ddjax brings."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from problems import write_npz

README = (Path(__file__).resolve().parents[1] / "README.md").read_text()
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
    folder = Path(__file__).resolve().parents[1] / "experiments"
    shared = {"__init__", "condensation", "config", "launch", "parts", "planning", "regenerate", "results"}
    shared |= {"tables"}
    for path in folder.glob("*.py"):
        assert path.stem in shared or f"experiments.{path.stem}" in README, path.stem


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

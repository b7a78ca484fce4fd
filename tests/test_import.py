"""What `import ddjax` costs and loads, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {"tensorflow", "tensorflow_datasets", "matplotlib", "sklearn", "PIL", "array_record", "torch"}
SECONDS = 1.5
"""Of the processor, beyond `import jax, flax, optax`; the wall's would be of what else the machine does."""

PROGRAM = """
import sys, time
import jax, flax, optax
from jax._src import xla_bridge
before, config, began = set(sys.modules), dict(jax.config.values), time.process_time()
import ddjax
print(time.process_time() - began)
print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
print(xla_bridge.backends_are_initialized(), dict(jax.config.values) == config)
"""


def imported() -> tuple[float, set[str], str]:
    """Seconds, new packages, whether a device was touched and whether the settings are as they were."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        env=os.environ | {"XLA_FLAGS": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (0, "")
    seconds, packages, touched = done.stdout.splitlines()
    return float(seconds), set(packages.split()), touched


def test_import_loads_nothing_heavy_touches_no_device_and_is_quick():
    first = imported()
    assert "ddjax" in first[1]
    assert first[1] & HEAVY == set()
    assert first[2] == "False True"
    seconds = [first[0], *(imported()[0] for _ in range(2) if first[0] > SECONDS)]
    assert min(seconds) <= SECONDS

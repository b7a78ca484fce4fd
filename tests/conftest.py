"""Fixtures: four fake devices, strict promotion, float64 on request, where the reference values lie."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Before JAX starts: D = 4 against D = 1 needs devices, and CI has a CPU. The suite compiles much and runs
# little, so that LLVM's optimisation costs more than it gains.
os.environ["XLA_FLAGS"] = " ".join(
    (
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=4",
        "--xla_backend_optimization_level=0",
    )
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Axes and kinds of numbers are brought together in words or not at all, in the processes of tests too.
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
os.environ["JAX_NUMPY_DTYPE_PROMOTION"] = "strict"
# What one test compiled the next one loads: runs are started, killed, resumed, repeated. Kept for a session,
# by the process that starts the others.
if "PYTEST_XDIST_WORKER" not in os.environ:
    _compiled = tempfile.TemporaryDirectory(prefix="ddjax-tests-", ignore_cleanup_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _compiled.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"

import numpy as np
import pytest
from problems import float64

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def x64() -> Iterator[None]:
    """Everything traced inside the test is float64 unless it says otherwise."""
    with float64():
        yield


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder of values computed by the original implementations."""
    folder = ROOT.parent / "shared" / "reference"
    if not folder.is_dir():
        pytest.skip(f"reference values are not at {folder}")
    return folder


@pytest.fixture(scope="session")
def digits():
    """The embedded real data: 1,797 handwritten digits of 8x8 pixels."""
    from ddjax.data import load

    return load("digits")


@pytest.fixture
def rng() -> np.random.Generator:
    """A stream of random numbers, the same for every test."""
    return np.random.default_rng(0)

"""Fixtures: four fake devices, strict promotion, float64 on request, where the golden values lie."""

from __future__ import annotations

import functools
import gc
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from launchers import QUICK_TO_COMPILE

# Before JAX starts: D = 4 against D = 1 needs devices, and CI has a CPU.
os.environ["XLA_FLAGS"] = " ".join(
    (os.environ.get("XLA_FLAGS", ""), "--xla_force_host_platform_device_count=4", QUICK_TO_COMPILE)
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Axes are brought together in words or not at all, in the processes that tests start too.
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
# What one test compiled the next one loads: runs are started, killed, resumed, repeated. Kept for a session,
# by the process that starts the others.
if "PYTEST_XDIST_WORKER" not in os.environ:
    _compiled = tempfile.TemporaryDirectory(prefix="ddjax-tests-", ignore_cleanup_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _compiled.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"

import jax
import numpy as np
import pytest

# Kinds of numbers too.
jax.config.update("jax_numpy_dtype_promotion", "strict")
# Tracing makes millions of small objects that live on: looking for garbage among them, and a traceback beside
# each operation of a program that nobody reads, are a tenth of a test's time.
gc.set_threshold(100_000, 20, 20)
jax.config.update("jax_traceback_in_locations_limit", 0)

# The project after the settings above, which its modules are to be imported under.
from problems import three_digits  # noqa: E402
from refusals import Good, Refuses, check_refused  # noqa: E402

from ddjax.testing.report import double  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def x64() -> Iterator[None]:
    """Everything traced inside the test is float64 unless it says otherwise."""
    with double():
        yield


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder of values computed by the original implementations; its README says what each file holds."""
    return ROOT / "tests" / "golden"


@pytest.fixture(scope="session")
def digits():
    """The embedded real data: 1,797 handwritten digits of 8x8 pixels."""
    from ddjax.data import load

    return load("digits")


@pytest.fixture
def rng() -> np.random.Generator:
    """A stream of random numbers, the same for every test."""
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def few_digits():
    """Three classes of them."""
    return three_digits()


@pytest.fixture
def refuses(few_digits, tmp_path, monkeypatch) -> Refuses:
    """`(action, got, remedy)`: the action, given one of everything good, is refused with these words."""
    monkeypatch.chdir(tmp_path)
    return functools.partial(check_refused, Good(tmp_path, few_digits))

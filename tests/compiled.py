"""Where the programs lie that tests compiled: a run of the tests loads what an earlier one compiled."""

from __future__ import annotations

import hashlib
import platform
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1] / ".pytest_cache" / "compiled"
LARGEST = 3 * 2**30  # bytes; programs of an older JAX, and of code that is gone, are never asked for again


def directory() -> Path:
    """The directory of the programs for this processor.

    A program holds instructions of the processor that it was compiled on, which the processor of another
    machine, or of the same one after a move, may not have.
    """
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    features = next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
    return ROOT / hashlib.sha256(features.encode()).hexdigest()[:16]


def prune() -> None:
    """Empty the directory where it has grown too large."""
    found = directory()
    if found.exists() and sum(file.stat().st_size for file in found.iterdir()) > LARGEST:
        shutil.rmtree(found)

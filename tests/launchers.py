"""What the tests of launchers share: the settings of a short run, and a launcher as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TINY: dict[str, Any] = {
    "network": "mlp",
    "num_outer_steps": 4,
    "inner_steps": 2,
    "inner_epochs": 1,
    "batch_size": 16,
    "num_eval_inits": 3,
    "num_val_inits": 2,
    "validate_every": 2,
    "record_every": 1,
}
"""The settings of a run that takes a moment."""


def start(module: str, *arguments: str) -> subprocess.Popen:
    """Start a launcher as a process of its own.

    Args:
        module: the launcher's name.
        arguments: the flags.
    """
    environment = os.environ | {"XLA_FLAGS": "", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", f"experiments.{module}", *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

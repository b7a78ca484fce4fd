"""What the tests of launchers share: the settings of a short run, and a launcher as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
QUICK_TO_COMPILE = " ".join(
    (
        "--xla_backend_optimization_level=0",
        "--xla_llvm_disable_expensive_passes=true",
        "--xla_cpu_use_fusion_emitters=false",
        "--xla_cpu_enable_concurrency_optimized_scheduler=false",
        "--xla_cpu_parallel_codegen_split_count=1",
    )
)
"""The flags of XLA for tests, which compile much and run little: LLVM's optimisation and the emitters that go
through MLIR cost more than they gain."""
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
    environment = os.environ | {"XLA_FLAGS": QUICK_TO_COMPILE, "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", f"experiments.{module}", *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

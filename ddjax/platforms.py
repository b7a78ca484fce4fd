"""The platform that a program is compiled for: that of the devices in the program's mesh."""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path
from typing import Any, TypeAlias

import jax

Device: TypeAlias = Any
"""A `jax.Device`; JAX declares this type in a way that type checkers read as a variable."""

_GPUS = ("cuda", "rocm")

NVIDIA_DEVICES = "/dev/nvidia[0-9]*"
"""The files by which a machine shows its NVIDIA devices."""


def current() -> str:
    """The platform of the program that is being traced, which need not be the platform of this machine.

    Inside `jax.shard_map` this is the platform of the mesh, so that a program compiled here for a TPU slice
    takes the TPU's choices. Everywhere else it is JAX's default backend, where `jax.jit` puts its programs.

    Returns:
        `"cpu"`, `"gpu"`, `"tpu"`, or the name of another platform.
    """
    mesh = jax.sharding.get_abstract_mesh()
    device = None if mesh.empty else mesh.abstract_device
    name = jax.default_backend() if device is None else device.platform
    return "gpu" if name in _GPUS else name


def of(device: Device) -> str:
    """The platform of a device.

    Args:
        device: the device, which may be one that this machine does not have.

    Returns:
        The name, as `current` gives it.
    """
    return "gpu" if device.platform in _GPUS else device.platform


def overlooked() -> str | None:
    """What to say where a machine has a GPU and JAX runs on the CPU, as JAX does in silence.

    Initialises JAX's backend if nothing has done so yet.

    Returns:
        The message; None where JAX does not run on the CPU, where JAX was told what to run on
        (`JAX_PLATFORMS`), and where the machine shows no NVIDIA device.
    """
    root, pattern = Path(NVIDIA_DEVICES).parent, Path(NVIDIA_DEVICES).name
    if os.environ.get("JAX_PLATFORMS") or current() != "cpu" or not any(root.glob(pattern)):
        return None
    plugins = [entry.name for entry in importlib.metadata.entry_points(group="jax_plugins")]
    if any("cuda" in name for name in plugins):
        why = "JAX's CUDA plugin could not start. `python -c 'import jax; jax.devices(\"cuda\")'` says why"
    else:
        why = "JAX has no CUDA plugin here. Install one: pip install 'ddjax[cuda12]', or 'ddjax[cuda13]'"
    return (
        f"warning: this machine has an NVIDIA device, but the run is on the CPU: {why}. JAX_PLATFORMS=cpu "
        "says that the CPU is meant."
    )

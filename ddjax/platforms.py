"""The platform that a program is compiled for: that of the devices in the program's mesh."""

from __future__ import annotations

import jax

from ddjax import parallel

_GPUS = ("cuda", "rocm")


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


def of(device: parallel.Device) -> str:
    """The platform of a device.

    Args:
        device: the device, which may be one that this machine does not have.

    Returns:
        The name, as `current` gives it.
    """
    return "gpu" if device.platform in _GPUS else device.platform

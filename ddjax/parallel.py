"""Devices: the one-axis mesh that shares out the slots of an outer step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

Device: TypeAlias = Any
"""A `jax.Device`, which JAX declares in a way that type checkers take for a variable."""

AXIS = "slots"
"""The name of the mesh's only axis: each device takes M / D of the M slots."""


def make_mesh(devices: Sequence[Device] | None = None) -> Mesh:
    """A one-axis mesh over the given devices, over all of this process's by default."""
    devices = jax.local_devices() if devices is None else list(devices)
    return Mesh(np.array(devices), (AXIS,), axis_types=(AxisType.Auto,))


def check_divides(num_inits: int, num_devices: int) -> None:
    """Refuse a number of slots that the devices cannot share evenly.

    Raises:
        ValueError: D does not divide M; the message names the nearest numbers that work.
    """
    if num_inits % num_devices == 0:
        return
    below = num_inits // num_devices * num_devices
    near = " or ".join(str(n) for n in (below, below + num_devices) if n)
    raise ValueError(
        f"num_inits: expected a multiple of the {num_devices} devices; got {num_inits}. Use {near} inits, "
        "or fewer devices."
    )


def replicated(on: Mesh) -> NamedSharding:
    """Every device holds all of it."""
    return NamedSharding(on, P())


def split_slots(on: Mesh) -> NamedSharding:
    """Each device holds its share of the leading axis `[M, ...]`."""
    return NamedSharding(on, P(AXIS))

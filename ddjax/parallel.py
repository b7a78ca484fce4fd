"""Devices and processes: the one-axis mesh that shares out the slots, and what several processes agree on.

Several processes are JAX's own multi-controller runtime: every process runs the same program, the mesh spans
the devices of all, and process 0 leads: it alone writes, and what depends on clocks and files it decides for
all. A function that says *collective* must be called by every process, in the same order; with one process it
costs nothing.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ddjax import checks
from ddjax.types import PyTree

T = TypeVar("T")

Device: TypeAlias = Any
"""A `jax.Device`, which JAX declares in a way that type checkers take for a variable."""

AXIS = "slots"
"""The name of the mesh's only axis: each device takes M / D of the M slots."""


# Devices.


def make_mesh(devices: Sequence[Device] | None = None) -> Mesh:
    """A one-axis mesh over the given devices, over all of all processes by default."""
    devices = jax.devices() if devices is None else list(devices)
    checks.at_least("number of devices", len(devices), 1, remedy="Leave devices out to use what there is.")
    return Mesh(np.array(devices), (AXIS,), axis_types=(AxisType.Auto,))


def default_devices(num_inits: int) -> list[Device]:
    """As many devices as share M slots evenly; with several processes all, so that each has its part."""
    checks.at_least("num_inits", num_inits, 1)
    devices = jax.devices()
    if jax.process_count() > 1:
        return devices
    return devices[: math.gcd(num_inits, len(devices))]


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


def check_everywhere(devices: Sequence[Device]) -> None:
    """Refuse devices that leave a process without work: it would wait for the others for ever.

    Raises:
        ValueError: a process has none of the devices.
    """
    missing = sorted(set(range(jax.process_count())) - {device.process_index for device in devices})
    if missing:
        raise ValueError(
            f"devices: expected some of each of the {jax.process_count()} processes; got none of process "
            f"{', '.join(map(str, missing))}. Leave devices out to use all."
        )


def _as_bytes(array: np.ndarray) -> np.ndarray:
    """An array's memory, `[n]` uint8."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def check_same(name: str, tree: PyTree) -> None:
    """Refuse processes that bring different arrays. Collective.

    Raises:
        ValueError: a process's arrays are not process 0's.
    """
    if jax.process_count() == 1:
        return
    checksum = 0
    for leaf in jax.tree.leaves(jax.device_get(tree)):
        checksum = zlib.crc32(_as_bytes(np.asarray(leaf)).data, checksum)
    sums = gather([checksum >> 1])[:, 0]
    other = np.flatnonzero(sums != sums[0])
    if other.size:
        raise ValueError(
            f"{name}: expected the same on all {len(sums)} processes; process {other[0]} has another than "
            "process 0. Give every process the same files and settings."
        )


def replicated(on: Mesh) -> NamedSharding:
    """Every device holds all of it."""
    return NamedSharding(on, P())


def split_slots(on: Mesh) -> NamedSharding:
    """Each device holds its share of the leading axis `[M, ...]`."""
    return NamedSharding(on, P(AXIS))


def place(tree: PyTree, sharding: NamedSharding) -> PyTree:
    """Put arrays on a mesh; every process brings the same whole arrays, and its devices take their shares."""
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)

    # jax.device_put would first compare the arrays of all processes, the real data included.
    def share(leaf: Any) -> jax.Array:
        host = np.asarray(leaf)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    return jax.tree.map(share, tree)


def fetch(tree: PyTree) -> PyTree:
    """The whole arrays on the host, also of slots whose shares lie with other processes. Collective."""

    def whole(leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable or leaf.is_fully_replicated:
            return leaf
        return multihost_utils.process_allgather(leaf, tiled=True)

    return jax.device_get(jax.tree.map(whole, tree))


# Processes.


class PeerError(RuntimeError):
    """Another process could not go on; its own output says why."""


def start(
    coordinator_address: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> None:
    """Join the other processes; nothing may have touched a device yet. Collective.

    Args:
        coordinator_address: `host:port` of process 0. Without the three arguments JAX asks the cluster:
            Slurm, Open MPI, Kubernetes or Cloud TPU.
        num_processes: of the run.
        process_id: this one's, from 0.

    Raises:
        ValueError: no arguments, and no cluster that JAX knows.
    """
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # JAX's own SIGTERM handler would swallow the signal outside the loop, where nothing looks for it;
    # inside, `checkpoint.PreemptionGuard` does.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(coordinator_address, num_processes, process_id)
    except ValueError as error:
        raise ValueError(
            f"distributed: expected Slurm, Open MPI, Kubernetes or Cloud TPU around this process; JAX found "
            f"none ({error}). Give coordinator_address, num_processes and process_id."
        ) from error
    gather([0])  # Connections are made at the first collective, which waits for seconds only.


def leave() -> None:
    """Disconnect from the other processes, at the end of a run. Collective."""
    if jax.process_count() > 1:
        jax.distributed.shutdown()


def is_lead() -> bool:
    """Whether this is process 0, which alone writes and prints."""
    return jax.process_index() == 0


def gather(numbers: Sequence[int]) -> np.ndarray:
    """Small whole numbers of every process, `[processes, len(numbers)]` int32. Collective."""
    row = np.array(numbers, np.int32)
    return row[None] if jax.process_count() == 1 else multihost_utils.process_allgather(row)


def together(action: Callable[[], T]) -> T:
    """Run an action on every process; where it raises on one, it raises on all. Collective.

    Returns:
        What the action returned on this process.

    Raises:
        PeerError: it raised on another process only.
        Exception: whatever it raised on this one.
    """
    if jax.process_count() == 1:
        return action()
    try:
        value = action()
    except Exception:
        gather([1])
        raise
    failed = np.flatnonzero(gather([0])[:, 0])
    if failed.size:
        raise PeerError(f"process {failed[0]} could not go on; its own output says why.")
    return value


def broadcast(tree: PyTree) -> PyTree:
    """Process 0's values, bit for bit, of a tree of the same structure and shapes on all. Collective."""
    if jax.process_count() == 1:
        return tree
    leaves, structure = jax.tree.flatten(jax.device_get(tree))
    arrays = [np.asarray(leaf) for leaf in leaves]
    # As bytes, because without jax_enable_x64 a float64 would arrive as a float32.
    parts = [_as_bytes(array) for array in arrays]
    joined = multihost_utils.broadcast_one_to_all(np.concatenate(parts))
    pieces = np.split(np.asarray(joined), np.cumsum([part.size for part in parts])[:-1])
    values = [
        np.frombuffer(piece.tobytes(), array.dtype).reshape(array.shape)
        for piece, array in zip(pieces, arrays, strict=True)
    ]
    return jax.tree.unflatten(structure, values)


def lead(action: Callable[[], T]) -> T:
    """What process 0's action returns, on every process; the others do not run it. Collective.

    Args:
        action: returns something that JSON can hold.

    Raises:
        PeerError: it raised on process 0, and this is another.
        Exception: whatever it raised, on process 0.
    """
    if jax.process_count() == 1:
        return action()
    text = together(lambda: json.dumps(action()).encode() if is_lead() else b"")
    size = int(gather([len(text)])[0, 0])
    return json.loads(broadcast(np.frombuffer(text.ljust(size), np.uint8)[:size]).tobytes())


__all__ = [
    "AXIS",
    "Device",
    "PeerError",
    "broadcast",
    "check_divides",
    "check_everywhere",
    "check_same",
    "default_devices",
    "fetch",
    "gather",
    "is_lead",
    "lead",
    "leave",
    "make_mesh",
    "place",
    "replicated",
    "split_slots",
    "start",
    "together",
]

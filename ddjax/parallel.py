"""Devices and processes: the one-axis mesh that divides the slots, and the agreement of several processes.

Several processes use the multi-controller runtime of JAX: every process runs the same program, and the mesh
spans the devices of all processes. Process 0 leads: this process alone writes, and decides for all what
depends on clocks and files. A function that says *collective* must be called by every process, in the same
order; with one process such a function costs nothing.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ddjax import checks
from ddjax.platforms import Device
from ddjax.types import PyTree

T = TypeVar("T")

AXIS = "slots"
"""The name of the mesh's only axis: each device takes M / D of the M slots."""


# Devices.


def make_mesh(devices: Sequence[Device] | None = None) -> Mesh:
    """A one-axis mesh over devices.

    Args:
        devices: the devices of the mesh; None for all devices of all processes.

    Returns:
        The mesh, whose axis is `AXIS`.

    Raises:
        ValueError: there are no devices in the list.
    """
    devices = jax.devices() if devices is None else list(devices)
    checks.at_least("number of devices", len(devices), 1, remedy="Leave devices out to use what there is.")
    return Mesh(np.array(devices), (AXIS,), axis_types=(AxisType.Auto,))


def default_devices(num_inits: int) -> list[Device]:
    """The devices that a run uses by default.

    Args:
        num_inits: M, the number of slots.

    Returns:
        As many devices as divide M slots evenly; with several processes all devices, so that every process
        has work.

    Raises:
        ValueError: `num_inits` is no whole number of at least 1.
    """
    checks.at_least("num_inits", num_inits, 1)
    devices = jax.devices()
    if jax.process_count() > 1:
        return devices
    return devices[: math.gcd(num_inits, len(devices))]


def check_divides(num_inits: int, num_devices: int) -> None:
    """Refuse a number of slots that the devices cannot divide evenly.

    Args:
        num_inits: M, the number of slots.
        num_devices: D, the number of devices.

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
    """Refuse devices that leave a process without work: such a process would wait for the others without end.

    Args:
        devices: the devices of the mesh.

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
    """The bytes of an array, `[n]` uint8."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def check_same(name: str, tree: PyTree) -> None:
    """Refuse processes that have different arrays. Collective.

    Args:
        name: the name of the arrays in messages.
        tree: the arrays that must be the same on all processes.

    Raises:
        ValueError: the arrays of a process are not those of process 0.
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
    """The sharding in which every device of the mesh holds the whole array."""
    return NamedSharding(on, P())


def split_slots(on: Mesh) -> NamedSharding:
    """The sharding in which each device of the mesh holds M / D entries of the leading axis of `[M, ...]`."""
    return NamedSharding(on, P(AXIS))


def place(tree: PyTree, sharding: NamedSharding) -> PyTree:
    """Put arrays on a mesh.

    Args:
        tree: the whole arrays, the same on every process.
        sharding: the division of each array over the devices.

    Returns:
        The arrays on the devices, each device with the part that the sharding gives.
    """
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)

    # jax.device_put would first compare the arrays of all processes, the real data included.
    def share(leaf: Any) -> jax.Array:
        host = np.asarray(leaf)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    return jax.tree.map(share, tree)


def fetch(tree: PyTree) -> PyTree:
    """The whole arrays on the host, including the slots on devices of other processes. Collective.

    Args:
        tree: the arrays on the mesh.

    Returns:
        The arrays as NumPy arrays, the same on every process.
    """

    def whole(leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable or leaf.is_fully_replicated:
            return leaf
        return multihost_utils.process_allgather(leaf, tiled=True)

    return jax.device_get(jax.tree.map(whole, tree))


# Processes.


class PeerError(RuntimeError):
    """Another process could not go on; the output of that process says why."""


def start(
    coordinator_address: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> None:
    """Connect to the other processes; call before anything uses a device. Collective.

    Args:
        coordinator_address: `host:port` of process 0. Without the three arguments JAX asks the cluster:
            Slurm, Open MPI, Kubernetes or Cloud TPU.
        num_processes: the number of processes of the run.
        process_id: the number of this process, from 0.

    Raises:
        ValueError: the arguments are missing, and JAX finds no cluster that it knows.
    """
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # JAX's own SIGTERM handler would swallow a signal outside the outer loop, where nothing checks for one;
    # inside the loop, `checkpoint.PreemptionGuard` catches signals.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(coordinator_address, num_processes, process_id)
    except ValueError as error:
        raise ValueError(
            f"distributed: expected Slurm, Open MPI, Kubernetes or Cloud TPU around this process; JAX found "
            f"none ({error}). Give coordinator_address, num_processes and process_id."
        ) from error
    gather([0])  # The first collective call connects the processes, and waits only some seconds.


def leave() -> None:
    """Disconnect from the other processes, at the end of a run. Collective."""
    if jax.process_count() > 1:
        jax.distributed.shutdown()


def is_lead() -> bool:
    """Whether this is process 0, which alone writes and prints."""
    return jax.process_index() == 0


def gather(numbers: Sequence[int]) -> np.ndarray:
    """The numbers of every process. Collective.

    Args:
        numbers: the whole numbers of this process, which fit into int32; as many on every process.

    Returns:
        `[processes, len(numbers)]` int32.
    """
    row = np.array(numbers, np.int32)
    return row[None] if jax.process_count() == 1 else multihost_utils.process_allgather(row)


def together(action: Callable[[], T]) -> T:
    """Run an action on every process; an error on one process raises on all. Collective.

    Args:
        action: the function to call, without arguments.

    Returns:
        The result of the action on this process.

    Raises:
        PeerError: the action raised on another process only.
        Exception: the error that the action raised on this process.
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
    """The values of process 0, bit for bit, on every process. Collective.

    Args:
        tree: the arrays, with the same structure, shapes and dtypes on every process.

    Returns:
        The arrays of process 0.
    """
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
    """The result of an action that process 0 alone runs, on every process. Collective.

    Args:
        action: the function to call, whose result JSON can represent.

    Returns:
        The result of the action on process 0.

    Raises:
        PeerError: the action raised on process 0, and this is another process.
        Exception: the error that the action raised, on process 0.
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

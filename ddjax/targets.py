"""Targets: devices that outer steps are compiled for, which this machine need not have.

XLA's compilers for GPUs and TPUs run on any machine. They tell whether a program compiles for a device, the
memory that it takes there, and what devices send each other; they run nothing, and so know no times. The
times here are bounds that follow from peaks that vendors publish.

A target is `cpu`, a number of GPUs (`h100`, `h100x8`, `a100x64`), a slice of TPUs (`v5e:2x4`, `v5p:4x4x4`,
`v6e:16x16`), or the path of a JSON file with the fields of a `Target`. To compile for GPUs takes JAX's CUDA
plugin, for TPUs libtpu; `scripts/targets_env.sh` installs each into an environment of its own.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding

from ddjax import checks, hlo, memory, parallel, platforms
from ddjax.engine import Cost, EngineState, Problem, check_problem, compile_program, init_state
from ddjax.files import path_at_home
from ddjax.plan import Site
from ddjax.types import PyTree, RealData

GIB = 2**30
PER_HOST = 8
"""The number of GPUs in a machine of more than one."""

MEMORY_FRACTION = 0.75
"""The part of a GPU's memory that JAX takes by default (`XLA_PYTHON_CLIENT_MEM_FRACTION`)."""

EXAMPLES = "cpu, h100, h100x8, a100, v5e:2x4, v5e:16x16, v5p:4x4x4, v6e:2x4"
"""Names of targets, for messages and help texts."""


@dataclasses.dataclass(frozen=True)
class Target:
    """Devices to compile for.

    Attributes:
        name: the name of the target.
        platform: `"cpu"`, `"gpu"` or `"tpu"`.
        topology: the arrangement of the devices as XLA names it: `v5e:2x4` for TPUs, partitions × machines ×
            GPUs of each, such as `1x1x8`, for GPUs; empty for CPUs.
        num_devices: the number of devices.
        memory_bytes: the bytes of one device that a program may take; None where only the device knows.
        peak_flops: the most operations per second of one device in products of float32 arrays as JAX computes
            them by default (TF32 on GPUs, bfloat16 on TPUs) as `"default"`, and in `"bfloat16"`; empty where
            no number is published.
        memory_bandwidth: the bytes per second between one device and its memory; None where unknown.
        link_bandwidth: the bytes per second that one device sends to others; None where unknown.
        config: the description of a GPU for XLA, a text of its `GpuTargetConfigProto`; empty otherwise.
    """

    name: str
    platform: str
    topology: str = ""
    num_devices: int = 1
    memory_bytes: int | None = None
    peak_flops: Mapping[str, float] = dataclasses.field(default_factory=dict)
    memory_bandwidth: float | None = None
    link_bandwidth: float | None = None
    config: str = ""

    def __post_init__(self) -> None:
        checks.choice("platform", self.platform, ("cpu", "gpu", "tpu"))
        checks.at_least("num_devices", self.num_devices, 1)


class _Chip(NamedTuple):
    """One kind of TPU, as its vendor and its compiler describe it."""

    memory_gib: float
    peak_flops: float
    memory_bandwidth: float
    link_bandwidth: float


# Peaks and bandwidths: Google's "System architecture" of each generation; half of the published rate of the
# links, which counts both directions. Memory: what the compiler calls available.
_TPUS = {
    "v5e": _Chip(15.75, 197e12, 819e9, 100e9),
    "v5p": _Chip(95.74, 459e12, 2765e9, 300e9),
    "v6e": _Chip(31.25, 918e12, 1640e9, 224e9),
}

_GPU_TEXT = (
    "gpu_device_info {{ threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152 "
    "threads_per_core_limit: 2048 block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 "
    "block_dim_limit_z: 65535 registers_per_core_limit: 65536 registers_per_block_limit: 65536 "
    "shared_memory_per_core: {shared} shared_memory_per_block_optin: {optin} core_count: {cores} "
    "fpus_per_core: {fpus} memory_bandwidth: {band} l2_cache_size: {cache} clock_rate_ghz: {clock} "
    "device_memory_size: {memory} cuda_compute_capability {{ major: {major} }} }} "
    'platform_name: "CUDA" dnn_version_info {{ major: 9 minor: 8 }} device_description_str: "{kind}"'
)


class _Gpu(NamedTuple):
    """One kind of GPU: what a vendor publishes of its speed, and the description that XLA asks for."""

    peak_flops: float
    peak_bfloat16: float
    link_bandwidth: float
    description: Mapping[str, Any]


# NVIDIA's data sheets of the SXM modules with 80 GB, without sparsity; NVLink in one direction.
_GPUS = {
    "h100": _Gpu(
        494.7e12,
        989.4e12,
        450e9,
        {
            "shared": 233472,
            "cores": 132,
            "fpus": 128,
            "band": 3352320000000,
            "cache": 52428800,
            "clock": 1.98,
            "memory": 84978434048,
            "optin": 232448,
            "major": 9,
            "kind": "NVIDIA H100 80GB HBM3",
        },
    ),
    "a100": _Gpu(
        156e12,
        312e12,
        300e9,
        {
            "shared": 167936,
            "cores": 108,
            "fpus": 64,
            "band": 2039040000000,
            "cache": 41943040,
            "clock": 1.41,
            "memory": 85100068864,
            "optin": 166912,
            "major": 8,
            "kind": "NVIDIA A100-SXM4-80GB",
        },
    ),
}


def by_name(name: str) -> Target:
    """The target of a name, or of a file.

    Args:
        name: `cpu`, GPUs such as `h100x8`, TPUs such as `v5e:2x4`, or the path of a JSON file that has the
            fields of a `Target` by name.

    Returns:
        The target. Nothing is looked up that a compiler would have to be installed for.

    Raises:
        ValueError: there is no such target, or the file describes none.
    """
    if name == "cpu":
        return Target("cpu", "cpu")
    if found := re.fullmatch(r"(h100|a100)(?:x(\d+))?", name):
        return _gpus(name, found[1], int(found[2] or 1))
    if found := re.fullmatch(r"(\w+):(\d+(?:x\d+){1,2})", name):
        return _tpus(name, found[1], tuple(map(int, found[2].split("x"))))
    path = path_at_home(name)
    if path.suffix == ".json":
        return _described(path)
    raise ValueError(f"target: expected one such as {EXAMPLES}, or the path of a .json file; got {name!r}.")


def _gpus(name: str, kind: str, count: int) -> Target:
    if count < 1 or (count > PER_HOST and count % PER_HOST):
        raise ValueError(
            f"target: expected at most {PER_HOST} GPUs, or a multiple of {PER_HOST}, that many being in a "
            f"machine; got {name}. Give another number."
        )
    hosts, each = max(1, count // PER_HOST), min(count, PER_HOST)
    gpu, about = _GPUS[kind], _GPUS[kind].description
    return Target(
        name=name,
        platform="gpu",
        topology=f"1x{hosts}x{each}",
        num_devices=count,
        memory_bytes=int(MEMORY_FRACTION * about["memory"]),
        peak_flops={"default": gpu.peak_flops, "bfloat16": gpu.peak_bfloat16},
        memory_bandwidth=float(about["band"]),
        link_bandwidth=gpu.link_bandwidth,
        config=_GPU_TEXT.format(**about),
    )


def _tpus(name: str, kind: str, sizes: tuple[int, ...]) -> Target:
    if kind not in _TPUS or math.prod(sizes) < 1:
        raise ValueError(
            f"target: expected TPUs of {', '.join(_TPUS)}, with a topology such as {kind}:2x4; got {name}. "
            "The meshes of v4 and older are not those that one axis of devices can name."
        )
    chip = _TPUS[kind]
    return Target(
        name=name,
        platform="tpu",
        topology=name,
        num_devices=math.prod(sizes),
        memory_bytes=int(chip.memory_gib * GIB),
        # JAX computes products of float32 arrays in one pass of bfloat16.
        peak_flops={"default": chip.peak_flops, "bfloat16": chip.peak_flops},
        memory_bandwidth=chip.memory_bandwidth,
        link_bandwidth=chip.link_bandwidth,
    )


def _described(path: Path) -> Target:
    if not path.is_file():
        raise ValueError(f"target: expected a file with a description; there is no {path}. Give its path.")
    try:
        return Target(**json.loads(path.read_text()))
    except (TypeError, ValueError) as error:
        names = ", ".join(field.name for field in dataclasses.fields(Target))
        raise ValueError(f"target: {path}: expected JSON with {names}; got another ({error}).") from error


def missing(target: Target) -> str | None:
    """What this environment lacks to compile for a target, with the command that brings it.

    Args:
        target: the target.

    Returns:
        The text, one line; None where nothing is missing.
    """
    if target.platform == "tpu" and importlib.util.find_spec("libtpu") is None:
        needs, extra, name = "libtpu", "targets-tpu", "tpu"
    elif target.platform == "gpu" and not _has_cuda_plugin():
        needs, extra, name = "JAX's CUDA plugin", "targets-gpu", "cuda"
    else:
        return None
    return (
        f"target: expected {needs}, which compiles for {target.name}; this Python has none. Install "
        f"'ddjax[{extra}]', or make an environment of its own: bash scripts/targets_env.sh {name}"
    )


def _has_cuda_plugin() -> bool:
    names = ("jax_cuda12_plugin", "jax_cuda13_plugin")
    return any(importlib.util.find_spec(name) is not None for name in names)


def mesh(target: Target) -> Mesh:
    """The devices of a target, which nothing can run on unless they are those of this machine.

    Args:
        target: the target.

    Returns:
        A mesh of all its devices, with the axis `ddjax.parallel.AXIS`.

    Raises:
        ValueError: what compiles for the target is not installed, or knows no such devices.
    """
    if (lacks := missing(target)) is not None:
        raise ValueError(lacks)
    if target.platform == "cpu":
        return parallel.make_mesh(jax.devices("cpu")[: target.num_devices])
    try:
        found = _topology(target).devices
    except jax.errors.JaxRuntimeError as error:
        raise ValueError(
            f"target: expected a topology that XLA knows; got {target.topology!r} ({error}). See {EXAMPLES}."
        ) from error
    return parallel.make_mesh(found)


def _topology(target: Target) -> Any:
    if target.platform == "gpu":
        return topologies.get_topology_desc(
            platform="cuda", target_config=target.config, topology=target.topology
        )
    # Without these libtpu asks a metadata server who it is, and waits for an answer.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-8")
    sizes = tuple(map(int, target.topology.partition(":")[2].split("x")))
    bounds = {"chips_per_host_bounds": (*sizes, 1)[:3]} if math.prod(sizes) < 4 else {}
    return topologies.get_topology_desc(topology_name=target.topology, platform="tpu", **bounds)


def stay_at_home() -> None:
    """Have JAX look for no device but the CPU, and keep no program; before the first use of a device.

    A program for devices that are not there can be written to JAX's cache and not be read back, of which JAX
    warns each time.
    """
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_compilation_cache", False)


UNTRIED = {"xla_gpu_autotune_level": 0}
"""The compiler's options for GPUs that are not there: kernels are chosen without trying any."""
UNTILED = "output tile sizes"
"""What XLA says where its own kernel has no tiles for a product, as of LeNet's gradients for an H100."""


class Abroad(Site):
    """The devices of a target, and the shapes of what would lie on them."""

    __slots__ = ()

    @classmethod
    def at(cls, target: Target, data: RealData, *, num_inits: int) -> Abroad:
        """The site of a run on a target, on as many of its devices as a run would take.

        Args:
            target: the target.
            data: the real data and the arrays that go with them, or their shapes.
            num_inits: M, the number of θ0 in an outer step.

        Returns:
            The site.

        Raises:
            ValueError: what compiles for the target is not installed, or the devices of several machines do
                not divide M.
        """
        whole = mesh(target)
        devices = list(whole.devices.flat)
        if len({device.process_index for device in devices}) > 1:
            parallel.check_divides(num_inits, len(devices))
        used = parallel.make_mesh(devices[: math.gcd(num_inits, len(devices))])
        shapes = _shapes(data, parallel.replicated(used))
        return cls(used, shapes, *jax.random.split(jax.random.key(0)))

    def start(self, problem: Problem) -> EngineState:
        """The shapes of the state before the first outer step, on the mesh."""
        state = jax.eval_shape(lambda key: init_state(problem, key), self.init_key)
        shared = _shapes(state._replace(slots=()), parallel.replicated(self.mesh))
        return shared._replace(slots=_shapes(state.slots, parallel.split_slots(self.mesh)))

    def compile(self, problem: Problem) -> tuple[Any, Cost]:
        """Compile outer steps as a run on the target does.

        A GPU chooses the kernel of a product by trying several. Here XLA's own is taken, and where it has no
        tiles for the product, the vendor's library for all products.

        Args:
            problem: the method, form, optimiser and sizes.

        Returns:
            The compiled program, which runs nowhere else, and the cost.

        Raises:
            ValueError: the parts of the problem do not fit together or to the data; nothing was compiled.
        """
        check_problem(problem, self.key, self.data)
        key = _shapes(self.key, parallel.replicated(self.mesh))
        start = self.start(problem)

        def by(options: Mapping[str, Any]) -> tuple[Any, Cost]:
            return compile_program(problem, self.mesh, start, self.data, key, options=options)

        with warnings.catch_warnings():
            # JAX's cache of programs can write one for devices that are not there, and not read it back.
            warnings.filterwarnings("ignore", "Error reading persistent compilation cache")
            if platforms.of(self.mesh.devices.flat[0]) != "gpu":
                return by({})
            try:
                return by(UNTRIED)
            except jax.errors.JaxRuntimeError as error:
                if UNTILED not in str(error):
                    raise
            return by({**UNTRIED, "xla_gpu_enable_triton_gemm": False})

    def program(self, problem: Problem) -> hlo.Program:
        """Compile outer steps as a run on the target does, and read the compiled program.

        Args:
            problem: the method, form, optimiser and sizes.

        Returns:
            The program.

        Raises:
            ValueError: the parts of the problem do not fit together or to the data; nothing was compiled.
        """
        compiled, _ = self.compile(problem)
        return hlo.read(compiled.as_text())


def _shapes(tree: PyTree, sharding: NamedSharding) -> PyTree:
    """The shapes of arrays, with their division over devices."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)


class Bound(NamedTuple):
    """The least seconds of one outer step, by each of the three things that take time.

    Attributes:
        products: the time of the matrix products and convolutions at the target's peak; 0 where unknown.
        memory: the time of reading and writing the arrays of all kernels, each once and none in a cache, at
            the bandwidth of the memory; 0 where unknown.
        links: the time of sending what devices send, at the bandwidth of one device; 0 where unknown.
    """

    products: float
    memory: float
    links: float

    @property
    def seconds(self) -> float:
        """The largest of the three, which may all happen at the same time."""
        return max(self)


class Report(NamedTuple):
    """What a compiler tells of outer steps on a target; every number is of one device and one outer step.

    Attributes:
        target: the target.
        cost: the memory of one device, and the seconds that compiling took.
        program: the compiled program.
        num_devices: D, the number of devices that the slots are divided over.
        arithmetic: the operations of matrix products and convolutions.
        counted: the operations and the bytes that the compiler counts, each loop's body once, as `"flops"`
            and `"bytes accessed"`; empty where it counts none.
    """

    target: Target
    cost: Cost
    program: hlo.Program
    num_devices: int
    arithmetic: int
    counted: Mapping[str, float]

    @property
    def sent_bytes(self) -> int:
        """The bytes that one device sends in an outer step, where reductions go round a ring of devices."""
        part = 2 * (self.num_devices - 1) / self.num_devices
        return round(sum(part * one.num_bytes * one.times for one in self.program.collectives()))

    def bound(self, precision: str = "default") -> Bound:
        """The least time of an outer step.

        Args:
            precision: the precision of the products, a key of the target's `peak_flops`.

        Returns:
            The bound: not a prediction, which would need a device to measure on.
        """
        target = self.target
        peak = target.peak_flops.get(precision, target.peak_flops.get("default", math.inf))
        return Bound(
            self.arithmetic / peak,
            self.program.traffic() / (target.memory_bandwidth or math.inf),
            self.sent_bytes / (target.link_bandwidth or math.inf),
        )


def report(target: Target, site: Site, problem: Problem) -> Report:
    """Compile outer steps for a target, and read what the compiler says of them.

    Args:
        target: the target.
        site: the site of a run on the target, from `Abroad.at`.
        problem: the method, form, optimiser and sizes.

    Returns:
        The report.

    Raises:
        ValueError: the parts of the problem do not fit together or to the data.
        jax.errors.JaxRuntimeError: the problem does not compile for the target.
    """
    compiled, cost = site.compile(problem)
    counted = compiled.cost_analysis() or {}
    names = ("flops", "bytes accessed")
    return Report(
        target,
        cost,
        hlo.read(compiled.as_text()),
        site.mesh.size,
        cost.flops // site.mesh.size,
        {name: counted[name] for name in names if counted.get(name, -1) >= 0},
    )


def limit(target: Target) -> int | None:
    """The bytes of one device that a program may take.

    Args:
        target: the target.

    Returns:
        What the target says, else what the devices of this machine say; None where neither does.
    """
    if target.memory_bytes is not None or target.platform != "cpu":
        return target.memory_bytes
    return memory.device_memory(jax.devices("cpu")[: target.num_devices])

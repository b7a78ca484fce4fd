"""What an outer step costs: compilation, start-up, time, memory and arithmetic.

    python scripts/bench.py                                      # W1 to W6
    python scripts/bench.py --suite=scaling --json=scaling.json  # T, M, devices, ConvNet-3
    python scripts/bench.py --suite=gpu --json=gpu.json          # what has to be decided on a GPU
    python scripts/bench.py --suite=gpu --seconds=0 --process_limit=60  # the same, tried on a CPU
    python scripts/bench.py --suite=gpu-short --jobs=16 --seconds=1     # the most of that
    python scripts/bench.py --untimed --threads=1 --json=memory.json    # the memory alone, of one thread
    python scripts/bench.py --items=W1,M4 --conv_form=im2col,banded --memory=reverse,mixed
    python scripts/bench.py --compare=old.json                   # measure, then print new / old
    python scripts/bench.py --compare=old.json,new.json          # only compare

An item is a problem of one size. Where no flag chooses otherwise, an item runs as the library would run it.
Each item is measured in two processes. The first process starts with an empty compilation cache and gives the
seconds of compilation (tracing included), XLA's temporary buffers and the arithmetic. The second process
finds that cache filled and gives the rest:

- start-up: seconds from the start of the process to the end of the first outer step: imports, loading the
  data, and the rest (JAX's backend, θ0 and φ, the cached program, the step itself).
- milliseconds of one outer step: quartiles over dispatches of about half a second, after a warm-up.
- milliseconds of the forward pass of the real minibatch alone, for methods that regress on the features of a
  finite network: the least that their step can take.
- peak memory above what was held when the data were on the device: resident memory of the host, and on an
  accelerator the memory of the device. Where the kernel cannot reset the high-water mark of the process
  (Linux can), only what exceeds the mark of the start-up is seen.
- memory of a call, on a CPU under Linux: the most resident memory in a call of one outer step, above what was
  held before that call. The program has run once, and what it and compiling left over has been given back, so
  that on one core (`--untimed --threads=1`) this is what XLA predicts: its temporary buffers, and results
  that take over no argument. On several cores products pack factors besides, which XLA does not count;
  `packed_bytes` are the most that Eigen's rules give (`ddjax.packing`). How much of them is held at a time,
  and what the allocator keeps of blocks that were freed, differs from call to call.

On a CPU the processes ask for huge pages as the launchers do (`ddjax.host_memory`), and do not where
GLIBC_TUNABLES is `glibc.malloc.hugetlb=0`; `huge_pages` in the record's hardware says which.

Arithmetic counts two operations for each multiplication of matrix products and convolutions in the traced
program, scans times their length, over all devices. Convolutions that are left to XLA count as XLA counts
them, without the zeros of padding and dilation. `flops` is the program as it runs; `arithmetic_flops` is the
same item with `--conv_form=lax --memory=reverse`: no surplus products, nothing computed twice. The part of
peak is arithmetic_flops per second, divided by the speed of the best dense float32 product (2,048 and 4,096
cubed, at the item's precision) that the machine reached in the same run. A CPU counts as one device, however
many devices JAX makes of it.

`--jobs=8` compiles eight items side by side and times the steps of one at a time; the seconds of compilation
and of the start-up then depend on the neighbours, and on a GPU so does what XLA finds fastest.

Where MNIST or CIFAR-10 is missing, random bytes of the same shape stand in, and the record says so. Exit
codes: 0 measured, 1 an item failed, 2 bad flags.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import functools
import gc
import itertools
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from ddjax import (
    augment,
    checks,
    engine,
    forms,
    host_memory,
    inits,
    methods,
    networks,
    parallel,
    platforms,
    report,
)
from ddjax import data as real_data
from ddjax.arithmetic import speed_of_product
from ddjax.experts import Experts, Flat
from ddjax.launch import Launcher, flag
from ddjax.methods.matching import EXAMPLES_PER_CHUNK
from ddjax.methods.trajectory_matching import Window, trajectory_matching
from ddjax.networks.ops import CONV_FORMS
from ddjax.plan import COMPILE_ERRORS, Plan, Site, default_plan, flops_of_step
from ddjax.run import DivergedError
from ddjax.types import Form, InitDistribution, Method, Network
from ddjax.unroll import STRATEGIES

Record = dict[str, Any]
"""The measurements of one item, or of all items, as JSON."""

CALL_SECONDS = 0.5
MIN_CALLS = 3
MEMORY_CALLS = 8
"""Calls whose memory is measured."""
HORIZON = 10_000
"""Outer steps of the cosine schedule, enough for the learning rates to hardly fall while steps are timed."""


# What can be measured.


@dataclasses.dataclass(frozen=True)
class Item:
    """A problem of one size; steps, epochs and learning rates matter to the methods that unroll only.

    Attributes:
        method: the name of the method.
        network: the name of the network, with settings as command lines have them.
        dataset: the name of the data set, one of `SHAPES`.
        images_per_class: the distilled images of each class, of methods that regress, match trajectories or
            learn labels.
        inner_steps: S, the number of inner steps that have images of their own; the number of steps of the
            student where trajectories are matched.
        inner_epochs: E, the number of passes over these steps.
        inner_lr: the learned learning rates at the start.
        fixed: whether p(θ0) is a single θ0.
        num_inits: M, the number of initial weights in one outer step.
        batch_size: N, the number of real images in a minibatch; for the methods that match, of each class.
        num_devices: the number of devices.
    """

    method: str = "unrolled"
    network: str = "lenet"
    dataset: str = "mnist"
    inner_steps: int = 10
    inner_epochs: int = 3
    inner_lr: float = 0.02
    fixed: bool = True
    num_inits: int = 1
    batch_size: int = 1024
    num_devices: int = 1
    images_per_class: int = 1


_FREPO = "convnet:width=32:norm=none:growth=2:norm_place=before"

ITEMS: dict[str, Item] = {
    "W1": Item(),
    "W2": Item(fixed=False, num_inits=4),
    "W3": Item(inner_steps=1),
    "W4": Item(network="alexcifar", dataset="cifar10", inner_lr=0.001),
    "W5": Item(method="gradient_matching", network="convnet", fixed=False, batch_size=256),
    "W6": Item(method="distribution_matching", network="convnet", fixed=False, batch_size=256),
    **{f"T{T}": Item(inner_epochs=T // 10) for T in (10, 30, 100, 300, 3000)},
    **{f"M{M}": Item(fixed=False, num_inits=M) for M in (1, 4, 16, 64)},
    **{f"D{D}": Item(fixed=False, num_inits=4, num_devices=D) for D in (1, 2, 4)},
    "convnet3": Item(network="convnet", inner_steps=2, inner_epochs=1, batch_size=32),
    **{
        f"KIP{count}": Item(
            "kernel_inducing_points", "infinite_mlp", fixed=False, batch_size=500, images_per_class=count
        )
        for count in (1, 10)
    },
    "KIPconv": Item("kernel_inducing_points", "infinite_convnet:pooling=0", fixed=False, batch_size=20),
    # A block of the kernel's matrix, 10 images against 100, with its gradient; with pooling for a GPU.
    "KIPblock": Item("kernel_inducing_points", "infinite_convnet:pooling=0", fixed=False, batch_size=100),
    "KIPpool": Item("kernel_inducing_points", "infinite_convnet", fixed=False, batch_size=100),
    # The published real batch has 1,024 images; 256 is what short runs on a CPU take.
    "FREPO": Item("feature_regression", _FREPO, fixed=False, batch_size=256),
    "FREPO1024": Item("feature_regression", _FREPO, fixed=False, batch_size=1024),
    "MTT": Item("trajectory_matching", "convnet", fixed=False, inner_steps=50),
    "RCIG": Item("implicit_regression", f"{_FREPO}:activation=sharp_softplus", fixed=False, batch_size=256),
    "LD": Item("label_distillation", fixed=False, images_per_class=10),
    "LDRR": Item("ridge_label_distillation", fixed=False, images_per_class=10),
}
SHAPES = {"mnist": (60_000, 28, 28, 1), "cifar10": (50_000, 32, 32, 3)}


class Case(NamedTuple):
    """An item with choices; None leaves a choice to the library.

    Attributes:
        item: the name of the item, one of `ITEMS`.
        conv_form: the form in which convolutions are computed.
        memory: the memory strategy.
        slots_per_chunk: the number of initial weights that train at once.
        precision: the precision of float32 products, as `jax_default_matmul_precision` names them.
    """

    item: str
    conv_form: str | None = None
    memory: str | None = None
    slots_per_chunk: int | str | None = None
    precision: str | None = None

    @property
    def given(self) -> dict[str, Any]:
        """The choices that are not left to the library, by the names of the flags."""
        return {k: v for k, v in self._asdict().items() if k != "item" and v is not None}

    @property
    def name(self) -> str:
        """The name of the case in tables and records."""
        return " ".join([self.item, *(f"{k}={v}" for k, v in self.given.items())])

    def plan(self, default: Plan) -> Plan:
        """The default plan with the given choices.

        Args:
            default: the plan that the library would take.

        Returns:
            The plan.

        Raises:
            ValueError: there is no such choice.
        """
        return dataclasses.replace(default, **{k: v for k, v in self.given.items() if k != "precision"})


def _of_gpu() -> Iterable[Case]:
    yield from map(Case, ("W1", "W2", "W3", "W4", "W5", "W6"))
    forms = [form for form in CONV_FORMS if form != "auto"]
    for count, form in itertools.product((4, 16, 64), forms):
        for chunk in (1, count):
            yield Case(f"M{count}", conv_form=form, slots_per_chunk=chunk)
    for item, precision in itertools.product(("W1", "W2", "W4"), ("highest", "tensorfloat32", "bfloat16")):
        yield Case(item, precision=precision)
    for memory in STRATEGIES:
        yield Case("T300", memory=memory)
    yield from map(Case, ("KIPblock", "KIPpool"))


def _of_gpu_in_short() -> Iterable[Case]:
    yield from map(Case, ("W1", "W2", "W3", "W4", "W5", "W6", "FREPO", "RCIG", "KIP10", "MTT"))
    yield from (Case("M16", conv_form=form) for form in CONV_FORMS if form != "auto")
    yield Case("M16", slots_per_chunk=1)
    yield from (Case(item, precision="highest") for item in ("W1", "W5", "W6"))


SUITES: dict[str, list[Case]] = {
    "targets": [Case(name) for name in ITEMS if name.startswith("W")],
    "scaling": [
        Case(name) for name in ITEMS if not name.startswith("W") and name not in ("T3000", "KIPpool")
    ],
    "gpu": list(_of_gpu()),
    "gpu-short": list(_of_gpu_in_short()),
}
SUITES["all"] = list(dict.fromkeys(itertools.chain(*SUITES.values())))


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of the benchmark."""

    suite: str = flag(
        "targets", "W1 to W6; T, M, D, convnet3; choices on a GPU, all or few; all", choices=tuple(SUITES)
    )
    items: str | None = flag(None, f"a list instead of a suite: {','.join(ITEMS)}")
    conv_form: str = flag("auto", f"a list of {','.join(CONV_FORMS)}; all combinations of lists are run")
    memory: str = flag("auto", f"a list of auto,{','.join(STRATEGIES)}")
    slots_per_chunk: str = flag("auto", "a list of auto and whole numbers")
    precision: str = flag("auto", "a list of auto,highest,tensorfloat32,bfloat16,... of float32 products")
    seconds: float = flag(10.0, "of timed steps for each item", low=0)
    untimed: bool = flag(False, "measure the memory that is predicted and taken, in one process, and no time")
    threads: int = flag(0, "cores of a CPU on which --untimed runs a call; 0 for all", low=0)
    jobs: int = flag(
        1, "of items that are compiled side by side; their steps are timed one item at a time", low=1
    )
    process_limit: float | None = flag(
        None, "seconds that one process of an item may take; what takes longer is skipped, and says so", low=1
    )
    data_dir: str | None = flag(None, "where TFDS data lie; $TFDS_DATA_DIR by default")
    json: str | None = flag(None, "file for the record")
    compare: str | None = flag(None, "an older record to compare with; OLD,NEW to measure nothing")
    phase: str | None = flag(
        None,
        "one measurement, in this process; what the script starts",
        choices=("compile", "run", "memory", "peak"),
    )
    started: float | None = flag(None, "when this process was started, seconds since 1970")
    turn: str | None = flag(None, "file whose lock the process holds while it times steps")


def cases(config: Config) -> list[Case]:
    """The cases that the flags ask for.

    Args:
        config: the settings.

    Returns:
        The cases, each once.

    Raises:
        ValueError: there is no such item or choice.
    """
    names = config.items.split(",") if config.items is not None else []
    for name in names:
        checks.choice("items", name, ITEMS)
    lists = [[(k, _value(text)) for text in getattr(config, k).split(",")] for k in Case._fields[1:]]
    combinations = [{k: v for k, v in row if v is not None} for row in itertools.product(*lists)]
    chosen = [Case(name) for name in names] or SUITES[config.suite]
    found = [case._replace(**choices) for case in chosen for choices in combinations]
    for case in found:
        _check(case)
    return list(dict.fromkeys(found))


def _value(text: str) -> int | str | None:
    return None if text == "auto" else int(text) if text.isdecimal() else text


def _check(case: Case) -> None:
    case.plan(Plan())
    try:
        with jax.default_matmul_precision(case.precision):
            pass
    except ValueError as error:
        raise ValueError(
            f"precision: expected auto, highest, tensorfloat32, bfloat16 or another that JAX knows; got "
            f"{case.precision!r}. Its jax_default_matmul_precision lists them."
        ) from error


# One measurement, in a process of its own.


def load(item: Item, data_dir: str | None) -> tuple[real_data.Dataset, str]:
    """The data of an item; random bytes of the same shape where the data are not prepared.

    Args:
        item: the item.
        data_dir: the directory of TFDS data; None for the directory that the environment names.

    Returns:
        The data, and their name, which is `"random"` for random bytes.
    """
    try:
        return real_data.load(item.dataset, data_dir=data_dir), item.dataset
    except FileNotFoundError:
        images = np.random.default_rng(0).integers(0, 256, SHAPES[item.dataset], np.uint8)
        labels = np.arange(len(images)) % 10
        return real_data.from_arrays(images, labels, images[:100], labels[:100]), "random"


def network_of(item: Item, plan: Plan) -> Network:
    """The network of an item.

    Args:
        item: the item.
        plan: the plan, with the form of convolutions.

    Returns:
        The network.
    """
    shape, num_classes = SHAPES[item.dataset][1:], 10
    name, *settings = item.network.split(":")
    if settings:
        return networks.by_text(item.network, shape, num_classes)
    return networks.by_name(name, shape, num_classes, conv_form=plan.conv_form)


def problem_of(item: Item, plan: Plan) -> engine.Problem:
    """The computation of one outer step of an item.

    Args:
        item: the item.
        plan: the plan to compute by.

    Returns:
        The problem.
    """
    network = network_of(item, plan)
    distribution = inits.fixed(network, jax.random.key(0)) if item.fixed else inits.random(network)
    builds = {"unrolled": unrolled_parts, "trajectory_matching": trajectory_parts}
    builds |= dict.fromkeys(REGRESSIONS, regression_parts) | dict.fromkeys(RELABELLINGS, label_parts)
    build = builds.get(item.method, matching_parts)
    method, form, optimizer, clip_norm = build(item, plan, network, distribution)
    return engine.Problem(method, form, optimizer, item.num_inits, clip_norm, plan.slots_per_chunk)


ItemParts = tuple[Method, Form, optax.GradientTransformation, float | None]
"""The method, φ's form, the optimiser that moves φ, and the bound on the gradient's norm."""


def unrolled_parts(item: Item, plan: Plan, network: Network, distribution: InitDistribution) -> ItemParts:
    """The parts of an item that differentiates through training.

    Args:
        item: the item.
        plan: the plan, with the memory strategy.
        network: the network that trains on φ.
        distribution: p(θ0).

    Returns:
        The parts.
    """
    memory = STRATEGIES[plan.memory or "reverse"]
    method = methods.unrolled(network, distribution, batch_size=item.batch_size, memory=memory)
    form = forms.pixels(
        network.image_shape,
        network.num_classes,
        inner_steps=item.inner_steps,
        inner_epochs=item.inner_epochs,
        inner_lr=item.inner_lr,
    )
    return method, form, *outer_of(method, form)


def trajectory_parts(item: Item, plan: Plan, network: Network, distribution: InitDistribution) -> ItemParts:
    """The parts of an item that matches trajectories, all images in each step, with DSA's augmentation.

    The experts are two weights near each other, because no time depends on how they were trained.

    Args:
        item: the item.
        plan: the plan, with the memory strategy; mixed where no flag chooses.
        network: the network of experts and student.
        distribution: p(θ0).

    Returns:
        The parts.
    """
    flat, (start_key, move_key) = Flat.of(network), jax.random.split(jax.random.key(0))
    start = jax.jit(lambda key: flat.vector(distribution.sample(key)))(start_key)
    weights = np.stack([start, start + 0.01 * jax.random.normal(move_key, start.shape)])
    method = trajectory_matching(
        network,
        Experts([weights], np.arange(2), np.zeros(1)),
        inner_steps=item.inner_steps,
        span=1,
        window=Window(0, 1),
        memory=STRATEGIES[plan.memory or "mixed"],
        augmentation=augment.by_name(augment.strategy_for(item.dataset), network.image_shape),
    )
    form = forms.pixels(
        network.image_shape,
        network.num_classes,
        inner_steps=1,
        inner_epochs=1,
        images_per_class_per_step=item.images_per_class,
        inner_lr=item.inner_lr,
    )
    return method, form, *outer_of(method, form)


def outer_of(method: Method, form: Form) -> tuple[optax.GradientTransformation, float | None]:
    """The method's own outer optimiser for a form, and the method's bound on the gradient's norm.

    Args:
        method: the method.
        form: the form of φ.

    Returns:
        The optimiser and the bound; the latter is None for no bound.
    """
    outer = method.outer(HORIZON)
    return forms.optimizer_for(form, outer), outer.clip_norm


REGRESSIONS = {
    "feature_regression": methods.feature_regression,
    "implicit_regression": methods.implicit_regression,
    "kernel_inducing_points": methods.kernel_inducing_points,
}
"""The methods that solve a regression on φ, by name."""


def regression_parts(item: Item, plan: Plan, network: Network, distribution: InitDistribution) -> ItemParts:
    """The parts of an item that regresses, with the published settings but for the size of the minibatch.

    Args:
        item: the item.
        plan: the plan, which these parts do not depend on.
        network: the network whose features or kernel are used.
        distribution: p(θ0).

    Returns:
        The parts.
    """
    del plan
    method = REGRESSIONS[item.method](network, distribution, batch_size=item.batch_size)
    form = forms.pixels(
        network.image_shape,
        network.num_classes,
        inner_steps=1,
        images_per_class_per_step=item.images_per_class,
        inner_lr=None,
        label_form="centred",
    )
    return method, form, *outer_of(method, form)


RELABELLINGS = {
    "label_distillation": methods.label_distillation,
    "ridge_label_distillation": methods.ridge_label_distillation,
}
"""The methods that learn the labels of fixed images, by name."""


def label_parts(item: Item, plan: Plan, network: Network, distribution: InitDistribution) -> ItemParts:
    """The parts of an item that learns labels, with the published settings; the fixed images are noise.

    Args:
        item: the item.
        plan: the plan, which these parts do not depend on.
        network: the network that trains beside the labels.
        distribution: p(θ0).

    Returns:
        The parts.
    """
    del plan
    method = RELABELLINGS[item.method](network, distribution, batch_size=item.batch_size)
    count = item.images_per_class * network.num_classes
    noise = np.random.default_rng(0).normal(size=(1, count, *network.image_shape)).astype(np.float32)
    uniform = np.full((1, count, network.num_classes), 1 / network.num_classes, np.float32)
    form = forms.labels(noise, network.num_classes, initial_labels=uniform)
    return method, form, *outer_of(method, form)


def matching_parts(item: Item, plan: Plan, network: Network, distribution: InitDistribution) -> ItemParts:
    """The parts of an item that matches, as published: DC without augmentation, DM with DSA's.

    φ has one image per class.

    Args:
        item: the item.
        plan: the plan, which these parts do not depend on.
        network: the network under which images are compared.
        distribution: p(θ0).

    Returns:
        The parts.
    """
    del plan
    if item.method == "gradient_matching":
        method = methods.gradient_matching(network, distribution, batch_size=item.batch_size)
    else:
        augmentation = augment.by_name(augment.strategy_for(item.dataset), network.image_shape)
        method = methods.distribution_matching(
            network, distribution, batch_size=item.batch_size, augmentation=augmentation
        )
    form = forms.pixels(network.image_shape, network.num_classes, inner_steps=1, inner_lr=None)
    return method, form, *outer_of(method, form)


def measure(config: Config) -> Record:
    """Measure one phase of one case, in this process.

    Args:
        config: the settings.

    Returns:
        The measurements; `skipped` and why where there are too few devices.
    """
    started = time.time() if config.started is None else config.started
    host_memory.return_large_blocks()
    startup = {"imports": time.time() - started}
    (case,) = cases(config)
    item = ITEMS[case.item]
    jax.config.update("jax_default_matmul_precision", case.precision)
    jax.config.update("jax_num_cpu_devices", item.num_devices)
    if config.phase == "memory" and config.threads and hasattr(os, "sched_setaffinity"):
        # Before JAX's backend starts, which makes a thread for each core that the process may use.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: config.threads])
    devices = jax.devices()
    if len(devices) < item.num_devices:
        return {"skipped": f"expected {item.num_devices} devices; got {len(devices)}, {devices[0].platform}"}
    mesh = parallel.make_mesh(devices[: item.num_devices])
    began = time.time()
    dataset, source = load(item, config.data_dir)
    data = parallel.place(real_data.to_device(dataset.train), parallel.replicated(mesh))
    site = Site(mesh, jax.block_until_ready(data), *jax.random.split(jax.random.key(1)))
    startup["data"] = time.time() - began
    unrolls = item.method == "unrolled"
    plan = case.plan(default_plan(platforms.current(), num_inits=item.num_inits, unrolls=unrolls))
    choices = {**plan.as_dict(), "precision": case.precision or "auto"}
    facts = {"choices": choices, "data": source, "devices": mesh.size}
    if config.phase == "compile":
        return facts | measure_compilation(item, plan, site)
    if config.phase == "memory":
        return facts | measure_memory(item, plan, site)
    record, first_step = measure_steps(item, plan, site, seconds=config.seconds, turn=config.turn)
    total = first_step - started
    return {"startup_seconds": {**startup, "rest": total - sum(startup.values()), "total": total}, **record}


def measure_compilation(item: Item, plan: Plan, site: Site) -> Record:
    """The measurements that are known before the first step: those of compilation, and the arithmetic.

    Args:
        item: the item.
        plan: the plan to compute by.
        site: the devices and data to compile for.

    Returns:
        The measurements.
    """
    problem = problem_of(item, plan)
    _, cost = site.compile(problem)
    least = problem_of(item, dataclasses.replace(plan, conv_form="lax", memory="reverse"))
    counts = {"flops": flops_of_step(problem, site), "arithmetic_flops": flops_of_step(least, site)}
    return cost._asdict() | counts


def measure_steps(
    item: Item, plan: Plan, site: Site, *, seconds: float, turn: str | None = None
) -> tuple[Record, float]:
    """The measurements of running outer steps: their time, and the peak memory.

    Args:
        item: the item.
        plan: the plan to compute by.
        site: the devices and data to run on.
        seconds: the duration of the timed steps.
        turn: the file whose lock is held while steps are timed, so that processes side by side time one
            after another; None for no lock.

    Returns:
        The measurements, and the time at the end of the first step, in seconds since 1970.
    """
    memory = PeakMemory(site.mesh)
    dispatch, _, state = begin(item, plan, site)
    first_step = time.time()
    with taking(turn):
        times = time_steps(dispatch, site, state, seconds=seconds)
        peaks = memory.read()
        forward = time_forward(item, plan, site, seconds=seconds)
    return {"ms_per_step": times, **peaks, **forward}, first_step


def time_forward(item: Item, plan: Plan, site: Site, *, seconds: float) -> Record:
    """Milliseconds of the forward pass of the real minibatch alone, the least that a regression can take.

    Args:
        item: the item.
        plan: the plan to compute by.
        site: the devices and data to run on.
        seconds: the duration of the timed passes.

    Returns:
        The median by name; nothing for items that do not regress on the features of a finite network.
    """
    network = network_of(item, plan)
    if item.method not in REGRESSIONS or network.embed is None:
        return {}
    embed = network.embed
    chunk = EXAMPLES_PER_CHUNK if platforms.current() == "cpu" else item.batch_size

    @functools.partial(jax.jit, compiler_options=engine.compiler_options(platforms.current()))
    def passes(params: Any, inputs: jax.Array) -> jax.Array:
        chunks = inputs.reshape(-1, chunk, *inputs.shape[1:])
        return jax.lax.map(lambda some: embed(params, some), chunks)

    params = jax.jit(network.init)(jax.random.key(0))
    inputs = jax.random.normal(jax.random.key(1), (item.batch_size, *network.input_shape))
    jax.block_until_ready(passes(params, inputs))

    def timed() -> float:
        began = time.perf_counter()
        jax.block_until_ready(passes(params, inputs))
        return 1000 * (time.perf_counter() - began)

    return {"forward_ms": float(np.median(samples_of(timed, seconds=seconds)))}


def begin(item: Item, plan: Plan, site: Site) -> tuple[Any, engine.Cost, engine.EngineState]:
    """Compile the outer steps of an item, and run the first one.

    Args:
        item: the item.
        plan: the plan to compute by.
        site: the devices and data to run on.

    Returns:
        The compiled outer steps, their cost, and the state after the first one.

    Raises:
        DivergedError: the step is not finite.
    """
    problem = problem_of(item, plan)
    state = site.start(problem)
    dispatch, cost = engine.compile_dispatch(problem, site.mesh, state, site.data, site.key)
    return dispatch, cost, advance(dispatch, site, state, 1)


def measure_memory(item: Item, plan: Plan, site: Site) -> Record:
    """The memory that the compiler predicts, and the most that a call takes above what was held before it.

    Of a few calls the least counts: what threads and the allocator take besides, above all on a busy machine,
    differs from call to call and only adds.

    Args:
        item: the item.
        plan: the plan to compute by.
        site: the devices and data to run on.

    Returns:
        The bytes by name; `call_bytes` is None on devices with a memory of their own, and where the
        high-water mark of the process cannot be reset.
    """
    dispatch, cost, state = begin(item, plan, site)
    names = ("temporary_bytes", "packed_bytes", "resident_bytes")
    predicted = {name: getattr(cost, name) for name in names}
    if platforms.of(site.mesh.devices.flat[0]) != "cpu" or not HIGH_WATER_RESET.exists():
        return predicted | {"call_bytes": None}
    taken = []
    for _ in range(MEMORY_CALLS):
        host_memory.return_freed()
        memory = PeakMemory(site.mesh)
        state = advance(dispatch, site, state, 1)
        taken.append(memory.read()["peak_rss_bytes"])
    return predicted | {"call_bytes": min(taken)}


@contextlib.contextmanager
def taking(turn: str | None) -> Iterator[None]:
    """Hold the lock of a file, which one process at a time can.

    Args:
        turn: the path of the file; None for no lock.

    Yields:
        Nothing.
    """
    if turn is None:
        yield
        return
    with Path(turn).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def advance(dispatch: Any, site: Site, state: engine.EngineState, steps: int) -> engine.EngineState:
    """Run a number of outer steps, and wait for their end.

    Args:
        dispatch: the compiled outer steps.
        site: the devices and data to run on.
        state: the state to start from.
        steps: the number of outer steps.

    Returns:
        The state after these steps.

    Raises:
        DivergedError: a step is not finite.
    """
    stop = np.int32(int(state.step) + steps)
    state, _, finite = jax.block_until_ready(dispatch(state, site.data, site.key, stop))
    if not bool(finite):
        raise DivergedError(f"outer step {int(state.step) + 1} is not finite; its time would say nothing.")
    return state


def samples_of(timed: Callable[[], float], *, seconds: float) -> list[float]:
    """What a function returns when it is called again and again, a few times in any case.

    Args:
        timed: the function.
        seconds: the duration of the calls.

    Returns:
        The values.
    """
    samples: list[float] = []
    end = time.monotonic() + seconds
    while len(samples) < MIN_CALLS or time.monotonic() < end:
        samples.append(timed())
    return samples


def time_steps(dispatch: Any, site: Site, state: engine.EngineState, *, seconds: float) -> Record:
    """Milliseconds of one outer step, over n dispatches.

    Args:
        dispatch: the compiled outer steps.
        site: the devices and data to run on.
        state: the state to start from.
        seconds: the duration of the timed steps; a few dispatches are timed in any case.

    Returns:
        Median, minimum and quartiles, n, and the number of steps in a dispatch.
    """

    def timed(steps: int) -> float:
        nonlocal state
        began = time.perf_counter()
        state = advance(dispatch, site, state, steps)
        return time.perf_counter() - began

    steps, took = 1, timed(1)
    while took < CALL_SECONDS / 2 and steps < engine.DISPATCH_CAPACITY:
        steps = min(engine.DISPATCH_CAPACITY, math.ceil(steps * CALL_SECONDS / took))
        took = timed(steps)
    samples = samples_of(lambda: 1000 * timed(steps) / steps, seconds=seconds)
    low, q1, median, q3 = np.percentile(samples, (0, 25, 50, 75)).tolist()
    return {"median": median, "min": low, "q1": q1, "q3": q3, "n": len(samples), "steps_per_call": steps}


HIGH_WATER_RESET = Path("/proc/self/clear_refs")
"""The file by which Linux resets the high-water mark of the resident memory of a process."""


class PeakMemory:
    """The most memory that the host and the fullest device hold, above what they held at the start.

    The start is when this object is made.

    Args:
        mesh: the devices.
    """

    def __init__(self, mesh: Mesh):
        gc.collect()
        self._devices = mesh.devices.flat
        with contextlib.suppress(OSError):
            HIGH_WATER_RESET.write_text("5")  # The high-water mark falls to what is held now.
        self._host = _high_water()
        self._held = self._counted("bytes_in_use")

    def read(self) -> Record:
        """The two peaks in bytes; `peak_device_bytes` is None where the backend does not count."""
        pairs = zip(self._counted("peak_bytes_in_use"), self._held, strict=True)
        device = max((peak - held for peak, held in pairs), default=None)
        return {"peak_rss_bytes": _high_water() - self._host, "peak_device_bytes": device}

    def _counted(self, name: str) -> list[int]:
        return [stats[name] for device in self._devices if (stats := device.memory_stats())]


def _high_water() -> int:
    """The most resident memory so far, in bytes."""
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.exists() else []:
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measure_peak(config: Config) -> Record:
    """The machine, and its operations per second in dense float32 products at each of the precisions.

    Args:
        config: the settings, with the list of precisions.

    Returns:
        The speeds by precision as `peaks`, none where nothing is timed; and the facts about the hardware.
    """
    peaks = {}
    for precision in () if config.untimed else config.precision.split(","):
        with jax.default_matmul_precision(None if precision == "auto" else precision):
            peaks[precision] = max(speed_of_product(size, seconds=CALL_SECONDS) for size in (2048, 4096))
    return {"peaks": peaks, "hardware": report.hardware()}


# The whole benchmark, which starts those processes.


def in_child(cache: str, *, limit: float | None = None, shared: bool = False, **flags: Any) -> Record:
    """Run this script with other flags in a process of its own, which keeps compiled programs in a directory.

    Args:
        cache: the directory.
        limit: the most seconds that the process may take; None for no limit.
        shared: whether other processes use the devices at the same time.
        flags: the values, by the names of the flags.

    Returns:
        The record that the process prints; `skipped` or `failed` and why where there is none.
    """
    flags["started"] = time.time()
    # Small programs are kept too, as the launchers keep them.
    kept = {"JAX_COMPILATION_CACHE_DIR": cache, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    if shared:  # JAX would take most of a GPU's memory at once, and leave the others none.
        kept["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    try:
        done = subprocess.run(
            [sys.executable, __file__, *(f"--{k}={v}" for k, v in flags.items() if v is not None)],
            env=os.environ | kept,
            capture_output=True,
            text=True,
            check=False,
            timeout=limit,
        )
    except subprocess.TimeoutExpired:
        return {"skipped": f"the {flags['phase']} phase took longer than {limit:g} s"}
    if done.returncode:
        last = (done.stderr.strip() or "it said nothing").splitlines()[-1]
        return {"failed": f"exit code {done.returncode}: {last}"}
    return json.loads(done.stdout.splitlines()[-1])


def measure_case(case: Case, config: Config, machine: Record, *, turn: str | None = None) -> Record:
    """Measure both phases of a case, and compute the speeds that follow from them.

    Args:
        case: the case.
        config: the settings.
        machine: the measurements of the machine.
        turn: the file whose lock is held while steps are timed; None for no lock.

    Returns:
        The measurements.
    """
    flags = {"items": case.item, **case.given, "seconds": config.seconds, "data_dir": config.data_dir}
    with tempfile.TemporaryDirectory(prefix="ddjax-bench-") as cache:
        side_by_side = {"limit": config.process_limit, "shared": turn is not None}
        if config.untimed:  # a program that the caller's own cache has need not be compiled again
            own = os.environ.get("JAX_COMPILATION_CACHE_DIR", cache)
            return in_child(own, phase="memory", threads=config.threads, **side_by_side, **flags)
        record = in_child(cache, phase="compile", **side_by_side, **flags)
        if "choices" in record:
            record |= in_child(cache, phase="run", turn=turn, **side_by_side, **flags)
    if "ms_per_step" in record:
        is_shared = machine["hardware"]["device_platform"] == "cpu"
        peak = machine["peaks"][case.precision or "auto"] * (1 if is_shared else record["devices"])
        speed = 1000 * record["arithmetic_flops"] / record["ms_per_step"]["median"]
        record |= {"flops_per_second": speed, "peak_flops_per_second": peak, "part_of_peak": speed / peak}
    return record


def bench(config: Config) -> Record:
    """Measure all cases that the flags ask for; the file is written after each of them.

    Args:
        config: the settings.

    Returns:
        The record.

    Raises:
        ValueError: the directory of the file does not exist, or no device can multiply matrices.
    """
    chosen = cases(config)
    if config.json is not None and not Path(config.json).absolute().parent.is_dir():
        raise ValueError(f"json: expected a directory that exists; got {config.json}. Make it first.")
    with tempfile.TemporaryDirectory(prefix="ddjax-bench-") as cache:
        precisions = ",".join(dict.fromkeys(case.precision or "auto" for case in chosen))
        machine = in_child(cache, phase="peak", precision=precisions, untimed=config.untimed)
    if "failed" in machine:
        raise ValueError(f"device: expected one that can multiply matrices; {machine['failed']}.")
    record = {"command": sys.argv, **machine, "versions": report.versions(), "items": {}}
    with (
        tempfile.TemporaryDirectory(prefix="ddjax-bench-") as directory,
        ThreadPoolExecutor(config.jobs) as pool,
    ):
        turn = str(Path(directory, "turn")) if config.jobs > 1 else None

        def measured(case: Case) -> Record:
            print(f"{case.name} ...", file=sys.stderr, flush=True)
            return measure_case(case, config, machine, turn=turn)

        for case, found in zip(chosen, pool.map(measured, chosen), strict=True):
            record["items"][case.name] = found
            if config.json is not None:
                report.write_json(config.json, record)
    return record


# What is printed.


class Column(NamedTuple):
    """A column of the printed table.

    Attributes:
        header: the title of the column.
        path: the place of the number in the record of an item, with points between the keys.
        unit: the number that the value is divided by.
    """

    header: str
    path: str
    unit: float = 1.0

    def value(self, record: Record) -> float | None:
        """The number of an item in the unit of the column.

        Args:
            record: the measurements of the item.

        Returns:
            The number; None where the record has none.
        """
        found: Any = record
        for name in self.path.split("."):
            found = (found or {}).get(name)
        return None if found is None else found / self.unit


COLUMNS = (
    Column("ms", "ms_per_step.median"),
    Column("min", "ms_per_step.min"),
    Column("q1", "ms_per_step.q1"),
    Column("q3", "ms_per_step.q3"),
    Column("n", "ms_per_step.n"),
    Column("forward ms", "forward_ms"),
    Column("compile s", "compile_seconds"),
    Column("start s", "startup_seconds.total"),
    Column("temp MiB", "temporary_bytes", 2**20),
    Column("packed MiB", "packed_bytes", 2**20),
    Column("peak MiB", "peak_rss_bytes", 2**20),
    Column("call MiB", "call_bytes", 2**20),
    Column("device MiB", "peak_device_bytes", 2**20),
    Column("GFLOP", "flops", 1e9),
    Column("arithmetic", "arithmetic_flops", 1e9),
    Column("GFLOP/s", "flops_per_second", 1e9),
    Column("% of peak", "part_of_peak", 0.01),
)


def table(record: Record) -> str:
    """The items that were measured, and why others were not, as text.

    Args:
        record: the record of the benchmark.

    Returns:
        The text.
    """
    items = record["items"]
    rows = [[name, *(_short(column.value(item)) for column in COLUMNS)] for name, item in items.items()]
    lines = [report.table(rows, ["item", *(column.header for column in COLUMNS)])]
    peaks = (f"{peak / 1e9:.0f} GFLOP/s ({precision})" for precision, peak in record["peaks"].items())
    lines += [f"peak: {', '.join(peaks)}"] if record["peaks"] else []
    for name, item in items.items():
        lines += [f"{name}: {why}: {item[why]}" for why in ("skipped", "failed") if why in item]
        lines += [f"{name}: random data"] if item.get("data") == "random" else []
    return "\n".join(lines)


def _short(value: float | None) -> str:
    """A number with three significant digits; empty for None."""
    if value is None:
        return ""
    return np.format_float_positional(value, 3, unique=False, fractional=False, trim="-")


def ratios(old: Record, new: Record) -> str:
    """New / old for every number of the items that two records share.

    Args:
        old: the older record.
        new: the newer record.

    Returns:
        The text.
    """
    columns = [column for column in COLUMNS if column.header != "n"]
    rows = []
    for name in (name for name in new["items"] if name in old["items"]):
        pairs = [[column.value(record["items"][name]) for record in (old, new)] for column in columns]
        rows.append([name, *("" if not a or b is None else f"{b / a:.2f}" for a, b in pairs)])
    lines = ["new / old", report.table(rows, ["item", *(column.header for column in columns)])]
    lines += [f"not the same {what}" for what in ("hardware", "versions") if old[what] != new[what]]
    return "\n".join(lines)


def read(path: str) -> Record:
    """A record that `--json` wrote.

    Args:
        path: the path of the file.

    Returns:
        The record.

    Raises:
        ValueError: the file holds no such record.
    """
    try:
        record = json.loads(Path(path).read_text())
        if {"items", "hardware", "versions"} <= record.keys():
            return record
        reason = "it is something else"
    except (OSError, ValueError, AttributeError) as error:
        reason = str(error)
    raise ValueError(f"compare: expected a record that --json wrote; got {path} ({reason}).")


def in_this_process(config: Config) -> Record:
    """Measure the phase that the flags name.

    Args:
        config: the settings.

    Returns:
        The measurements; `failed` and why where memory ran out or a number was not finite.
    """
    try:
        return measure_peak(config) if config.phase == "peak" else measure(config)
    except (DivergedError, *COMPILE_ERRORS) as error:
        return {"failed": str(error).partition("\n")[0] or type(error).__name__}


def run(config: Config) -> Record:
    """Measure one phase, compare two records, or run the whole benchmark.

    Args:
        config: the settings.

    Returns:
        The last record.

    Raises:
        ValueError: the flags ask for something that does not exist.
    """
    if config.phase is not None:
        record = in_this_process(config)
        print(json.dumps(record))
        return record
    records = [read(path) for path in config.compare.split(",")] if config.compare else []
    if len(records) > 2:
        raise ValueError(f"compare: expected OLD or OLD,NEW; got {len(records)} files.")
    if len(records) < 2:
        records.append(bench(config))
        print(table(records[-1]))
    if len(records) == 2:
        print(ratios(*records))
    if any("failed" in item for item in records[-1]["items"].values()):
        sys.exit(1)
    return records[-1]


LAUNCHER = Launcher("bench", __doc__, Config, run=run)

if __name__ == "__main__":
    LAUNCHER.main()

"""What outer steps hold, send and need from MNIST to ImageNet, for devices that need not be there.

    python scripts/scale.py --target=h100 --output=experiments/results/scale-h100.json
    python scripts/scale.py --target=h100 --output=... --compile_seconds=3600    # then compile

A cell is a data set, a number of images per class and a method, with one slot on each device. What a device
holds (real data, φ with the state of its optimiser, slots) and what it sends follow from shapes, for every
cell at once. The memory to work in is read from the program that XLA compiles for the target; a cell whose
data alone exceed the device is not compiled. The record is written after each cell, and the same command goes
on where it stood.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddjax import forms, inits, methods, networks, report, targets
from ddjax.encodings import Channels
from ddjax.engine import Problem, init_state
from ddjax.launch import Launcher, flag
from ddjax.plan import COMPILE_ERRORS
from ddjax.types import Network, PyTree, RealData

Record = dict[str, Any]

DEVICES = (1, 8, 64, 256)
PER_CLASS = (1, 10, 50)
METHODS = ("unrolled", "gradient matching", "distribution matching")


class Shape(NamedTuple):
    """The sizes of a data set.

    Attributes:
        count: the number of training images.
        side: the height and width of an image.
        channels: the number of channels.
        num_classes: the number of classes.
    """

    count: int
    side: int
    channels: int
    num_classes: int


DATA = {
    "MNIST": Shape(60_000, 28, 1, 10),
    "CIFAR-10": Shape(50_000, 32, 3, 10),
    "CIFAR-100": Shape(50_000, 32, 3, 100),
    "ImageNet-1K, 64 px": Shape(1_281_167, 64, 3, 1000),
    "ImageNet-1K, 224 px": Shape(1_281_167, 224, 3, 1000),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of the table."""

    target: str = flag("h100", "the devices, one of them for each slot, see ddjax.targets")
    output: str | None = flag(None, "the file of the record", path=True)
    compile_seconds: float = flag(0.0, "seconds after which no further cell is compiled", low=0)


def real(shape: Shape) -> RealData:
    """The shapes of a training split on a device.

    Args:
        shape: the sizes of the data set.

    Returns:
        The split, without any number.
    """
    statistics = np.zeros(shape.channels, np.float32)
    rows: Any = jax.ShapeDtypeStruct((shape.count,), jnp.int32)
    images: Any = jax.ShapeDtypeStruct((shape.count, shape.side, shape.side, shape.channels), jnp.uint8)
    starts: Any = jax.ShapeDtypeStruct((shape.num_classes + 1,), jnp.int32)
    return RealData(images, rows, Channels(statistics, statistics + 1), rows, starts)


@functools.cache
def network_for(shape: Shape) -> Network:
    """A ConvNet of the published depth: 3 blocks, more where images are larger.

    Args:
        shape: the sizes of the data set.

    Returns:
        The network.
    """
    depth = max(3, shape.side.bit_length() - 3)
    return networks.convnet((shape.side, shape.side, shape.channels), shape.num_classes, depth=depth)


def problem_of(shape: Shape, method: str, per_class: int) -> Problem:
    """The computation of one outer step of one slot, with a ConvNet and the published sizes of minibatches.

    Args:
        shape: the sizes of the data set.
        method: one of `METHODS`.
        per_class: the number of distilled images of each class.

    Returns:
        The problem.
    """
    network = network_for(shape)
    size = network.image_shape
    distribution = inits.random(network)
    if method == "unrolled":
        built = methods.unrolled(network, distribution, batch_size=1024)
        layout: dict[str, Any] = {"inner_steps": per_class, "inner_epochs": 3, "inner_lr": 0.02}
    else:
        build = methods.gradient_matching if method == "gradient matching" else methods.distribution_matching
        built = build(network, distribution, batch_size=256)
        layout = {"inner_steps": 1, "images_per_class_per_step": per_class, "inner_lr": None}
    form = forms.pixels(size, shape.num_classes, **layout)
    outer = built.outer(1000)
    return Problem(built, form, forms.optimizer_for(form, outer), 1, outer.clip_norm)


def num_bytes(tree: PyTree) -> int:
    """The bytes of all arrays of a tree.

    Args:
        tree: the arrays, or their shapes.

    Returns:
        The number of bytes.
    """
    leaves = [leaf for leaf in jax.tree.leaves(tree) if not jnp.issubdtype(leaf.dtype, jax.dtypes.extended)]
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)


def held(shape: Shape, problem: Problem) -> Record:
    """What one device holds and sends, which follows from shapes.

    Args:
        shape: the sizes of the data set.
        problem: the computation of an outer step.

    Returns:
        The bytes by name; those sent by the number of devices, where averages go round a ring.
    """
    state = jax.eval_shape(lambda key: init_state(problem, key), jax.random.key(0))
    gradient = num_bytes(state.params)
    return {
        "real_bytes": num_bytes(real(shape)),
        "phi_bytes": gradient,
        "state_bytes": num_bytes(state),
        "sent_bytes": {str(count): round(2 * (count - 1) / count * gradient) for count in DEVICES},
    }


def needed(target: targets.Target, shape: Shape, problem: Problem) -> Record:
    """What the compiler says of a cell.

    Args:
        target: the devices.
        shape: the sizes of the data set.
        problem: the computation of an outer step.

    Returns:
        The bytes to work in and the seconds that compiling took; or the reason why the cell does not compile.
    """
    try:
        _, cost = targets.Abroad.at(target, real(shape), num_inits=1).compile(problem)
    except COMPILE_ERRORS as error:
        return {"refused": str(error).strip().splitlines()[0][:300]}
    return {"temporary_bytes": cost.temporary_bytes, "compile_seconds": cost.compile_seconds}


def tabulate(config: Config) -> Record:
    """The whole table.

    Args:
        config: the settings.

    Returns:
        The record.

    Raises:
        ValueError: there is no such target, or what compiles for it is missing.
    """
    targets.stay_at_home()
    target = targets.by_name(config.target)
    limit, path = targets.limit(target) or 0, Path(config.output) if config.output else None
    known: Record = json.loads(path.read_text())["problems"] if path and path.exists() else {}
    names = [(d, m, n) for n in PER_CLASS for d in DATA for m in METHODS]
    cells: Record = {}
    for data, method, per_class in names:
        name = f"{data}, {method}, {per_class}"
        cell = held(DATA[data], problem_of(DATA[data], method, per_class))
        cell["fits"] = cell["real_bytes"] + cell["state_bytes"] <= limit
        cells[name] = known.get(name, {}) | cell
    _write(path, config, limit, cells)
    began = time.monotonic()
    for data, method, per_class in names:
        cell = cells[f"{data}, {method}, {per_class}"]
        done = "temporary_bytes" in cell or "refused" in cell
        if cell["fits"] and not done and time.monotonic() - began < config.compile_seconds:
            cell |= needed(target, DATA[data], problem_of(DATA[data], method, per_class))
            print(data, method, per_class, cell, file=sys.stderr, flush=True)
            _write(path, config, limit, cells)
    return _write(path, config, limit, cells)


def _write(path: Path | None, config: Config, limit: int, cells: Record) -> Record:
    command = f"python scripts/scale.py --target={config.target}"
    about = {"hardware": report.hardware(), "versions": report.versions()}
    record = {"command": command, "target": config.target, "limit_bytes": limit, **about, "problems": cells}
    if path is not None:
        report.write_json(path, record)
    return record


LAUNCHER = Launcher("scale", __doc__, Config, run=tabulate)

if __name__ == "__main__":
    LAUNCHER.main()

"""The run that `test_survival.py` kills, interrupts and leaves without disk space, in processes of its own.

python tests/survivor.py WORKDIR [JSON of settings]
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from problems import CLASSES, SHAPE, small_form

import ddjax
from ddjax import artifact, data, inits, methods, networks, report
from ddjax.checkpoint import Store

STEPS = 300
REFUSED, FAILED, DIVERGED, PREEMPTED = 2, 74, 3, 75


def noise() -> data.Dataset:
    """A data set of random pixels with labels."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (60, *SHAPE)).astype(np.uint8), np.arange(60) % CLASSES
    return data.from_arrays(images, labels, images, labels)


def distil(workdir: Path | None, **settings: Any) -> ddjax.Run:
    """A run whose outer steps cost next to nothing, with a checkpoint after each.

    Args:
        workdir: the directory of the run; None for a run that writes nothing.
        settings: the arguments of `ddjax.distill` that differ.
    """
    network = networks.mlp(SHAPE, CLASSES, widths=(4,))
    defaults: dict[str, Any] = {
        "key": jax.random.key(0),
        "num_outer_steps": STEPS,
        "form": small_form(inner_steps=1, inner_epochs=1, inner_lr=0.1),
        "optimizer": ddjax.optimizers.adam_cosine(STEPS),
        "validation": ddjax.Validation(lambda schedule: float(np.asarray(schedule.inputs).std()), every=20),
        "reporting": ddjax.Reporting(every=1),
        "save_every": 1,
        "workdir": workdir,
    }
    defaults["method"] = methods.unrolled(network, inits.random(network), batch_size=4)
    return ddjax.distill(noise(), **(defaults | settings))


def pause(workdir: Path, at_step: int) -> ddjax.Reporting:
    """Wait at an outer step until the file `go` exists; the file `paused` appears when the run waits.

    Args:
        workdir: the directory of both files.
        at_step: the outer step to wait at.
    """

    def listener(record: Mapping[str, Any]) -> None:
        if record["step"] == at_step:
            (workdir / "paused").touch()
            while not (workdir / "go").exists():
                time.sleep(0.02)

    return ddjax.Reporting(every=1, listener=listener)


def endless(workdir: Path) -> dict[str, Any]:
    """Settings of a run whose first outer step does not end; the file `compiled` appears when it begins.

    Args:
        workdir: the directory of the file.
    """
    network = networks.mlp(SHAPE, CLASSES, widths=(4,))

    def loss(schedule: ddjax.Schedule, state: Any, batch: Any, key: jax.Array) -> tuple[jax.Array, tuple]:
        del state, batch
        start = jax.random.normal(key, (8, 8))
        turned = jax.lax.fori_loop(0, 2**31 - 1, lambda _, x: jax.numpy.sin(x @ x), start)
        assert schedule.lrs is not None
        return schedule.inputs.sum() + schedule.lrs.sum() + jax.lax.stop_gradient(turned).sum(), ()

    method = methods.unrolled(network, inits.random(network), batch_size=4)
    announce = ddjax.Reporting(announce=lambda cost: (workdir / "compiled").touch())
    return {"method": dataclasses.replace(method, loss=loss), "reporting": announce}


def starve(store: Store, at_step: int, size: int) -> ddjax.Reporting:
    """From an outer step on, let no file grow beyond a size; the step before is saved first.

    Args:
        store: the checkpoints of the run.
        at_step: the outer step.
        size: the largest size of a file, in bytes.
    """

    def listener(record: Mapping[str, Any]) -> None:
        if record["step"] == at_step:
            while saved_steps(store)[:1] != [at_step - 1]:
                time.sleep(0.01)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    return ddjax.Reporting(every=1, listener=listener)


def fill(disk: Path) -> None:
    """Fill a disk to the last byte.

    Args:
        disk: a directory on the disk.
    """
    with (disk / "filler").open("ab", buffering=0) as file:
        for size in (4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * size)


def fill_at(disk: Path, store: Store, at_step: int) -> ddjax.Reporting:
    """Fill a disk at an outer step; the two steps before are saved first.

    Args:
        disk: a directory on the disk.
        store: the checkpoints of the run.
        at_step: the outer step.
    """

    def listener(record: Mapping[str, Any]) -> None:
        if record["step"] == at_step:
            while saved_steps(store) != [at_step - 1, at_step - 2]:
                time.sleep(0.01)
            fill(disk)

    return ddjax.Reporting(every=1, listener=listener)


def saved_steps(store: Store) -> list[int]:
    """The outer steps of the checkpoints, the latest first.

    Args:
        store: the checkpoints of the run.
    """
    return [int(path.stem[5:]) for path in store.paths()]


def refused(action: Callable[[], object]) -> None:
    """Run an action and print the error that it ends with where the disk has no room.

    Args:
        action: the function to call.
    """
    try:
        action()
    except OSError as error:
        print(f"error: {error}")


def on_a_small_disk(disk: Path) -> None:
    """Fill the disk under a run that has an artifact already; all that was written before stays whole.

    Args:
        disk: a directory on a small disk.
    """
    workdir = disk / "run"
    store = Store(workdir / "checkpoints")
    whole = distil(None, num_outer_steps=30).distilled
    path = artifact.save(workdir / "distilled.npz", distil(workdir, num_outer_steps=20).distilled)
    before = path.read_bytes()
    refused(lambda: distil(workdir, num_outer_steps=30, reporting=fill_at(disk, store, at_step=25)))
    fill(disk)
    refused(lambda: artifact.save(path, whole))
    refused(lambda: distil(workdir, num_outer_steps=30))
    assert path.read_bytes() == before
    assert artifact.load(path).metadata["method"] == "unrolled"
    assert saved_steps(store) == [24, 23]
    (disk / "filler").unlink()
    artifact.save(path, distil(workdir, num_outer_steps=30).distilled)
    assert path.read_bytes() == artifact.save(disk / "whole.npz", whole).read_bytes()
    records = report.read_metrics(workdir / "metrics.jsonl")
    assert [record["step"] for record in records] == [*range(1, 31)]
    print("same bytes")


def main(workdir: Path, settings: dict[str, Any]) -> int:
    """Distil and write the artifact.

    Args:
        workdir: the directory of the run.
        settings: the kind of the run, and the arguments of `ddjax.distill` that differ.

    Returns:
        The exit code, which is that of a launcher.
    """
    if settings.pop("small_disk", False):
        on_a_small_disk(workdir)
        return 0
    if settings.pop("endless", False):
        settings |= endless(workdir)
    store = Store(workdir / "checkpoints")
    makers = {"pause": lambda at: pause(workdir, at), "starve": lambda of: starve(store, *of)}
    for name, make in makers.items():
        if name in settings:
            settings["reporting"] = make(settings.pop(name))
    try:
        artifact.save(workdir / "distilled.npz", distil(workdir, **settings).distilled)
    except (ValueError, OSError, ddjax.DivergedError, ddjax.PreemptedError) as error:
        print(f"error: {error}", file=sys.stderr)
        codes = {ValueError: REFUSED, ddjax.DivergedError: DIVERGED, ddjax.PreemptedError: PREEMPTED}
        return next((code for kind, code in codes.items() if isinstance(error, kind)), FAILED)
    return 0


if __name__ == "__main__":
    jax.config.update("jax_compilation_cache_dir", os.environ["XLA_CACHE"])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    sys.exit(main(Path(sys.argv[1]), json.loads("".join(sys.argv[2:]) or "{}")))

"""What checkpoints cost a run: LeNet on MNIST's shapes, S 10, E 3, N 1024, a fixed θ0, one at a time.

    python scripts/overhead.py

In one process, pieces of a few outer steps that begin with a checkpoint, saved as a run saves it, take turns
with pieces that do not. The time that the former take longer is what a checkpoint costs; it includes all that
the saving thread takes from the steps that run at the same time. The overhead is this time as a share of the
default interval between two checkpoints. The pixels are noise: the time of a step does not depend on them.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ddjax import data, forms, inits, methods, networks, parallel, recovery
from ddjax.checkpoint import Saver, Store
from ddjax.engine import Problem, compile_dispatch, init_state
from ddjax.run import Best, Snapshot
from ddjax.unroll import STRATEGIES

INTERVAL = 30.0
"""Seconds from one checkpoint to the next, by a run's default."""


class Setting(NamedTuple):
    """The problem that is timed: W1 of `scripts/bench.py`.

    Attributes:
        problem: the computation of an outer step.
        real: the training split on the devices.
        key: the source of the run's random draws.
    """

    problem: Problem
    real: Any
    key: jax.Array


def w1() -> Setting:
    """The problem W1, on noise in MNIST's shapes. Nothing is compiled.

    Returns:
        The problem.
    """
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60_000, 28, 28, 1), np.uint8)
    labels = np.arange(60_000) % 10
    dataset = data.from_arrays(images, labels, images[:1000], labels[:1000])
    network = networks.lenet(dataset.image_shape, dataset.num_classes)
    key, theta_key = jax.random.split(jax.random.key(0))
    distribution = inits.fixed(network, theta_key)
    method = methods.unrolled(network, distribution, batch_size=1024, memory=STRATEGIES["recompute"])
    form = forms.pixels(dataset.image_shape, dataset.num_classes, inner_steps=10, inner_epochs=3)
    outer = method.outer(1000)
    optimizer = recovery.scalable(forms.optimizer_for(form, outer))
    problem = Problem(method, form, optimizer, clip_norm=outer.clip_norm)
    return Setting(problem, data.to_device(dataset.train), key)


def snapshot(setting: Setting, state: Any) -> Snapshot:
    """All that a run saves in a checkpoint.

    Args:
        setting: the problem.
        state: the state of the outer loop.

    Returns:
        The snapshot.
    """
    best = Best(state.params, np.array(50.0), np.array(1))
    key = np.asarray(jax.random.key_data(setting.key))
    return Snapshot(state, best, np.array(1.0), key, np.array(0), np.array(0), ())


def processor_seconds(saver: Saver, whole: Snapshot, *, saves: int) -> Iterator[float]:
    """The processor time of each of a number of checkpoints, over all threads of this process.

    Nothing else is computed meanwhile.

    Args:
        saver: the saver of checkpoints.
        whole: the snapshot to save.
        saves: the number of checkpoints.

    Yields:
        Seconds.
    """
    for step in range(saves):
        began = time.process_time()
        saver.save(step, parallel.fetch(whole))
        saver.wait()
        yield time.process_time() - began


def pieces(setting: Setting, saver: Saver, *, pairs: int, steps: int) -> Iterator[tuple[float, float]]:
    """The time of a number of outer steps without and with a checkpoint at their beginning, pair by pair.

    Args:
        setting: the problem.
        saver: the saver of checkpoints.
        pairs: the number of pairs.
        steps: the number of outer steps in a piece.

    Yields:
        Seconds without a checkpoint, and seconds with one.
    """
    mesh = parallel.make_mesh(parallel.default_devices(1))
    real = parallel.place(setting.real, parallel.replicated(mesh))
    state = parallel.place(init_state(setting.problem, setting.key), parallel.replicated(mesh))
    dispatch, _ = compile_dispatch(setting.problem, mesh, state, real, setting.key)
    done = itertools.count(steps, steps)

    def piece(*, saved: bool) -> float:
        nonlocal state
        saver.wait()
        began = time.perf_counter()
        if saved:
            saver.save(int(state.step), parallel.fetch(snapshot(setting, state)))
        state, _, _ = dispatch(state, real, setting.key, np.int32(next(done)))
        jax.block_until_ready(state)
        return time.perf_counter() - began

    piece(saved=True)  # the first piece is slow
    for number in range(pairs):
        times = {saved: piece(saved=saved) for saved in (number % 2 == 0, number % 2 == 1)}
        yield times[False], times[True]


def main(arguments: list[str] | None = None) -> int:
    """Measure and print the overhead.

    Args:
        arguments: the arguments without the program; by default those of this process.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--pairs", type=int, default=20, help="of pieces with and without")
    parser.add_argument("--steps", type=int, default=10, help="outer steps in a piece")
    given = parser.parse_args(arguments)
    if given.pairs < 2 or given.steps < 1:
        parser.error(f"expected --pairs >= 2 and --steps >= 1; got {given.pairs} and {given.steps}.")
    setting = w1()
    with tempfile.TemporaryDirectory(dir=".") as folder:  # not in /tmp, which may be memory
        saver = Saver(Store(Path(folder)))
        whole = snapshot(setting, init_state(setting.problem, setting.key))
        processor = 1000 * np.median(list(processor_seconds(saver, whole, saves=10)))
        times = 1000 * np.array(list(pieces(setting, saver, pairs=given.pairs, steps=given.steps)))
        saver.wait()
    differences = times[:, 1] - times[:, 0]
    error = differences.std(ddof=1) / np.sqrt(len(differences))
    share = 100 * differences.mean() / (1000 * INTERVAL)
    print(
        f"an outer step: {np.median(times[:, 0]) / given.steps:.1f} ms (median of {given.pairs} pieces)\n"
        f"a checkpoint: {processor:.1f} ms of the processor; the steps beside it take "
        f"{differences.mean():.1f} ± {error:.1f} ms longer (mean ± standard error)\n"
        f"one in {INTERVAL:g} s: {share:.2f} ± {100 * error / (1000 * INTERVAL):.2f} % of the throughput"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

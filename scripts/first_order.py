"""TESLA's first-order gradient beside the exact one of trajectory matching: direction, time, memory.

    python scripts/first_order.py --artifact=runs/matched/distilled.npz --experts=runs/experts

The experts come from `experiments.experts`, the images from `experiments.trajectory_matching`.
For some numbers T of the student's steps, both gradients are computed at the same images of the artifact,
learned rate and segments: the cosine of the angle between those of the images, the ratio of their norms, and
that of the gradients of the rate. Segments start at checkpoint 0 and end `--span` checkpoints later, one for
each expert. A time is the least of `--calls` calls; memory is what XLA's compiler says that a call needs to
work in. The student's images are not augmented, and all are in every step.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddjax import artifact, experts, networks, report
from ddjax.launch import Launcher, flag
from ddjax.methods.trajectory_matching import Segment, Steps, student_loss
from ddjax.types import Network, Schedule
from ddjax.unroll import STRATEGIES, Memory

GRADIENTS = {"exact": STRATEGIES["mixed"], "first order": Memory(mixed=True, first_order=True)}
"""The strategies that are compared."""


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of the comparison."""

    artifact: str = flag("", "distilled images with a learned rate")
    experts: str = flag("", "directory of experts of the artifact's network")
    inner_steps: str = flag("10,20,40,80", "a list of T, steps of the student")
    span: int = flag(2, "checkpoints from the start of a segment to its target", low=1)
    calls: int = flag(5, "of each gradient whose least time counts", low=1)
    json: str | None = flag(None, "file for the record")


class Phi(NamedTuple):
    """What the gradients are taken in.

    Attributes:
        images: `[n, ...]`, the distilled images.
        lr: `[]`, the learned rate.
    """

    images: jax.Array
    lr: jax.Array


class Gradient(NamedTuple):
    """A compiled gradient.

    Attributes:
        call: the gradient as a function of φ and a segment.
        temporaries: bytes that XLA's compiler says a call needs to work in.
    """

    call: Callable[[Phi, Segment], Phi]
    temporaries: int


def gradient(
    network: Network, labels: jax.Array, phi: Phi, segment: Segment, *, steps: int, memory: Memory
) -> Gradient:
    """The gradient of a student's distance from its target, compiled.

    Args:
        network: the student.
        labels: `[n, K]`, the labels of φ's images.
        phi: a φ of the shapes that the gradient will be called with.
        segment: a segment of the shapes that the gradient will be called with.
        steps: T, the number of the student's steps.
        memory: how the student's training is differentiated.

    Returns:
        The gradient.
    """
    drawn = Steps(None, jax.random.split(jax.random.key(0), steps))

    def loss(phi: Phi, segment: Segment) -> jax.Array:
        schedule = Schedule(phi.images[None], labels[None], phi.lr.reshape(1, 1))
        return student_loss(network, schedule, segment, drawn, memory=memory)[0]

    compiled = jax.jit(jax.grad(loss)).lower(phi, segment).compile()
    analysis: Any = compiled.memory_analysis()
    return Gradient(compiled, int(analysis.temp_size_in_bytes))


def milliseconds(call: Callable[[], Any], *, calls: int) -> float:
    """The least time of a number of calls.

    Args:
        call: what is timed.
        calls: how often.

    Returns:
        Milliseconds.
    """
    times = []
    for _ in range(calls):
        began = time.perf_counter()
        jax.block_until_ready(call())
        times.append(1000 * (time.perf_counter() - began))
    return min(times)


def _spread(values: list[float]) -> dict[str, Any]:
    return {"mean": float(np.mean(values)), "std": float(np.std(values)), "n": len(values)}


def compare(
    gradients: dict[str, Gradient], phi: Phi, segments: list[Segment], *, calls: int
) -> report.Record:
    """Both gradients at the same φ and segments.

    Args:
        gradients: the gradients by the names of `GRADIENTS`.
        phi: φ.
        segments: the segments.
        calls: the number of timed calls.

    Returns:
        Cosines and ratios over the segments, and milliseconds and MiB of each gradient.
    """
    cosines, norms, rates = [], [], []
    for segment in segments:
        exact, approximate = (gradients[name].call(phi, segment) for name in GRADIENTS)
        one, other = (np.asarray(each.images, np.float64).ravel() for each in (exact, approximate))
        cosines.append(float(one @ other / np.linalg.norm(one) / np.linalg.norm(other)))
        norms.append(float(np.linalg.norm(other) / np.linalg.norm(one)))
        rates.append(float(approximate.lr / exact.lr))
    return {
        "cosine": _spread(cosines),
        "ratio of norms": _spread(norms),
        "ratio of the rate's": _spread(rates),
        **{
            name: {
                "ms": milliseconds(lambda one=one: one.call(phi, segments[0]), calls=calls),
                "MiB": one.temporaries / 2**20,
            }
            for name, one in gradients.items()
        },
    }


def numbers_of_steps(text: str) -> list[int]:
    """The numbers of steps that a flag lists.

    Args:
        text: whole numbers above zero, with commas between them.

    Returns:
        The numbers.

    Raises:
        ValueError: a part is no such number.
    """
    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise ValueError(
            f"inner_steps: expected whole numbers above zero with commas between them; got {text!r}. "
            "Give for example 10,40."
        )
    return [int(part) for part in parts]


def run(config: Config) -> report.Record:
    """Compare the gradients for each number of steps.

    Args:
        config: the settings.

    Returns:
        The record, which is written too where a file was named.

    Raises:
        ValueError: a number of steps is none, there is no directory for the record, the artifact has no
            learned rate, or the experts are of another network or too short.
    """
    all_steps = numbers_of_steps(config.inner_steps)
    if config.json is not None and not Path(config.json).absolute().parent.is_dir():
        raise ValueError(f"json: expected a directory that exists; got {config.json}. Make it first.")
    distilled = artifact.load(config.artifact)
    schedule = distilled.schedule
    if schedule.lrs is None:
        raise ValueError(
            f"artifact: expected images with a learned rate; got {config.artifact} without. "
            "Take one of experiments.trajectory_matching or of an unrolled method."
        )
    images, labels = (np.asarray(leaf).reshape(-1, *leaf.shape[2:]) for leaf in schedule[:2])
    facts = distilled.metadata
    network = networks.by_name(
        facts["network"], images.shape[1:], labels.shape[-1], **facts["network_settings"]
    )
    weights = experts.load(config.experts).fit(network).window(0, config.span).stacked()
    segments = [Segment(jnp.asarray(one[0]), jnp.asarray(one[-1])) for one in weights]
    phi = Phi(jnp.asarray(images), jnp.asarray(schedule.lrs).mean())
    rows = {}
    for steps in all_steps:
        gradients = {
            name: gradient(network, jnp.asarray(labels), phi, segments[0], steps=steps, memory=memory)
            for name, memory in GRADIENTS.items()
        }
        rows[str(steps)] = compare(gradients, phi, segments, calls=config.calls)
        print(steps, rows[str(steps)])
    record = {
        "command": " ".join(["python", *sys.argv]),
        "learned rate": float(phi.lr),
        "rows": rows,
        "hardware": report.hardware(),
        "versions": report.versions(),
    }
    if config.json is not None:
        report.write_json(Path(config.json), record)
    return record


LAUNCHER = Launcher("first_order", __doc__, Config, run=run)

if __name__ == "__main__":
    LAUNCHER.main()

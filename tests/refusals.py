"""What the tables of bad inputs share: a public function says what it expected, what it got, and what to do.

Each part of the library has a table of bad inputs, in a file `test_*_refusals.py` next to the other tests:
`{case: (action, got, remedy)}`. The arrays of a data set (`tests/data/test_data_arrays.py`) and artifacts
that were made to do harm (`tests/test_artifact.py`) have further tables.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags
from problems import CLASSES, SHAPE, small_form, write_npz

import ddjax
from ddjax import artifact, baselines, data, forms, inits, methods, networks
from ddjax.encodings import Channels
from ddjax.launch import distillation, parse, process
from experiments import evaluate, random_init

PLAIN = Channels(np.zeros(1), np.ones(1))
FLAT = Channels(np.zeros(1), np.zeros(1))
COLOUR = Channels(np.zeros(3), np.ones(3))
NAN, INFINITY = float("nan"), float("inf")


class Good:
    """One of everything, all of which fits together; each case of bad input spoils one part.

    Each method does one thing with these parts; the arguments of a case replace the good ones.

    Args:
        folder: the directory to write to.
        dataset: the real data.
    """

    def __init__(self, folder: Path, dataset: data.Dataset):
        self.folder = folder
        self.data = dataset
        self.network = networks.mlp(SHAPE, CLASSES, widths=(4,))
        self.inits = inits.random(self.network)
        self.method = methods.unrolled(self.network, self.inits, batch_size=4)
        self.form = small_form(inner_lr=0.1)
        self.key = jax.random.key(0)
        self.workdir = folder / "run"

    def from_arrays(self, **changed: Any) -> Any:
        """Make a data set from arrays."""
        images, labels = np.zeros((6, 8, 8, 1), np.uint8), np.arange(6) % 3
        arrays: dict[str, Any] = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}
        return data.from_arrays(**(arrays | changed))

    def distill(self, **changed: Any) -> Any:
        """Distil for two outer steps."""
        arguments: dict[str, Any] = {"data": self.data, "method": self.method, "key": self.key}
        arguments |= {"num_outer_steps": 2, "form": self.form, "workdir": self.workdir}
        return ddjax.distill(**(arguments | changed))

    @property
    def distilled(self) -> ddjax.Distilled:
        """φ before the first outer step."""
        encoding = jax.tree.map(jnp.asarray, self.data.encoding)
        return ddjax.Distilled(self.form.init(self.key), self.form, encoding, ddjax.Recipe())

    def evaluate(self, **changed: Any) -> Any:
        """Evaluate φ on the test split."""
        arguments: dict[str, Any] = {"distilled": self.distilled, "network": self.network}
        arguments |= {"inits": self.inits, "split": self.data.test, "key": self.key, "num_inits": 1}
        return ddjax.evaluate(**(arguments | changed))

    def train(self, **changed: Any) -> Any:
        """Train networks on φ."""
        arguments: dict[str, Any] = {"distilled": self.distilled, "network": self.network}
        return ddjax.train(**(arguments | {"inits": self.inits, "key": self.key} | changed))

    def baseline(self, **changed: Any) -> baselines.Setting:
        """The setting of the baselines."""
        parts: dict[str, Any] = {"data": self.data, "network": self.network, "inits": self.inits}
        parts |= {"inner_steps": 1, "inner_epochs": 1, "per_class_per_step": 1, "recipe": ddjax.Recipe()}
        return baselines.Setting(**(parts | changed))

    def artifact(self, **metadata: Any) -> Path:
        """Write φ as an artifact with the given metadata."""
        distilled = dataclasses.replace(self.distilled, metadata=metadata)
        return artifact.save(self.folder / "distilled.npz", distilled)

    def file(self, name: str, content: bytes = b"") -> Path:
        """Write a file with the given content."""
        (self.folder / name).write_bytes(content)
        return self.folder / name

    def npz(self, **arrays: Any) -> Path:
        """Write an `.npz` with the given arrays."""
        np.savez(self.folder / "some.npz", **arrays)
        return self.folder / "some.npz"

    def spots(self) -> str:
        """Write a data set as a user's `.npz`, and return the path."""
        return str(write_npz(self.folder / "spots.npz", np.random.default_rng(0)))

    def few(self) -> str:
        """Write a data set with two images of each class, one of them for validation; return the path."""
        images, labels = np.zeros((6, *SHAPE), np.uint8), np.arange(6) % CLASSES
        return str(self.npz(x_train=images, y_train=labels, x_test=images, y_test=labels))

    def assess(self, *, metadata: dict[str, Any] | None = None, **changed: Any) -> Any:
        """Do what `experiments.evaluate` does with an artifact."""
        settings: dict[str, Any] = {"artifact": str(self.artifact(**(metadata or {})))}
        return evaluate.run(evaluate.Config(**(settings | changed)))

    def launch(self, *arguments: str) -> Any:
        """Do what a launcher does with a command line before anything is computed."""
        dataset = self.spots()
        flags_given = [f"--dataset={dataset}", f"--workdir={self.workdir}", *arguments]
        parsed = parse(random_init.Config, ["program", *flags_given], flags.FlagValues())
        return distillation.prepare("random_init", parsed, random_init.build)


Action = Callable[[Good], Any]
Cases = Mapping[str, tuple[Action, str, str]]
"""`{case: (what is done, a part of the message that says what was got, a part that says what to do)}`."""
Refuses = Callable[[Action, str, str], None]


def without_lrs(good: Good) -> ddjax.Distilled:
    """φ with a schedule that has no learning rates."""
    schedule = good.distilled.schedule._replace(lrs=None)
    return dataclasses.replace(good.distilled, params=schedule, form=forms.constant(schedule))


def small_net(**changed: Any) -> ddjax.Network:
    """A tiny MLP, with the given arguments in place of its own."""
    settings: dict[str, Any] = {"image_shape": SHAPE, "num_classes": CLASSES, "widths": (4,)}
    return networks.mlp(**(settings | changed))


def contents(folder: Path) -> dict[Path, bytes]:
    """The contents of all files in a directory, by path."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def check_refused(good: Good, action: Action, got: str, remedy: str) -> None:
    """Check that the library raises, a launcher ends with the code of bad input, and nothing is written.

    Args:
        good: the parts that fit together.
        action: the function that spoils a part.
        got: a part of the message that says what was found.
        remedy: a part of the message that says what to do.
    """
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        action(good)
    message = str(caught.value)
    assert got in message, message
    assert remedy in message, message
    assert "expected" in message or "flag" in message, message
    assert contents(good.workdir) == {}
    # A launcher turns the same error into an exit code.
    assert process.guarded(lambda: action(good)) == process.EXIT_BAD_INPUT

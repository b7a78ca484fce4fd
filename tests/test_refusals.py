"""The table of bad inputs: every public entry point refuses with what was expected, what was got, what to do.

The arrays of a data set have a table of their own (`tests/data/test_data_arrays.py`), and so have artifacts
that were made to do harm (`tests/test_artifact.py`).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from problems import CLASSES, SHAPE, small_form, three_digits, write_npz

import ddjax
from ddjax import (
    artifact,
    baselines,
    checks,
    coresets,
    data,
    engine,
    figures,
    forms,
    inits,
    methods,
    networks,
    optimizers,
    parallel,
    plan,
    report,
    unroll,
    workdir,
)
from ddjax.checkpoint import Store
from ddjax.encodings import Channels
from ddjax.evaluate import Judge
from ddjax.launch import distillation, parse, process
from experiments import evaluate, random_init

PLAIN = Channels(np.zeros(1), np.ones(1))
FLAT = Channels(np.zeros(1), np.zeros(1))
COLOUR = Channels(np.zeros(3), np.ones(3))


class Good:
    """One of everything that fits together; a case spoils a part of it."""

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
        images, labels = np.zeros((6, 8, 8, 1), np.uint8), np.arange(6) % 3
        arrays: dict[str, Any] = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}
        return data.from_arrays(**(arrays | changed))

    def distill(self, **changed: Any) -> Any:
        arguments: dict[str, Any] = {"data": self.data, "method": self.method, "key": self.key}
        arguments |= {"num_outer_steps": 2, "form": self.form, "workdir": self.workdir}
        return ddjax.distill(**(arguments | changed))

    @property
    def distilled(self) -> ddjax.Distilled:
        split = self.data.train
        return ddjax.Distilled(
            self.form.init(self.key), self.form, jax.tree.map(jnp.asarray, split.encoding), ddjax.Recipe()
        )

    def evaluate(self, **changed: Any) -> Any:
        arguments: dict[str, Any] = {"distilled": self.distilled, "network": self.network}
        arguments |= {"inits": self.inits, "split": self.data.test, "key": self.key, "num_inits": 1}
        return ddjax.evaluate(**(arguments | changed))

    def train(self, **changed: Any) -> Any:
        arguments: dict[str, Any] = {"distilled": self.distilled, "network": self.network}
        return ddjax.train(**(arguments | {"inits": self.inits, "key": self.key} | changed))

    def baseline(self, **changed: Any) -> baselines.Setting:
        parts: dict[str, Any] = {"data": self.data, "network": self.network, "inits": self.inits}
        parts |= {"inner_steps": 1, "inner_epochs": 1, "per_class_per_step": 1, "recipe": ddjax.Recipe()}
        return baselines.Setting(**(parts | changed))

    def artifact(self, **metadata: Any) -> Path:
        distilled = dataclasses.replace(self.distilled, metadata=metadata)
        return artifact.save(self.folder / "distilled.npz", distilled)

    def file(self, name: str, content: bytes = b"") -> Path:
        (self.folder / name).write_bytes(content)
        return self.folder / name

    def npz(self, **arrays: Any) -> Path:
        np.savez(self.folder / "some.npz", **arrays)
        return self.folder / "some.npz"

    def spots(self) -> str:
        return str(write_npz(self.folder / "spots.npz", np.random.default_rng(0)))

    def few(self) -> str:
        """Two images of each class, of which one goes into validation."""
        images, labels = np.zeros((6, *SHAPE), np.uint8), np.arange(6) % CLASSES
        return str(self.npz(x_train=images, y_train=labels, x_test=images, y_test=labels))

    def assess(self, *, metadata: dict[str, Any] | None = None, **changed: Any) -> Any:
        """What `experiments.evaluate` does with an artifact."""
        settings: dict[str, Any] = {"artifact": str(self.artifact(**(metadata or {})))}
        return evaluate.run(evaluate.Config(**(settings | changed)))

    def launch(self, *arguments: str) -> Any:
        """What a launcher does with a command line before anything is computed."""
        dataset = self.spots()
        flags_given = [f"--dataset={dataset}", f"--workdir={self.workdir}", *arguments]
        parsed = parse(random_init.Config, ["program", *flags_given], flags.FlagValues())
        return distillation.prepare("random_init", parsed, random_init.build)


def _in_use(good: Good) -> None:
    with workdir.locked(good.workdir / "checkpoints"):
        good.distill()


def _load_saying(good: Good, **metadata: Any) -> None:
    path = good.artifact()
    with np.load(path) as members:
        arrays = dict(members)
    metadata = json.loads(str(arrays["metadata"])) | metadata
    artifact.load(good.npz(**arrays | {"metadata": np.array(json.dumps(metadata))}))


def _without_lrs(good: Good) -> ddjax.Distilled:
    schedule = good.distilled.schedule._replace(lrs=None)
    return dataclasses.replace(good.distilled, params=schedule, form=forms.constant(schedule))


def _method_of(network: ddjax.Network) -> ddjax.Method:
    return methods.unrolled(network, inits.random(network), batch_size=4)


def _problem(good: Good) -> engine.Problem:
    return engine.Problem(good.method, good.form, optimizers.sgd_momentum())


def _picture(good: Good, **changed: Any) -> None:
    arrays: dict[str, Any] = {"images": np.zeros((2, 3, *SHAPE)), "labels": np.zeros((2, 3, CLASSES))}
    arrays |= {"encoding": PLAIN}
    figures.image_grid(good.folder / "grid.png", **(arrays | changed))


def _other_structure(good: Good) -> None:
    store = Store(good.folder / "checkpoints")
    store.save(1, {"a": np.zeros(2)})
    store.restore({"a": np.zeros(3)})


NAN, INFINITY = float("nan"), float("inf")
DEVICES = jax.devices
SMALL_NET: Callable[..., Any] = lambda **changed: networks.mlp(  # noqa: E731
    **({"image_shape": SHAPE, "num_classes": CLASSES, "widths": (4,)} | changed)
)

BAD: dict[str, tuple[Callable[[Good], Any], str, str]] = {
    # data
    "a data set's name misspelt": (lambda g: data.load("mnits"), "got 'mnits'", "Did you mean 'mnist'"),
    "a data set that is not prepared": (
        lambda g: data.load("mnist", data_dir=g.folder),
        "found nothing there",
        "python scripts/prepare_data.py --dataset=mnist",
    ),
    "an .npz that is not there": (lambda g: data.load("nowhere.npz"), "none at nowhere.npz", "np.savez"),
    "an .npz that is none": (lambda g: data.load(g.file("a.npz", b"x")), "a.npz (", "np.savez"),
    "an .npz without labels": (lambda g: data.load(g.npz(x_train=1)), "without y_train", "np.savez"),
    "an .npz of objects": (
        lambda g: data.load(
            g.npz(**dict.fromkeys(("x_train", "y_train", "x_test", "y_test"), np.array([{}], object)))
        ),
        "of plain arrays",
        "np.savez",
    ),
    "a fraction of all": (lambda g: data.load("digits", validation_fraction=1.0), "got 1.0", "Try 0.1"),
    "a negative seed": (lambda g: data.load("digits", seed=-1), "got -1", "Give a whole number"),
    "flat images": (lambda g: g.from_arrays(x_train=np.zeros((6, 64))), "got shape (6, 64)", "Reshape"),
    "channels first": (
        lambda g: g.from_arrays(x_train=np.zeros((6, 3, 32, 32), np.uint8)),
        "looks like [n, C, H, W]",
        "transpose(0, 2, 3, 1)",
    ),
    "floats up to 255": (lambda g: g.from_arrays(x_train=np.full((6, 8, 8, 1), 9.0)), "got values", "255"),
    "NaN in an image": (
        lambda g: g.from_arrays(x_test=np.full((6, 8, 8, 1), NAN)),
        "NaN or infinite",
        "repair",
    ),
    "labels one-hot": (lambda g: g.from_arrays(y_train=np.eye(6)), "got shape (6, 6)", "argmax(-1)"),
    "labels as floats": (lambda g: g.from_arrays(y_train=np.zeros(6)), "got dtype float64", "astype"),
    "fewer labels than images": (lambda g: g.from_arrays(y_train=[0, 1]), "got 2 labels", "same length"),
    "a negative label": (lambda g: g.from_arrays(y_train=[-1, 0, 1, 2, 0, 1]), "got -1", "unlabelled"),
    "a class without images": (lambda g: g.from_arrays(y_train=[0, 2] * 3), "class 1 has none", "Number"),
    "one class": (lambda g: g.from_arrays(y_train=[0] * 6), "got 1", "Nothing to classify"),
    "test images of another size": (
        lambda g: g.from_arrays(x_test=np.zeros((6, 9, 9, 1), np.uint8)),
        "got (9, 9, 1)",
        "Bring all images",
    ),
    "a split of flat images": (
        lambda g: data.Split(np.zeros((3, 4)), np.zeros(3, int), PLAIN),
        "got (3, 4), (3,)",
        "Use ddjax.data.from_arrays",
    ),
    "an empty split": (
        lambda g: data.Split(np.zeros((0, 8, 8, 1)), np.zeros(0, int), PLAIN),
        "got (0, 8, 8, 1), (0,)",
        "Use ddjax.data.from_arrays",
    ),
    "a minibatch of nothing": (
        lambda g: data.minibatch(data.to_device(g.data.train), g.key, size=0),
        "got 0",
        "1 or more",
    ),
    # networks and initial weights
    "a network's name misspelt": (
        lambda g: networks.by_name("lennet", SHAPE, CLASSES),
        "got 'lennet'",
        "Did you mean 'lenet'",
    ),
    "a setting that the network has not": (
        lambda g: networks.by_name("mlp", SHAPE, CLASSES, depth=3),
        "got 'depth'",
        "expected one of",
    ),
    "images too small for LeNet": (lambda g: networks.lenet((8, 8, 1), 10), "got 8x8", "take convnet or mlp"),
    "an image shape of two numbers": (
        lambda g: networks.by_name("mlp", *[(8, 8), 3]),
        "got (8, 8)",
        "one channel",
    ),
    "an unknown p(θ0)": (
        lambda g: inits.random(g.network, scheme="xavier"),
        "got 'xavier'",
        "Did you mean 'xavier_normal'",
    ),
    "a gain of zero": (lambda g: inits.random(g.network, gain=0.0), "got 0.0", "greater than zero"),
    "a gain of NaN": (lambda g: inits.fixed(g.network, g.key, gain=NAN), "got nan", "greater than zero"),
    "a gain on the network's own": (
        lambda g: inits.random(g.network, scheme="network", gain=2.0),
        "got 2.0",
        "takes the network's own scale",
    ),
    # forms, methods, the unroll
    "no inner steps": (lambda g: small_form(inner_steps=0), "inner_steps", "1 or more"),
    "no epochs": (lambda g: small_form(inner_epochs=0), "inner_epochs", "1 or more"),
    "half an image": (lambda g: small_form(images_per_class_per_step=0.5), "got 0.5", "whole number"),
    "a learning rate of zero": (lambda g: small_form(inner_lr=0.0), "got 0.0", "greater than zero"),
    "an infinite learning rate": (lambda g: small_form(inner_lr=INFINITY), "got inf", "finite number"),
    "a learning rate as text": (lambda g: small_form(inner_lr="0.1"), "got '0.1'", "finite number"),
    "initial images of another shape": (
        lambda g: small_form(initial_images=np.zeros((1, 3, *SHAPE))),
        "got (1, 3, 8, 8, 1)",
        "one image for each label",
    ),
    "a batch of nothing": (
        lambda g: methods.unrolled(g.network, g.inits, batch_size=0),
        "batch_size: expected",
        "1 or more",
    ),
    "an inner optimiser misspelt": (
        lambda g: methods.unrolled(g.network, g.inits, inner_optimizer="adamm"),
        "got 'adamm'",
        "Did you mean 'adam'",
    ),
    "matching without an embedding": (
        lambda g: methods.distribution_matching(
            networks.from_functions(g.network.init, g.network.apply, SHAPE, CLASSES, name="own"), g.inits
        ),
        "'own' has none",
        "Give its adapter `embed=`",
    ),
    "an unknown memory strategy": (
        lambda g: unroll.Memory(checkpoint="cubic"),  # type: ignore[arg-type]
        "got 'cubic'",
        "expected one of",
    ),
    "a window of nothing": (lambda g: unroll.Memory(window=0), "window: expected", "1 or more"),
    # distilling
    "arrays as data": (
        lambda g: g.distill(data=np.zeros((3, 8, 8, 1))),
        "got ndarray float64[3, 8, 8, 1]",
        "from_arrays",
    ),
    "a split as data": (lambda g: g.distill(data=g.data.train), "a Dataset; got Split", "ddjax.data.load"),
    "a network as method": (lambda g: g.distill(method=g.network), "got Network", "ddjax.methods"),
    "a number as key": (lambda g: g.distill(key=0), "one key; got int 0", "jax.random.key(0)"),
    "a raw key": (lambda g: g.distill(key=jax.random.PRNGKey(0)), "uint32[2]", "jax.random.key(0)"),
    "several keys": (
        lambda g: g.distill(key=jax.random.split(g.key)),
        "keys of shape (2,)",
        "jax.random.key",
    ),
    "no outer steps": (lambda g: g.distill(num_outer_steps=0), "got 0", "1 or more"),
    "outer steps as a float": (lambda g: g.distill(num_outer_steps=1e3), "got 1000.0", "whole number"),
    "outer steps as a truth": (lambda g: g.distill(num_outer_steps=True), "got True", "whole number"),
    "no initial weights": (lambda g: g.distill(num_inits=0), "num_inits: expected", "1 or more"),
    "no slots in a chunk": (lambda g: g.distill(slots_per_chunk=0), "slots_per_chunk", "1 or more"),
    "a bound of zero": (lambda g: g.distill(clip_norm=0.0), "clip_norm: expected", "greater than zero"),
    "a learning rate as optimiser": (lambda g: g.distill(optimizer=0.1), "got float 0.1", "optax"),
    "a schedule as form": (lambda g: g.distill(form=g.distilled.schedule), "got Schedule", "ddjax.forms"),
    "a form of other images": (
        lambda g: g.distill(form=forms.pixels((9, 9, 1), CLASSES)),
        "got (9, 9, 1)",
        "data.image_shape",
    ),
    "a form of other classes": (
        lambda g: g.distill(form=forms.pixels(SHAPE, 7)),
        "expected 3; got 7",
        "data.num_classes",
    ),
    "a form without learning rates": (
        lambda g: g.distill(form=small_form(inner_lr=None)),
        "got none",
        "inner_lr=0.02",
    ),
    "learning rates that nobody learns": (
        lambda g: g.distill(method=methods.distribution_matching(g.network, g.inits)),
        "learns none; got [2, 2]",
        "inner_lr=None",
    ),
    "a function as validation": (lambda g: g.distill(validation=abs), "validation: expected", "Validation("),
    "a validation that scores nothing": (lambda g: ddjax.Validation(3.0), "got float 3.0", "percent"),  # type: ignore[arg-type]
    "a validation never": (
        lambda g: ddjax.Validation(lambda _: 0.0, every=0),
        "validation.every",
        "1 or more",
    ),
    "records never": (lambda g: ddjax.Reporting(every=0), "reporting.every: expected", "1 or more"),
    "a listener that hears nothing": (
        lambda g: ddjax.Reporting(listener="me"),  # type: ignore[arg-type]
        "got str 'me'",
        "Leave it out",
    ),
    "no reporting": (lambda g: g.distill(reporting=None), "got NoneType None", "ddjax.Reporting"),
    "saving in the past": (lambda g: g.distill(save_seconds=-1), "save_seconds: expected", "0 or more"),
    "saving at NaN": (lambda g: g.distill(save_seconds=NAN), "got nan", "finite number"),
    "saving every 0 steps": (lambda g: g.distill(save_every=0), "save_every: expected", "1 or more"),
    "something else than a rollback": (
        lambda g: g.distill(on_nonfinite="roll back"),
        "got 'roll back'",
        "Did you mean 'rollback'",
    ),
    "fewer rollbacks than none": (lambda g: g.distill(max_rollbacks=-1), "got -1", "0 or more"),
    "metadata that JSON cannot hold": (
        lambda g: g.distill(metadata={"network": g.network}),
        "metadata: expected what JSON can hold; got",
        "Give text",
    ),
    "no devices": (lambda g: g.distill(devices=[]), "number of devices: expected", "Leave devices out"),
    "slots that devices cannot share": (
        lambda g: g.distill(num_inits=3, devices=DEVICES()[:2]),
        "multiple of the 2 devices; got 3",
        "Use 2 or 4",
    ),
    "a file as work directory": (
        lambda g: g.distill(workdir=g.file("taken")),
        "is a file",
        "Choose another place",
    ),
    "a work directory in use": (_in_use, "is in use by process", "choose another directory"),
    "a checkpoint of another structure": (_other_structure, "expected float64[3], got float64[2]", "own"),
    "no checkpoints to keep": (lambda g: Store(g.folder, keep=0), "keep: expected", "1 or more"),
    # evaluating and training
    "a path as φ": (lambda g: g.evaluate(distilled="a.npz"), "got str 'a.npz'", "ddjax.artifact.load"),
    "a function as network": (lambda g: g.train(network=abs), "network: expected", "ddjax.networks"),
    "a key as p(θ0)": (lambda g: g.train(inits=g.key), "inits: expected", "ddjax.inits"),
    "a seed as key, training": (lambda g: g.train(key=3), "got int 3", "jax.random.key"),
    "a seed as key, evaluating": (lambda g: g.evaluate(key=3), "got int 3", "jax.random.key"),
    "a network for other images": (
        lambda g: g.train(network=SMALL_NET(image_shape=(9, 9, 1))),
        "expected (8, 8, 1); got (9, 9, 1)",
        "Build the network for the distilled images",
    ),
    "a network for other classes": (
        lambda g: g.evaluate(network=SMALL_NET(num_classes=5)),
        "expected 3; got 5",
        "distilled labels",
    ),
    "a data set to test on": (lambda g: g.evaluate(split=g.data), "a Split; got Dataset", "data.test"),
    "test images of another shape": (
        lambda g: g.evaluate(split=data.Split(np.zeros((3, 9, 9, 1), np.uint8), np.arange(3), PLAIN)),
        "expected (8, 8, 1); got (9, 9, 1)",
        "Test mlp on images",
    ),
    "test images of more classes": (
        lambda g: g.evaluate(split=data.Split(np.zeros((4, 8, 8, 1), np.uint8), np.arange(4), PLAIN)),
        "at most the 3 classes of mlp; got 4",
        "distilled from",
    ),
    "no initial weights to evaluate": (lambda g: g.evaluate(num_inits=0), "num_inits", "1 or more"),
    "nothing at once": (lambda g: g.evaluate(runs_per_chunk=0), "runs_per_chunk: expected", "1 or more"),
    "a schedule that φ has not": (
        lambda g: g.train(distilled=_without_lrs(g)),
        "φ has none",
        "Recipe('train')",
    ),
    # baselines
    "a baseline of arrays": (lambda g: g.baseline(data=np.zeros(3)), "a Dataset; got ndarray", "ddjax.data"),
    "a baseline of no network": (lambda g: g.baseline(network=abs), "network: expected", "ddjax.networks"),
    "a baseline for other images": (
        lambda g: g.baseline(network=SMALL_NET(image_shape=(9, 9, 1))),
        "expected (9, 9, 1); got (8, 8, 1)",
        "Test mlp on images",
    ),
    "a baseline of no steps": (lambda g: g.baseline(inner_steps=0), "inner_steps: expected", "1 or more"),
    "a baseline of a seed": (
        lambda g: baselines.measure(g.baseline(), key=0, seed=0),  # type: ignore[arg-type]
        "one key; got int 0",
        "jax.random.key",
    ),
    "a baseline that there is not": (
        lambda g: baselines.measure(g.baseline(), key=g.key, seed=0, names=["k-meens"]),
        "got 'k-meens'",
        "Did you mean 'k-means'",
    ),
    "a ceiling under a schedule": (
        lambda g: baselines.all_data(
            g.data, g.network, g.inits, key=g.key, num_inits=1, recipe=ddjax.Recipe("schedule")
        ),
        "expected train; got schedule",
        "ddjax.Recipe('train', ...)",
    ),
    # artifacts and records
    "an artifact that is not there": (lambda g: artifact.load("no.npz"), "none at no.npz", "work directory"),
    "an artifact that is none": (lambda g: artifact.load(g.file("a.npz", b"PK")), "cannot be read", "Distil"),
    "another .npz": (lambda g: artifact.load(g.npz(images=1)), "labels, mean, std", "distilled.npz"),
    "an artifact of the future": (
        lambda g: _load_saying(g, format_version=99),
        "got 99",
        "Install a newer ddjax",
    ),
    "an artifact beyond the limit": (
        lambda g: artifact.load(g.artifact(), limit=1000),
        "at most 1,000 bytes together; got",
        "raise `limit`",
    ),
    "a limit of nothing": (lambda g: artifact.load(g.artifact(), limit=0), "limit: expected", "1 or more"),
    "metadata of another kind": (
        lambda g: _load_saying(g, class_names="abc"),
        "class_names: expected a list; got str 'abc'",
        "Write it again",
    ),
    "a dictionary as artifact": (
        lambda g: artifact.save(g.folder / "a.npz", {}),  # type: ignore[arg-type]
        "got dict",
        "`distilled` of a run",
    ),
    "a table row too short": (lambda g: report.table([[1]], ["a", "b"]), "got 1: [1]", "for every header"),
    # coresets, devices
    "more images than a class has": (
        lambda g: coresets.random_real(g.data.train, per_class=10**6, num_classes=CLASSES, seed=0),
        "got 1000000",
        "Ask for fewer",
    ),
    "devices of nobody": (lambda g: parallel.check_everywhere([]), "got none of process 0", "Leave devices"),
    # what the data, the parts and the arrays of a public function must be
    "a number as data set": (lambda g: data.load(5), "a path; got int 5", "TFDS name"),  # type: ignore[arg-type]
    "a number as data directory": (
        lambda g: data.load("mnist", data_dir=5),  # type: ignore[arg-type]
        "data_dir: expected a path; got int 5",
        "leave it out",
    ),
    "a label beyond all classes": (
        lambda g: g.from_arrays(y_train=np.array([0, 1, 2, 0, 1, 2**32 + 2])),
        "got 4294967298",
        "return_inverse",
    ),
    "a test label beyond the classes": (
        lambda g: g.from_arrays(y_test=np.array([0, 1, 2, 0, 1, 3])),
        "expected labels in [0, 3)",
        "Number the classes 0 to 2",
    ),
    "text as images": (lambda g: g.from_arrays(x_train=np.full((6, 8, 8), "a")), "got dtype <U1", "uint8"),
    "complex images": (lambda g: g.from_arrays(x_test=np.zeros((6, 8, 8), complex)), "complex128", "uint8"),
    "no images": (lambda g: g.from_arrays(x_train=np.zeros((0, 8, 8))), "at least one image", "Give images"),
    "a number as class names": (lambda g: g.from_arrays(class_names=3), "got 3", "leave it out"),
    "more names than classes": (lambda g: g.from_arrays(class_names=list("abcd")), "class 3", "Number the"),
    "a number as the data's name": (lambda g: g.from_arrays(name=3), "a text; got int 3", "artifacts"),
    "validation images alone": (
        lambda g: g.from_arrays(x_validation=np.zeros((6, 8, 8), np.uint8)),
        "both or neither",
        "Give the other too",
    ),
    "a split of floats": (
        lambda g: data.Split(np.zeros((2, 8, 8, 1)), np.arange(2), PLAIN),
        "uint8 images",
        "from_arrays",
    ),
    "a split whose label has no class": (
        lambda g: data.Split(np.zeros((2, 8, 8, 1), np.uint8), np.arange(2), PLAIN, 1),
        "in [0, num_classes)",
        "from_arrays",
    ),
    "a split without spread": (
        lambda g: data.Split(np.zeros((2, 8, 8, 1), np.uint8), np.arange(2), FLAT),
        "a std above zero",
        "from_arrays",
    ),
    "arrays to a device": (lambda g: data.to_device(np.zeros(3)), "got ndarray float64[3]", "of a data set"),  # type: ignore[arg-type]
    "a minibatch of a split": (
        lambda g: data.minibatch(g.data.train, g.key, size=4),  # type: ignore[arg-type]
        "a RealData; got Split",
        "to_device",
    ),
    "a class minibatch of a split": (
        lambda g: data.class_minibatch(g.data.train, g.key, size=4),  # type: ignore[arg-type]
        "a RealData; got Split",
        "to_device",
    ),
    "a class minibatch of nothing": (
        lambda g: data.class_minibatch(data.to_device(g.data.train), g.key, size=-1),
        "got -1",
        "1 or more",
    ),
    "a number as image shape": (lambda g: networks.lenet(28, 10), "got 28", "one channel"),  # type: ignore[arg-type]
    "an image of no pixels": (lambda g: networks.convnet((0, 8, 1), 3), "got (0, 8, 1)", "one channel"),
    "no classes": (lambda g: networks.convnet((32, 32, 3), 0), "num_classes: expected", "1 or more"),
    "half a class": (lambda g: networks.alexcifar((32, 32, 3), 9.5), "got 9.5", "whole number"),  # type: ignore[arg-type]
    "no blocks": (lambda g: networks.convnet(SHAPE, 3, depth=0), "depth: expected", "1 or more"),
    "blocks without end": (
        lambda g: networks.convnet(SHAPE, 3, depth=10**9, pooling="none"),
        "expected at most 100 blocks",
        "Give fewer",
    ),
    "more pools than pixels": (lambda g: networks.convnet(SHAPE, 3, depth=4), "at least 16x16", "depth=3"),
    "a norm misspelt": (lambda g: networks.convnet(SHAPE, 3, norm="instanse"), "'instanse'", "'instance'"),
    "groups that do not divide": (
        lambda g: networks.convnet(SHAPE, 3, depth=1, norm="group", width=6),
        "a multiple of 4",
        "got 6",
    ),
    "a width as widths": (lambda g: SMALL_NET(widths=5), "widths: expected whole numbers", "Give a tuple"),
    "a layer of nothing": (lambda g: SMALL_NET(widths=(4, 0)), "widths: expected", "1 or more"),
    "a form of convolution misspelt": (
        lambda g: networks.by_name("convnet", SHAPE, 3, conv_form="bandet"),
        "got 'bandet'",
        "Did you mean 'banded'",
    ),
    "a function as linen module": (lambda g: networks.from_linen(abs, SHAPE, 3), "a Module; got", "linen"),  # type: ignore[arg-type]
    "a number as nnx module": (lambda g: networks.from_nnx(5, SHAPE, 3), "a function; got int 5", "nnx.Rngs"),  # type: ignore[arg-type]
    "weights in place of init": (
        lambda g: networks.from_functions({}, g.network.apply, SHAPE, 3),  # type: ignore[arg-type]
        "init: expected a function; got dict {}",
        "pair of functions",
    ),
    "a network that gives other logits": (
        lambda g: networks.from_functions(g.network.init, g.network.apply, SHAPE, 7),
        "expected (2, 7); got (2, 3)",
        "one score for each class",
    ),
    "a network without a name": (
        lambda g: networks.from_functions(g.network.init, g.network.apply, SHAPE, 3, name=""),
        "name: expected a text",
        "artifacts",
    ),
    "p(θ0) of a number": (lambda g: inits.random(5), "a Network; got int 5", "ddjax.networks"),  # type: ignore[arg-type]
    "θ0 from a seed": (lambda g: inits.fixed(g.network, 0), "one key; got int 0", "jax.random.key"),  # type: ignore[arg-type]
    "a form of flat images": (lambda g: forms.pixels((8, 8), 3), "got (8, 8)", "one channel"),  # type: ignore[arg-type]
    "a form of no classes": (lambda g: forms.pixels(SHAPE, 0), "num_classes: expected", "1 or more"),
    "initial images of NaN": (
        lambda g: small_form(inner_steps=1, initial_images=np.full((1, 3, *SHAPE), NAN)),
        "finite floats, normalised",
        "(pixel / 255 - mean) / std",
    ),
    "initial images as bytes": (
        lambda g: small_form(inner_steps=1, initial_images=np.zeros((1, 3, *SHAPE), np.uint8)),
        "got uint8",
        "(pixel / 255 - mean) / std",
    ),
    "a constant of no schedule": (lambda g: forms.constant({}), "a Schedule; got dict", "ddjax.Schedule"),  # type: ignore[arg-type]
    "a constant whose labels do not fit": (
        lambda g: forms.constant(g.distilled.schedule._replace(labels=jnp.zeros((2, 4, 3)))),
        "(2, 4, 3)",
        "Bring them",
    ),
    "a constant whose rates do not fit": (
        lambda g: forms.constant(g.distilled.schedule._replace(lrs=jnp.zeros((2, 5)))),
        "lrs [E, S]",
        "Bring them",
    ),
    "an unroll without learning rates": (
        lambda g: unroll.unroll(
            unroll.cross_entropy(g.network.apply), g.network.init(g.key), _without_lrs(g).schedule
        ),
        "expected learning rates [E, S]; got none",
        "one for each step",
    ),
    "a name as memory strategy": (
        lambda g: methods.unrolled(g.network, g.inits, memory="sqrt"),  # type: ignore[arg-type]
        "a Memory; got str 'sqrt'",
        "STRATEGIES",
    ),
    "a method of no network": (lambda g: methods.unrolled(abs, g.inits), "network: expected", "networks"),  # type: ignore[arg-type]
    "a method of no p(θ0)": (lambda g: methods.unrolled(g.network, g.key), "inits: expected", "inits"),  # type: ignore[arg-type]
    "a matching of no p(θ0)": (
        lambda g: methods.distribution_matching(g.network, abs),  # type: ignore[arg-type]
        "inits: expected",
        "ddjax.inits",
    ),
    "a name as recipe": (
        lambda g: methods.distribution_matching(g.network, g.inits, recipe="train"),  # type: ignore[arg-type]
        "a Recipe; got str 'train'",
        "ddjax.Recipe",
    ),
    "examples in chunks of none": (
        lambda g: methods.unrolled(g.network, g.inits, examples_per_chunk=0),
        "examples_per_chunk: expected",
        "1 or more",
    ),
    "a method for other images": (
        lambda g: g.distill(method=_method_of(SMALL_NET(image_shape=(9, 9, 1)))),
        "mlp's image shape (H, W, C): expected (8, 8, 1); got (9, 9, 1)",
        "Build the network for these data",
    ),
    "a method for other classes": (
        lambda g: g.distill(method=_method_of(SMALL_NET(num_classes=5))),
        "mlp's number of classes: expected 3; got 5",
        "Build the network for these data",
    ),
    "numbers as devices": (lambda g: g.distill(devices=[0, 1]), "got [0, 1]", "jax.devices()"),
    "a device as devices": (lambda g: g.distill(devices=DEVICES()[0]), "a list of JAX", "jax.devices()"),
    "a number as work directory": (lambda g: g.distill(workdir=5), "a path; got int 5", "leave it out"),
    "metadata that are no mapping": (lambda g: g.distill(metadata=5), "a Mapping; got int 5", "leave it out"),
    "a learning rate of steps": (lambda g: optimizers.adam_cosine(0), "got 0", "1 or more"),
    "a negative learning rate": (lambda g: optimizers.adam_cosine(9, lr=-0.1), "got -0.1", "greater than"),
    "a negative rate of rates": (
        lambda g: optimizers.unrolled_outer(9, lr_of_lrs=-0.1),
        "lr_of_lrs: expected a finite number >= 0; got -0.1",
        "0 or more",
    ),
    "a rate halved at once": (lambda g: optimizers.adam_halving(0), "steps_between: expected", "1 or more"),
    "a rate of NaN": (lambda g: optimizers.adam_halving(9, lr=NAN), "got nan", "greater than zero"),
    "an infinite rate": (lambda g: optimizers.sgd_momentum(lr=INFINITY), "got inf", "greater than zero"),
    "a momentum of one": (lambda g: optimizers.sgd_momentum(momentum=1.0), "in [0, 1); got 1.0", "below 1"),
    "a rate beyond all floats": (lambda g: optimizers.adam_cosine(9, lr=10**400), "lr: expected", "finite"),
    "several keys to train": (lambda g: g.train(key=jax.random.split(g.key)), "shape (2,)", "jax.random.key"),
    "a name as recipe to score": (
        lambda g: Judge(g.network, g.inits, "train", g.data.test),  # type: ignore[arg-type]
        "a Recipe; got str 'train'",
        "ddjax.Recipe",
    ),
    "a coreset of arrays": (
        lambda g: coresets.class_means(np.zeros(3), num_classes=3),  # type: ignore[arg-type]
        "a Split; got ndarray",
        "data.train",
    ),
    "a coreset of fewer classes": (
        lambda g: coresets.class_means(g.data.train, num_classes=2),
        "num_classes: expected",
        "data.num_classes",
    ),
    "centroids of a negative seed": (
        lambda g: coresets.k_means(g.data.train, per_class=1, num_classes=CLASSES, seed=-1),
        "seed: expected",
        "0 or more",
    ),
    "no images of a class": (
        lambda g: coresets.random_real(g.data.train, per_class=0, num_classes=CLASSES, seed=0),
        "images per class: expected",
        "1 or more",
    ),
    "an artifact without a path": (
        lambda g: artifact.save("", g.distilled),
        "path: expected",
        "distilled.npz",
    ),
    "a number as artifact": (lambda g: artifact.load(5), "a path; got int 5", "distilled.npz"),  # type: ignore[arg-type]
    "an artifact into nowhere": (
        lambda g: artifact.save(g.folder / "no" / "a.npz", g.distilled),
        "expected a directory to write to",
        "Make it",
    ),
    "an artifact that could not be loaded": (
        lambda g: artifact.save(g.folder / "a.npz", dataclasses.replace(g.distilled, encoding=COLOUR)),
        "mean: expected shape (1,), got (3,)",
        "again",
    ),
    "an artifact whose network has no name": (
        lambda g: g.artifact(network=5),
        "metadata: network: expected a str; got int 5",
        "Write it again",
    ),
    "an artifact with numbers as class names": (
        lambda g: g.artifact(class_names=[1, 2, 3]),
        "class_names: expected a str; got int 1",
        "Write it again",
    ),
    "an artifact that trains for ever": (
        lambda g: artifact.save(
            g.folder / "a.npz",
            dataclasses.replace(g.distilled, recipe=ddjax.Recipe("train", epochs=10**9)),
        ),
        "epochs: expected at most 1,000,000",
        "Write it again",
    ),
    "a picture without images": (
        lambda g: _picture(g, images=np.zeros((0, 3, *SHAPE))),
        "image_grid: expected images",
        "two leading axes",
    ),
    "a picture in other channels": (
        lambda g: _picture(g, encoding=COLOUR),
        "for each of 1 channels",
        "from_arrays",
    ),
    "a picture with a name missing": (lambda g: _picture(g, class_names=["a"]), "got 1", "Name each class"),
    "no slots to share": (lambda g: parallel.default_devices(0), "num_inits: expected", "1 or more"),
    "a mesh of no devices": (lambda g: parallel.make_mesh([]), "number of devices", "Leave devices out"),
    "a plan of no slots": (lambda g: plan.default_plan("cpu", num_inits=0), "num_inits", "1 or more"),
    "a plan that is incomplete": (lambda g: plan.Plan.from_dict({}), "expected conv_form", "Give every"),
    "a plan in parts of none": (lambda g: plan.Plan(slots_per_chunk=0), "slots_per_chunk", "1 or more"),
    "a site of arrays": (
        lambda g: plan.Site.of(np.zeros(3), g.key, num_inits=1),  # type: ignore[arg-type]
        "a Dataset; got ndarray",
        "ddjax.data.load",
    ),
    "a problem of no method": (
        lambda g: engine.Problem(abs, g.form, optimizers.sgd_momentum()),  # type: ignore[arg-type]
        "method: expected a Method",
        "ddjax.methods",
    ),
    "a problem of no form": (
        lambda g: engine.Problem(g.method, abs, optimizers.sgd_momentum()),  # type: ignore[arg-type]
        "form: expected a Form",
        "ddjax.forms",
    ),
    "a dispatch of no steps": (
        lambda g: engine.build_dispatch(_problem(g), parallel.make_mesh(), capacity=0),
        "capacity: expected",
        "1 or more",
    ),
    # what artifacts say, to the launcher that evaluates them
    "no artifact to evaluate": (lambda g: g.assess(artifact=""), "expected a distilled.npz", "--artifact="),
    "an artifact of no data": (lambda g: g.assess(), "expected the name of a data set; got ''", "--dataset="),
    "an artifact of a file's data": (
        lambda g: g.assess(metadata={"dataset": "../../etc/secret.npz"}),
        "expected the name of a data set; got '../../etc/secret.npz'",
        "--dataset=",
    ),
    "an artifact of data that nobody knows": (
        lambda g: g.assess(metadata={"dataset": "my own"}),
        "got 'my own'",
        "--dataset=",
    ),
    "an artifact of other data": (
        lambda g: g.assess(dataset="digits"),
        "expected 10; got 3",
        "distilled from",
    ),
    "an artifact of a network that nobody knows": (
        lambda g: g.assess(dataset=g.spots(), metadata={"network": "mine"}),
        "network: expected one of",
        "--network=",
    ),
    "an artifact whose network is endless": (
        lambda g: g.assess(
            dataset=g.spots(), metadata={"network": "mlp", "network_settings": {"widths": [10**12]}}
        ),
        "from 1 to 65,536; got 'widths': [1000000000000]",
        "--network=",
    ),
    "an artifact whose network brings its classes": (
        lambda g: g.assess(
            dataset=g.spots(), metadata={"network": "mlp", "network_settings": {"num_classes": 9}}
        ),
        "got 'num_classes': 9",
        "--network=",
    ),
    "an artifact whose network has other settings": (
        lambda g: g.assess(dataset=g.spots(), metadata={"network": "mlp", "network_settings": {"depth": 9}}),
        "settings of mlp: expected one of widths; got 'depth'",
        "widths",
    ),
    "an output that is a directory": (lambda g: g.assess(output=str(g.folder)), "is a directory", "--output"),
    "an output into nowhere": (
        lambda g: g.assess(output=str(g.folder / "no" / "a.json")),
        "none at",
        "Make it",
    ),
    "more images of a class than there are": (
        lambda g: g.assess(dataset=g.few()),
        "images per class: expected at most",
        "Ask for fewer",
    ),
    # command lines
    "an unknown flag": (lambda g: g.launch("--inner_stepz=3"), "Unknown command line flag", "See --help"),
    "a flag of another type": (lambda g: g.launch("--seed=one"), "--seed=one", "See --help"),
    "a flag below its least": (lambda g: g.launch("--inner_steps=0"), "inner_steps", "See --help"),
    "a negative time": (lambda g: g.launch("--save_seconds=-1"), "save_seconds", "See --help"),
    "a flag outside its choices": (
        lambda g: g.launch("--inner_optimizer=sdg"),
        "=sdg: value should be",
        "See",
    ),
    "an argument that is no flag": (lambda g: g.launch("mnist"), "expected only flags", "--name=value"),
    "a network that does not fit": (lambda g: g.launch("--network=lenet"), "got 8x8", "take convnet"),
    "a learning rate below zero": (lambda g: g.launch("--inner_lr=-0.1"), "got -0.1", "greater than zero"),
    "more distilled images than real": (
        lambda g: g.launch("--inner_steps=30", "--images_per_class_per_step=9"),
        "images per class: expected at most",
        "Ask for fewer",
    ),
}


@pytest.fixture(scope="module")
def dataset():
    return three_digits()


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused(dataset, tmp_path, monkeypatch, case):
    action, got, remedy = BAD[case]
    monkeypatch.chdir(tmp_path)
    good = Good(tmp_path, dataset)
    code = None

    def act() -> None:
        action(good)

    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        act()
    message = str(caught.value)
    assert got in message
    assert remedy in message
    assert "expected" in message or "flag" in message
    assert contents(good.workdir) == {}
    # The same, as a launcher tells it.
    code = process.guarded(act)
    assert code == process.EXIT_BAD_INPUT


DAMAGED = {
    "settings cut short": ("config.json", "{", "config.json: expected JSON that a run wrote; got"),
    "settings that are none": ("config.json", "3", "config.json: expected a JSON object; got int"),
    "other settings": ("config.json", "{}", "was started with other settings"),
    "a result that is none": ("result.json", "[]", "result.json: expected a JSON object; got list"),
    "another result": ("result.json", '{"test_accuracy": 3}', "result.json: expected the result of a run"),
    "a plan that is none": ("plan.json", "null", "plan.json: expected the plan"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_work_directory_is_refused_and_left_alone(tmp_path, capsys, case):
    name, text, message = DAMAGED[case]
    good = Good(tmp_path, three_digits())
    settings = random_init.Config(dataset=good.spots(), workdir=str(good.workdir))
    distillation.claim(distillation.prepare("random_init", settings, random_init.build))
    (good.workdir / name).write_text(text)
    before = contents(good.workdir)
    assert process.guarded(lambda: random_init.LAUNCHER.run(settings)) == 2
    assert message in capsys.readouterr().err
    assert contents(good.workdir) == before


def test_the_parts_that_the_table_spoils_are_good(dataset, tmp_path):
    good = Good(tmp_path, dataset)
    good.from_arrays()
    run = good.distill()
    assert artifact.load(artifact.save(tmp_path / "a.npz", run.distilled)).metadata["dataset"]
    assert 0 <= good.evaluate().mean <= 100
    assert jax.tree.leaves(good.train())
    assert good.launch().parts.outer.num_outer_steps == 1000


def test_the_table_is_long_enough_and_each_case_is_its_own():
    assert len(BAD) >= 200
    assert len({action for action, _, _ in BAD.values()}) == len(BAD)


IMAGES = hnp.arrays(
    st.one_of(hnp.integer_dtypes(), hnp.floating_dtypes(), hnp.boolean_dtypes()),
    hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4),
)
LABELS = hnp.arrays(
    st.one_of(hnp.integer_dtypes(), hnp.floating_dtypes()),
    hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=4),
    elements={"min_value": 0, "max_value": 4},
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(x_train=IMAGES, y_train=LABELS, x_test=IMAGES, y_test=LABELS)
def test_any_arrays_are_taken_or_refused(x_train, y_train, x_test, y_test):
    """A data set whose parts fit, or a message."""
    refusal = None
    try:
        dataset = data.from_arrays(x_train, y_train, x_test, y_test)
    except ValueError as error:
        refusal = str(error)
    else:
        assert dataset.train.images.dtype == np.uint8
        assert len(dataset.train) + len(dataset.validation) == len(x_train)
        assert set(np.unique(dataset.train.labels)) == set(range(dataset.num_classes))
        assert np.isfinite(dataset.train.encoded()).all()
    assert refusal is None or ("expected" in refusal and "got" in refusal)


@settings(max_examples=200, deadline=None)
@given(
    value=st.one_of(
        *(st.floats(), st.integers(), st.text(max_size=3), st.none(), st.booleans()),
        st.lists(st.integers(0, 9), max_size=3),
    )
)
def test_any_value_is_a_count_or_refused(value):
    refusal = None
    try:
        checks.at_least("count", value, 1)
    except ValueError as error:
        refusal = str(error)
    is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    assert (refusal is None) == is_count
    assert refusal is None or f"expected a whole number >= 1; got {value!r}" in refusal

"""Bad runs, and bad parts of their engine: what was expected, what was got, what to do."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from problems import CLASSES, SHAPE, small_form
from refusals import NAN, Cases, Good, Refuses, small_net

import ddjax
from ddjax import engine, forms, inits, methods, optimizers, parallel, plan, workdir
from ddjax.checkpoint import Store


def _in_use(good: Good) -> None:
    with workdir.locked(good.workdir / "checkpoints"):
        good.distill()


def _method_of(network: ddjax.Network) -> ddjax.Method:
    return methods.unrolled(network, inits.random(network), batch_size=4)


def _problem(good: Good) -> engine.Problem:
    return engine.Problem(good.method, good.form, optimizers.sgd_momentum())


def _other_structure(good: Good) -> None:
    store = Store(good.folder / "checkpoints")
    store.save(1, {"a": np.zeros(2)})
    store.restore({"a": np.zeros(3)})


REFUSED: Cases = {
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
        lambda g: g.distill(num_inits=3, devices=jax.devices()[:2]),
        "multiple of the 2 devices; got 3",
        "Use 2 or 4",
    ),
    "a file as work directory": (
        lambda g: g.distill(workdir=g.file("taken")),
        "is a file",
        "Choose another place",
    ),
    "a work directory in use": (_in_use, "is in use by process", "choose another directory"),
    "a method for other images": (
        lambda g: g.distill(method=_method_of(small_net(image_shape=(9, 9, 1)))),
        "mlp's image shape (H, W, C): expected (8, 8, 1); got (9, 9, 1)",
        "Build the network for these data",
    ),
    "a method for other classes": (
        lambda g: g.distill(method=_method_of(small_net(num_classes=5))),
        "mlp's number of classes: expected 3; got 5",
        "Build the network for these data",
    ),
    "numbers as devices": (lambda g: g.distill(devices=[0, 1]), "got [0, 1]", "jax.devices()"),
    "a device as devices": (lambda g: g.distill(devices=jax.devices()[0]), "a list of JAX", "jax.devices()"),
    "a number as work directory": (lambda g: g.distill(workdir=5), "a path; got int 5", "leave it out"),
    "metadata that are no mapping": (lambda g: g.distill(metadata=5), "a Mapping; got int 5", "leave it out"),
    "a checkpoint of another structure": (_other_structure, "expected float64[3], got float64[2]", "own"),
    "no checkpoints to keep": (lambda g: Store(g.folder, keep=0), "keep: expected", "1 or more"),
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
    "a plan of no slots": (lambda g: plan.default_plan("cpu", num_inits=0), "num_inits", "1 or more"),
    "a plan that is incomplete": (lambda g: plan.Plan.from_dict({}), "expected conv_form", "Give every"),
    "a plan in parts of none": (lambda g: plan.Plan(slots_per_chunk=0), "slots_per_chunk", "1 or more"),
    "a site of arrays": (
        lambda g: plan.Site.of(np.zeros(3), g.key, num_inits=1),  # type: ignore[arg-type]
        "a Dataset; got ndarray",
        "ddjax.data.load",
    ),
    "devices of nobody": (lambda g: parallel.check_everywhere([]), "got none of process 0", "Leave devices"),
    "no slots to share": (lambda g: parallel.default_devices(0), "num_inits: expected", "1 or more"),
    "a mesh of no devices": (lambda g: parallel.make_mesh([]), "number of devices", "Leave devices out"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused(case, refuses: Refuses):
    refuses(*REFUSED[case])

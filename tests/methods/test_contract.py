"""The contract suite: every method in one table, every promise of `ddjax.types.Method` tested on each."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import CLASSES, SHAPE, relative, small_form, three_digits

import ddjax
from ddjax import Recipe, augment, forms, inits, methods, networks
from ddjax.checkpoint import Store
from ddjax.data import Dataset, to_device
from ddjax.engine import Problem, init_state
from ddjax.pool import Pool
from ddjax.types import Form, InitDistribution, Method, Network, Schedule


@dataclasses.dataclass(frozen=True)
class Entry:
    """A row of the table: how to build the method, and a φ that it accepts."""

    build: Callable[[Network, InitDistribution], Method]
    form: Callable[[], Form]
    refused_form: Callable[[], Form]
    refusal: str
    learns_with: dict


def from_a_pool(p: InitDistribution) -> InitDistribution:
    """A finite p(θ0): a hundred draws of another one."""
    params = jax.vmap(p.sample)(jax.random.split(jax.random.key(11), 100))
    return inits.pretrained(Pool(jax.device_get(params), 100, np.zeros(100, np.float32)))


TABLE = {
    "unrolled": Entry(
        build=lambda network, p: methods.unrolled(network, p, batch_size=64),
        form=lambda: small_form(inner_lr=0.1),
        refused_form=lambda: small_form(inner_lr=None),
        refusal="expected learning rates",
        learns_with={"optimizer": ddjax.optimizers.adam_cosine(100, lr=0.1)},
    ),
    "unrolled from a pool": Entry(
        build=lambda network, p: methods.unrolled(network, from_a_pool(p), batch_size=64),
        form=lambda: small_form(inner_lr=0.1),
        refused_form=lambda: small_form(inner_lr=None),
        refusal="expected learning rates",
        learns_with={"optimizer": ddjax.optimizers.adam_cosine(100, lr=0.1)},
    ),
    "distribution_matching": Entry(
        build=lambda network, p: methods.distribution_matching(
            network, p, batch_size=32, recipe=Recipe("train", lr=0.1, epochs=60)
        ),
        form=lambda: small_form(inner_lr=None),
        refused_form=lambda: small_form(inner_lr=0.1),
        refusal="expected no learning rates",
        learns_with={"optimizer": ddjax.optimizers.sgd_momentum(lr=0.1)},
    ),
    "distribution_matching, augmented": Entry(
        build=lambda network, p: methods.distribution_matching(
            network,
            p,
            batch_size=32,
            recipe=Recipe("train", lr=0.1, epochs=60),
            augmentation=augment.by_name("cutout_flip", SHAPE),
        ),
        form=lambda: small_form(inner_lr=None),
        refused_form=lambda: small_form(inner_lr=0.1),
        refusal="expected no learning rates",
        learns_with={"optimizer": ddjax.optimizers.sgd_momentum(lr=0.1)},
    ),
    "gradient_matching": Entry(
        build=lambda network, p: methods.gradient_matching(
            network, p, batch_size=32, matches=2, lr_net=0.1, recipe=Recipe("train", lr=0.1, epochs=60)
        ),
        form=lambda: small_form(inner_lr=None),
        refused_form=lambda: small_form(inner_lr=0.1),
        refusal="expected no learning rates",
        learns_with={"optimizer": ddjax.optimizers.sgd_momentum(lr=0.1)},
    ),
    "gradient_matching, augmented": Entry(
        build=lambda network, p: methods.gradient_matching(
            network,
            p,
            batch_size=32,
            recipe=Recipe("train", lr=0.1, epochs=60),
            augmentation=augment.by_name("cutout", SHAPE),
        ),
        form=lambda: small_form(inner_lr=None),
        refused_form=lambda: small_form(inner_lr=0.1),
        refusal="expected no learning rates",
        learns_with={"optimizer": ddjax.optimizers.sgd_momentum(lr=0.1)},
    ),
}
NETWORKS = {
    "mlp": lambda: networks.mlp(SHAPE, CLASSES, widths=(16,)),
    "convnet": lambda: networks.convnet(SHAPE, CLASSES, depth=1, width=4, activation="tanh"),
}


@pytest.fixture(params=TABLE)
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def toy() -> Dataset:
    return three_digits()


def make(name: str, network: str = "mlp") -> tuple[Method, Form, Network, InitDistribution]:
    net = NETWORKS[network]()
    distribution = inits.random(net)
    return TABLE[name].build(net, distribution), TABLE[name].form(), net, distribution


def loss_of(method: Method, form: Form, toy: Dataset):
    """The loss of one slot as a function of φ's parameters, and a φ."""
    params, state = form.init(jax.random.key(1)), method.init(jax.random.key(2))
    batch = method.sample(to_device(toy.train), jax.random.key(3))

    def loss(params):
        return method.loss(form.unfold(params), state, batch, jax.random.key(4))

    return loss, params


@pytest.fixture(scope="module")
def differentiated(toy):
    """`(name, network) -> ((loss, info), gradient)` in float64, by one compiled program for all who ask."""

    @functools.cache
    def compute(name: str, network: str = "mlp") -> Any:
        method, form, _, _ = make(name, network)
        loss, params = loss_of(method, form, toy)
        return jax.jit(jax.value_and_grad(loss, has_aux=True))(params)

    return compute


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.usefixtures("x64")
def test_is_finite_and_differentiable(name, network, differentiated):
    (value, info), grads = differentiated(name, network)
    for leaf in jax.tree.leaves((value, info, grads)):
        assert np.isfinite(leaf).all()
    for leaf in jax.tree.leaves(grads):
        assert float(jnp.linalg.norm(leaf)) > 0


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_gradient_agrees_with_finite_differences(name, toy, differentiated):
    method, form, _, _ = make(name, "convnet")  # tanh: no kinks
    loss, params = loss_of(method, form, toy)
    _, grads = differentiated(name, "convnet")
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(5), len(leaves))
    direction = structure.unflatten(
        [jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)]
    )
    value, size = jax.jit(lambda p: loss(p)[0]), 1e-5
    ahead, behind = (
        value(jax.tree.map(lambda p, d, s=s: p + s * size * d, params, direction)) for s in (1, -1)
    )
    expected = sum(
        float(jnp.sum(g * d)) for g, d in zip(*map(jax.tree.leaves, (grads, direction)), strict=True)
    )
    assert float(ahead - behind) / (2 * size) == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_jit_changes_nothing(name, toy, differentiated):
    method, form, _, _ = make(name)
    loss, params = loss_of(method, form, toy)
    plain = jax.value_and_grad(loss, has_aux=True)(params)
    assert relative(differentiated(name), plain) < 1e-12


@pytest.fixture(scope="module")
def four_slots(toy):
    """`(name, devices, slots_per_chunk) -> φ` after three outer steps with four slots; each once."""

    @functools.cache
    def distil(name: str, *, num_devices: int = 1, slots_per_chunk: int = 1) -> Any:
        method, form, _, _ = make(name)
        devices = jax.devices()[:num_devices]
        settings = {"num_inits": 4, "devices": devices, "slots_per_chunk": slots_per_chunk}
        run = ddjax.distill(toy, method, key=jax.random.key(0), num_outer_steps=3, form=form, **settings)
        return run.distilled.params

    return distil


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_four_devices_equal_one(name, four_slots):
    assert relative(four_slots(name, num_devices=4), four_slots(name)) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("slots_per_chunk", [2, 4])
@pytest.mark.usefixtures("x64")
def test_vmapped_and_chunked_slots_equal_scanned_ones(name, slots_per_chunk, four_slots):
    assert relative(four_slots(name, slots_per_chunk=slots_per_chunk), four_slots(name)) < 1e-12


@pytest.mark.slow
def test_learns_a_toy_problem(name, toy):
    method, form, net, distribution = make(name)
    run = ddjax.distill(
        toy,
        method,
        key=jax.random.key(0),
        num_outer_steps=100,
        form=form,
        reporting=ddjax.Reporting(every=1),
        **TABLE[name].learns_with,
    )
    start = dataclasses.replace(run.distilled, params=form.init(jax.random.key(7)))
    scores = [
        ddjax.evaluate(phi, net, distribution, toy.test, key=jax.random.key(8), num_inits=5)
        for phi in (start, run.distilled)
    ]
    losses = [record["loss"] for record in run.history]
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:5])
    assert scores[1].mean > 80
    assert scores[0].mean < 60


@pytest.mark.slow
def test_resumes_bit_for_bit(name, toy, tmp_path: Path):
    method, form, _, _ = make(name)

    class EnoughError(Exception):
        pass

    def stop_at_five(record):
        if record["step"] == 5:
            raise EnoughError

    def go(workdir: Path, listener=None):
        return ddjax.distill(
            toy,
            method,
            key=jax.random.key(0),
            num_outer_steps=9,
            form=form,
            num_inits=2,
            workdir=workdir,
            save_seconds=0,
            reporting=ddjax.Reporting(every=1, listener=listener),
        )

    whole = go(tmp_path / "whole")
    with pytest.raises(EnoughError):
        go(tmp_path / "halves", stop_at_five)
    assert 0 < int(Store(tmp_path / "halves" / "checkpoints").paths()[0].stem[5:]) < 9
    halves = go(tmp_path / "halves")
    for ours, theirs in zip(
        *map(jax.tree.leaves, (halves.distilled.params, whole.distilled.params)), strict=True
    ):
        assert np.array_equal(ours, theirs)
    lines = [(tmp_path / half / "metrics.jsonl").read_bytes() for half in ("whole", "halves")]
    assert lines[0] == lines[1]


@pytest.mark.slow
def test_accepts_every_form(name, toy):
    method, pixels, _, _ = make(name)
    start = pixels.unfold(pixels.init(jax.random.key(0)))
    settings = {"inner_lr": 0.1 if method.needs_lrs else None}
    # Not of zeros, at which relu units without a bias have no derivative.
    from_images = small_form(initial_images=np.ones(start.inputs.shape, np.float32), **settings)

    def images_after(steps, form):
        run = ddjax.distill(toy, method, key=jax.random.key(0), num_outer_steps=steps, form=form)
        return np.asarray(run.distilled.schedule.inputs)

    for form in (from_images, forms.constant(start)):
        before = np.asarray(form.unfold(form.init(jax.random.key(0))).inputs)
        assert not np.array_equal(images_after(2, form), before)
    # Noise is drawn from a key that only the run knows.
    assert not np.array_equal(images_after(2, pixels), images_after(1, pixels))


def test_refuses_a_form_it_cannot_use(name, toy):
    method, _, _, _ = make(name)
    with pytest.raises(ValueError, match=TABLE[name].refusal):
        ddjax.distill(toy, method, key=jax.random.key(0), num_outer_steps=1, form=TABLE[name].refused_form())


def test_state_has_a_leading_slot_axis_and_advance_keeps_its_shape(name):
    method, form, _, _ = make(name)
    state = init_state(Problem(method, form, ddjax.optimizers.sgd_momentum(), num_inits=3), jax.random.key(0))
    chex.assert_tree_shape_prefix(state.slots, (3,))
    one = method.init(jax.random.key(0))
    schedule: Schedule = form.unfold(form.init(jax.random.key(1)))
    advanced = jax.eval_shape(method.advance, schedule, one, jax.random.key(2))
    chex.assert_trees_all_equal_shapes_and_dtypes(advanced, one)


def test_distribution_matching_refuses_a_network_without_embedding():
    def init(key):
        return {"kernel": jax.random.normal(key, (64, CLASSES))}

    blind = networks.from_functions(
        init, lambda params, x: x.reshape(len(x), -1) @ params["kernel"], SHAPE, CLASSES, name="blind"
    )
    with pytest.raises(ValueError, match="'blind' has none"):
        methods.distribution_matching(blind, inits.random(blind))

"""Tests of implicit regression: the values of the original, and the gradient through the inner minimum."""

from __future__ import annotations

import importlib
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import CLASSES, SHAPE, relative

from ddjax import inits, networks
from ddjax.methods.implicit_regression import (
    Examples,
    _ImplicitRegression,
    body_of,
    implicit_regression,
)
from ddjax.methods.online_pool import OnlinePool
from ddjax.types import Batch, Schedule

SOLVER_STEPS = 150


class Recorded:
    """`rcig.npz`, under our names of the layers."""

    def __init__(self, file: np.lib.npyio.NpzFile):
        self.file = file
        shape = file["images"].shape[1:]
        self.network = networks.convnet(shape, 4, width=4, growth=2, norm="none", activation="softplus")
        self.params = self.named("base")
        self.tangents = self.named("tangent")
        self.of = Examples(*(jnp.asarray(file[name], jnp.float64) for name in ("images", "labels")))
        # The centred labels of real examples are one-hot but for their mean.
        classes = file["real_labels"].argmax(1).astype(np.int32)
        self.real = Batch(jnp.asarray(file["real_images"], jnp.float64), jnp.asarray(classes))
        self.log_scale = jnp.asarray(float(file["log_temp"]))
        embed = self.network.embed
        assert embed is not None
        pool = OnlinePool(
            network=self.network,
            inits=inits.random(self.network),
            size=1,
            reset=1,
            lr=1e-3,
            flip=bool(file["flip"]),
        )
        self.method = _ImplicitRegression(
            networks=pool,
            embed=embed,
            trained=body_of(self.network, embed),
            batch_size=12,
            penalty=float(file["l2"]) / 8,
            solver_steps=SOLVER_STEPS,
            clip=False,
            examples_per_chunk=5,
        )

    def named(self, prefix: str) -> Any:
        """The leaves below a prefix; zeros for the last layer where it has none."""
        found: dict[str, dict[str, jax.Array]] = {}
        for theirs, ours in (("Dense_0", "classifier"), *((f"Conv_{i}", f"conv{i + 1}") for i in range(3))):
            for leaf in ("bias", "kernel"):
                name = f"{prefix}/{theirs}/{leaf}"
                base = self.file[f"base/{theirs}/{leaf}"]
                value = self.file[name] if name in self.file else np.zeros_like(base)
                found.setdefault(ours, {})[leaf] = jnp.asarray(value, jnp.float64)
        return found


@pytest.fixture
def recorded(reference, monkeypatch) -> Recorded:
    file = np.load(reference / "rcig.npz")
    beta = float(file["softplus_beta"])
    convnet = importlib.import_module("ddjax.networks.convnet")  # the package's name is the function's
    monkeypatch.setitem(convnet._ACTIVATIONS, "softplus", lambda x: nn.softplus(beta * x) / beta)
    return Recorded(file)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("at", ["given", "optimum"])
def test_the_recorded_losses_and_gradients_are_replayed(recorded, at):
    method, file = recorded.method, recorded.file
    tangents = recorded.tangents if at == "given" else recorded.named("optimum/tangent")

    @jax.jit
    def replayed(tangents: Any):
        around = method.linearised(recorded.params, 8)
        seen = method.seen(recorded.of)
        inner, slope = jax.value_and_grad(around.inner)(tangents, seen)
        least = around.minimum(seen, method.trained, steps=SOLVER_STEPS)
        found = method.gradient(around, tangents, recorded.of, recorded.log_scale, recorded.real)
        return inner, slope, least, found

    inner, slope, least, found = replayed(tangents)
    assert relative(inner, file[f"{at}/inner_loss"]) < 1e-9
    assert relative(found.value, file[f"{at}/outer_loss"]) < 1e-9
    assert relative(found.of_log_scale, file[f"{at}/direct_grad/log_temp"]) < 1e-9
    for name, ours in (("direct_grad", found.direct), ("implicit_grad", found.implicit)):
        theirs = (file[f"{at}/{name}/x_proto"], file[f"{at}/{name}/y_proto"])
        assert relative(ours[0], theirs[0]) < 1e-9, name
        assert relative(ours[1], theirs[1]) < 1e-9, name
    assert relative(found.of_tangents, recorded.named(f"{at}/outer_grad_tangent")) < 1e-9
    assert relative(found.solution, recorded.named(f"{at}/hinv_vp")) < 1e-9
    if at == "given":
        body = jax.tree.map(jnp.multiply, method.trained, slope)
        assert relative(body, recorded.named("given/inner_grad_tangent")) < 1e-9
    assert relative(least, recorded.named("optimum/tangent")) < 1e-8


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_the_gradient_is_that_through_the_inner_minimum(recorded):
    """Against central differences of the loss, whose inner problem is solved again at each point."""
    method = recorded.method
    state = method.init(jax.random.key(0))
    network = jax.tree.map(lambda leaf: leaf[None], recorded.params)
    state = state._replace(networks=state.networks._replace(params=network))
    rng = np.random.default_rng(0)
    along = [jnp.asarray(rng.normal(size=leaf.shape)) for leaf in recorded.of]

    def loss(step: jax.Array) -> jax.Array:
        inputs, labels = (leaf + step * to for leaf, to in zip(recorded.of, along, strict=True))
        schedule = Schedule(inputs[None], labels[None], None)
        return method.loss(schedule, state, recorded.real, jax.random.key(0))[0]

    at = jax.jit(loss)
    slope = jax.jit(jax.grad(loss))(0.0)
    size = 1e-6
    difference = (at(size) - at(-size)) / (2 * size)
    assert float(slope) == pytest.approx(float(difference), rel=1e-6)


@pytest.mark.usefixtures("x64")
def test_the_last_layer_has_no_tangents():
    network = networks.mlp(SHAPE, CLASSES, widths=(4,))
    assert network.embed is not None
    found = body_of(network, network.embed)
    shapes = jax.eval_shape(network.init, jax.random.key(0))
    last = [shape.shape[-1] == CLASSES for shape in jax.tree.leaves(shapes)]
    assert [factor == 0.0 for factor in jax.tree.leaves(found)] == last


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"penalty": 0.0}, "penalty: expected"),
        ({"solver_steps": 0}, "solver_steps: expected"),
        ({"online_steps": 0}, "online_steps: expected"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    network = networks.mlp(SHAPE, CLASSES, widths=(4,))
    with pytest.raises(ValueError, match=message):
        implicit_regression(network, inits.random(network), **settings)


def test_batch_norm_is_refused():
    network = networks.convnet(SHAPE, CLASSES, depth=1, width=4, norm="batch")
    with pytest.raises(ValueError, match="expected a network without batch norm"):
        implicit_regression(network, inits.random(network))

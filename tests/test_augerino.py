"""Augerino: its objective against the original implementation, what learns, what is refused."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import CLASSES, SHAPE, relative, three_digits

from ddjax import augerino, inits, networks
from ddjax.augerino import Learned
from ddjax.augment_learned import TRANSFORMS
from ddjax.data import to_device
from ddjax.training import Examples
from ddjax.types import Network


def linear(shape: tuple[int, int, int], num_classes: int) -> Network:
    def init(key: jax.Array) -> dict[str, jax.Array]:
        return {"kernel": jnp.zeros((int(np.prod(shape)), num_classes)), "bias": jnp.zeros(num_classes)}

    def apply(params: Any, x: jax.Array) -> jax.Array:
        return x.reshape(len(x), -1) @ params["kernel"] + params["bias"][None]

    return networks.from_functions(init, apply, shape, num_classes, name="linear")


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("case", ["digits", "colour"])
def test_the_objective_replays_the_original_implementation(reference, case):
    values = np.load(reference / "augerino.npz")
    found = {
        name: jnp.asarray(values[f"{case}/{name}"], jnp.float64)
        for name in ("images", "uniform", "raw_width", "linear_kernel", "linear_bias")
    }
    images, labels = found["images"], jnp.asarray(values[f"{case}/labels"])
    network = linear((images.shape[1], images.shape[2], images.shape[3]), 10)
    params = {"kernel": found["linear_kernel"], "bias": found["linear_bias"]}

    def loss(raw: jax.Array) -> jax.Array:
        learned = Learned(params, raw)
        return augerino.objective(network, learned, images, labels, found["uniform"], reward=0.1)

    value, grad = jax.jit(jax.value_and_grad(loss))(found["raw_width"])
    assert relative(value, values[f"{case}/loss"]) < 1e-9
    assert relative(grad, values[f"{case}/grad_raw_width_of_loss"]) < 1e-9


@pytest.mark.usefixtures("x64")
@pytest.mark.slow
def test_ranges_that_are_all_there_is_have_no_reward(rng):
    network = linear((4, 4, 1), 2)
    params = network.init(jax.random.key(0))
    images, uniform = jnp.asarray(rng.normal(size=(3, 4, 4, 1))), jnp.full((3, 6), 0.5)
    labels = jnp.array([0, 1, 1])
    losses = [
        float(augerino.objective(network, Learned(params, raw), images, labels, uniform, reward=0.1))
        for raw in (jnp.zeros(6), jnp.zeros(6).at[2].set(10.5))
    ]
    assert losses[0] == pytest.approx(np.log(2) - 0.1 * np.sqrt(6) * np.log(2))
    assert losses[1] == pytest.approx(np.log(2))


def test_the_published_start_has_a_wide_rotation_and_narrow_others():
    """Raw 1 and -5 of the authors' code for rotated MNIST, through softplus."""
    raw = jnp.array([-5.0, -5, 1, -5, -5, -5])
    np.testing.assert_allclose(list(augerino.STARTS.values()), jax.nn.softplus(raw), rtol=1e-6)


@pytest.mark.slow
def test_a_network_and_its_widths_are_learned_together():
    network, data = linear(SHAPE, CLASSES), three_digits()

    @jax.jit
    def learn(real: Any) -> Learned:
        start = network.init(jax.random.key(0))
        return augerino.learn(
            network, start, Examples.of_data(real), jax.random.key(1), epochs=3, batch_size=30, lr=0.01
        )

    learned = learn(to_device(data.train))
    assert set(learned.widths) == set(TRANSFORMS)
    assert all(width > 0 for width in learned.widths.values())
    moved = {name: abs(learned.widths[name] / start - 1) for name, start in augerino.STARTS.items()}
    assert min(moved.values()) > 1e-4
    assert moved["rotation"] > 1e-2
    assert augerino.accuracy(network, learned, data.test, jax.random.key(2)) > 90


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"widths": 0.0}, "widths: expected"),
        ({"widths": {"rotation": 1.0}}, "widths: expected a number for each of .*; got rotation. Give all"),
        ({"widths": dict.fromkeys(TRANSFORMS, 0.1) | {"shear": -1}}, "widths of shear: expected"),
        ({"reward": -1.0}, "reward: expected"),
        ({"lr": 0.0}, "lr: expected"),
        ({"lr_of_widths": 0.0}, "lr_of_widths: expected"),
        ({"weight_decay": -1.0}, "weight_decay: expected"),
        ({"epochs": 0}, "epochs: expected"),
        ({"batch_size": 0}, "batch_size: expected"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    network = networks.mlp(SHAPE, CLASSES, widths=())
    examples = Examples(lambda rows: (rows, rows), 3)
    with pytest.raises(ValueError, match=message):
        augerino.learn(
            network, inits.random(network).sample(jax.random.key(0)), examples, jax.random.key(0), **settings
        )

"""The unroll, in float64: against the original implementations, finite differences, and a Python loop."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ddjax import forms, inits, methods, networks
from ddjax.distilled import PixelParams, inverse_softplus
from ddjax.types import Batch, Network, Schedule
from ddjax.unroll import cross_entropy, unroll

CASES = {
    "dd_lenet28": (
        "lenet",
        {f"conv{i}": f"conv{i}" for i in (1, 2)} | {f"fc{i}": f"fc{i}" for i in (1, 2, 3)},
    ),
    "dd_lenet28_attack": (
        "lenet",
        {f"conv{i}": f"conv{i}" for i in (1, 2)} | {f"fc{i}": f"fc{i}" for i in (1, 2, 3)},
    ),
    "dd_alexcifar": (
        "alexcifar",
        {
            "conv1": "features.0",
            "conv2": "features.4",
            "fc1": "classifier.0",
            "fc2": "classifier.2",
            "fc3": "classifier.4",
        },
    ),
}
ATTACKED, TARGET = 3, 7


def replay_inputs(name: str, reference) -> tuple[Network, Any, Schedule, jax.Array, jax.Array, Any]:
    """The case's network, θ0, schedule, real images and labels in float64, and the recorded results."""
    architecture, layers = CASES[name]
    values = np.load(reference / f"{name}.npz")
    network = networks.by_name(architecture, values["images"].shape[2:], 10)
    params = {
        ours: {
            "kernel": jnp.asarray(values[f"param/{theirs}.weight"], jnp.float64),
            "bias": jnp.asarray(values[f"param/{theirs}.bias"], jnp.float64),
        }
        for ours, theirs in layers.items()
    }
    num_steps = len(values["images"])
    schedule = Schedule(
        jnp.asarray(values["images"], jnp.float64),
        jnp.asarray(np.eye(10)[values["labels"]]),
        jnp.asarray(values["lrs"], jnp.float64).reshape(-1, num_steps),
    )
    labels = values["real_labels"]
    if name.endswith("attack"):
        labels = np.where(labels == ATTACKED, TARGET, labels)
    return (
        network,
        params,
        schedule,
        jnp.asarray(values["real_images"], jnp.float64),
        jnp.asarray(labels),
        values,
    )


def relative(ours: Any, theirs: Any) -> float:
    theirs = np.asarray(theirs)
    return float(np.linalg.norm(np.ravel(np.asarray(ours) - theirs)) / np.linalg.norm(np.ravel(theirs)))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.usefixtures("x64")
def test_replays_the_original_implementation(name, reference):
    network, params, schedule, images, labels, values = replay_inputs(name, reference)

    def loss(images_and_raw: tuple[jax.Array, jax.Array], direct_lrs: jax.Array | None):
        inputs, raw = images_and_raw
        lrs = jax.nn.softplus(raw) if direct_lrs is None else direct_lrs
        final, _ = unroll(cross_entropy(network.apply), params, schedule._replace(inputs=inputs, lrs=lrs))
        logits = network.apply(final, images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), final

    assert schedule.lrs is not None
    raw = jnp.asarray(inverse_softplus(np.asarray(schedule.lrs)))
    (value, final), (grad_images, grad_raw) = jax.jit(jax.value_and_grad(loss, has_aux=True))(
        (schedule.inputs, raw), None
    )
    grad_lrs = jax.jit(jax.grad(lambda lrs: loss((schedule.inputs, raw), lrs)[0]))(schedule.lrs)

    assert relative(value, values["loss"]) < 1e-9
    assert relative(grad_images, values["grad_images"]) < 1e-9
    assert relative(np.ravel(grad_lrs), values["grad_lrs"]) < 1e-9
    assert relative(np.ravel(grad_raw), values["grad_raw_lrs"]) < 1e-9
    assert relative(optax.tree.norm(final), values["final_params_norm"]) < 1e-9


def small_problem(key: jax.Array) -> tuple[Network, Any, PixelParams, Any, Batch]:
    """A smooth little network, φ with S 2, E 2, and eight real images."""
    network = networks.convnet((8, 8, 1), 3, depth=1, width=4, activation="tanh")
    form = forms.pixels((8, 8, 1), 3, inner_steps=2, inner_epochs=2, inner_lr=0.1)
    keys = jax.random.split(key, 4)
    batch = Batch(jax.random.normal(keys[0], (8, 8, 8, 1)), jax.random.randint(keys[1], (8,), 0, 3))
    return network, inits.random(network), form.init(keys[2]), form, batch


@pytest.mark.usefixtures("x64")
def test_finite_differences_agree_for_every_part_of_phi():
    network, distribution, params, form, batch = small_problem(jax.random.key(0))
    method = methods.unrolled(network, distribution)

    def loss(params: PixelParams) -> jax.Array:
        return method.loss(form.unfold(params), (), batch, jax.random.key(9))[0]

    grads = jax.grad(loss)(params)
    value = jax.jit(loss)
    for field, size in (("images", 1e-5), ("raw_lrs", 1e-5)):
        leaf, grad = getattr(params, field), getattr(grads, field)
        directions = jax.random.normal(jax.random.key(1), (3, *leaf.shape))
        for direction in directions:
            ahead = value(params._replace(**{field: leaf + size * direction}))
            behind = value(params._replace(**{field: leaf - size * direction}))
            numeric = float(ahead - behind) / (2 * size)
            assert numeric == pytest.approx(float(jnp.sum(grad * direction)), rel=1e-6, abs=1e-10)
        assert float(jnp.linalg.norm(grad)) > 0


@pytest.mark.usefixtures("x64")
def test_scan_equals_a_python_loop():
    network, distribution, params, form, batch = small_problem(jax.random.key(2))
    theta = distribution.sample(jax.random.key(3))
    inner = cross_entropy(network.apply)

    def looped(schedule: Schedule):
        weights, losses = theta, []
        assert schedule.lrs is not None
        for lrs in schedule.lrs:
            for inputs, labels, lr in zip(schedule.inputs, schedule.labels, lrs, strict=True):
                value, grads = jax.value_and_grad(inner)(weights, inputs, labels)
                weights = jax.tree.map(lambda w, g, lr=lr: w - lr * g, weights, grads)
                losses.append(value)
        return weights, jnp.stack(losses)

    def outer(train, params: PixelParams) -> tuple[jax.Array, jax.Array]:
        weights, losses = train(form.unfold(params))
        return inner(weights, batch.inputs, jax.nn.one_hot(batch.labels, 3)), losses

    (scan_value, scan_losses), scan_grads = jax.jit(
        jax.value_and_grad(lambda p: outer(lambda s: unroll(inner, theta, s), p), has_aux=True)
    )(params)
    (loop_value, loop_losses), loop_grads = jax.value_and_grad(lambda p: outer(looped, p), has_aux=True)(
        params
    )
    assert relative(scan_value, loop_value) < 1e-13
    assert relative(scan_losses, loop_losses) < 1e-13
    assert relative(scan_grads.images, loop_grads.images) < 1e-12
    assert relative(scan_grads.raw_lrs, loop_grads.raw_lrs) < 1e-12


def test_learning_rates_keep_the_weights_dtype():
    with jax.enable_x64(True):
        network = networks.mlp((2, 2, 1), 2)
        params = jax.tree.map(
            lambda leaf: leaf.astype(jnp.float32), inits.random(network).sample(jax.random.key(0))
        )
        schedule = Schedule(jnp.ones((1, 2, 2, 2, 1), jnp.float32), jnp.ones((1, 2, 2)) / 2, jnp.ones((1, 1)))
        final, _ = unroll(cross_entropy(network.apply), params, schedule)
    assert {leaf.dtype for leaf in jax.tree.leaves(final)} == {np.dtype("float32")}

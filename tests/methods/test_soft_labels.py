"""Soft labels: fewer images than classes, labels of any sign, against the original code's values."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import relative

from ddjax import forms, methods, networks
from ddjax.forms import PixelParams
from ddjax.types import Batch, InitDistribution, Schedule
from ddjax.unroll import cross_entropy, unroll

LAYERS = ("conv1", "conv2", "fc1", "fc2", "fc3")


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("label_form", "group"), [("free", ""), ("softmax", "softmax/")])
def test_replays_five_images_for_ten_classes(label_form, group, reference):
    values = np.load(reference / "soft_label.npz")
    network = networks.lenet((28, 28, 1), 10)
    theta = {
        name: {
            "kernel": jnp.asarray(values[f"param/{name}.weight"], float),
            "bias": jnp.asarray(values[f"param/{name}.bias"], float),
        }
        for name in LAYERS
    }
    form = forms.pixels(
        (28, 28, 1),
        10,
        inner_steps=2,
        inner_epochs=2,
        initial_labels=np.full((2, 5, 10), 0.1),
        label_form=label_form,
    )
    raw = jnp.asarray(values["raw_lrs"], float).reshape(2, 2)
    params = PixelParams(jnp.asarray(values["images"], float), raw, jnp.asarray(values["labels"], float))
    method = methods.unrolled(
        network, InitDistribution(lambda key: theta, "given", fixed=True), examples_per_chunk=16
    )
    real = Batch(jnp.asarray(values["real_images"], float), jnp.asarray(values["real_labels"]))

    @jax.jit
    def step(params: PixelParams):
        def loss(params: PixelParams):
            return method.loss(form.unfold(params), (), real, jax.random.key(0))[0]

        return jax.value_and_grad(loss)(params)

    @jax.jit
    def trained(schedule: Schedule) -> jax.Array:
        return optax.tree.norm(unroll(cross_entropy(network.apply), theta, schedule)[0])

    value, grads = step(params)
    np.testing.assert_allclose(jax.nn.softplus(raw).ravel(), values["lrs"], rtol=1e-9)
    assert relative(value, values[f"{group}loss"]) < 1e-9
    assert relative(grads.images, values[f"{group}grad_images"]) < 1e-9
    assert relative(grads.label_logits, values[f"{group}grad_labels"]) < 1e-9
    assert relative(grads.raw_lrs.ravel(), values[f"{group}grad_raw_lrs"]) < 1e-9
    assert relative(trained(form.unfold(params)), values[f"{group}final_params_norm"]) < 1e-9

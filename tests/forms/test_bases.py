"""Bases and addressing, in float64: against the original implementation, and by their definition."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import relative

from ddjax import forms, networks
from ddjax.types import Schedule
from ddjax.unroll import OPTIMIZERS, cross_entropy, unroll

LAYERS = {"conv1": "conv0", "norm1": "norm0", "conv2": "conv1", "norm2": "norm1", "classifier": "dense"}


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_an_outer_step_replays_the_original_implementation(reference):
    """Loss and both gradients through five steps with momentum, each on six of the fifteen images."""
    recorded = np.load(reference / "bases.npz")

    def array(name):
        return jnp.asarray(recorded[name], jnp.float64)

    network = networks.convnet((16, 16, 2), 3, depth=2, width=8)
    theta = {
        ours: {
            weight: array(f"param/{name}/{weight}")
            for weight in (("scale", "bias") if "norm" in ours else ("kernel", "bias"))
        }
        for ours, name in LAYERS.items()
    }
    images = forms.bases((16, 16, 2), 3, num_bases=4, per_class=5, downsample=2)
    code = forms.BasesCode(array("bases"), array("coefficients").reshape(3, 5, 4))
    labels = jax.nn.one_hot(recorded["labels"], 3, dtype=jnp.float64)[None]
    order = jnp.asarray(recorded["indices"])[:, None]

    def loss(code):
        decoded = images.decode(code)
        rates = jnp.full((len(order), 1), recorded["inner_lr"])
        schedule = Schedule(decoded.reshape(1, 15, 16, 16, 2), labels, rates, order)
        inner = cross_entropy(network.apply)
        trained, _ = unroll(inner, theta, schedule, optimizer=OPTIMIZERS["momentum"])
        logits = network.apply(trained, array("real_images"))
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, recorded["real_labels"])
        return losses.mean(), (decoded, optax.tree.norm(trained))

    (value, (decoded, norm)), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(code)
    assert recorded["momentum"] == 0.9
    assert relative(decoded.reshape(15, 16, 16, 2), recorded["images"]) < 1e-9
    assert relative(value, recorded["loss"]) < 1e-9
    assert relative(norm, recorded["final_params_norm"]) < 1e-9
    assert relative(grads.bases, recorded["grad_bases"]) < 1e-9
    assert relative(grads.coefficients.reshape(15, 4), recorded["grad_coefficients"]) < 1e-9


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("downsample", [1, 1.5, 2])
def test_the_start_is_the_nearest_that_so_many_bases_allow(rng, downsample):
    """No step lowers the squared error, and enough bases of full size lose nothing."""
    real = rng.normal(size=(2, 4, 6, 7, 2))
    images = forms.bases((6, 7, 2), 2, num_bases=3, per_class=4, downsample=downsample, initial_images=real)
    code = images.init(jax.random.key(0))
    assert np.allclose(np.mean(np.square(code.bases), (1, 2, 3)), 1)
    error, grads = jax.value_and_grad(lambda code: jnp.sum((images.decode(code) - real) ** 2))(code)
    assert optax.tree.norm(grads) < 1e-10 * float(error)
    if downsample == 1:
        _, values, _ = np.linalg.svd(real.reshape(8, -1))
        assert np.isclose(error, np.sum(values[3:] ** 2))
        whole = forms.bases((6, 7, 2), 2, num_bases=8, per_class=4, initial_images=real)
        assert relative(whole.decode(whole.init(jax.random.key(0))), real) < 1e-12


def test_a_budget_is_used_up():
    """The published settings, and one more image a class is one too many."""
    assert forms.bases_for_budget(1, (32, 32, 3), 10, num_bases=16, downsample=2) == 115
    assert forms.bases_for_budget(1, (28, 28, 1), 10, num_bases=16, downsample=2) == 29
    assert forms.bases_for_budget(10, (28, 28, 1), 10, num_bases=64, downsample=2) == 102
    found = forms.bases_for_budget(10, (28, 28, 1), 10, num_bases=32, label_numbers=10, other_numbers=800)
    rest = 10 * 784 * 10 - 32 * 784 - 800
    assert found * 10 * 42 <= rest < (found + 1) * 10 * 42


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_bases": 0}, "num_bases: expected a whole number >= 1"),
        ({"downsample": 0.5}, "downsample: expected a finite number >= 1"),
        ({"initial_images": np.zeros((2, 4, 8, 8))}, "initial_images.shape: expected"),
        ({"num_bases": 9, "initial_images": np.zeros((2, 4, 8, 8, 1))}, "num_bases: expected at most 8"),
    ],
)
def test_what_does_not_fit_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        forms.bases((8, 8, 1), 2, **({"num_bases": 2, "per_class": 4} | settings))


def test_bases_that_fill_the_budget_are_refused():
    with pytest.raises(ValueError, match="num_bases: expected an image of each class beside the bases"):
        forms.bases_for_budget(1, (28, 28, 1), 10, num_bases=10)

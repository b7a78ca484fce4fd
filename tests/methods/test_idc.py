"""IDC's matching, in float64: against the original implementation, and its parts by their definitions."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import CLASSES, SHAPE, relative, small_form, three_digits

from ddjax import augment, forms, inits, methods, networks
from ddjax.data import to_device
from ddjax.methods.gradient_matching import FEATURES, MatchedAndTrained
from ddjax.types import InitDistribution, Network, Schedule
from ddjax.unroll import cross_entropy

GOLDEN: dict[str, tuple[str, str]] = {
    "l1": ("l1", "kernels"),
    "mse": ("mse", "kernels"),
    "cos": ("layerwise", "kernels"),
    "l1_mean": ("l1_mean", "kernels"),
    "l1_fc_bias": ("l1", "all"),
    "feature": (FEATURES, "all"),
}
"""`{the original's name: (our distance, our layers)}`."""


class Recorded:
    """The recorded network, images and results."""

    def __init__(self, folder):
        self.values = np.load(folder / "idc_match.npz")
        self.network = networks.convnet((28, 28, 1), 10, width=16)
        self.params: Any = {"classifier": self.weights("dense", "kernel", "bias")}
        for i in range(3):
            self.params[f"conv{i + 1}"] = self.weights(f"conv{i}", "kernel", "bias")
            self.params[f"norm{i + 1}"] = self.weights(f"norm{i}", "scale", "bias")
        self.stored, self.real = self.array("stored"), self.array("real_images")
        self.label, self.factor = int(self.values["label"]), int(self.values["factor"])

    def array(self, name: str) -> jax.Array:
        return jnp.asarray(self.values[name], jnp.float64)

    def weights(self, layer: str, *names: str) -> dict[str, jax.Array]:
        return {name: self.array(f"param/{layer}/{name}") for name in names}

    def normalised(self, images: jax.Array) -> jax.Array:
        return (images - self.values["mean"].item()) / self.values["std"].item()


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", GOLDEN)
def test_every_distance_replays_the_original_implementation(reference, name):
    """The recorded class among nine others, which have the same images under other labels."""
    recorded = Recorded(reference)
    distance, layers = GOLDEN[name]
    given = InitDistribution(lambda key: recorded.params, "given", fixed=True)
    method = methods.gradient_matching(
        recorded.network, given, distance=distance, layers=layers, batch_size=8, examples_per_chunk=3
    )
    batch = jnp.broadcast_to(recorded.normalised(recorded.real), (10, *recorded.real.shape))
    state = method.init(jax.random.key(0))
    form = forms.multi_formation((28, 28, 1), 1, stored_per_class=2, factor=recorded.factor)

    def loss(stored: jax.Array) -> tuple[jax.Array, jax.Array]:
        images = recorded.normalised(form.decode(stored[None])[0])
        labels = jnp.repeat(jnp.eye(10), len(images), axis=0)[None]
        schedule = Schedule(jnp.concatenate([images] * 10)[None], labels, None)
        distances = method.loss(schedule, state, batch, jax.random.key(0))[1].class_distances
        return distances[recorded.label], images

    (value, images), grad = jax.jit(jax.value_and_grad(loss, has_aux=True))(recorded.stored)
    assert relative(images, recorded.normalised(recorded.array("decoded"))) < 1e-9
    assert relative(value, recorded.values[f"distance_{name}"]) < 1e-9
    assert relative(grad, recorded.values[f"grad_{name}"]) < 1e-9


# The networks between two matches.


def linear() -> Network:
    return networks.mlp(SHAPE, CLASSES, widths=())


def phi() -> Schedule:
    form = small_form(inner_lr=None)
    return form.unfold(form.init(jax.random.key(3)))


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_networks_train_on_real_images_and_keep_their_momentum():
    network = linear()
    training = methods.RealTraining(images=5, batch_size=8, lr=0.1, momentum=0.9, weight_decay=0.01)
    method = methods.gradient_matching(network, inits.random(network), matches=3, training=training)
    data = to_device(three_digits().train)
    gradient = jax.jit(jax.grad(cross_entropy(network.apply)))
    state = method.init(jax.random.key(0))
    params, trace = state.params, jax.tree.map(jnp.zeros_like, state.params)
    keys = jax.random.split(jax.random.key(1), 3)
    for key in keys[:2]:
        batch = method.sample(data, key)
        assert isinstance(batch, MatchedAndTrained)
        state = jax.jit(method.advance)(phi(), state, batch, None, key)
        labels = jnp.eye(CLASSES)[batch.training.labels]
        slope = gradient(params, batch.training.inputs.astype(jnp.float64), labels)
        trace = jax.tree.map(lambda v, g, p: 0.9 * v + g + 0.01 * p, trace, slope, params)
        params = jax.tree.map(lambda p, v: p - 0.1 * v, params, trace)
        assert relative(state.params, params) < 1e-6  # the images are float32
    state = jax.jit(method.advance)(phi(), state, batch, None, keys[2])
    assert int(state.matches) == 0
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(state.opt_state))


@pytest.mark.slow
def test_the_training_on_real_images_augments_and_mixes():
    network = linear()
    batch = None
    ends = []
    plain = methods.RealTraining(images=30, batch_size=3, lr=0.1)
    cut = dataclasses.replace(plain, augmentation=augment.by_name("cutout", SHAPE))
    for training in (plain, cut, dataclasses.replace(plain, mix="cutmix")):
        method = methods.gradient_matching(network, inits.random(network), matches=2, training=training)
        batch = batch or method.sample(to_device(three_digits().train), jax.random.key(0))
        start = method.init(jax.random.key(0))
        ends.append(jax.jit(method.advance)(phi(), start, batch, None, jax.random.key(1)).params)
    assert min(relative(ends[i], ends[j]) for i, j in ((0, 1), (0, 2), (1, 2))) > 1e-3


@pytest.mark.slow
def test_a_match_may_take_some_of_a_class_s_images():
    network = linear()
    method = methods.gradient_matching(network, inits.random(network), batch_size=2, most_per_class=1)
    batch = jax.random.normal(jax.random.key(2), (CLASSES, 2, *SHAPE))
    schedule, state = phi(), method.init(jax.random.key(0))

    @jax.jit
    def grad(key: jax.Array) -> jax.Array:
        return jax.grad(lambda inputs: method.loss(schedule._replace(inputs=inputs), state, batch, key)[0])(
            schedule.inputs
        )

    moved = [np.asarray(grad(jax.random.key(i)) != 0).any((2, 3, 4)) for i in range(6)]
    assert all((one.reshape(2, CLASSES).sum(0) == 1).all() for one in moved)
    assert len({one.tobytes() for one in moved}) > 1


# Settings.


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers": "kernels"}, "layers: expected weights of 4 axes or more for 'kernels'; mlp has none"),
        ({"layers": "convs"}, "layers: expected one of all, kernels, matrices"),
        ({"most_per_class": 0}, "most_per_class: expected a whole number >= 1"),
        ({"training": "real"}, "training: expected a RealTraining"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        methods.gradient_matching(linear(), inits.random(linear()), **settings)


def test_features_need_a_network_that_gives_them():
    blind = networks.from_functions(linear().init, linear().apply, SHAPE, CLASSES, name="blind")
    with pytest.raises(ValueError, match=r"expected a network with features .* blind has none"):
        methods.gradient_matching(blind, inits.random(blind), distance=FEATURES)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"images": 0}, "training: images: expected"),
        ({"batch_size": 0}, "training: batch_size: expected"),
        ({"lr": 0.0}, "training: lr: expected"),
        ({"momentum": 1.0}, "training: momentum: expected"),
        ({"weight_decay": -1.0}, "training: weight_decay: expected"),
        ({"augmentation": "crop"}, "augmentation: expected a Augmentation"),
        ({"mix": "mixup"}, "training: mix: expected one of cutmix"),
    ],
)
def test_a_bad_training_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        methods.RealTraining(**settings)

"""Tests of feature regression: the values of the original, the pool's ages, and what is refused."""

from __future__ import annotations

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import CLASSES, SHAPE, relative

from ddjax import forms, inits, networks, recipes
from ddjax.methods.feature_regression import feature_regression, label_margin
from ddjax.methods.online_pool import PoolState
from ddjax.types import Batch, InitDistribution, Method, Network, Schedule

CASES = ("gray28", "rgb16", "rgb8_none")


class Recorded:
    """One case of `frepo_convnet.npz`: a network of ours with the weights of the original."""

    def __init__(self, file: np.lib.npyio.NpzFile, case: str):
        self.of = {name.removeprefix(f"{case}/"): file[name] for name in file if name.startswith(f"{case}/")}
        self.norm = "batch" if "batch_stats/BatchNorm_0/mean" in self.of else "none"
        shape = self.of["images"].shape[1:]
        self.network = networks.convnet(shape, 10, width=8, growth=2, norm=self.norm, norm_place="before")
        self.params = self.named("param")
        self.schedule = Schedule(self.array("images")[None], self.array("labels")[None], None)
        self.real = Batch(
            self.array("real_images"), jnp.asarray(self.of["real_labels"].argmax(1).astype(np.int32))
        )

    def array(self, name: str) -> jax.Array:
        return jnp.asarray(self.of[name], jnp.float64)

    def named(self, prefix: str) -> dict[str, dict[str, jax.Array]]:
        """The leaves below a prefix, under our names of the layers."""
        ours = {"Dense_0": "classifier", **{f"Conv_{i}": f"conv{i + 1}" for i in range(3)}}
        ours |= {f"BatchNorm_{i}": f"norm{i + 2}" for i in range(2)}
        found: dict[str, dict[str, jax.Array]] = {}
        for name in self.of:
            if name.startswith(f"{prefix}/"):
                _, layer, leaf = name.split("/")
                found.setdefault(ours[layer], {})[leaf] = self.array(name)
        return found

    @property
    def method(self) -> Method:
        distribution = InitDistribution(lambda key: self.params, "recorded", fixed=True)
        return feature_regression(
            self.network,
            distribution,
            batch_size=8,
            pool=1,
            flip=bool(self.of["flip"]),
            penalty=float(self.of["reg"]),
            examples_per_chunk=3,
        )

    def state(self, method: Method) -> PoolState:
        start = method.init(jax.random.key(0))
        return start._replace(statistics=jax.tree.map(lambda leaf: leaf[None], self.named("batch_stats")))


@pytest.fixture(params=CASES)
def recorded(request, reference) -> Recorded:
    with jax.enable_x64(True):
        return Recorded(np.load(reference / "frepo_convnet.npz"), request.param)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_the_recorded_loss_and_gradients_are_replayed(recorded, monkeypatch):
    # The recorded labels are centred in float32, which is 2e-8 off.
    module = importlib.import_module("ddjax.methods.feature_regression")  # the package has the function
    other, own = (pick(recorded.array("real_labels")) for pick in (jnp.min, jnp.max))
    monkeypatch.setattr(
        module, "centred", lambda labels, count: jnp.where(jax.nn.one_hot(labels, count) > 0, own, other)
    )
    method = recorded.method
    state = recorded.state(method)

    @jax.jit
    def replayed(images: jax.Array, labels: jax.Array):
        def loss(images: jax.Array, labels: jax.Array):
            return method.loss(Schedule(images, labels, None), state, recorded.real, jax.random.key(0))

        return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(images, labels)

    (value, info), (of_images, of_labels) = replayed(*recorded.schedule[:2])
    assert relative(value, recorded.of["loss"]) < 1e-9
    assert relative(info.kernel_loss, recorded.of["kernel_loss"]) < 1e-9
    assert relative(-info.margin, recorded.of["label_loss"]) < 1e-9
    assert relative(of_images[0], recorded.of["grad_images"]) < 1e-9
    assert relative(of_labels[0], recorded.of["grad_labels"]) < 1e-9
    right = recorded.of["pred"].argmax(1) == np.asarray(recorded.real.labels)
    assert float(info.accuracy) == pytest.approx(100 * right.mean())


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_the_recorded_online_step_is_replayed(recorded):
    """Its loss and gradient, and the running statistics after it."""
    loss = recipes.squared_error(recorded.network)
    images, labels = recorded.schedule.inputs[0], recorded.schedule.labels[0]
    batch = (images, labels, jnp.ones(10))
    (value, _), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(recorded.params, batch)
    assert relative(value, recorded.of["online_loss"]) < 1e-9
    for layer, leaves in recorded.named("online_grad").items():
        for name, theirs in leaves.items():
            assert relative(grads[layer][name], theirs) < 1e-9, (layer, name)
    for layer, leaves in recorded.named("online_grad_norm").items():
        for name, theirs in leaves.items():
            assert relative(jnp.linalg.norm(grads[layer][name].ravel()), theirs) < 1e-9, (layer, name)

    method = recorded.method
    state = recorded.state(method)
    after = jax.jit(method.advance)(recorded.schedule, state, recorded.real, None, jax.random.key(1))
    for layer, leaves in recorded.named("online_batch_stats").items():
        assert relative(after.statistics[layer], jax.tree.map(lambda leaf: leaf[None], leaves)) < 1e-9
    # The first step of Adam moves each weight by its rate, against the sign of the gradient.
    moved = after.params["classifier"]["bias"][0] - recorded.params["classifier"]["bias"]
    np.testing.assert_allclose(moved, -3e-4 * np.sign(grads["classifier"]["bias"]), rtol=1e-4)


def small() -> Network:
    return networks.mlp(SHAPE, CLASSES, widths=(6,))


@pytest.fixture(scope="module")
def centred_start() -> Schedule:
    form = forms.pixels(SHAPE, CLASSES, inner_steps=1, inner_lr=None, label_form="centred")
    return form.unfold(form.init(jax.random.key(0)))


@pytest.mark.slow
def test_one_network_steps_and_old_ones_are_replaced(centred_start):
    network = small()
    method = feature_regression(network, inits.random(network), pool=4, reset=8)
    state = method.init(jax.random.key(0))
    assert state.ages.tolist() == [0, 2, 4, 6]
    advance = jax.jit(method.advance)
    turns, replaced = set(), 0
    for step in range(60):
        after = advance(centred_start, state, None, None, jax.random.key(step))
        turn = int(state.turn)
        turns.add(turn)
        new, old = (jax.tree.leaves(one.params)[-1] for one in (after, state))
        assert (new != old).any((1, 2)).tolist() == [i == turn for i in range(4)]
        if int(state.ages[turn]) > 8:
            replaced += 1
            assert int(after.ages[turn]) == 0
            assert all(not leaf[turn].any() for leaf in jax.tree.leaves(after.opt_state))
        else:
            assert int(after.ages[turn]) == int(state.ages[turn]) + 1
        state = after
    assert turns == set(range(4))
    assert replaced > 0


def test_the_margin_counts_up_to_one_of_k():
    labels = jnp.asarray([[0.9, -0.1, 0.0, 0.2], [0.1, 0.0, 0.05, 0.0]])
    value, grad = jax.value_and_grad(label_margin)(labels)
    assert float(value) == pytest.approx((0.25 + 0.05) / 2)
    assert not grad[0].any()
    assert grad[1].tolist() == [0.5, 0.0, -0.5, 0.0]


def test_centred_labels_start_at_one_hot_less_the_mean(centred_start):
    np.testing.assert_allclose(centred_start.labels[0], np.eye(CLASSES) - 1 / CLASSES, rtol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pool": 0}, "pool: expected"),
        ({"penalty": 0.0}, "penalty: expected"),
        ({"online_lr": -1.0}, "online_lr: expected"),
        ({"margin_weight": -0.5}, "margin_weight: expected"),
        ({"augmentation": "flip"}, "augmentation: expected"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    network = small()
    with pytest.raises(ValueError, match=message):
        feature_regression(network, inits.random(network), **settings)


def test_a_network_without_features_is_refused():
    kernel = networks.infinite_mlp(SHAPE, CLASSES)
    with pytest.raises(ValueError, match="expected a network with features"):
        feature_regression(kernel, inits.random(kernel, scheme="network"))

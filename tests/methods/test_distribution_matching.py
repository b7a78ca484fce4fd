"""Distribution matching, in float64: against its definition, and whatever is looked at together."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import CLASSES, SHAPE, relative

from ddjax import augment, inits, methods, networks
from ddjax.types import InitDistribution, Network, Schedule

pytestmark = [pytest.mark.usefixtures("x64")]


def real_batch(size: int = 5) -> jax.Array:
    return jax.random.normal(jax.random.key(2), (CLASSES, size, *SHAPE), jnp.float64)


def phi() -> Schedule:
    """Two steps of four images, whose labels are probabilities."""
    keys = jax.random.split(jax.random.key(3))
    inputs = jax.random.normal(keys[0], (2, 4, *SHAPE), jnp.float64)
    return Schedule(inputs, jax.nn.softmax(jax.random.normal(keys[1], (2, 4, CLASSES), jnp.float64)), None)


def convnet(norm: str) -> Network:
    return networks.convnet(SHAPE, CLASSES, depth=1, width=4, norm=norm)


def gradient(network: Network, schedule: Schedule, **settings: Any) -> Any:
    """Distances and gradient."""
    method = methods.distribution_matching(network, inits.random(network), batch_size=5, **settings)

    def loss(schedule: Schedule) -> tuple[jax.Array, methods.MatchingInfo]:
        return method.loss(schedule, (), real_batch(), jax.random.key(1))

    return jax.jit(jax.value_and_grad(loss, has_aux=True))(schedule)


@pytest.mark.slow
def test_the_loss_is_the_squared_distance_of_class_means():
    network = networks.mlp(SHAPE, CLASSES, widths=(6,))
    params = jax.tree.map(lambda leaf: leaf.astype(float), network.init(jax.random.key(0)))
    method = methods.distribution_matching(
        network, InitDistribution(lambda key: params, "given", fixed=True), batch_size=5
    )
    schedule, batch = phi(), real_batch()
    value, info = jax.jit(method.loss)(schedule, (), batch, jax.random.key(1))
    assert network.embed is not None
    real = np.asarray(network.embed(params, batch.reshape(-1, *SHAPE))).reshape(CLASSES, 5, -1)
    ours = np.asarray(network.embed(params, schedule.inputs.reshape(-1, *SHAPE)))
    labels = np.asarray(schedule.labels).reshape(-1, CLASSES)
    expected = []
    for k in range(CLASSES):
        mean = sum(w * f for w, f in zip(labels[:, k], ours, strict=True)) / labels[:, k].sum()
        expected.append(np.sum((real[k].mean(0) - mean) ** 2))
    np.testing.assert_allclose(info.class_distances, expected, rtol=1e-12)
    assert float(value) == pytest.approx(sum(expected), rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_images_that_are_the_real_ones_are_at_no_distance(norm):
    """Under batch norm too, whose statistics are those of all classes on both sides."""
    batch = real_batch()
    labels = jnp.repeat(jnp.eye(CLASSES), 5, axis=0)[None]
    schedule = Schedule(batch.reshape(1, -1, *SHAPE), labels, None)
    augmentation = augment.by_name("color_crop", SHAPE)
    (value, _), _ = gradient(convnet(norm), schedule, augmentation=augmentation)
    assert float(value) < 1e-20
    shifted = schedule._replace(labels=jnp.roll(labels, 5, axis=1))
    (value, _), _ = gradient(convnet(norm), shifted, augmentation=augmentation)
    assert float(value) > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"examples_per_chunk": 2}, {"classes_per_chunk": 2}])
def test_chunks_change_neither_distances_nor_gradient(settings):
    network, augmentation = convnet("instance"), augment.by_name("color_crop", SHAPE)
    whole, chunked = (
        gradient(network, phi(), augmentation=augmentation, **one)
        for one in ({"examples_per_chunk": 5, "classes_per_chunk": CLASSES}, settings)
    )
    assert relative(chunked, whole) < 1e-12


@pytest.mark.parametrize("name", ["batch_size", "examples_per_chunk", "classes_per_chunk"])
def test_bad_settings_are_refused(name):
    network = convnet("instance")
    settings: dict[str, Any] = {name: 0}
    with pytest.raises(ValueError, match=f"{name}: expected a whole number >= 1; got 0"):
        methods.distribution_matching(network, inits.random(network), **settings)

"""Textures: cuts against the original implementation and NumPy, places, tilings, seams."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import relative

from ddjax import forms, networks
from ddjax.forms.textures import cut, even_places, seam_ratio, tiling
from ddjax.types import Schedule
from ddjax.unroll import cross_entropy, unroll

LAYERS = {"conv1": ("features.0", "kernel"), "norm1": ("features.1", "scale")}
LAYERS |= {"conv2": ("features.4", "kernel"), "norm2": ("features.5", "scale")}
LAYERS |= {"classifier": ("classifier", "kernel")}


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_training_on_cuts_replays_the_original_implementation(reference):
    """Trajectory matching through five steps on two cuts of each of five canvases."""
    values = np.load(reference / "texture.npz")

    def array(name: str) -> jax.Array:
        return jnp.asarray(values[name], jnp.float64)

    def weights(point: str) -> Any:
        return {
            ours: {kind: array(f"{point}/{theirs}.weight"), "bias": array(f"{point}/{theirs}.bias")}
            for ours, (theirs, kind) in LAYERS.items()
        }

    network = networks.convnet((16, 16, 3), 5, depth=2, width=8)
    start, target = weights("start"), weights("target")
    order, shifts = values["indices"], values["shifts"]
    labels = jnp.eye(5)[values["labels"]]

    def steps(canvases: jax.Array) -> tuple[jax.Array, jax.Array]:
        cuts = jax.vmap(lambda one, place: cut(one, place, (16, 16)))
        inputs = [
            jnp.concatenate([cuts(canvases[rows], -draw) for draw in places])
            for rows, places in zip(order, shifts, strict=True)
        ]
        return jnp.stack(inputs), jnp.stack([jnp.tile(labels[rows], (2, 1)) for rows in order])

    def loss(canvases: jax.Array, lr: jax.Array):
        inputs, targets = steps(canvases)
        schedule = Schedule(inputs, targets, jnp.broadcast_to(lr, (1, len(order))))
        end, losses = unroll(cross_entropy(network.apply), start, schedule)
        distances = [
            sum(jnp.sum((a - b) ** 2) for a, b in zip(*map(jax.tree.leaves, pair), strict=True))
            for pair in ((end, target), (start, target))
        ]
        return distances[0] / distances[1], (inputs[0], losses, optax.tree.norm(end))

    (value, aux), grads = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(
        array("canvases"), array("lr")
    )
    assert relative(aux[0], array("first_crops").reshape(aux[0].shape)) < 1e-9
    assert relative(aux[1], array("inner_losses")) < 1e-9
    assert relative(aux[2], array("final_params_norm")) < 1e-9
    assert relative(value, array("loss")) < 1e-9
    assert relative(grads[0], array("grad_canvases")) < 1e-9
    assert relative(grads[1], array("grad_lr")) < 1e-9


@pytest.mark.parametrize("place", [(0, 0), (3, 7), (5, 2), (-2, 11)])
def test_a_cut_goes_on_across_the_edges(rng, place):
    canvas = rng.normal(size=(6, 8, 2)).astype(np.float32)
    wide = tiling(canvas, 4, 4)
    down, along = place[0] % 6, place[1] % 8
    found = cut(jnp.asarray(canvas), jnp.array(place), (4, 5))
    np.testing.assert_array_equal(found, wide[down : down + 4, along : along + 5])


def test_a_tiling_is_the_canvas_to_the_pixel_wherever_one_looks(rng):
    canvas = rng.normal(size=(6, 8, 2))
    tiled = tiling(canvas, 3, 2)
    assert tiled.shape == (18, 16, 2)
    for i, j in ((0, 0), (6, 8), (12, 0)):
        np.testing.assert_array_equal(tiled[i : i + 6, j : j + 8], canvas)


def test_a_seam_shows_in_the_ratio():
    """Waves with whole periods have no seam; half a period more makes an edge; noise has none either."""
    grid = np.arange(32) / 32 * 2 * np.pi
    whole, broken = np.sin(3 * grid + 0.8), np.cos(2.5 * grid)
    assert seam_ratio((whole[:, None] + whole)[..., None]) == pytest.approx(1, abs=0.5)
    assert seam_ratio((broken[:, None] + broken)[..., None]) > 4
    noise = np.random.default_rng(0).normal(size=(10, 32, 32, 1))
    assert seam_ratio(noise) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("count", [16, 50])
def test_places_are_spread_evenly(count):
    places = even_places(count, (40, 60))
    assert tuple(places[0]) == (0, 0)
    counts = np.zeros((2, 2))
    for row, column in places:
        counts[row // 20, column // 30] += 1
    assert counts.min() >= count / 4 - 2.5
    assert len({tuple(one) for one in places}) == count


@pytest.mark.slow
def test_decoded_and_drawn_images_are_cuts_of_the_canvases():
    """Canvases whose every pixel has a number of its own say where a cut was made."""
    numbers = np.arange(2 * 3 * 8 * 8, dtype=np.float32).reshape(2, 3, 8, 8, 1)
    images = forms.textures((4, 4, 1), 2, canvases_per_class=3, cuts=5, initial_images=numbers)
    assert images.draw is not None
    decode, draw = jax.jit(images.decode), jax.jit(images.draw)
    code = images.init(jax.random.key(0))
    found, drawn = decode(code), [draw(code, jax.random.key(i)) for i in range(2)]
    assert found.shape == images.shape == (2, 15, 4, 4, 1)
    for k, j, n in np.ndindex(2, 5, 3):
        place = jnp.asarray(even_places(5, (8, 8))[j])
        np.testing.assert_array_equal(found[k, j * 3 + n], cut(code[k, n], place, (4, 4)))
        for one in drawn:
            image = one[k, j * 3 + n]
            row, column = np.unravel_index(int(image[0, 0, 0]) - int(code[k, n, 0, 0, 0]), (8, 8))
            np.testing.assert_array_equal(image, cut(code[k, n], jnp.array([row, column]), (4, 4)))
    firsts = np.stack([one[..., 0, 0, 0] for one in drawn])
    assert (firsts[0] != firsts[1]).mean() > 0.8
    assert len(np.unique(firsts[0, 0])) > 10


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"canvas": 0}, "canvas: expected a whole number >= 1"),
        ({"cuts": 0}, "cuts: expected"),
        ({"canvases_per_class": 0}, "canvases_per_class: expected"),
        ({"initial_images": np.zeros((2, 1, 4, 4, 1), np.float32)}, "initial_images.shape: expected"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        forms.textures((4, 4, 1), 2, **settings)


@pytest.mark.slow
def test_every_epoch_of_an_outer_step_sees_other_cuts_at_its_own_rates():
    form = forms.composed(forms.textures((4, 4, 1), 2, cuts=2), inner_steps=2, inner_epochs=3, inner_lr=0.1)
    params = form.init(jax.random.key(0))
    params = params._replace(raw_lrs=jnp.arange(6.0).reshape(3, 2))
    assert form.draw is not None
    drawn, whole = jax.jit(form.draw)(params, jax.random.key(1)), form.unfold(params)
    assert whole.lrs is not None
    assert drawn.lrs is not None
    assert drawn.inputs.shape == (6, 2, 4, 4, 1)
    np.testing.assert_array_equal(drawn.lrs, whole.lrs.reshape(1, 6))
    np.testing.assert_array_equal(drawn.labels, jnp.tile(whole.labels, (3, 1, 1)))
    firsts = np.asarray(drawn.inputs).reshape(3, -1)
    assert len({one.tobytes() for one in firsts}) == 3


def test_textures_are_drawn_whole():
    with pytest.raises(ValueError, match="drawn_per_class: expected none, textures are drawn anew"):
        forms.composed(forms.textures((4, 4, 1), 2), drawn_per_class=1)

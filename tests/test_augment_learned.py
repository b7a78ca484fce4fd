"""Learned augmentation, in float64: against the original implementation, SciPy, and its own limits."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import relative
from scipy import linalg, ndimage

from ddjax import augment_learned
from ddjax.augment_learned import TRANSFORMS, exponential, generated, warp, widths_of

AMOUNTS = dict(zip(TRANSFORMS, (0.9, 0.7, 1.1, 0.3, 0.2, 0.4), strict=True))
pytestmark = pytest.mark.usefixtures("x64")


@pytest.mark.slow
@pytest.mark.parametrize("case", ["digits", "colour"])
def test_the_original_implementation_is_replayed(reference, case):
    values = np.load(reference / "augerino.npz")

    def array(name: str) -> jax.Array:
        return jnp.asarray(values[f"{case}/{name}"], jnp.float64)

    images, uniform = array("images"), array("uniform")
    kernel, bias = array("linear_kernel"), array("linear_bias")
    labels = jnp.asarray(values[f"{case}/labels"])

    def cross_entropy(raw: jax.Array):
        generator = generated(widths_of(raw), uniform)
        matrix = exponential(generator)
        moved = warp(images, matrix)
        logits = moved.reshape(len(moved), -1) @ kernel + bias[None]
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        return loss, {"generator": generator, "matrix": matrix, "transformed": moved}

    (value, found), grad = jax.jit(jax.value_and_grad(cross_entropy, has_aux=True))(array("raw_width"))
    for name, one in found.items():
        assert relative(one, array(name)) < 1e-9, name
    assert relative(value, array("cross_entropy")) < 1e-9
    assert relative(grad, array("grad_raw_width_of_cross_entropy")) < 1e-9
    reward, slope = jax.value_and_grad(lambda raw: jnp.linalg.norm(widths_of(raw)))(array("raw_width"))
    assert relative(value - 0.1 * reward, array("loss")) < 1e-9
    assert relative(grad - 0.1 * slope, array("grad_raw_width_of_loss")) < 1e-9


@pytest.mark.parametrize("norm", [0.0, 1e-3, 1.0, 25.0])
def test_the_exponential_is_scipy_s(rng, norm):
    matrices = rng.normal(size=(5, 3, 3))
    matrices *= norm / np.linalg.norm(matrices, axis=(1, 2), keepdims=True)
    wanted = np.stack([linalg.expm(one) for one in matrices])
    assert relative(jax.jit(exponential)(matrices), wanted) < 1e-13 * max(1, norm)


@pytest.mark.slow
def test_a_warp_is_scipy_s_affine_transform(rng):
    """Sides that differ: places go from -1 to 1 along both."""
    image, matrix = rng.normal(size=(7, 10, 2)), np.eye(3)
    matrix[:2] += rng.normal(size=(2, 3)) * 0.2
    to_places = np.array([[2 / 9, 0, -1], [0, 2 / 6, -1], [0, 0, 1]])  # column, row -> x, y
    pixels = np.linalg.inv(to_places) @ matrix @ to_places
    swapped = pixels[[1, 0, 2]][:, [1, 0, 2]]  # row, column
    settings = {"offset": swapped[:2, 2], "order": 1, "mode": "grid-constant"}
    wanted = [ndimage.affine_transform(image[..., c], swapped[:2, :2], **settings) for c in range(2)]
    found = warp(jnp.asarray(image)[None], jnp.asarray(matrix)[None])[0]
    np.testing.assert_allclose(found, np.stack(wanted, -1), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("name", "amount"), AMOUNTS.items())
def test_each_width_is_of_the_transform_that_its_name_says(name, amount):
    """One transform alone, by the half of its width: what becomes of the place (1, 0.5)."""
    widths = jnp.where(jnp.array([one == name for one in TRANSFORMS]), 2 * amount, 0.0)
    matrix = exponential(generated(widths, jnp.ones((1, 6))))[0]
    x, y = 1.0, 0.5
    wanted = {
        "across": (x + 0.1 * amount, y),
        "down": (x, y + 0.1 * amount),
        "rotation": (x * np.cos(amount) - y * np.sin(amount), x * np.sin(amount) + y * np.cos(amount)),
        "scale": (x * np.exp(amount), y * np.exp(amount)),
        "stretch": (x * np.exp(amount), y * np.exp(-amount)),
        "shear": (x * np.cosh(amount) + y * np.sinh(amount), x * np.sinh(amount) + y * np.cosh(amount)),
    }
    np.testing.assert_allclose((matrix @ jnp.array([x, y, 1.0]))[:2], wanted[name], rtol=1e-13)


def test_without_widths_images_stay_as_they_are(rng):
    images = jnp.asarray(rng.normal(size=(3, 5, 6, 1)))
    raw = jnp.full(6, -800.0)
    found = augment_learned.transformed(raw, jax.random.key(0), images)
    np.testing.assert_array_equal(found, images)


@pytest.mark.slow
def test_widths_of_each_image_s_own_move_this_image_alone(rng):
    images = jnp.asarray(rng.normal(size=(2, 6, 6, 1)))
    raw = jnp.stack([jnp.full(6, -800.0), jnp.zeros(6)])
    found = jax.jit(augment_learned.transformed)(raw, jax.random.key(0), images)
    np.testing.assert_array_equal(found[0], images[0])
    assert relative(found[1], images[1]) > 0.05

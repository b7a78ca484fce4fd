"""AlexNet: its size, its geometry, PyTorch's weights."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from ddjax import networks, weights
from ddjax.networks.alexnet import GRID, average_to_grid, from_torch


def shapes(network):
    return jax.eval_shape(network.init, jax.random.key(0))


@pytest.mark.slow
def test_it_is_the_published_network():
    network = networks.alexnet((224, 224, 3), 1000)
    tree = shapes(network)
    assert sum(leaf.size for leaf in jax.tree.leaves(tree)) == 61_100_840
    assert [tree[f"conv{i}"]["kernel"].shape for i in range(1, 6)] == [
        (11, 11, 3, 64),
        (5, 5, 64, 192),
        (3, 3, 192, 384),
        (3, 3, 384, 256),
        (3, 3, 256, 256),
    ]
    assert [tree[f"fc{i}"]["kernel"].shape for i in (1, 2, 3)] == [(9216, 4096), (4096, 4096), (4096, 1000)]


@pytest.mark.parametrize("size", [(6, 6), (1, 1), (7, 13), (2, 3)])
def test_the_average_over_the_grid_is_cell_by_cell(rng, size):
    x = rng.normal(size=(2, *size, 3)).astype(np.float32)
    got = np.asarray(average_to_grid(jnp.asarray(x), GRID))
    for i in range(GRID):
        for j in range(GRID):
            rows, columns = (
                slice(at * side // GRID, -(-(at + 1) * side // GRID))
                for at, side in ((i, size[0]), (j, size[1]))
            )
            np.testing.assert_allclose(got[:, i, j], x[:, rows, columns].mean((1, 2)), rtol=1e-5, atol=1e-6)
    if size == (GRID, GRID):
        assert np.array_equal(got, x)


def in_torch_s_layout(rng: np.random.Generator, width: int, num_classes: int) -> dict[str, np.ndarray]:
    """Weights as PyTorch has them, `[out, in, h, w]` and `[out, in]`, of small size."""
    channels = [3, width, 3 * width, 6 * width, 4 * width, 4 * width]
    sides = {0: 11, 3: 5, 6: 3, 8: 3, 10: 3}
    hidden = [channels[-1] * GRID**2, 64 * width, 64 * width, num_classes]
    arrays = {}
    for index, (at, side) in enumerate(sides.items()):
        fans = channels[index] * side**2
        shape = (channels[index + 1], channels[index], side, side)
        arrays[f"features.{at}.weight"] = rng.normal(size=shape) / np.sqrt(fans)
        arrays[f"features.{at}.bias"] = 0.1 * rng.normal(size=channels[index + 1])
    for index, at in enumerate((1, 4, 6)):
        shape = (hidden[index + 1], hidden[index])
        arrays[f"classifier.{at}.weight"] = rng.normal(size=shape) / np.sqrt(hidden[index])
        arrays[f"classifier.{at}.bias"] = 0.1 * rng.normal(size=hidden[index + 1])
    return arrays


def channels_first(weights: dict[str, np.ndarray], images: np.ndarray) -> np.ndarray:
    """The network as PyTorch computes it at 224 pixels: `[n, C, H, W]` throughout."""
    arrays = {name: jnp.asarray(weight) for name, weight in weights.items()}

    def conv(x, at: int, stride: int, padding: int):
        dimensions = ("NCHW", "OIHW", "NCHW")
        y = lax.conv_general_dilated(
            x,
            arrays[f"features.{at}.weight"],
            (stride, stride),
            [(padding, padding)] * 2,
            dimension_numbers=dimensions,
        )
        return jax.nn.relu(y + arrays[f"features.{at}.bias"][None, :, None, None])

    def pool(x):
        return lax.reduce_window(x, -np.inf, lax.max, (1, 1, 3, 3), (1, 1, 2, 2), "VALID")

    x = pool(conv(jnp.asarray(images), 0, 4, 2))
    x = pool(conv(x, 3, 1, 2))
    x = pool(conv(conv(conv(x, 6, 1, 1), 8, 1, 1), 10, 1, 1))
    assert x.shape[2:] == (GRID, GRID)
    x = x.reshape(len(x), -1)
    for at in (1, 4, 6):
        x = x @ arrays[f"classifier.{at}.weight"].T + arrays[f"classifier.{at}.bias"][None]
        x = x if at == 6 else jax.nn.relu(x)
    return np.asarray(x)


@pytest.mark.slow
def test_pytorch_s_weights_give_pytorch_s_logits(x64, rng):
    arrays = in_torch_s_layout(rng, 2, 5)
    network = networks.alexnet((224, 224, 3), 5, width=2)
    leaves = weights.fit(arrays, network, rename=from_torch)
    params = weights.loaded(network, leaves, key=jax.random.key(0), name="torch").sample(jax.random.key(0))
    x = rng.normal(size=(2, 224, 224, 3))
    expected = channels_first(arrays, x.transpose(0, 3, 1, 2))
    np.testing.assert_allclose(jax.jit(network.apply)(params, x), expected, rtol=1e-8, atol=1e-8)


def test_names_that_are_not_torchvision_s_stay():
    for name, array in (("conv1.kernel", np.zeros((1, 2))), ("features.1.weight", np.zeros(3))):
        assert from_torch(name, array) == (name, array)
    # Too few axes: refused by shape later, not here.
    assert from_torch("features.0.weight", np.zeros(3))[1].shape == (3,)
    assert from_torch("classifier.1.weight", np.zeros((4, 7)))[1].shape == (7, 4)


@pytest.mark.slow
def test_small_images_are_refused_and_the_next_larger_ones_work():
    with pytest.raises(ValueError, match="alexnet: expected images of at least 63x63; got 62x80"):
        networks.alexnet((62, 80, 3), 5)
    with pytest.raises(ValueError, match="width: expected a whole number >= 1"):
        networks.alexnet((63, 63, 3), 5, width=0)
    network = networks.alexnet((63, 80, 3), 5, width=1)
    assert jax.eval_shape(network.apply, shapes(network), jnp.zeros((2, 63, 80, 3))).shape == (2, 5)

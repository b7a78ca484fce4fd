"""The training behind DC's published numbers, re-enacted in NumPy and SciPy step by step, is our recipe."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import CLASSES, SHAPE, three_digits
from scipy import ndimage

from ddjax import augment, inits, networks
from ddjax.judge import Judge
from ddjax.recipes import Train
from ddjax.types import Network, Schedule

HIDDEN = 5
COUNT = 4 * CLASSES


def tanh_network() -> Network:
    """One hidden layer, whose gradient is short to write out."""

    def init(key):
        first, second = jax.random.split(key)
        return {
            "a": jax.random.normal(first, (64, HIDDEN)) / 8,
            "b": jax.random.normal(second, (HIDDEN, CLASSES)) / 2,
        }

    def apply(params, x):
        return jnp.tanh(x.reshape(len(x), -1) @ params["a"]) @ params["b"]

    return networks.from_functions(init, apply, SHAPE, CLASSES)


def scores_of(weights: dict[str, np.ndarray], images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    hidden = np.tanh(images.reshape(len(images), -1) @ weights["a"])
    return hidden @ weights["b"], hidden


def gradient(weights: dict[str, np.ndarray], images: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Of the mean cross-entropy, by hand."""
    scores, hidden = scores_of(weights, images)
    share = np.exp(scores - scores.max(1, keepdims=True))
    slope = (share / share.sum(1, keepdims=True) - labels) / len(images)
    inner = slope @ weights["b"].T * (1 - hidden**2)
    return {"a": images.reshape(len(images), -1).T @ inner, "b": hidden.T @ slope}


def cropped(image: np.ndarray, offset: tuple[int, int], means: np.ndarray) -> np.ndarray:
    height, width, channels = image.shape
    canvas = np.empty((height + 8, width + 8, channels))
    canvas[:] = means
    canvas[4 : 4 + height, 4 : 4 + width] = image
    return canvas[offset[0] : offset[0] + height, offset[1] : offset[1] + width]


def resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    side, (height, width) = image.shape[0], size
    rows, columns = (
        np.floor(np.arange(new, dtype=np.float32) * (np.float32(side) / np.float32(new))).astype(int)
        for new in size
    )
    canvas_side = max(side, height, width)
    canvas = np.zeros((canvas_side, canvas_side, image.shape[2]))
    top, left = (canvas_side - height) // 2, (canvas_side - width) // 2
    canvas[top : top + height, left : left + width] = image[rows][:, columns]
    middle = (canvas_side - side) // 2
    return canvas[middle : middle + side, middle : middle + side]


def turned(image: np.ndarray, degrees: int, fill: float) -> np.ndarray:
    large = ndimage.rotate(image, degrees, axes=(0, 1), order=3, cval=fill)
    top, left = ((large.shape[axis] - image.shape[axis]) // 2 for axis in (0, 1))
    return large[top : top + image.shape[0], left : left + image.shape[1]]


def augmented(images: np.ndarray, draw: augment.Choice) -> np.ndarray:
    """A minibatch, image by image, from the numbers that were drawn."""
    draw = jax.tree.map(np.asarray, draw)
    means, found = images.mean((0, 1, 2)), []
    for i, image in enumerate(images):
        offset, size, degrees = jax.tree.map(lambda leaf, i=i: int(leaf[i]), draw.params)
        one = (
            lambda image=image, offset=offset: cropped(image, offset, means),
            lambda image=image, size=size: resized(image, size),
            lambda image=image, degrees=degrees: turned(image, degrees, means.mean()),
        )
        found.append(one[int(draw.which[i])]())
    return np.stack(found)


def trained(weights, images, labels, key, *, epochs: int, batch: int) -> dict[str, np.ndarray]:
    """The published loop of E + 1 epochs; a tenth of the rate and a new optimiser after number E // 2 + 1."""
    momentum, lr = None, 0.01
    sample = jax.jit(lambda key: augment.by_name("dc", SHAPE).sample(key, batch))
    steps = -(-len(images) // batch)
    for epoch, epoch_key in enumerate(jax.random.split(key, epochs + 1)):
        order_key, draw_key = jax.random.split(epoch_key)
        order = np.asarray(jax.random.permutation(order_key, len(images)))
        for step, step_key in enumerate(jax.random.split(draw_key, steps)):
            rows = order[step * batch : (step + 1) * batch]
            draw = sample(step_key)  # more are drawn than a last smaller minibatch needs
            slopes = gradient(weights, augmented(images[rows], draw), labels[rows])
            slopes = {name: slope + 5e-4 * weights[name] for name, slope in slopes.items()}
            momentum = (
                {name: 0.9 * momentum[name] + slopes[name] for name in slopes} if momentum else dict(slopes)
            )
            weights = {name: weights[name] - lr * momentum[name] for name in weights}
        if epoch == epochs // 2 + 1:
            lr, momentum = lr * 0.1, None
    return weights


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("epochs", "batch"), [(5, 5), (4, 256), (1, 8)])
@pytest.mark.slow
def test_our_evaluator_is_the_published_protocol(epochs, batch, rng):
    data, network = three_digits(), tanh_network()
    images = rng.normal(size=(COUNT, *SHAPE))
    labels = np.tile(np.eye(CLASSES), (4, 1))
    schedule = Schedule(jnp.asarray(images)[None], jnp.asarray(labels)[None], None)
    recipe = Train(epochs=epochs, batch_size=batch, augmentation="dc", protocol="condensation")
    judge = Judge(network, inits.random(network, scheme="network"), recipe, data.test)
    ours = np.asarray(judge.score(schedule, key=jax.random.key(3), num_inits=2))
    fit = jax.jit(lambda start, key: recipe.fit(network, start, schedule, key).params)
    for key, score in zip(jax.random.split(jax.random.key(3), 2), ours, strict=True):
        init_key, train_key = jax.random.split(key)
        start = {name: np.asarray(leaf) for name, leaf in network.init(init_key).items()}
        fitted = fit(start, train_key)
        theirs = trained(start, images, labels, train_key, epochs=epochs, batch=min(batch, COUNT))
        for name, weights in theirs.items():
            np.testing.assert_allclose(fitted[name], weights, rtol=0, atol=1e-12)
            assert abs(weights - start[name]).max() > 1e-3
        answers = scores_of(theirs, np.asarray(data.test.encoded(), np.float64))[0].argmax(1)
        assert score == pytest.approx(100 * np.mean(answers == data.test.labels), abs=1e-9)

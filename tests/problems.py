"""Small problems that several test files share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import ddjax
from ddjax import coresets, forms, inits, methods, networks
from ddjax import data as real_data
from ddjax.data import Dataset
from ddjax.experts import Experts, Flat
from ddjax.run import Run
from ddjax.types import Form, InitDistribution, Network

SHAPE, CLASSES = (8, 8, 1), 3


def three_digits() -> Dataset:
    """The first three classes of the embedded digits."""
    digits = real_data.load("digits")
    kept = [part.labels < CLASSES for part in (digits.train, digits.test)]
    return real_data.from_arrays(
        digits.train.images[kept[0]],
        digits.train.labels[kept[0]],
        digits.test.images[kept[1]],
        digits.test.labels[kept[1]],
        name="three digits",
    )


def small_form(**settings: Any) -> Form:
    """A form of φ with S 2, E 2 and one image of each class in a step.

    Args:
        settings: the arguments of `ddjax.forms.pixels` that differ.
    """
    sizes: dict[str, Any] = {"inner_steps": 2, "inner_epochs": 2}
    return forms.pixels(SHAPE, CLASSES, **(sizes | settings))


def label_form(**settings: Any) -> Form:
    """A form of φ with learned labels of fixed digits, two of each class in each of two steps.

    Args:
        settings: the arguments of `ddjax.forms.labels` that differ.
    """
    images = coresets.real_images(three_digits().train, per_class=4, num_classes=CLASSES, seed=0)
    # Not uniform labels, under which a solved last layer has equal logits and the answer is rounding's.
    labels = np.random.default_rng(0).dirichlet(np.ones(CLASSES), (2, 2 * CLASSES))
    inputs = forms.by_step(images, 2).astype(np.float64)
    given: dict[str, Any] = {"initial_labels": labels} | settings
    return forms.labels(inputs, CLASSES, **given)


def small_run(data: Dataset, **settings: Any) -> Run:
    """A few outer steps of the unrolled method with a tiny MLP.

    Args:
        data: the real data.
        settings: the arguments of `ddjax.distill` that differ.
    """
    network = networks.mlp(SHAPE, CLASSES, widths=(16,))
    method = methods.unrolled(network, inits.random(network), batch_size=64)
    defaults = {
        "key": jax.random.key(0),
        "num_outer_steps": 6,
        "form": small_form(inner_lr=0.1),
        "reporting": ddjax.Reporting(every=1),
    }
    return ddjax.distill(data, method, **(defaults | settings))


def trained_experts(network: Network, inits: InitDistribution) -> Experts:
    """Three experts of the three digits: plain descent on all images, three times ten steps at 0.1.

    Args:
        network: the network.
        inits: p(θ0).
    """
    flat, train = Flat.of(network), three_digits().train
    images, labels = jnp.asarray(train.encoded(), float), jnp.asarray(train.labels)

    def loss(params: Any) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(network.apply(params, images), labels).mean()

    def ten(params: Any, _: None) -> tuple[Any, jax.Array]:
        def step(params: Any, _: None) -> tuple[Any, None]:
            return jax.tree.map(lambda p, g: p - 0.1 * g, params, jax.grad(loss)(params)), None

        params, _ = jax.lax.scan(step, params, None, length=10)
        return params, flat.vector(params)

    @jax.jit
    def trained(key: jax.Array) -> jax.Array:
        params = inits.sample(key)
        return jnp.concatenate([flat.vector(params)[None], jax.lax.scan(ten, params, None, length=3)[1]])

    weights = [np.asarray(trained(key), np.float32) for key in jax.random.split(jax.random.key(0), 3)]
    return Experts(weights, 10 * np.arange(4), np.full(3, 50, np.float32))


def relative(ours: Any, theirs: Any) -> float:
    """‖ours - theirs‖ / ‖theirs‖ over all leaves of two trees.

    Args:
        ours: the tree to compare.
        theirs: the tree to compare with.
    """
    flat = [np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]) for tree in (ours, theirs)]
    return float(np.linalg.norm(flat[0] - flat[1]) / np.linalg.norm(flat[1]))


def write_npz(path: Path, rng: np.random.Generator, *, shape: tuple[int, int, int] = SHAPE) -> Path:
    """Write a data set in the form of a user's own `.npz`: noise around one random image per class.

    Args:
        path: the file to write.
        rng: the source of the images.
        shape: `(H, W, C)`, the shape of an image.
    """
    centres = rng.integers(0, 256, (CLASSES, *shape))

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.arange(count) % CLASSES
        noisy = centres[labels] + rng.normal(0, 20, (count, *shape))
        return np.clip(noisy, 0, 255).astype(np.uint8), labels

    (x_train, y_train), (x_test, y_test) = draw(120), draw(60)
    np.savez(path, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    return path

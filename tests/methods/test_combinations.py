"""Every cell of the table of what combines with what."""

from __future__ import annotations

import functools

import chex
import combinations
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from combinations import CLASSES, FORMS, INITS, METHODS, NETWORKS, REFUSED, THINGS

import ddjax
from ddjax import augment, forms
from ddjax.data import Dataset, Split, from_arrays, to_device
from ddjax.encodings import Tokens
from ddjax.types import Form, InitDistribution, Method, Network

CELLS = [(method, kind, thing) for kind, things in THINGS.items() for thing in things for method in METHODS]
# What takes longest to compile is computed with one method alone, and traced, derivatives and shapes, with
# the others: the deep networks with the one that differentiates them twice; the strategies, whose operations
# have cells of their own, with the one that differentiates them once.
COMPUTED_WITH = {
    **dict.fromkeys(("alexcifar", "alexnet", "alexnet32", "resnet18", "vgg11"), "gradient matching"),
    **dict.fromkeys([name for name in NETWORKS if "(texts)" in name], "gradient matching"),
    **dict.fromkeys(
        ("one at random (DSA)", "several in turn", "one beside others (IDC)", *augment.STRATEGIES),
        "distribution matching",
    ),
}


@functools.cache
def started(network: str, start: str) -> tuple[Network, InitDistribution]:
    """A network and its p(θ0), built once: most cells differ in another thing."""
    made = NETWORKS[network]()
    return made, INITS[start](made)


@functools.cache
def method_of(method: str, network: str, start: str, strategy: str | None) -> tuple[Method, tuple[int, ...]]:
    """A method, built once for all forms of φ, and the shape of its network's inputs."""
    made, distribution = started(network, start)
    augmentation = None if strategy is None else augment.by_name(strategy, made.image_shape)
    return METHODS[method](made, distribution, augmentation), made.input_shape


def parts(method: str, kind: str, thing: str) -> tuple[Method, Form, Dataset]:
    """A small MLP with plain pixels, but for one thing; what is refused at once is refused here."""
    network = thing if kind == "network" else "mlp"
    start = thing if kind == "p(θ0)" else "random"
    strategy = combinations.AUGMENTATIONS[thing] if kind == "augmentation" else None
    built, shape = method_of(method, network, start, strategy)
    lr = 0.1 if built.needs_lrs else None
    plain = "pixels, with learning rates" if built.needs_lrs else "pixels, without"
    form = FORMS[thing if kind == "form of φ" else plain](shape, lr)
    return built, form, data_for(shape)


@functools.cache
def data_for(shape: tuple[int, ...]) -> Dataset:
    """Twelve images of random pixels, or twelve texts of random words."""
    rng, labels = np.random.default_rng(0), (np.arange(12) % CLASSES).astype(np.int32)
    if len(shape) == 3:
        images = rng.integers(0, 256, (12, *shape)).astype(np.uint8)
        return from_arrays(images, labels, images, labels)
    encoding = Tokens(rng.normal(size=(9, shape[1])).astype(np.float32))
    split = Split(rng.integers(0, 9, (12, shape[0]), np.int32), labels, encoding, CLASSES)
    return Dataset("texts", split, split, split, ("a", "b"))


def start(method: str, kind: str, thing: str) -> None:
    built, form, data = parts(method, kind, thing)
    ddjax.distill(data, built, key=jax.random.key(0), num_outer_steps=1, form=form)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "kind", "thing"), CELLS)
def test_it_is_differentiable_or_refused(method, kind, thing):
    if (method, thing) in REFUSED:
        with pytest.raises(ValueError, match=REFUSED[method, thing].message):
            start(method, kind, thing)
        return
    built, form, data = parts(method, kind, thing)

    def loss(params, key):
        keys = jax.random.split(key, 3)
        batch = built.sample(to_device(data.train), keys[0])
        schedule, own_key = forms.drawn(form, params, keys[2])
        return built.loss(schedule, built.init(keys[1]), batch, own_key)[0]

    differentiated, params, key = jax.value_and_grad(loss), form.init(jax.random.key(1)), jax.random.key(2)
    if COMPUTED_WITH.get(thing, method) != method:
        value, grads = jax.eval_shape(differentiated, params, key)
        chex.assert_shape(value, ())
        chex.assert_trees_all_equal_shapes_and_dtypes(grads, params)
        return
    value, grads = jax.jit(differentiated)(params, key)
    assert np.isfinite(value)
    for leaf in jax.tree.leaves(grads):
        assert np.isfinite(leaf).all()
        assert float(jnp.linalg.norm(leaf)) > 0


def test_the_list_of_experiments_has_the_table():
    text = combinations.README.read_text()
    assert combinations.table() in text
    assert combinations.with_table(text) == text

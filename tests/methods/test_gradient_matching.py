"""Gradient matching, in float64: against the original implementation, and by its definition."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import CLASSES, SHAPE, relative, small_form, three_digits

import ddjax
from ddjax import augment, data, forms, inits, methods, networks
from ddjax.launch import Parts
from ddjax.methods.gradient_matching import DISTANCES, NetworkState
from ddjax.recipes import Train
from ddjax.types import InitDistribution, Method, Network, Schedule
from ddjax.unroll import cross_entropy
from experiments import gradient_matching as launcher

LAYERS = {f"conv{i}": (f"features.{4 * i - 4}", "kernel") for i in (1, 2, 3)}
LAYERS |= {f"norm{i}": (f"features.{4 * i - 3}", "scale") for i in (1, 2, 3)}
LAYERS |= {"classifier": ("classifier", "kernel")}
RECORDED = {"layerwise": "layerwise", "mse": "mse", "cosine": "cos"}
"""The distances of DC, and the original's names."""


def given(params: Any) -> InitDistribution:
    return InitDistribution(lambda key: params, "given", fixed=True)


def phi() -> Schedule:
    """Two images of each of three classes."""
    form = small_form(inner_lr=None)
    return form.unfold(form.init(jax.random.key(3)))


# The original implementation.


class Recorded:
    """The recorded network, images and results."""

    def __init__(self, folder):
        self.values = np.load(folder / "dc_convnet28.npz")
        self.network = networks.convnet((28, 28, 1), 10, width=16)
        self.params = {
            ours: {weight: self.array(f"param/{theirs}.weight"), "bias": self.array(f"param/{theirs}.bias")}
            for ours, (theirs, weight) in LAYERS.items()
        }
        self.ours, self.real = self.array("synthetic_images"), self.array("real_images")
        self.label = int(self.values["label"])

    def array(self, name: str) -> jax.Array:
        return jnp.asarray(self.values[name], jnp.float64)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_the_method_replays_the_original_implementation(reference):
    """The recorded class among nine others, which have the same images under other labels."""
    recorded = Recorded(reference)
    method = methods.gradient_matching(recorded.network, given(recorded.params), examples_per_chunk=8)
    labels = jnp.repeat(jnp.eye(10), len(recorded.ours), axis=0)[None]
    batch = jnp.broadcast_to(recorded.real, (10, *recorded.real.shape))

    def loss(inputs: jax.Array) -> tuple[jax.Array, methods.GradientMatchingInfo]:
        state = method.init(jax.random.key(0))
        return method.loss(Schedule(inputs, labels, None), state, batch, jax.random.key(0))

    inputs = jnp.concatenate([recorded.ours] * 10)[None]
    (_, info), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(inputs)
    found = grads.reshape(10, *recorded.ours.shape)[recorded.label]
    assert relative(info.class_distances[recorded.label], recorded.values["distance_layerwise"]) < 1e-8
    assert relative(found, recorded.values["grad_layerwise"]) < 1e-8


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_all_distances_replay_the_original_implementation(reference):
    recorded = Recorded(reference)
    gradient = jax.grad(cross_entropy(recorded.network.apply))

    def labels(images: jax.Array) -> jax.Array:
        return jnp.broadcast_to(jnp.eye(10)[recorded.label], (len(images), 10))

    @jax.jit
    def measure(ours: jax.Array) -> tuple[Any, jax.Array]:
        theirs = gradient(recorded.params, recorded.real, labels(recorded.real))

        def distances(ours: jax.Array) -> jax.Array:
            found = gradient(recorded.params, ours, labels(ours))
            return jnp.stack([DISTANCES[name](found, theirs) for name in RECORDED])

        values, backward = jax.vjp(distances, ours)
        grads = jax.lax.map(lambda direction: backward(direction)[0], jnp.eye(len(RECORDED)))
        return (values, grads), recorded.network.apply(recorded.params, recorded.real)

    (values, grads), logits = measure(recorded.ours)
    for theirs, value, grad in zip(RECORDED.values(), values, grads, strict=True):
        assert relative(value, recorded.values[f"distance_{theirs}"]) < 1e-8
        assert relative(grad, recorded.values[f"grad_{theirs}"]) < 1e-8
    assert relative(logits, recorded.values["logits_real"]) < 1e-8


# Distances.


@pytest.mark.slow
@pytest.mark.parametrize("distance", ["layerwise", "cosine"])
def test_dead_units_leave_the_gradient_finite(distance):
    """Where a row of a gradient is zero its norm has no derivative."""
    network = networks.mlp(SHAPE, CLASSES, widths=(4,))
    params = network.init(jax.random.key(0))
    first = min(params)
    params[first]["bias"] = params[first]["bias"].at[:2].set(-1e3)
    method = methods.gradient_matching(network, given(params), batch_size=2, distance=distance)
    schedule, batch = phi(), jax.random.normal(jax.random.key(2), (CLASSES, 2, *SHAPE))

    def loss(inputs: jax.Array) -> jax.Array:
        return method.loss(
            schedule._replace(inputs=inputs), method.init(jax.random.key(0)), batch, jax.random.key(0)
        )[0]

    value, grads = jax.jit(jax.value_and_grad(loss))(schedule.inputs)
    assert np.isfinite(value)
    assert np.isfinite(grads).all()
    assert float(jnp.abs(grads).max()) > 0


# What both sides see.


def distances_to_themselves(network: Network, **settings: Any) -> np.ndarray:
    """`[K]`, where φ's images are the real ones."""
    method = methods.gradient_matching(network, inits.random(network), batch_size=4, **settings)
    batch = jax.random.normal(jax.random.key(0), (CLASSES, 4, *SHAPE))
    labels = jnp.repeat(jnp.eye(CLASSES), 2, axis=0)
    # Each of two steps holds two images of each class.
    steps = batch.reshape(CLASSES, 2, 2, *SHAPE).swapaxes(0, 1).reshape(2, -1, *SHAPE)
    schedule = Schedule(steps, jnp.stack([labels, labels]), None)
    state = method.init(jax.random.key(1))
    return np.asarray(jax.jit(method.loss)(schedule, state, batch, jax.random.key(2))[1].class_distances)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", [None, "color+crop+cutout"])
@pytest.mark.usefixtures("x64")
def test_the_same_images_have_no_distance(strategy):
    """The augmentation is the same for both, and images are compared with those of their class."""
    augmentation = None if strategy is None else augment.by_name(strategy, SHAPE)
    network = networks.mlp(SHAPE, CLASSES, widths=(4,))
    found = distances_to_themselves(network, augmentation=augmentation, distance="mse")
    assert found.max() < 1e-25


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_batch_norms_take_their_statistics_from_real_images_whatever_the_chunks():
    network = networks.convnet(SHAPE, CLASSES, depth=1, width=2, norm="batch")
    whole, chunked = (distances_to_themselves(network, examples_per_chunk=size) for size in (4, 3))
    assert relative(chunked, whole) < 1e-10
    assert whole.max() < 1e-4  # ε in the cosine's denominator


@pytest.mark.slow
@pytest.mark.parametrize("classes_per_chunk", [2, 3])
@pytest.mark.usefixtures("x64")
def test_classes_together_or_one_after_the_other_have_the_same_gradient(classes_per_chunk):
    network = networks.convnet(SHAPE, CLASSES, depth=1, width=2)
    batch, schedule = jax.random.normal(jax.random.key(2), (CLASSES, 4, *SHAPE)), phi()

    def gradient(size: int) -> Any:
        method = methods.gradient_matching(
            network,
            inits.random(network),
            batch_size=4,
            augmentation=augment.by_name("color_crop_cutout", SHAPE),
            classes_per_chunk=size,
        )

        def loss(schedule: Schedule) -> jax.Array:
            return method.loss(schedule, method.init(jax.random.key(0)), batch, jax.random.key(1))[0]

        return jax.jit(jax.value_and_grad(loss))(schedule)

    assert relative(gradient(classes_per_chunk), gradient(1)) < 1e-12


# The network between two matches.


def linear() -> Network:
    """No hidden layer: small enough to try every order of images."""
    return networks.mlp(SHAPE, CLASSES, widths=())


def descend(network: Network, params: Any, inputs: jax.Array, labels: jax.Array, lr: float) -> Any:
    grads = jax.grad(cross_entropy(network.apply))(params, inputs, labels)
    return jax.tree.map(lambda p, g: p - lr * g, params, grads)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_a_network_is_trained_on_phi_between_matches_and_then_drawn_anew():
    network, schedule = linear(), phi()
    distribution = inits.random(network)
    method = methods.gradient_matching(network, distribution, matches=3, epochs=2, lr_net=0.1)
    inputs, labels = (leaf.reshape(-1, *leaf.shape[2:]) for leaf in schedule[:2])
    first = method.init(jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), 3)
    advance = jax.jit(method.advance)
    second = advance(schedule, first, None, None, keys[0])
    third = advance(schedule, second, None, None, keys[1])
    fourth = advance(schedule, third, None, None, keys[2])
    params = first.params
    for state in (second, third):
        for _ in range(2):
            params = descend(network, params, inputs, labels, 0.1)
        assert relative(state.params, params) < 1e-12
    assert relative(fourth.params, distribution.sample(keys[2])) < 1e-12
    assert [int(state.matches) for state in (first, second, third, fourth)] == [0, 1, 2, 0]


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_an_epoch_is_made_of_minibatches_of_which_the_last_may_be_smaller():
    """Six images in a four and a two: the result is that of one of the fifteen ways to choose."""
    network, schedule = linear(), phi()
    method = methods.gradient_matching(network, inits.random(network), matches=2, lr_net=0.1, batch_train=4)
    start = method.init(jax.random.key(0))
    found = jax.jit(method.advance)(schedule, start, None, None, jax.random.key(1))
    inputs, labels = (leaf.reshape(-1, *leaf.shape[2:]) for leaf in schedule[:2])

    def after(four: jax.Array, two: jax.Array) -> Any:
        params = descend(network, start.params, inputs[four], labels[four], 0.1)
        return descend(network, params, inputs[two], labels[two], 0.1)

    fours = np.array(list(itertools.combinations(range(6), 4)))
    twos = np.array([sorted(set(range(6)) - set(four)) for four in fours])
    possible = jax.jit(jax.vmap(after))(fours, twos)
    errors = sorted(
        relative(found.params, jax.tree.map(lambda leaf, i=i: leaf[i], possible)) for i in range(len(fours))
    )
    assert errors[0] < 1e-12
    assert errors[1] > 1e-6


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_training_on_phi_augments_each_image():
    network, schedule = linear(), phi()
    settings = {"matches": 2, "lr_net": 0.1}
    plain, augmented = (
        jax.jit(
            methods.gradient_matching(network, inits.random(network), augmentation=one, **settings).advance
        )
        for one in (None, augment.by_name("cutout", SHAPE))
    )
    start = NetworkState(network.init(jax.random.key(0)), jnp.int32(0))
    ends = [advance(schedule, start, None, None, jax.random.key(1)).params for advance in (plain, augmented)]
    assert relative(*ends) > 1e-4


# Settings.


@pytest.mark.parametrize(("images", "loops"), [(1, (1, 1)), (10, (10, 50)), (50, (50, 10))])
def test_published_loops(images, loops):
    assert methods.schedule_for(images) == loops


def build(**settings: Any) -> Method:
    network = networks.mlp(SHAPE, CLASSES, widths=(4,))
    return methods.gradient_matching(network, inits.random(network), **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"distance": "cosin"}, "distance: expected one of cosine, features, l1, .* Did you mean 'cosine'"),
        ({"matches": 0}, "matches: expected a whole number >= 1; got 0"),
        ({"epochs": 0}, "epochs: expected"),
        ({"batch_train": 0}, "batch_train: expected"),
        ({"batch_size": 0}, "batch_size: expected"),
        ({"examples_per_chunk": 0}, "examples_per_chunk: expected"),
        ({"classes_per_chunk": 0}, "classes_per_chunk: expected"),
        ({"lr_net": 0.0}, "lr_net: expected"),
        ({"recipe": "train"}, "recipe: expected a Recipe"),
        ({"augmentation": "crop"}, "augmentation: expected a Augmentation"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        build(**settings)


def test_loops_that_were_not_published_are_refused():
    with pytest.raises(ValueError, match=r"images_per_class: expected 1, 10, 50, .* got 5\. Give both"):
        methods.schedule_for(5)


@pytest.mark.parametrize("labels", [[0, 1, 2, 2], [1, 0, 2], [0, 0, 1, 2, 1, 2]])
def test_images_that_are_not_ordered_by_class_are_refused(labels):
    schedule = Schedule(jnp.zeros((1, len(labels), *SHAPE)), jnp.eye(CLASSES)[jnp.array(labels)][None], None)
    with pytest.raises(ValueError, match="the form's labels: expected images ordered by class"):
        ddjax.distill(
            three_digits(),
            build(),
            key=jax.random.key(0),
            num_outer_steps=1,
            form=forms.constant(schedule),
        )


# The launcher.


def parts(**settings: Any) -> Parts:
    sizes = {"dataset": "digits", "depth": 1, "width": 4}
    return launcher.LAUNCHER.parts(launcher.Config(**sizes, **settings), data.load("digits"))


def test_the_launcher_does_what_was_published():
    one, ten = parts(), parts(images_per_class=10)
    assert (one.num_outer_steps, one.facts.plan["matches"]) == (1000, 1)
    assert (ten.num_outer_steps, ten.facts.plan["matches"], ten.facts.plan["epochs"]) == (
        10_000,
        10,
        50,
    )
    assert one.facts.plan["outer_lr"] == 0.1
    siamese = parts(initial_images="real", augment="dsa", eval_augment="dsa")
    assert siamese.facts.plan["augmentation"] == "color_crop_cutout_scale_rotate"
    assert isinstance(siamese.method.recipe, Train)
    assert siamese.method.recipe.augmentation == siamese.facts.plan["eval_augmentation"]
    images = siamese.form.init(jax.random.key(0)).images
    pixels = data.load("digits").train.encoded()
    assert all((pixels == image).all((1, 2, 3)).any() for image in np.asarray(images[0]))


def test_the_launcher_needs_loops_for_other_numbers_of_images():
    with pytest.raises(ValueError, match=r"got 5\. .* The flags are --matches and --net_epochs"):
        parts(images_per_class=5, matches=2)
    assert parts(images_per_class=5, matches=2, net_epochs=3).num_outer_steps == 2000

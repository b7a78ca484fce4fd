"""Trajectory matching: the original implementations in float64, every memory strategy, windows, refusals."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from combinations import walks
from problems import CLASSES, SHAPE, relative, small_form

from ddjax import augment, inits, networks
from ddjax.augment import Augmentation
from ddjax.experts import Experts, Flat
from ddjax.methods.trajectory_matching import (
    Segment,
    Steps,
    Window,
    student_loss,
    trajectory_matching,
)
from ddjax.types import Network, Schedule, as_image_shape
from ddjax.unroll import STRATEGIES, Memory

FIRST_ORDER = {
    "first order": Memory(first_order=True),
    "mixed, first order": Memory(mixed=True, first_order=True),
}


def weights_of(values: Any, which: str) -> Any:
    """The convolutions, norms and last layer of a recorded network of two blocks."""
    names = {"conv": ("weight", "kernel"), "norm": ("weight", "scale")}
    places = {"conv1": 0, "norm1": 1, "conv2": 4, "norm2": 5}
    params = {
        ours: {
            names[ours[:4]][1]: jnp.asarray(values[f"{which}/features.{place}.weight"], jnp.float64),
            "bias": jnp.asarray(values[f"{which}/features.{place}.bias"], jnp.float64),
        }
        for ours, place in places.items()
    }
    classifier = {"kernel": "weight", "bias": "bias"}
    last = {k: jnp.asarray(values[f"{which}/classifier.{v}"], jnp.float64) for k, v in classifier.items()}
    return params | {"classifier": last}


def golden(name: str, reference) -> tuple[Network, Segment, Steps, Schedule, Any]:
    """A recorded outer step: network, segment, minibatches, φ (with logits as labels), results."""
    values = np.load(reference / f"{name}.npz")
    images = jnp.asarray(values["images"], jnp.float64)[None]
    soft = "label_logits" in values
    classes = values["label_logits"].shape[1] if soft else int(values["start/classifier.bias"].size)
    labels = values["label_logits"] if soft else np.eye(classes)[values["labels"]]
    network = networks.convnet(as_image_shape(images.shape[2:], "φ"), classes, depth=2, width=8)
    flat = Flat.of(network)
    segment = Segment(*(flat.vector(weights_of(values, which)) for which in ("start", "target")))
    rows = jnp.asarray(values["indices"])
    steps = Steps(rows, jax.random.split(jax.random.key(0), len(rows)))
    schedule = Schedule(images, jnp.asarray(labels, jnp.float64)[None], jnp.full((1, 1), values["lr"], float))
    return network, segment, steps, schedule, values


def differentiated(name: str, reference, memory: Memory) -> tuple[Any, Any, Any]:
    """The loss with θ_T and the inner losses, the gradients of φ, and what was recorded."""
    network, segment, steps, schedule, values = golden(name, reference)
    soft = "label_logits" in values

    def loss(phi: Schedule) -> Any:
        labels = jax.nn.softmax(phi.labels) if soft else phi.labels
        return student_loss(network, phi._replace(labels=labels), segment, steps, memory=memory)

    return *jax.jit(jax.value_and_grad(loss, has_aux=True))(schedule), values


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "strategy"),
    [
        *(("mtt_convnet", strategy) for strategy in (*STRATEGIES, *FIRST_ORDER)),
        *(("datm_convnet", strategy) for strategy in ("mixed", "mixed, first order")),
    ],
)
@pytest.mark.usefixtures("x64")
def test_replays_the_original_implementations(name, strategy, reference):
    (value, (end, losses)), grads, values = differentiated(
        name, reference, (STRATEGIES | FIRST_ORDER)[strategy]
    )
    order = "first_order_" if strategy in FIRST_ORDER else ""
    assert relative(value, values["loss"]) < 1e-10
    assert relative(losses, values["inner_losses"]) < 1e-10
    assert relative(jnp.linalg.norm(end), values["final_params_norm"]) < 1e-10
    assert relative(grads.inputs[0], values[f"{order}grad_images"]) < 1e-10
    assert relative(grads.lrs[0, 0], values[f"{order}grad_lr"]) < 1e-10
    if name == "datm_convnet":
        assert relative(grads.labels[0], values[f"{order}grad_label_logits"]) < 1e-10


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_textures_are_crops_of_canvases_at_each_step(reference):
    """Crops are an augmentation that cuts, and two crops of a canvas are its row taken twice."""
    values = np.load(reference / "texture.npz")
    shifts = jnp.asarray(values["shifts"])
    num_steps, samples, size, _ = shifts.shape

    def cut(shift: jax.Array, canvas: jax.Array) -> jax.Array:
        return jnp.roll(canvas, shift, (0, 1))[:16, :16]

    # The recorded shifts of a step come in the place of the step's key.
    wrap = Augmentation("recorded", lambda shifts, count: shifts, jax.vmap(cut))
    steps = Steps(jnp.tile(values["indices"], (1, samples)), shifts.reshape(num_steps, samples * size, 2))
    network = networks.convnet((16, 16, 3), 5, depth=2, width=8)
    flat = Flat.of(network)
    segment = Segment(*(flat.vector(weights_of(values, which)) for which in ("start", "target")))
    canvases, labels = jnp.asarray(values["canvases"], float)[None], jnp.eye(5)[values["labels"]][None]
    first = wrap.apply(steps.keys[0], canvases[0][jnp.asarray(steps.rows)[0]])
    assert relative(first.reshape(values["first_crops"].shape), values["first_crops"]) < 1e-7

    def loss(phi: Schedule) -> Any:
        return student_loss(network, phi, segment, steps, augmentation=wrap)

    schedule = Schedule(canvases, labels, jnp.full((1, 1), values["lr"], float))
    (value, (end, losses)), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(schedule)
    assert relative(value, values["loss"]) < 1e-10
    assert relative(losses, values["inner_losses"]) < 1e-10
    assert relative(jnp.linalg.norm(end), values["final_params_norm"]) < 1e-10
    assert relative(grads.inputs[0], values["grad_canvases"]) < 1e-10
    assert relative(grads.lrs[0, 0], values["grad_lr"]) < 1e-10


def test_windows_grow_as_published(reference):
    values = np.load(reference / "datm_convnet.npz")
    steps = jnp.asarray(values["window/steps"], jnp.int32)
    for name in ("cifar10_ipc10", "cifar10_ipc50", "cifar100_ipc10"):
        start, last, over = (int(one) for one in values[f"window/{name}"])
        window = Window(0, last, grows_from=start, over=over)
        np.testing.assert_array_equal(window.end(steps), values[f"window/{name}_upper"])
    assert Window(3, 7).end(jnp.int32(100)) == 7
    # Far beyond 32 bits as a product.
    assert Window(0, 40, grows_from=20, over=2000).end(jnp.int32(2**31 - 1)) == 40


def test_minibatches_are_concatenated_permutations():
    steps = Steps.draw(jax.random.key(0), steps=7, batch_size=4, count=6)
    assert steps.rows is not None
    assert steps.rows.shape == (7, 4)
    rows = np.ravel(steps.rows)
    for begin in range(0, 24, 6):
        assert sorted(rows[begin : begin + 6]) == list(range(6))
    assert len({tuple(rows[begin : begin + 6]) for begin in range(0, 24, 6)}) > 1
    for size in (None, 6, 9):
        assert Steps.draw(jax.random.key(0), steps=7, batch_size=size, count=6).rows is None


def test_segments_are_of_the_experts_and_within_the_window():
    network = networks.mlp(SHAPE, CLASSES, widths=(4,))
    experts = walks(network, inits.random(network), checkpoints=7)
    method = trajectory_matching(
        network, experts, inner_steps=1, span=2, window=Window(1, 5, grows_from=3, over=10)
    )
    owner: Any = method.loss.__self__  # type: ignore[attr-defined] (a bound function)
    weights = jnp.asarray(method.assets)
    assert weights.shape == (3, 6, Flat.of(network).size)
    keys = jax.random.split(jax.random.key(0), 60)
    draw = jax.vmap(lambda key, end: owner.segment(weights, end, key), (0, None))
    for end, starts in ((3, {1, 2}), (5, {1, 2, 3, 4})):
        segments, at = draw(keys, jnp.int32(end))
        assert set(at.tolist()) == starts
        found = set()
        for start, target, first in zip(*segments, at.tolist(), strict=True):
            whose = [n for n, one in enumerate(experts.trajectories) if np.array_equal(one[first], start)]
            assert len(whose) == 1
            np.testing.assert_array_equal(experts.trajectories[whose[0]][first + 2], target)
            found.add(whose[0])
        assert found == {0, 1, 2}
    state = jax.eval_shape(method.init, jax.random.key(0))
    assert state.shape == ()
    assert int(method.advance(None, jnp.int32(3), None, None, None)) == 4  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_a_loss_above_the_bound_has_no_gradient():
    network = networks.mlp(SHAPE, CLASSES, widths=(4,))
    form = small_form(inner_lr=0.1)
    experts = walks(network, inits.random(network))

    def loss(bound: float) -> Any:
        method = trajectory_matching(
            network, experts, inner_steps=3, batch_size=2, span=1, window=Window(0, 3), max_loss=bound
        )
        batch, key = jnp.asarray(method.assets), jax.random.key(3)

        def of_phi(params: Any) -> Any:
            return method.loss(form.unfold(params), jnp.int32(0), batch, key)

        return jax.jit(jax.value_and_grad(of_phi, has_aux=True))(form.init(jax.random.key(1)))

    (value, info), grads = loss(100.0)
    assert float(info.kept) == 1
    assert all(float(jnp.linalg.norm(leaf)) > 0 for leaf in jax.tree.leaves(grads))
    (same, info), grads = loss(0.99 * float(value))
    assert float(same) == float(value)
    assert float(info.kept) == 0
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(grads))


@pytest.mark.slow
def test_the_student_is_augmented_anew_in_each_step_and_image():
    network = networks.mlp(SHAPE, CLASSES, widths=(4,))
    flat, seen = Flat.of(network), []

    def look(params: Any, images: jax.Array) -> jax.Array:
        jax.debug.callback(lambda x: seen.append(np.asarray(x)), images)
        return network.apply(params, images)

    watched = dataclasses.replace(network, apply=look)
    same = jnp.broadcast_to(jax.random.normal(jax.random.key(0), SHAPE), (1, 3, *SHAPE))
    schedule = Schedule(same, jnp.eye(3)[None], jnp.full((1, 1), 0.1))
    segment = Segment(jnp.ones(flat.size), jnp.zeros(flat.size))
    steps = Steps.draw(jax.random.key(1), steps=4, batch_size=None, count=3)
    shifted = augment.by_name("crop", SHAPE)
    jax.block_until_ready(student_loss(watched, schedule, segment, steps, augmentation=shifted))
    jax.effects_barrier()
    images = {one.tobytes() for batch in seen for one in batch}
    assert len(seen) == 4
    assert len(images) > 6


def needed(memory: Memory, steps: int) -> int:
    """The bytes of XLA's buffers in one outer step on four images, two in a step, of a small ConvNet-3."""
    network = networks.convnet((8, 8, 1), CLASSES, depth=3, width=8)
    vector: Any = jax.ShapeDtypeStruct((Flat.of(network).size,), jnp.float32)
    keys = jax.eval_shape(lambda key: jax.random.split(key, steps), jax.random.key(0))
    rows: Any = jax.ShapeDtypeStruct((steps, 2), jnp.int32)
    minibatches = Steps(rows, keys)
    shapes = ((1, 4, 8, 8, 1), (1, 4, CLASSES), (1, 1))
    inputs, labels, lrs = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)
    phi: Any = Schedule(inputs, labels, lrs)  # type: ignore[arg-type] (shapes alone)

    def loss(phi: Schedule, segment: Segment, steps: Steps) -> jax.Array:
        return student_loss(network, phi, segment, steps, memory=memory)[0]

    compiled = jax.jit(jax.grad(loss)).lower(phi, Segment(vector, vector), minibatches).compile()
    analysis = compiled.memory_analysis()
    assert analysis is not None
    return analysis.temp_size_in_bytes


@pytest.mark.slow
def test_the_memory_of_exact_and_first_order_gradients():
    bytes_of_weights = 4 * Flat.of(networks.convnet((8, 8, 1), CLASSES, depth=3, width=8)).size
    # Not of one step, which XLA computes without a loop.
    exact = {steps: needed(STRATEGIES["mixed"], steps) for steps in (2, 80)}
    first = {steps: needed(FIRST_ORDER["mixed, first order"], steps) for steps in (2, 80)}
    # Two steps need 2 P + A; eighty of them T·P + A, within a fifth.
    activations = exact[2] - 2 * bytes_of_weights
    assert 80 * bytes_of_weights <= exact[80] <= 1.2 * (80 * bytes_of_weights + activations)
    # The losses of the steps alone, if any.
    assert first[80] - first[2] <= 80 * 16


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "experts of another network": (
        {"experts": "other"},
        "experts: expected those of mlp",
        "train experts of",
    ),
    "no experts": ({"experts": None}, "experts: expected a Experts", "ddjax.experts.load"),
    "a window past the checkpoints": (
        {"window": Window(0, 3)},
        "starts below 2, because",
        "shorten the span",
    ),
    "a span past the checkpoints": ({"span": 4}, "starts below 0", "longer"),
    "an empty window": ({"window": Window(1, 1)}, "window.last: expected", "at least one checkpoint"),
    "a window that grows in no time": (
        {"window": Window(0, 2, grows_from=1)},
        "window.over: expected",
        "in how many outer steps",
    ),
    "a window that shrinks": ({"window": Window(0, 1, grows_from=2, over=3)}, "window.last", "grows to"),
    "no steps": ({"inner_steps": 0}, "inner_steps: expected", "1 or more"),
    "no images": ({"batch_size": 0}, "batch_size: expected", "1 or more"),
    "a bound of nothing": ({"max_loss": 0.0}, "max_loss: expected", "greater than zero"),
}


@functools.cache
def walked(width: int) -> tuple[Network, Experts]:
    """A small network and experts of it."""
    network = networks.mlp(SHAPE, CLASSES, widths=(width,))
    return network, walks(network, inits.random(network))


@pytest.mark.parametrize("case", REFUSED)
def test_bad_settings_are_refused(case):
    settings, *words = REFUSED[case]
    network, _ = walked(4)
    _, found = walked(5 if settings.get("experts") == "other" else 4)
    given: dict[str, Any] = {"inner_steps": 2, "window": Window(0, 2), **settings}
    experts = found if given.pop("experts", "other") == "other" else None
    with pytest.raises(ValueError, match="expected") as caught:
        trajectory_matching(network, experts, **given)  # type: ignore[arg-type]
    for part in words:
        assert part in str(caught.value)

"""The unroll, in float64: against the original implementations, finite differences, and a Python loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ddjax import forms, inits, methods, networks
from ddjax.forms import PixelParams, inverse_softplus
from ddjax.testing.report import double
from ddjax.types import Batch, Form, InitDistribution, Network, Schedule
from ddjax.unroll import OPTIMIZERS, STRATEGIES, Memory, cross_entropy, unroll

CASES = {
    "dd_lenet28": (
        "lenet",
        {f"conv{i}": f"conv{i}" for i in (1, 2)} | {f"fc{i}": f"fc{i}" for i in (1, 2, 3)},
    ),
    "dd_lenet28_attack": (
        "lenet",
        {f"conv{i}": f"conv{i}" for i in (1, 2)} | {f"fc{i}": f"fc{i}" for i in (1, 2, 3)},
    ),
    "dd_alexcifar": (
        "alexcifar",
        {
            "conv1": "features.0",
            "conv2": "features.4",
            "fc1": "classifier.0",
            "fc2": "classifier.2",
            "fc3": "classifier.4",
        },
    ),
}
ATTACKED, TARGET = 3, 7


def replay_inputs(name: str, reference) -> tuple[Network, Any, Schedule, jax.Array, jax.Array, Any]:
    """The case's network, θ0, schedule, real images and labels in float64, and the recorded results."""
    architecture, layers = CASES[name]
    path = reference / f"{name}.npz"
    if not path.is_file():  # dd_alexcifar.npz is too large for the repository
        path = reference.parents[2] / "shared" / "reference" / path.name
    if not path.is_file():
        pytest.skip(f"{path.name} is neither in tests/golden nor in ../shared/reference")
    values = np.load(path)
    network = networks.by_name(architecture, values["images"].shape[2:], 10)
    params = {
        ours: {
            "kernel": jnp.asarray(values[f"param/{theirs}.weight"], jnp.float64),
            "bias": jnp.asarray(values[f"param/{theirs}.bias"], jnp.float64),
        }
        for ours, theirs in layers.items()
    }
    num_steps = len(values["images"])
    schedule = Schedule(
        jnp.asarray(values["images"], jnp.float64),
        jnp.asarray(np.eye(10)[values["labels"]]),
        jnp.asarray(values["lrs"], jnp.float64).reshape(-1, num_steps),
    )
    labels = values["real_labels"]
    if name.endswith("attack"):
        labels = np.where(labels == ATTACKED, TARGET, labels)
    return (
        network,
        params,
        schedule,
        jnp.asarray(values["real_images"], jnp.float64),
        jnp.asarray(labels),
        values,
    )


def relative(ours: Any, theirs: Any) -> float:
    theirs = np.asarray(theirs)
    return float(np.linalg.norm(np.ravel(np.asarray(ours) - theirs)) / np.linalg.norm(np.ravel(theirs)))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
@pytest.mark.usefixtures("x64")
def test_replays_the_original_implementation(name, reference):
    network, params, schedule, images, labels, values = replay_inputs(name, reference)

    def loss(inputs: jax.Array, raw: jax.Array, added: jax.Array):
        """The rates are softplus(raw) + added: the gradient in what is added is that in the rates."""
        lrs = jax.nn.softplus(raw) + added
        final, _ = unroll(cross_entropy(network.apply), params, schedule._replace(inputs=inputs, lrs=lrs))
        logits = network.apply(final, images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), final

    assert schedule.lrs is not None
    raw = jnp.asarray(inverse_softplus(np.asarray(schedule.lrs)))
    (value, final), (grad_images, grad_raw, grad_lrs) = jax.jit(
        jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)
    )(schedule.inputs, raw, jnp.zeros_like(raw))

    assert relative(value, values["loss"]) < 1e-9
    assert relative(grad_images, values["grad_images"]) < 1e-9
    assert relative(np.ravel(grad_lrs), values["grad_lrs"]) < 1e-9
    assert relative(np.ravel(grad_raw), values["grad_raw_lrs"]) < 1e-9
    assert relative(optax.tree.norm(final), values["final_params_norm"]) < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "examples_per_chunk"), [("dd_lenet28", 24), ("dd_lenet28", 64), ("dd_lenet28_attack", 16)]
)
@pytest.mark.usefixtures("x64")
def test_the_method_with_its_objective_replays_the_original(name, examples_per_chunk, reference):
    """The real labels as they are: to relabel the attacked class is the objective's part."""
    network, params, schedule, images, _, values = replay_inputs(name, reference)
    objective = methods.relabelled(ATTACKED, TARGET) if name.endswith("attack") else methods.cross_entropy
    method = methods.unrolled(
        network,
        InitDistribution(lambda key: params, "given", fixed=True),
        examples_per_chunk=examples_per_chunk,
        objective=objective,
    )
    batch = Batch(images, jnp.asarray(values["real_labels"]))
    assert schedule.lrs is not None
    raw = jnp.asarray(inverse_softplus(np.asarray(schedule.lrs)))

    def loss(inputs: jax.Array, raw: jax.Array):
        phi = schedule._replace(inputs=inputs, lrs=jax.nn.softplus(raw))
        return method.loss(phi, (), batch, jax.random.key(0))

    (value, info), grads = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(
        schedule.inputs, raw
    )
    assert relative(value, values["loss"]) < 1e-9
    assert relative(grads[0], values["grad_images"]) < 1e-9
    assert relative(np.ravel(grads[1]), values["grad_raw_lrs"]) < 1e-9
    assert 0 <= float(info.accuracy) <= 100


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_an_objective_of_one_s_own_is_what_is_minimised():
    network, distribution, params, form, batch = small_problem(jax.random.key(4))
    theta = distribution.sample(jax.random.key(5))

    def brier(logits: jax.Array, labels: jax.Array) -> jax.Array:
        return jnp.sum((jax.nn.softmax(logits) - jax.nn.one_hot(labels, logits.shape[1])) ** 2, -1)

    given = InitDistribution(lambda key: theta, "given", fixed=True)
    method = methods.unrolled(network, given, objective=brier, examples_per_chunk=3)
    value, _ = jax.jit(method.loss)(form.unfold(params), (), batch, jax.random.key(0))

    @jax.jit
    def trained(schedule: Schedule) -> jax.Array:
        return network.apply(unroll(cross_entropy(network.apply), theta, schedule)[0], batch.inputs)

    logits = np.asarray(trained(form.unfold(params)))
    chances = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = np.mean(np.sum((chances - np.eye(3)[np.asarray(batch.labels)]) ** 2, -1))
    assert float(value) == pytest.approx(float(expected), rel=1e-12)


def test_objectives_that_cannot_be_taken_in_chunks_are_refused():
    network, distribution, *_ = small_problem(jax.random.key(0))
    for objective, message in (
        (lambda logits, labels: jnp.mean(logits), r"one number for each example, \[3\] for 3 examples"),
        (lambda logits, labels: logits, "one number for each example"),
        (None, "objective: expected a function"),
    ):
        with pytest.raises(ValueError, match=message):
            methods.unrolled(network, distribution, objective=objective)  # type: ignore[arg-type]
    for classes, message in (((3, 3), "got 3 twice"), ((-1, 3), "attacked: .* got -1"), ((3, 0.5), "target")):
        with pytest.raises(ValueError, match=message):
            methods.relabelled(*classes)  # type: ignore[arg-type]


def small_problem(key: jax.Array) -> tuple[Network, Any, PixelParams, Any, Batch]:
    """A smooth little network, φ with S 2, E 2, and eight real images."""
    network = networks.convnet((8, 8, 1), 3, depth=1, width=4, norm="none", activation="tanh")
    form = forms.pixels((8, 8, 1), 3, inner_steps=2, inner_epochs=2, inner_lr=0.1)
    keys = jax.random.split(key, 4)
    batch = Batch(jax.random.normal(keys[0], (8, 8, 8, 1)), jax.random.randint(keys[1], (8,), 0, 3))
    return network, inits.random(network), form.init(keys[2]), form, batch


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_finite_differences_agree_for_every_part_of_phi():
    network, distribution, params, form, batch = small_problem(jax.random.key(0))
    method = methods.unrolled(network, distribution)

    def loss(params: PixelParams) -> jax.Array:
        return method.loss(form.unfold(params), (), batch, jax.random.key(9))[0]

    grads, value = jax.jit(jax.grad(loss))(params), jax.jit(loss)
    for field, size in (("images", 1e-5), ("raw_lrs", 1e-5)):
        leaf, grad = getattr(params, field), getattr(grads, field)
        directions = jax.random.normal(jax.random.key(1), (3, *leaf.shape))
        for direction in directions:
            ahead = value(params._replace(**{field: leaf + size * direction}))
            behind = value(params._replace(**{field: leaf - size * direction}))
            numeric = float(ahead - behind) / (2 * size)
            assert numeric == pytest.approx(float(jnp.sum(grad * direction)), rel=1e-6, abs=1e-10)
        assert float(jnp.linalg.norm(grad)) > 0


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_scan_equals_a_python_loop():
    network, distribution, params, form, batch = small_problem(jax.random.key(2))
    theta = distribution.sample(jax.random.key(3))
    inner = cross_entropy(network.apply)

    def looped(schedule: Schedule):
        weights, losses = theta, []
        assert schedule.lrs is not None
        for lrs in schedule.lrs:
            for inputs, labels, lr in zip(schedule.inputs, schedule.labels, lrs, strict=True):
                value, grads = jax.value_and_grad(inner)(weights, inputs, labels)
                weights = jax.tree.map(lambda w, g, lr=lr: w - lr * g, weights, grads)
                losses.append(value)
        return weights, jnp.stack(losses)

    def outer(train, params: PixelParams) -> tuple[jax.Array, jax.Array]:
        weights, losses = train(form.unfold(params))
        return inner(weights, batch.inputs, jax.nn.one_hot(batch.labels, 3)), losses

    (scan_value, scan_losses), scan_grads = jax.jit(
        jax.value_and_grad(lambda p: outer(lambda s: unroll(inner, theta, s), p), has_aux=True)
    )(params)
    (loop_value, loop_losses), loop_grads = jax.jit(
        jax.value_and_grad(lambda p: outer(looped, p), has_aux=True)
    )(params)
    assert relative(scan_value, loop_value) < 1e-13
    assert relative(scan_losses, loop_losses) < 1e-13
    assert relative(scan_grads.images, loop_grads.images) < 1e-12
    assert relative(scan_grads.raw_lrs, loop_grads.raw_lrs) < 1e-12


@pytest.mark.slow
def test_learning_rates_keep_the_weights_dtype():
    with double():
        network = networks.mlp((2, 2, 1), 2)
        shapes = jax.eval_shape(network.init, jax.random.key(0))
        params = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.float32), shapes)
        schedule = Schedule(jnp.ones((1, 2, 2, 2, 1), jnp.float32), jnp.ones((1, 2, 2)) / 2, jnp.ones((1, 1)))
        final, _ = jax.eval_shape(lambda p: unroll(cross_entropy(network.apply), p, schedule), params)
    assert {leaf.dtype for leaf in jax.tree.leaves(final)} == {np.dtype("float32")}


def outer_loss(network: Network, theta: Any, form, batch: Batch, **settings: Any):
    """Cross-entropy on real images after the unroll, as a function of φ's parameters."""

    def loss(params: PixelParams) -> tuple[jax.Array, jax.Array]:
        weights, losses = unroll(cross_entropy(network.apply), theta, form.unfold(params), **settings)
        logits = network.apply(weights, batch.inputs)
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels).mean(), losses

    return jax.jit(jax.value_and_grad(loss, has_aux=True))


@pytest.fixture
def problem(x64):
    """A small ReLU network, θ0, and eight real images; the unrolls of T 8 leave √T a stretch to fill up."""
    network = networks.mlp((4, 4, 1), 3, widths=(8,))
    theta = inits.random(network).sample(jax.random.key(0))
    batch = Batch(jax.random.normal(jax.random.key(1), (8, 4, 4, 1)), jnp.arange(8) % 3)
    return network, theta, batch


@pytest.fixture(scope="module")
def once() -> Callable[[Hashable, Callable[[], Any]], Any]:
    """`(name, compute) -> result`, computed when the name first comes."""
    known: dict[Hashable, Any] = {}

    def found(name: Hashable, compute: Callable[[], Any]) -> Any:
        if name not in known:
            known[name] = compute()
        return known[name]

    return found


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name != "reverse"])
def test_every_memory_strategy_gives_the_same_gradient(problem, once, optimizer, strategy):
    network, theta, batch = problem
    form = forms.pixels((4, 4, 1), 3, inner_steps=2, inner_epochs=4, inner_lr=0.05)
    params = form.init(jax.random.key(2))

    def differentiated(name: str) -> Any:
        settings: dict[str, Any] = {"optimizer": OPTIMIZERS[optimizer], "memory": STRATEGIES[name]}
        return outer_loss(network, theta, form, batch, **settings)(params)

    theirs = once(("every step", optimizer), lambda: differentiated("reverse"))
    for a, b in zip(*map(jax.tree.leaves, (differentiated(strategy), theirs)), strict=True):
        assert relative(a, b) < 1e-9


@pytest.mark.slow
def test_any_optax_transformation_is_an_inner_optimiser(problem):
    network, theta, _ = problem
    form = forms.pixels((4, 4, 1), 3, inner_steps=2, inner_epochs=2, inner_lr=0.05)
    optimizer = optax.chain(
        optax.clip_by_global_norm(0.5), optax.add_decayed_weights(0.1), optax.rmsprop(1.0)
    )
    params = form.init(jax.random.key(2))
    weights, state = theta, optimizer.init(theta)
    schedule = form.unfold(params)
    assert schedule.lrs is not None

    @jax.jit
    def step(weights: Any, state: Any, x: jax.Array, y: jax.Array, lr: jax.Array) -> Any:
        grads = jax.grad(cross_entropy(network.apply))(weights, x, y)
        updates, state = optimizer.update(grads, state, weights)
        return jax.tree.map(lambda w, u: w + lr * u, weights, updates), state

    for lrs in schedule.lrs:
        for x, y, lr in zip(schedule.inputs, schedule.labels, lrs, strict=True):
            weights, state = step(weights, state, x, y, lr)
    train = jax.jit(
        lambda schedule: unroll(cross_entropy(network.apply), theta, schedule, optimizer=optimizer)
    )
    ours, _ = train(schedule)
    for a, b in zip(*map(jax.tree.leaves, (ours, weights)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.slow
def test_mixed_mode_differentiates_the_recorded_losses_too(problem):
    network, theta, _ = problem
    form = forms.pixels((4, 4, 1), 3, inner_steps=2, inner_epochs=2, inner_lr=0.05)
    params = form.init(jax.random.key(2))

    def summed(params: PixelParams, name: str) -> jax.Array:
        inner = cross_entropy(network.apply)
        return unroll(inner, theta, form.unfold(params), memory=STRATEGIES[name])[1].sum()

    ours, theirs = (jax.jit(jax.grad(summed), static_argnums=1)(params, n) for n in ("mixed", "reverse"))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert relative(a, b) < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_window_forgets_the_steps_before_it(problem, once, strategy):
    network, theta, batch = problem
    form = forms.pixels((4, 4, 1), 3, inner_steps=3, inner_epochs=2, inner_lr=0.05)
    params = form.init(jax.random.key(2))
    truncated = dataclasses.replace(STRATEGIES[strategy], window=2)
    (value, losses), grads = outer_loss(network, theta, form, batch, memory=truncated)(params)
    (full_value, full_losses), full = once(
        "all six steps", lambda: outer_loss(network, theta, form, batch)(params)
    )
    assert relative(value, full_value) < 1e-12
    assert relative(losses, full_losses) < 1e-12
    # The last two steps are steps 1 and 2 of the second epoch: they alone have a gradient, and the last η's
    # is that of the whole unroll.
    assert not np.any(grads.images[0])
    assert np.any(grads.images[1])
    assert np.array_equal(np.asarray(grads.raw_lrs) != 0, [[False] * 3, [False, True, True]])
    assert relative(grads.raw_lrs[1, 2], full.raw_lrs[1, 2]) < 1e-12
    whole = dataclasses.replace(STRATEGIES[strategy], window=6)
    _, grads = outer_loss(network, theta, form, batch, memory=whole)(params)
    assert relative(grads.images, full.images) < 1e-10


@pytest.mark.slow
def test_strategies_that_keep_less_need_less_memory():
    network = networks.mlp((8, 8, 1), 10, widths=(64,))
    theta = inits.random(network).sample(jax.random.key(0))
    form = forms.pixels((8, 8, 1), 10, inner_steps=10, inner_epochs=10)
    batch = Batch(jnp.zeros((4, 8, 8, 1)), jnp.zeros(4, jnp.int32))
    phi = form.init(jax.random.key(1))

    def temporaries(name: str) -> int:
        compiled = outer_loss(network, theta, form, batch, memory=STRATEGIES[name]).lower(phi).compile()
        analysis = compiled.memory_analysis()
        assert analysis is not None
        return analysis.temp_size_in_bytes

    needed = {name: temporaries(name) for name in STRATEGIES}
    assert needed["mixed"] < needed["reverse"]
    assert needed["mixed_sqrt"] < 0.6 * needed["mixed"]
    assert needed["sqrt"] < 0.6 * needed["recompute"]


@pytest.mark.slow
@pytest.mark.parametrize("mixed", [False, True])
def test_first_order_is_a_plain_scan_with_stopped_weights(problem, mixed):
    """Of θ_T and of the recorded losses, in θ_0, images, labels and rates."""
    network, theta, batch = problem
    form = forms.pixels((4, 4, 1), 3, inner_steps=2, inner_epochs=4, inner_lr=0.05, label_confidence=0.8)
    params = form.init(jax.random.key(2))
    inner = cross_entropy(network.apply)

    def stopped(theta: Any, schedule: Schedule) -> tuple[Any, jax.Array]:
        assert schedule.lrs is not None
        epochs = len(schedule.lrs)
        steps = *(jnp.concatenate([leaf] * epochs) for leaf in schedule[:2]), schedule.lrs.ravel()

        def step(weights: Any, now: Any) -> tuple[Any, jax.Array]:
            value, grads = jax.value_and_grad(inner)(jax.lax.stop_gradient(weights), *now[:2])
            return jax.tree.map(lambda w, g: w - now[2] * g, weights, grads), value

        return jax.lax.scan(step, theta, steps)

    def outer(train, theta: Any, params: PixelParams) -> jax.Array:
        weights, losses = train(theta, form.unfold(params))
        final = inner(weights, batch.inputs, jax.nn.one_hot(batch.labels, 3))
        return final + jnp.sum(jnp.arange(1.0, 9.0) * losses)

    memory = Memory(mixed=mixed, first_order=True)
    ours, theirs = (
        jax.jit(jax.grad(lambda *phi, train=train: outer(train, *phi), argnums=(0, 1)))(theta, params)
        for train in (lambda t, s: unroll(inner, t, s, memory=memory), stopped)
    )
    for a, b in zip(*map(jax.tree.leaves, (ours, theirs)), strict=True):
        assert relative(a, b) < 1e-12
    exact = jax.jit(jax.grad(lambda p: outer(lambda t, s: unroll(inner, t, s), theta, p)))(params)
    assert relative(ours[1].images, exact.images) > 0.01


@pytest.mark.usefixtures("x64")
def test_first_order_is_for_plain_descent_of_all_steps(problem):
    network, theta, _ = problem
    form = forms.pixels((4, 4, 1), 3, inner_steps=2, inner_epochs=2, inner_lr=0.05)
    schedule, memory = form.unfold(form.init(jax.random.key(2))), Memory(first_order=True)
    with pytest.raises(ValueError, match="first_order: expected plain descent"):
        unroll(cross_entropy(network.apply), theta, schedule, optimizer=OPTIMIZERS["adam"], memory=memory)
    with pytest.raises(ValueError, match=r"first_order: expected no window with it.*got 2. Leave the window"):
        Memory(first_order=True, window=2)
    with pytest.raises(
        ValueError, match=r"first_order: expected no checkpoint with it.*Leave the checkpoint"
    ):
        Memory(first_order=True, checkpoint="sqrt")


def test_bad_strategies_are_refused():
    with pytest.raises(ValueError, match="window: expected a whole number >= 1; got 0"):
        Memory(window=0)
    with pytest.raises(ValueError, match="checkpoint: expected one of sqrt, step; got 'cube'"):
        Memory(checkpoint="cube")  # pyright: ignore[reportArgumentType] (a wrong value is the test)


def first_steps(schedule: Schedule, stop: int) -> Schedule:
    """The first steps alone, as one epoch."""
    assert schedule.lrs is not None
    epochs = len(schedule.lrs)
    inputs = jnp.concatenate([schedule.inputs] * epochs)[:stop]
    labels = jnp.concatenate([schedule.labels] * epochs)[:stop]
    return Schedule(inputs, labels, schedule.lrs.ravel()[None, :stop])


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("checkpoint", "optimizer"), [(None, "sgd"), ("step", "adam"), ("sqrt", "sgd")])
def test_training_that_ends_anywhere_is_training_on_the_first_steps(problem, checkpoint, optimizer):
    network, theta, batch = problem
    form = forms.pixels((4, 4, 1), 3, inner_steps=2, inner_epochs=4, inner_lr=0.1, label_confidence=0.9)
    params = form.init(jax.random.key(8))
    memory = Memory(checkpoint=checkpoint, window=3)
    settings: dict[str, Any] = {"optimizer": OPTIMIZERS[optimizer], "memory": memory}

    @jax.jit
    def ended(params: PixelParams, stop: jax.Array):
        return outer_loss(network, theta, form, batch, **settings, stop=stop)(params)

    for stop in (3, 6):
        (value, losses), grads = ended(params, jnp.int32(stop))
        shorter = Form(form.init, lambda p, stop=stop: first_steps(form.unfold(p), stop), "first steps")
        (expected, all_losses), expected_grads = outer_loss(network, theta, shorter, batch, **settings)(
            params
        )
        assert relative(value, expected) < 1e-12
        assert relative(losses, all_losses[-3:]) < 1e-12
        for ours, theirs in zip(grads, expected_grads, strict=True):
            assert relative(ours, theirs) < 1e-10
            assert float(jnp.linalg.norm(ours)) > 0
        assert not np.any(np.ravel(grads.raw_lrs)[: stop - 3])
        assert np.all(np.ravel(grads.raw_lrs)[stop - 3 : stop])


@pytest.mark.usefixtures("x64")
def test_an_end_without_a_window_is_refused(problem):
    network, theta, _ = problem
    form = forms.pixels((4, 4, 1), 3, inner_steps=2, inner_epochs=2, inner_lr=0.05)
    schedule = form.unfold(form.init(jax.random.key(2)))
    with pytest.raises(ValueError, match="stop: expected a window beside it"):
        unroll(cross_entropy(network.apply), theta, schedule, stop=jnp.int32(2))


@pytest.mark.slow
def test_a_random_horizon_ends_at_every_step_from_the_window_on():
    network, distribution, params, form, batch = small_problem(jax.random.key(9))
    memory = Memory(window=2)
    method = methods.unrolled(network, distribution, memory=memory, horizon="random")
    grad = jax.jit(jax.grad(lambda p, key: method.loss(form.unfold(p), (), batch, key)[0]))
    keys = jax.random.split(jax.random.key(10), 40)
    windows = [tuple(np.flatnonzero(np.ravel(grad(params, key).raw_lrs))) for key in keys]
    assert set(windows) == {(0, 1), (1, 2), (2, 3)}


def test_a_random_horizon_without_a_window_is_refused():
    network, distribution, *_ = small_problem(jax.random.key(0))
    with pytest.raises(ValueError, match="horizon: expected a window with 'random'"):
        methods.unrolled(network, distribution, horizon="random")
    with pytest.raises(ValueError, match="horizon: expected one of full, random; got 'all'"):
        methods.unrolled(network, distribution, horizon="all")

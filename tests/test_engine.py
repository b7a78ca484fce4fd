"""The compiled outer loop: compiled once, and stopping where it is told to."""

from __future__ import annotations

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from problems import CLASSES, SHAPE, small_form, three_digits

from ddjax import forms, inits, methods, networks, optimizers, parallel
from ddjax.data import to_device
from ddjax.engine import Problem, build_dispatch, init_state, mean_and_grad, slot_keys
from ddjax.pool import Pool
from ddjax.recipes import Train
from ddjax.run import Validation, distill
from ddjax.types import Aside, Method


def problem() -> Problem:
    network = networks.mlp(SHAPE, CLASSES, widths=(8,))
    method = methods.unrolled(network, inits.random(network), batch_size=16)
    return Problem(method, small_form(), optimizers.adam_cosine(10))


@pytest.mark.slow
def test_one_compilation_serves_every_length_of_dispatch():
    mesh = parallel.make_mesh(jax.devices()[:1])
    dispatch = build_dispatch(problem(), mesh, capacity=4)
    data, key = to_device(three_digits().train), jax.random.key(0)
    state = jax.device_put(init_state(problem(), key), parallel.replicated(mesh))
    reached = []
    for stop in (1, 3, 100):
        state, infos, finite = dispatch(state, data, key, jnp.int32(stop))
        reached.append(int(state.step))
        assert bool(finite)
        assert infos.loss.shape == (4,)
    assert reached == [1, 3, 7]  # the last one fills the buffer of four
    assert dispatch._cache_size() == 1


@pytest.mark.slow
def test_a_slot_that_is_not_finite_on_one_device_stops_all_of_them():
    """What one device alone sees must not make the devices disagree about the next step."""
    counting = dataclasses.replace(
        problem().method,
        init=lambda key: (jnp.zeros(()), jnp.zeros((), jnp.int32)),
        loss=lambda schedule, state, batch, key: (jnp.sum(schedule.inputs**2), ()),
        advance=lambda schedule, state, batch, info, key: (state[0] + spoiled(key, state[1]), state[1] + 1),
    )

    def spoiled(key: jax.Array, steps: jax.Array) -> jax.Array:
        return jnp.where((steps == 2) & (jax.lax.axis_index(parallel.AXIS) == 3), jnp.nan, 1.0)

    drawing = dataclasses.replace(problem(), method=counting, num_inits=4)
    mesh, key = parallel.make_mesh(jax.devices()[:4]), jax.random.key(0)
    shared, whole = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((parallel.AXIS,), ()))
    state = init_state(drawing, key)
    state = jax.device_put(
        state,
        state._replace(
            step=whole,
            params=jax.tree.map(lambda _: whole, state.params),
            opt_state=jax.tree.map(lambda _: whole, state.opt_state),
            slots=jax.tree.map(lambda _: shared, state.slots),
        ),
    )
    data = jax.device_put(to_device(three_digits().train), whole)
    state, _, finite = build_dispatch(drawing, mesh, capacity=4)(state, data, key, jnp.int32(4))
    assert not bool(finite)
    assert int(state.step) == 2
    np.testing.assert_array_equal(state.slots[0], 2)


@pytest.mark.slow
@pytest.mark.parametrize("slots_per_chunk", [1, 2])
def test_what_a_loss_keeps_reaches_its_own_slot_and_no_record(slots_per_chunk):
    """Each slot adds up what its loss kept, which is larger than any diagnostic."""
    keeping = dataclasses.replace(
        problem().method,
        init=lambda key: (jax.random.uniform(key), jnp.zeros(3)),
        loss=lambda schedule, state, batch, key: (
            jnp.sum(schedule.inputs**2),
            Aside({"own": state[0]}, 100 * state[0] * jnp.arange(3.0)),
        ),
        advance=lambda schedule, state, batch, info, key: (state[0], state[1] + info.kept),
    )
    given = dataclasses.replace(problem(), method=keeping, num_inits=4, slots_per_chunk=slots_per_chunk)
    mesh = parallel.make_mesh(jax.devices()[:1])
    data, key = to_device(three_digits().train), jax.random.key(0)
    start = jax.device_put(init_state(given, key), parallel.replicated(mesh))
    own = np.asarray(start.slots[0])
    state, infos, finite = build_dispatch(given, mesh, capacity=2)(start, data, key, jnp.int32(2))
    assert bool(finite)
    assert len(set(own.tolist())) == 4
    np.testing.assert_allclose(state.slots[1], 2 * 100 * own[:, None] * np.arange(3), rtol=1e-6)
    assert set(infos.method) == {"own"}
    np.testing.assert_allclose(infos.method["own"], own.mean(), rtol=1e-6)


@pytest.mark.slow
def test_a_run_of_many_dispatches_traces_no_more_than_one_of_one():
    def run(method: Method, num_outer_steps: int) -> None:
        form, data = small_form(), three_digits()
        settings = {"key": jax.random.key(0), "form": form, "num_outer_steps": num_outer_steps}
        distill(data, method, **settings, validation=Validation(lambda schedule: 0.0, every=2))

    traces = 0

    def counted(*arguments):
        nonlocal traces
        traces += 1
        return problem().method.loss(*arguments)

    run(dataclasses.replace(problem().method, loss=counted), 1)
    assert traces > 0
    chex.clear_trace_counter()
    limited = chex.assert_max_traces(problem().method.loss, n=traces)
    run(dataclasses.replace(problem().method, loss=limited), 9)  # five dispatches


@pytest.mark.parametrize("slots_per_chunk", [1, 2, 4])
def test_an_outer_step_is_traced_once(slots_per_chunk):
    """Once for the loop over steps and the scan over chunks, and for the shapes that both need before."""
    whole, traces = problem(), 0

    def counted(*arguments):
        nonlocal traces
        traces += 1
        return whole.method.loss(*arguments)

    method = dataclasses.replace(whole.method, loss=counted)
    counting = dataclasses.replace(whole, method=method, num_inits=4, slots_per_chunk=slots_per_chunk)
    mesh, key = parallel.make_mesh(jax.devices()[:1]), jax.random.key(0)
    state = jax.device_put(init_state(counting, key), parallel.replicated(mesh))
    build_dispatch(counting, mesh).lower(state, to_device(three_digits().train), key, jnp.int32(1))
    assert traces == 1


def test_slot_keys_depend_on_the_slot_alone():
    key = jax.random.key(3)
    everyone = jax.random.key_data(slot_keys(key, jnp.arange(4)))
    last = jax.random.key_data(slot_keys(key, jnp.array([3])))
    assert np.array_equal(everyone[3:], last)
    assert len(np.unique(everyone, axis=0)) == 4


@pytest.mark.slow
def test_a_pool_travels_with_the_data_and_is_no_constant_of_the_program():
    """The same steps as with the pool closed over, from a program that does not grow with it."""
    network = networks.mlp(SHAPE, CLASSES, widths=(8,))
    theta = jax.vmap(network.init)(jax.random.split(jax.random.key(1), 400))
    members = inits.pretrained(Pool(jax.device_get(theta), 400, np.zeros(400, np.float32)))
    method = methods.unrolled(network, members, batch_size=16)
    drawing = Problem(method, small_form(), optimizers.adam_cosine(10), num_inits=2)
    mesh, key = parallel.make_mesh(jax.devices()[:1]), jax.random.key(0)
    bare = to_device(three_digits().train)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(method.assets))
    reached, lengths = [], []
    for data in (bare._replace(assets=method.assets), bare):
        state = jax.device_put(init_state(drawing, key), parallel.replicated(mesh))
        lowered = build_dispatch(drawing, mesh, capacity=4).lower(state, data, key, jnp.int32(3))
        lengths.append(len(lowered.as_text()))
        reached.append(jax.device_get(lowered.compile()(state, data, key, jnp.int32(3))[0].params))
    assert lengths[0] < size / 5 < lengths[1]
    for ours, theirs in zip(*map(jax.tree.leaves, reached), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_a_state_that_changes_its_shape_is_named_while_tracing():
    growing = dataclasses.replace(
        problem().method,
        init=lambda key: {"age": jnp.zeros(())},
        loss=lambda schedule, state, batch, key: (jnp.sum(schedule.inputs**2), ()),
        advance=lambda schedule, state, batch, info, key: {"age": jnp.zeros(2)},
    )
    stepping = dataclasses.replace(problem(), method=growing)
    mesh, key = parallel.make_mesh(jax.devices()[:1]), jax.random.key(0)
    data = parallel.place(to_device(three_digits().train), parallel.replicated(mesh))
    with pytest.raises(AssertionError, match="age"):
        build_dispatch(stepping, mesh).lower(init_state(stepping, key).on(mesh), data, key, jnp.int32(1))


@pytest.mark.slow
def test_each_slot_draws_its_own_minibatches_and_sees_no_other_key_than_before():
    """The drawn schedule is that of the slot's key, and a form that does not draw leaves the keys alone."""

    def loss(schedule, state, batch, key):
        del state, batch
        return jnp.sum(schedule.inputs), (schedule.inputs[0, :, 0, 0, 0], jax.random.normal(key, ()))

    method = dataclasses.replace(problem().method, loss=loss, recipe=Train())
    images = forms.stored(SHAPE, CLASSES, per_class=9)
    drawing = forms.composed(images, drawn_per_class=2)
    keys, data = slot_keys(jax.random.key(1), jnp.arange(3)), to_device(three_digits().train)
    results = {}
    for form in (drawing, forms.composed(images)):
        one = Problem(method, form, optimizers.sgd_momentum(), num_inits=3)
        params = form.init(jax.random.key(0))
        results[form.draw is None] = jax.jit(functools.partial(mean_and_grad, one))(params, (), data, keys)
    drawn, noise = results[False].slot_infos
    assert drawn.shape == (3, 2 * CLASSES)
    for slot, key in zip(drawn, keys, strict=True):
        own, _ = forms.drawn(drawing, drawing.init(jax.random.key(0)), key)
        np.testing.assert_array_equal(slot, own.inputs[0, :, 0, 0, 0])
    assert len({tuple(slot.tolist()) for slot in drawn}) == 3
    assert not np.array_equal(noise, results[True].slot_infos[1])
    np.testing.assert_array_equal(results[True].slot_infos[1], jax.vmap(jax.random.normal)(keys))
    # Of the mean over three slots of the sums of six images of 64 pixels each.
    assert np.isclose(np.sum(results[False].grads.code), 6 * 64)

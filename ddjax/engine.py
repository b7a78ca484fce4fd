"""The outer loop as a compiled program: many outer steps in a dispatch, the slots divided over devices."""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from ddjax import checks, forms, host_memory, packing, parallel, platforms, updates
from ddjax.arithmetic import flops
from ddjax.chunks import map_in_chunks, mean_and_rest
from ddjax.types import Aside, Form, Info, Method, PyTree, RealData

DISPATCH_CAPACITY = 200
"""The most outer steps in one dispatch: the length of the buffer that holds their diagnostics."""


class StepInfo(NamedTuple):
    """Diagnostics of one outer step; where they differ between slots, the means over the M slots.

    Attributes:
        loss: `[]`, the loss of the method before φ moved.
        grad_norm: `[]`, the global norm of the gradient of the loss, before clipping.
        clipped: `[]` bool, whether this norm was above the bound.
        lrs: `[E, S]`, the learning rates η before φ moved; None for a schedule without learning rates.
        method: the diagnostics of the method, its `Info`.
    """

    loss: jax.Array
    grad_norm: jax.Array
    clipped: jax.Array
    lrs: jax.Array | None
    method: Info


class EngineState(NamedTuple):
    """What one outer step hands to the next.

    Attributes:
        step: `[]` int32, the number of outer steps done.
        params: the parameters of φ.
        opt_state: the state of the outer optimiser.
        slots: the states of the method, one for each slot, each leaf `[M, ...]`.
    """

    step: jax.Array
    params: PyTree
    opt_state: optax.OptState
    slots: PyTree

    def on(self, mesh: Mesh) -> EngineState:
        """A copy on a mesh, with the slots divided over the devices; a dispatch reuses its memory.

        Args:
            mesh: the devices.

        Returns:
            The copy.
        """
        copy = jax.tree.map(np.array, self)
        shared = parallel.place(copy._replace(slots=()), parallel.replicated(mesh))
        return shared._replace(slots=parallel.place(copy.slots, parallel.split_slots(mesh)))


class Cost(NamedTuple):
    """The time and memory of compiled outer steps, known before the first one has run.

    Attributes:
        compile_seconds: the seconds that XLA compiled.
        temporary_bytes: the bytes of XLA's buffers on one device; 0 where the backend does not say.
        resident_bytes: the bytes of the real data, φ and the states on one device.
        flops: the operations of the matrix products and convolutions of one outer step, over all devices.
        packed_bytes: the bytes of packed factors that the products hold besides XLA's buffers, on a CPU with
            several threads (`ddjax.packing`).
    """

    compile_seconds: float
    temporary_bytes: int
    resident_bytes: int
    flops: int = 0
    packed_bytes: int = 0

    @property
    def working_bytes(self) -> int:
        """The bytes that the outer steps take on one device besides what they are given."""
        return self.temporary_bytes + self.packed_bytes

    @property
    def total_bytes(self) -> int:
        """The bytes that the outer steps need on one device."""
        return self.working_bytes + self.resident_bytes


@dataclasses.dataclass(frozen=True)
class Problem:
    """What one outer step computes.

    Attributes:
        method: the method, which defines the loss of one slot.
        form: the form of φ, which turns the parameters into a schedule.
        optimizer: the optimiser of the parameters of φ, all groups together (`ddjax.forms.optimizer_for`).
        num_inits: M, the number of slots.
        clip_norm: the bound on the global norm of the gradient; None for no bound.
        slots_per_chunk: the number of slots that are vmapped; the chunks are computed one after the other.
    """

    method: Method
    form: Form
    optimizer: optax.GradientTransformation
    num_inits: int = 1
    clip_norm: float | None = None
    slots_per_chunk: int = 1

    def __post_init__(self) -> None:
        checks.kind("method", self.method, Method, remedy="Build it with ddjax.methods.")
        checks.kind("form", self.form, Form, remedy="Build it with ddjax.forms.")
        checks.at_least("num_inits", self.num_inits, 1)
        checks.at_least("slots_per_chunk", self.slots_per_chunk, 1)
        if self.clip_norm is not None:
            checks.positive("clip_norm", self.clip_norm)


def slot_keys(key: jax.Array, slot_ids: jax.Array) -> jax.Array:
    """One key for each slot, which depends on the number of the slot and not on the division over devices.

    Args:
        key: the key that the keys of the slots are folded from.
        slot_ids: `[m]` int32, the numbers of the slots.

    Returns:
        `[m]` keys.
    """
    return jax.vmap(jax.random.fold_in, (None, 0))(key, slot_ids)


class SlotResults(NamedTuple):
    """The results of the slots of one device in one outer step.

    Attributes:
        loss: `[]`, the mean loss of the slots.
        info: the mean of the diagnostics of the slots.
        grads: the gradient of the mean loss with respect to the parameters of φ.
        slot_infos: what the loss of each slot returned beside the loss, each leaf `[m, ...]`.
    """

    loss: jax.Array
    info: Info
    grads: PyTree
    slot_infos: Info | Aside


def mean_and_grad(
    problem: Problem, params: PyTree, slots: PyTree, batch: Any, keys: jax.Array
) -> SlotResults:
    """The mean loss of the m slots of this device, the diagnostics, and the gradient for the parameters of φ.

    The slots of one chunk are vmapped. The chunks follow one another, and each is differentiated before the
    next starts, so that the memory needed is that of one chunk.

    Args:
        problem: the method, form and sizes.
        params: the parameters of φ.
        slots: the states of the method, each leaf `[m, ...]`.
        batch: the real examples that all slots share.
        keys: `[m]`, the source of the random draws of each slot. Consumed.

    Returns:
        The means over the slots, and the diagnostics of each slot.
    """
    num_slots = len(keys)
    chunk = math.gcd(problem.slots_per_chunk, num_slots)

    def one(params: PyTree, slot: PyTree, key: jax.Array) -> tuple[jax.Array, Info]:
        schedule, key = forms.drawn(problem.form, forms.freeze(problem.form, params), key)
        return problem.method.loss(schedule, slot, batch, key)

    def mean(params: PyTree, slots: PyTree, keys: jax.Array) -> tuple[jax.Array, tuple[Info, Info]]:
        if chunk == 1:  # Even an axis of length 1, once vmapped, would turn every product into a batched one.
            loss, info = one(params, jax.tree.map(lambda leaf: leaf[0], slots), keys[0])
            return loss, (_diagnostics(info), jax.tree.map(lambda leaf: leaf[None], info))
        loss, infos = jax.vmap(one, (None, 0, 0))(params, slots, keys)
        return loss.mean(0), (jax.tree.map(lambda leaf: leaf.mean(0), _diagnostics(infos)), infos)

    def of_chunk(now: tuple[PyTree, jax.Array]) -> tuple[PyTree, Info]:
        """The results that are averaged over the chunks, and those that are kept for each chunk."""
        (loss, (info, infos)), grads = jax.value_and_grad(mean, has_aux=True)(params, *now)
        return (loss, info, grads), infos

    (loss, info, grads), slot_infos = mean_and_rest(of_chunk, (slots, keys), chunk)
    return SlotResults(loss, info, grads, slot_infos)


def _diagnostics(info: Info | Aside) -> Info:
    """What is recorded of that which a slot's loss returns beside the loss."""
    return info.info if isinstance(info, Aside) else info


def _all_finite(tree: PyTree) -> jax.Array:
    numbers = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return jnp.all(jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in numbers], bool))


def _all_finite_everywhere(slots: PyTree) -> jax.Array:
    """Whether the slots of every device are finite; slots without such numbers ask no other device."""
    if not any(jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in jax.tree.leaves(slots)):
        return jnp.array(True)
    return jax.lax.pmin(_all_finite(slots).astype(jnp.int32), parallel.AXIS) == 1


def outer_step(
    problem: Problem, state: EngineState, data: RealData, key: jax.Array
) -> tuple[EngineState, StepInfo, jax.Array]:
    """One outer step on one device of the mesh; to be called inside `shard_map`.

        g = mean over slots of ∇_φ L,   φ ← project(φ - optimizer(g · min(1, clip_norm / ‖g‖)))

    Args:
        problem: the method, form, optimiser and sizes.
        state: the state before the step, with the slots of this device only.
        data: the real training data.
        key: the key of the whole run, from which the keys of the step are folded by the number of the step.

    Returns:
        The next state, the diagnostics, and whether the loss, the gradient and the next state are all finite.
        Where one of them is not, the state returned is the one that came in.
    """
    num_local = problem.num_inits // jax.lax.axis_size(parallel.AXIS)
    slot_ids = jax.lax.axis_index(parallel.AXIS) * num_local + jnp.arange(num_local, dtype=jnp.int32)
    sample_key, loss_key, advance_key = jax.random.split(jax.random.fold_in(key, state.step), 3)
    batch = problem.method.sample(data, sample_key)
    loss_keys = slot_keys(loss_key, slot_ids)
    results = mean_and_grad(problem, state.params, state.slots, batch, loss_keys)
    # Behind the barrier all of it is there at once. Without, XLA for GPUs may fuse a diagnostic with what
    # reads the averaged gradient, and must then send the two one after the other.
    own = jax.lax.optimization_barrier(results[:3])
    loss, info, grads = jax.lax.pmean(own, parallel.AXIS)

    def elsewhere(params: PyTree) -> tuple[jax.Array, PyTree]:
        """The loss and gradient of this step at other parameters, for optimisers that search along a line."""
        there = mean_and_grad(problem, params, state.slots, batch, loss_keys)
        return jax.lax.pmean((there.loss, there.grads), parallel.AXIS)

    asked = updates.Loss(loss, grads, elsewhere)
    norm = optax.tree.norm(grads)
    bound = jnp.inf if problem.clip_norm is None else problem.clip_norm
    grads = jax.tree.map(lambda g: (g * jnp.minimum(1.0, bound / norm)).astype(g.dtype), grads)
    moves, opt_state = updates.update(problem.optimizer, grads, state.opt_state, state.params, loss=asked)
    params = optax.apply_updates(state.params, moves)
    if problem.form.project is not None:
        params = problem.form.project(params)
    schedule = problem.form.unfold(params)
    slots = map_in_chunks(
        lambda slot: problem.method.advance(schedule, slot[0], batch, slot[1], slot[2]),
        (state.slots, results.slot_infos, slot_keys(advance_key, slot_ids)),
        problem.slots_per_chunk,
    )
    # While tracing, where a message can name the leaf; the loop would only say that its carry differs.
    chex.assert_trees_all_equal_shapes_and_dtypes(params, state.params)
    chex.assert_trees_all_equal_shapes_and_dtypes(slots, state.slots)
    finite = _all_finite((loss, norm, params)) & _all_finite_everywhere(slots)
    moved = EngineState(state.step + 1, params, opt_state, slots)
    state_out = jax.tree.map(lambda new, old: jnp.where(finite, new, old), moved, state)
    diagnostics = StepInfo(loss, norm, norm > bound, problem.form.unfold(state.params).lrs, info)
    return state_out, diagnostics, finite


@functools.cache
def compiler_options(backend: str) -> dict[str, Any]:
    """The compiler options for a backend that the installed XLA knows.

    On CPU, products are computed by Eigen rather than in the fusions of YNNPACK, whose threads wait on one
    another, and vectors have 512 bits. Together this takes a third off the time of LeNet's small products,
    and nothing off that of AlexCifarNet's large ones.

    Args:
        backend: the name of the backend, as `ddjax.platforms.current()` gives it.

    Returns:
        The values of the options by name; none on other backends.
    """
    wanted = {"xla_cpu_experimental_ynn_fusion_type": "", "xla_cpu_prefer_vector_width": 512}
    return {name: value for name, value in wanted.items() if backend == "cpu" and _is_known(name, value)}


def _is_known(option: str, value: Any) -> bool:
    """Whether XLA accepts an option: the options change from version to version."""
    try:
        jax.jit(lambda: 0.0).lower().compile({option: value})
    except jax.errors.JaxRuntimeError:
        return False
    return True


def build_dispatch(problem: Problem, mesh: Mesh, *, capacity: int = DISPATCH_CAPACITY) -> Any:
    """A function, ready to compile, that makes many outer steps on the devices without returning to the host.

    Args:
        problem: the method, form, optimiser and sizes.
        mesh: the devices.
        capacity: the most steps in one call.

    Returns:
        A jitted `(state, data, key, stop) -> (state, infos [capacity, ...], finite)` that donates `state`
        and runs until `state.step` is `stop`, the capacity is reached, or a step is not finite, in which case
        the diagnostics of that step are the last ones written.

    Raises:
        ValueError: `capacity` is no whole number of at least 1.
    """
    checks.at_least("capacity", capacity, 1)

    def many(
        state: EngineState, data: RealData, key: jax.Array, stop: jax.Array
    ) -> tuple[EngineState, StepInfo, jax.Array]:
        start = state.step

        # Traced once, for the shapes here and for the loop, into which its operations go as they are.
        @functools.partial(jax.jit, inline=True)
        def step(state: EngineState) -> tuple[EngineState, StepInfo, jax.Array]:
            return outer_step(problem, state, data, key)

        _, shapes, _ = jax.eval_shape(step, state)
        infos = jax.tree.map(lambda leaf: jnp.zeros((capacity, *leaf.shape), leaf.dtype), shapes)

        def go_on(carry: tuple[EngineState, StepInfo, jax.Array]) -> jax.Array:
            state, _, finite = carry
            return finite & (state.step < jnp.minimum(stop, start + capacity))

        def body(
            carry: tuple[EngineState, StepInfo, jax.Array],
        ) -> tuple[EngineState, StepInfo, jax.Array]:
            state, infos, _ = carry
            index = state.step - start
            state, info, finite = step(state)
            infos = jax.tree.map(lambda buffer, value: buffer.at[index].set(value), infos, info)
            return state, infos, finite

        return jax.lax.while_loop(go_on, body, (state, infos, jnp.array(True)))

    whole: Any = P()
    shared_out: Any = P(parallel.AXIS)
    states = EngineState(whole, whole, whole, shared_out)
    # check_vma=False: the gradient inside is that of this device, and outer_step alone averages over devices.
    sharded = jax.shard_map(
        many, mesh=mesh, in_specs=(states, P(), P(), P()), out_specs=(states, P(), P()), check_vma=False
    )
    return jax.jit(sharded, donate_argnums=0)


def compile_dispatch(
    problem: Problem, mesh: Mesh, state: EngineState, data: RealData, key: jax.Array
) -> tuple[Any, Cost]:
    """Compile the outer steps of a problem, and measure the time and memory that they take.

    Args:
        problem: the method, form, optimiser and sizes.
        mesh: the devices.
        state: a state on the mesh, of which the shapes are used.
        data: the real training data on the mesh, of which the shapes are used.
        key: the key of the run.

    Returns:
        The function of `build_dispatch`, compiled for arguments of these shapes, and the cost.
    """
    dispatch, cost = compile_program(problem, mesh, state, data, key)
    return _always_compiled(dispatch), cost


def compile_program(
    problem: Problem,
    mesh: Mesh,
    state: PyTree,
    data: PyTree,
    key: Any,
    *,
    options: Mapping[str, Any] | None = None,
) -> tuple[jax.stages.Compiled, Cost]:
    """Compile the outer steps of a problem, for devices that this machine need not have.

    Args:
        problem: the method, form, optimiser and sizes.
        mesh: the devices.
        state: a state on the mesh, or its shapes and shardings.
        data: the real training data on the mesh, or their shapes and shardings.
        key: the key of the run, or its shape and sharding.
        options: further options of the compiler, by name; None for none.

    Returns:
        The program as JAX gives it, which takes what the function of `build_dispatch` takes; and the cost.
    """
    started = time.monotonic()
    # A loop of outer steps exists as a compiled program alone, also where a caller has switched jit off.
    with jax.disable_jit(False):
        traced = build_dispatch(problem, mesh).trace(state, data, key, np.int32(0))
        lowered = traced.lower()
    usual = compiler_options(platforms.of(mesh.devices.flat[0]))
    dispatch = lowered.compile({**usual, **(options or {})})
    seconds = time.monotonic() - started
    memory = dispatch.memory_analysis()
    temporary, resident = (getattr(memory, f"{kind}_size_in_bytes", 0) for kind in ("temp", "argument"))
    packed = packing.packed_by(dispatch) if platforms.of(mesh.devices.flat[0]) == "cpu" else 0
    operations = flops(traced.jaxpr.jaxpr)
    del traced, lowered
    host_memory.return_freed()
    return dispatch, Cost(seconds, temporary, resident, operations, packed)


def _always_compiled(dispatch: Any) -> Any:
    def call(*arguments: Any) -> Any:
        with jax.disable_jit(False):
            return dispatch(*arguments)

    return call


def init_state(problem: Problem, key: jax.Array) -> EngineState:
    """The state before the first outer step: the starting point of φ and M new slots.

    Args:
        problem: the method, form, optimiser and sizes.
        key: the source of the random draws. Consumed.

    Returns:
        The state, with all M slots on the default device.
    """

    # As one program: otherwise dozens of small programs would each be looked up or compiled.
    @jax.jit
    def init(key: jax.Array) -> EngineState:
        params_key, slots_key = jax.random.split(key)
        params = problem.form.init(params_key)
        slots = jax.vmap(problem.method.init)(slot_keys(slots_key, jnp.arange(problem.num_inits)))
        return EngineState(jnp.zeros((), jnp.int32), params, updates.init(problem.optimizer, params), slots)

    return init(key)


def check_problem(problem: Problem, key: jax.Array, data: RealData) -> None:
    """Refuse, without compiling, a method, form and data that do not fit together.

    Args:
        problem: the method and the form.
        key: the key of the run.
        data: the real training data.

    Raises:
        ValueError: the images or classes of φ are not those of the data or of the method's network; the
            method needs learning rates that the form does not have, or learns none and the form has some; or
            the method cannot use the labels of the form; or the optimiser cannot move φ.
    """
    checks.prng_key("key", key)
    params = jax.eval_shape(problem.form.init, key)
    schedule = jax.eval_shape(problem.form.unfold, params)
    is_image = len(data.input_shape) == 3
    checks.equal(
        f"the form's {'image shape (H, W, C)' if is_image else 'input shape'}",
        schedule.inputs.shape[2:],
        data.input_shape,
        remedy=f"Build the form with data.{'image_shape' if is_image else 'input_shape'}.",
    )
    checks.equal(
        "the form's number of classes",
        schedule.labels.shape[2],
        data.num_classes,
        remedy="Build the form with data.num_classes.",
    )
    if problem.method.needs_lrs and schedule.lrs is None:
        raise ValueError(
            f"the form: expected learning rates, which {problem.method.name} trains with; got none. "
            "Build it with inner_lr=0.02 or another start."
        )
    jax.eval_shape(problem.method.sample, data, key)  # here a method checks the data
    if not problem.method.needs_lrs and schedule.lrs is not None:
        raise ValueError(
            f"the form: expected no learning rates, {problem.method.name} learns none; got "
            f"{list(schedule.lrs.shape)} of them. Build it with inner_lr=None."
        )
    updates.check(problem.optimizer, params)
    # Under jit, which does not compute the images.
    labels = np.asarray(jax.jit(lambda key: problem.form.unfold(problem.form.init(key)).labels)(key))
    if problem.method.check_labels is not None:
        problem.method.check_labels(labels)
    problem.method.recipe.check_labels(labels)

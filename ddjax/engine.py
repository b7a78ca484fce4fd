"""The outer loop as a compiled program: many outer steps per dispatch, their slots shared over devices."""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from ddjax import checks, forms, host_memory, parallel
from ddjax.chunks import map_in_chunks, mean_and_rest
from ddjax.types import Form, Info, Method, PyTree, RealData

DISPATCH_CAPACITY = 200
"""Most outer steps in one dispatch: the length of the buffer that brings their diagnostics back."""


class StepInfo(NamedTuple):
    """Diagnostics of one outer step; means over the M slots where a slot has its own.

    Attributes:
        loss: `[]`, the method's loss before φ moved.
        grad_norm: `[]`, global norm of its gradient, before clipping.
        clipped: `[]` bool, whether that norm was above the bound.
        lrs: `[E, S]`, η before φ moved; None for a schedule without.
        method: the method's own `Info`.
    """

    loss: jax.Array
    grad_norm: jax.Array
    clipped: jax.Array
    lrs: jax.Array | None
    method: Info


class EngineState(NamedTuple):
    """What one outer step hands to the next.

    Attributes:
        step: `[]` int32, outer steps done.
        params: φ's parameters.
        opt_state: of the outer optimiser.
        slots: the method's states, each leaf `[M, ...]`.
    """

    step: jax.Array
    params: PyTree
    opt_state: optax.OptState
    slots: PyTree

    def on(self, mesh: Mesh) -> EngineState:
        """A copy on a mesh, the slots shared over its devices; a dispatch takes its memory over."""
        copy = jax.tree.map(np.array, self)
        shared = parallel.place(copy._replace(slots=()), parallel.replicated(mesh))
        return shared._replace(slots=parallel.place(copy.slots, parallel.split_slots(mesh)))


class Cost(NamedTuple):
    """What compiled outer steps take, before the first one has run.

    Attributes:
        compile_seconds: of XLA.
        temporary_bytes: XLA's buffers on one device; 0 where the backend does not say.
        resident_bytes: real data, φ and states on one device.
    """

    compile_seconds: float
    temporary_bytes: int
    resident_bytes: int


@dataclasses.dataclass(frozen=True)
class Problem:
    """What one outer step computes.

    Attributes:
        method: defines the loss of one slot.
        form: unfolds φ's parameters.
        optimizer: moves them, all groups together (`ddjax.forms.optimizer_for`).
        num_inits: M.
        clip_norm: bound on the gradient's global norm; None for no bound.
        slots_per_chunk: how many slots are vmapped; the rest follow one chunk after the other.
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
    """One key for each slot, `[m]`, from its number alone, so that the share of devices changes none."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, slot_ids)


class SlotResults(NamedTuple):
    """What one device's slots give in one outer step.

    Attributes:
        loss: `[]`, their mean.
        info: the mean of their diagnostics.
        grads: the gradient of the mean loss in φ's parameters.
        slot_infos: the diagnostics of each slot, each leaf `[m, ...]`.
    """

    loss: jax.Array
    info: Info
    grads: PyTree
    slot_infos: Info


def mean_and_grad(
    problem: Problem, params: PyTree, slots: PyTree, batch: Any, keys: jax.Array
) -> SlotResults:
    """The loss averaged over this device's m slots, its diagnostics, and its gradient in φ's parameters.

    Slots of one chunk are vmapped; chunks follow each other, and each is differentiated before the next
    starts, so that the memory is that of one chunk.

    Args:
        problem: what to compute.
        params: φ's parameters.
        slots: the method's states, `[m, ...]`.
        batch: the real examples that all slots share.
        keys: `[m]`.

    Returns:
        The means over the slots, and each slot's own diagnostics.
    """
    num_slots = len(keys)
    chunk = math.gcd(problem.slots_per_chunk, num_slots)

    def one(params: PyTree, slot: PyTree, key: jax.Array) -> tuple[jax.Array, Info]:
        schedule = problem.form.unfold(forms.freeze(problem.form, params))
        return problem.method.loss(schedule, slot, batch, key)

    def mean(params: PyTree, slots: PyTree, keys: jax.Array) -> tuple[jax.Array, tuple[Info, Info]]:
        if chunk == 1:  # A vmapped axis of one would still turn every product into a batched one.
            loss, info = one(params, jax.tree.map(lambda leaf: leaf[0], slots), keys[0])
            return loss, (info, jax.tree.map(lambda leaf: leaf[None], info))
        loss, infos = jax.vmap(one, (None, 0, 0))(params, slots, keys)
        return loss.mean(0), (jax.tree.map(lambda leaf: leaf.mean(0), infos), infos)

    def of_chunk(now: tuple[PyTree, jax.Array]) -> tuple[PyTree, Info]:
        """What is averaged over the chunks, and what is kept of each."""
        (loss, (info, infos)), grads = jax.value_and_grad(mean, has_aux=True)(params, *now)
        return (loss, info, grads), infos

    (loss, info, grads), slot_infos = mean_and_rest(of_chunk, (slots, keys), chunk)
    return SlotResults(loss, info, grads, slot_infos)


def _all_finite(tree: PyTree) -> jax.Array:
    numbers = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return jnp.all(jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in numbers], bool))


def _everywhere(holds: jax.Array) -> jax.Array:
    """Whether it holds on every device of the mesh."""
    return jax.lax.pmin(holds.astype(jnp.int32), parallel.AXIS) == 1


def outer_step(
    problem: Problem, state: EngineState, data: RealData, key: jax.Array
) -> tuple[EngineState, StepInfo, jax.Array]:
    """One outer step on one device of the mesh; call it inside `shard_map`.

        g = mean over slots of ∇_φ L,   φ ← project(φ - optimizer(g · min(1, clip_norm / ‖g‖)))

    Args:
        problem: what to compute.
        state: with this device's share of the slots.
        data: the real training data.
        key: of the whole run; the step's own keys are folded from it and the step's number.

    Returns:
        The next state, the diagnostics, and whether all of it is finite; where it is not, the state is
        the one that came in.
    """
    num_local = problem.num_inits // jax.lax.axis_size(parallel.AXIS)
    slot_ids = jax.lax.axis_index(parallel.AXIS) * num_local + jnp.arange(num_local)
    sample_key, loss_key, advance_key = jax.random.split(jax.random.fold_in(key, state.step), 3)
    batch = problem.method.sample(data, sample_key)
    results = mean_and_grad(problem, state.params, state.slots, batch, slot_keys(loss_key, slot_ids))
    loss, info, grads = jax.lax.pmean(results[:3], parallel.AXIS)

    norm = optax.tree.norm(grads)
    bound = jnp.inf if problem.clip_norm is None else problem.clip_norm
    grads = jax.tree.map(lambda g: (g * jnp.minimum(1.0, bound / norm)).astype(g.dtype), grads)
    updates, opt_state = problem.optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    if problem.form.project is not None:
        params = problem.form.project(params)
    schedule = problem.form.unfold(params)
    slots = map_in_chunks(
        lambda slot: problem.method.advance(schedule, slot[0], batch, slot[1], slot[2]),
        (state.slots, results.slot_infos, slot_keys(advance_key, slot_ids)),
        problem.slots_per_chunk,
    )
    finite = _all_finite((loss, norm, params)) & _everywhere(_all_finite(slots))
    moved = EngineState(state.step + 1, params, opt_state, slots)
    state_out = jax.tree.map(lambda new, old: jnp.where(finite, new, old), moved, state)
    diagnostics = StepInfo(loss, norm, norm > bound, problem.form.unfold(state.params).lrs, info)
    return state_out, diagnostics, finite


@functools.cache
def compiler_options(backend: str) -> dict[str, Any]:
    """What XLA is told on this backend, as far as the XLA at hand knows it.

    On CPU, products by Eigen rather than in YNNPACK's fusions, whose threads wait on each other, and vectors
    of 512 bits: together a third less for LeNet's small products, nothing for AlexCifarNet's large ones.
    """
    wanted = {"xla_cpu_experimental_ynn_fusion_type": "", "xla_cpu_prefer_vector_width": 512}
    return {name: value for name, value in wanted.items() if backend == "cpu" and _is_known(name, value)}


def _is_known(option: str, value: Any) -> bool:
    """Whether XLA takes an option: they come and go from version to version."""
    try:
        jax.jit(lambda: 0.0).lower().compile({option: value})
    except jax.errors.JaxRuntimeError:
        return False
    return True


def build_dispatch(problem: Problem, mesh: Mesh, *, capacity: int = DISPATCH_CAPACITY) -> Any:
    """Compile-ready: outer steps one after the other on the devices, without a look at the host.

    Args:
        problem: what one step computes.
        mesh: the devices.
        capacity: most steps in one call.

    Returns:
        A jitted `(state, data, key, stop) -> (state, infos [capacity, ...], finite)` that donates `state`
        and runs until `state.step` is `stop`, the capacity is full, or a step is not finite; that step's
        diagnostics are the last ones written.
    """
    checks.at_least("capacity", capacity, 1)

    def many(
        state: EngineState, data: RealData, key: jax.Array, stop: jax.Array
    ) -> tuple[EngineState, StepInfo, jax.Array]:
        start = state.step
        shapes = jax.eval_shape(lambda state: outer_step(problem, state, data, key)[1], state)
        infos = jax.tree.map(lambda leaf: jnp.zeros((capacity, *leaf.shape), leaf.dtype), shapes)

        def go_on(carry: tuple[EngineState, StepInfo, jax.Array]) -> jax.Array:
            state, _, finite = carry
            return finite & (state.step < jnp.minimum(stop, start + capacity))

        def body(
            carry: tuple[EngineState, StepInfo, jax.Array],
        ) -> tuple[EngineState, StepInfo, jax.Array]:
            state, infos, _ = carry
            index = state.step - start
            state, info, finite = outer_step(problem, state, data, key)
            infos = jax.tree.map(lambda buffer, value: buffer.at[index].set(value), infos, info)
            return state, infos, finite

        return jax.lax.while_loop(go_on, body, (state, infos, jnp.array(True)))

    whole: Any = P()
    shared_out: Any = P(parallel.AXIS)
    states = EngineState(whole, whole, whole, shared_out)
    # check_vma=False: the gradient inside is this device's own, and outer_step takes the one mean of it.
    sharded = jax.shard_map(
        many, mesh=mesh, in_specs=(states, P(), P(), P()), out_specs=(states, P(), P()), check_vma=False
    )
    return jax.jit(sharded, donate_argnums=0)


def compile_dispatch(
    problem: Problem, mesh: Mesh, state: EngineState, data: RealData, key: jax.Array
) -> tuple[Any, Cost]:
    """Compile the outer steps of a problem, and say what they take.

    Args:
        problem: what one step computes.
        mesh: the devices.
        state: on the mesh.
        data: on the mesh.
        key: of the run.

    Returns:
        `build_dispatch`'s function, compiled for arguments of these shapes, and its cost.
    """
    started = time.monotonic()
    lowered = build_dispatch(problem, mesh).lower(state, data, key, np.int32(0))
    dispatch = lowered.compile(compiler_options(mesh.devices.flat[0].platform))
    seconds = time.monotonic() - started
    memory = dispatch.memory_analysis()
    sizes = (getattr(memory, f"{kind}_size_in_bytes", 0) for kind in ("temp", "argument"))
    del lowered
    host_memory.return_freed()
    return dispatch, Cost(seconds, *sizes)


def init_state(problem: Problem, key: jax.Array) -> EngineState:
    """The state before the first outer step: φ's starting point and M fresh slots. Consumes the key."""

    # As one program: op by op, some dozens of small ones would each be looked up or compiled.
    @jax.jit
    def init(key: jax.Array) -> EngineState:
        params_key, slots_key = jax.random.split(key)
        params = problem.form.init(params_key)
        slots = jax.vmap(problem.method.init)(slot_keys(slots_key, jnp.arange(problem.num_inits)))
        return EngineState(jnp.zeros((), jnp.int32), params, problem.optimizer.init(params), slots)

    return init(key)


def check_problem(problem: Problem, key: jax.Array, data: RealData) -> None:
    """Refuse, without compiling, a method, form and data that do not fit together.

    Raises:
        ValueError: φ's images or classes are not the data's or the method's network's, the method needs
            learning rates that the form does not bring, or it cannot use the form's labels.
    """
    checks.prng_key("key", key)
    schedule = jax.eval_shape(lambda key: problem.form.unfold(problem.form.init(key)), key)
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
    jax.eval_shape(problem.method.sample, data, key)  # where a method looks at the data
    if not problem.method.needs_lrs and schedule.lrs is not None:
        raise ValueError(
            f"the form: expected no learning rates, {problem.method.name} learns none; got "
            f"{list(schedule.lrs.shape)} of them. Build it with inner_lr=None."
        )
    if problem.method.check_labels is not None:
        # Under jit, which leaves the images out.
        labels = jax.jit(lambda key: problem.form.unfold(problem.form.init(key)).labels)(key)
        problem.method.check_labels(np.asarray(labels))

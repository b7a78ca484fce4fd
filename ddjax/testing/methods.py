"""The contract of `ddjax.types.Method`: the promises of every method, as checks for users' own methods.

Every check takes a `MethodCase` and raises a `ContractError` where the promise is not kept.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddjax import forms
from ddjax.data import Dataset, to_device
from ddjax.run import Reporting, distill
from ddjax.testing.report import Checks, all_finite, distance, double, require, run, shapes
from ddjax.types import Batch, Form, Method, PyTree

TOLERANCE = 1e-12
"""The largest relative distance of two results in float64 that must be the same."""

DIFFERENCE_TOLERANCE = 1e-6
"""The largest relative distance of a derivative from its finite differences, with steps of 1e-5."""


@dataclasses.dataclass(frozen=True, eq=False)
class MethodCase:
    """A method to check, with a small form of φ and small real data.

    Attributes:
        build: a function that makes the method to check; called once as JAX is set, and once where float64 is
            enabled.
        form: a small form of φ that the method accepts.
        data: the small real data.
        smooth: a function that makes the same method with a network without kinks (tanh instead of ReLU), for
            finite differences; called where float64 is enabled. By default the method itself is taken.
        refused_form: a form that the method cannot use; by default `form` without learning rates where it has
            them, and with learning rates where it has none.
    """

    build: Callable[[], Method]
    form: Form
    data: Dataset
    smooth: Callable[[], Method] | None = None
    refused_form: Form | None = None

    @functools.cached_property
    def method(self) -> Method:
        """The method."""
        return self.build()

    @functools.cached_property
    def doubled(self) -> Method:
        """The method, made where float64 is enabled."""
        with double():
            return self.build()

    @functools.cached_property
    def real(self) -> Dataset:
        """The data under an encoding of float64, which JAX keeps where float64 is enabled."""
        encoding = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), self.data.encoding)
        return self.data.encoded_by(encoding)

    def loss(self, method: Method) -> tuple[Callable[[PyTree], Any], PyTree]:
        """The loss of one slot as a function of φ.

        Args:
            method: the method whose loss is taken.

        Returns:
            `params -> (loss [], info)`, and parameters of φ to start from.
        """
        params, state = self.form.init(jax.random.key(1)), jax.jit(method.init)(jax.random.key(2))
        batch = jax.jit(method.sample)(to_device(self.real.train), jax.random.key(3))

        def loss(params: PyTree) -> Any:
            schedule, key = forms.drawn(self.form, params, jax.random.key(4))
            return method.loss(schedule, state, batch, key)

        return loss, params

    @functools.cached_property
    def differentiated(self) -> tuple[Any, PyTree]:
        """`((loss, info), gradient)` of the method's loss, computed under jit."""
        loss, params = self.loss(self.method)
        return jax.jit(jax.value_and_grad(loss, has_aux=True))(params)

    def distilled(self, *, devices: int, slots_per_chunk: int) -> PyTree:
        """φ after three outer steps of four slots.

        Args:
            devices: the number of devices that share the slots.
            slots_per_chunk: the number of slots that are vmapped.

        Returns:
            The parameters of φ.
        """
        done = distill(
            self.real,
            self.doubled,
            key=jax.random.key(0),
            num_outer_steps=3,
            form=self.form,
            num_inits=4,
            slots_per_chunk=slots_per_chunk,
            devices=jax.devices()[:devices],
        )
        return done.distilled.params

    @functools.cached_property
    def scanned(self) -> PyTree:
        """The parameters of φ after three outer steps on one device, slot by slot."""
        return self.distilled(devices=1, slots_per_chunk=1)


def is_finite_and_differentiable(case: MethodCase) -> None:
    """Loss, diagnostics and the gradient of every leaf are finite, and the gradient of no leaf is zero."""
    (value, info), grads = case.differentiated
    remedy = "Look for divisions by zero, roots and logarithms; a where around them needs one inside too."
    require(all_finite(value), "a finite loss", found=value, remedy=remedy)
    require(all_finite(info), "finite diagnostics", found=info, remedy=remedy)
    for path, leaf in jax.tree_util.tree_leaves_with_path(grads):
        name = jax.tree_util.keystr(path)
        require(all_finite(leaf), f"a finite gradient at {name}", found="NaN or infinity", remedy=remedy)
        moves = float(jnp.linalg.norm(leaf)) > 0
        require(
            moves,
            f"a gradient at {name}",
            found="zeros",
            remedy="The loss does not depend on this leaf, or its derivative is stopped.",
        )


def agrees_with_finite_differences(case: MethodCase) -> None:
    """The gradient agrees with the slope of the loss along a random direction, in float64."""
    with double():
        loss, params = case.loss(case.smooth() if case.smooth else case.doubled)
        grads = jax.jit(jax.grad(lambda p: loss(p)[0]))(params)
        leaves, structure = jax.tree.flatten(params)
        keys = jax.random.split(jax.random.key(5), len(leaves))
        draws = [jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)]
        direction, size = structure.unflatten(draws), 1e-5
        value = jax.jit(lambda p: loss(p)[0])
        ahead, behind = (
            float(value(jax.tree.map(lambda p, d, s=s: p + s * size * d, params, direction))) for s in (1, -1)
        )
        slopes = jax.tree.map(lambda g, d: float(jnp.sum(g * d)), grads, direction)
    expected, found = (ahead - behind) / (2 * size), sum(jax.tree.leaves(slopes))
    require(
        abs(found - expected) <= DIFFERENCE_TOLERANCE * abs(expected),
        f"the directional derivative {expected:.9g} of finite differences",
        found=f"{found:.9g} from the gradient",
        remedy="A custom derivative is wrong, or the loss has kinks: give the case a smooth method.",
    )


def is_the_same_without_jit(case: MethodCase) -> None:
    """Loss, diagnostics and gradient are the same with and without jit, in float64."""
    with double():
        loss, params = case.loss(case.doubled)
        plain = jax.value_and_grad(loss, has_aux=True)(params)
        jitted = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
        found = distance(jitted, plain)
    remedy = "Something in the loss is decided while tracing, or drawn outside its key."
    require(
        found < TOLERANCE, "the same results under jit", found=f"a distance of {found:.1e}", remedy=remedy
    )


def is_the_same_on_several_devices(case: MethodCase) -> None:
    """Four slots on four devices (or as many as there are) give the φ of one device, in float64."""
    devices = max(n for n in (1, 2, 4) if n <= len(jax.devices()))
    with double():
        found = distance(case.distilled(devices=devices, slots_per_chunk=1), case.scanned)
    require(
        found < TOLERANCE,
        f"the same φ on {devices} devices as on one",
        found=f"a distance of {found:.1e}",
        remedy="Draw what a slot draws from its own key, and sum over slots nowhere.",
    )


def is_the_same_in_batches_of_slots(case: MethodCase) -> None:
    """Four slots, vmapped two at a time, give the φ of slots one after the other, in float64."""
    with double():
        found = distance(case.distilled(devices=1, slots_per_chunk=2), case.scanned)
    require(
        found < TOLERANCE,
        "the same φ with two slots vmapped as with one",
        found=f"a distance of {found:.1e}",
        remedy="Keep Python's branches out of what depends on a slot's values.",
    )


def advances_in_shape(case: MethodCase) -> None:
    """`advance` returns a state of the shapes and dtypes of the state that `init` made."""
    method, schedule = case.method, case.form.unfold(case.form.init(jax.random.key(1)))
    state, batch = jax.eval_shape(
        lambda data, keys: (method.init(keys[0]), method.sample(data, keys[1])),
        to_device(case.data.train),
        jax.random.split(jax.random.key(2)),
    )
    _, info = jax.eval_shape(method.loss, schedule, state, batch, jax.random.key(4))
    advanced = jax.eval_shape(method.advance, schedule, state, batch, info, jax.random.key(5))
    before = shapes(state)
    require(
        shapes(advanced) == before,
        f"a state {before}",
        found=shapes(advanced),
        remedy="advance must return what init makes, leaf by leaf.",
    )


def resumes_bit_for_bit(case: MethodCase) -> None:
    """A run that is stopped and started again ends with the same bits as a run without a stop."""
    with tempfile.TemporaryDirectory(prefix="ddjax-testing-") as folder:
        whole = _run(case, Path(folder) / "whole")
        with contextlib.suppress(_StoppedError):
            _run(case, Path(folder) / "halves", listener=_stop_at_five)
        halves = _run(case, Path(folder) / "halves")
    same = [
        np.array_equal(a, b) for a, b in zip(jax.tree.leaves(halves), jax.tree.leaves(whole), strict=True)
    ]
    require(
        all(same),
        "the same bits after a stop and a new start",
        found=f"other numbers in {same.count(False)} of {len(same)} leaves",
        remedy="All that a slot needs must be in its state; nothing may be kept outside.",
    )


class _StoppedError(Exception):
    """Stops a run in the middle."""


def _stop_at_five(record: Mapping[str, Any]) -> None:
    if record["step"] == 5:
        raise _StoppedError


def _run(case: MethodCase, workdir: Path, *, listener: Callable[..., None] | None = None) -> PyTree:
    done = distill(
        case.data,
        case.method,
        key=jax.random.key(0),
        num_outer_steps=9,
        form=case.form,
        num_inits=2,
        workdir=workdir,
        save_seconds=0,
        reporting=Reporting(every=1, listener=listener),
    )
    return done.distilled.params


def refuses_other_rates(case: MethodCase) -> None:
    """A form that the method cannot use, by default for its learning rates, is refused by a ValueError."""
    form = case.refused_form or _with_other_rates(case.form)
    try:
        distill(case.data, case.method, key=jax.random.key(0), num_outer_steps=1, form=form)
    except ValueError:
        return
    require(
        False,
        "a ValueError for a form that the method cannot use",
        found="a run",
        remedy="Say needs_lrs by the method's recipe, or give check_labels.",
    )


def _with_other_rates(form: Form) -> Form:
    """The form without its learning rates where it has them, and with learning rates where it has none."""

    def unfold(params: PyTree) -> Any:
        schedule = form.unfold(params)
        rates = jnp.full((1, len(schedule.inputs)), 0.1) if schedule.lrs is None else None
        return schedule._replace(lrs=rates)

    return dataclasses.replace(form, unfold=unfold, draw=None)


def samples_are_shared_and_pure(case: MethodCase) -> None:
    """`sample` gives the same examples for the same key, and other examples for another key."""
    data = to_device(case.data.train)
    first, again, other = (case.method.sample(data, jax.random.key(seed)) for seed in (0, 0, 1))
    remedy = "Draw everything from the key that is given, and nothing from elsewhere."
    require(distance(again, first) == 0, "the same examples from the same key", found="others", remedy=remedy)
    if isinstance(first, Batch) and len(case.data.train) > 1:
        different = distance(other, first) > 0
        require(different, "other examples from another key", found="the same", remedy=remedy)


METHOD_CHECKS: Checks[MethodCase] = {
    check.__name__: check
    for check in (
        is_finite_and_differentiable,
        advances_in_shape,
        samples_are_shared_and_pure,
        agrees_with_finite_differences,
        is_the_same_without_jit,
        is_the_same_on_several_devices,
        is_the_same_in_batches_of_slots,
        resumes_bit_for_bit,
        refuses_other_rates,
    )
}
"""The checks of all promises of a method, by name."""


def check_method(case: MethodCase) -> None:
    """Check every promise of a method.

    Args:
        case: the method to check, with a form and real data.

    Raises:
        ContractError: a promise is not kept.
    """
    run(METHOD_CHECKS, case)

"""The contract of `ddjax.types.Form`: the promises of every form of φ, as checks for users' own forms.

Every check takes a `FormCase` and raises a `ContractError` where the promise is not kept.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ddjax import artifact, checks, forms, updates
from ddjax.testing.report import Checks, all_finite, distance, require, run, shapes
from ddjax.types import Distilled, Encoding, Form, Outer, PyTree, Recipe


@dataclasses.dataclass(frozen=True, eq=False)
class FormCase:
    """A form to check, with the encoding and the recipe that its result is saved with.

    Attributes:
        form: the form to check.
        encoding: the encoding of the form's inputs.
        recipe: a recipe that trains on the form's schedule.
    """

    form: Form
    encoding: Encoding
    recipe: Recipe

    def start(self) -> PyTree:
        """The parameters of φ that the form starts from, drawn from a fixed key."""
        return self.form.init(jax.random.key(0))


def unfolds_into_a_schedule(case: FormCase) -> None:
    """`unfold` gives a finite `Schedule` whose shapes fit each other, and the same one under jit."""
    params = case.start()
    schedule = case.form.unfold(params)
    try:
        checks.schedule(schedule)
    except ValueError as error:
        require(False, "a Schedule", found=error, remedy="See ddjax.types.Schedule for the shapes.")
    remedy = "Start and decode with finite numbers."
    require(all_finite(schedule), "a finite schedule", found="NaN or infinity", remedy=remedy)
    jitted = distance(jax.jit(case.form.unfold)(params), schedule)
    remedy = "unfold must be a pure function of the parameters."
    require(jitted < 1e-5, "the same schedule under jit", found=f"a distance of {jitted:.1e}", remedy=remedy)


def starts_from_its_key(case: FormCase) -> None:
    """`init` gives the same parameters for the same key."""
    found = distance(case.form.init(jax.random.key(0)), case.start())
    remedy = "Draw everything from the key."
    require(found == 0, "the same start from the same key", found="another", remedy=remedy)


def names_a_group_for_every_leaf(case: FormCase) -> None:
    """`groups` gives a tree like the parameters, with a name in the place of every leaf."""
    params = case.start()
    groups = forms.groups_of(case.form, params)
    structures = jax.tree.structure(groups), jax.tree.structure(params)
    remedy = "groups must return a tree like the parameters."
    require(structures[0] == structures[1], f"{structures[1]}", found=structures[0], remedy=remedy)
    names = jax.tree.leaves(groups)
    texts = all(isinstance(name, str) for name in names)
    require(texts, "names as groups", found=names, remedy='Use "data", "labels", "lrs" or "frozen".')


def learns_what_is_not_frozen(case: FormCase) -> None:
    """Every leaf that is not frozen has a gradient, and an update leaves the frozen leaves as they are."""
    params = case.start()

    def loss(params: PyTree) -> jax.Array:
        leaves = jax.tree.leaves(case.form.unfold(forms.freeze(case.form, params)))
        rows = (jax.random.normal(jax.random.key(i), leaf.shape, leaf.dtype) for i, leaf in enumerate(leaves))
        # Not a plain sum, which is constant in the logits of a softmax, as its rows sum to one.
        return jnp.sum(jnp.stack([jnp.sum(row * leaf) for row, leaf in zip(rows, leaves, strict=True)]))

    grads = jax.jit(jax.grad(loss))(params)
    optimizer = forms.optimizer_for(case.form, Outer(optax.sgd(1.0)))
    steps, _ = updates.update(optimizer, grads, updates.init(optimizer, params), params)
    moved = optax.apply_updates(params, steps)
    groups = jax.tree.leaves(forms.groups_of(case.form, params))
    for group, grad, old, new in zip(groups, *map(jax.tree.leaves, (grads, params, moved)), strict=True):
        if group == forms.FROZEN:
            same = np.array_equal(old, new)
            require(same, "frozen leaves that stay", found="an update", remedy="Leave their gradient alone.")
            continue
        remedy = "unfold must be differentiable in every leaf; a leaf that stays is in the group frozen."
        moves = all_finite(grad) and float(jnp.linalg.norm(grad)) > 0
        require(moves, f"a gradient of the group {group}", found="zeros or NaN", remedy=remedy)


def projects_once(case: FormCase) -> None:
    """`project` keeps structure, shapes and dtypes, and changes neither projected nor starting parameters."""
    if case.form.project is None:
        return
    noisy = jax.tree.map(
        lambda leaf: leaf + jax.random.normal(jax.random.key(3), leaf.shape, leaf.dtype), case.start()
    )
    once = case.form.project(noisy)
    remedy = "project must return parameters like those that come in."
    require(shapes(once) == shapes(noisy), f"{shapes(noisy)}", found=shapes(once), remedy=remedy)
    again = distance(case.form.project(once), once)
    remedy = "A projection leaves alone what it has projected."
    require(again < 1e-5, "the same after a second projection", found=f"{again:.1e}", remedy=remedy)
    start = distance(case.form.project(case.start()), case.start())
    remedy = "Start where the projection leaves the parameters."
    require(start < 1e-5, "a start that a projection leaves alone", found=f"{start:.1e}", remedy=remedy)


def survives_an_artifact(case: FormCase) -> None:
    """A φ of this form has the same schedule once saved and loaded, compact too where it has a name."""
    phi = Distilled(case.start(), case.form, case.encoding, case.recipe)
    kinds = (False, True) if forms.is_named(case.form) else (False,)
    with tempfile.TemporaryDirectory(prefix="ddjax-testing-") as folder:
        files = [artifact.save(Path(folder) / f"{kind}.npz", phi, compact=kind) for kind in kinds]
        loaded = [artifact.load(file) for file in files]
    for one in loaded:
        found = distance(one.schedule, phi.schedule)
        same, text = found < 1e-6, f"a distance of {found:.1e}"
        remedy = "Unfold into float32, which artifacts hold."
        require(same, "the same schedule from its file", found=text, remedy=remedy)
    stored = sum(leaf.size for leaf in jax.tree.leaves(loaded[-1].params))
    claimed = forms.storage(case.form).total
    remedy = "Store what the parameters hold."
    if len(kinds) == 2:
        require(stored == claimed, f"{claimed} numbers in a compact file", found=stored, remedy=remedy)


def draws_a_schedule(case: FormCase) -> None:
    """`draw` gives a finite `Schedule` of the inputs and rates of `unfold`, the same one for the same key."""
    if case.form.draw is None:
        return
    params, draw = case.start(), jax.jit(case.form.draw)
    first, again, other = (draw(params, jax.random.key(seed)) for seed in (5, 5, 6))
    try:
        checks.schedule(first)
    except ValueError as error:
        require(False, "a Schedule", found=error, remedy="See ddjax.types.Schedule for the shapes.")
    remedy = "Draw from finite numbers."
    require(all_finite(first), "a finite schedule", found="NaN or infinity", remedy=remedy)
    remedy = "Draw everything from the key."
    require(
        distance(first, again) == 0, "the same schedule from the same key", found="another", remedy=remedy
    )
    require(distance(first, other) > 0, "another one from another key", found="the same", remedy=remedy)
    whole = case.form.unfold(params)
    rates = [0 if one.lrs is None else one.lrs.size for one in (first, whole)]
    remedy = "Draw other examples of the same φ, not another number of steps."
    require(rates[0] == rates[1], f"{rates[1]} learning rates", found=rates[0], remedy=remedy)
    kinds = [(one.inputs.shape[2:], one.labels.shape[2:]) for one in (first, whole)]
    require(kinds[0] == kinds[1], f"examples and labels {kinds[1]}", found=kinds[0], remedy=remedy)


FORM_CHECKS: Checks[FormCase] = {
    check.__name__: check
    for check in (
        unfolds_into_a_schedule,
        starts_from_its_key,
        names_a_group_for_every_leaf,
        learns_what_is_not_frozen,
        projects_once,
        draws_a_schedule,
        survives_an_artifact,
    )
}
"""The checks of all promises of a form, by name."""


def check_form(case: FormCase) -> None:
    """Check every promise of a form.

    Args:
        case: the form to check, with an encoding and a recipe.

    Raises:
        ContractError: a promise is not kept.
    """
    run(FORM_CHECKS, case)

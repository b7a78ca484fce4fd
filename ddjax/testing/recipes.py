"""The contract of `ddjax.types.Recipe`: the promises of every recipe, as checks for users' own recipes.

Every check takes a `RecipeCase` and raises a `ContractError` where the promise is not kept.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from ddjax import recipes
from ddjax.testing.report import Checks, all_finite, distance, require, run
from ddjax.types import Network, PyTree, Recipe, Schedule


@dataclasses.dataclass(frozen=True, eq=False)
class RecipeCase:
    """A recipe to check, with a small network and a small schedule.

    Attributes:
        recipe: the recipe to check.
        network: a small network that the recipe can train.
        schedule: a small schedule that the recipe can train on.
    """

    recipe: Recipe
    network: Network
    schedule: Schedule

    def scores(self, key: jax.Array, *, schedule: Schedule | None = None) -> jax.Array:
        """The scores of a fitted network on the inputs of the case's schedule.

        Args:
            key: the source of the random draws of the training. Consumed.
            schedule: the schedule to train and predict on; by default the schedule of the case.

        Returns:
            `[S * B, K]`.
        """
        schedule = schedule or self.schedule
        fitted = self.recipe.fit(self.network, self.network.init(jax.random.key(0)), schedule, key)
        return fitted.predict(schedule.inputs.reshape(-1, *self.network.input_shape))


def predicts_scores(case: RecipeCase) -> None:
    """`predict` gives finite scores `[n, K]`."""
    case.recipe.check(case.network)
    scores = case.scores(jax.random.key(1))
    wanted = (case.schedule.labels.shape[0] * case.schedule.labels.shape[1], case.network.num_classes)
    remedy = "predict must map inputs [n, ...] to one score for each class."
    require(scores.shape == wanted, f"scores {wanted}", found=scores.shape, remedy=remedy)
    remedy = "Try the recipe on a schedule that does not diverge."
    require(all_finite(scores), "finite scores", found="NaN or infinity", remedy=remedy)


def is_pure(case: RecipeCase) -> None:
    """`fit` leads to the same scores with and without jit and vmap, for the same key."""
    plain = case.scores(jax.random.key(1))
    jitted = jax.jit(case.scores)(jax.random.key(1))
    many = jax.jit(jax.vmap(case.scores))(jnp.stack([jax.random.key(1), jax.random.key(2)]))
    for name, found in (("jit", distance(jitted, plain)), ("vmap", distance(many[0], plain))):
        remedy = "fit must be a pure function: no state, no branch on values, nothing drawn but from the key."
        require(
            found < 1e-3, f"the same scores under {name}", found=f"a distance of {found:.1e}", remedy=remedy
        )


def says_whether_it_draws(case: RecipeCase) -> None:
    """A recipe whose `is_random` is False gives the same scores for another key."""
    if case.recipe.is_random:
        return
    scores = jax.jit(case.scores)
    found = distance(scores(jax.random.key(2)), scores(jax.random.key(1)))
    remedy = "Set is_random = True for a recipe that draws."
    require(found == 0, "the same scores from another key", found="others", remedy=remedy)


def says_whether_it_needs_rates(case: RecipeCase) -> None:
    """A recipe whose `needs_lrs` is False can train on a schedule without learning rates."""
    if case.recipe.needs_lrs:
        has = case.schedule.lrs is not None
        require(has, "a case with learning rates", found="none", remedy="Give the case's schedule some.")
        return
    scores = case.scores(jax.random.key(1), schedule=case.schedule._replace(lrs=None))
    require(
        all_finite(scores),
        "finite scores without learning rates",
        found="others",
        remedy="Set needs_lrs = True.",
    )


def survives_json(case: RecipeCase) -> None:
    """A recipe of a known kind equals the recipe of its record; no other class has a known kind's name."""
    known = recipes.KINDS.get(case.recipe.kind)
    if known is None:
        return
    remedy = f"The name {case.recipe.kind!r} is {known.__name__}'s: give the recipe a kind of its own."
    require(
        type(case.recipe) is known, f"a {known.__name__}", found=type(case.recipe).__name__, remedy=remedy
    )
    record = recipes.as_dict(case.recipe)
    back: PyTree = recipes.from_dict(record, case.network.input_shape, where="record")
    remedy = "Keep settings to what JSON holds."
    require(back == case.recipe, f"{case.recipe}", found=back, remedy=remedy)


RECIPE_CHECKS: Checks[RecipeCase] = {
    check.__name__: check
    for check in (
        predicts_scores,
        is_pure,
        says_whether_it_draws,
        says_whether_it_needs_rates,
        survives_json,
    )
}
"""The checks of all promises of a recipe, by name."""


def check_recipe(case: RecipeCase) -> None:
    """Check every promise of a recipe.

    Args:
        case: the recipe to check, with a network and a schedule.

    Raises:
        ContractError: a promise is not kept.
    """
    run(RECIPE_CHECKS, case)

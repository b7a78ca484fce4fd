"""Every optimiser of optax moves φ or is refused before anything compiles; strict rules change nothing."""

from __future__ import annotations

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib
from problems import small_form, small_run

from ddjax import updates

LR = 0.05
PARAMS = {"data": jnp.linspace(-1.0, 1.0, 24).reshape(2, 3, 4), "lrs": jnp.full((2, 2), 0.1)}

MOVING = {
    name: lambda name=name: getattr(optax, name)(LR)
    for name in (
        *("adabelief", "adadelta", "adafactor", "adagrad", "adam", "adamax", "adamaxw"),
        *("adamw", "adan", "amsgrad", "fromage", "lamb", "lars", "lion"),
        *(
            "nadam",
            "nadamw",
            "novograd",
            "optimistic_adam_v2",
            "optimistic_gradient_descent",
        ),
        *("polyak_sgd", "radam", "rmsprop", "rprop", "sgd", "sign_sgd", "sm3"),
        *("yogi", "lbfgs"),
    )
} | {
    f"contrib.{name}": lambda name=name: getattr(contrib, name)(LR)
    for name in (
        *("acprop", "ademamix", "adopt", "cocob", "dadapt_adamw", "dog", "dowg"),
        *("madgrad", "momo", "momo_adam", "muon", "prodigy", "schedule_free_adamw", "schedule_free_sgd"),
        *("simplified_ademamix",),
    )
}
MOVING |= {
    "noisy_sgd": lambda: optax.noisy_sgd(LR, key=3),
    "signum": lambda: optax.signum(LR),
    "add_noise": lambda: optax.chain(optax.add_noise(0.1, 0.9, jax.random.key(3)), optax.sgd(LR)),
    "add_noise, raw key": lambda: optax.chain(optax.add_noise(0.1, 0.9, 3), optax.sgd(LR)),
    "reduce_on_plateau": lambda: optax.chain(optax.adam(LR), contrib.reduce_on_plateau()),
    "whole lbfgs": optax.lbfgs,
    "plateau of one group": lambda: optax.partition(
        {"data": optax.chain(optax.sgd(LR), contrib.reduce_on_plateau()), "lrs": optax.adam(LR)},
        {"data": "data", "lrs": "lrs"},
    ),
    "backtracking": lambda: optax.chain(optax.sgd(LR), optax.scale_by_backtracking_linesearch(5)),
    "schedule_free": lambda: contrib.schedule_free(optax.sgd(LR), LR),
    "sam": lambda: contrib.sam(optax.sgd(LR), optax.sgd(LR), sync_period=2),
    "mechanize": lambda: contrib.mechanize(optax.sgd(LR)),
    "apply_if_finite": lambda: optax.apply_if_finite(optax.adam(LR), 3),
    "inject_hyperparams": lambda: optax.inject_hyperparams(optax.adam)(learning_rate=LR),
    "schedule": lambda: optax.adam(optax.cosine_decay_schedule(LR, 10)),
    "multi steps": lambda: optax.MultiSteps(optax.sgd(LR), 2).gradient_transformation(),
    "clip and ema": lambda: optax.chain(optax.clip_by_global_norm(1.0), optax.ema(0.9), optax.sgd(LR)),
}

REFUSED = {
    "lookahead": lambda: optax.lookahead(optax.sgd(LR), 5, 0.5),
    "differentially private": lambda: optax.chain(
        contrib.differentially_private_aggregate(1.0, 0.1, key=0), optax.sgd(LR)
    ),
    "opaque sam": lambda: contrib.sam(optax.sgd(LR), optax.sgd(LR), opaque_mode=True),
    "sophia": lambda: contrib.sophia(LR),
    "lbfgs of one group": lambda: optax.partition(
        {"data": optax.lbfgs(), "lrs": optax.adam(LR)}, {"data": "data", "lrs": "lrs"}
    ),
}


def quadratic(params):
    return 0.5 * sum(jnp.sum(jnp.square(leaf - 0.5)) for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("name", MOVING)
def test_optimisers_of_optax_pass_the_check(name):
    updates.check(MOVING[name](), PARAMS)


@pytest.mark.parametrize("name", REFUSED)
def test_what_an_outer_step_cannot_give_is_refused(name):
    with pytest.raises(ValueError, match=r"^optimizer: expected .*Give another, e\.g\. optax\.adam"):
        updates.check(REFUSED[name](), PARAMS)


def test_every_public_optimiser_is_in_one_of_the_tables():
    ours = {name.removeprefix("contrib.") for name in (*MOVING, *REFUSED)}
    # Deprecated, of another name in the table, and one that needs the axes of its matrices.
    ours |= {"optimistic_adam", "dpsgd", "galore"}
    named = [(one, name) for one in (optax, contrib) for name in vars(one) if name[0] != "_"]
    makers = {name: getattr(one, name) for one, name in named if inspect.isfunction(vars(one)[name])}
    public = {name for name, made in makers.items() if "learning_rate" in inspect.signature(made).parameters}
    assert {name for name in public - ours if not name.startswith("scale_by_")} == set()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["whole lbfgs", "polyak_sgd", "reduce_on_plateau", "backtracking"])
def test_values_and_functions_reach_the_optimiser(name):
    optimizer, value_and_grad = MOVING[name](), jax.value_and_grad(quadratic)

    @jax.jit
    def step(params, state):
        value, grads = value_and_grad(params)
        loss = updates.Loss(value, grads, value_and_grad)
        moves, state = updates.update(optimizer, grads, state, params, loss=loss)
        return optax.apply_updates(params, moves), state

    params, state = PARAMS, updates.init(optimizer, PARAMS)
    for _ in range(4):
        params, state = step(params, state)
    assert quadratic(params) < 0.7 * quadratic(PARAMS)


def test_states_hold_no_keys():
    state = updates.init(MOVING["add_noise"](), PARAMS)
    assert all(not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in jax.tree.leaves(state))


@pytest.mark.slow
def test_a_stopped_run_with_a_key_in_its_optimiser_goes_on_bit_for_bit(few_digits, tmp_path):
    optimizer = MOVING["add_noise"]()
    whole = small_run(few_digits, optimizer=optimizer)
    small_run(few_digits, optimizer=optimizer, num_outer_steps=3, workdir=tmp_path)
    resumed = small_run(few_digits, optimizer=optimizer, workdir=tmp_path)
    jax.tree.map(np.testing.assert_array_equal, whole.distilled.params, resumed.distilled.params)


@pytest.mark.slow
def test_a_line_search_takes_the_same_steps_on_four_devices_as_on_one(few_digits):
    runs = [
        small_run(
            few_digits,
            optimizer=optax.lbfgs(memory_size=3, linesearch=optax.scale_by_zoom_linesearch(4)),
            num_inits=4,
            num_outer_steps=2,
            devices=jax.devices()[:count],
        )
        for count in (1, 4)
    ]
    one, four = (jax.tree.leaves(run.distilled.params) for run in runs)
    for first, second in zip(one, four, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-3, atol=1e-4)
    assert not np.array_equal(one[0], jax.tree.leaves(small_form(inner_lr=0.1).init(jax.random.key(0)))[0])


def test_an_optimiser_that_cannot_move_phi_is_refused_before_anything_compiles(few_digits):
    with pytest.raises(ValueError, match="optimizer: expected one that moves φ"):
        small_run(few_digits, optimizer=REFUSED["lookahead"]())

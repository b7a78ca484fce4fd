"""The library works under every rule that JAX lets its users choose for a program of their own."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

import jax
import numpy as np
import pytest
from problems import small_form

import ddjax
from ddjax import inits, networks


@contextlib.contextmanager
def looking_for_leaks() -> Iterator[None]:
    """JAX looks through all objects after each trace: those from before the rule holds are left out."""
    gc.collect()
    gc.freeze()
    try:
        with jax.checking_leaks():
            yield
    finally:
        gc.unfreeze()


RULES = {
    "strict kinds of numbers": lambda: jax.numpy_dtype_promotion("strict"),
    "strict numbers of axes": lambda: jax.numpy_rank_promotion("raise"),
    "no jit": jax.disable_jit,
    "no transfers in silence": lambda: jax.transfer_guard("disallow"),
    "no NaN": lambda: jax.debug_nans(True),
    "no infinities": lambda: jax.debug_infs(True),
    "leaks of tracers": looking_for_leaks,
    "float64": lambda: jax.enable_x64(True),
    "another PRNG": lambda: jax.default_prng_impl("rbg"),
    "products of high precision": lambda: jax.default_matmul_precision("highest"),
    "custom PRNG keys alone": lambda: jax.legacy_prng_key("error"),
}


def result(data, seed):
    """φ and its score after two outer steps, the way a user's own program would ask for them."""
    network = networks.mlp(data.image_shape, data.num_classes, widths=(4,))
    theta = inits.random(network)
    method = ddjax.methods.unrolled(network, theta, batch_size=16)
    form = small_form(inner_lr=0.1, inner_steps=1)
    run = ddjax.distill(data, method, key=seed(0), num_outer_steps=2, form=form, num_inits=2)
    score = ddjax.evaluate(run.distilled, network, theta, data.test, key=seed(1), num_inits=2)
    return run.distilled.schedule, score.values


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
def test_a_run_and_its_evaluation_work_under(rule, few_digits):
    # The suite's own rules are strict; here the rule stands alone.
    usual = jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow")
    with usual[0], usual[1], RULES[rule]():
        # A key is made of a number on the host: this transfer is the caller's.
        with jax.transfer_guard("allow") if "transfer" in rule else contextlib.nullcontext():
            keys = [jax.random.key(seed) for seed in (0, 1)]
        schedule, values = result(few_digits, keys.__getitem__)
        assert all(np.isfinite(jax.device_get(leaf)).all() for leaf in jax.tree.leaves(schedule))
    assert ((values >= 0) & (values <= 100)).all()

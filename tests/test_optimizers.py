"""Outer optimisers: what is not optax's own."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddjax import optimizers, updates


def test_the_running_norm_cuts_outliers_down():
    """By the definition, number by number: the present norm counts first, and the first is the mean."""
    norms = [3.0, 3.0, 300.0, 1.0, 0.0, 5.0]
    clip = optimizers.clip_by_running_norm()
    direction = {"a": jnp.array([0.6, 0.0]), "b": jnp.array([[0.8]])}
    state, mean = updates.init(clip, direction), None
    for norm in norms:
        grads = jax.tree.map(lambda leaf, norm=norm: norm * leaf, direction)
        clipped, state = updates.update(clip, grads, state, direction)
        mean = norm if mean is None else mean - 0.1 * (mean - norm)
        wanted = min(norm, 2 * mean)
        np.testing.assert_allclose(clipped["b"], [[0.8 * wanted]], rtol=1e-6)
        np.testing.assert_allclose(clipped["a"], [0.6 * wanted, 0], rtol=1e-6)
    updates.check(clip, direction)


@pytest.mark.parametrize(("settings", "message"), [({"decay": 1}, "decay: "), ({"factor": 0}, "factor: ")])
def test_other_means_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        optimizers.clip_by_running_norm(**settings)


def test_adam_s_rate_is_constant_or_falls_to_zero():
    for falls, told, last in ((False, "adam", 0.5), (True, "adam, cosine to 0", 0.0)):
        outer = optimizers.adam_outer(0.5, falls=falls)(4)
        assert outer.facts == {"outer_optimizer": told, "outer_lr": 0.5}
        optimizer: Any = outer.optimizer  # one for all groups
        params = jnp.zeros(1)
        state = updates.init(optimizer, params)
        for _ in range(5):
            move, state = updates.update(optimizer, jnp.ones(1), state, params)
        np.testing.assert_allclose(move, [-last], atol=1e-4)

"""What users hold: pickles and copies of results, the scalars and shape arrays of NumPy and JAX."""

from __future__ import annotations

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import CLASSES, SHAPE, small_run

import ddjax
from ddjax import checks, forms, inits, methods, networks


@pytest.fixture(scope="module")
def run(few_digits):
    return small_run(few_digits, num_outer_steps=1)


def same(ours, theirs):
    jax.tree.map(np.testing.assert_array_equal, ours.schedule, theirs.schedule)
    jax.tree.map(np.testing.assert_array_equal, ours.encoding, theirs.encoding)
    assert (ours.recipe, dict(ours.metadata)) == (theirs.recipe, dict(theirs.metadata))


@pytest.mark.slow
def test_a_run_and_its_distilled_data_pickle_as_what_an_artifact_holds(run):
    same(pickle.loads(pickle.dumps(run.distilled)), run.distilled)
    back = pickle.loads(pickle.dumps(run))
    same(back.distilled, run.distilled)
    assert (back.best_step, back.history) == (run.best_step, run.history)
    assert back.distilled.form.name == "schedule"
    same(pickle.loads(pickle.dumps(back.distilled)), run.distilled)


@pytest.mark.slow
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_copies_keep_the_form(run, copied):
    other = copied(run.distilled)
    same(other, run.distilled)
    assert other.form is run.distilled.form
    assert jax.tree.structure(other.params) == jax.tree.structure(run.distilled.params)


NUMBERS = {
    "python": (int, float),
    "numpy scalars": (np.int64, np.float32),
    "numpy arrays": (np.array, lambda x: np.array(x, np.float32)),
    "jax scalars": (jnp.int32, jnp.float32),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_the_scalars_of_numpy_and_jax_are_numbers(kind):
    whole, real = NUMBERS[kind]
    form = forms.pixels(
        SHAPE, whole(CLASSES), inner_steps=whole(2), inner_epochs=whole(3), inner_lr=real(0.5)
    )
    assert jax.eval_shape(lambda key: form.unfold(form.init(key)).lrs, jax.random.key(0)).shape == (3, 2)
    network = networks.convnet(SHAPE, whole(CLASSES), width=whole(4), depth=whole(1))
    assert inits.random(network, gain=real(0.5)).name == "xavier_normal(gain=0.5)"
    methods.unrolled(network, inits.random(network), batch_size=whole(8))
    ddjax.optimizers.adam_cosine(whole(3), lr=real(0.5))
    assert ddjax.Recipe("train", lr=real(0.5), epochs=whole(3)) == ddjax.Recipe("train", lr=0.5, epochs=3)


@pytest.mark.parametrize(
    "shape", [np.array(SHAPE), jnp.array(SHAPE), list(SHAPE), tuple(map(jnp.int32, SHAPE))]
)
def test_shapes_may_be_arrays(shape):
    assert checks.image_shape(shape) == checks.input_shape(shape) == SHAPE
    assert networks.mlp(shape, CLASSES).input_shape == SHAPE


@pytest.mark.parametrize(
    "shape", [np.zeros((3, 1), int), np.array(8), np.array([8.0, 8.0, 1.0]), np.array([8, 0, 1])]
)
def test_other_arrays_are_no_shapes(shape):
    with pytest.raises(ValueError, match="image_shape: expected"):
        checks.image_shape(shape)


def test_keys_and_arrays_stay_as_they_are():
    seen = []
    checks.entry(lambda *values: seen.extend(values))(jax.random.key(0), np.ones(1), jnp.float32(2), "x")
    assert jnp.issubdtype(seen[0].dtype, jax.dtypes.prng_key)
    assert seen[1].shape == (1,)
    assert (type(seen[2]), seen[2], seen[3]) == (float, 2.0, "x")

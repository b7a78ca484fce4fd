"""Every form of convolution compiles for a GPU that is not there, also where XLA's kernels have no tiles."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from ddjax import data, forms, inits, methods, networks, targets
from ddjax.data import to_device
from ddjax.engine import Problem, compile_program
from ddjax.networks.ops import CONV_FORMS, forms_on
from ddjax.targets import Abroad


def two_lenets(form: str) -> tuple[Abroad, Problem]:
    """Two LeNets side by side, two inner steps of ten images, as in a step of the paper, for an H100."""
    target = targets.by_name("h100")
    if (lacks := targets.missing(target)) is not None:
        pytest.skip(lacks)
    images, labels = np.zeros((40, 28, 28, 1), np.uint8), np.arange(40) % 10
    real = to_device(data.from_arrays(images, labels, images, labels).train)
    network = networks.lenet((28, 28, 1), 10, conv_form=form)
    method = methods.unrolled(network, inits.random(network), batch_size=16)
    phi = forms.pixels((28, 28, 1), 10, inner_steps=2, inner_epochs=1, inner_lr=0.1)
    problem = Problem(method, phi, forms.optimizer_for(phi, method.outer(10)), 2, slots_per_chunk=2)
    return Abroad.at(target, real, num_inits=2), problem


@pytest.mark.slow
@pytest.mark.parametrize("form", [form for form in CONV_FORMS if form != "auto"])
def test_every_form_compiles_for_an_h100(form):
    site, problem = two_lenets(form)
    _, cost = site.compile(problem)
    assert cost.temporary_bytes > 0


@pytest.mark.slow
def test_an_h100_has_no_tiles_for_a_product_of_im2col():
    """XLA's fault: where this test fails, `Abroad.compile` need not compile a second time."""
    site, problem = two_lenets("im2col")
    start, key = site.start(problem), jax.eval_shape(lambda: site.key)
    with pytest.raises(jax.errors.JaxRuntimeError, match=targets.UNTILED):
        compile_program(problem, site.mesh, start, site.data, key, options=targets.UNTRIED)


@pytest.mark.parametrize(("backend", "without"), [("cpu", {"lax"}), ("gpu", set()), ("tpu", set())])
def test_what_a_backend_should_not_try_is_no_candidate(backend, without):
    assert set(CONV_FORMS) - set(forms_on(backend)) == without

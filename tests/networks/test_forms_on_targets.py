"""Which forms of convolution compile for a GPU that is not there: LeNet, whose im2col an H100 refuses."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from ddjax import data, forms, inits, methods, networks, targets
from ddjax.data import to_device
from ddjax.engine import Problem
from ddjax.networks.ops import CONV_FORMS, forms_on
from ddjax.targets import Abroad

NAMED = [form for form in CONV_FORMS if form != "auto"]


def compile_lenet(form: str, name: str) -> None:
    """One outer step of LeNet on ten images, as the paper has them in a step."""
    target = targets.by_name(name)
    if (lacks := targets.missing(target)) is not None:
        pytest.skip(lacks)
    images, labels = np.zeros((40, 28, 28, 1), np.uint8), np.arange(40) % 10
    real = to_device(data.from_arrays(images, labels, images, labels).train)
    network = networks.lenet((28, 28, 1), 10, conv_form=form)
    method = methods.unrolled(network, inits.random(network), batch_size=16)
    phi = forms.pixels((28, 28, 1), 10, inner_steps=1, inner_epochs=1, inner_lr=0.1)
    problem = Problem(method, phi, forms.optimizer_for(phi, method.outer(10)))
    Abroad.at(target, real, num_inits=1).compile(problem)


@pytest.mark.slow
@pytest.mark.parametrize("form", [form for form in NAMED if form in forms_on("gpu")])
def test_every_candidate_on_a_gpu_compiles_there(form):
    compile_lenet(form, "h100")


@pytest.mark.slow
def test_im2col_does_not_compile_on_an_h100():
    """XLA's fault: where this test fails, im2col can be a candidate on GPUs again."""
    with pytest.raises(jax.errors.JaxRuntimeError, match="output tile sizes"):
        compile_lenet("im2col", "h100")


@pytest.mark.parametrize(
    ("backend", "without"), [("cpu", {"lax"}), ("gpu", {"im2col"}), ("tpu", set()), ("other", set())]
)
def test_what_a_backend_cannot_or_should_not_is_no_candidate(backend, without):
    assert set(CONV_FORMS) - set(forms_on(backend)) == without

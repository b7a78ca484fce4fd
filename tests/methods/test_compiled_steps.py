"""The contract of compiled outer steps: every method, form and network, here and on targets.

On devices of this machine everywhere; on GPUs and TPUs that are not there where their compilers are: run with
a Python of `scripts/targets_env.sh`. A method stands for all its forms and networks, a form and a network for
all their methods: each is compiled with one partner, by the method that differentiates the most.
"""

from __future__ import annotations

import pytest
from combinations import FORMS, NETWORKS, REFUSED
from test_combinations import parts
from test_contract import TABLE, case

from ddjax import forms, targets, testing
from ddjax.data import Dataset, to_device
from ddjax.engine import Problem
from ddjax.targets import Abroad, Target
from ddjax.testing import ProgramCase
from ddjax.types import Form, Method

HERE = Target("four CPUs", "cpu", num_devices=4)
ELSEWHERE = ("h100", "h100x8", "v5e:2x4", "v5e:16x16")
# What a form or a network is made of no number of devices changes.
ONE_OF_A_KIND = ("h100", "v5e:2x4")

METHODS = [("method", name) for name in TABLE]
THINGS = [
    (kind, name)
    for kind, names in (("form of φ", FORMS), ("network", NETWORKS))
    for name in names
    if ("unrolled", name) not in REFUSED
]


def row(kind: str, name: str) -> tuple[Method, Form, Dataset]:
    """A method with a small MLP; or a form or a network with the unrolled method."""
    if kind == "method":
        made = case(name)
        return made.method, made.form, made.data
    return parts("unrolled", kind, name)


def compiled(target: Target, kind: str, name: str) -> ProgramCase:
    """The outer steps of a row, one slot on each device."""
    method, form, data = row(kind, name)
    optimizer = forms.optimizer_for(form, method.outer(10))
    assets = to_device(data.train)._replace(assets=method.assets)
    site = Abroad.at(target, assets, num_inits=target.num_devices)
    return ProgramCase.of(Problem(method, form, optimizer, target.num_devices), site)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), METHODS)
def test_a_method_keeps_the_contract_on_devices_of_this_machine(kind, name):
    testing.check_program(compiled(HERE, kind, name))


def there(name: str) -> Target:
    """A target, or no test where its compiler is not there."""
    target = targets.by_name(name)
    if (lacks := targets.missing(target)) is not None:
        pytest.skip(lacks)
    return target


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), METHODS)
@pytest.mark.parametrize("target", ELSEWHERE)
def test_a_method_keeps_the_contract_on(target, kind, name):
    testing.check_program(compiled(there(target), kind, name))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), THINGS)
@pytest.mark.parametrize("target", ONE_OF_A_KIND)
def test_a_form_or_network_keeps_the_contract_on(target, kind, name):
    testing.check_program(compiled(there(target), kind, name))

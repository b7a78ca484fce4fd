"""The contract of compiled outer steps: what every method's program does on any number of devices.

Checks read the text of the compiled program, so they hold for devices that this machine does not have, too.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ddjax import forms, hlo
from ddjax.engine import Problem
from ddjax.plan import Site
from ddjax.testing.report import Checks, require, run

AGREEMENT_BYTES = 4
"""The bytes by which devices tell each other whether their slots are finite."""


class ProgramCase(NamedTuple):
    """Compiled outer steps to check.

    Attributes:
        program: the compiled program.
        num_devices: D, the number of devices of the program.
        num_donated: the number of arrays of the engine's state, which are the first arguments.
        gradient_bytes: the bytes of the gradient of φ, of all leaves that are not frozen.
        allow_float64: whether the program is one of float64, as tests of numerics are.
    """

    program: hlo.Program
    num_devices: int
    num_donated: int
    gradient_bytes: int
    allow_float64: bool = False

    @classmethod
    def of(cls, problem: Problem, site: Site) -> ProgramCase:
        """Compile a problem for the devices of a site, which need not be those of this machine.

        Args:
            problem: the method, form, optimiser and sizes.
            site: the devices and data, such as `ddjax.targets.Abroad.at` gives.

        Returns:
            The case.
        """
        start = site.start(problem)
        groups = jax.tree.leaves(forms.groups_of(problem.form, start.params))
        leaves = zip(jax.tree.leaves(start.params), groups, strict=True)
        # What is frozen has no gradient.
        moved = [
            one for one, group in leaves if group != forms.FROZEN and jnp.issubdtype(one.dtype, jnp.inexact)
        ]
        return cls(
            site.program(problem),
            site.mesh.size,
            len(jax.tree.leaves(start)),
            sum(one.size * one.dtype.itemsize for one in moved),
        )


def devices_meet_once(case: ProgramCase) -> None:
    """Devices average φ's gradient and all diagnostics in one all-reduce, and may agree in a second one."""
    found = case.program.collectives()
    told = ", ".join(f"{one.times} × {one.code} of {one.num_bytes} bytes" for one in found) or "none"
    remedy = "The engine alone averages over devices, once; a method's loss is that of one slot."
    if case.num_devices == 1:
        require(not found, "nothing sent on one device", found=told, remedy=remedy)
        return
    large = [one for one in found if one.num_bytes > AGREEMENT_BYTES]
    is_one = len(large) == 1 and large[0].times == 1 and large[0].code == "all-reduce"
    require(is_one, "one all-reduce in an outer step", found=told, remedy=remedy)
    require(
        large[0].num_bytes >= case.gradient_bytes,
        f"φ's gradient of {case.gradient_bytes} bytes in it",
        found=told,
        remedy=remedy,
    )
    small = [one for one in found if one.num_bytes <= AGREEMENT_BYTES]
    require(
        sum(one.times for one in small) <= 1, "at most one agreement of devices", found=told, remedy=remedy
    )


def calls_no_host(case: ProgramCase) -> None:
    """Outer steps run on the device alone: no callback, infeed or transfer inside a dispatch."""
    found = case.program.host_calls()
    require(
        not found,
        "no call of the host inside a dispatch",
        found=", ".join(found),
        remedy="Take jax.debug and callbacks out of the method, and return diagnostics instead.",
    )


def donates_its_state(case: ProgramCase) -> None:
    """Every array of the state is overwritten by the next state."""
    lost = set(range(case.num_donated)) - case.program.donated
    require(
        not lost,
        f"all {case.num_donated} arrays of the state donated",
        found=f"copies of {sorted(lost)}",
        remedy="Return a state of the shapes and dtypes that came in.",
    )


def is_free_of_float64(case: ProgramCase) -> None:
    """No number of the program is a float64, which GPUs compute slowly and TPUs in software."""
    require(
        case.allow_float64 or not {"f64", "c128"} & case.program.dtypes(),
        "no float64 in the program",
        found="some",
        remedy="Give constants the dtype of what they meet.",
    )


PROGRAM_CHECKS: Checks[ProgramCase] = {
    check.__name__: check
    for check in (devices_meet_once, calls_no_host, donates_its_state, is_free_of_float64)
}
"""The checks of all promises of compiled outer steps, by name."""


def check_program(case: ProgramCase) -> None:
    """Check every promise of compiled outer steps.

    Args:
        case: the compiled outer steps.

    Raises:
        ContractError: a promise is not kept.
    """
    run(PROGRAM_CHECKS, case)

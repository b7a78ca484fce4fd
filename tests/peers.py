"""What `test_parallel.py` runs as two processes of two devices: every collective, and its errors.

python tests/peers.py HOST:PORT PROCESS_ID FOLDER
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from problems import CLASSES, SHAPE, small_form, three_digits

import ddjax
from ddjax import inits, methods, networks, parallel
from ddjax.testing.report import double
from ddjax.types import Method


def raised(action) -> str:
    """The kind and the text of the error that an action ends with; `"nothing"` for no error.

    Args:
        action: the function to call.
    """
    try:
        action()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def refuse() -> None:
    """Raise an error."""
    raise ValueError("expected, got")


def check_agreement(me: int) -> None:
    """Values and errors of one process reach all processes.

    Args:
        me: the number of this process.
    """
    assert parallel.gather([me, 7]).tolist() == [[0, 7], [1, 7]]
    assert parallel.lead(lambda: {"from": me, "score": 1 / 3, "none": None}) == {
        "from": 0,
        "score": 1 / 3,
        "none": None,
    }
    assert parallel.together(lambda: me) == me
    one_fails = raised(lambda: parallel.together(refuse if me == 1 else lambda: None))
    assert one_fails.startswith("ValueError: expected, got" if me == 1 else "PeerError: process 1")
    lead_fails = raised(lambda: parallel.lead(refuse))
    assert lead_fails.startswith("ValueError: expected, got" if me == 0 else "PeerError: process 0")
    parallel.check_same("data", np.arange(3))
    assert "data: expected the same on all 2 processes" in raised(
        lambda: parallel.check_same("data", np.arange(3) + me)
    )


def check_bits(me: int) -> None:
    """A tree arrives bit for bit: float64 without x64, no elements, no axes, bfloat16.

    Args:
        me: the number of this process.
    """
    mine = {
        "seconds": np.array(1 / 3) + me,
        "empty": np.zeros((0, 2), np.float32),
        "weights": jnp.full((2, 3), 1 / 3 + me, jnp.bfloat16),
        "flag": np.array(me == 0),
        "step": np.array(2**40 + me),
    }
    got = parallel.broadcast(mine)
    wanted = {**mine, "seconds": np.array(1 / 3), "flag": np.array(True), "step": np.array(2**40)}
    wanted["weights"] = jnp.full((2, 3), 1 / 3, jnp.bfloat16)
    for name, value in wanted.items():
        assert got[name].dtype == value.dtype, name
        assert got[name].tobytes() == np.asarray(value).tobytes(), name


def check_placement() -> None:
    """Arrays that are split over four devices of two processes come back whole."""
    assert len(parallel.default_devices(3)) == 4
    mesh = parallel.make_mesh()
    slots = np.arange(16.0, dtype=np.float32).reshape(8, 2)
    placed = parallel.place({"slots": slots}, parallel.split_slots(mesh))
    assert not placed["slots"].is_fully_addressable
    assert placed["slots"].addressable_shards[0].data.shape == (2, 2)
    assert np.array_equal(parallel.fetch(placed)["slots"], slots)
    shared = parallel.place(slots, parallel.replicated(mesh))
    assert np.array_equal(parallel.fetch(shared), slots)
    parallel.check_everywhere(jax.devices())
    assert "got none of process 1" in raised(lambda: parallel.check_everywhere(jax.devices()[:2]))


def counting(method: Method) -> Method:
    """A method whose slots have a state: a random draw for each slot, and the number of outer steps since.

    Args:
        method: the method to extend.
    """
    return dataclasses.replace(
        method,
        init=lambda key: {"drawn": jax.random.normal(key, (3,)), "steps": jnp.int32(0)},
        loss=lambda schedule, state, batch, key: method.loss(schedule, (), batch, key),
        advance=lambda schedule, state, batch, info, key: {**state, "steps": state["steps"] + 1},
    )


def float64_run(workdir: Path, *, num_outer_steps: int) -> ddjax.Run:
    """A few outer steps with four slots, in float64; all processes share the slots.

    Args:
        workdir: the directory of the run.
        num_outer_steps: the number of outer steps.
    """
    with double():
        network = networks.mlp(SHAPE, CLASSES, widths=(8,))
        return ddjax.distill(
            three_digits(),
            counting(methods.unrolled(network, inits.random(network), batch_size=16)),
            key=jax.random.key(0),
            num_outer_steps=num_outer_steps,
            form=small_form(inner_lr=0.1),
            num_inits=4,
            optimizer=ddjax.optimizers.adam_cosine(5),
            validation=ddjax.Validation(lambda schedule: float(schedule.inputs.sum()), every=2),
            workdir=workdir,
        )


def check_run(me: int, folder: Path) -> None:
    """A run is stopped and resumed; both processes return the same result, and only the first process writes.

    Args:
        me: the number of this process.
        folder: the directory of both processes' runs.
    """
    float64_run(folder / f"process_{me}", num_outer_steps=3)
    run = float64_run(folder / f"process_{me}", num_outer_steps=5)
    assert run.num_outer_steps == 5
    parallel.check_same("the result", (run.distilled.params, run.best_step, run.val_accuracy))


def main(address: str, me: int, folder: Path) -> None:
    """Run all checks as one of two processes.

    Args:
        address: `HOST:PORT` of process 0.
        me: the number of this process.
        folder: the directory of both processes' runs.
    """
    parallel.start(address, 2, me)
    assert parallel.is_lead() == (me == 0)
    check_agreement(me)
    check_bits(me)
    check_placement()
    check_run(me, folder)
    parallel.leave()
    assert float(jnp.ones(3).sum()) == 3  # Each process still has devices of its own.


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))

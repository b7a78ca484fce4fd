"""What a checkpoint costs, by the processor's clock, and the script that sets it against outer steps."""

from __future__ import annotations

import importlib.util
import types
from pathlib import Path

import numpy as np
import optax
import pytest
from problems import CLASSES, SHAPE, small_form, three_digits

from ddjax import data, inits, methods, networks, recovery
from ddjax.checkpoint import Saver, Store
from ddjax.engine import Problem, init_state

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
SHARE = 0.02
"""Of a run's throughput, at most."""


def load_script() -> types.ModuleType:
    spec = importlib.util.spec_from_file_location("overhead", ROOT / "scripts" / "overhead.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


overhead = load_script()


def test_a_checkpoint_of_w1_every_half_minute_costs_less_than_two_percent(tmp_path):
    """In seconds of the processor, which other work on the machine does not lengthen; writing included."""
    setting = overhead.w1()
    whole = overhead.snapshot(setting, init_state(setting.problem, setting.key))
    store = Store(tmp_path)
    seconds = list(overhead.processor_seconds(Saver(store), whole, saves=7))
    size = store.paths()[0].stat().st_size
    assert size > 4 * 4 * 10 * 10 * 28 * 28  # the images, their two moments in Adam, the best so far
    assert np.median(seconds) <= SHARE * overhead.INTERVAL


@pytest.fixture
def small():
    network = networks.mlp(SHAPE, CLASSES, widths=(4,))
    dataset = three_digits()
    method = methods.unrolled(network, inits.random(network), batch_size=8)
    problem = Problem(method, small_form(inner_lr=0.1), recovery.scalable(optax.sgd(0.1)))
    return overhead.Setting(problem, data.to_device(dataset.train), overhead.jax.random.key(0))


def test_pieces_with_and_without_a_checkpoint_take_turns(small, tmp_path):
    store = Store(tmp_path, keep=9)
    saver = Saver(store)
    times = list(overhead.pieces(small, saver, pairs=3, steps=2))
    saver.wait()
    assert len(times) == 3
    assert all(without > 0 and with_one > 0 for without, with_one in times)
    # The first piece; then with and without, without and with, with and without.
    assert [int(path.stem[5:]) for path in store.paths()] == [10, 8, 2, 0]


def test_a_script_that_is_asked_for_nothing_refuses(capsys):
    with pytest.raises(SystemExit) as ended:
        overhead.main(["--pairs=0"])
    assert ended.value.code == 2
    assert "expected --pairs >= 2" in capsys.readouterr().err

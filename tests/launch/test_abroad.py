"""`--dry_run --target=`, as its user meets it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from problems import three_digits, write_npz

from ddjax import targets
from ddjax.data import to_device
from ddjax.launch import abroad, distillation
from ddjax.launch.abroad import Line, room, scaled
from ddjax.memory import Estimate
from ddjax.targets import Abroad
from experiments import random_init

TINY: dict[str, Any] = {
    "network": "mlp",
    "num_inits": 2,
    "inner_steps": 2,
    "inner_epochs": 1,
    "batch_size": 16,
    "num_outer_steps": 2,
    "baselines": False,
}


@pytest.fixture
def settings(tmp_path, rng, monkeypatch):
    monkeypatch.setattr(targets, "stay_at_home", lambda: None)  # the tests have begun already
    places: dict[str, Any] = {
        "dataset": str(write_npz(tmp_path / "spots.npz", rng)),
        "workdir": str(tmp_path / "run"),
    }
    return lambda **changed: random_init.Config(**{**TINY, **places, "dry_run": True, **changed})


@pytest.mark.slow
def test_a_target_is_compiled_for_and_leaves_nothing(settings, tmp_path, capsys):
    result = distillation.run("random_init", settings(target="cpu", memory_limit=1), random_init.build)
    told = capsys.readouterr().out
    assert result == {}
    assert not (tmp_path / "run").exists()
    assert "outer loop: 2 steps of 16 real images, on cpu\n" in told
    assert "plan: conv_form auto (default), memory recompute (default), slots_per_chunk 1 (default)" in told
    assert "target: cpu, 1 of 1 devices, cpu\n" in told
    assert re.search(r"memory of one device: .* to work in, .* of data, .* of 1 GiB in all", told)
    assert "sent in one outer step: nothing\n" in told
    assert re.search(
        r"the compiler itself counts [\d.]+ [kM]flop and [\d.]+ [KM]iB, the body of each loop", told
    )
    assert "bound: none, for want of published peaks\nit fits\n" in told
    assert re.search(
        r"room on one device: .* slots at once \(by a line through 1 and 2\), or [\d,]+ real", told
    )


@pytest.mark.slow
def test_where_a_target_does_not_suffice_the_levers_are_compiled_for_it(settings, capsys):
    with pytest.raises(ValueError, match="memory: expected outer steps that need at most"):
        distillation.run("random_init", settings(target="cpu", memory_limit=1e-6), random_init.build)
    assert "it does not fit; compiling what may take less" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"target": "h100", "dry_run": False}, "target: expected --dry_run with it; got none. Add --dry_run"),
        ({"target": "cpu", "tune": True}, "target: expected no --tune"),
        ({"target": "h1000"}, "target: expected one such as cpu, h100"),
    ],
)
def test_other_flags_are_refused_before_data_are_read(settings, changed, message):
    with pytest.raises(ValueError, match=message):
        abroad.begin(settings(**changed))


def test_a_compiler_that_is_not_there_is_named(settings, monkeypatch):
    monkeypatch.setattr(targets.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="expected libtpu, which compiles for v5e:2x4; this Python has none"):
        abroad.begin(settings(target="v5e:2x4"))


@pytest.mark.parametrize(
    ("number", "unit", "text"),
    [
        (0, "B", "0 B"),
        (1023, "B", "1023 B"),
        (1536, "B", "1.5 KiB"),
        (3 * 2**30, "B", "3 GiB"),
        (2.5e12, "flop", "2.5 Tflop"),
    ],
)
def test_numbers_with_units(number, unit, text):
    assert scaled(number, unit) == text


def test_a_line_through_two_programs():
    line = Line.through((4, 500), (2, 300))
    assert line == Line(fixed=100, each=100)
    assert line.most(1000) == 9
    assert Line.through((4, 300), (2, 300)).most(1000) is None


def test_room_without_a_second_program_is_a_lower_bound():
    """Memory for two slots, and as much again: at least four slots, or the images that would fit."""
    site = Abroad.at(targets.by_name("cpu"), to_device(three_digits().train), num_inits=2)
    each, held = 64 + 2 * 4, site.data.labels.size
    needed = 200 * each
    told = room(None, 2, site, Estimate(needed - 50, 50, 2 * needed))
    assert told == (
        "room on one device: at least 4 slots at once (in proportion to the 2 that were compiled), or "
        f"{held + 200:,} real images"
    )

"""Measurements over seeds: kept one by one, and read by the next start."""

from __future__ import annotations

import pytest

from ddjax.launch.seeds import FILE, each_seed


def test_a_stopped_measurement_goes_on_with_the_seeds_that_are_missing(tmp_path):
    asked = []

    def one(seed):
        if seed == 2 and len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(seed)
        return {"value": seed / 3}

    with pytest.raises(KeyboardInterrupt):
        each_seed(tmp_path, range(4), one)
    asked.append("a second start")
    assert each_seed(tmp_path, range(4), one) == [{"value": seed / 3} for seed in range(4)]
    assert asked == [0, 1, "a second start", 2, 3]


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / FILE).write_text("[1")
    with pytest.raises(ValueError, match=r"seeds.json: expected JSON .* Remove it"):
        each_seed(tmp_path, range(2), dict)  # type: ignore[arg-type] (never called)

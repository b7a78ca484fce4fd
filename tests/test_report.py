"""Tests of ddjax.report: figures, tables, metrics and progress."""

import json
import sys
import types

import jax.numpy as jnp
import numpy as np
import pytest

import ddjax.version
from ddjax import report


def test_table():
    rows = [["distilled", "94.1 ± 0.3", 20], ["random real", "71.0 ± 11.2", 5]]
    assert report.table(rows, ["images", "accuracy, %", "n"]).splitlines() == [
        "images       accuracy, %   n",
        "-----------  -----------  --",
        "distilled     94.1 ± 0.3  20",
        "random real  71.0 ± 11.2   5",
    ]
    assert report.table([], ["a"]) == "a\n-"


def test_a_row_of_the_wrong_length_is_refused():
    with pytest.raises(ValueError, match=r"expected 2 cells in a row; got 1: \['x'\]"):
        report.table([["x"]], ["a", "b"])


def test_format_mean_std():
    assert report.format_mean_std(np.array([1.0, 3.0])) == "2.0 ± 1.0"
    assert report.format_mean_std([0.5], digits=2) == "0.50 ± 0.00"
    with pytest.raises(ValueError, match="at least one value"):
        report.format_mean_std([])


# Records.


def test_write_json(tmp_path):
    path = tmp_path / "result.json"
    values = {
        "a": np.float32(0.5),
        "b": jnp.arange(2),
        "c": (float("nan"), [float("-inf")]),
        1: tmp_path,
        "d": True,
    }
    report.write_json(path, values)
    assert json.loads(path.read_text()) == {
        "a": 0.5,
        "b": [0, 1],
        "c": [None, [None]],
        "1": str(tmp_path),
        "d": True,
    }
    with pytest.raises(TypeError):
        report.write_json(path, {"a": object()})
    assert json.loads(path.read_text())["a"] == 0.5


def test_metrics_are_on_disk_line_by_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with report.MetricsWriter(path) as writer:
        writer.write({"step": 1, "loss": jnp.float32(0.5), "lrs": np.array([0.25, np.inf])})
        assert report.read_metrics(path) == [{"step": 1, "loss": 0.5, "lrs": [0.25, None]}]
        writer.write({"step": 2, "loss": float("nan")})
    assert report.read_metrics(path)[1] == {"step": 2, "loss": None}


def test_resumed_metrics_equal_uninterrupted_ones(tmp_path):
    def write(path, steps, position=0):
        positions = []
        with report.MetricsWriter(path) as writer:
            writer.truncate(position)
            for step in steps:
                positions.append(writer.position)
                writer.write({"step": step, "loss": 1 / step})
        return positions

    write(tmp_path / "whole", range(1, 11))
    positions = write(tmp_path / "resumed", range(1, 8))
    with (tmp_path / "resumed").open("a") as file:
        file.write('{"step": 8, "lo')
    assert len(report.read_metrics(tmp_path / "resumed")) == 7
    write(tmp_path / "resumed", range(5, 11), positions[4])
    assert (tmp_path / "resumed").read_bytes() == (tmp_path / "whole").read_bytes()


def test_a_torn_line_is_dropped_on_opening(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2, "lo')
    with report.MetricsWriter(path) as writer:
        writer.write({"step": 2})
    assert report.read_metrics(path) == [{"step": 1}, {"step": 2}]


def test_no_metrics_where_there_is_no_file(tmp_path):
    assert report.read_metrics(tmp_path / "metrics.jsonl") == []


class FakeEvents:
    def __init__(self, directory):
        self.directory, self.scalars, self.closed = directory, [], False

    def add_scalar(self, name, value, step):
        self.scalars.append((name, value, step))

    def flush(self):
        pass

    def close(self):
        self.closed = True


def test_tensorboard_gets_the_same_numbers(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", types.SimpleNamespace(SummaryWriter=FakeEvents))
    writer = report.MetricsWriter(tmp_path / "metrics.jsonl", tensorboard=tmp_path / "events")
    writer.write({"step": 3, "loss": 0.5, "lrs": [0.1, 0.2], "grad_norm": float("nan")})
    writer.close()
    events = writer._events
    assert isinstance(events, FakeEvents)
    assert events.directory == str(tmp_path / "events")
    assert events.scalars == [("loss", 0.5, 3), ("lrs/0", 0.1, 3), ("lrs/1", 0.2, 3)]
    assert events.closed


def test_tensorboard_asked_for_and_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match="pip install tensorboardX"):
        report.MetricsWriter(tmp_path / "metrics.jsonl", tensorboard=tmp_path)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0s"), (59.6, "1m00s"), (171, "2m51s"), (11100, "3h05m")]
)
def test_format_duration(seconds, text):
    assert report.format_duration(seconds) == text


# Provenance.


def test_hardware_and_versions_are_facts_in_json(tmp_path):
    report.write_json(tmp_path / "a.json", {"hardware": report.hardware(), "versions": report.versions()})
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["hardware"]["cpu_cores"] >= 1
    assert found["hardware"]["memory_gib"] > 0.1
    assert all(found["hardware"][key] for key in ("platform", "cpu", "device_kind", "device_count"))
    assert found["versions"]["ddjax"] == ddjax.version.__version__
    assert set(found["versions"]) == {"python", "jax", "jaxlib", "flax", "optax", "numpy", "ddjax"}

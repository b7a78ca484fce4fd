"""Devices and processes: two real processes over loopback agree, write once, and stop and resume together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from launchers import QUICK_TO_COMPILE
from peers import float64_run
from problems import write_npz

from ddjax import parallel, report
from ddjax.checkpoint import Store
from ddjax.launch import distillation, recorded
from experiments import random_init

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT = 180  # seconds, so that a deadlock fails
SETTINGS: dict[str, Any] = {
    "network": "mlp",
    "num_inits": 4,
    "inner_steps": 1,
    "inner_epochs": 1,
    "batch_size": 16,
    "num_eval_inits": 1,
    "num_val_inits": 1,
    "validate_every": 2,
    "record_every": 1,
    "baselines": False,
}


@pytest.fixture
def dataset(tmp_path, rng) -> Path:
    return write_npz(tmp_path / "spots.npz", rng)


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    """Compiled programs that the processes of this file share."""
    return tmp_path_factory.mktemp("compiled")


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


@contextmanager
def two(*command: str, cache: Path, devices: int = 1, **variables: str) -> Iterator[list[subprocess.Popen]]:
    """Two processes of one command; ADDRESS and ID in it become the coordinator's and each one's own."""
    environment = os.environ | {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} {QUICK_TO_COMPILE}",
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": str(ROOT),
        **variables,
    }
    address = f"127.0.0.1:{free_port()}"
    started = []
    try:
        for process_id in range(2):
            filled = [part.replace("ADDRESS", address).replace("ID", str(process_id)) for part in command]
            started.append(
                subprocess.Popen(
                    [sys.executable, *filled],
                    cwd=ROOT,
                    env=environment,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


def finish(processes: Sequence[subprocess.Popen]) -> tuple[list[int], list[str], list[str]]:
    """Exit codes, outputs and errors."""
    told = [process.communicate(timeout=TIMEOUT) for process in processes]
    outputs, errors = zip(*told, strict=True)
    return [process.returncode for process in processes], list(outputs), list(errors)


def launcher(dataset: Path, folder: Path, **settings: Any) -> list[str]:
    """The command of two processes, each with a work directory of its own name."""
    everything = SETTINGS | {"dataset": dataset, "workdir": folder / "process_ID"} | settings
    everything |= {"coordinator_address": "ADDRESS", "num_processes": 2, "process_id": "ID"}
    flags = [f"--{name}={value}" for name, value in everything.items()]
    return ["-m", "experiments.random_init", "--distributed", *flags]


def run_alone(dataset: Path, workdir: Path, **settings: Any) -> None:
    """The same in this process."""
    places: dict[str, Any] = {"dataset": str(dataset), "workdir": str(workdir)}
    everything = SETTINGS | places | settings
    random_init.LAUNCHER.run(random_init.Config(**everything))


def arrays(path: Path) -> dict[str, np.ndarray]:
    """The numbers of an artifact or a checkpoint."""
    with np.load(path) as file:
        return {name: file[name] for name in file.files if file[name].dtype.kind in "fiu"}


@pytest.mark.slow
def test_collectives_and_a_float64_run_equal_to_ten_digits(tmp_path, cache):
    """Slots with a state of their own, on two devices of each process; see `peers.py`."""
    command = ("tests/peers.py", "ADDRESS", "ID", str(tmp_path))
    with two(*command, cache=cache, devices=2) as processes:
        codes, _, errors = finish(processes)
    assert codes == [0, 0], errors
    assert [path.name for path in tmp_path.iterdir()] == ["process_0"]
    float64_run(tmp_path / "alone", num_outer_steps=5)
    ours, alone = (
        arrays(Store(tmp_path / name / "checkpoints").paths()[0]) for name in ("process_0", "alone")
    )
    assert ours.keys() == alone.keys()
    # Stopped at step 3, it validated there too: seconds and the length of the metrics are its own.
    for name in alone.keys() - {"leaf.seconds", "leaf.position"}:
        np.testing.assert_allclose(ours[name], alone[name], rtol=1e-10, atol=1e-12, err_msg=name)


@pytest.mark.slow
def test_two_processes_equal_one_and_resume_to_the_same_bytes(dataset, tmp_path, cache):
    """A whole run; one stopped by SIGTERM to process 1 alone, then continued."""
    settings = {"num_outer_steps": 40, "save_seconds": 0}
    run_alone(dataset, tmp_path / "alone", **settings)
    with two(*launcher(dataset, tmp_path / "whole", **settings), cache=cache) as processes:
        codes, outputs, errors = finish(processes)
    assert codes == [0, 0], errors
    ours, alone = (arrays(tmp_path / name / "distilled.npz") for name in ("whole/process_0", "alone"))
    for name, value in alone.items():
        np.testing.assert_allclose(ours[name], value, rtol=1e-5, atol=1e-5, err_msg=name)
    # Only process 0 writes and prints.
    assert [path.name for path in (tmp_path / "whole").iterdir()] == ["process_0"]
    assert "distilled images" in outputs[0]
    assert [line for line in outputs[1].splitlines() if not line.startswith("[Gloo]")] == []

    stopped = launcher(dataset, tmp_path / "stopped", **settings)
    metrics = tmp_path / "stopped/process_0/metrics.jsonl"
    with two(*stopped, cache=cache) as processes:
        while len(report.read_metrics(metrics)) < 4 and processes[0].poll() is None:
            time.sleep(0.02)
        processes[1].send_signal(signal.SIGTERM)
        codes, _, errors = finish(processes)
    assert codes == [75, 75], errors
    assert 4 <= len(report.read_metrics(metrics)) < 40
    with two(*stopped, cache=cache) as processes:
        codes, _, errors = finish(processes)
    assert codes == [0, 0], errors
    whole, resumed = (
        (tmp_path / name / "process_0/distilled.npz").read_bytes() for name in ("whole", "stopped")
    )
    assert whole == resumed


@pytest.mark.slow
def test_an_error_of_one_process_ends_both(dataset, tmp_path, cache):
    """The data are there for process 0 alone."""
    dataset.rename(tmp_path / "spots_0.npz")
    command = launcher(tmp_path / "spots_ID.npz", tmp_path / "run", num_outer_steps=4)
    with two(*command, cache=cache) as processes:
        codes, _, errors = finish(processes)
    assert codes == [2, 2], errors
    assert "stopped: process 1 could not go on" in errors[0]
    assert "error: " in errors[1]
    assert "spots_1" in errors[1]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_processes": 2}, "num_processes: expected --distributed"),
        ({"distributed": True, "process_id": 0}, "all or none of coordinator_address, .*; got process_id"),
    ],
)
def test_flags_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        distillation.join_processes(random_init.Config(**settings))


def test_where_a_run_runs_is_no_part_of_what_it_is():
    here = random_init.Config(seed=3)
    there = random_init.Config(
        seed=3, distributed=True, coordinator_address="a:1", num_processes=2, process_id=1
    )
    assert recorded(here) == recorded(there)
    assert recorded(here)["seed"] == 3


def test_one_process_agrees_with_itself():
    assert parallel.is_lead()
    assert parallel.gather([3, True]).tolist() == [[3, 1]]
    assert parallel.lead(lambda: 5) == parallel.together(lambda: 5) == parallel.broadcast(5) == 5
    with pytest.raises(ValueError, match="expected"):
        parallel.together(lambda: parallel.check_divides(3, 2))


def test_default_devices_share_the_slots_evenly():
    assert [len(parallel.default_devices(num_inits)) for num_inits in (1, 2, 3, 6, 8)] == [1, 2, 1, 2, 4]
    assert parallel.make_mesh().size == len(jax.devices())

"""Runs in real processes, killed, interrupted, starved of disk, beside each other: none loses anything."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import survivor
from problems import write_npz

from ddjax.checkpoint import Store
from ddjax.launch import directory
from ddjax.workdir import locked
from experiments import random_init

TESTS = Path(__file__).resolve().parent
KILLS = 10
"""Five in each of two runs: one of every kind that `strike` tells apart."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("xla")


def command(workdir: Path, **settings: Any) -> list[str]:
    return [sys.executable, str(TESTS / "survivor.py"), str(workdir), json.dumps(settings)]


def environment(cache: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}", "XLA_CACHE": str(cache)}


Start = Callable[..., subprocess.Popen]


@pytest.fixture(scope="module")
def start(cache) -> Iterator[Start]:
    """`(workdir, **settings) -> process`; none outlives the tests."""
    processes = []

    def begin(workdir: Path, **settings: Any) -> subprocess.Popen:
        workdir.mkdir(exist_ok=True)
        process = subprocess.Popen(
            command(workdir, **settings), env=environment(cache), stderr=subprocess.PIPE, text=True
        )
        processes.append(process)
        return process

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def end(process: subprocess.Popen) -> tuple[int, str]:
    """Exit code, errors."""
    error = process.communicate(timeout=300)[1]
    return process.returncode, error


def wait(process: subprocess.Popen, ready: Callable[[], bool]) -> None:
    """Until it is so, or the process has ended."""
    until = time.monotonic() + 300
    while not ready() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.002)


def newest(workdir: Path) -> int:
    paths = Store(workdir / "checkpoints").paths()
    return int(paths[0].stem[5:]) if paths else 0


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, start) -> Path:
    """The work directory of a run that nothing happened to."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    assert end(start(workdir)) == (0, "")
    return workdir


def half_written(workdir: Path) -> list[Path]:
    return list((workdir / "checkpoints").glob(".step_*.tmp"))


def is_paused(workdir: Path, step: int) -> bool:
    """Whether a run that pauses in a step does so, with the two checkpoints before it on disk."""
    saved = [newest(workdir), len(Store(workdir / "checkpoints").paths())]
    return (workdir / "paused").exists() and saved == [step - 1, 2] and not half_written(workdir)


def kill_while_saving(process: subprocess.Popen, workdir: Path) -> None:
    """SIGKILL with a checkpoint half written: the process is stopped first, to see that it is."""
    while process.poll() is None:
        if half_written(workdir):
            process.send_signal(signal.SIGSTOP)
            if half_written(workdir):
                break
            process.send_signal(signal.SIGCONT)
    process.kill()


def strike(process: subprocess.Popen, workdir: Path, *, kind: int, chance: random.Random) -> None:
    """SIGKILL: while it starts, at any moment of the loop, or while a checkpoint is half written."""
    before = newest(workdir)
    if kind % 5 == 0:
        time.sleep(chance.uniform(0.5, 2))
    else:
        wait(process, lambda: newest(workdir) > before)
        time.sleep(chance.uniform(0, 0.04))
    if kind % 2:
        kill_while_saving(process, workdir)
    process.kill()


def survive(start: Start, folder: Path, *, kills: int, seed: int) -> tuple[list[Path], int]:
    """Kill a run so often, and let it end.

    Returns:
        Its work directory, after those of runs that were faster than the kills; how often a checkpoint was
        left half written.
    """
    chance = random.Random(seed)
    done, torn, runs = 0, 0, [folder / "run0"]
    while done < kills or not (runs[-1] / "distilled.npz").exists():
        if (runs[-1] / "distilled.npz").exists():
            runs.append(folder / f"run{len(runs)}")
        process = start(runs[-1])
        if done < kills:
            strike(process, runs[-1], kind=done, chance=chance)
        code, error = end(process)
        assert code in (0, -signal.SIGKILL), error
        done += code == -signal.SIGKILL
        torn += len(half_written(runs[-1])) > 0
    return runs, torn


@pytest.mark.slow
def test_sigkill_at_any_moment_loses_nothing(whole, start, tmp_path):
    """Two runs at a time, each killed as often as the other."""
    folders = [tmp_path / "one", tmp_path / "two"]
    with ThreadPoolExecutor(2) as pool:
        for folder in folders:
            folder.mkdir()
        lanes = [
            pool.submit(survive, start, folder, kills=KILLS // 2, seed=seed)
            for seed, folder in enumerate(folders)
        ]
    results = [lane.result() for lane in lanes]
    assert sum(torn for _, torn in results) >= KILLS // 4
    for workdir in (workdir for runs, _ in results for workdir in runs):
        assert (workdir / "distilled.npz").read_bytes() == (whole / "distilled.npz").read_bytes()
        assert (workdir / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
        assert half_written(workdir) == []


@pytest.mark.slow
def test_one_at_a_time_and_two_signals_and_one(whole, start, tmp_path):
    """A second process is refused; two SIGTERMs end the first at once; a later one saves and stops."""
    workdir = tmp_path / "run"
    first = start(workdir, pause=5)
    wait(first, lambda: is_paused(workdir, 5))
    before = contents(workdir)
    code, error = end(start(workdir))
    assert code == survivor.REFUSED
    assert f"in use by process {first.pid} on" in error
    assert contents(workdir) == before

    first.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    assert first.poll() is None  # it has heard, and finishes what it does
    first.send_signal(signal.SIGTERM)
    assert end(first)[0] == -signal.SIGTERM
    assert contents(workdir) == before
    assert (workdir / "checkpoints" / ".lock").exists()  # of a dead process: blocks nobody

    process = start(workdir)
    wait(process, lambda: newest(workdir) > 20)
    process.send_signal(signal.SIGTERM)
    code, error = end(process)
    assert code == survivor.PREEMPTED
    assert f"outer step {newest(workdir)} is done" in error
    assert 20 < newest(workdir) < survivor.STEPS
    assert not (workdir / "checkpoints" / ".lock").exists()
    assert end(start(workdir)) == (0, "")
    assert (workdir / "distilled.npz").read_bytes() == (whole / "distilled.npz").read_bytes()


@pytest.mark.slow
def test_two_signals_end_a_run_within_one_outer_step(start, tmp_path):
    """The step takes minutes; XLA, which computes it, hears no signal."""
    process = start(tmp_path / "run", endless=True)
    wait(process, (tmp_path / "run" / "compiled").exists)
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == -signal.SIGTERM


@pytest.mark.slow
def test_a_limit_on_file_sizes_loses_nothing(whole, start, tmp_path):
    """The kernel refuses to write more than 4 KiB to any file, from step 10 on."""
    workdir = tmp_path / "run"
    code, error = end(start(workdir, starve=[10, 4096]))
    assert code == survivor.FAILED
    assert str(workdir) in error
    assert "File too large" in error
    assert "bytes" in error
    assert newest(workdir) == 9
    assert half_written(workdir) == []
    assert end(start(workdir)) == (0, "")
    assert (workdir / "distilled.npz").read_bytes() == (whole / "distilled.npz").read_bytes()
    assert (workdir / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


def small_disk(mount: Path, size: str, rest: list[str]) -> list[str]:
    """A command on a file system of its own, in memory; it goes with the command."""
    script = f'mount -t tmpfs -o size={size} tmpfs "$0" && exec "$@"'
    return ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, str(mount), *rest]


@pytest.mark.slow
def test_a_full_disk_loses_nothing(cache, tmp_path):
    mount = tmp_path / "disk"
    mount.mkdir()
    if (
        shutil.which("unshare") is None
        or subprocess.run(small_disk(mount, "1m", ["true"]), capture_output=True, check=False).returncode
    ):
        pytest.skip("no file system can be mounted here; the limit on file sizes is tested all the same")
    done = subprocess.run(
        small_disk(mount, "300k", command(mount, small_disk=True)),
        env=environment(cache),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 3  # while it ran, writing the artifact, starting again
    for line in errors:
        assert str(mount / "run") in line
        assert "expected room for" in line
        assert "No space left on device (0 bytes are free there)" in line
    assert lines[-1] == "same bytes"


@pytest.mark.slow
def test_a_disk_that_cannot_be_written_is_found_at_once(cache, tmp_path):
    mount = tmp_path / "disk"
    mount.mkdir()
    script = 'mount -t tmpfs -o ro tmpfs "$0" && exec "$@"'
    unshared = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, str(mount)]
    if shutil.which("unshare") is None or subprocess.run([*unshared, "true"], check=False).returncode:
        pytest.skip("no file system can be mounted here")
    done = subprocess.run(
        [*unshared, *command(mount / "run")],
        env=environment(cache),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == survivor.FAILED
    assert f"{mount}" in done.stderr
    assert "expected a place that can be written; got Read-only file system" in done.stderr


LAUNCHER = (
    *("--network=mlp", "--num_outer_steps=30", "--inner_steps=1", "--inner_epochs=1", "--batch_size=8"),
    *("--num_eval_inits=2", "--num_val_inits=1", "--validate_every=30", "--save_seconds=0", "--nobaselines"),
)


@pytest.fixture
def launcher(cache, tmp_path) -> Iterator[Callable[..., subprocess.Popen]]:
    """`(*flags) -> process` of one run on spots, in `tmp_path / "run"`."""
    spots, processes = write_npz(tmp_path / "spots.npz", np.random.default_rng(0)), []
    shared = environment(cache) | {"JAX_COMPILATION_CACHE_DIR": str(cache), "PYTHONUNBUFFERED": "1"}
    shared |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}

    def begin(*flags: str) -> subprocess.Popen:
        places = (f"--dataset={spots}", f"--workdir={tmp_path / 'run'}")
        command = [sys.executable, "-m", "experiments.random_init", *LAUNCHER, *places, *flags]
        process = subprocess.Popen(
            command, cwd=TESTS.parent, env=shared, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        processes.append(process)
        return process

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_a_launcher_keeps_its_directory_to_itself_until_all_is_written(launcher, tmp_path):
    """Also while it evaluates; a signal ends it there, and the same command goes on from what is saved."""
    workdir = tmp_path / "run"
    first = launcher()
    wait(first, (workdir / "distilled.npz").exists)  # all but the evaluation is done
    first.send_signal(signal.SIGSTOP)
    assert not (workdir / "result.json").exists()
    before = contents(workdir)
    code, error = end(launcher())
    assert code == 2, error
    assert f"error: workdir: expected a directory that no other run uses; {workdir} is in use by" in error
    assert f"in use by process {first.pid} on" in error
    assert "Traceback" not in error
    assert contents(workdir) == before

    first.send_signal(signal.SIGTERM)
    first.send_signal(signal.SIGCONT)
    code, error = end(first)
    assert code == 75, error
    assert "preempted: SIGTERM came" in error
    (workdir / ".result.json.0123abcd.tmp").write_bytes(b"{")  # as a kill while it writes would leave it

    again = launcher()
    told, error = again.communicate(timeout=300)
    assert again.returncode == 0, error
    assert "distilled images" in told
    files = {path.name for path in workdir.iterdir() if path.is_file()}
    assert files == {
        *("config.json", "plan.json", "metrics.jsonl", "distilled.npz", "distilled.png", "curves.png"),
        *("result.json", "report.html"),
    }
    assert contents(workdir)[workdir / "distilled.npz"] == before[workdir / "distilled.npz"]
    with locked(workdir):  # who only reads a finished directory needs no lock
        finished = launcher()
        told, error = finished.communicate(timeout=300)
    assert finished.returncode == 0, error
    assert "is finished" in told


@pytest.mark.slow
def test_a_signal_before_the_loop_is_a_preemption_too(launcher, tmp_path):
    """As it starts; nothing has been saved yet, and nothing is lost."""
    process = launcher("--num_inits=3")
    wait(process, (tmp_path / "run" / "plan.json").exists)
    process.send_signal(signal.SIGINT)
    code, error = end(process)
    assert code == 75, error
    assert "Traceback" not in error


def test_what_a_first_start_left_when_it_was_killed_is_no_other_run_s(tmp_path):
    workdir = tmp_path / "run"
    workdir.mkdir()
    (workdir / ".lock").touch()
    (workdir / ".config.json.0123abcd.tmp").write_bytes(b"{")
    config = random_init.Config(workdir=str(workdir))
    assert not directory.check_workdir(workdir, config, experiment="random_init")
    (workdir / "mine").touch()
    with pytest.raises(ValueError, match="holds other files"):
        directory.check_workdir(workdir, config, experiment="random_init")

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
from pathlib import Path
from typing import Any

import pytest
import survivor

from ddjax.checkpoint import Store

TESTS = Path(__file__).resolve().parent
KILLS = 20


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


def test_sigkill_at_any_moment_loses_nothing(whole, start, tmp_path):
    chance = random.Random(0)
    kills, torn, runs = 0, 0, [tmp_path / "run0"]
    while kills < KILLS or not (runs[-1] / "distilled.npz").exists():
        if (runs[-1] / "distilled.npz").exists():  # it was faster than the kills: again from the start
            runs.append(tmp_path / f"run{len(runs)}")
        process = start(runs[-1])
        if kills < KILLS:
            strike(process, runs[-1], kind=kills, chance=chance)
        code, error = end(process)
        assert code in (0, -signal.SIGKILL), error
        kills += code == -signal.SIGKILL
        torn += len(half_written(runs[-1])) > 0
    assert torn >= KILLS // 4
    for workdir in runs:
        assert (workdir / "distilled.npz").read_bytes() == (whole / "distilled.npz").read_bytes()
        assert (workdir / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
        assert half_written(workdir) == []


def test_sigterm_saves_and_a_second_one_ends_at_once(whole, start, tmp_path):
    workdir = tmp_path / "run"
    process = start(workdir, pause=3)
    wait(process, lambda: is_paused(workdir, 3))
    saved = contents(workdir / "checkpoints")
    process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    assert process.poll() is None  # it has heard, and finishes what it does
    process.send_signal(signal.SIGTERM)
    assert end(process)[0] == -signal.SIGTERM
    assert contents(workdir / "checkpoints") == saved

    process = start(workdir)
    wait(process, lambda: newest(workdir) > 20)
    process.send_signal(signal.SIGTERM)
    code, error = end(process)
    assert code == survivor.PREEMPTED
    assert f"outer step {newest(workdir)} is done" in error
    assert 20 < newest(workdir) < survivor.STEPS
    assert end(start(workdir)) == (0, "")
    assert (workdir / "distilled.npz").read_bytes() == (whole / "distilled.npz").read_bytes()


def test_two_processes_and_one_work_directory(whole, start, tmp_path):
    workdir = tmp_path / "run"
    first = start(workdir, pause=5)
    wait(first, lambda: is_paused(workdir, 5))
    before = contents(workdir)
    code, error = end(start(workdir))
    assert code == survivor.REFUSED
    assert f"in use by process {first.pid} on" in error
    assert contents(workdir) == before
    first.kill()
    assert end(first)[0] == -signal.SIGKILL
    assert (workdir / "checkpoints" / ".lock").exists()  # of a dead process: blocks nobody
    assert end(start(workdir)) == (0, "")
    assert not (workdir / "checkpoints" / ".lock").exists()
    assert (workdir / "distilled.npz").read_bytes() == (whole / "distilled.npz").read_bytes()


def test_a_limit_on_file_sizes_loses_nothing(whole, start, tmp_path):
    """The kernel refuses to write more than 4 KiB to any file, from step 10 on."""
    workdir = tmp_path / "run"
    code, error = end(start(workdir, starve=[10, 4096]))
    assert code == survivor.FAILED
    assert str(workdir) in error
    assert "File too large" in error
    assert "bytes" in error
    assert newest(workdir) in (9, 10)
    assert half_written(workdir) == []
    assert end(start(workdir)) == (0, "")
    assert (workdir / "distilled.npz").read_bytes() == (whole / "distilled.npz").read_bytes()
    assert (workdir / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


def small_disk(mount: Path, size: str, rest: list[str]) -> list[str]:
    """A command on a file system of its own, in memory; it goes with the command."""
    script = f'mount -t tmpfs -o size={size} tmpfs "$0" && exec "$@"'
    return ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, str(mount), *rest]


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

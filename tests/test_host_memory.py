"""Freed memory goes back to the system, and large blocks lie in huge pages, as a real process sees it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ddjax import host_memory

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and tells glibc"),
]

RESIDENT = """
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
"""


def _run(code: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", RESIDENT + code], capture_output=True, text=True, check=True, timeout=60
    )
    return int(done.stdout)


def _held_after_freeing(block: int, call: str) -> int:
    """MiB that a process holds more than before, having taken and freed blocks below a small last one."""
    return _run(f"""
import ctypes, runpy
host_memory = runpy.run_path({host_memory.__file__!r})  # the room alone, without JAX
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
libc.mallopt(-3, 2**30)  # glibc's own rule depends on what was freed before: here all comes from the heap
libc.mallopt(-1, 2**30)
{"host_memory['return_large_blocks']()" if call == "return_large_blocks" else ""}
before = resident()
blocks = [libc.malloc({block}) for _ in range(64 * 2**20 // {block})]
for at in blocks:
    ctypes.memset(at, 1, {block})
last = libc.malloc(1000)
for at in blocks:
    libc.free(at)
{"host_memory['return_freed']()" if call == "return_freed" else ""}
print((resident() - before) // 2**20)
""")


def test_without_being_told_the_library_keeps_it():
    assert _held_after_freeing(2**16, "") > 48


def test_what_was_freed_is_given_back():
    assert _held_after_freeing(2**16, "return_freed") < 16


def test_large_blocks_are_given_back_at_once():
    assert _held_after_freeing(host_memory.LARGE_BLOCK, "") > 48
    assert _held_after_freeing(host_memory.LARGE_BLOCK, "return_large_blocks") < 16


WHO = {
    "madvise": "always [madvise] never",
    "always": "[always] madvise never",
    "never": "always madvise [never]",
}


@pytest.fixture
def who(tmp_path):
    """The file in which Linux says who gets huge pages, with one of its three contents."""

    def file(name: str) -> Path:
        path = tmp_path / name
        path.write_text(f"{WHO[name]}\n")
        return path

    return file


@pytest.fixture
def new_glibc(monkeypatch):
    monkeypatch.setattr(host_memory, "_glibc_version", lambda: (2, 35))


@pytest.mark.usefixtures("new_glibc")
@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, "glibc.malloc.hugetlb=1"),
        ({"GLIBC_TUNABLES": "glibc.malloc.check=1"}, "glibc.malloc.check=1:glibc.malloc.hugetlb=1"),
        ({"JAX_PLATFORMS": "cpu"}, "glibc.malloc.hugetlb=1"),
        ({"JAX_PLATFORMS": ""}, "glibc.malloc.hugetlb=1"),
    ],
)
def test_huge_pages_are_asked_for_beside_what_is_asked_for_already(given, wanted, who):
    found = host_memory.with_huge_pages(given, setting=who("madvise"))
    assert found == given | {"GLIBC_TUNABLES": wanted}


@pytest.mark.usefixtures("new_glibc")
@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({}, "always"),
        ({}, "never"),
        ({"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}, "madvise"),
        ({"JAX_PLATFORMS": "cuda"}, "madvise"),
    ],
)
def test_nothing_is_asked_for_that_changes_nothing_or_is_not_wanted(given, name, who):
    assert host_memory.with_huge_pages(given, setting=who(name)) is None


def test_an_old_c_library_and_a_system_that_does_not_say_are_asked_for_nothing(monkeypatch, who, tmp_path):
    monkeypatch.setattr(host_memory, "_glibc_version", lambda: (2, 34))
    assert host_memory.with_huge_pages({}, setting=who("madvise")) is None
    monkeypatch.setattr(host_memory, "_glibc_version", lambda: (2, 35))
    assert host_memory.with_huge_pages({}, setting=tmp_path / "none") is None


ASKABLE = pytest.mark.skipif(
    host_memory.with_huge_pages({}) is None, reason="this system gives huge pages to all, or to none"
)


def _started(tmp_path: Path, code: str) -> list[str]:
    """What a program with this code prints, started without huge pages."""
    program = tmp_path / "program.py"
    program.write_text(code)
    bare = {name: value for name, value in os.environ.items() if name != host_memory.TUNABLES}
    command = [sys.executable, str(program), "--seed=3"]
    done = subprocess.run(command, env=bare, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@ASKABLE
def test_a_program_starts_again_once_with_its_arguments_as_the_same_process(tmp_path):
    found = _started(
        tmp_path,
        f"""
import ctypes, os, runpy, sys
print(os.getpid(), flush=True)
host_memory = runpy.run_path({host_memory.__file__!r})
host_memory["restart_in_huge_pages"]()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
ctypes.memset(libc.malloc(64 * 2**20), 1, 64 * 2**20)
lines = open("/proc/self/smaps").read().splitlines()
print(*sys.argv[1:], sum(int(line.split()[1]) for line in lines if line.startswith("AnonHugePages")))
""",
    )
    assert found[:-1] == [found[0], found[0], "--seed=3"]
    assert int(found[-1]) > 32 * 2**10


LAUNCHER = """
import dataclasses
from ddjax.launch import Launcher
from ddjax.launch.settings import Where

@dataclasses.dataclass(frozen=True)
class Config(Where):
    pass

def run(config):
    return {{}}

print("started", flush=True)
{name} = Launcher("mine", "A launcher of one's own.", Config, run=run)
{name}.main()
"""


@ASKABLE
@pytest.mark.parametrize(("name", "starts"), [("LAUNCHER", 2), ("mine", 1)])
def test_only_the_launcher_that_is_the_program_starts_again(name, starts, tmp_path):
    assert _started(tmp_path, LAUNCHER.format(name=name)).count("started") == starts

"""Memory that is freed goes back to the system, as a real process sees it."""

import subprocess
import sys

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

"""Unused memory that the host's C library keeps, and how the library is told to give that memory back."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable

LARGE_BLOCK = 2**22
"""The size in bytes from which a block goes back to the system when the block is freed."""

_M_MMAP_THRESHOLD = -3  # of glibc's malloc.h


def return_freed() -> None:
    """Give memory that has been freed so far back to the system: after compiling LeNet, 30 to 50 MiB.

    Does nothing without glibc.
    """
    trim = _of_glibc("malloc_trim")
    if trim is not None:
        trim(0)


def return_large_blocks() -> None:
    """From now on give every block of at least `LARGE_BLOCK` bytes back to the system as soon as it is freed.

    XLA allocates temporary buffers anew for each call, on the thread that the call runs on, and glibc would
    keep a copy for each of those threads. The setting is for the whole process, so only programs should call
    this function, and libraries should not. Does nothing without glibc.
    """
    set_option = _of_glibc("mallopt")
    if set_option is not None:
        set_option(_M_MMAP_THRESHOLD, LARGE_BLOCK)


def _of_glibc(name: str) -> Callable[..., int] | None:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None

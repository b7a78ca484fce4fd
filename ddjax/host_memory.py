"""What the host's C library keeps of memory that is no longer used, and how it is told to give it back."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable

LARGE_BLOCK = 2**22
"""Bytes from which a block goes back to the system when it is freed."""

_M_MMAP_THRESHOLD = -3  # of glibc's malloc.h


def return_freed() -> None:
    """Give back what has been freed so far: after compiling, 30 to 50 MiB for LeNet. Needs glibc."""
    trim = _of_glibc("malloc_trim")
    if trim is not None:
        trim(0)


def return_large_blocks() -> None:
    """From now on give every large block back as soon as it is freed; for programs, as it is for the process.

    XLA takes its temporary buffers anew for each call, from whichever thread the call runs on, and glibc
    would keep a copy for each of those threads. Nothing without glibc.
    """
    set_option = _of_glibc("mallopt")
    if set_option is not None:
        set_option(_M_MMAP_THRESHOLD, LARGE_BLOCK)


def _of_glibc(name: str) -> Callable[..., int] | None:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None

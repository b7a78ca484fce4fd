"""The memory of the host's C library: what is given back when it is freed, and pages of which size hold it.

Imports nothing but the standard library, so that a program can start again before anything else is imported.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

LARGE_BLOCK = 2**22
"""The size in bytes from which a block goes back to the system when the block is freed."""

TUNABLES = "GLIBC_TUNABLES"
"""The environment variable that glibc reads its settings from, once, when a process starts."""

HUGE_PAGES = "glibc.malloc.hugetlb"
"""The setting by which glibc, from 2.35 on, asks for huge pages for what it allocates; at 1 it does."""

HUGE_PAGES_FILE = Path("/sys/kernel/mm/transparent_hugepage/enabled")
"""Where Linux says whether processes get huge pages always, never, or when they ask (`[madvise]`)."""

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


def with_huge_pages(
    environment: Mapping[str, str], *, setting: Path = HUGE_PAGES_FILE
) -> dict[str, str] | None:
    """The environment of a process whose large blocks lie in huge pages, of 2 MiB on most machines.

    Large products, and steps on large feature maps, take less time on a CPU so, because the processor looks
    up fewer addresses of pages. The numbers that are computed do not change.

    Args:
        environment: the environment of the process as planned.
        setting: the file in which Linux says who gets huge pages.

    Returns:
        The environment with glibc's setting for huge pages; None where the setting would change nothing or is
        not wanted: no Linux, a C library without the setting, a system that gives huge pages to all or to
        none, an environment that has the setting already, or one that names another platform than the CPU.
    """
    given = environment.get(TUNABLES, "")
    elsewhere = "cpu" not in (environment.get("JAX_PLATFORMS") or "cpu")
    if HUGE_PAGES in given or elsewhere or _glibc_version() < (2, 35) or _who_gets(setting) != "madvise":
        return None
    return {**environment, TUNABLES: ":".join(filter(None, (given, f"{HUGE_PAGES}=1")))}


def has_huge_pages() -> bool:
    """Whether large blocks of this process lie in huge pages.

    Returns:
        True where Linux gives huge pages to all processes, or to those that ask, and this process asked.
    """
    asked = any(f"{HUGE_PAGES}={value}" in os.environ.get(TUNABLES, "") for value in (1, 2))
    who = _who_gets(HUGE_PAGES_FILE)
    return who == "always" or (who == "madvise" and asked and _glibc_version() >= (2, 35))


def restart_in_huge_pages() -> None:
    """Start this program again, from its first line and in the same process, with huge pages (`exec`).

    Returns only where that would change nothing, see `with_huge_pages`, or where the system refuses. glibc
    reads its settings when a process starts, hence no other way. Only a program should call this function,
    and before it does anything: whatever it has done would be done twice.
    """
    environment = with_huge_pages(os.environ)
    if environment is None or not sys.executable:
        return
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.flush()
    with contextlib.suppress(OSError):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def _who_gets(setting: Path) -> str:
    """Which processes get huge pages: `"always"`, `"madvise"` or `"never"`, which it is where nobody says."""
    try:
        words = setting.read_text().split()
    except OSError:
        return "never"
    return next((word[1:-1] for word in words if word.startswith("[")), "never")


def _glibc_version() -> tuple[int, ...]:
    """The version of glibc, `(2, 36)`; `(0,)` for another C library."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
        return tuple(int(part) for part in version.split(".")) if name == "glibc" else (0,)
    except (AttributeError, OSError, ValueError):
        return (0,)


def _of_glibc(name: str) -> Callable[..., int] | None:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None

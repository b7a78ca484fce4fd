"""The process of a launcher: exit codes, signals, what is compiled once, what is told."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import jax

from ddjax import parallel
from ddjax.data import cache
from ddjax.run import DivergedError, PreemptedError

EXIT_BAD_INPUT = 2
EXIT_DIVERGED = 3
EXIT_DISK = 74
EXIT_PREEMPTED = 75


def tell(text: str) -> None:
    """Print, from process 0 alone."""
    if parallel.is_lead():
        print(text, flush=True)


def guarded(action: Callable[[], Any]) -> int:
    """Run an action; its errors become a message and the documented exit code.

    Returns:
        0 finished, 2 bad input here or on another process, 3 diverged, 74 the disk is full or cannot be read
        or written, 75 preempted.
    """
    try:
        action()
    except (ValueError, FileNotFoundError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except OSError as error:
        print(f"disk: {error}", file=sys.stderr)
        return EXIT_DISK
    except parallel.PeerError as error:
        print(f"stopped: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except DivergedError as error:
        print(f"diverged: {error}", file=sys.stderr)
        return EXIT_DIVERGED
    except PreemptedError as error:
        print(f"preempted: {error}", file=sys.stderr)
        return EXIT_PREEMPTED
    return 0


def fail_fast(action: Callable[[], int]) -> int:
    """Run an action; an error that it did not expect ends the process at once where others wait for it.

    An ordinary exit would wait for the others before it, and they for this one; without it JAX's runtime
    sees it gone and ends them too.
    """
    try:
        return action()
    except Exception:
        if not jax.distributed.is_initialized():
            raise
        traceback.print_exc()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(1)


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGINT end the process at once, as preempted; not the first one where another handles it.

    The outer loop does, to save before. It is a thread that ends the process, because Python's own handlers
    wait until XLA has compiled or computed what it is at.
    """
    read, write = os.pipe()
    os.set_blocking(write, False)

    def handle(number: int, frame: Any) -> None:
        """Nothing: Python writes the signal's number to the pipe before it calls this."""

    def watch() -> None:
        is_asked = False
        while number := os.read(read, 1):
            if number[0] not in previous:
                continue
            if is_asked or signal.getsignal(number[0]) is handle:
                name = signal.Signals(number[0]).name
                text = f"\npreempted: {name} came; what was saved is. Run the same command again.\n"
                os.write(2, text.encode())
                os._exit(EXIT_PREEMPTED)
            is_asked = True
        os.close(read)

    previous: dict[int, Any] = {}
    threading.Thread(target=watch, daemon=True, name="signals").start()
    waker = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    previous |= {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(waker)
        os.close(write)


def keep_compilations() -> None:
    """Let the next run find what this one compiles, unless the user has said where or that it must not."""
    if jax.config.values["jax_compilation_cache_dir"] is None:
        jax.config.update("jax_compilation_cache_dir", str(cache.directory() / "xla"))
        # Small programs too: there are dozens, which together take longer than loading the large one.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)

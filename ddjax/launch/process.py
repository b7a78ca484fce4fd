"""The process of a launcher: exit codes, signals, the cache of compilations, messages."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any, TextIO

import jax

from ddjax import parallel, platforms
from ddjax.data import cache
from ddjax.run import DivergedError, PreemptedError

EXIT_BAD_INPUT = 2
EXIT_DIVERGED = 3
EXIT_DISK = 74
EXIT_PREEMPTED = 75


_IN_ASCII = {
    "±": "+/-",
    "×": "x",
    "·": "*",
    "–": "-",
    "−": "-",
    "…": "...",
    "→": "->",
    "≥": ">=",
    "≤": "<=",
    "²": "^2",
    "∇": "grad ",
    "η": "eta",
    "θ": "theta",
    "φ": "phi",
    "λ": "lambda",
    "∞": "inf",
}
"""What stands for a character of our messages where the terminal has no such character."""

_PLAIN = "ddjax.plain"


def _plain(error: UnicodeError) -> tuple[str, int]:
    """What is written in the place of characters that an encoding does not have; a handler for `codecs`."""
    assert isinstance(error, UnicodeEncodeError)
    missing = error.object[error.start : error.end]
    return "".join(_IN_ASCII.get(one, "?") for one in missing), error.end


codecs.register_error(_PLAIN, _plain)


class Surviving(io.TextIOBase):
    """A text stream for messages, to which no write fails.

    Characters that the encoding lacks are replaced. Once nobody reads the stream any more, as after `| head`,
    or the disk of a log is full, messages are dropped: what a run computes does not depend on who watches.

    Args:
        stream: the stream to write to.
    """

    def __init__(self, stream: TextIO):
        self._stream = stream
        self._is_open = True

    @property
    def encoding(self) -> str:  # type: ignore[override] (typeshed has a plain attribute here)
        """The encoding of the stream."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        """Write a text as far as possible.

        Args:
            text: the text.

        Returns:
            The length of the text.
        """
        written = text.encode(self.encoding, _PLAIN).decode(self.encoding)
        self._attempt(lambda: self._stream.write(written))
        return len(text)

    def flush(self) -> None:
        """Hand what was written to the operating system, as far as possible."""
        self._attempt(self._stream.flush)

    def _attempt(self, action: Callable[[], Any]) -> None:
        if not self._is_open:
            return
        try:
            action()
        except (OSError, ValueError):  # a closed file raises a ValueError
            self._is_open = False
            # What the stream still holds would fail again when the process ends.
            with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """The descriptor of the stream."""
        return self._stream.fileno()

    def writable(self) -> bool:
        """That the stream can be written to."""
        return True


@contextlib.contextmanager
def surviving_messages() -> Iterator[None]:
    """Let messages survive any encoding of the terminal, and a reader that goes away."""
    streams = sys.stdout, sys.stderr
    # A program without a console has None for its streams.
    sys.stdout, sys.stderr = (stream and Surviving(stream) for stream in streams)  # type: ignore[assignment] (None)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # a process without a terminal may have no streams
                stream.flush()
        sys.stdout, sys.stderr = streams


def tell(text: str) -> None:
    """Print a text, from process 0 alone.

    Args:
        text: the text.
    """
    if parallel.is_lead():
        print(text, flush=True)


def introduce(text: str) -> None:
    """Print what a run is going to do, from process 0 alone, and a warning where a GPU lies idle.

    Args:
        text: the text.
    """
    tell(text)
    if parallel.is_lead() and (warning := platforms.overlooked()) is not None:
        print(warning, file=sys.stderr, flush=True)


def guarded(action: Callable[[], Any]) -> int:
    """Run an action; turn the errors it may raise into a message and the documented exit code.

    Args:
        action: the function to run.

    Returns:
        The exit code: 0 finished, 2 bad input here or on another process, 3 diverged, 74 the disk is full or
        cannot be read or written, 75 preempted.
    """
    try:
        action()
    except UnicodeEncodeError:
        raise  # a ValueError, but of a text that was to be written: no fault of the input
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
    """Run an action; end the process at once on an unexpected error where other processes wait for this one.

    An ordinary exit would first wait for the other processes, while they wait for this one. When this process
    ends at once, JAX's runtime sees that it is gone and ends the others too.

    Args:
        action: the function to run.

    Returns:
        What the action returns.
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
    """Let SIGTERM and SIGINT end the process at once with the exit code of a preempted run.

    The first signal is left to another handler where one is installed: the outer loop has one, which saves
    before the run ends; a second signal ends the process in any case. A thread ends the process, because
    Python's own handlers wait until XLA has finished the compilation or computation that it is busy with.
    """
    read, write = os.pipe()
    os.set_blocking(write, False)

    def handle(number: int, frame: Any) -> None:
        """Do nothing: Python writes the signal's number to the pipe before it calls this."""

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
    """Keep compiled programs in a cache on disk, where the next run finds them.

    A directory that the user has set, or an empty one that switches the cache off, stays as it is.
    """
    if jax.config.values["jax_compilation_cache_dir"] is None:
        jax.config.update("jax_compilation_cache_dir", str(cache.directory() / "xla"))
        # Small programs too: there are dozens, which together take longer than loading the large one.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)

"""Progress: a line on stderr that says how far some work is and how long the rest will take."""

from __future__ import annotations

import math
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

import numpy as np

from ddjax.report import format_duration


def is_notebook() -> bool:
    """Whether the program runs in a notebook, whose stderr is shown to a person but is no terminal."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and hasattr(shell, "kernel")


def is_watched() -> bool:
    """Whether a person is likely to see what is written to stderr: on a terminal, and in a notebook."""
    stream = sys.stderr  # a program without a console has none
    return stream is not None and (stream.isatty() or is_notebook())


class Progress:
    """A line on stderr that says how far some work is. A context manager.

    On a terminal and in a notebook one line is rewritten in place; elsewhere (a log) a new line comes every
    ten seconds at most. The first and the last unit of work are always shown, unless `patience` is above
    zero. The speed is measured from the first update on, so that compilation does not distort it.

    Attributes:
        is_quiet: whether nothing is shown.

    Args:
        total: the number of units of the whole work.
        unit: the name of a unit of work.
        patience: the seconds from the start of the work until the first line is shown; short work shows none.
        is_kept: whether the last line stays on a terminal; a line that does not stay is wiped at the end.
        quiet: whether nothing is shown.
        stream: the text stream to write to; stderr when None.
        clock: a function that returns the time in seconds, which never decreases.
    """

    def __init__(
        self,
        total: int,
        *,
        unit: str = "step",
        patience: float = 0.0,
        is_kept: bool = True,
        quiet: bool = False,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._total = total
        self._unit = unit
        self._is_kept = is_kept
        self._stream = sys.stderr if stream is None else stream
        self.is_quiet = quiet or self._stream is None
        self._clock = clock
        is_shown_anew = self._stream is not None and self._stream.isatty()
        self._in_place = is_shown_anew or (stream is None and is_notebook())
        self._not_before = clock() + patience if patience else -math.inf
        self._first: tuple[int, float] | None = None
        self._shown = -math.inf
        self._val_accuracy: float | None = None
        self._length = 0
        self._line_open = False

    def update(
        self,
        done: int,
        *,
        loss: float | None = None,
        lrs: Sequence[float] | np.ndarray | None = None,
        val_accuracy: float | None = None,
    ) -> None:
        """Report that some units of work are done.

        Args:
            done: the number of units that are done.
            loss: the latest loss; None shows none.
            lrs: the learning rates `[T]`, of which the smallest and the largest are shown; None shows none.
            val_accuracy: the accuracy on the validation split, in percent; stays in the line until the next
                accuracy is given.
        """
        now = self._clock()
        self._first = self._first or (done, now)
        self._val_accuracy = self._val_accuracy if val_accuracy is None else val_accuracy
        pause = 0.1 if self._in_place else 10.0
        is_soon = now - self._shown < pause and done < self._total
        if self.is_quiet or is_soon or now < self._not_before:
            return
        self._shown = now
        parts = [f"{self._unit} {done}/{self._total}"]
        parts += [] if loss is None else [f"loss {loss:.3g}"]
        parts += [] if lrs is None or len(lrs) == 0 else [f"lr {_format_range(lrs)}"]
        parts += [] if self._val_accuracy is None else [f"val {self._val_accuracy:.1f} %"]
        self._show("  ".join(parts + self._speed(done, now)))

    def update_with(self, record: Mapping[str, Any]) -> None:
        """Report the outer step of a record of the metrics.

        Args:
            record: the record, with `step` and, where they exist, `loss`, `lrs` and `val_accuracy`.
        """
        names = ("loss", "lrs", "val_accuracy")
        self.update(record["step"], **{name: record.get(name) for name in names})

    def say(self, text: str) -> None:
        """Write a text on a line of its own.

        Args:
            text: the text.
        """
        if not self.is_quiet:
            self.close()
            print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """End the line, so that what is printed next starts on a line of its own."""
        if not self._line_open:
            return
        if self._is_kept:
            print(file=self._stream, flush=True)
        else:
            print(f"\r{' ' * self._length}\r", end="", file=self._stream, flush=True)
        self._line_open, self._length = False, 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _speed(self, done: int, now: float) -> list[str]:
        assert self._first is not None
        units, seconds = done - self._first[0], now - self._first[1]
        if units <= 0 or seconds <= 0:
            return []
        speed = f"{units / seconds:.3g} {self._unit}s/s"
        if done >= self._total:
            return [speed]
        return [speed, f"time left {format_duration((self._total - done) * seconds / units)}"]

    def _show(self, line: str) -> None:
        if not self._in_place:
            print(line, file=self._stream, flush=True)
            return
        # A line that wraps could not be rewritten in place. Blanks, because a notebook erases no line.
        line = line[: shutil.get_terminal_size().columns - 1]
        print(f"\r{line}{' ' * (self._length - len(line))}", end="", file=self._stream, flush=True)
        self._line_open, self._length = True, len(line)


def _format_range(values: Sequence[float] | np.ndarray) -> str:
    low, high = f"{min(values):.2g}", f"{max(values):.2g}"
    return low if low == high else f"{low}..{high}"

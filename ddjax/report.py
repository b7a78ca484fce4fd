"""Tables and metrics: how a run reports on its work. Nothing here depends on a method."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import math
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ddjax import host_memory
from ddjax.files import StrPath, append, write_atomic
from ddjax.version import __version__

Record = dict[str, Any]
"""A line of metrics.jsonl: those of `step`, `loss`, `grad_norm`, `clipped`, `lrs` `[T]`, the method's own
diagnostics and `val_accuracy` (percent) that were measured; or the report of a `rollback`."""


# Tables.


def table(rows: Sequence[Sequence[Any]], headers: Sequence[str]) -> str:
    """An aligned plain-text table; columns of numbers are aligned to the right.

    Args:
        rows: the cells of each row, turned into text by `str`; every row is as long as `headers`.
        headers: the names of the columns, which make the first line.

    Returns:
        The lines of the table, joined by newlines.

    Raises:
        ValueError: a row is shorter or longer than `headers`.
    """
    cells, right, widths = _layout(rows, headers)
    ruled = [cells[0], ["-" * width for width in widths], *cells[1:]]
    return "\n".join("  ".join(map(_pad, row, right, widths)).rstrip() for row in ruled)


def _layout(
    rows: Sequence[Sequence[Any]], headers: Sequence[str]
) -> tuple[list[list[str]], list[bool], list[int]]:
    """All cells as text, headers first; for each column, whether it holds numbers, and its width."""
    for row in rows:
        if len(row) != len(headers):
            raise ValueError(
                f"table: expected {len(headers)} cells in a row; got {len(row)}: {list(row)!r}. "
                "Give a cell for every header."
            )
    cells = [[str(cell) for cell in row] for row in [headers, *rows]]
    columns = list(zip(*cells, strict=True))
    right = [len(column) > 1 and all(_is_number(cell) for cell in column[1:]) for column in columns]
    return cells, right, [max(map(len, column)) for column in columns]


def _is_number(cell: str) -> bool:
    return cell == "" or cell[0].isdigit() or (cell[0] in "+-−." and cell[1:2] in "0123456789.")


def _pad(cell: str, right: bool, width: int) -> str:
    return cell.rjust(width) if right else cell.ljust(width)


def format_mean_std(values: Iterable[float], *, digits: int = 1) -> str:
    """Mean and population standard deviation as text, e.g. `"79.5 ± 1.2"`.

    Args:
        values: the numbers to summarise.
        digits: the number of digits after the decimal point.

    Returns:
        The text.

    Raises:
        ValueError: there are no values.
    """
    array = np.asarray(list(values), np.float64)
    if array.size == 0:
        raise ValueError("format_mean_std: expected at least one value; got none.")
    return f"{array.mean():.{digits}f} ± {array.std():.{digits}f}"


def format_score(score: Mapping[str, Any], *, digits: int = 1) -> str:
    """A score of a record as text, e.g. `"79.5 ± 1.2"`, or `"63.6 ± 31.8, 1 of 5 diverged"`.

    Args:
        score: the score, with `values`, and with `diverged` where the record counts diverged networks.
        digits: the number of digits after the decimal point.

    Returns:
        The text.
    """
    values, diverged = score["values"], score.get("diverged", 0)
    lost = f", {diverged} of {len(values)} diverged" if diverged else ""
    return format_mean_std(values, digits=digits) + lost


# Records on disk.


def write_json(path: StrPath, obj: Any) -> None:
    """Write an object as indented JSON, whole or not at all.

    Arrays become lists, and paths become text. NaN and infinities become null, because JSON has no word for
    them.

    Args:
        path: the file to write.
        obj: the object to write.

    Raises:
        TypeError: something in `obj` has no JSON form.
        OSError: the file could not be written; what was there is untouched.
    """
    write_atomic(path, (json.dumps(_jsonable(obj), indent=2, allow_nan=False) + "\n").encode())


def _jsonable(obj: Any) -> Any:
    """The object with every part in a type that JSON knows."""
    if isinstance(obj, Mapping):
        return {str(key): _jsonable(value) for key, value in obj.items()}
    if isinstance(obj, (list, tuple)):
        return [_jsonable(value) for value in obj]
    if isinstance(obj, float):
        return obj if math.isfinite(obj) else None
    if isinstance(obj, (np.ndarray, np.generic, jax.Array)):
        return _jsonable(obj.tolist())
    return os.fspath(obj) if isinstance(obj, os.PathLike) else obj


def read_metrics(path: StrPath) -> list[Record]:
    """The records of a metrics.jsonl, without a last line that a crash left incomplete.

    Args:
        path: the metrics.jsonl to read.

    Returns:
        The records in the order of the file; an empty list where there is no file.
    """
    return [json.loads(line) for line in _whole_lines(Path(path))]


def _whole_lines(path: Path) -> list[bytes]:
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    return [line for line in lines if line.endswith(b"\n")]


class MetricsWriter:
    """Appends records to a metrics.jsonl, each handed to the operating system at once. A context manager.

    A last line that an earlier crash left incomplete is dropped when the file is opened.

    Args:
        path: the metrics.jsonl to append to; created where it is missing.
        tensorboard: the directory for TensorBoard events of the same numbers; None writes no events.

    Raises:
        ImportError: `tensorboard` is given, and no writer of TensorBoard events is installed.
    """

    def __init__(self, path: StrPath, *, tensorboard: StrPath | None = None):
        self._path = Path(path)
        self._events = None if tensorboard is None else tensorboard_writer(tensorboard)
        # Unbuffered: a line that found the disk full must not come back when the file is closed.
        self._file = self._path.open("ab", buffering=0)
        self.truncate(sum(map(len, _whole_lines(self._path))))

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record; NaN and infinities are written as null.

        Args:
            record: the numbers of one outer step, see `Record`.

        Raises:
            OSError: the line could not be written, e.g. because the disk is full; the lines before this one
                are as they were.
        """
        clean = _jsonable(record)
        append(self._path, self._file.fileno(), json.dumps(clean, allow_nan=False).encode() + b"\n")
        if self._events is not None:
            _write_events(self._events, clean)

    def sync(self) -> None:
        """Force what was written so far onto the disk; another thread may write meanwhile."""
        os.fsync(self._file.fileno())

    @property
    def position(self) -> int:
        """The length of the file in bytes."""
        return os.fstat(self._file.fileno()).st_size

    def truncate(self, position: int) -> None:
        """Drop what lies beyond a position, because a run that resumes there writes those records again.

        Args:
            position: the length in bytes that the file is cut to; a shorter file stays as it is.
        """
        if position < self.position:
            self._file.truncate(position)

    def close(self) -> None:
        """Close the file; nothing can be written after."""
        self._file.close()
        if self._events is not None:
            self._events.close()

    def __enter__(self) -> MetricsWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def tensorboard_writer(directory: StrPath) -> Any:
    """A `SummaryWriter` of the first installed package that has one: tensorboardX, else PyTorch.

    Args:
        directory: the directory for the event files.

    Returns:
        The writer.

    Raises:
        ImportError: neither package is installed.
    """
    return _summary_writer()(os.fspath(directory))


def check_tensorboard() -> None:
    """Refuse TensorBoard events where nothing can write them.

    Raises:
        ImportError: neither tensorboardX nor PyTorch with tensorboard is installed.
    """
    _summary_writer()


def _summary_writer() -> Any:
    """The class `SummaryWriter` of the first installed package that has one."""
    for module in ("tensorboardX", "torch.utils.tensorboard"):
        try:
            return importlib.import_module(module).SummaryWriter
        except ImportError:
            continue
    raise ImportError(
        "TensorBoard events: expected the package tensorboardX, or PyTorch with tensorboard; got neither. "
        "Run `pip install tensorboardX`, or leave TensorBoard off; metrics.jsonl holds the same numbers."
    )


def _write_events(events: Any, record: Record) -> None:
    """Write each number of a record as a scalar, and each element of a list as a scalar of its own."""
    step = record["step"]
    for name, value in record.items():
        many = isinstance(value, list)
        for index, scalar in enumerate(value if many else [value]):
            if name != "step" and isinstance(scalar, (int, float)):
                events.add_scalar(f"{name}/{index}" if many else name, scalar, step)
    events.flush()


def format_duration(seconds: float) -> str:
    """A duration as text, e.g. `"42s"`, `"2m51s"` or `"3h05m"`.

    Args:
        seconds: the duration in seconds.

    Returns:
        The text; seconds are left out from an hour on.
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


# What a number was made on.


def hardware() -> dict[str, Any]:
    """The machine, for a result's record.

    Initialises JAX's backend if nothing has done so yet.

    Returns:
        The platform, the model of the CPU, the number of cores that this process may use, the memory in GiB
        (None where the system does not say), whether large blocks of it lie in huge pages, the platform, kind
        and number of JAX's devices, and the number of its processes.
    """
    devices = jax.devices()
    return {
        "platform": platform.platform(),
        "cpu": _cpu_model(),
        "cpu_cores": available_cores(),
        "memory_gib": _memory_gib(),
        "huge_pages": host_memory.has_huge_pages(),
        "device_platform": devices[0].platform,
        "device_kind": devices[0].device_kind,
        "device_count": len(devices),
        "process_count": jax.process_count(),
    }


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def available_cores() -> int:
    """The number of CPU cores that this process may use, on which XLA for CPUs has its threads.

    Returns:
        The number, at least one.
    """
    # Where the system has no notion of affinity, every core is available.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory_gib() -> float | None:
    if not hasattr(os, "sysconf"):
        return None
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)


def versions() -> dict[str, str]:
    """The versions that a result depends on.

    Returns:
        The versions of Python, jax, jaxlib, flax, optax, numpy and ddjax, by name.
    """
    packages = ("jax", "jaxlib", "flax", "optax", "numpy")
    found = {name: importlib.metadata.version(name) for name in packages}
    return {"python": platform.python_version(), **found, "ddjax": __version__}


__all__ = [
    "MetricsWriter",
    "Record",
    "check_tensorboard",
    "format_duration",
    "format_mean_std",
    "format_score",
    "hardware",
    "read_metrics",
    "table",
    "tensorboard_writer",
    "versions",
    "write_json",
]

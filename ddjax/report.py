"""Figures, tables, metrics and progress: how a run shows itself. Knows nothing of methods.

matplotlib is imported by the functions that draw, and without pyplot: no window, no global state.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import math
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import jax
import numpy as np

from ddjax.files import write_atomic
from ddjax.version import __version__

StrPath = str | os.PathLike[str]
Record = dict[str, Any]
"""A line of metrics.jsonl: `step`, and any of `loss`, `lrs` `[T]`, `val_accuracy` (percent), `grad_norm`,
`seconds`."""

_DPI = 100
_INK = "#30343b"
_FAINT = "#c9cdd4"


# Pictures of distilled images.


def image_grid(
    path: StrPath,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    mean: np.ndarray,
    std: np.ndarray,
    class_names: Sequence[str] | None = None,
    title: str | None = None,
) -> None:
    """Write a PNG of distilled images: one row a step, a label for every image.

    Pixels are shown as `x * std + mean`, the scale of the real images, clipped to [0, 1]. Distilled pixels
    often leave that range; clipping keeps black black and lets the grid be compared with real images and
    with other grids, where stretching each image to its own extremes would let one outlying pixel turn
    the rest to grey and would show the faint noise of an untouched image as a strong pattern.

    Args:
        path: the PNG to write.
        images: `[S, B, H, W, C]` float, normalised; C = 3 is drawn in colour, any other number in grey
            (the mean over channels).
        labels: `[S, B, K]` float probabilities; an image is named after its likeliest class, with the
            probability where that is below one.
        mean: `[C]`, of pixel / 255.
        std: `[C]`, of pixel / 255.
        class_names: K names; the class numbers when None.
        title: a line above the grid.

    Raises:
        ValueError: `images` and `labels` are not of these shapes.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    if images.ndim != 5 or labels.ndim != 3 or images.shape[:2] != labels.shape[:2]:
        raise ValueError(
            "image_grid: expected images [S, B, H, W, C] and labels [S, B, K]; "
            f"got {images.shape} and {labels.shape}. Give both the same two leading axes."
        )
    pixels = to_pixels(images, mean, std)
    side = int(np.clip(1600 // images.shape[1], 32, 96))
    _draw_grid(path, _resize(pixels, side), _label_texts(labels, class_names), title)


def to_pixels(images: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Normalised images `[..., C]` as RGB `[..., 3]` in [0, 1]: de-normalised and clipped; NaN becomes 0."""
    pixels = np.asarray(images, np.float32) * np.asarray(std, np.float32) + np.asarray(mean, np.float32)
    pixels = np.clip(np.nan_to_num(pixels, nan=0.0), 0.0, 1.0)
    if pixels.shape[-1] != 3:
        pixels = np.repeat(pixels.mean(axis=-1, keepdims=True), 3, axis=-1)
    return pixels


def _resize(pixels: np.ndarray, side: int) -> np.ndarray:
    """Images `[S, B, H, W, 3]` at about `side` pixels: small ones repeated, large ones averaged in blocks."""
    height, width = pixels.shape[2:4]
    repeats = side // max(height, width)
    if repeats >= 1:
        return pixels.repeat(repeats, axis=2).repeat(repeats, axis=3)
    block = min(math.ceil(max(height, width) / side), height, width)
    rows, columns = height // block, width // block
    cropped = pixels[:, :, : rows * block, : columns * block]
    return cropped.reshape(*pixels.shape[:2], rows, block, columns, block, 3).mean(axis=(3, 5))


def _label_texts(labels: np.ndarray, class_names: Sequence[str] | None) -> list[list[str]]:
    """What is written at each image, `[S][B]`."""

    def text(probabilities: np.ndarray) -> str:
        index = int(probabilities.argmax())
        name = str(index) if class_names is None else str(class_names[index])
        percent = round(100 * float(probabilities[index]))
        return name if percent == 100 else f"{name} {percent}%"

    return [[text(row) for row in step] for step in np.nan_to_num(labels)]


def _draw_grid(path: StrPath, tiles: np.ndarray, texts: list[list[str]], title: str | None) -> None:
    """Draw tiles `[S, B, h, w, 3]`, one screen pixel per array pixel, and their labels."""
    from matplotlib.figure import Figure

    steps, count, height, width, _ = tiles.shape
    font = float(np.clip(0.16 * width, 8, 13))
    longest = max(len(text) for row in texts for text in row) * 0.6 * font
    # One header for all rows where the columns agree, else a line above every image.
    shared = all(row == texts[0] for row in texts)
    turned = shared and longest > width
    gap = 4 if width < 64 else 6
    caption = gap if shared else round(1.6 * font)
    header = round((longest if turned else font) + 8) if shared else 0
    left, top, border = round(4.6 * font), header + (round(2.2 * font) if title else 6), 10
    canvas = np.ones((steps * (height + caption), count * (width + gap) - gap, 3), np.float32)
    for (step, index), x, y in _places(steps, count, width + gap, height + caption, caption):
        canvas[y : y + height, x : x + width] = tiles[step, index]

    full = (left + canvas.shape[1] + border, top + canvas.shape[0] + border)
    full = (max(full[0], left + round(0.95 * font * len(title or ""))), full[1])
    figure = Figure(figsize=(full[0] / _DPI, full[1] / _DPI), dpi=_DPI, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, full[0]), ylim=(full[1], 0), zorder=1, facecolor="none")
    axes.set_axis_off()
    figure.figimage(canvas, xo=left, yo=full[1] - top - canvas.shape[0], origin="upper")
    points = font * 72 / _DPI
    style: dict[str, Any] = {"fontsize": points, "color": _INK}
    for (step, index), x, y in _places(steps, count, width + gap, height + caption, caption):
        if index == 0:
            middle = top + y + height / 2
            axes.text(left - 8, middle, f"step {step + 1}", ha="right", va="center", **style)
        if shared and step > 0:
            continue
        middle = left + x + width / 2
        words = texts[step][index] if shared else _shorten(texts[step][index], width, font)
        rotation = 90 if turned else 0
        axes.text(middle, top + y - 4, words, ha="center", va="bottom", rotation=rotation, **style)
    if title:
        axes.text(left, 0.9 * font, title, va="top", fontsize=1.25 * points, weight="bold", color=_INK)
    _save(path, figure)


def _places(steps: int, count: int, across: int, down: int, caption: int):
    """Every tile's `(step, index)` and the x and y of its upper left corner."""
    for step, index in np.ndindex(steps, count):
        yield (step, index), index * across, step * down + caption


def _shorten(text: str, width: float, font: float) -> str:
    """The text, cut where it would run into its neighbour."""
    room = max(1, int(width / (0.6 * font)))
    return text if len(text) <= room else text[: max(1, room - 1)] + "…"


def _save(path: StrPath, figure: Any) -> None:
    write_atomic(path, lambda file: figure.savefig(file, format="png"))


# Curves.


def curves(path: StrPath, records: Sequence[Mapping[str, Any]], *, title: str | None = None) -> None:
    """Write a PNG of loss, validation accuracy and learning rates over the outer steps.

    A panel whose quantity no record holds is left out; null (NaN) values are gaps.

    Args:
        path: the PNG to write.
        records: lines of metrics.jsonl in any number, see `Record`; as `read_metrics` returns them.
        title: a line above the panels.
    """
    from matplotlib.figure import Figure

    panels: list[tuple[str, str, Callable[..., None]]] = [
        ("loss", "loss", _draw_loss),
        ("val_accuracy", "validation\naccuracy, %", _draw_accuracy),
        ("lrs", "learning rates", _draw_lrs),
    ]
    panels = [panel for panel in panels if any(r.get(panel[0]) is not None for r in records)] or panels[:1]
    size = (8.0, 0.6 + 2.2 * len(panels))
    figure = Figure(figsize=size, dpi=_DPI, facecolor="white", layout="constrained")
    rows = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (field, label, draw) in zip(rows, panels, strict=True):
        axes.set_ylabel(label, color=_INK)
        axes.grid(color=_FAINT, linewidth=0.6, alpha=0.7)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=_INK, labelsize=9)
        draw(axes, *_series(records, field))
    rows[-1].set_xlabel("outer step", color=_INK)
    if title:
        figure.suptitle(title, fontsize=11, weight="bold", color=_INK)
    _save(path, figure)


def _series(records: Sequence[Mapping[str, Any]], field: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps `[n]` and values `[n]` or `[n, T]` of the records that hold the field; null is NaN."""
    found = [(record["step"], record[field]) for record in records if record.get(field) is not None]
    steps = np.array([step for step, _ in found], np.float64)
    return steps, np.array([value for _, value in found], np.float64)


def _draw_loss(axes: Any, steps: np.ndarray, values: np.ndarray) -> None:
    """The loss, with a running median through it where there are many points."""
    window = len(values) // 20
    many = window >= 3
    axes.plot(steps, values, color="#9db8dd" if many else "#2f6db5", linewidth=0.9 if many else 1.6)
    if many:
        padded = np.pad(values, (window // 2, window - 1 - window // 2), mode="edge")
        smooth = np.median(np.lib.stride_tricks.sliding_window_view(padded, window), axis=1)
        axes.plot(steps, smooth, color="#2f6db5", linewidth=1.8)
    _log_if_wide(axes, values)


def _draw_accuracy(axes: Any, steps: np.ndarray, values: np.ndarray) -> None:
    """The accuracy, its best marked: that is the φ that is kept."""
    axes.plot(steps, values, color="#2e8b57", linewidth=1.6, marker="o", markersize=3.5)
    if not np.isfinite(values).any():
        return
    best = int(np.nanargmax(values))
    axes.plot(steps[best], values[best], "o", color="#d1495b", markersize=7, zorder=3)
    text = f"best: {values[best]:.1f} % at step {steps[best]:.0f}"
    # Curves that rise leave this corner free.
    axes.text(0.99, 0.06, text, transform=axes.transAxes, ha="right", fontsize=9, color="#d1495b")


def _draw_lrs(axes: Any, steps: np.ndarray, values: np.ndarray) -> None:
    """One line for each of the T inner steps, dark for the first, light for the last."""
    from matplotlib import cm, colormaps, colors

    count = values.shape[1]
    shades = colors.Normalize(0, max(count - 1, 1) / 0.9)
    palette = colormaps["viridis"]
    for index in range(count):
        axes.plot(steps, values[:, index], color=palette(shades(index)), linewidth=1.3, label=f"{index + 1}")
    _log_if_wide(axes, values)
    if 1 < count <= 10:
        axes.legend(title="inner step", ncols=2, fontsize=8, title_fontsize=8, frameon=False, loc="best")
    elif count > 10:
        scale = cm.ScalarMappable(colors.Normalize(1, count), palette)
        axes.figure.colorbar(scale, ax=axes, label="inner step", pad=0.01)


def _log_if_wide(axes: Any, values: np.ndarray) -> None:
    """A logarithmic axis where a linear one would flatten most of the curve."""
    finite = values[np.isfinite(values)]
    if finite.size and finite.min() > 0 and finite.max() > 20 * finite.min():
        axes.set_yscale("log")


# Tables.


def table(rows: Sequence[Sequence[Any]], headers: Sequence[str]) -> str:
    """An aligned plain-text table; columns of numbers stand to the right.

    Args:
        rows: cells, made text by `str`; every row as long as `headers`.
        headers: the first line.

    Raises:
        ValueError: a row is shorter or longer than `headers`.
    """
    cells, right, widths = _layout(rows, headers)
    ruled = [cells[0], ["-" * width for width in widths], *cells[1:]]
    return "\n".join("  ".join(map(_pad, row, right, widths)).rstrip() for row in ruled)


def markdown_table(rows: Sequence[Sequence[Any]], headers: Sequence[str]) -> str:
    """The same table in Markdown.

    Args:
        rows: cells, made text by `str`; every row as long as `headers`.
        headers: the first line.

    Raises:
        ValueError: a row is shorter or longer than `headers`.
    """
    cells, right, _ = _layout(rows, headers)
    lines = ["| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in cells]
    lines.insert(1, "|" + "|".join("---:" if flag else "---" for flag in right) + "|")
    return "\n".join(lines)


def _layout(
    rows: Sequence[Sequence[Any]], headers: Sequence[str]
) -> tuple[list[list[str]], list[bool], list[int]]:
    """All cells as text with the headers first, and of each column whether it holds numbers and its width."""
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
    """`"79.5 ± 1.2"`: mean and population standard deviation.

    Raises:
        ValueError: there are no values.
    """
    array = np.asarray(list(values), np.float64)
    if array.size == 0:
        raise ValueError("format_mean_std: expected at least one value; got none.")
    return f"{array.mean():.{digits}f} ± {array.std():.{digits}f}"


# Records on disk.


def write_json(path: StrPath, obj: Any) -> None:
    """Write an object as indented JSON, whole or not at all.

    Arrays become lists, paths text, and NaN and infinities null: JSON has no other word for them.

    Raises:
        TypeError: something in `obj` has no JSON form.
    """
    write_atomic(path, (json.dumps(_jsonable(obj), indent=2, allow_nan=False) + "\n").encode())


def _jsonable(obj: Any) -> Any:
    """`obj` in types that JSON knows."""
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
    """The records of a metrics.jsonl, without a last line that a crash tore; none where there is no file."""
    return [json.loads(line) for line in _whole_lines(Path(path))]


def _whole_lines(path: Path) -> list[bytes]:
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    return [line for line in lines if line.endswith(b"\n")]


class MetricsWriter:
    """Appends records to a metrics.jsonl, each on disk's way the moment it is written.

    A line torn by an earlier crash is dropped on opening. A context manager.

    Args:
        path: the file; created where it is missing.
        tensorboard: a directory for TensorBoard events of the same numbers; none when None.

    Raises:
        ImportError: TensorBoard is asked for and no writer of its events is installed.
    """

    def __init__(self, path: StrPath, *, tensorboard: StrPath | None = None):
        self._path = Path(path)
        self._events = None if tensorboard is None else tensorboard_writer(tensorboard)
        lines = _whole_lines(self._path)
        if self._path.exists() and sum(map(len, lines)) < self._path.stat().st_size:
            write_atomic(self._path, b"".join(lines))
        self._file = self._path.open("ab")

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record, see `Record`; NaN and infinities are written as null."""
        clean = _jsonable(record)
        self._file.write(json.dumps(clean, allow_nan=False).encode() + b"\n")
        self._file.flush()
        if self._events is not None:
            _write_events(self._events, clean)

    def truncate_after(self, step: int) -> None:
        """Drop the records beyond `step`, in one piece: a run that resumes there writes them again."""
        self._file.close()
        lines = [line for line in _whole_lines(self._path) if json.loads(line)["step"] <= step]
        write_atomic(self._path, b"".join(lines))
        self._file = self._path.open("ab")

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
    """A `SummaryWriter` of the first package at hand that has one: tensorboardX, else PyTorch's.

    Raises:
        ImportError: neither is installed.
    """
    for module in ("tensorboardX", "torch.utils.tensorboard"):
        try:
            return importlib.import_module(module).SummaryWriter(os.fspath(directory))
        except ImportError:
            continue
    raise ImportError(
        "TensorBoard events: expected the package tensorboardX, or PyTorch with tensorboard; got neither. "
        "Run `pip install tensorboardX`, or leave TensorBoard off; metrics.jsonl holds the same numbers."
    )


def _write_events(events: Any, record: Record) -> None:
    """Numbers as scalars, lists of numbers as one scalar each."""
    step = record["step"]
    for name, value in record.items():
        many = isinstance(value, list)
        for index, scalar in enumerate(value if many else [value]):
            if name != "step" and isinstance(scalar, (int, float)):
                events.add_scalar(f"{name}/{index}" if many else name, scalar, step)
    events.flush()


# Progress.


class Progress:
    """A line on stderr that says how far a run is and how long it will still take.

    On a terminal one line is rewritten in place; elsewhere (a log) a new line comes every ten seconds at
    most. The first and the last step are always shown. The speed is that since the first update, so that
    compilation does not spoil it.

    Args:
        total: the last outer step.
        quiet: show nothing.
        stream: where to; stderr when None.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        total: int,
        *,
        quiet: bool = False,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._total = total
        self._quiet = quiet
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._in_place = self._stream.isatty()
        self._first: tuple[int, float] | None = None
        self._shown = -math.inf
        self._val_accuracy: float | None = None
        self._line_open = False

    def update(
        self,
        step: int,
        *,
        loss: float | None = None,
        lrs: Sequence[float] | np.ndarray | None = None,
        val_accuracy: float | None = None,
    ) -> None:
        """Report that `step` outer steps are done.

        Args:
            step: steps done, of `total`.
            loss: the latest.
            lrs: `[T]`; their smallest and largest are shown.
            val_accuracy: in percent; stays in the line until the next one comes.
        """
        now = self._clock()
        self._first = self._first or (step, now)
        self._val_accuracy = self._val_accuracy if val_accuracy is None else val_accuracy
        pause = 0.1 if self._in_place else 10.0
        if self._quiet or (now - self._shown < pause and step < self._total):
            return
        self._shown = now
        parts = [f"step {step}/{self._total}"]
        parts += [] if loss is None else [f"loss {loss:.3g}"]
        parts += [] if lrs is None or len(lrs) == 0 else [f"lr {_format_range(lrs)}"]
        parts += [] if self._val_accuracy is None else [f"val {self._val_accuracy:.1f} %"]
        self._show("  ".join(parts + self._speed(step, now)))

    def close(self) -> None:
        """End the line, so that what is printed next starts on its own."""
        if self._line_open:
            print(file=self._stream, flush=True)
            self._line_open = False

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _speed(self, step: int, now: float) -> list[str]:
        assert self._first is not None
        steps, seconds = step - self._first[0], now - self._first[1]
        if steps <= 0 or seconds <= 0:
            return []
        speed = f"{steps / seconds:.3g} steps/s"
        if step >= self._total:
            return [speed]
        return [speed, f"time left {format_duration((self._total - step) * seconds / steps)}"]

    def _show(self, line: str) -> None:
        if not self._in_place:
            print(line, file=self._stream, flush=True)
            return
        # A line that wraps could not be rewritten in place.
        line = line[: shutil.get_terminal_size().columns - 1]
        print(f"\r{line}\x1b[K", end="", file=self._stream, flush=True)
        self._line_open = True


def _format_range(values: Sequence[float] | np.ndarray) -> str:
    low, high = f"{min(values):.2g}", f"{max(values):.2g}"
    return low if low == high else f"{low}..{high}"


def format_duration(seconds: float) -> str:
    """`"42s"`, `"2m51s"`, `"3h05m"`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


# What a number was made on.


def hardware() -> dict[str, Any]:
    """The machine, for a result's record: platform, CPU, cores this process may use, memory, devices of JAX.

    Initialises JAX's backend if nothing has yet.
    """
    devices = jax.devices()
    return {
        "platform": platform.platform(),
        "cpu": _cpu_model(),
        "cpu_cores": _available_cores(),
        "memory_gib": _memory_gib(),
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


def _available_cores() -> int:
    # Where the system has no notion of affinity, every core is available.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory_gib() -> float | None:
    if not hasattr(os, "sysconf"):
        return None
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)


def versions() -> dict[str, str]:
    """The versions that a number depends on."""
    packages = ("jax", "jaxlib", "flax", "optax", "numpy")
    found = {name: importlib.metadata.version(name) for name in packages}
    return {"python": platform.python_version(), **found, "ddjax": __version__}


__all__ = [
    "MetricsWriter",
    "Progress",
    "Record",
    "curves",
    "format_duration",
    "format_mean_std",
    "hardware",
    "image_grid",
    "markdown_table",
    "read_metrics",
    "table",
    "tensorboard_writer",
    "to_pixels",
    "versions",
    "write_json",
]

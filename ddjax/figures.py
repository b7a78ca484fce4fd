"""Figures: distilled images as a labelled grid, distilled texts as words, curves of runs, other lines.

Matplotlib is imported when something is drawn, and never through pyplot, whose state is global.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import Any, NamedTuple

import jax
import numpy as np

from ddjax import checks, report
from ddjax.encodings import Tokens
from ddjax.files import StrPath, write_atomic
from ddjax.tokenizer import PAD, SPECIAL
from ddjax.types import Encoding

_DPI = 200
"""Pixels of an inch: twice those of a plain screen, so that pictures stay sharp on others."""

_LONGEST_ROW = 20  # the most images of one step in one row
_INK = "#30343b"
_FAINT = "#c9cdd4"
_PLAIN_TEXT: dict[str, Any] = {"parse_math": False}
"""For texts that others choose: a name such as `cost $\\frac$` is no formula."""
_COLOURS = ("#2f6db5", "#d1495b", "#2e8b57", "#e09f3e", "#7a5195", "#5f6b7a")

# Pictures of distilled images.


def image_grid(
    path: StrPath,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    encoding: Encoding,
    class_names: Sequence[str] | None = None,
    title: str | None = None,
    side: int | None = None,
    ordered: bool = True,
) -> None:
    """Write a PNG of distilled images with their labels; each step begins a new row.

    Pixels are shown decoded (`x * std + mean`), on the scale of the real images, clipped to [0, 1].
    Distilled pixels often leave that range; clipping keeps black black and lets the grid be compared with
    real images and with other grids, where stretching each image to its own extremes would let one outlying
    pixel turn the rest to grey and would show the faint noise of an untouched image as a strong pattern.

    Args:
        path: the PNG to write.
        images: `[S, B, H, W, C]` float, encoded; C = 3 is drawn in colour, any other number in grey (the mean
            over channels).
        labels: `[S, B, K]` float probabilities, times the image's weight where images have weights; an image
            is named after its likeliest class. Where one of all probabilities is below one, every label has
            its own beside the name; the same with weights that are not one. Other numbers name their largest
            class.
        encoding: the encoding that the images are in.
        class_names: the names of the K classes; None writes the numbers of the classes.
        title: the line above the grid; None leaves the line out.
        side: the side of each image in the picture, in pixels: large images are averaged in blocks, and small
            ones repeated; None for what lets a step fit into one picture.
        ordered: whether the steps are those of a training, which are numbered where there are several; a
            recipe that shuffles all images has none.

    Raises:
        ValueError: `images` and `labels` are not of these shapes, the number of class names is not K, or the
            encoding is made for images of another shape.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    if images.ndim != 5 or labels.ndim != 3 or images.shape[:2] != labels.shape[:2] or not images.size:
        raise ValueError(
            "image_grid: expected images [S, B, H, W, C] and labels [S, B, K]; "
            f"got {images.shape} and {labels.shape}. Give both the same two leading axes."
        )
    encoding.check(np.zeros((1, *images.shape[2:]), np.uint8))
    if class_names is not None:
        checks.equal(
            "image_grid: number of class names", len(class_names), labels.shape[-1], remedy="Name each class."
        )
    pixels, texts = to_pixels(images, encoding), np.array(_label_parts(labels, class_names))
    rows = math.ceil(images.shape[1] / _LONGEST_ROW)
    pixels, texts = _wrapped(pixels, rows, blank=1.0), _wrapped(texts, rows, blank="")
    numbered = ordered and len(images) > 1
    names = [f"step {row // rows + 1}" if numbered and row % rows == 0 else "" for row in range(len(texts))]
    shown = side or int(np.clip(3200 // pixels.shape[1], 64, 192))
    _draw_grid(path, _resize(pixels, shown), texts.tolist(), names, title)


def word_table(
    inputs: np.ndarray, labels: np.ndarray, *, encoding: Tokens, class_names: Sequence[str] | None = None
) -> str:
    """Distilled texts for people to read: the label of each, and the nearest word at each place.

    Args:
        inputs: `[S, B, L, F]` float, the embedded texts.
        labels: `[S, B, K]` float, the labels, named as by `image_grid`.
        encoding: the encoding of the texts, whose vectors are compared.
        class_names: the names of the K classes; None writes the numbers of the classes.

    Returns:
        The lines of a table, joined by newlines.

    Raises:
        ValueError: `inputs` and `labels` are not of these shapes, or the number of class names is not K.
    """
    words, names = _words(inputs, labels, encoding, class_names)
    rows = [
        (step + 1, names[step][index], " ".join(words[step, index]))
        for step, index in np.ndindex(words.shape[:2])
    ]
    return report.table(rows, ("step", "label", "nearest words"))


def word_grid(
    path: StrPath,
    inputs: np.ndarray,
    labels: np.ndarray,
    *,
    encoding: Tokens,
    class_names: Sequence[str] | None = None,
) -> None:
    """Write a PNG of distilled texts: the nearest word at each place, in the colour of the likeliest class.

    Args:
        path: the PNG to write.
        inputs: `[S, B, L, F]` float, the embedded texts.
        labels: `[S, B, K]` float, the labels, named as by `image_grid`.
        encoding: the encoding of the texts, whose vectors are compared.
        class_names: the names of the K classes; None writes the numbers of the classes.

    Raises:
        ValueError: see `word_table`.
    """
    from matplotlib.figure import Figure

    words, names = _words(inputs, labels, encoding, class_names)
    cells = [
        [_shorten(word, "", 90, 10) for word in row] for row in words.reshape(-1, words.shape[2]).tolist()
    ]
    titles = [name for step in names for name in step]
    kinds = np.nan_to_num(labels).argmax(-1).ravel()
    columns = [max(map(len, column)) + 1.5 for column in (titles, *zip(*cells, strict=True))]
    size = (12.4 * sum(columns) + 40, 32.0 * len(cells) + 40)
    figure = Figure(figsize=(size[0] / _DPI, size[1] / _DPI), dpi=_DPI, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, size[0]), ylim=(size[1], 0))
    axes.set_axis_off()
    style: dict[str, Any] = {"fontsize": 7, "family": "monospace", "va": "center", **_PLAIN_TEXT}
    places = 20 + 12.4 * np.cumsum([0.0, *columns])
    for row, (title, line, kind) in enumerate(zip(titles, cells, kinds, strict=True)):
        colour = _COLOURS[kind % len(_COLOURS)]
        axes.text(places[0], 36 + 32 * row, title, color=colour, weight="bold", **style)
        for x, word in zip(places[1:], line, strict=False):
            shade = _FAINT if word == SPECIAL[PAD] else colour
            axes.text(x, 36 + 32 * row, word, color=shade, **style)
    _save(path, figure)


def _words(
    inputs: np.ndarray, labels: np.ndarray, encoding: Tokens, class_names: Sequence[str] | None
) -> tuple[np.ndarray, list[list[str]]]:
    """The nearest words `[S, B, L]` and the texts of the labels `[S][B]`."""
    inputs, labels = np.asarray(inputs), np.asarray(labels)
    if inputs.ndim != 4 or labels.ndim != 3 or inputs.shape[:2] != labels.shape[:2] or not inputs.size:
        raise ValueError(
            f"words: expected embedded texts [S, B, L, F] and labels [S, B, K]; got {inputs.shape} and "
            f"{labels.shape}. Give both the same two leading axes."
        )
    if class_names is not None:
        checks.equal(
            "words: number of class names", len(class_names), labels.shape[-1], remedy="Name each class."
        )
    return encoding.words(inputs), _label_texts(labels, class_names)


def _wrapped(array: np.ndarray, rows: int, *, blank: Any) -> np.ndarray:
    """`[S, B, ...]` as `[S * rows, ceil(B / rows), ...]`; `blank` fills the last row of each step."""
    steps, count = array.shape[:2]
    across = math.ceil(count / rows)
    padding = [(0, 0), (0, rows * across - count)] + [(0, 0)] * (array.ndim - 2)
    return np.pad(array, padding, constant_values=blank).reshape(steps * rows, across, *array.shape[2:])


def to_pixels(images: np.ndarray, encoding: Encoding) -> np.ndarray:
    """Encoded images as colours to show.

    Args:
        images: `[..., H, W, C]` float, the encoded images.
        encoding: the encoding that the images are in.

    Returns:
        RGB `[..., H, W, 3]` in [0, 1], decoded and clipped; NaN becomes black.
    """
    plain = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), encoding)
    pixels = plain.decode(np.asarray(images, np.float32))
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
    """The text of each label, `[S][B]`: the name of the class, and what stands beside it."""
    return [[name + rest for name, rest in step] for step in _label_parts(labels, class_names)]


def _label_parts(labels: np.ndarray, class_names: Sequence[str] | None) -> list[list[tuple[str, str]]]:
    """The name of each label's class and what stands beside it, `[S][B]`, by one rule for all labels."""
    labels = np.nan_to_num(labels)
    weights, largest = labels.sum(-1), labels.max(-1)
    are_probabilities = bool((labels >= 0).all() and (weights > 0).all())
    percents = np.rint(100 * largest / weights) if are_probabilities else np.full(weights.shape, 100)
    has_percents = bool((percents < 100).any())
    has_weights = are_probabilities and bool((np.abs(weights - 1) >= 5e-3).any())

    def parts(place: tuple[int, int]) -> tuple[str, str]:
        index = int(labels[place].argmax())
        name = str(index) if class_names is None else str(class_names[index])
        percent = f" {percents[place]:.0f}%" if has_percents else ""
        return name, percent + (f" ×{weights[place]:.2g}" if has_weights else "")

    steps, count = weights.shape
    return [[parts((step, image)) for image in range(count)] for step in range(steps)]


def _draw_grid(
    path: StrPath,
    tiles: np.ndarray,
    texts: list[list[tuple[str, str]]],
    names: list[str],
    title: str | None,
) -> None:
    """Draw tiles `[rows, across, h, w, 3]`, pixel for pixel, with their labels and the names of the rows."""
    from matplotlib.figure import Figure

    rows, count, height, width, _ = tiles.shape
    font = float(np.clip(0.16 * width, 16, 26))
    longest = max(len(name + rest) for row in texts for name, rest in row) * 0.6 * font
    # One header for all rows where the columns agree, else a line above every image.
    shared = all(row == texts[0] for row in texts)
    turned = shared and longest > width
    gap = 8 if width < 128 else 12
    # Above a label stands the image of the row before, which must not be touched.
    caption = gap if shared else round(1.3 * font) + 8 + gap
    header = round((longest if turned else font) + 16) if shared else 0
    border = 20
    left = round(4.6 * font) if any(names) else border
    top = header + (round(2.2 * font) if title else 12)
    canvas = np.ones((rows * (height + caption), count * (width + gap) - gap, 3), np.float32)
    for (row, index), x, y in _places(rows, count, width + gap, height + caption, caption):
        canvas[y : y + height, x : x + width] = tiles[row, index]

    full = (left + canvas.shape[1] + border, top + canvas.shape[0] + border)
    full = (max(full[0], left + round(0.95 * font * len(title or ""))), full[1])
    figure = Figure(figsize=(full[0] / _DPI, full[1] / _DPI), dpi=_DPI, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, full[0]), ylim=(full[1], 0), zorder=1, facecolor="none")
    axes.set_axis_off()
    figure.figimage(canvas, xo=left, yo=full[1] - top - canvas.shape[0], origin="upper")
    points = font * 72 / _DPI
    style: dict[str, Any] = {"fontsize": points, "color": _INK, **_PLAIN_TEXT}
    for (row, index), x, y in _places(rows, count, width + gap, height + caption, caption):
        if index == 0:
            axes.text(left - 16, top + y + height / 2, names[row], ha="right", va="center", **style)
        if shared and row > 0:
            continue
        name, rest = texts[row][index]
        words = name + rest if shared else _shorten(name, rest, width, font)
        middle, foot = left + x + width / 2, top + y - 8
        axes.text(middle, foot, words, ha="center", va="bottom", rotation=90 if turned else 0, **style)
    if title:
        style |= {"fontsize": 1.25 * points, "weight": "bold"}
        axes.text(left, 0.9 * font, title, va="top", **style)
    _save(path, figure)


def _places(rows: int, count: int, across: int, down: int, caption: int):
    """Every tile's `(row, index)` and the x and y of its upper left corner."""
    for row, index in np.ndindex(rows, count):
        yield (row, index), index * across, row * down + caption


def _shorten(name: str, rest: str, width: float, font: float) -> str:
    """The text of an image, whose name is cut where the text would run into that of the next image."""
    room = max(1, int(width / (0.64 * font)) - len(rest))
    return (name if len(name) <= room else name[: max(1, room - 1)] + "…") + rest


def _save(path: StrPath, figure: Any) -> None:
    write_atomic(path, lambda file: figure.savefig(file, format="png"))


_MOST_BARS = 60  # the most images in a picture with bars


def label_bars(
    path: StrPath,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    encoding: Encoding,
    class_names: Sequence[str] | None = None,
    title: str | None = None,
) -> None:
    """Write a PNG of images, each with its label as a bar for each class beside it.

    All bars have one scale, from the least label (or zero) to the largest; a line marks zero where labels are
    negative. Of many images the first of each step are shown, 60 in all.

    Args:
        path: the PNG to write.
        images: `[S, B, H, W, C]` float, encoded.
        labels: `[S, B, K]` float, probabilities or any numbers.
        encoding: the encoding that the images are in.
        class_names: the names of the K classes; None writes the numbers of the classes.
        title: the line above the images; None leaves the line out.

    Raises:
        ValueError: `images` and `labels` are not of these shapes.
    """
    from matplotlib.figure import Figure

    images, labels = np.asarray(images), np.nan_to_num(np.asarray(labels, np.float64))
    if images.ndim != 5 or labels.ndim != 3 or images.shape[:2] != labels.shape[:2] or not images.size:
        raise ValueError(
            "label_bars: expected images [S, B, H, W, C] and labels [S, B, K]; "
            f"got {images.shape} and {labels.shape}. Give both the same two leading axes."
        )
    each = max(1, _MOST_BARS // len(images))
    pixels = to_pixels(images[:, :each], encoding).reshape(-1, *images.shape[2:4], 3)[:_MOST_BARS]
    shown = labels[:, :each].reshape(-1, labels.shape[2])[:_MOST_BARS]
    across = min(5, len(pixels))
    down = math.ceil(len(pixels) / across)
    names = [str(name) for name in class_names or range(shown.shape[1])]
    figure = Figure(figsize=(2.6 * across, 1.35 * down + 0.3), dpi=_DPI, facecolor="white")
    grid = figure.add_gridspec(down, 2 * across, wspace=0.3, hspace=0.25, left=0.02, right=0.98)
    limits = min(0.0, shown.min()), max(shown.max(), 1e-6)
    for index, (picture, label) in enumerate(zip(pixels, shown, strict=True)):
        row, column = divmod(index, across)
        axes = figure.add_subplot(grid[row, 2 * column])
        axes.imshow(picture, interpolation="nearest")
        axes.set_axis_off()
        _draw_label(figure.add_subplot(grid[row, 2 * column + 1]), label, names, limits)
    if title:
        figure.suptitle(title, fontsize=11, weight="bold", color=_INK, **_PLAIN_TEXT)
    _save(path, figure)


def _draw_label(axes: Any, label: np.ndarray, names: Sequence[str], limits: tuple[float, float]) -> None:
    """Draw one label as horizontal bars, the first class on top and the largest in another colour."""
    places = np.arange(len(label))
    colours = [_COLOURS[1] if place == label.argmax() else _COLOURS[0] for place in places]
    axes.barh(places, label, height=0.8, color=colours)
    axes.set_xlim(*limits)
    axes.set_ylim(len(label) - 0.5, -0.5)
    if limits[0] < 0:
        axes.axvline(0, color=_INK, linewidth=0.6)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.spines["left"].set_color(_FAINT)
    axes.tick_params(length=0, labelsize=5.5, colors=_INK, pad=1)
    axes.set_xticks([])
    axes.set_yticks(
        places if len(label) <= 20 else [],
        [name[:10] for name in names][: len(label)] if len(label) <= 20 else [],
        **_PLAIN_TEXT,
    )


# Curves.


def curves(path: StrPath, records: Sequence[Mapping[str, Any]], *, title: str | None = None) -> None:
    """Write a PNG of loss, validation accuracy and learning rates over the outer steps.

    A panel whose quantity no record holds is left out; null (NaN) values are gaps.

    Args:
        path: the PNG to write.
        records: the lines of a metrics.jsonl, in any number, as `ddjax.report.read_metrics` returns them.
        title: the line above the panels; None leaves the line out.
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
        figure.suptitle(title, fontsize=11, weight="bold", color=_INK, **_PLAIN_TEXT)
    _save(path, figure)


class Line(NamedTuple):
    """One line of a plot.

    Attributes:
        name: the name of the line in the legend.
        x: `[n]`, the places on the horizontal axis: numbers, or texts at equal distances.
        mean: `[n]`, the heights of the line; NaN is a gap.
        std: `[n]`, half the width of a band around the mean, or of a bar at each point where the line is not
            drawn or `x` are texts; None draws neither.
        marked: whether the points themselves are drawn.
        drawn: whether a line is drawn through them.
    """

    name: str
    x: Sequence[Any]
    mean: Sequence[float]
    std: Sequence[float] | None = None
    marked: bool = True
    drawn: bool = True


def lines(
    path: StrPath,
    series: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    title: str | None = None,
    at: float | None = None,
    levels: Mapping[str, float] | None = None,
) -> None:
    """Write a PNG of measured quantities as lines over a quantity that was varied.

    Args:
        path: the PNG to write.
        series: the lines, at least one; lines whose names differ only after the first comma share a colour.
        x_label: the name of the varied quantity; the axis is logarithmic where positive numbers span a factor
            of at least twenty, and has its marks at the values, where lines go through a dozen at most.
        y_label: the name of the measured quantity.
        title: the line of text above the plot; None leaves the text out.
        at: the place on the horizontal axis of a dotted vertical line; None draws no such line.
        levels: the heights of dashed horizontal lines, such as published numbers, by their names in the
            legend; None draws none.

    Raises:
        ValueError: a line's `x`, `mean` and `std` are not of one length, or there is no line.
    """
    from matplotlib.figure import Figure

    if not series:
        raise ValueError("lines: expected one or more lines; got none. Give what is to be drawn.")
    for line in series:
        lengths = {len(line.x), len(line.mean), len(line.x if line.std is None else line.std)}
        if len(lengths) > 1:
            raise ValueError(
                f"lines: expected x, mean and std of one length; {line.name!r} has {sorted(lengths)}. "
                "Give a value for every x."
            )
    figure = Figure(figsize=(6.4, 4.2), dpi=_DPI, facecolor="white", layout="constrained")
    axes = figure.subplots()
    kinds = list(dict.fromkeys(line.name.split(",")[0] for line in series))
    colours = _COLOURS if len(kinds) <= len(_COLOURS) else _MORE_COLOURS
    for line in series:
        colour = colours[kinds.index(line.name.split(",")[0]) % len(colours)]
        style: dict[str, Any] = {"linestyle": "-" if line.drawn else "none", "linewidth": 1.6}
        style |= {"marker": "o" if line.marked else "", "markersize": 5}
        axes.plot(line.x, line.mean, color=colour, label=line.name, **style)
        if line.std is not None:
            _draw_spread(axes, line, colour)
    if at is not None:
        axes.axvline(at, color=_INK, linewidth=0.9, linestyle=":")
    for name, height in (levels or {}).items():
        axes.axhline(height, color=_INK, linewidth=1.1, linestyle="--", label=name)
    _mark_values(axes, series)
    axes.set_xlabel(x_label, color=_INK, **_PLAIN_TEXT)
    axes.set_ylabel(y_label, color=_INK, **_PLAIN_TEXT)
    axes.grid(color=_FAINT, linewidth=0.6, alpha=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=_INK, labelsize=9)
    # A long legend stands beside the plot, not on it.
    place = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)} if len(series) > _LONG_LEGEND else {}
    for text in axes.legend(fontsize=9, framealpha=0.85, edgecolor="none", **place).get_texts():
        text.set(**_PLAIN_TEXT)
    if title:
        axes.set_title(title, fontsize=11, weight="bold", color=_INK, **_PLAIN_TEXT)
    _save(path, figure)


def _draw_spread(axes: Any, line: Line, colour: str) -> None:
    """Draw a band around a line; a bar at each point where nothing lies between the points."""
    mean, std = np.asarray(line.mean, np.float64), np.asarray(line.std, np.float64)
    if line.drawn and not any(isinstance(x, str) for x in line.x):
        axes.fill_between(line.x, mean - std, mean + std, color=colour, alpha=0.15, linewidth=0)
    else:
        axes.errorbar(line.x, mean, std, fmt="none", ecolor=colour, elinewidth=1.4, capsize=4)


_LONG_LEGEND = 10  # lines that a legend on the plot names at most
_MORE_COLOURS = [
    f"C{i}" for i in range(10)
]  # Matplotlib's own ten, where the five of these figures are too few
_MOST_MARKS = 12  # the most values that the horizontal axis has marks at


def _mark_values(axes: Any, series: Sequence[Line]) -> None:
    """Make the horizontal axis logarithmic where its values ask for that, with marks at the values."""
    values = np.unique(np.array([x for line in series for x in line.x if not isinstance(x, str)], np.float64))
    if values.size and values.min() > 0 and values.max() >= 20 * values.min():
        axes.set_xscale("log")
    if 0 < len(values) <= _MOST_MARKS and any(line.drawn for line in series):
        axes.set_xticks(values, labels=[f"{value:g}" for value in values])
        axes.minorticks_off()


def short_names(paths: Sequence[str]) -> dict[str, str]:
    """Names for paths, for a legend: what tells them apart, without folders that all of them share.

    Args:
        paths: the paths of files, each once; a file `distilled.npz` goes by its folder.

    Returns:
        The names by path.
    """
    parts = {path: [*PurePath(path).parent.parts, PurePath(path).stem] for path in paths}
    parts = {
        path: own[:-1] if len(own) > 1 and own[-1] == "distilled" else own for path, own in parts.items()
    }
    lists = list(parts.values())
    shortest = min((len(own) for own in lists), default=1)
    shared = next((k for k in range(shortest - 1) if len({own[k] for own in lists}) > 1), shortest - 1)
    names = {path: "/".join(own[shared:]) for path, own in parts.items()}
    return names if len(set(names.values())) == len(names) else {path: path for path in paths}


def _series(records: Sequence[Mapping[str, Any]], field: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps `[n]` and values `[n]` or `[n, T]` of the records that hold the field; null is NaN."""
    found = [(record["step"], record[field]) for record in records if record.get(field) is not None]
    steps = np.array([step for step, _ in found], np.float64)
    return steps, np.array([value for _, value in found], np.float64)


def _draw_loss(axes: Any, steps: np.ndarray, values: np.ndarray) -> None:
    """Draw the loss, with a running median where there are many points."""
    window = len(values) // 20
    many = window >= 3
    axes.plot(steps, values, color="#9db8dd" if many else "#2f6db5", linewidth=0.9 if many else 1.6)
    if many:
        padded = np.pad(values, (window // 2, window - 1 - window // 2), mode="edge")
        smooth = np.median(np.lib.stride_tricks.sliding_window_view(padded, window), axis=1)
        axes.plot(steps, smooth, color="#2f6db5", linewidth=1.8)
    _log_if_wide(axes, values)


def _draw_accuracy(axes: Any, steps: np.ndarray, values: np.ndarray) -> None:
    """Draw the accuracy and mark the best one, which is that of the φ that is kept."""
    axes.plot(steps, values, color="#2e8b57", linewidth=1.6, marker="o", markersize=3.5)
    if not np.isfinite(values).any():
        return
    best = int(np.nanargmax(values))
    axes.plot(steps[best], values[best], "o", color="#d1495b", markersize=7, zorder=3)
    text = f"best: {values[best]:.1f} % at step {steps[best]:.0f}"
    # Curves that rise leave this corner free.
    axes.text(0.99, 0.06, text, transform=axes.transAxes, ha="right", fontsize=9, color="#d1495b")


def _draw_lrs(axes: Any, steps: np.ndarray, values: np.ndarray) -> None:
    """Draw one line for each of the T inner steps, dark for the first, light for the last."""
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
    """Make the axis logarithmic where a linear one would flatten most of the curve."""
    finite = values[np.isfinite(values)]
    if finite.size and finite.min() > 0 and finite.max() > 20 * finite.min():
        axes.set_yscale("log")


__all__ = [
    "Line",
    "curves",
    "image_grid",
    "label_bars",
    "lines",
    "short_names",
    "to_pixels",
    "word_grid",
    "word_table",
]

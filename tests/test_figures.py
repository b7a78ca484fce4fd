"""Figures: every pixel in its place, every panel that has data."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from ddjax import figures
from ddjax.encodings import Channels


def one_hot(steps, count, classes=10):
    return np.broadcast_to(
        np.eye(classes, dtype=np.float32)[np.arange(count) % classes], (steps, count, classes)
    )


def draw(path, images, labels, **settings):
    channels = images.shape[-1]
    figures.image_grid(
        path, images, labels, encoding=Channels(np.full(channels, 0.5), np.full(channels, 0.25)), **settings
    )
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


# Pictures.


def test_pixels_are_denormalised_and_clipped():
    images = np.array([[-9.0, 0.0, 1.0], [9.0, np.nan, -1.0]])
    pixels = figures.to_pixels(images, Channels(np.array([0.5, 0.4, 0.3]), np.array([0.25, 0.2, 0.1])))
    np.testing.assert_allclose(pixels, [[0.0, 0.4, 0.4], [1.0, 0.0, 0.2]], rtol=1e-6)


@pytest.mark.parametrize("channels", [1, 2])
def test_other_than_three_channels_are_grey(channels):
    pixels = figures.to_pixels(
        np.ones((4, 4, channels)), Channels(np.full(channels, 0.5), np.full(channels, 0.25))
    )
    np.testing.assert_allclose(pixels, np.full((4, 4, 3), 0.75))


def test_a_grid_shows_every_pixel_at_its_place(tmp_path):
    images = np.zeros((2, 3, 8, 8, 3), np.float32)
    images[1, 2, 0, 7] = [2, -2, -2]
    picture = draw(tmp_path / "grid.png", images, one_hot(2, 3))
    red = np.argwhere((picture == [255, 0, 0]).all(-1))
    grey = np.argwhere((picture == [127, 127, 127]).all(-1) | (picture == [128, 128, 128]).all(-1))
    # One pixel of the last image, enlarged, in that image's upper right corner.
    assert len(red) == 24 * 24
    assert (np.ptp(red, axis=0) == 23).all()
    assert red[:, 1].max() == grey[:, 1].max()
    assert red[:, 0].max() < grey[:, 0].max()


@pytest.mark.slow
@pytest.mark.parametrize(("steps", "count", "classes"), [(1, 1, 3), (2, 7, 10), (1, 100, 25)])
def test_labels_are_bars_in_proportion(tmp_path, steps, count, classes):
    labels = np.full((steps, count, classes), -0.25)
    labels[..., 1] = 0.5
    path = tmp_path / "bars.png"
    encoding = Channels(np.full(1, 0.5), np.full(1, 0.25))
    figures.label_bars(path, np.zeros((steps, count, 4, 4, 1)), labels, encoding=encoding, title="$x$")
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    # The largest label has a colour of its own, and is twice as long as the others are.
    red, blue = ((np.abs(pixels - colour).sum(-1) < 6) for colour in ((209, 73, 91), (47, 109, 181)))
    longest = [
        max(
            np.diff(np.flatnonzero(np.diff(np.pad(row.astype(int), 1))))[::2].max()
            for row in mask
            if row.any()
        )
        for mask in (red, blue)
    ]
    assert longest[0] / longest[1] == pytest.approx(2, rel=0.15)  # the edges are blurred


def test_bars_of_the_wrong_shape_are_refused(tmp_path):
    encoding = Channels(np.full(1, 0.5), np.full(1, 0.25))
    with pytest.raises(ValueError, match=r"label_bars: expected images \[S, B, H, W, C\] and labels"):
        figures.label_bars(
            tmp_path / "bars.png", np.zeros((1, 2, 4, 4, 1)), np.zeros((1, 3, 3)), encoding=encoding
        )


@pytest.mark.parametrize(
    ("shape", "names"),
    [((1, 1, 8, 8, 1), None), ((3, 40, 32, 32, 3), ["a very long name"] * 10), ((1, 4, 130, 70, 3), None)],
)
def test_grids_of_all_sizes_draw(tmp_path, shape, names):
    images = np.random.default_rng(0).normal(size=shape)
    picture = draw(tmp_path / "grid.png", images, one_hot(*shape[:2]), class_names=names, title="a title")
    assert min(picture.shape[:2]) > 180
    assert max(picture.shape[:2]) < 4000


def test_a_long_step_takes_several_rows(tmp_path):
    images = np.zeros((1, 45, 8, 8, 3), np.float32)
    images[0, 15, 0, 0] = images[0, 44, 7, 7] = [9, -9, -9]
    picture = draw(tmp_path / "grid.png", images, one_hot(1, 45))
    red = np.argwhere((picture == [255, 0, 0]).all(-1))
    grey = np.argwhere((picture == [127, 127, 127]).all(-1) | (picture == [128, 128, 128]).all(-1))
    (top, left), (bottom, right) = red.min(0), red.max(0)
    # 3 rows of 15: the sixteenth image begins the second row, the last one ends the third.
    assert left == grey[:, 1].min()
    assert right == grey[:, 1].max()
    assert bottom == grey[:, 0].max()
    assert grey[:, 0].min() < top < bottom


def test_labels_name_the_likeliest_class_and_all_say_how_likely_or_none():
    labels = np.array([[[0.0, 1.0], [0.7, 0.3]]])
    assert figures._label_texts(labels, ["cat", "dog"]) == [["dog 100%", "cat 70%"]]
    assert figures._label_texts(labels, None) == [["1 100%", "0 70%"]]
    assert figures._label_texts(np.eye(2)[None], ["cat", "dog"]) == [["cat", "dog"]]


def test_a_weight_is_no_probability():
    labels = np.array([[[0.0, 5.0], [1.4, 0.6], [0.25, 0.25]]])
    texts = figures._label_texts(labels, ["cat", "dog"])
    assert texts == [["dog 100% ×5", "cat 70% ×2", "cat 50% ×0.5"]]
    for other in ([-0.1, 3.0], [0.0, 0.0]):  # no probabilities: no label says how likely its class is
        free = np.concatenate([labels, np.array([[other]])], 1)
        assert figures._label_texts(free, ["cat", "dog"])[0][:2] == ["dog", "cat"]


def test_a_long_name_is_cut_and_its_probability_is_not():
    assert figures._shorten("automobile", " 82%", 192, 26) == "automo… 82%"
    assert figures._shorten("cat", " 82%", 192, 26) == "cat 82%"
    assert figures._shorten("automobile", " 100% ×2", 64, 16) == "a… 100% ×2"


def rows_of(picture):
    """The first and last line of each row of pictures: dark pixels, but for those of texts."""
    dark = (picture.astype(int).max(-1) < 60).mean(1) > 0.5
    edges = np.flatnonzero(np.diff(np.pad(dark.astype(int), 1)))
    return edges.reshape(-1, 2)


@pytest.mark.parametrize("shared", [True, False])
def test_rows_do_not_touch_and_labels_keep_clear_of_the_row_above(tmp_path, shared):
    labels = np.array(one_hot(3, 10))
    if not shared:
        labels[1] = labels[1, ::-1]
    picture = draw(tmp_path / "grid.png", np.full((3, 10, 28, 28, 1), -2.0), labels)
    rows = rows_of(picture)
    assert len(rows) == 3
    for (_, above), (below, _) in itertools.pairwise(rows.tolist()):
        clear = (picture[above : above + 6].min(-1) > 250).all()
        assert clear, "the line under a row is white"
        assert below - above >= (6 if shared else 20)


def test_steps_are_numbered_where_there_are_several_and_they_have_an_order(tmp_path):
    images, labels = np.full((2, 4, 8, 8, 1), -2.0), one_hot(2, 4)
    several = draw(tmp_path / "a.png", images, labels)
    shuffled = draw(tmp_path / "b.png", images, labels, ordered=False)
    one = draw(tmp_path / "c.png", images[:1], labels[:1])
    assert several.shape[1] > shuffled.shape[1] == one.shape[1]
    for picture in (shuffled, one):  # nothing beside the images, whose border is the only one
        assert (picture[:, :20] > 250).all()


def test_labels_that_differ_by_step_are_written_at_every_image(tmp_path):
    images = np.zeros((3, 2, 8, 8, 1))
    same = one_hot(3, 2)
    other = same.copy()
    other[1] = other[1, ::-1]
    shared = draw(tmp_path / "same.png", images, same)
    each = draw(tmp_path / "other.png", images, other)
    dark = [(picture.mean(axis=-1) < 100)[:, 140:].sum() for picture in (shared, each)]
    assert dark[1] > 2 * dark[0] > 0


def test_a_grid_of_the_wrong_shape_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"expected images \[S, B, H, W, C\].*got \(2, 8, 8, 1\)"):
        draw(tmp_path / "grid.png", np.zeros((2, 8, 8, 1)), one_hot(1, 2))
    assert not (tmp_path / "grid.png").exists()


@pytest.mark.parametrize(
    ("records", "panels"),
    [
        ([], 1),
        ([{"step": 1, "loss": 1.0}], 1),
        (
            [{"step": s, "loss": None if s == 3 else 30.0 / s, "lrs": [0.1, 0.5 / s]} for s in range(1, 200)],
            2,
        ),
        ([{"step": s, "loss": 0.1, "lrs": [0.1] * 12, "val_accuracy": 9.0 * s} for s in range(1, 9)], 3),
        ([{"step": 1, "loss": 2.0, "val_accuracy": None}, {"step": 2, "val_accuracy": float("nan")}], 2),
    ],
)
def test_curves_have_a_panel_for_what_is_there(tmp_path, records, panels):
    figures.curves(tmp_path / "curves.png", records, title="a title")
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.size == (1600, 120 + 440 * panels)


@pytest.mark.slow
def test_matplotlib_waits_until_something_is_drawn():
    code = "import sys, ddjax.report; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Lines.


def test_lines_are_drawn_where_they_are(tmp_path):
    series = [
        figures.Line("ours", [1, 2, 3], [10.0, float("nan"), 30.0], [1.0, 1.0, 1.0]),
        figures.Line("theirs, simulated", [1, 3], [20.0, 20.0], drawn=False),
    ]
    figures.lines(tmp_path / "a.png", series, x_label="x", y_label="y", title="a title", at=2)
    figures.lines(tmp_path / "b.png", series[1:], x_label="x", y_label="y")
    with Image.open(tmp_path / "a.png") as a, Image.open(tmp_path / "b.png") as b:
        pictures = [np.asarray(picture.convert("RGB")).astype(int) for picture in (a, b)]
    blue, red = np.array([0x2F, 0x6D, 0xB5]), np.array([0xD1, 0x49, 0x5B])
    assert (np.abs(pictures[0] - blue).max(-1) < 12).sum() > 50
    assert (np.abs(pictures[0] - red).max(-1) < 12).sum() > 20
    # Alone, a line has the first colour; without a line through them two points cover little.
    assert 80 < (np.abs(pictures[1] - blue).max(-1) < 12).sum() < 1200


def axes_of(monkeypatch, series, **settings):
    """The axes that `lines` draws."""
    found = []
    monkeypatch.setattr(figures, "_save", lambda path, figure: found.append(figure.axes[0]))
    figures.lines("nowhere.png", series, x_label="x", y_label="y", **settings)
    return found[0]


def test_values_without_an_order_have_bars_and_others_a_band(monkeypatch):
    given = ["a", "b"], [1.0, 2.0], [0.1, 0.2]
    axes = axes_of(monkeypatch, [figures.Line("ours", *given)])
    assert [len(axes.containers), len(axes.patches)] == [1, 0]
    axes = axes_of(monkeypatch, [figures.Line("ours", [1, 2], *given[1:])])
    assert not axes.containers


@pytest.mark.parametrize(("x", "scale"), [([1, 2, 5, 10, 20], "log"), ([3, 7, 8], "linear")])
def test_the_axis_has_its_marks_at_the_values(monkeypatch, x, scale):
    axes = axes_of(monkeypatch, [figures.Line("ours", x, [1.0] * len(x))])
    assert axes.get_xscale() == scale
    assert axes.get_xticks().tolist() == x
    assert [one.get_text() for one in axes.get_xticklabels()] == list(map(str, x))
    assert not axes.get_xticks(minor=True).size
    scattered = axes_of(monkeypatch, [figures.Line("ours", x, [1.0] * len(x), drawn=False)])
    assert scattered.get_xticks().tolist() != x


def test_a_published_number_is_a_line_of_its_own_name(monkeypatch):
    axes = axes_of(monkeypatch, [figures.Line("ours", [1, 2], [1.0, 2.0])], levels={"published: 3": 3.0})
    assert axes.lines[-1].get_ydata() == [3.0, 3.0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["ours", "published: 3"]


def test_names_for_paths_are_what_tells_them_apart():
    short = figures.short_names(
        ["runs/dm/distilled.npz", "runs/coreset/random.npz", "runs/coreset/herding.npz"]
    )
    assert list(short.values()) == ["dm", "coreset/random", "coreset/herding"]
    assert list(figures.short_names(["a/x/distilled.npz", "b/x/distilled.npz"]).values()) == ["a/x", "b/x"]
    assert list(figures.short_names(["runs/dm/distilled.npz"]).values()) == ["dm"]
    assert list(figures.short_names(["dm", "dm.npz"]).values()) == ["dm", "dm.npz"]


def test_lines_over_names_and_over_wide_ranges(tmp_path):
    named = [figures.Line("ours", ["xavier", "kaiming"], [1.0, 2.0], [0.1, 0.2], drawn=False)]
    figures.lines(tmp_path / "names.png", named, x_label="init", y_label="y")
    wide = [figures.Line("ours", [1, 10, 100], [1.0, 2.0, 3.0])]
    figures.lines(tmp_path / "wide.png", wide, x_label="images", y_label="y")
    assert (tmp_path / "names.png").read_bytes() != (tmp_path / "wide.png").read_bytes()


@pytest.mark.parametrize(
    ("series", "message"),
    [
        ([], "lines: expected one or more lines; got none"),
        ([figures.Line("ours", [1, 2], [1.0])], r"of one length; 'ours' has \[1, 2\]"),
        ([figures.Line("ours", [1, 2], [1.0, 2.0], [0.1])], "of one length"),
    ],
)
def test_lines_that_do_not_fit_are_refused(tmp_path, series, message):
    with pytest.raises(ValueError, match=message):
        figures.lines(tmp_path / "lines.png", series, x_label="x", y_label="y")
    assert not (tmp_path / "lines.png").exists()


# Tables.

"""scripts/split_anew.py: every image once, each class its share, the same bytes again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ddjax import data
from scripts import split_anew as script

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "split_anew.py"


def whole_of(dataset: data.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """All images as rows, sorted, and the number of each class."""
    parts = (dataset.train, dataset.validation, dataset.test)
    rows = np.concatenate([part.images.reshape(len(part), -1) for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    return rows[np.lexsort(rows.T)], np.bincount(labels)


def test_every_image_is_in_one_split_and_each_class_keeps_its_share(tmp_path, capsys):
    paths = [tmp_path / name for name in ("one.npz", "two.npz", "other.npz")]
    for path, seed in zip(paths, (0, 0, 1), strict=True):
        assert script.main(["--dataset=digits", "--num_test=450", f"--output={path}", f"--seed={seed}"]) == 0
        assert "1347 training and 450 test images" in capsys.readouterr().out
    divided, original = data.load(paths[0]), data.load("digits")
    assert len(divided.test) == 450
    for ours, theirs in zip(whole_of(divided), whole_of(original), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    shares = np.bincount(divided.test.labels) / whole_of(original)[1]
    assert np.abs(shares - 450 / 1797).max() < 0.01
    assert paths[0].read_bytes() == paths[1].read_bytes() != paths[2].read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--dataset=digits", "--num_test=1790"), "num_test: expected 10 to 1787"),
        (("--dataset=absent.npz", "--num_test=9"), "dataset: expected an .npz file; found none"),
    ],
)
def test_what_cannot_be_divided_is_refused(tmp_path, capsys, arguments, message):
    assert script.main([*arguments, f"--output={tmp_path / 'out.npz'}"]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out.npz").exists()


def test_names_and_layout_are_kept(tmp_path, rng):
    x = rng.integers(0, 256, (40, 6, 5, 2), np.uint8)
    names = np.array(["cat", "ape"])
    y = names[np.arange(40) % 2]
    source = tmp_path / "mine.npz"
    np.savez(source, x_train=x, y_train=y, x_test=x[:8], y_test=y[:8], class_names=names, layout="NHWC")
    arguments = [f"--dataset={source}", "--num_test=10", f"--output={tmp_path / 'out.npz'}"]
    assert script.main(arguments) == 0
    divided = data.load(tmp_path / "out.npz")
    assert divided.class_names == ("cat", "ape")
    assert divided.image_shape == (6, 5, 2)


@pytest.mark.slow
def test_the_command_tells_what_is_wrong(tmp_path):
    arguments = ("--dataset=absent.npz", "--num_test=9", f"--output={tmp_path / 'out.npz'}")
    command = [sys.executable, str(SCRIPT), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("split_anew.py: dataset: expected an .npz file")

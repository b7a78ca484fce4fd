"""The notebook runs from its first cell to its last, and shows what its text promises."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

NOTEBOOK = Path(__file__).resolve().parents[1] / "experiments" / "quickstart.ipynb"
CELLS = json.loads(NOTEBOOK.read_text())["cells"]


def test_the_notebook_is_one_that_jupyter_opens():
    whole = json.loads(NOTEBOOK.read_text())
    assert (whole["nbformat"], whole["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in CELLS}) == len(CELLS)
    assert all(cell["cell_type"] in ("markdown", "code") for cell in CELLS)


@pytest.mark.slow
def test_every_cell_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    plt.switch_backend("agg")
    names: dict[str, object] = {}
    for cell in CELLS:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"{NOTEBOOK.name}, {cell['id']}", "exec"), names)
    told = capsys.readouterr().out
    score, real = names["score"], names["real"]
    assert score.mean > real["mean"] + 10  # type: ignore[attr-defined, index] (made by the cells)
    assert f"distilled images: {score.mean:.1f}" in told  # type: ignore[attr-defined]
    assert (tmp_path / "digits.npz").exists()
    assert len(plt.gcf().axes) == 10
    plt.close("all")

"""Spaces of networks, ordered by training on artifacts and by training on all images; how far both agree."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ddjax import baselines, figures, report
from ddjax.launch import matrix as matrices
from ddjax.launch import results
from ddjax.launch.choices import runs_at_once
from ddjax.launch.kept import Scores
from ddjax.launch.matrix import Matrix
from ddjax.launch.types import Keys
from ddjax.ranking import agreement

WHOLE = "whole training set"


def measure(config: Any, matrix: Matrix, scores: Scores) -> dict[str, Any]:
    """What `result.json` says of a space: all scores, how far artifacts order networks as all data do.

    Args:
        config: the settings of `experiments.architecture_search`.
        matrix: the networks and artifacts.
        scores: the scores that are known already, to which the others are added.

    Returns:
        The findings.
    """
    # A network is chosen by these scores, so they must not be those of the test split.
    held_out = dataclasses.replace(matrix.data, test=matrix.data.validation)
    found = matrices.measure(config, matrix._replace(data=held_out), scores)
    on_all = {
        f"{WHOLE} on {title}": functools.partial(_on_all, config, matrix, title) for title in matrix.columns
    }
    whole = dict(zip(matrix.columns, scores.each(on_all).values(), strict=True))
    full = [score["mean"] for score in whole.values()]
    proxies = {
        path: agreement([row[title]["mean"] for title in whole], full)._asdict()
        | {"seconds": sum(row[title]["seconds"] for title in whole)}
        for path, row in found["matrix"].items()
    }
    seconds = {"whole": sum(one["seconds"] for one in whole.values())}
    return {**found, "whole": whole, "proxies": proxies, "seconds": seconds}


def _on_all(config: Any, matrix: Matrix, title: str) -> dict[str, Any]:
    """The score of a network of the space after training on all training images."""
    began = time.monotonic()
    found = baselines.all_data(
        matrix.data,
        matrix.columns[title],
        matrix.inits[title, matrix.rows[0].path],
        key=Keys.of(config.seed).baselines,
        num_inits=config.num_whole_nets,
        recipe=dataclasses.replace(results.FULL_DATA, lr=config.whole_lr, epochs=config.whole_epochs),
        runs_per_chunk=runs_at_once(config.num_whole_nets),
    )
    return {**found.as_dict(), "seconds": time.monotonic() - began}


def table(result: Mapping[str, Any]) -> str:
    """A row for each artifact, and a last row for the whole training set, whose rank correlation is 1.

    The network chosen in the last row is the best of all, as measured on the test split.

    Args:
        result: the content of `result.json`.

    Returns:
        The table as text.
    """
    titles, whole = list(result["whole"]), result["whole"]

    def row(name: str, correlation: float | None, chosen: str, seconds: float) -> tuple[str, ...]:
        shown = "–" if correlation is None else f"{correlation:.2f}"
        return name, shown, chosen, f"{whole[chosen]['mean']:.1f}", report.format_duration(seconds)

    rows = [
        row(path, one["rank_correlation"], titles[one["chosen"]], one["seconds"])
        for path, one in result["proxies"].items()
    ]
    best = max(titles, key=lambda title: whole[title]["mean"])
    rows.append(row(WHOLE, 1.0, best, result["seconds"]["whole"]))
    headers = ("rank correlation", "chosen", "its accuracy on all, %", "took, with compiling")
    return report.table(rows, (f"{len(titles)} networks", *headers))


def draw(path: Path, result: Mapping[str, Any]) -> None:
    """Draw each network's accuracy after training on an artifact against that after all training images.

    Args:
        path: the file of the figure.
        result: the content of `result.json`.
    """
    whole = [score["mean"] for score in result["whole"].values()]
    names = figures.short_names(list(result["matrix"]))
    points = [
        figures.Line(names[name], whole, [row[title]["mean"] for title in result["whole"]], drawn=False)
        for name, row in result["matrix"].items()
    ]
    figures.lines(
        path,
        points,
        x_label="test accuracy of a network trained on all images, %",
        y_label="validation accuracy, trained on the artifact, %",
        title=f"{result['dataset']}: {len(whole)} networks",
    )

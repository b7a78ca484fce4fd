"""The linear analysis: how many points one step needs, in closed form and simulated, for several p(θ0)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from ddjax import figures, linear, report
from ddjax.data import Dataset
from ddjax.linear import Problem


def problem_of(config: Any, data: Dataset) -> Problem:
    """Least squares that tells odd from even classes by whitened principal components, in float64.

    Args:
        config: the settings of `experiments.linear_bound`.
        data: the real data.

    Returns:
        The problem.

    Raises:
        ValueError: the data have fewer components.
    """
    train, kept = data.train, slice(config.num_examples)
    parity = 2.0 * (train.labels[kept] % 2) - 1
    return linear.whitened(train.images[kept], parity, num_features=config.num_features)


def measure(config: Any, problem: Problem) -> dict[str, Any]:
    """What `result.json` says of the analysis: every p(θ0) with every number of points.

    Args:
        config: the settings of `experiments.linear_bound`.
        problem: the least-squares problem.

    Returns:
        The findings.
    """
    families: dict[str, dict[str, Any]] = {}
    most, dims = config.max_points or config.num_features + 2, config.num_features
    with jax.enable_x64(True):
        for index, (name, initials) in enumerate(linear.distributions(dims, config.seed).items()):
            by_count: dict[int, dict[str, float]] = {}
            for count in range(1, most + 1):
                by_count[count] = linear.compared(
                    problem,
                    initials,
                    num_points=count,
                    key=jax.random.fold_in(jax.random.key(config.seed), 1000 * index + count),
                    num_outer_steps=config.num_outer_steps,
                    num_starts=config.num_starts,
                    num_unseen=config.num_unseen,
                )
                print(f"{name}, M {count}: {by_count[count]['simulated']:.3g}", flush=True)
            needed = linear.least_points(problem, initials)
            families[name] = {
                "least_points": needed,
                "enough": by_count.get(needed),
                "one_fewer": by_count.get(needed - 1),
                "points": list(by_count.values()),
            }
    rows = [row for family in families.values() for row in family["points"]]
    return {
        "dataset": Path(config.dataset).stem,
        "num_features": config.num_features,
        "num_examples": len(problem.targets),
        "largest_difference": max(abs(row["simulated"] - row["closed_form"]) for row in rows),
        "families": families,
    }


def table(result: Mapping[str, Any]) -> str:
    """For each p(θ0), the number of points needed, and the loss with one point fewer and with enough points.

    Args:
        result: the content of `result.json`.

    Returns:
        The table as text.
    """
    fields = ("closed_form", "simulated", "largest_unseen_excess")
    rows = [
        (name, family["least_points"], row["num_points"], *(f"{row[field]:.3g}" for field in fields))
        for name, family in result["families"].items()
        for row in (family["one_fewer"], family["enough"])
        if row is not None
    ]
    headers = ("initial weights", "needs M", "M", "closed form", "simulated", "worst of unseen")
    difference = f"largest difference of simulation and closed form: {result['largest_difference']:.1e}"
    return f"{report.table(rows, headers)}\n\n{difference}"


def draw(path: Path, result: Mapping[str, Any]) -> None:
    """Draw the figure of a record: closed forms as lines, simulations as points, D as a dotted line.

    Args:
        path: the file of the figure.
        result: the content of `result.json`.
    """
    series = []
    for name, family in result["families"].items():
        x, exact, found = (
            [row[field] for row in family["points"]] for field in ("num_points", "closed_form", "simulated")
        )
        series.append(figures.Line(f"{name}, closed form", x, exact, marked=False))
        series.append(figures.Line(f"{name}, simulated", x, found, drawn=False))
    figures.lines(
        path,
        series,
        x_label=f"M, distilled points (dotted: D = {result['num_features']})",
        y_label="mean loss above the optimum's after one step",
        title=f"Least squares on {result['dataset']}",
        at=result["num_features"],
    )

"""How many distilled points does one gradient step need? The linear analysis of Wang et al. 2018.

Least squares on the first D whitened principal components of real images, whose label is odd (+1) or even
(-1). Points are distilled by gradient descent through the step, for three p(θ0): any θ0 in R^D, those of an
affine set of D/4 dimensions that misses the optimum, and a single one. Their mean excess loss is laid beside
the closed form (`ddjax/linear.py`), and the points are tried on θ0 that they were not distilled for.

Claim: D = 8: 8 points are needed for any initial weights, 3 for an affine set of two dimensions, one for a
single θ0; closed form and simulation agree to 2e-15.
Cost: 1,254 s of two CPU cores beside other runs.
Records: results/paper-linear-mnist-small.json

    python -m experiments.linear_bound
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ddjax import figures, linear, report
from ddjax.data import Dataset, load
from ddjax.launch import Launcher, Where, flag, flag_like, inputs_of, once, results
from ddjax.linear import Initials, Problem


@dataclasses.dataclass(frozen=True)
class Config(Where):
    """The settings of the analysis."""

    workdir: str | None = flag_like(
        Where, "workdir", help="directory of the run; runs/linear_bound-DATASET by default"
    )
    num_features: int = flag(8, "D, principal components of the images", low=1)
    max_points: int | None = flag(None, "M goes from 1 to this; by default to D + 2", low=1)
    num_examples: int = flag(5000, "real images, at most", low=2)
    num_unseen: int = flag(1000, "θ0 that the points were not distilled for", low=1)
    num_outer_steps: int = flag(5000, "gradient steps of each distillation", low=1)
    num_starts: int = flag(8, "random starts of each distillation, of which the best end is kept", low=1)


def problem_of(config: Config, data: Dataset) -> Problem:
    """Least squares that tells odd from even classes by whitened principal components, in float64.

    Args:
        config: the settings.
        data: the real data.

    Returns:
        The problem.

    Raises:
        ValueError: the data have fewer components.
    """
    train = data.train
    kept = slice(config.num_examples)
    parity = 2.0 * (train.labels[kept] % 2) - 1
    return linear.whitened(train.images[kept], parity, num_features=config.num_features)


def measure(
    problem: Problem, initials: Initials, num_points: int, *, config: Config, key: jax.Array
) -> dict[str, Any]:
    """One point of the figure: M points, distilled and in closed form.

    Args:
        problem: the least-squares problem.
        initials: p(θ0).
        num_points: M, the number of points.
        config: the settings, with the numbers of unseen θ0 and of random starts.
        key: the source of the random starts and the unseen θ0. Consumed.

    Returns:
        M; the mean excess loss by the closed form, of the points in closed form and of the distilled ones;
        the largest excess loss and distance from the optimum over unseen θ0 of the same p(θ0).
    """
    distil_key, unseen_key = jax.random.split(key)
    points, simulated = linear.distil(
        problem,
        initials,
        num_points=num_points,
        key=distil_key,
        num_outer_steps=config.num_outer_steps,
        num_starts=config.num_starts,
    )
    exact = linear.closed_form(problem, initials, num_points=num_points)
    on_mean = jax.vmap(lambda params: linear.train(exact, params))(linear.mean_points(initials))
    draws = np.asarray(jax.random.normal(unseen_key, (config.num_unseen, initials.spread.shape[1]), float))
    unseen = initials.centre + draws @ initials.spread.T
    trained = np.asarray(jax.vmap(lambda params: linear.train(points, params))(unseen))
    return {
        "num_points": num_points,
        "closed_form": linear.bound(problem, initials, num_points=num_points),
        "closed_form_points": float(linear.excess(problem, np.asarray(on_mean)).mean()),
        "simulated": simulated,
        "largest_unseen_excess": float(linear.excess(problem, trained).max()),
        "largest_unseen_distance": float(np.linalg.norm(trained - problem.optimum, axis=-1).max()),
    }


def draw(path: Path, result: dict[str, Any]) -> None:
    """Draw the figure of a record: closed forms as lines, simulations as points, D as a dotted line.

    Args:
        path: the file of the figure.
        result: the content of `result.json`.
    """
    series = []
    for name, family in result["families"].items():
        numbers = [row["num_points"] for row in family["points"]]
        for what, field in (("closed form", "closed_form"), ("simulated", "simulated")):
            is_closed = field == "closed_form"
            values = [row[field] for row in family["points"]]
            series.append(
                figures.Line(f"{name}, {what}", numbers, values, marked=not is_closed, drawn=is_closed)
            )
    figures.lines(
        path,
        series,
        x_label=f"M, distilled points (dotted: D = {result['num_features']})",
        y_label="mean loss above the optimum's after one step",
        title=f"Least squares on {result['dataset']}",
        at=result["num_features"],
    )


def run(config: Config) -> dict[str, Any]:
    """Carry the whole analysis out: simulate, compare, draw; or find it finished.

    Args:
        config: the settings.

    Returns:
        The content of `result.json`.

    Raises:
        ValueError: the settings do not fit each other, the data or the directory.
        FileNotFoundError: the data are missing.
    """
    workdir = config.directory("linear_bound")
    data = load(config.dataset, data_dir=config.data_dir, seed=config.seed)
    problem = problem_of(config, data)
    return once(
        workdir,
        config,
        lambda: analyse(config, problem),
        experiment="linear_bound",
        what=f"least squares on {Path(config.dataset).stem}, D = {config.num_features}",
        written="result.json",
        inputs=inputs_of(config, data),
        table=table,
        pictures={"linear_bound.png": draw},
    )


def analyse(config: Config, problem: Problem) -> dict[str, Any]:
    """The content of `result.json`: every p(θ0) with every number of points.

    Args:
        config: the settings.
        problem: the least-squares problem.

    Returns:
        The record.
    """
    began = time.monotonic()
    families = {}
    with jax.enable_x64(True):
        for index, (name, initials) in enumerate(
            linear.distributions(config.num_features, config.seed).items()
        ):
            rows = []
            for num_points in range(1, (config.max_points or config.num_features + 2) + 1):
                key = jax.random.fold_in(jax.random.key(config.seed), 1000 * index + num_points)
                rows.append(measure(problem, initials, num_points, config=config, key=key))
                print(f"{name}, M {num_points}: {rows[-1]['simulated']:.3g}", flush=True)
            needed = linear.least_points(problem, initials)
            by_count = {row["num_points"]: row for row in rows}
            families[name] = {
                "least_points": needed,
                "enough": by_count.get(needed),
                "one_fewer": by_count.get(needed - 1),
                "points": rows,
            }
    rows = [row for family in families.values() for row in family["points"]]
    found = {
        "num_features": config.num_features,
        "num_examples": len(problem.targets),
        "largest_difference": max(abs(row["simulated"] - row["closed_form"]) for row in rows),
        "families": families,
    }
    seconds = {"total": time.monotonic() - began}
    name = Path(config.dataset).stem
    return results.record("linear_bound", name, found, seconds=seconds, seed=config.seed)


def table(result: dict[str, Any]) -> str:
    """For each p(θ0), the number of points needed, and the loss with one point fewer and with enough points.

    Args:
        result: the content of `result.json`.

    Returns:
        The table as text.
    """
    rows = []
    for name, family in result["families"].items():
        for row in (family["one_fewer"], family["enough"]):
            if row is not None:
                fields = ("closed_form", "simulated", "largest_unseen_excess")
                cells = [f"{row[field]:.3g}" for field in fields]
                rows.append((name, family["least_points"], row["num_points"], *cells))
    headers = ("initial weights", "needs M", "M", "closed form", "simulated", "worst of unseen")
    difference = f"largest difference of simulation and closed form: {result['largest_difference']:.1e}"
    return f"{report.table(rows, headers)}\n\n{difference}"


LAUNCHER = Launcher("linear_bound", __doc__, Config, run=run)

if __name__ == "__main__":
    LAUNCHER.main()

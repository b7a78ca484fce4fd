"""A launcher's distillation on the data of another launcher, such as what a selection keeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ddjax
from ddjax import artifact
from ddjax.data import Dataset, provenance
from ddjax.launch.launcher import find
from ddjax.launch.types import Keys, Parts
from ddjax.run import Run
from ddjax.types import Distilled, start_of

Change = Callable[[Parts], Parts]
"""A change of a launcher's parts, such as a penalty on its method."""


def parsed(spec: str) -> tuple[str, dict[str, str]]:
    """The launcher and the flags in a text such as `"distribution_matching:width=32:num_outer_steps=500"`.

    Args:
        spec: the text.

    Returns:
        The name of the launcher, and the values by the names of the flags.

    Raises:
        ValueError: a part after the name is no `flag=value`.
    """
    name, *rest = spec.split(":")
    if not name or not all("=" in one for one in rest):
        raise ValueError(
            f"distil: expected a launcher and its flags, NAME:flag=value:flag=value; got {spec!r}. Give e.g. "
            "distribution_matching:width=32."
        )
    return name, dict(one.split("=", 1) for one in rest)


def check(spec: str, workdir: Path) -> None:
    """Refuse a distillation that is none, before anything is computed.

    Args:
        spec: the launcher and its flags, see `parsed`.
        workdir: the directory of the run.

    Raises:
        ValueError: there is no such launcher, the launcher is no distillation, or the flags are not its own.
    """
    name, given = parsed(spec)
    launcher = find(name)
    if launcher.build is None:
        raise ValueError(f"distil: expected a launcher that distils; {name} does not. Give another.")
    launcher.settings(given, workdir)


def distil_parts(
    parts: Parts, data: Dataset, workdir: Path, *, seed: int, metadata: Mapping[str, Any] | None = None
) -> Run:
    """Carry out the outer loop of a launcher's parts, or continue with the last checkpoint of a stopped one.

    Args:
        parts: the parts of a launcher.
        data: the data to distil.
        workdir: the directory of the checkpoints.
        seed: the seed of the distillation.
        metadata: the facts that the artifact has; None for none.

    Returns:
        The outcome of the outer loop.
    """
    return ddjax.distill(
        data,
        parts.method,
        key=Keys.of(seed).run,
        num_outer_steps=parts.num_outer_steps,
        form=parts.form,
        optimizer=parts.outer.optimizer,
        clip_norm=parts.outer.clip_norm,
        workdir=workdir,
        metadata=metadata,
    )


class Onward(NamedTuple):
    """A distillation on other data.

    Attributes:
        distilled: the distilled data φ.
        score: the score over the launcher's number of unseen initial weights, as in records.
    """

    distilled: Distilled
    score: dict[str, Any]


def distilled(
    spec: str,
    data: Dataset,
    workdir: Path,
    *,
    seed: int,
    change: Change | None = None,
) -> Onward:
    """Distil other data as a launcher would, and score the result on their test split.

    Args:
        spec: the launcher and its flags, see `parsed`.
        data: the data to distil, whose test split scores.
        workdir: the directory of the checkpoints and of `distilled.npz`. A distillation that was stopped goes
            on there.
        seed: the seed of the distillation and of the score.
        change: the change of the launcher's parts; None for none.

    Returns:
        φ and its score.

    Raises:
        ValueError: see `check`; or the settings do not fit the data.
    """
    name, given = parsed(spec)
    launcher, keys = find(name), Keys.of(seed)
    config: Any = launcher.settings({**given, "seed": seed}, workdir)
    parts = launcher.parts(config, data)
    if change is not None:
        parts = change(parts)
    metadata = {"experiment": name, **provenance.facts(data), **start_of(parts.network, parts.inits)}
    run = distil_parts(parts, data, workdir, seed=seed, metadata=metadata)
    artifact.save(workdir / "distilled.npz", run.distilled)
    score = ddjax.evaluate(
        run.distilled,
        parts.network,
        parts.judged_inits,
        data.test,
        key=keys.test,
        num_inits=config.num_eval_inits,
    )
    return Onward(run.distilled, dict(score.as_dict()))

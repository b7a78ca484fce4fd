"""The identity of a run: what makes φ, written beside the checkpoints and compared where a run continues.

φ belongs to the data (a digest of the arrays), the method, the form, the network, p(θ0), the settings, the
key and the code. Two descriptions of these are kept in `checkpoints/identity.json`:

*   facts, named values that any version can compare (`ddjax.facts`): where one differs, the run is refused;
*   digests of the traced programs (`ddjax.program`), which see functions and arrays of a user's own too. They
    count only between processes with the same versions of all traced code, on the same kind of device, so
    that a newer JAX or ddjax can continue a run.

What only watches or judges is no part of the identity: the times of checkpoints and records, listeners,
metadata, the division over devices. A run of an older ddjax has no such file, and is known by its key and the
shapes of its checkpoint alone.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from ddjax import facts, program, report
from ddjax.data import Dataset, digest
from ddjax.engine import Problem
from ddjax.facts import Facts
from ddjax.types import Form, Method, RealData

CODE_FORMAT = 1
"""The number of the code's meaning, which grows when equal facts give another φ than before."""

FILE = "identity.json"


@dataclasses.dataclass(frozen=True)
class Identity:
    """What a run is.

    Attributes:
        facts: the named facts that make φ.
        num_outer_steps: the number of outer steps of the whole run.
        programs: the function that traces the outer step and returns the digests of its programs by name.
        optimizer_of: the function `num_outer_steps -> digest` of the optimiser's program; None where the
            caller built the optimiser.
    """

    facts: Facts
    num_outer_steps: int
    programs: Callable[[], Mapping[str, str]]
    optimizer_of: Callable[[int], str] | None = None


def data_facts(data: Dataset) -> dict[str, Any]:
    """The facts about real data that φ depends on, or that are written beside φ.

    Args:
        data: the real data.

    Returns:
        The name, the names of the classes and the digest of the training split with its encoding.
    """
    return {"name": data.name, "classes": list(data.class_names), "train": digest(data.train)}


def facts_of(
    data: Dataset,
    method: Method,
    form: Form,
    *,
    key: jax.Array,
    settings: Mapping[str, Any],
    own: Mapping[str, Any] | None = None,
) -> Facts:
    """The named facts that make φ.

    Args:
        data: the real data, of which the training split counts.
        method: the method, with the network and p(θ0) that it was built from.
        form: the form of φ.
        key: the key of the run.
        settings: the settings of the run by name.
        own: further facts of the caller.

    Returns:
        The facts.
    """
    return Facts(
        {
            "code_format": CODE_FORMAT,
            "data": Facts(data_facts(data)),
            "method": facts.plain(method),
            "recipe": facts.plain(method.recipe),
            "assets": facts.tree(method.assets),
            "form": facts.plain(form),
            "key": facts.plain(key),
            **{name: facts.plain(value) for name, value in settings.items()},
            "own": Facts({name: facts.plain(value) for name, value in (own or {}).items()}),
        }
    )


def programs_of(problem: Problem, key: jax.Array, data: RealData) -> Callable[[], Mapping[str, str]]:
    """The function that traces the programs of an outer step.

    Args:
        problem: the method, form and optimiser.
        key: the key of the run.
        data: the real training data.

    Returns:
        A function without arguments.
    """
    return functools.cache(lambda: program.parts(problem, key, data))


def check(directory: Path, wanted: Identity) -> None:
    """Refuse a directory whose checkpoints belong to another run. Nothing is written.

    Args:
        directory: the directory of the checkpoints, which has some.
        wanted: the run that is to continue there.

    Raises:
        ValueError: the run there is another one. The facts that differ are listed.
    """
    found = _read(directory)
    if found is None:
        warnings.warn(
            f"{directory}: a run of an older ddjax, without {FILE}; it is known by its key and the shapes of "
            "its checkpoint alone. See that the data and settings are those it was started with.",
            stacklevel=2,
        )
        return
    lines = facts.differences(found["facts"], wanted.facts)
    lines = lines or _other_programs(found, wanted)
    if lines:
        raise ValueError(
            f"workdir: expected a directory of this run; {directory} holds a run with other settings: "
            f"{'; '.join(lines)}. Give this run a directory of its own, or what that run was started with."
        )


def _other_programs(found: Mapping[str, Any], wanted: Identity) -> list[str]:
    """What differs where all named facts are equal: the programs, or the number of outer steps."""
    before, now = found["num_outer_steps"], wanted.num_outer_steps
    other_length = f"num_outer_steps was {before}, is {now}, and"
    follows = f"{other_length} the rates of the outer optimiser follow from it, from the first step on"
    if found["traced_under"] == program.traced_under():
        programs = wanted.programs()
        differing = [name for name, one in found["programs"].items() if programs.get(name) != one]
        if before != now and differing == ["optimizer"]:
            given = f"{other_length} φ moves otherwise: its rates follow from that number, or are others"
            return [given if wanted.optimizer_of is None else follows]
        return [
            f"the program of `{name}` is another: a function, a network or an array in it that no fact names"
            for name in differing
        ]
    if before == now:
        return []
    if wanted.optimizer_of is None:
        return [
            f"{other_length} other versions wrote it, so that nothing tells whether the rates of the given "
            "optimiser follow from it"
        ]
    return [follows] if wanted.optimizer_of(before) != wanted.optimizer_of(now) else []


def write(directory: Path, identity: Identity) -> None:
    """Write what a run is, where that is not written there already.

    Args:
        directory: the directory of the checkpoints, which exists.
        identity: the run.

    Raises:
        OSError: the file could not be written.
    """
    content = {
        "facts": identity.facts,
        "num_outer_steps": identity.num_outer_steps,
        "programs": dict(identity.programs()),
        "traced_under": program.traced_under(),
    }
    path = directory / FILE
    if not path.exists() or _read(directory) != content:
        report.write_json(path, content)


def is_written(directory: Path) -> bool:
    """Whether a directory of checkpoints says which run it belongs to.

    Args:
        directory: the directory of the checkpoints.

    Returns:
        True where the file is there.
    """
    return (directory / FILE).exists()


def _read(directory: Path) -> dict[str, Any] | None:
    path = directory / FILE
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text())
        complete = {"facts", "num_outer_steps", "programs", "traced_under"} <= found.keys()
    except (AttributeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path}: expected JSON that a run wrote; got {error}. Remove it to continue the run by its key "
            "and shapes alone."
        ) from error
    if not complete:
        raise ValueError(
            f"{path}: expected facts, num_outer_steps, programs and traced_under; got {sorted(found)}. "
            "Remove it to continue the run by its key and shapes alone."
        )
    return found


__all__ = [
    "CODE_FORMAT",
    "FILE",
    "Identity",
    "check",
    "data_facts",
    "facts_of",
    "is_written",
    "programs_of",
    "write",
]

"""The help of launchers, written down, so that JAX need not be imported to print help.

To say what its flags are, a launcher imports all that the flags name: two to three seconds. `help.json`
beside this module holds the lines, each once, and is written by `scripts/help_lines.py`; a test holds the
file equal to what the launchers say.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ddjax import launchers

ASKS = frozenset({"--help", "-h", "-help"})
"""The flags that ask for help."""

FILE = Path(__file__).with_name("help.json")
"""The lines of all launchers."""


class Told(NamedTuple):
    """What a launcher says of its flags.

    Attributes:
        flags: one line for each flag, by name.
        free: the names of the flags that may change from one start in a work directory to the next.
    """

    flags: Mapping[str, str]
    free: Sequence[str]


def joined(docstring: str, flags: Iterable[str], free: Sequence[str]) -> str:
    """The text of `--help`.

    Args:
        docstring: the text that says what the experiment is.
        flags: one line for each flag.
        free: the names of the flags that may change from one start in a work directory to the next.

    Returns:
        The text.
    """
    lines = [docstring.strip(), "", "flags:", *flags]
    if free:
        lines += ["", f"may change from one start in a work directory to the next: {', '.join(free)}"]
    return "\n".join(lines)


def packed(told: Mapping[str, Told]) -> str:
    """The content of `help.json`.

    Args:
        told: what each launcher says, by the launcher's name.

    Returns:
        JSON: `lines`, each line of any flag once, under the flag's name and, from the second wording on, a
        number; `flags` and `free`, the keys and the names of each launcher.
    """
    keys: dict[str, str] = {}
    counts: dict[str, int] = {}
    for one in told.values():
        for name, line in one.flags.items():
            if line not in keys:
                counts[name] = counts.get(name, 0) + 1
                keys[line] = name if counts[name] == 1 else f"{name} {counts[name]}"
    content = {
        "lines": dict(sorted((key, line) for line, key in keys.items())),
        "flags": {name: ", ".join(keys[line] for line in one.flags.values()) for name, one in told.items()},
        "free": {name: ", ".join(one.free) for name, one in told.items()},
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def text_of(name: str, docstring: str) -> str | None:
    """The help of a launcher, without an import of the launcher.

    Args:
        name: the name of the launcher.
        docstring: the text that says what the launcher is, as `ddjax.launchers.docstrings` has it.

    Returns:
        The text; None where no lines are written down for the launcher.
    """
    if not FILE.exists():
        return None
    content = json.loads(FILE.read_text(encoding="utf-8"))
    if name not in content["flags"]:
        return None
    lines = (content["lines"][key] for key in content["flags"][name].split(", "))
    free = [key for key in content["free"][name].split(", ") if key]
    return joined(launchers.as_typed(docstring), lines, free)

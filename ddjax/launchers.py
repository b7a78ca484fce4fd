"""Where the launchers are, and what each of them is about; imports nothing but the standard library."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

INSTALLED = "ddjax.experiments"
"""The package of the launchers inside an installed wheel."""

CLONED = "experiments"
"""The package of the launchers beside ddjax, in a copy of the repository."""


def package() -> str:
    """The name of the package that the launchers are in.

    Returns:
        `"ddjax.experiments"` where ddjax was installed from a wheel, `"experiments"` in a copy of the
        repository.
    """
    return CLONED if importlib.util.find_spec(INSTALLED) is None else INSTALLED


def folders() -> list[Path]:
    """The directories of the launchers.

    Returns:
        The paths; empty where there are no launchers.
    """
    found = importlib.util.find_spec(package())
    return [Path(place) for place in (found.submodule_search_locations or ())] if found is not None else []


def docstrings() -> dict[str, str]:
    """The texts that say what the launchers are, read without importing any of them.

    Returns:
        The docstring of each launcher, by the launcher's name; empty where there are none.
    """
    files = [path for folder in folders() for path in sorted(folder.glob("*.py")) if path.stem != "__init__"]
    sources = {path.stem: ast.parse(path.read_text(encoding="utf-8")) for path in files}
    return {name: ast.get_docstring(source) or "" for name, source in sources.items()}


def titles() -> dict[str, str]:
    """The launchers and what each of them does, read without importing any of them.

    Returns:
        The first line of each launcher's docstring, by the launcher's name; empty where there are none.
    """
    return {name: text.partition("\n")[0] for name, text in docstrings().items()}


def as_typed(text: str) -> str:
    """A text with the commands as they are typed here.

    Args:
        text: the text, with commands as they are in a copy of the repository, `python -m experiments.NAME`.

    Returns:
        The text, with `ddjax NAME` where ddjax was installed from a wheel, without a package `experiments`.
    """
    return text.replace(f"python -m {CLONED}.", "ddjax ") if package() == INSTALLED else text

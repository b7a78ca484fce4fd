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


def titles() -> dict[str, str]:
    """The launchers and what each of them does, read without importing any of them.

    Returns:
        The first line of each launcher's docstring, by the launcher's name; empty where there are none.
    """
    found = importlib.util.find_spec(package())
    places = (found.submodule_search_locations or ()) if found is not None else ()
    files = [path for place in places for path in sorted(Path(place).glob("*.py")) if path.stem != "__init__"]
    return {path.stem: _title(path) for path in files}


def _title(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0]

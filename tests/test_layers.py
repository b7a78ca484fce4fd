"""Imports run one way: no module of the package or of experiments is, over any others, imported by itself."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FLOORS = ("types", "encodings", "unroll", "recipes", "judge", "run", "launch")
"""Rooms of the house, each of which knows nothing of those that follow."""


def module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


PATHS = {module(path): path for folder in ("ddjax", "experiments") for path in (ROOT / folder).rglob("*.py")}


def imported(name: str) -> set[str]:
    """The modules of the project that a module imports, at its top or where it needs them."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(PATHS[name].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from ddjax import forms` is of the room, not of the package's front door.
            inner = {f"{node.module}.{alias.name}" for alias in node.names} & PATHS.keys()
            found |= inner or {node.module}
    return (found & PATHS.keys()) - {name}


GRAPH = {name: imported(name) for name in PATHS}


def reached(name: str) -> set[str]:
    """All that a module stands on."""
    seen: set[str] = set()
    todo = [name]
    while todo:
        new = GRAPH[todo.pop()] - seen
        seen |= new
        todo += new
    return seen


def test_no_module_is_imported_by_itself():
    assert {name for name in PATHS if name in reached(name)} == set()


def test_each_floor_knows_nothing_of_those_above():
    for index, floor in enumerate(FLOORS):
        above = {f"ddjax.{name}" for name in FLOORS[index + 1 :]}
        inside = [name for name in PATHS if name == f"ddjax.{floor}" or name.startswith(f"ddjax.{floor}.")]
        for name in inside:
            assert {one for one in reached(name) if any(one.startswith(up) for up in above)} == set(), name


def test_the_library_knows_nothing_of_the_launchers():
    for name in PATHS:
        if name.startswith("ddjax"):
            assert not any(one.startswith("experiments") for one in GRAPH[name]), name

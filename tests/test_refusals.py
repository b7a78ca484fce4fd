"""What the tables of bad inputs stand on, and that none of their cases was lost."""

from __future__ import annotations

import ast
from pathlib import Path

import jax
import pytest
from refusals import Good

from ddjax import artifact


@pytest.mark.slow
def test_the_parts_that_the_table_spoils_are_good(few_digits, tmp_path):
    good = Good(tmp_path, few_digits)
    good.from_arrays()
    run = good.distill()
    assert artifact.load(artifact.save(tmp_path / "a.npz", run.distilled)).metadata["dataset"]
    assert 0 <= good.evaluate().mean <= 100
    assert jax.tree.leaves(good.train())
    assert good.launch().parts.num_outer_steps == 1000


def rows(path: Path) -> list[tuple[str, str]]:
    """Name and action of every case in the tables `REFUSED: Cases` of a file."""
    tables = [
        node.value
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation) == "Cases"
    ]
    return [
        (ast.unparse(name), ast.unparse(case.elts[0]))
        for table in tables
        if isinstance(table, ast.Dict)
        for name, case in zip(table.keys, table.values, strict=True)
        if name is not None and isinstance(case, ast.Tuple)
    ]


def test_the_tables_are_long_enough_and_each_case_is_its_own():
    found = [row for path in Path(__file__).parent.rglob("test_*_refusals.py") for row in rows(path)]
    assert len(found) >= 220
    assert len({name for name, _ in found}) == len(found)
    assert len({action for _, action in found}) == len(found)

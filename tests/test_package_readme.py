"""The description of the package: the README where no file lies beside it."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("package_readme", ROOT / "scripts" / "package_readme.py")
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    assert spec.loader is not None
    spec.loader.exec_module(module)
    return module


PAGE = """![ten digits](results/ten.png)
[a table](results/README.md#speed), [LICENSE](LICENSE), [2018](https://arxiv.org), [below](#below)
```python
table[0](results)
```
"""


@pytest.mark.parametrize(
    ("repository", "picture", "table", "licence"),
    [
        (None, "*(Picture: ten digits.)*", "a table (`results/README.md`)", "LICENSE"),
        *(
            (
                address,
                "![ten digits](https://example.org/me/ddjax/results/ten.png)",
                "[a table](https://example.org/me/ddjax/results/README.md#speed)",
                "[LICENSE](https://example.org/me/ddjax/LICENSE)",
            )
            for address in ("https://example.org/me/ddjax", "https://example.org/me/ddjax/")
        ),
    ],
)
def test_links_need_no_file_beside_the_page(script, repository, picture, table, licence):
    rest = "[2018](https://arxiv.org), [below](#below)"
    wanted = f"{picture}\n{table}, {licence}, {rest}\n```python\ntable[0](results)\n```\n"
    assert script.standalone(PAGE, repository) == wanted


def test_the_hook_describes_the_package_by_the_readme_itself(script):
    metadata: dict[str, Any] = {}
    script.ReadmeHook(str(ROOT), {}).update(metadata)
    text = metadata["readme"]["text"]
    assert metadata["readme"]["content-type"] == "text/markdown"
    assert text.startswith("# ddjax\n")
    targets = re.findall(r"\]\(([^)]*)\)", text)
    assert targets
    assert all(target.startswith(("https://", "#")) for target in targets)

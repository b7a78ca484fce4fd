"""The README as the package's description, where the files beside README.md are not at hand.

Hatchling runs this when it builds the package (`[tool.hatch.metadata.hooks.custom]` in pyproject.toml).
Links to files of the repository become links to the address in `[project.urls] Repository`. As long as none
is given there, a link becomes its text with the path behind, and a picture its description.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from hatchling.metadata.plugin.interface import MetadataHookInterface

FENCED = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?P<picture>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)]*)\)")


def standalone(text: str, repository: str | None) -> str:
    """A page whose links need no file beside it.

    Args:
        text: the page, in Markdown.
        repository: the address that the relative links of the page are relative to; None where there is none.

    Returns:
        The page with absolute links, or with texts and paths in their place. Links within the page stay, and
        so does code.
    """

    def replaced(link: re.Match[str]) -> str:
        picture, words, target = link["picture"], link["text"], link["target"]
        if target.startswith("#") or "://" in target:
            return link[0]
        if repository is not None:
            return f"{picture}[{words}]({urljoin(repository.rstrip('/') + '/', target)})"
        if picture:
            return f"*(Picture: {words}.)*"
        path = target.partition("#")[0]
        return words if words == path else f"{words} (`{path}`)"

    parts = FENCED.split(text)  # text and code in turn
    return "".join(part if i % 2 else LINK.sub(replaced, part) for i, part in enumerate(parts))


class ReadmeHook(MetadataHookInterface):
    """Fills in `project.readme`."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the description of the package.

        Args:
            metadata: the `[project]` table, which is changed in place.
        """
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        urls = metadata.get("urls", {})
        found = standalone(text, urls.get("Repository"))
        metadata["readme"] = {"content-type": "text/markdown", "text": found}

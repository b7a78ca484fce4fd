"""A report of a work directory as one page of HTML, with all pictures inside."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ddjax import files
from ddjax.report import format_duration

NAME = "report.html"
"""The name of the file in a work directory."""

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2rem; }
figure { margin: 1rem 0; } figcaption { color: #555; }
img { max-width: 100%; height: auto; image-rendering: pixelated; }
pre { background: #f4f4f4; padding: 0.75rem; overflow-x: auto; white-space: pre; }
pre.wrapped { white-space: pre-wrap; overflow-wrap: anywhere; }
table { border-collapse: collapse; } td, th { padding: 0.2rem 0.8rem 0.2rem 0; text-align: left; }
th { font-weight: normal; color: #555; vertical-align: top; }
"""

_CAPTIONS = {
    "distilled.png": "The distilled data.",
    "labels.png": "The learned labels.",
    "curves.png": "Loss, validation accuracy and learning rates over the outer steps.",
}


def write(workdir: Path, *, table: str) -> None:
    """Write the page of a finished work directory.

    Args:
        workdir: the directory, with `result.json` and `config.json`; pictures and `distilled.txt` where they
            are.
        table: the scores as aligned text.

    Raises:
        OSError: a file could not be read, or the page not be written.
    """
    result, config = (json.loads((workdir / name).read_text()) for name in ("result.json", "config.json"))
    pictures = {path.name: path.read_bytes() for path in sorted(workdir.glob("*.png"))}
    words = workdir / "distilled.txt"
    text = page(
        result, config, table=table, pictures=pictures, words=words.read_text() if words.exists() else None
    )
    files.write_atomic(workdir / NAME, text.encode())


def page(
    result: Mapping[str, Any],
    config: Mapping[str, Any],
    *,
    table: str,
    pictures: Mapping[str, bytes],
    words: str | None = None,
) -> str:
    """The page: scores, pictures, how networks are trained on φ, settings, command, machine.

    Args:
        result: the content of `result.json`.
        config: the content of `config.json`.
        table: the scores as aligned text.
        pictures: the PNG files by name.
        words: the distilled texts in words; None for images.

    Returns:
        HTML that refers to no other file.
    """
    title = f"{result.get('experiment', 'ddjax')} on {result.get('dataset', 'data')}"
    order = [name for name in _CAPTIONS if name in pictures]
    order += [name for name in pictures if name not in _CAPTIONS]
    sections = [
        _section("Accuracy", _pre(table)),
        _section("Pictures", "".join(_figure(name, pictures[name]) for name in order)),
        _section("Distilled texts", _pre(words or "")),
        _section("Training a network on these data", _facts(result.get("recipe"))),
        _section("Command", _pre(str(result.get("command", "")), wrapped=True)),
        _section("Seconds", _facts(_durations(result.get("seconds")))),
        _section("Settings", _facts(config)),
        _section("Machine", _facts({**(result.get("hardware") or {}), **(result.get("versions") or {})})),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<link rel="icon" href="data:,">\n<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n'
        f"</head>\n<body>\n<h1>{html.escape(title)}</h1>\n{''.join(sections)}</body>\n</html>\n"
    )


def _section(title: str, body: str) -> str:
    """A part of the page; none where there is nothing to show."""
    return f"<h2>{html.escape(title)}</h2>\n{body}\n" if body else ""


def _pre(text: str, *, wrapped: bool = False) -> str:
    kind = ' class="wrapped"' if wrapped else ""
    return f"<pre{kind}>{html.escape(text)}</pre>" if text else ""


def _figure(name: str, png: bytes) -> str:
    caption = html.escape(_CAPTIONS.get(name, name))
    data = base64.b64encode(png).decode()
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="{caption}">'
        f"<figcaption>{caption}</figcaption></figure>\n"
    )


def _durations(seconds: Mapping[str, float] | None) -> dict[str, str]:
    return {name: format_duration(value) for name, value in (seconds or {}).items()}


def _facts(facts: Mapping[str, Any] | None) -> str:
    """Names and values in two columns; what is not set is left out."""
    rows = [
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(_text(value))}</td></tr>\n"
        for name, value in (facts or {}).items()
        if value is not None and value != "" and not isinstance(value, Mapping)
    ]
    return f"<table>\n{''.join(rows)}</table>" if rows else ""


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

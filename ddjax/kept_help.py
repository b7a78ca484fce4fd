"""The help of launchers, kept from one call to the next.

To say what the flags are, a launcher imports all that the flags name, JAX among it: two to three seconds. The
text is kept in the cache's directory under a name that changes with the program, so that the next call prints
it in a tenth of a second. A cache that cannot be read or written costs time only.
"""

from __future__ import annotations

import contextlib
import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

from ddjax import files, launchers

ASKS = frozenset({"--help", "-h", "-help"})
"""The flags that ask for help."""


def path_of(name: str) -> Path:
    """The file that keeps the help of a launcher as the program is now.

    Args:
        name: the name of the launcher.

    Returns:
        The path. Its name holds the size and the time of every source file of the package and of the
        launchers, and the version of Python, so that a changed program has another file.
    """
    facts = [sys.version, launchers.package()]
    for file in sorted(
        {file for folder in (Path(__file__).parent, *launchers.folders()) for file in folder.rglob("*.py")}
    ):
        status = file.stat()
        facts.append(f"{file} {status.st_size} {status.st_mtime_ns}")
    digest = hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]
    return files.cache_directory() / "help" / f"{name}-{digest}.txt"


def text_of(name: str, make: Callable[[], str]) -> str:
    """The help of a launcher: the text that is kept, or else what `make` returns, which is then kept.

    Args:
        name: the name of the launcher.
        make: the function that makes the text.

    Returns:
        The text.
    """
    path = path_of(name)
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return path.read_text(encoding="utf-8")
    text = make()
    with contextlib.suppress(OSError, files.WriteError):
        path.parent.mkdir(parents=True, exist_ok=True)
        for old in path.parent.glob(f"{name}-*.txt"):
            old.unlink()
        files.write_atomic(path, text.encode())
    return text

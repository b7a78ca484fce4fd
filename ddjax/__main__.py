"""The command `ddjax`: every launcher by its name, and the tools beside them.

    ddjax                                    what there is
    ddjax quickstart                         ten distilled digits in a minute
    ddjax random_init --dataset=mnist        one launcher; `ddjax random_init --help` lists the flags
    ddjax export --artifact=distilled.npz --format=torch --output=mine
    ddjax prepare --dataset=mnist            download a data set, once
    ddjax sets                               distilled sets that are here already

`python -m ddjax` is the same, and so is `python -m experiments.NAME` in a copy of the repository.
"""

from __future__ import annotations

import difflib
import gc
import importlib
import runpy
import sys
from collections.abc import Mapping, Sequence

from ddjax import help_text, host_memory, launchers

TOOLS: Mapping[str, tuple[str, str]] = {
    "export": ("ddjax.export", "Pictures, tensors or safetensors out of an artifact."),
    "sets": ("ddjax.sets", "Distilled sets that come with ddjax: their cards, and where they are."),
    "prepare": ("ddjax.prepare", "Download and prepare a TFDS data set; needs no TensorFlow afterwards."),
}
"""The tools beside the launchers: the module with `main(arguments) -> exit code`, and what the tool does."""

BAD_INPUT = 2


def usage() -> str:
    """What the command can do.

    Returns:
        The text, with one line for each launcher and tool.
    """
    known = launchers.titles()
    wide = max(map(len, [*known, *TOOLS]))
    lines = [f"  {name:{wide}}  {title}" for name, title in known.items()]
    tools = [f"  {name:{wide}}  {title}" for name, (_, title) in TOOLS.items()]
    return "\n".join([(__doc__ or "").strip(), "", "launchers:", *lines, "", "tools:", *tools])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a launcher or a tool.

    Args:
        arguments: the name and its flags; by default those of this process.

    Returns:
        The exit code; a launcher ends the process with its own.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("--help", "-h", "help"):
        print(usage())
        return 0
    name, rest = given[0], given[1:]
    if name == "--version":
        from ddjax.version import __version__

        print(__version__)
        return 0
    if name in TOOLS:
        return importlib.import_module(TOOLS[name][0]).main(rest)
    known = launchers.docstrings()
    if name not in known:
        near = difflib.get_close_matches(name, [*known, *TOOLS], n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]}?" if near else ""
        print(
            f"error: expected one of {', '.join((*known, *TOOLS))}; got {name!r}.{hint} `ddjax --help` says "
            "what each of them does.",
            file=sys.stderr,
        )
        return BAD_INPUT
    if help_text.ASKS & set(rest) and (text := help_text.text_of(name, known[name])) is not None:
        print(text)
        return 0
    if arguments is None:  # before the second that JAX's import takes
        host_memory.restart_in_huge_pages()
    _import_launch()
    sys.argv = [f"ddjax {name}", *rest]
    runpy.run_module(f"{launchers.package()}.{name}", run_name="__main__", alter_sys=True)
    return 0


def _import_launch() -> None:
    """Import what all launchers import, JAX among it, in a fifth less time: nothing is garbage meanwhile."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        importlib.import_module("ddjax.launch")
    finally:
        if was_enabled:
            gc.enable()


if __name__ == "__main__":
    sys.exit(main())

"""Write what every launcher says of its flags to `ddjax/help.json`, from which `ddjax NAME --help` prints.

python scripts/help_lines.py            # after a flag was added or changed
python scripts/help_lines.py --check    # writes nothing; exit code 1 where the file would change
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ddjax import help_text, launchers
from ddjax.launch import launcher
from ddjax.launch.flags import explained, free_flags


def content() -> str:
    """What the file holds.

    Returns:
        The text, see `ddjax.help_text.packed`.
    """
    classes = {name: launcher.find(name).config_class for name in launchers.titles()}
    return help_text.packed(
        {name: help_text.Told(explained(one), free_flags(one)) for name, one in classes.items()}
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check the file.

    Args:
        arguments: the arguments without the program; by default those of this process.

    Returns:
        The exit code, which is 1 where `--check` finds a difference.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 on a difference")
    text = content()
    if parser.parse_args(arguments).check:
        return int(not help_text.FILE.exists() or help_text.FILE.read_text(encoding="utf-8") != text)
    help_text.FILE.write_text(text, encoding="utf-8")
    print(f"{help_text.FILE.name}: written")
    return 0


if __name__ == "__main__":
    sys.exit(main())

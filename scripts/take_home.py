"""Take a distilled set into the repository: the artifact, the picture and a card, out of a work directory.

    python scripts/take_home.py --workdir=runs/quickstart --name=digits-10

The card has the data and their licence, the accuracy with its spread and n as `result.json` has them, the
network, p(θ0), the recipe, the command, the versions, and the count of all numbers that the artifact stores.
An artifact of more than 400,000 bytes is refused. Of a form that stores its images in fewer numbers the
compact artifact is taken, `code.npz`; a picture of more than as many bytes is left out.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ddjax import artifact, recipes, sets
from ddjax.files import write_atomic

ROOT = Path(__file__).resolve().parents[1]
LARGEST = 400_000


def artifact_in(workdir: Path) -> Path:
    """The smallest artifact in a work directory.

    Args:
        workdir: the directory of a finished run.

    Returns:
        The path of the compact artifact where there is one, else of the whole one.
    """
    compact = workdir / "code.npz"
    return compact if compact.exists() else workdir / "distilled.npz"


def card_of(workdir: Path) -> dict[str, Any]:
    """The card of the artifact in a work directory.

    Args:
        workdir: the directory of a finished run.

    Returns:
        The card.

    Raises:
        FileNotFoundError: the run is not finished.
    """
    result = json.loads((workdir / "result.json").read_text(encoding="utf-8"))
    distilled = artifact.load(artifact_in(workdir))
    schedule = distilled.schedule
    numbers = {name: int(leaf.size) for name, leaf in schedule._asdict().items() if hasattr(leaf, "size")}
    numbers = result["storage"]["numbers"] if "storage" in result else numbers
    score = result["test_accuracy"]
    return {
        "dataset": result["dataset"],
        "licence of the data": sets.LICENCES.get(result["dataset"], "see where the data come from"),
        "experiment": result["experiment"],
        "network": result["network"],
        "network_settings": distilled.metadata.get("network_settings", {}),
        "init": result["init"],
        "examples": int(schedule.labels.shape[0] * schedule.labels.shape[1]),
        "numbers stored": numbers,
        "recipe": recipes.as_dict(distilled.recipe),
        "accuracy": {
            **{name: score[name] for name in ("mean", "std", "n")},
            "of": "percent of the test split, over initial weights that distillation did not see"
            if not str(result["init"]).startswith("fixed")
            else "percent of the test split, for the initial weights that the artifact names",
        },
        "command": " ".join(part for part in result["command"].split() if not part.startswith("--workdir=")),
        "versions": result["versions"],
        "hardware": result["hardware"],
    }


def take(workdir: Path, name: str, folder: Path) -> Path:
    """Write the three files of a set.

    Args:
        workdir: the directory of a finished run.
        name: the name of the set.
        folder: the folder of the sets.

    Returns:
        The path of the card.

    Raises:
        ValueError: the artifact is too large.
        FileNotFoundError: the run is not finished.
    """
    content = artifact_in(workdir).read_bytes()
    if len(content) > LARGEST:
        raise ValueError(
            f"{workdir}: expected an artifact of at most {LARGEST:,} bytes; got {len(content):,}. Take "
            "another."
        )
    card = json.dumps(card_of(workdir), indent=1, ensure_ascii=False) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / f"{name}.npz", content)
    picture = workdir / "distilled.png"
    if picture.exists() and picture.stat().st_size <= LARGEST:
        write_atomic(folder / f"{name}.png", picture.read_bytes())
    write_atomic(folder / f"{name}.json", card.encode())
    return folder / f"{name}.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Take a set as the command line says.

    Args:
        arguments: the arguments without the program; by default those of this process.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", required=True, type=Path, help="the directory of a finished run")
    parser.add_argument("--name", required=True, help="the name of the set")
    parser.add_argument(
        "--folder",
        type=Path,
        default=ROOT / "experiments" / "results" / "sets",
        help="the folder of the sets",
    )
    settings = parser.parse_args(arguments)
    try:
        print(take(settings.workdir, settings.name, settings.folder))
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return sets.BAD_INPUT
    return 0


if __name__ == "__main__":
    sys.exit(main())

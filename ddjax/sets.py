"""Distilled sets to take home: artifacts that come with ddjax, each with a card that says what the set is.

    ddjax sets                  all of them: data, images, accuracy, recipe
    ddjax sets NAME             the card of one, and where its files are

    distilled = ddjax.sets.load("digits-10")
    params = ddjax.train(distilled, network, inits, key=jax.random.key(0))

A set is three files: `NAME.npz`, the artifact; `NAME.png`, its picture; `NAME.json`, its card, which
`scripts/take_home.py` writes from the result of the run that made the artifact.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddjax import launchers

if TYPE_CHECKING:
    from ddjax.types import Distilled

LICENCES: Mapping[str, str] = {
    "cifar10": "none stated by the authors (Krizhevsky 2009)",
    "digits": "CC BY 4.0 (UCI, Alpaydin and Kaynak 1998)",
    "fashion_mnist": "MIT (Zalando SE 2017)",
    "mnist": "CC BY-SA 3.0 (LeCun and Cortes)",
    "trec": "none stated by the authors (Li and Roth 2002)",
}
"""The licence of the real data that a set was distilled from, by the name of the data set."""

BAD_INPUT = 2


def folder() -> Path | None:
    """The folder of the sets.

    Returns:
        The folder; None where ddjax was installed without launchers and sets.
    """
    found = importlib.util.find_spec(launchers.package())
    places = (found.submodule_search_locations or ()) if found is not None else ()
    return next((Path(place) / "results" / "sets" for place in places), None)


def names() -> tuple[str, ...]:
    """The names of the sets, in the order of the alphabet."""
    place = folder()
    return tuple(sorted(path.stem for path in place.glob("*.json"))) if place is not None else ()


def path(name: str) -> Path:
    """The artifact of a set.

    Args:
        name: the name of the set.

    Returns:
        The path of the `.npz`.

    Raises:
        ValueError: there is no such set.
    """
    place = folder()
    if place is None or name not in names():
        raise ValueError(
            f"set: expected one of {', '.join(names()) or 'the sets of ddjax, of which none is installed'}; "
            f"got {name!r}. `ddjax sets` lists them."
        )
    return place / f"{name}.npz"


def card(name: str) -> dict[str, Any]:
    """What a set is: data and their licence, accuracy and how it was measured, recipe, command.

    Args:
        name: the name of the set.

    Returns:
        The content of the card.

    Raises:
        ValueError: there is no such set.
    """
    return json.loads(path(name).with_suffix(".json").read_text(encoding="utf-8"))


def load(name: str) -> Distilled:
    """A set, to train networks on.

    Args:
        name: the name of the set.

    Returns:
        The distilled data φ.

    Raises:
        ValueError: there is no such set.
    """
    from ddjax import artifact

    return artifact.load(path(name))


def _line(name: str) -> str:
    found = card(name)
    score = found["accuracy"]
    measured = f"{score['mean']:.1f} ± {score['std']:.1f} % over {score['n']} networks"
    what = f"{found['dataset']}, {found['examples']} examples, {found['network']}"
    return f"{name}: {what}: {measured}, recipe {found['recipe']['kind']}"


def main(arguments: Sequence[str] | None = None) -> int:
    """List the sets, or show the card of one.

    Args:
        arguments: nothing, or the name of a set; by default the arguments of this process.

    Returns:
        The exit code.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("--help", "-h"):
        print((__doc__ or "").strip(), "", *map(_line, names()), sep="\n")
        return 0
    try:
        print(json.dumps({**card(given[0]), "path": str(path(given[0]))}, indent=1, ensure_ascii=False))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    return 0

"""Dataset distillation in JAX: a training set compressed into a few learned images and learning rates."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ddjax.version import __version__

if TYPE_CHECKING:
    from ddjax import (
        artifact,
        augment,
        baselines,
        coresets,
        data,
        encodings,
        experts,
        export,
        figures,
        forms,
        inits,
        launch,
        methods,
        networks,
        optimizers,
        pool,
        ranking,
        recipes,
        ridge,
        sets,
        targets,
        teachers,
        testing,
        types,
    )
    from ddjax.judge import Evaluation, Judge, evaluate, train
    from ddjax.recipes import recipe as Recipe  # noqa: N812 (the name of the class that it replaces)
    from ddjax.run import DivergedError, PreemptedError, Reporting, Run, Validation, distill
    from ddjax.types import Distilled, Encoding, Form, InitDistribution, Method, Network, Outer, Schedule

_HOMES: Mapping[str, tuple[str, ...]] = {
    "judge": ("Evaluation", "Judge", "evaluate", "train"),
    "run": ("DivergedError", "PreemptedError", "Reporting", "Run", "Validation", "distill"),
    "types": (
        "Distilled",
        "Encoding",
        "Form",
        "InitDistribution",
        "Method",
        "Network",
        "Outer",
        "Schedule",
    ),
}
"""The module that each public name of this package comes from."""

_PLACES: Mapping[str, tuple[str, str]] = {
    **{name: (module, name) for module, names in _HOMES.items() for name in names},
    "Recipe": ("recipes", "recipe"),
}

__all__ = [
    "Distilled",
    "DivergedError",
    "Encoding",
    "Evaluation",
    "Form",
    "InitDistribution",
    "Judge",
    "Method",
    "Network",
    "Outer",
    "PreemptedError",
    "Recipe",
    "Reporting",
    "Run",
    "Schedule",
    "Validation",
    "__version__",
    "artifact",
    "augment",
    "baselines",
    "coresets",
    "data",
    "distill",
    "encodings",
    "evaluate",
    "experts",
    "export",
    "figures",
    "forms",
    "inits",
    "launch",
    "methods",
    "networks",
    "optimizers",
    "pool",
    "ranking",
    "recipes",
    "ridge",
    "sets",
    "targets",
    "teachers",
    "testing",
    "train",
    "types",
]
"""The public names and rooms. Modules that are not named here are ddjax's own and may change at any time."""


def __getattr__(name: str) -> Any:
    """A public name, imported when it is first used, so that `ddjax --help` need not wait for JAX."""
    if name in _PLACES:
        module, own = _PLACES[name]
        found = getattr(importlib.import_module(f"{__name__}.{module}"), own)
    elif not name.startswith("_") and importlib.util.find_spec(f"{__name__}.{name}") is not None:
        found = importlib.import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

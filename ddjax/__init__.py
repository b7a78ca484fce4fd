"""Dataset distillation in JAX: a training set compressed into a few learned images and learning rates."""

from ddjax import (
    artifact,
    augment,
    baselines,
    coresets,
    data,
    encodings,
    forms,
    inits,
    methods,
    networks,
    optimizers,
    pool,
    recipes,
)
from ddjax.judge import Evaluation, Judge, evaluate, train
from ddjax.recipes import recipe as Recipe  # noqa: N812 (the name of the class that it replaces)
from ddjax.run import DivergedError, PreemptedError, Reporting, Run, Validation, distill
from ddjax.types import Distilled, Encoding, Form, InitDistribution, Method, Network, Outer, Schedule
from ddjax.version import __version__

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
    "forms",
    "inits",
    "methods",
    "networks",
    "optimizers",
    "pool",
    "recipes",
    "train",
]

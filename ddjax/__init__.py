"""Dataset distillation in JAX: a training set compressed into a few learned images and learning rates."""

from ddjax import artifact, augment, baselines, coresets, data, inits, methods, networks, optimizers, pool
from ddjax import distilled as forms
from ddjax.evaluate import Evaluation, evaluate, train
from ddjax.run import DivergedError, PreemptedError, Reporting, Run, Validation, distill
from ddjax.types import Distilled, Form, InitDistribution, Method, Network, Recipe, Schedule
from ddjax.version import __version__

__all__ = [
    "Distilled",
    "DivergedError",
    "Evaluation",
    "Form",
    "InitDistribution",
    "Method",
    "Network",
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
    "evaluate",
    "forms",
    "inits",
    "methods",
    "networks",
    "optimizers",
    "pool",
    "train",
]

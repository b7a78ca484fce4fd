"""The machinery of launchers: flags, settings, plan, work directory, exit codes, results, tables.

A launcher is an object, `LAUNCHER = Launcher(name, __doc__, Config, build=build)`, which the shell, tables,
sweeps and tests run in the same way. The launcher of a distillation only says how its parts are built from
its settings.
"""

from ddjax.launch.choices import (
    augmentation,
    augmentations,
    build_network,
    choose_network,
    in_form,
    initial_images,
    load_data,
    load_pool,
    network_of,
    random_inits,
    runs_at_once,
    strategy,
    trained_recipe,
)
from ddjax.launch.directory import (
    check_workdir,
    finished,
    inputs_of,
    once,
    open_workdir,
    read_object,
    write_result,
)
from ddjax.launch.flags import ConfigT, flag, flag_like, listed, numbers, parse, recorded
from ddjax.launch.kept import Scores, recorded_once
from ddjax.launch.launcher import Launcher, find
from ddjax.launch.matching import Matched, matching_parts, multi_formation
from ddjax.launch.process import EXIT_BAD_INPUT, EXIT_DISK, EXIT_DIVERGED, EXIT_PREEMPTED, guarded, tell
from ddjax.launch.regression import Regressed, Regression, centred_pixels, regression_parts
from ddjax.launch.results import ceiling, measure_baselines, record, record_of_run
from ddjax.launch.settings import (
    AUGMENTATIONS,
    Common,
    DataChoice,
    Formed,
    Matching,
    NetworkChoice,
    TextChoice,
    Unrolled,
    Where,
)
from ddjax.launch.types import (
    Build,
    Case,
    Facts,
    Finished,
    Hooks,
    Keys,
    Launch,
    Layout,
    Parts,
)
from ddjax.launch.unrolling import unrolled_parts
from ddjax.plan import Plan

__all__ = [
    "AUGMENTATIONS",
    "EXIT_BAD_INPUT",
    "EXIT_DISK",
    "EXIT_DIVERGED",
    "EXIT_PREEMPTED",
    "Build",
    "Case",
    "Common",
    "ConfigT",
    "DataChoice",
    "Facts",
    "Finished",
    "Formed",
    "Hooks",
    "Keys",
    "Launch",
    "Launcher",
    "Layout",
    "Matched",
    "Matching",
    "NetworkChoice",
    "Parts",
    "Plan",
    "Regressed",
    "Regression",
    "Scores",
    "TextChoice",
    "Unrolled",
    "Where",
    "augmentation",
    "augmentations",
    "build_network",
    "ceiling",
    "centred_pixels",
    "check_workdir",
    "choose_network",
    "find",
    "finished",
    "flag",
    "flag_like",
    "guarded",
    "in_form",
    "initial_images",
    "inputs_of",
    "listed",
    "load_data",
    "load_pool",
    "matching_parts",
    "measure_baselines",
    "multi_formation",
    "network_of",
    "numbers",
    "once",
    "open_workdir",
    "parse",
    "random_inits",
    "read_object",
    "record",
    "record_of_run",
    "recorded",
    "recorded_once",
    "regression_parts",
    "runs_at_once",
    "strategy",
    "tell",
    "trained_recipe",
    "unrolled_parts",
    "write_result",
]

"""A launcher as an object, which the shell, tables, sweeps and tests carry out alike."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Generic, NoReturn

from absl import flags as absl_flags

from ddjax import host_memory
from ddjax.data import Dataset
from ddjax.launch import distillation
from ddjax.launch.flags import ConfigT, command_line, parse, usage
from ddjax.launch.process import ended_by_signals, fail_fast, guarded, keep_compilations
from ddjax.launch.types import Build, Parts


class Launcher(Generic[ConfigT]):
    """An experiment by name: its settings, and what is done with them.

    A distillation says how its parts are built, and the rest is the same for all; anything else brings a
    function of its settings.

    Args:
        name: the name of the experiment, in records and default work directories.
        docstring: what the experiment is, for `--help`.
        config_class: the frozen dataclass of its settings, made of `flag` fields.
        build: `(config, data, keys, plan) -> Parts` of a distillation.
        run: `config -> result` of anything else.

    Attributes:
        name: the name of the experiment.
        docstring: what the experiment is.
        config_class: the dataclass of its settings.
        build: the function that builds the parts; None where this is no distillation.
        run: carries the experiment out with given settings, and returns what `result.json` holds.

    Raises:
        ValueError: both or neither of `build` and `run` are given.
    """

    def __init__(
        self,
        name: str,
        docstring: str | None,
        config_class: type[ConfigT],
        *,
        build: Build | None = None,
        run: Callable[[Any], dict[str, Any]] | None = None,
    ):
        if (build is None) == (run is None):
            both = "neither" if build is None else "both"
            raise ValueError(
                f"launcher {name}: expected either build or run; got {both}. Give build=... for a "
                "distillation, run=... for anything else."
            )
        self.name: Final = name
        self.docstring: Final = docstring
        self.config_class: Final = config_class
        self.build: Final = build
        self.run: Final[Callable[[Any], dict[str, Any]]] = run or self._distil

    def __repr__(self) -> str:
        return f"Launcher({self.name!r})"

    def _distil(self, config: Any) -> dict[str, Any]:
        assert self.build is not None
        return distillation.run(self.name, config, self.build)

    def parts(self, config: Any, data: Dataset) -> Parts:
        """The parts of a distillation under the plan that the flags and the backend's default make.

        Args:
            config: the settings.
            data: the real data.

        Raises:
            ValueError: this is no distillation, or settings that do not fit each other or the data.
        """
        if self.build is None:
            raise ValueError(f"launcher {self.name}: expected a distillation; it has no build. Give another.")
        case = distillation.case_of(config, data, self.build)
        return case.parts(case.start)

    def carry_out(
        self, given: Mapping[str, Any], workdir: Path, *, data_dir: str | None = None
    ) -> dict[str, Any]:
        """The result of the command with these flags: made now, or found in its work directory.

        Args:
            given: values by the names of the flags.
            workdir: the directory of the run.
            data_dir: the directory of TFDS data; None for that of the environment.

        Returns:
            What `result.json` holds.

        Raises:
            ValueError: no such flags, or settings that do not fit each other, the data or the directory.
            FileNotFoundError: the data are missing.
            DivergedError: see `ddjax.distill`.
            PreemptedError: see `ddjax.distill`.
        """
        places = {"workdir": workdir} | ({} if data_dir is None else {"data_dir": data_dir})
        arguments = command_line({**given, **places})
        return self.run(parse(self.config_class, [self.name, *arguments], absl_flags.FlagValues()))

    def main(self) -> NoReturn:
        """Parse the command line, act, exit with the documented code."""
        if {"--help", "-h", "-help"} & set(sys.argv[1:]):
            print(usage(self.docstring or self.name, self.config_class))
            sys.exit(0)
        keep_compilations()
        host_memory.return_large_blocks()
        with ended_by_signals():
            code = fail_fast(lambda: guarded(lambda: self.run(parse(self.config_class, sys.argv))))
        sys.exit(code)


def find(name: str, *, package: str = "experiments") -> Launcher[Any]:
    """The launcher of a module.

    Args:
        name: the module's name.
        package: the package that the module is in.

    Raises:
        ValueError: there is no such module, or it has no `LAUNCHER`.
    """
    place = f"{package}.{name}"
    try:
        found = getattr(importlib.import_module(place), "LAUNCHER", None)
    except ModuleNotFoundError as error:
        if error.name not in (package, place):
            raise
        raise ValueError(
            f"launcher: expected a module of {package}; got {name!r} ({error}). Give the name of a file "
            "there, and start from the directory that the package is in."
        ) from error
    if not isinstance(found, Launcher):
        raise ValueError(
            f"launcher: expected a module with LAUNCHER = Launcher(...); {place} has none. Add it, as "
            "experiments/random_init.py has."
        )
    return found

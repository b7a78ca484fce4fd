"""A launcher as an object, which the shell, tables, sweeps and tests run in the same way."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Generic, NoReturn

from absl import flags as absl_flags

from ddjax import host_memory, launchers
from ddjax.data import Dataset
from ddjax.launch import distillation
from ddjax.launch.campaign import Planned, confirm, cost_in
from ddjax.launch.flags import ConfigT, command_line, parse, usage, without_effect
from ddjax.launch.process import (
    ended_by_signals,
    fail_fast,
    guarded,
    keep_compilations,
    surviving_messages,
)
from ddjax.launch.types import Build, Parts


class Launcher(Generic[ConfigT]):
    """An experiment by name: its settings, and what is done with them.

    The launcher of a distillation says how its parts are built, and the rest is the same for all of them. Any
    other launcher has a function of its settings.

    Args:
        name: the name of the experiment, in records and default work directories.
        docstring: the text that says what the experiment is, for `--help`.
        config_class: the frozen dataclass of the experiment's settings, made of `flag` fields.
        build: the function `(config, data, keys, plan) -> Parts` of a distillation.
        run: the function `config -> result` of any other experiment.
        runs: the function `config -> runs` of an experiment that starts many runs; from a command line they
            are told, and the person asked, before the first one starts.

    Attributes:
        name: the name of the experiment.
        docstring: the text that says what the experiment is.
        config_class: the dataclass of the experiment's settings.
        build: the function that builds the parts; None where the experiment is no distillation.
        run: the function that carries the experiment out with given settings, and returns the content of
            `result.json`.
        runs: the function that names the runs of an experiment that starts many; None for others.

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
        runs: Callable[[Any], Sequence[Planned]] | None = None,
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
        self.runs: Final = runs

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

        Returns:
            The parts.

        Raises:
            ValueError: the experiment is no distillation, or the settings do not fit each other or the data.
        """
        if self.build is None:
            raise ValueError(f"launcher {self.name}: expected a distillation; it has no build. Give another.")
        case = distillation.case_of(config, data, self.build)
        return case.parts(case.start)

    def carry_out(
        self, given: Mapping[str, Any], workdir: Path, *, data_dir: str | None = None
    ) -> dict[str, Any]:
        """The result of the command with the given flags: computed now, or found in the work directory.

        Args:
            given: the values, by the names of the flags.
            workdir: the directory of the run.
            data_dir: the directory of TFDS data; None for the directory that the environment names.

        Returns:
            The content of `result.json`.

        Raises:
            ValueError: there are no such flags, or the settings do not fit each other, the data or the
                directory.
            FileNotFoundError: the data are missing.
            DivergedError: see `ddjax.distill`.
            PreemptedError: see `ddjax.distill`.
        """
        return self.run(self.settings(given, workdir, data_dir=data_dir))

    def settings(self, given: Mapping[str, Any], workdir: Path, *, data_dir: str | None = None) -> ConfigT:
        """The settings of the command with the given flags, for `carry_out`, or to check the flags early.

        Args:
            given: the values, by the names of the flags.
            workdir: the directory of the run.
            data_dir: the directory of TFDS data; None for the directory that the environment names.

        Returns:
            The settings.

        Raises:
            ValueError: there are no such flags, or a value is out of range.
        """
        places = {"workdir": workdir} | ({} if data_dir is None else {"data_dir": data_dir})
        arguments = command_line({**given, **places})
        return parse(self.config_class, [self.name, *arguments], absl_flags.FlagValues())

    def main(self) -> NoReturn:
        """Parse the command line, run the experiment, and end the process with the documented exit code."""
        with surviving_messages():
            code = self._main()
        sys.exit(code)

    def _main(self) -> int:
        """The exit code of the command line."""
        if {"--help", "-h", "-help"} & set(sys.argv[1:]):
            print(usage(launchers.as_typed(self.docstring or self.name), self.config_class))
            return 0
        if getattr(sys.modules["__main__"], "LAUNCHER", None) is self:  # else the program is somebody else's
            host_memory.restart_in_huge_pages()
        keep_compilations()
        host_memory.return_large_blocks()
        with ended_by_signals():
            return fail_fast(lambda: guarded(lambda: self._start(self._settings(sys.argv))))

    def _start(self, config: ConfigT) -> dict[str, Any]:
        if self.runs is not None:
            confirm(config, self.runs(config), cost=cost_in(self.docstring or ""))
        return self.run(config)

    def _settings(self, argv: Sequence[str]) -> ConfigT:
        """The settings of a command line, once flags that change nothing have been named."""
        config = parse(self.config_class, argv)
        for name, why in without_effect(config).items():
            print(f"note: --{name} has no effect as given: {why}", file=sys.stderr, flush=True)
        return config


def find(name: str, *, package: str | None = None) -> Launcher[Any]:
    """The launcher of a module.

    Args:
        name: the name of the module.
        package: the package that contains the module; None for that of ddjax's own launchers.

    Returns:
        The module's `LAUNCHER`.

    Raises:
        ValueError: there is no such module, or the module has no `LAUNCHER`.
    """
    package = launchers.package() if package is None else package
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

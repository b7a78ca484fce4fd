"""Settings as frozen dataclasses: each field is a typed, documented absl flag and a line of `config.json`."""

from __future__ import annotations

import dataclasses
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from absl import flags

from ddjax import checks, help_text
from ddjax.files import path_at_home

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

MAKES, JUDGES, WATCHES, EXTENDS, DATASET, FILE = "makes", "judges", "watches", "extends", "dataset", "file"
"""The roles of settings, for `flag`."""

ConfigT = TypeVar("ConfigT", bound="DataclassInstance")


def flag(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    positive: bool = False,
    high: float | None = None,
    choices: Sequence[str] | None = None,
    path: bool = False,
    recorded: bool = True,
    same_step: bool = False,
    role: str = MAKES,
    before: Any = dataclasses.MISSING,
) -> Any:
    """A field of a settings dataclass that becomes the flag `--name=default`.

    Args:
        default: the value of the setting where the flag is not given.
        help: one line for `--help`.
        low: the least value of a number.
        positive: whether every number must be greater than zero.
        high: the greatest value of a number.
        choices: the only values of a string.
        path: whether the value is a path, several paths with commas between them, or a name in the place of a
            path; a `~` at the start of each stands for the home directory.
        recorded: whether the setting is written to `config.json`. A setting that is not recorded may change
            from one start of the run to the next.
        same_step: whether the setting leaves the speed and size of an outer step unchanged. Runs that differ
            only in such settings share a tuned plan.
        role: what the setting does to a run that was started with another value.

            | role | of the setting | with another value |
            |---|---|---|
            | `MAKES` | makes φ, or the scores of a launcher without φ | refused |
            | `JUDGES` | measures φ only | the result is measured anew, φ stays |
            | `WATCHES` | says when to save and report, where data lie | goes on |
            | `EXTENDS` | says how far φ is moved | the run itself decides (`ddjax.distill`) |
            | `DATASET` | names data, which are known by their digest | goes on where the digest is the same |
            | `FILE` | names a file, which is known by its bytes | goes on where the bytes are the same |
        before: the value that the code had before the setting existed; the default where that is the same.
            A `config.json` without the setting has this value.

    Returns:
        The field.
    """
    metadata = {
        "help": help,
        "low": low,
        "positive": positive,
        "high": high,
        "choices": choices,
        "path": path,
        "recorded": recorded,
        "same_step": same_step,
        "role": role,
        "before": before,
    }
    return dataclasses.field(default=default, metadata=metadata)


def flag_like(config_class: type, name: str, **changed: Any) -> Any:
    """The flag of another settings dataclass, with another default or other properties.

    Args:
        config_class: the dataclass that has the flag.
        name: the name of the field.
        changed: the arguments of `flag` that differ.

    Returns:
        The field.
    """
    (field,) = (one for one in dataclasses.fields(config_class) if one.name == name)
    arguments: dict[str, Any] = {"default": field.default, **field.metadata, **changed}
    return flag(**arguments)


def recorded(config: Any) -> dict[str, Any]:
    """The settings that make a run what it is, for `config.json`.

    Args:
        config: the settings.

    Returns:
        The values of the recorded settings, by name.
    """
    values = dataclasses.asdict(config)
    return {
        field.name: values[field.name] for field in dataclasses.fields(config) if field.metadata["recorded"]
    }


def of_role(config: Any, *roles: str) -> dict[str, Any]:
    """The recorded settings with some roles.

    Args:
        config: the settings.
        *roles: the roles, see `flag`.

    Returns:
        The values of these settings, by name.
    """
    wanted = {field.name for field in dataclasses.fields(config) if field.metadata["role"] in roles}
    return {name: value for name, value in recorded(config).items() if name in wanted}


def in_older(config: Any, name: str) -> Any:
    """The value of a setting where a `config.json` of an older version does not have the setting.

    Args:
        config: the settings.
        name: the name of the setting.

    Returns:
        The value that the code of that time had.
    """
    (field,) = (one for one in dataclasses.fields(config) if one.name == name)
    before = field.metadata["before"]
    return field.default if before is dataclasses.MISSING else before


def of_the_step(config: Any) -> dict[str, Any]:
    """The recorded settings that the speed and size of an outer step may depend on.

    Args:
        config: the settings.

    Returns:
        The values of these settings, by name.
    """
    same = {field.name for field in dataclasses.fields(config) if field.metadata["same_step"]}
    return {name: value for name, value in recorded(config).items() if name not in same}


def _define(
    name: str, kind: type, default: Any, metadata: Mapping[str, Any], values: flags.FlagValues
) -> None:
    text = metadata["help"]
    if kind is bool:
        flags.DEFINE_bool(name, default, text, flag_values=values)
    elif kind is int:
        flags.DEFINE_integer(name, default, text, lower_bound=metadata["low"], flag_values=values)
    elif kind is float:
        flags.DEFINE_float(name, default, text, lower_bound=metadata["low"], flag_values=values)
    elif metadata["choices"]:
        flags.DEFINE_enum(name, default, metadata["choices"], text, flag_values=values)
    else:
        flags.DEFINE_string(name, default, text, flag_values=values)


def define_flags(config_class: type, values: flags.FlagValues = flags.FLAGS) -> None:
    """Define one flag for each field of a dataclass made of `flag` fields.

    Args:
        config_class: the dataclass.
        values: the registry to define the flags in.
    """
    hints = typing.get_type_hints(config_class)
    for field in dataclasses.fields(config_class):
        kind = hints[field.name]
        if isinstance(kind, types.UnionType):  # `int | None`: None stands for a choice made from the data
            (kind,) = (one for one in typing.get_args(kind) if one is not type(None))
        _define(field.name, kind, field.default, field.metadata, values)


def from_flags(config_class: type[ConfigT], values: flags.FlagValues = flags.FLAGS) -> ConfigT:
    """The settings with the values that the flags were given.

    Args:
        config_class: the dataclass whose flags are defined and parsed.
        values: the registry of the flags.

    Returns:
        The settings.
    """
    fields = dataclasses.fields(config_class)
    return config_class(**{field.name: _read(field, values[field.name].value) for field in fields})


def _read(field: dataclasses.Field[Any], value: Any) -> Any:
    """The value of a flag as the settings have it: in its range, and with the home directory in full."""
    metadata = field.metadata
    if isinstance(value, float):
        checks.at_least(field.name, value, -sys.float_info.max, integer=False, remedy="Give a finite number.")
    if value is not None and metadata["positive"]:
        checks.positive(field.name, value)
    if value is not None and metadata["high"] is not None and not value <= metadata["high"]:
        raise ValueError(
            f"{field.name}: expected at most {metadata['high']:,}; got {value:,}. Give a smaller number."
        )
    return at_home(field.name, value) if metadata["path"] and isinstance(value, str) else value


def at_home(what: str, text: str) -> str:
    """Paths with the home directory in the place of a `~`, which a shell leaves as it is in `--flag=~/x`.

    Args:
        what: the name of the flag, for the message.
        text: a path, or several with commas between them.

    Returns:
        The paths, with commas between them.

    Raises:
        ValueError: there is no home directory, or no such user.
    """
    try:
        # Not through `Path` where nothing is to be done: it would rewrite "./x" and names of data sets.
        parts = [str(path_at_home(part)) if part.startswith("~") else part for part in text.split(",")]
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from error
    return ",".join(parts)


def without_effect(config: Any) -> dict[str, str]:
    """The settings that differ from their defaults and change nothing under the other settings.

    Args:
        config: the settings; their method `idle`, where they have one, says which settings change nothing.

    Returns:
        The reasons, by the names of the flags.
    """
    idle: Mapping[str, str] = config.idle() if hasattr(config, "idle") else {}
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    return {name: why for name, why in idle.items() if getattr(config, name) != defaults[name]}


def parse(
    config_class: type[ConfigT], argv: Sequence[str], values: flags.FlagValues = flags.FLAGS
) -> ConfigT:
    """Settings from a command line.

    Args:
        config_class: a frozen dataclass made of `flag` fields.
        argv: the command line, with the program first.
        values: the registry to define the flags in.

    Returns:
        The settings.

    Raises:
        ValueError: a flag is unknown, a value has another type or is out of range, or an argument is no flag.
    """
    define_flags(config_class, values)
    try:
        rest = values(argv)
    except flags.Error as error:
        raise ValueError(f"{error}. See --help for the flags.") from error
    if len(rest) > 1:
        raise ValueError(f"arguments: expected only flags, --name=value; got {' '.join(rest[1:])}.")
    return from_flags(config_class, values)


def command_line(given: Mapping[str, Any]) -> list[str]:
    """Flags as they are written on a command line: `--name=value`, or `--name` and `--noname` for a boolean.

    Args:
        given: the values, by the names of the flags.

    Returns:
        The arguments.
    """
    return [
        f"--{'' if value else 'no'}{name}" if isinstance(value, bool) else f"--{name}={value}"
        for name, value in given.items()
    ]


def numbers(name: str, text: str, kind: type) -> tuple[Any, ...]:
    """The numbers in the value of a flag, `1,2,3`.

    Args:
        name: the name of the flag.
        text: the value of the flag.
        kind: the type of a number, int or float.

    Returns:
        The numbers, in their order.

    Raises:
        ValueError: a part of the text is no such number.
    """
    try:
        return tuple(kind(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise ValueError(
            f"{name}: expected numbers, e.g. 1,2,3; got {text!r}. Separate by commas."
        ) from error


def listed(name: str, text: str, choices: Sequence[str] | None = None) -> tuple[str, ...]:
    """The names in the value of a flag, `a,b,c`.

    Args:
        name: the name of the flag.
        text: the value of the flag.
        choices: the only names that may be listed; None where every name may be.

    Returns:
        The names, in their order.

    Raises:
        ValueError: no name is listed, a name is listed twice, or a name is not among the choices.
    """
    values = tuple(part.strip() for part in text.split(",") if part.strip())
    if not values or len(set(values)) < len(values):
        among = f" of {', '.join(choices)}" if choices else ""
        raise ValueError(
            f"{name}: expected one or more{among}, each once; got {text!r}. Separate them by commas."
        )
    for value in values:
        if choices:
            checks.choice(name, value, choices, remedy="Separate them by commas.")
    return values


def _may_change(field: dataclasses.Field[Any]) -> bool:
    return field.metadata["recorded"] and field.metadata["role"] in (JUDGES, WATCHES)


def usage(docstring: str, config_class: type) -> str:
    """The text of `--help`: what the experiment is, then its flags with their defaults.

    Args:
        docstring: the text that says what the experiment is.
        config_class: the dataclass of the settings, made of `flag` fields.

    Returns:
        The text.
    """
    return help_text.joined(docstring, explained(config_class).values(), free_flags(config_class))


def explained(config_class: type) -> dict[str, str]:
    """What is said of each flag.

    Args:
        config_class: the dataclass of the settings, made of `flag` fields.

    Returns:
        One line for each flag, by name.
    """
    lines = {}
    for field in dataclasses.fields(config_class):
        text, choices = field.metadata["help"], field.metadata["choices"]
        among = f": {', '.join(choices)}" if choices else ""
        is_said = field.default is None and "default" in text  # what is taken where the flag is not given
        default = "" if is_said else f" (default: {'none' if field.default is None else field.default})"
        lines[field.name] = f"  --{field.name}: {text}{among}{default}"
    return lines


def free_flags(config_class: type) -> list[str]:
    """The flags that may change from one start in a work directory to the next.

    Args:
        config_class: the dataclass of the settings, made of `flag` fields.

    Returns:
        The names.
    """
    return [field.name for field in dataclasses.fields(config_class) if _may_change(field)]


def shared(config: Any, other: type[ConfigT]) -> ConfigT:
    """The settings of another launcher: those that both launchers have, and the other launcher's defaults.

    Args:
        config: the settings of a launcher.
        other: the dataclass of the other launcher's settings.

    Returns:
        The settings of the other launcher.
    """
    names = {field.name for field in dataclasses.fields(other)} & set(vars(config))
    return other(**{name: getattr(config, name) for name in names})

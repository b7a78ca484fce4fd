"""Settings as frozen dataclasses: each field is a typed, documented absl flag and a line of `config.json`."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from absl import flags

from ddjax import checks
from ddjax.coresets import INITIAL_IMAGES
from ddjax.defaults import OUTER_LR_OF_LRS
from ddjax.inits import SCHEMES
from ddjax.methods.unrolled import HORIZONS
from ddjax.networks import NAMES, norms
from ddjax.networks.ops import CONV_FORMS
from ddjax.unroll import OPTIMIZERS, STRATEGIES

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

AUGMENTATIONS = "a strategy such as pad_crop_flip or color_crop, or dsa for DSA's for these data"
"""What a flag for an augmentation may be."""

ConfigT = TypeVar("ConfigT", bound="DataclassInstance")


def flag(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    choices: Sequence[str] | None = None,
    recorded: bool = True,
) -> Any:
    """A field that becomes `--name=default`.

    Args:
        default: also where the flag is not given.
        help: one line for `--help`.
        low: least value of a number.
        choices: the only values of a string.
        recorded: whether it is part of what a run is; else it may change from one start of it to the next.
    """
    metadata = {"help": help, "low": low, "choices": choices, "recorded": recorded}
    return dataclasses.field(default=default, metadata=metadata)


def recorded(config: Any) -> dict[str, Any]:
    """The settings that make a run what it is, for `config.json`."""
    values = dataclasses.asdict(config)
    return {
        field.name: values[field.name] for field in dataclasses.fields(config) if field.metadata["recorded"]
    }


def _define(name: str, kind: type, default: Any, settings: Any, values: flags.FlagValues) -> None:
    text = settings["help"]
    if kind is bool:
        flags.DEFINE_bool(name, default, text, flag_values=values)
    elif kind is int:
        flags.DEFINE_integer(name, default, text, lower_bound=settings["low"], flag_values=values)
    elif kind is float:
        flags.DEFINE_float(name, default, text, lower_bound=settings["low"], flag_values=values)
    elif settings["choices"]:
        flags.DEFINE_enum(name, default, settings["choices"], text, flag_values=values)
    else:
        flags.DEFINE_string(name, default, text, flag_values=values)


def define_flags(config_class: type, values: flags.FlagValues = flags.FLAGS) -> None:
    """Define one flag for each field of a dataclass made of `flag` fields."""
    hints = typing.get_type_hints(config_class)
    for field in dataclasses.fields(config_class):
        kind = hints[field.name]
        if isinstance(kind, types.UnionType):  # `int | None`: None stands for a choice made from the data
            (kind,) = (one for one in typing.get_args(kind) if one is not type(None))
        _define(field.name, kind, field.default, field.metadata, values)


def from_flags(config_class: type[ConfigT], values: flags.FlagValues = flags.FLAGS) -> ConfigT:
    """The dataclass with the values that the flags were given."""
    names = [field.name for field in dataclasses.fields(config_class)]
    return config_class(**{name: values[name].value for name in names})


def parse(
    config_class: type[ConfigT], argv: Sequence[str], values: flags.FlagValues = flags.FLAGS
) -> ConfigT:
    """Settings from a command line.

    Args:
        config_class: a frozen dataclass made of `flag` fields.
        argv: the command line, program first.
        values: where the flags are defined.

    Returns:
        The settings.

    Raises:
        ValueError: an unknown flag, a value of another type or out of range, or an argument that is no flag.
    """
    define_flags(config_class, values)
    try:
        rest = values(argv)
    except flags.Error as error:
        raise ValueError(f"{error}. See --help for the flags.") from error
    if len(rest) > 1:
        raise ValueError(f"arguments: expected only flags, --name=value; got {' '.join(rest[1:])}.")
    return from_flags(config_class, values)


def numbers(name: str, text: str, kind: type) -> tuple[Any, ...]:
    """A list of a flag, `1,2,3`.

    Raises:
        ValueError: something in it is no such number.
    """
    try:
        return tuple(kind(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise ValueError(
            f"{name}: expected numbers, e.g. 1,2,3; got {text!r}. Separate by commas."
        ) from error


def listed(name: str, text: str, choices: Sequence[str] | None = None) -> tuple[str, ...]:
    """What a flag lists, `a,b,c`.

    Args:
        name: of the flag.
        text: its value.
        choices: the only ones; None for any.

    Raises:
        ValueError: nothing, something twice, or no choice.
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


def usage(docstring: str, config_class: type) -> str:
    """The text of `--help`: what the experiment is, then its flags with their defaults."""
    lines = [docstring.strip(), "", "flags:"]
    for field in dataclasses.fields(config_class):
        default = "" if field.default is None else f" (default: {field.default})"
        choices = field.metadata["choices"]
        among = f": {', '.join(choices)}" if choices else ""
        lines.append(f"  --{field.name}: {field.metadata['help']}{among}{default}")
    return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class NetworkChoice:
    """Which network, from which initial weights."""

    network: str | None = flag(None, f"{', '.join(NAMES)}; by default what fits the images")
    width: int | None = flag(None, "channels of a convnet's layers; by default the network's own", low=1)
    depth: int | None = flag(None, "blocks of a convnet; by default what fits the images", low=1)
    norm: str | None = flag(
        None, "of a convnet, vgg11 or resnet18; by default the network's own", choices=norms.NORMS
    )
    init: str = flag("xavier_normal", f"what initial weights are drawn from: {', '.join(SCHEMES)}")
    init_gain: float = flag(1.0, "factor on the initial weights")


@dataclasses.dataclass(frozen=True)
class DataChoice(NetworkChoice):
    """In which form the images come."""

    resize: int | None = flag(None, "height and width that all images are brought to, bilinear", low=1)
    channels: int | None = flag(None, "channels that grey images are repeated to", low=1)
    pixels: str | None = flag(
        None, "whose pixels' mean and std normalise; by default the data's own", choices=("imagenet",)
    )


@dataclasses.dataclass(frozen=True)
class Common(DataChoice):
    """The settings that every distillation has."""

    dataset: str = flag("digits", "digits, a TFDS name such as mnist, or the path of an .npz")
    data_dir: str | None = flag(None, "where TFDS data lie; $TFDS_DATA_DIR by default")
    workdir: str | None = flag(
        None, "directory of the run; runs/EXPERIMENT-DATASET by default", recorded=False
    )
    seed: int = flag(0, "of everything random", low=0)
    num_outer_steps: int | None = flag(None, "updates of the distilled images", low=1)
    num_inits: int = flag(1, "M, initial weights in one outer step", low=1)
    slots_per_chunk: int | None = flag(
        None, "how many of the M train at once; by default as tuned, else 1 on CPU, all elsewhere", low=1
    )
    conv_form: str = flag("auto", "how convolutions are computed", choices=CONV_FORMS)
    tune: bool = flag(
        False, "at the first start, time what is left to auto and remember the fastest", recorded=False
    )
    dry_run: bool = flag(
        False, "print the plan and its memory, and what would make it fit; run nothing", recorded=False
    )
    memory_limit: float | None = flag(
        None, "GiB that one device has; by default what it says", low=0, recorded=False
    )
    batch_size: int = flag(1024, "N, real images in a minibatch", low=1)
    clip_norm: float | None = flag(None, "bound on the gradient's norm; 0 for none", low=0)
    outer_lr: float | None = flag(None, "learning rate of the distilled images at the start, above zero")
    num_eval_inits: int = flag(20, "unseen initial weights behind the final score", low=1)
    num_val_inits: int = flag(4, "initial weights behind each validation", low=1)
    validate_every: int = flag(100, "outer steps from one validation to the next", low=1)
    record_every: int = flag(10, "outer steps from one record of the metrics to the next", low=1)
    save_seconds: float = flag(30.0, "seconds between checkpoints", low=0)
    save_every: int | None = flag(
        None, "outer steps between checkpoints, beside --save_seconds", low=1, recorded=False
    )
    on_nonfinite: str = flag(
        "stop",
        "where something is not finite: stop, or rollback to a good state, with smaller steps",
        choices=("stop", "rollback"),
    )
    max_rollbacks: int = flag(3, "after so many the run stops all the same", low=0)
    baselines: bool = flag(True, "measure the baselines too")
    tensorboard: bool = flag(False, "write TensorBoard files to WORKDIR/tensorboard (needs tensorboardX)")
    distributed: bool = flag(
        False,
        "this is one process of several; Slurm, Open MPI, Kubernetes and Cloud TPU are found out",
        recorded=False,
    )
    coordinator_address: str | None = flag(
        None, "HOST:PORT of process 0, where no cluster is found", recorded=False
    )
    num_processes: int | None = flag(
        None, "processes in all, where no cluster is found", low=1, recorded=False
    )
    process_id: int | None = flag(
        None, "which of them this is, from 0, where no cluster is found", low=0, recorded=False
    )


@dataclasses.dataclass(frozen=True)
class Unrolled(Common):
    """The settings of the methods that differentiate through training."""

    inner_steps: int = flag(10, "S, gradient steps with images of their own", low=1)
    inner_epochs: int = flag(3, "E, passes over those steps", low=1)
    images_per_class_per_step: int = flag(1, "distilled images of one class in one step", low=1)
    initial_images: str = flag("noise", "what the distilled images start from", choices=tuple(INITIAL_IMAGES))
    label_confidence: float | None = flag(
        None, "learn the labels too; the probability of its own class that an image's label starts with"
    )
    inner_lr: float = flag(0.02, "the learned learning rates' start")
    outer_lr_of_lrs: float = flag(
        OUTER_LR_OF_LRS, "learning rate of the learned learning rates; not used by --original", low=0
    )
    inner_optimizer: str = flag("sgd", "whose updates the learning rates scale", choices=tuple(OPTIMIZERS))
    memory: str = flag("auto", "how the unroll is differentiated", choices=("auto", *STRATEGIES))
    window: int | None = flag(None, "differentiate the last so many inner steps only", low=1)
    horizon: str = flag(
        "full", "where training on φ ends: after all steps, or, with --window, anywhere", choices=HORIZONS
    )
    augment: str | None = flag(None, f"augmentation of each real image; {AUGMENTATIONS}")
    original: bool = flag(False, "the 2018 paper's outer optimiser and schedule instead of ours")


@dataclasses.dataclass(frozen=True)
class Matching(Common):
    """The settings of the methods that match real and distilled images; φ is trained on in epochs."""

    network: str | None = flag("convnet", ", ".join(NAMES))
    init: str = flag("pytorch", NetworkChoice.__dataclass_fields__["init"].metadata["help"])
    images_per_class: int = flag(1, "distilled images of each class", low=1)
    batch_size: int = flag(256, "N, real images of each class in a minibatch", low=1)
    initial_images: str = flag("real", "what the distilled images start from", choices=tuple(INITIAL_IMAGES))
    augment: str | None = flag(None, f"augmentation of real and distilled images alike; {AUGMENTATIONS}")
    train_epochs: int = flag(300, "epochs that a network trains on the distilled images in the end", low=1)
    train_lr: float = flag(0.01, "learning rate of that training")
    eval_augment: str | None = flag(None, f"augmentation of each image in that training; {AUGMENTATIONS}")
    validate_every: int = flag(250, "outer steps from one validation to the next", low=1)

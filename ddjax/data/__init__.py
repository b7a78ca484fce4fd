"""The real data: their sources, the validation split, tasks of classes, minibatches drawn inside jit."""

from ddjax.data.classes import with_classes
from ddjax.data.dataset import Dataset, Split, from_arrays
from ddjax.data.device import class_minibatch, class_rows, examples_at, minibatch, to_device
from ddjax.data.digest import digest, digests
from ddjax.data.folders import from_folder
from ddjax.data.huggingface import from_huggingface
from ddjax.data.noise import Noisy, corrupt, transition
from ddjax.data.resize import repeat_channels, resize
from ddjax.data.rotated import rotated
from ddjax.data.sources import known_names, load
from ddjax.data.tasks import Stream, in_tasks
from ddjax.data.text import TextSettings, from_texts
from ddjax.data.torch_sets import from_torch
from ddjax.data.whitening import zca

__all__ = [
    "Dataset",
    "Noisy",
    "Split",
    "Stream",
    "TextSettings",
    "class_minibatch",
    "class_rows",
    "corrupt",
    "digest",
    "digests",
    "examples_at",
    "from_arrays",
    "from_folder",
    "from_huggingface",
    "from_texts",
    "from_torch",
    "in_tasks",
    "known_names",
    "load",
    "minibatch",
    "repeat_channels",
    "resize",
    "rotated",
    "to_device",
    "transition",
    "with_classes",
    "zca",
]

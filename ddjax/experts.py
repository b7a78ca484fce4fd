"""Experts: trainings on real data, each kept as the weights of a network at several steps of its training.

A directory holds one plain `.npy` for each expert, `[Q, P]` float32, which is read as a memory map, and
`experts.json` with the network, the data, the training, and a digest of each file.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddjax import checks, facts, files, leaves, npz
from ddjax.brief import Brief
from ddjax.data import Dataset, digest
from ddjax.files import StrPath
from ddjax.types import Encoding, Network, Params
from ddjax.version import __version__

FORMAT_VERSION = 1
"""The version of the directory, which grows when an older ddjax could no longer read a new one."""

FILE = "experts.json"

_REMEDY = "Train the experts again."
_KINDS: dict[str, type] = {
    "network": str,
    "network_settings": dict,
    "weights": dict,
    "encoding": str,
    "train": str,
    "steps": list,
    "experts": list,
}


class Flat(NamedTuple):
    """The order in which the weights of a network are one vector of P numbers.

    Attributes:
        shapes: the shape and dtype of every weight, as a tree like the weights.
    """

    shapes: Any

    @classmethod
    def of(cls, network: Network) -> Flat:
        """The order for a network: its leaves one after the other, each in row-major order.

        Args:
            network: the network.

        Returns:
            The order.
        """
        return cls(jax.eval_shape(lambda: network.init(jax.random.key(0))))

    @property
    def size(self) -> int:
        """P, the number of all weights."""
        return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(self.shapes))

    @property
    def names(self) -> dict[str, list[int]]:
        """The shape of each weight by its name, in order."""
        return {name: list(leaf.shape) for name, leaf in leaves.named(self.shapes).items()}

    def vector(self, params: Params) -> jax.Array:
        """The weights as one vector.

        Args:
            params: the weights, a tree like `shapes`.

        Returns:
            `[P]`.
        """
        return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(params)])

    def params(self, vector: jax.Array) -> Params:
        """The weights of a vector.

        Args:
            vector: `[P]`.

        Returns:
            The weights, a tree like `shapes`, of the dtypes there.
        """
        shapes, tree = jax.tree.flatten(self.shapes)
        ends = np.cumsum([math.prod(leaf.shape) for leaf in shapes])
        parts = jnp.split(vector, ends[:-1])
        return tree.unflatten(
            [part.reshape(leaf.shape).astype(leaf.dtype) for part, leaf in zip(parts, shapes, strict=True)]
        )


def of_encoding(encoding: Encoding) -> str:
    """The identity of an encoding.

    Args:
        encoding: the encoding.

    Returns:
        Its kind, and a digest of its arrays.
    """
    return f"{encoding.kind}: {facts.tree(encoding)}"


def described(network: Network, data: Dataset) -> dict[str, Any]:
    """What experts are experts of, as JSON can hold it.

    Args:
        network: the network that is trained.
        data: the real data, of which the training split is trained on.

    Returns:
        `network`, `network_settings`, `weights` (the shape of each by name), `dataset`, `encoding` and
        `train`, digests of the encoding and of the training split.
    """
    return {
        "network": network.name,
        "network_settings": dict(network.settings),
        "weights": Flat.of(network).names,
        "dataset": data.name,
        "encoding": of_encoding(data.encoding),
        "train": digest(data.train),
    }


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Experts(Brief):
    """n trainings of one network on the same data, each as Q checkpoints of flat weights.

    Attributes:
        trajectories: the n experts, each `[Q, P]` float32, in the order of `Flat`; memory maps where read
            from a directory.
        steps: `[Q]` int64, the number of gradient steps that an expert has done at each checkpoint.
        accuracy: `[n]` float32, the percent of the validation split that each expert classifies right in the
            end; NaN where unknown.
        metadata: facts that JSON can hold, those of `described` among them.

    Raises:
        ValueError: there is no expert, or their shapes differ or do not fit the steps or the accuracies.
    """

    trajectories: Sequence[np.ndarray]
    steps: np.ndarray
    accuracy: np.ndarray
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        shapes = {np.shape(one) for one in self.trajectories}
        shape = next(iter(shapes), ())
        fits = len(shape) == 2 and shape[0] == len(self.steps) and len(self.accuracy) == len(self)
        if len(shapes) != 1 or not fits:
            raise ValueError(
                f"experts: expected one or more, each [Q, P], one accuracy for each, and Q steps; got shapes "
                f"{sorted(shapes)}, {len(self.accuracy)} accuracies and {len(self.steps)} steps. {_REMEDY}"
            )

    def __len__(self) -> int:
        return len(self.trajectories)

    @property
    def num_checkpoints(self) -> int:
        """Q, the number of checkpoints of each expert."""
        return len(self.steps)

    def fit(self, network: Network, data: Dataset | None = None) -> Experts:
        """The same experts, which are known to be of a network and, where they are given, of these data.

        Args:
            network: the network that is trained on φ.
            data: the real data; None where they are not known, and only the network is compared.

        Returns:
            The experts.

        Raises:
            ValueError: they are experts of another network, encoding or training split.
        """
        checks.kind("network", network, Network, remedy="Build it with ddjax.networks.")
        flat, mine = Flat.of(network), self.metadata.get("weights")
        if mine not in (None, flat.names) or self.trajectories[0].shape[1] != flat.size:
            raise ValueError(
                f"experts: expected those of {network.name} with {flat.size:,} weights; got experts of "
                f"{self.metadata.get('network', 'another network')} with {self.trajectories[0].shape[1]:,}. "
                "Build the network that they were trained with, or train experts of this one."
            )
        if data is None:
            return self
        wanted = described(network, data)
        for name, what, remedy in (
            ("encoding", "encoding", "Encode the data as the experts' were (--whiten, --pixels), or train"),
            ("train", "training split", "Give the data, --seed and conversions that they were trained with"),
        ):
            if self.metadata.get(name) not in (None, wanted[name]):
                raise ValueError(
                    f"experts: expected experts trained under the {what} of {data.name}, {wanted[name]}; got "
                    f"{self.metadata[name]}. {remedy}, or train experts of these data."
                )
        return self

    def window(self, first: int, last: int) -> Experts:
        """The same experts with some of their checkpoints only, read into memory.

        Args:
            first: the first checkpoint that is kept.
            last: the last checkpoint that is kept.

        Returns:
            The experts, with checkpoints numbered anew from 0.

        Raises:
            ValueError: the experts do not have these checkpoints.
        """
        checks.at_least("first", first, 0)
        if not first <= last < self.num_checkpoints:
            raise ValueError(
                f"window: expected checkpoints from {first} to at most {self.num_checkpoints - 1}, the last "
                f"of these experts; got up to {last}. Take an earlier window or a shorter span, or train "
                "the experts longer."
            )
        part = slice(first, last + 1)
        kept = [np.array(one[part], np.float32) for one in self.trajectories]
        return dataclasses.replace(self, trajectories=kept, steps=self.steps[part])

    def stacked(self) -> np.ndarray:
        """All checkpoints as one array, `[n, Q, P]` float32."""
        return np.stack([np.asarray(one, np.float32) for one in self.trajectories])

    def last(self, network: Network) -> Params:
        """The weights of all experts at their last checkpoint.

        Args:
            network: the network of the experts.

        Returns:
            The weights, each leaf `[n, ...]`.
        """
        vectors = np.stack([np.asarray(one[-1], np.float32) for one in self.trajectories])
        return jax.vmap(Flat.of(network).params)(jnp.asarray(vectors))


class Entry(NamedTuple):
    """An expert in the directory.

    Attributes:
        sha256: the digest of the file, 64 hexadecimal digits.
        accuracy: the percent of the validation split that the expert classifies right in the end.
    """

    sha256: str
    accuracy: float


class Directory(NamedTuple):
    """A directory of experts that is being filled, one expert at a time.

    Attributes:
        path: the directory.
        steps: `[Q]`, the number of gradient steps at each checkpoint.
        metadata: facts about all experts that JSON can hold.
    """

    path: Path
    steps: Sequence[int]
    metadata: Mapping[str, Any]

    def open(self) -> list[Entry]:
        """Make the directory, or find in it what an earlier start of the same training has left.

        Returns:
            The experts that are there, in order.

        Raises:
            ValueError: the directory holds experts of another network, data or training, or a damaged file;
                nothing was written.
            OSError: the directory cannot be made or written.
        """
        files.make_directory(self.path)
        if not (self.path / FILE).exists():
            self._write([])
            return []
        found, entries = _read(self.path)
        wanted = json.loads(json.dumps({**self.metadata, "steps": [int(step) for step in self.steps]}))
        differing = [name for name in wanted if found.get(name) != wanted[name]]
        if differing:
            name = differing[0]
            raise ValueError(
                f"{self.path}: expected experts with {name} {_short(wanted[name])}; got "
                f"{_short(found.get(name))} in {FILE}. Give the settings that they were begun with, or "
                "another directory."
            )
        for number in range(len(entries)):
            _checked(self.path, number, entries[number])
        return entries

    def add(self, entries: Sequence[Entry], weights: np.ndarray, accuracy: float) -> list[Entry]:
        """Write one more expert; readers see the directory with the expert or without.

        Args:
            entries: the experts that are there.
            weights: `[Q, P]`, the checkpoints of the new one.
            accuracy: the percent of the validation split that the expert classifies right in the end.

        Returns:
            The experts that are there now.

        Raises:
            ValueError: the weights are not finite, or do not change from one checkpoint to the next: the
                training diverged or stood still. Nothing was written.
            OSError: the file could not be written.
        """
        weights = np.ascontiguousarray(weights, "<f4")
        if not np.isfinite(weights).all():
            raise ValueError(
                f"expert {len(entries)}: expected finite weights; got NaN or infinity, the training "
                "diverged. Lessen the learning rate."
            )
        if not (weights[1:] != weights[:-1]).any(1).all():
            raise ValueError(
                f"expert {len(entries)}: expected other weights at every checkpoint; two in a row are the "
                "same. Raise the learning rate, or record less often."
            )
        buffer = io.BytesIO()
        np.save(buffer, weights, allow_pickle=False)
        content = buffer.getvalue()
        files.write_atomic(file_of(self.path, len(entries)), content)
        entries = [*entries, Entry(hashlib.sha256(content).hexdigest(), float(accuracy))]
        self._write(entries)
        return entries

    def _write(self, entries: Sequence[Entry]) -> None:
        content = {
            **self.metadata,
            "format_version": FORMAT_VERSION,
            "ddjax_version": __version__,
            "steps": [int(step) for step in self.steps],
            "experts": [entry._asdict() for entry in entries],
        }
        text = json.dumps(content, indent=1, sort_keys=True) + "\n"
        files.write_atomic(self.path / FILE, text.encode())


def file_of(directory: Path, number: int) -> Path:
    """The file of an expert.

    Args:
        directory: the directory of all experts.
        number: the number of the expert, from 0.

    Returns:
        The path.
    """
    return directory / f"{number:06d}.npy"


def load(directory: StrPath) -> Experts:
    """Read a directory of experts, whose files may be of any origin: nothing in them is executed.

    Args:
        directory: the directory.

    Returns:
        The experts, as memory maps, so that checkpoints which are not used are read once for the digest and
        never kept.

    Raises:
        FileNotFoundError: the directory has no `experts.json`, or lacks the file of an expert.
        ValueError: there is no expert yet, or a file is truncated, changed, or of another format; the
            message names the file.
    """
    directory = Path(directory)
    if not (directory / FILE).exists():
        raise FileNotFoundError(
            f"experts: expected a directory with {FILE}; there is none in {directory}. Train some: "
            "ddjax experts"
        )
    metadata, entries = _read(directory)
    steps = np.asarray(metadata.pop("steps"), np.int64)
    arrays = [_checked(directory, number, entry) for number, entry in enumerate(entries)]
    if not arrays:
        raise ValueError(f"{directory}: expected experts; none is finished. Let `ddjax experts` go on.")
    wanted = (len(steps), arrays[0].shape[-1])
    for number, array in enumerate(arrays):
        if array.shape != wanted or array.dtype != np.dtype("<f4"):
            raise ValueError(
                f"{file_of(directory, number)}: expected float32{list(wanted)}, the weights at each step; "
                f"got {array.dtype}{list(array.shape)}. {_REMEDY}"
            )
    accuracy = np.asarray([entry.accuracy for entry in entries], np.float32)
    return Experts(arrays, steps, accuracy, metadata)


def _read(directory: Path) -> tuple[dict[str, Any], list[Entry]]:
    """The facts and entries of a directory's `experts.json`."""
    path = directory / FILE
    try:
        text = np.array(path.read_text())
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected a JSON text; got {error}. {_REMEDY}") from error
    metadata = npz.metadata(path, text, newest=FORMAT_VERSION, kinds=_KINDS, remedy=_REMEDY)
    listed = metadata.pop("experts", [])
    try:
        entries = [Entry(str(one["sha256"]), float(one["accuracy"])) for one in listed]
        metadata["steps"] = [int(step) for step in metadata["steps"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: expected steps, and a digest and an accuracy of each expert; got {error!r}. {_REMEDY}"
        ) from error
    return {k: v for k, v in metadata.items() if k not in ("format_version", "ddjax_version")}, entries


def _checked(directory: Path, number: int, entry: Entry) -> np.ndarray:
    """The memory map of an expert whose file is the one that was written."""
    path = file_of(directory, number)
    remedy = f"Remove the directory's {FILE} and files to train anew, or bring the file back."
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: expected the weights of expert {number}; there is no file. {remedy}"
        )
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != entry.sha256:
        raise ValueError(
            f"{path}: expected the bytes with SHA-256 {entry.sha256}; got {found} of "
            f"{path.stat().st_size:,} bytes: the file was cut short or changed. {remedy}"
        )
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: expected an array of plain numbers; {error}. {_REMEDY}") from error


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 100 else f"{text[:100]}…"


__all__ = [
    "FILE",
    "FORMAT_VERSION",
    "Directory",
    "Entry",
    "Experts",
    "Flat",
    "described",
    "file_of",
    "load",
    "of_encoding",
]

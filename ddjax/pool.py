"""Pools of pretrained networks: the weights of many trainings of one network in one file, some held out."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ddjax import checks, leaves, npz
from ddjax.brief import Brief
from ddjax.files import StrPath
from ddjax.types import Network, Params
from ddjax.version import __version__

FORMAT_VERSION = 1
"""The version of the format, which grows when an older ddjax could no longer read a new file."""

_REMEDY = "Train the pool again."

SPLITS = ("train", "held_out")

_PREFIX = "params."
_KINDS: dict[str, type] = {
    "dataset": str,
    "network": str,
    "network_settings": dict,
    "image_shape": list,
    "num_classes": int,
    "data": dict,
}
"""The types that the metadata read by ddjax itself must have, where they are present."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Pool(Brief):
    """n trained networks of one kind; the first are for distilling, the others are held out for evaluation.

    Attributes:
        params: the weights of all members, each leaf `[n, ...]` float.
        num_train: the number of `train` members, which come first; the rest are `held_out`.
        accuracy: `[n]` float32, the percent of each member on the test split of the data it was trained on.
        metadata: facts that JSON can represent: dataset, network, network_settings, image_shape, num_classes,
            the settings of the training, ...
    """

    params: Params
    num_train: int
    accuracy: np.ndarray
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        checks.at_least("num_train", self.num_train, 0)
        sizes = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(self.params)} | {np.shape(self.accuracy)}
        if sizes != {(len(self),)} or not 0 < len(self) >= self.num_train:
            raise ValueError(
                f"pool: expected one accuracy and one entry of every leaf for each of n >= {self.num_train} "
                f"members; got {sorted(sizes)}. Give params whose leaves are [n, ...]."
            )

    def __len__(self) -> int:
        return int(np.size(self.accuracy))

    @property
    def name(self) -> str:
        """The name of the data that the members were trained on."""
        return str(self.metadata.get("dataset", "pool"))

    def _slice(self, split: str) -> slice:
        checks.choice("split", split, SPLITS)
        return slice(self.num_train) if split == "train" else slice(self.num_train, None)

    def size(self, split: str) -> int:
        """The number of members of a split, `"train"` or `"held_out"`."""
        return len(self.accuracy[self._slice(split)])

    def members(self, split: str) -> Params:
        """The weights of the m members of a split.

        Args:
            split: the name of the split, `"train"` or `"held_out"`.

        Returns:
            The weights, each leaf `[m, ...]`.

        Raises:
            ValueError: the split is unknown, or has no members.
        """
        if not self.size(split):
            raise ValueError(
                f"pool: expected {split} members; it has none among its {len(self)}. Train a pool with some."
            )
        return jax.tree.map(lambda leaf: leaf[self._slice(split)], self.params)

    def accuracies(self, split: str) -> np.ndarray:
        """The accuracies of the m members of a split, `[m]` float32, percent."""
        return self.accuracy[self._slice(split)]

    def fit(self, network: Network) -> Pool:
        """The same pool in the structure and dtypes of the weights of a network.

        Args:
            network: the network that the weights are for.

        Returns:
            The pool.

        Raises:
            ValueError: the weights are those of another network, or for other images or classes.
        """
        checks.kind("network", network, Network, remedy="Build it with ddjax.networks.")
        for what, mine, theirs in (
            ("image shape (H, W, C)", self.metadata.get("image_shape"), list(network.image_shape)),
            ("number of classes", self.metadata.get("num_classes"), network.num_classes),
        ):
            if mine is not None:
                remedy = "Bring the data to the pool's form (--resize), or train a pool for these."
                checks.equal(f"the pool's {what}", mine, theirs, remedy=remedy)
        wanted, tree = jax.tree_util.tree_flatten_with_path(jax.eval_shape(network.init, jax.random.key(0)))
        shapes = {leaves.name(path): leaf for path, leaf in wanted}
        ours = {name: np.asarray(leaf) for name, leaf in leaves.named(self.params).items()}
        if {name: leaf.shape[1:] for name, leaf in ours.items()} != {n: s.shape for n, s in shapes.items()}:
            differing = sorted(
                name
                for name in ours.keys() | shapes.keys()
                if name not in ours or name not in shapes or ours[name].shape[1:] != shapes[name].shape
            )
            raise ValueError(
                f"pool: expected weights of {network.name}; {', '.join(differing[:5])} are missing, unknown "
                "or of another shape. Build the network that the pool's metadata name."
            )
        fitted = [np.asarray(ours[name], leaf.dtype) for name, leaf in shapes.items()]
        return dataclasses.replace(self, params=jax.tree.unflatten(tree, fitted))


def digest(pool: Pool) -> str:
    """The identity of a pool's weights, which the file and the pool that is read from it share.

    Args:
        pool: the pool.

    Returns:
        64 hexadecimal digits of SHA-256 over the weights in float32 and the number of `train` members.
    """
    total = hashlib.sha256(f"pool of {pool.num_train} to distil with".encode())
    for name, leaf in sorted(leaves.named(pool.params).items()):
        array = np.ascontiguousarray(leaf, "<f4")
        total.update(f"\n{name} {array.shape}\n".encode())
        total.update(array.data)
    return total.hexdigest()


def joined(pools: Sequence[Pool], *, num_train: int, metadata: Mapping[str, Any]) -> Pool:
    """One pool of the members of several pools, in order.

    Args:
        pools: the pools, at least one, all of the same network.
        num_train: the number of `train` members of the joined pool, which come first.
        metadata: the facts about the joined pool.

    Returns:
        The joined pool.
    """
    params = jax.tree.map(lambda *leaves: np.concatenate(leaves), *(pool.params for pool in pools))
    return Pool(params, num_train, np.concatenate([pool.accuracy for pool in pools]), metadata)


def save(path: StrPath, pool: Pool) -> Path:
    """Write a pool as an `.npz` that loads with `numpy.load(path, allow_pickle=False)`.

    The file has the members `params.NAME [n, ...]` float32, one for each leaf; `accuracy [n]` float32,
    percent; and `metadata`, a JSON string. The same pool gives the same bytes.

    Args:
        path: the file to write.
        pool: the pool to save.

    Returns:
        The path of the file.

    Raises:
        ValueError: the weights contain NaN or infinity, or the metadata something that JSON cannot represent;
            nothing was written.
        OSError: the file could not be written; a file that was there is unchanged.
    """
    checks.kind("pool", pool, Pool, remedy="Give a ddjax.pool.Pool.")
    checks.jsonable("metadata", dict(pool.metadata))
    arrays = {f"{_PREFIX}{name}": np.asarray(leaf) for name, leaf in leaves.named(pool.params).items()}
    members = {name: np.asarray(leaf, np.float32) for name, leaf in arrays.items()}
    members["accuracy"] = np.asarray(pool.accuracy, np.float32)
    for name, array in members.items():
        npz.check_finite("pool", name, array, remedy=_REMEDY)
    facts = {"format_version": FORMAT_VERSION, "ddjax_version": __version__, "num_train": pool.num_train}
    members["metadata"] = np.array(json.dumps({**pool.metadata, **facts}, sort_keys=True))
    return npz.write(path, members)


def load(path: StrPath, *, limit: int = npz.LIMIT) -> Pool:
    """Read a pool that `save` wrote. The file may be of any origin: nothing in the file is executed.

    Args:
        path: the file of the pool.
        limit: the most bytes that the arrays may take together; more is refused before an array is read.

    Returns:
        The pool, with the weights as nested dictionaries by name; `Pool.fit` checks that they fit a network.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no pool, of a later format, or too large, or the arrays do not fit together.
    """
    checks.at_least("limit", limit, 1)
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"pool: expected a file; there is none at {path}. Train one: ddjax pretrain")
    try:
        arrays = npz.read(path, limit=limit)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path}: expected an .npz of plain arrays as ddjax writes it; {error}. Train the pool again, "
            "give another file, or raise `limit` where a large file is right."
        ) from error
    metadata = _metadata(path, arrays.pop("metadata", None))
    accuracy = arrays.pop("accuracy", np.zeros(()))
    unknown = [name for name in arrays if not name.startswith(_PREFIX) or not name[len(_PREFIX) :]]
    if unknown or not arrays:
        got = repr(unknown[0][:80]) if unknown else "no weights"
        raise ValueError(
            f"{path}: expected the members {_PREFIX}NAME, accuracy, metadata; got {got}. Is it a pool of "
            "ddjax?"
        )
    for name, array in {"accuracy": accuracy, **arrays}.items():
        npz.check_finite(path, name, array, remedy=_REMEDY)
    try:
        params = _nested({name[len(_PREFIX) :]: array for name, array in arrays.items()})
        num_train = metadata.pop("num_train")
        return Pool(params, num_train, accuracy, metadata)
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path}: {error}. Train the pool again.") from error


def _nested(leaves: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Nested dictionaries by the parts of the names."""
    tree: dict[str, Any] = {}
    for name, leaf in leaves.items():
        *parts, last = name.split(".")
        at = tree
        for part in parts:
            at = at.setdefault(part, {})
            if not isinstance(at, dict):
                raise ValueError(f"member {_PREFIX}{name}: expected no weights above it")
        if last in at:
            raise ValueError(f"member {_PREFIX}{name}: expected no weights below it")
        at[last] = leaf
    return tree


def _metadata(path: Path, text: np.ndarray | None) -> dict[str, Any]:
    remedy = "Train the pool again, or give the pool.npz of `ddjax pretrain`."
    metadata = npz.metadata(path, text, newest=FORMAT_VERSION, kinds=_KINDS, remedy=remedy)
    checks.at_least(f"{path}: metadata: num_train", metadata.get("num_train"), 0)
    return {k: v for k, v in metadata.items() if k not in ("format_version", "ddjax_version")}


__all__ = ["FORMAT_VERSION", "SPLITS", "Pool", "joined", "load", "save"]

"""The weights of a network from a user's file, `.npz` or `.safetensors`, checked by name and shape.

The names are the paths of the weights in the network, joined by dots: `conv1.kernel [h, w, in, out]`,
`fc1.kernel [in, out]`, `fc1.bias [out]`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import jax
import jax.numpy as jnp
import numpy as np

from ddjax import checks, inits, npz
from ddjax.facts import noted
from ddjax.files import StrPath
from ddjax.leaves import name as leaf_name
from ddjax.types import InitDistribution, Network

SUFFIXES = (".npz", ".safetensors")

Rename = Callable[[str, np.ndarray], tuple[str, np.ndarray]]
"""`(name, array) -> (name, array)`: from the names and layouts of another library to those of ddjax; what the
function does not know stays unchanged."""

_DTYPES = {"F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}
_HEADER_BYTES = 100_000_000
"""The most bytes of a safetensors header, by the specification of the format."""


def read(path: StrPath, *, limit: int = npz.LIMIT) -> dict[str, np.ndarray]:
    """All arrays of a file.

    Args:
        path: the `.npz` or `.safetensors` file.
        limit: the most bytes that the arrays may take together.

    Returns:
        The arrays by name. Those of a `.safetensors` file are floats, and bfloat16 becomes float32.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the suffix is another one, or the file is damaged, too large, or contains something other
            than plain arrays.
    """
    path = Path(path)
    checks.choice("weights: suffix of the file", path.suffix, SUFFIXES)
    if not path.exists():
        raise FileNotFoundError(f"weights: expected a file; there is none at {path}. Give its path.")
    try:
        return npz.read(path, limit=limit) if path.suffix == ".npz" else _read_safetensors(path, limit)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: expected arrays by name; {error}. Write the file again.") from error


def _read_safetensors(path: Path, limit: int) -> dict[str, np.ndarray]:
    """The tensors of a file: a length of 8 bytes, a JSON header of that length, and the data."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(_HEADER_BYTES, size - 8):
            raise ValueError(f"it has no safetensors header (of {length:,} bytes in a file of {size:,})")
        try:
            header = json.loads(file.read(length))
            entries = {
                name: (str(one["dtype"]), tuple(map(int, one["shape"])), *map(int, one["data_offsets"]))
                for name, one in header.items()
                if name != "__metadata__"
            }
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"its header cannot be read ({type(error).__name__}: {error})") from error
        start = 8 + length
        if size - start > limit:
            raise ValueError(f"expected arrays of at most {limit:,} bytes together; got {size - start:,}")
        return {name: _tensor(file, name, *entry, start=start, size=size) for name, entry in entries.items()}


def _tensor(
    file: BinaryIO,
    name: str,
    kind: str,
    shape: tuple[int, ...],
    *offsets: int,
    start: int,
    size: int,
) -> np.ndarray:
    checks.choice(f"dtype of {name}", kind, _DTYPES)
    dtype = _DTYPES[kind]
    is_whole = len(offsets) == 2 and 0 <= offsets[0] <= offsets[1] <= size - start
    if (
        min(shape, default=0) < 0
        or not is_whole
        or offsets[1] - offsets[0] != math.prod(shape) * dtype.itemsize
    ):
        raise ValueError(f"{name}: {kind}{list(shape)} does not fit its place {list(offsets)}")
    file.seek(start + offsets[0])
    array = np.frombuffer(bytearray(file.read(offsets[1] - offsets[0])), dtype).reshape(shape)
    # bfloat16 is the upper half of a float32.
    return (array.astype("<u4") << 16).view("<f4") if kind == "BF16" else array


def fit(
    arrays: Mapping[str, np.ndarray],
    network: Network,
    *,
    fresh: str | None = None,
    rename: Rename | None = None,
) -> dict[str, np.ndarray]:
    """The weights of a network among given arrays, by the names of ddjax and in the dtypes of the network.

    Args:
        arrays: the arrays by name, as `read` gives them.
        network: the network that the weights are for.
        fresh: the name of a layer whose weights are left out, even if the arrays contain them; None for none.
        rename: the function from the names and layouts of another library; None for those of ddjax.

    Returns:
        All weights of the network, except those of the fresh layer.

    Raises:
        ValueError: weights are missing, unknown, of another shape or no finite floats, or the network has no
            layer named `fresh`.
    """
    wanted = {
        leaf_name(path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(jax.eval_shape(network.init, jax.random.key(0)))
    }
    if fresh is not None:
        checks.choice("fresh layer", fresh, sorted({name.rpartition(".")[0] for name in wanted}))
    found = dict(rename(name, array) for name, array in arrays.items()) if rename else dict(arrays)
    kept, given = (
        {name: one for name, one in named.items() if fresh is None or not name.startswith(f"{fresh}.")}
        for named in (wanted, found)
    )
    wrong = [
        *(f"{name} is missing" for name in kept if name not in given),
        *(f"{name} is unknown" for name in given if name not in kept),
        *(
            f"{name} is {list(given[name].shape)} instead of {list(leaf.shape)}"
            for name, leaf in kept.items()
            if name in given and given[name].shape != leaf.shape
        ),
    ]
    if wrong:
        more = f" and {len(wrong) - 4} more" if len(wrong) > 4 else ""
        raise ValueError(
            f"weights: expected the {len(kept)} arrays of {network.name} for {network.num_classes} classes; "
            f"got others: {'; '.join(wrong[:4])}{more}. Give a file of this network, or let the layer that "
            "differs be fresh."
        )
    for name, array in given.items():
        if array.dtype.kind != "f" or not np.isfinite(array).all():
            raise ValueError(
                f"weights: {name}: expected finite floats; got {array.dtype}, or NaN or infinity. Write the "
                "file again."
            )
    return {name: np.asarray(given[name], leaf.dtype) for name, leaf in kept.items()}


@noted
def loaded(
    network: Network,
    leaves: Mapping[str, np.ndarray],
    *,
    key: jax.Array,
    name: str,
    scheme: str = "xavier_normal",
    gain: float = 1.0,
) -> InitDistribution:
    """The fixed θ0 of a network whose weights are given, except those of a fresh layer, which are drawn once.

    Args:
        network: the network that the weights are for.
        leaves: the weights by name, as `fit` gives them.
        key: the source of the draw of the fresh layer. Consumed.
        name: the name of the weights in artifacts and records.
        scheme: the initialisation scheme of the fresh layer, see `ddjax.inits.random`.
        gain: the factor of the drawn weights of the fresh layer, see `ddjax.inits.random`.

    Returns:
        A fixed distribution with θ0 as a pool of one member: as a constant, the weights of a large network
        would be written out in every program.

    Raises:
        ValueError: the scheme is unknown, or the gain is not positive.
    """

    def choose(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        given = leaves.get(leaf_name(path))
        return leaf if given is None else jnp.asarray(given)

    drawn = jax.jit(inits.random(network, scheme=scheme, gain=gain).sample)(key)
    params = jax.tree_util.tree_map_with_path(choose, drawn)
    pool = jax.tree.map(lambda leaf: leaf[None], params)
    settings = {"kind": "loaded", "weights": name}
    return InitDistribution(lambda key: params, f"loaded({name})", fixed=True, pool=pool, settings=settings)


__all__ = ["SUFFIXES", "fit", "loaded", "read"]

"""What networks see of raw data: channels brought to mean 0 and std 1, whitened images, embedded tokens.

An encoding is one object in the place of a mean and a std. Data sets, real data on the device and distilled
data each carry theirs, and programs take its arrays as arguments.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddjax.types import Encoding


def _trailing(array: Any, rank: int) -> Any:
    """An array with axes of one in front, up to a rank: what broadcasting would do, but said."""
    return array.reshape((1,) * (rank - array.ndim) + array.shape)


def _is_finite(*arrays: Any) -> bool:
    return all(np.isfinite(np.asarray(array)).all() for array in arrays)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Channels(Encoding):
    """Images whose channels are brought to mean 0 and std 1.

        x = (pixel / 255 - mean) / std

    Attributes:
        mean: `[C]` float, the mean of pixel / 255.
        std: `[C]` float, the std of pixel / 255.
    """

    kind = "channels"

    mean: Any
    std: Any

    def encode(self, raw: Any) -> Any:
        """`[..., H, W, C]` uint8 to floats in the dtype of `mean`."""
        mean, std = (_trailing(part, raw.ndim) for part in (self.mean, self.std))
        return (raw.astype(self.mean.dtype) / 255 - mean) / std

    def decode(self, inputs: Any) -> Any:
        """`[..., H, W, C]`, pixels in units of white."""
        mean, std = (_trailing(part, inputs.ndim) for part in (self.mean, self.std))
        return inputs * std + mean

    def input_shape(self, raw_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the image itself."""
        return raw_shape

    def check(self, raw: np.ndarray) -> None:
        """Refuse what is no uint8 images of as many channels as there are means.

        Raises:
            ValueError: other examples, a mean that is not finite, or a std that is not above zero.
        """
        _check_images(raw)
        channels, mean, std = raw.shape[3:], np.asarray(self.mean), np.asarray(self.std)
        fits = mean.shape == channels and std.shape == channels
        if not fits or not _is_finite(mean) or not (std > 0).all():
            raise ValueError(
                f"split: expected a finite mean and a std above zero for each of {channels[0]} channels; got "
                f"{mean} and {std}. Use ddjax.data.from_arrays, which measures them."
            )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Whitened(Encoding):
    """Images under an affine map of all their pixels together, such as ZCA.

        x = (pixel / 255 - mean) W,    pixel / 255 = x W⁻¹ + mean,    images as vectors of F = H·W·C numbers

    Attributes:
        mean: `[F]` float, of pixel / 255.
        matrix: `[F, F]` float, W.
        inverse: `[F, F]` float, W⁻¹.
    """

    kind = "whitened"

    mean: Any
    matrix: Any
    inverse: Any

    def encode(self, raw: Any) -> Any:
        """`[..., H, W, C]` uint8 to floats in the dtype of `mean`."""
        flat = raw.reshape(*raw.shape[:-3], -1).astype(self.mean.dtype) / 255
        return ((flat - _trailing(self.mean, flat.ndim)) @ self.matrix).reshape(raw.shape)

    def decode(self, inputs: Any) -> Any:
        """`[..., H, W, C]`, pixels in units of white."""
        flat = inputs.reshape(*inputs.shape[:-3], -1) @ self.inverse
        return (flat + _trailing(self.mean, flat.ndim)).reshape(inputs.shape)

    def input_shape(self, raw_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the image itself."""
        return raw_shape

    def check(self, raw: np.ndarray) -> None:
        """Refuse what is no uint8 images of as many pixels as the matrix has rows.

        Raises:
            ValueError: other examples, or arrays of other shapes or that are not finite.
        """
        _check_images(raw)
        size = math.prod(raw.shape[1:])
        shapes = [np.shape(part) for part in (self.mean, self.matrix, self.inverse)]
        wanted = [(size,), (size, size), (size, size)]
        if shapes != wanted or not _is_finite(self.mean, self.matrix, self.inverse):
            raise ValueError(
                f"split: expected a finite whitening of {size} numbers, mean, matrix and inverse of shapes "
                f"{wanted}; got {shapes}, or NaN or infinity. Fit the whitening on images of this shape."
            )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Tokens(Encoding):
    """Texts as rows of a table of word vectors.

        x_l = table[token_l]

    Attributes:
        table: `[V, F]` float, a vector for each of V tokens.
    """

    kind = "tokens"

    table: Any

    def encode(self, raw: Any) -> Any:
        """`[..., L]` whole numbers to `[..., L, F]`."""
        return self.table[raw]

    def decode(self, inputs: Any) -> Any:
        """`[..., L]` int32, the token whose vector is nearest, ‖x - table_v‖ least, at each place."""
        table = jnp.asarray(self.table)
        squares = jnp.sum(table * table, -1)
        distances = _trailing(squares, inputs.ndim) - 2 * inputs @ table.T
        return jnp.argmin(distances, -1).astype(jnp.int32)

    def input_shape(self, raw_shape: tuple[int, ...]) -> tuple[int, ...]:
        """`(L, F)` of a text of L tokens."""
        return (*raw_shape, int(np.shape(self.table)[1]))

    def check(self, raw: np.ndarray) -> None:
        """Refuse what is no texts of numbers of the table's rows.

        Raises:
            ValueError: other examples, or a table that is not `[V, F]` and finite.
        """
        table = np.asarray(self.table)
        whole = isinstance(raw, np.ndarray) and raw.ndim == 2 and np.issubdtype(raw.dtype, np.integer)
        if not whole or table.ndim != 2 or raw.min() < 0 or raw.max() >= len(table):
            raise ValueError(
                f"split: expected texts [n, L] of token numbers in [0, {len(table)}), a table [V, F]; got "
                f"{_described(raw)} and a table {list(table.shape)}. Number the tokens as the table's rows."
            )
        if not _is_finite(table):
            raise ValueError(
                "split: expected a finite table of word vectors; got NaN or infinity. Repair it."
            )


def _check_images(raw: Any) -> None:
    if not isinstance(raw, np.ndarray) or raw.ndim != 4 or raw.dtype != np.uint8:
        raise ValueError(
            f"split: expected uint8 images [n, H, W, C]; got {_described(raw)}. Use ddjax.data.from_arrays, "
            "which checks and converts."
        )


def _described(raw: Any) -> str:
    return f"{getattr(raw, 'dtype', type(raw).__name__)}{list(np.shape(raw))}"


KINDS: Mapping[str, Any] = {one.kind: one for one in (Channels, Whitened, Tokens)}
"""The encodings that artifacts know, by name."""


def members(encoding: Encoding) -> dict[str, Any]:
    """The arrays of an encoding by name, for an artifact.

    Args:
        encoding: one of `KINDS`.

    Returns:
        The fields of the dataclass.

    Raises:
        ValueError: an encoding of another kind, which no artifact could be read with.
    """
    if type(encoding) is not KINDS.get(encoding.kind):
        raise ValueError(
            f"encoding: expected one of {', '.join(KINDS)}; got {type(encoding).__name__}. Encode the data "
            "by one of ddjax.encodings."
        )
    assert dataclasses.is_dataclass(encoding)
    return {field.name: getattr(encoding, field.name) for field in dataclasses.fields(encoding)}


def from_members(kind: str, arrays: Mapping[str, Any]) -> Encoding:
    """The encoding of an artifact.

    Args:
        kind: a name of `KINDS`.
        arrays: the fields by name.

    Returns:
        The encoding, its arrays on JAX's default device.

    Raises:
        ValueError: another kind, or not the fields of this one.
    """
    if kind not in KINDS:
        raise ValueError(f"encoding: expected one of {', '.join(KINDS)}; got {kind!r}.")
    names = {field.name for field in dataclasses.fields(KINDS[kind])}
    if names != set(arrays):
        raise ValueError(f"encoding: expected {sorted(names)} of {kind}; got {sorted(arrays)}.")
    return KINDS[kind](**{name: jnp.asarray(array) for name, array in arrays.items()})


def channels_of(encoding: Encoding) -> Channels:
    """An encoding as that of plain images.

    Args:
        encoding: the encoding of some data.

    Returns:
        The same object.

    Raises:
        ValueError: an encoding of another kind, which has no mean and std of channels.
    """
    if not isinstance(encoding, Channels):
        raise ValueError(
            f"encoding: expected that of plain images, mean and std of each channel; got {encoding.kind}. "
            "Use the encoding itself: encode and decode."
        )
    return encoding

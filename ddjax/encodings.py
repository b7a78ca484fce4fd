"""Encodings of raw data as network inputs: normalised channels, whitened images, embedded tokens.

An encoding is one object in the place of a mean and a std. Data sets, real data on the device and distilled
data each have an encoding, and compiled programs take the arrays of the encoding as arguments.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddjax.tokenizer import PAD, UNKNOWN, Tokenizer
from ddjax.types import Encoding


def _trailing(array: Any, rank: int) -> Any:
    """An array with axes of length one in front, up to a rank: broadcasting made explicit."""
    return array.reshape((1,) * (rank - array.ndim) + array.shape)


def _is_finite(*arrays: Any) -> bool:
    return all(np.isfinite(np.asarray(array)).all() for array in arrays)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Channels(Encoding):
    """Images whose channels are normalised to mean 0 and standard deviation 1.

        x = (pixel / 255 - mean) / std

    Attributes:
        mean: `[C]` float, the mean of pixel / 255 in each channel.
        std: `[C]` float, the standard deviation of pixel / 255 in each channel.
    """

    kind = "channels"

    mean: Any
    std: Any

    def encode(self, raw: Any) -> Any:
        """Normalised images `[..., H, W, C]` in the dtype of `mean`; see `ddjax.types.Encoding.encode`.

        Args:
            raw: `[..., H, W, C]` uint8, the pixels.

        Returns:
            (raw / 255 - mean) / std.
        """
        mean, std = (_trailing(part, raw.ndim) for part in (self.mean, self.std))
        return (raw.astype(self.mean.dtype) / 255 - mean) / std

    def decode(self, inputs: Any) -> Any:
        """Pixels `[..., H, W, C]` as floats, where 1 is white; see `ddjax.types.Encoding.decode`.

        Args:
            inputs: `[..., H, W, C]` float, the normalised images.

        Returns:
            inputs · std + mean.
        """
        mean, std = (_trailing(part, inputs.ndim) for part in (self.mean, self.std))
        return inputs * std + mean

    def input_shape(self, raw_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of an encoded image, which is the shape of the image.

        Args:
            raw_shape: the shape `(H, W, C)` of an image.

        Returns:
            The same shape.
        """
        return raw_shape

    def check(self, raw: np.ndarray) -> None:
        """Refuse examples that are no uint8 images with as many channels as there are means.

        Args:
            raw: `[n, H, W, C]` uint8, the images.

        Raises:
            ValueError: `raw` is no such array, a mean is not finite, or a std is not above zero.
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
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Whitened(Encoding):
    """Images under an affine map of all their pixels together, such as ZCA.

        x = (pixel / 255 - mean) W,    pixel / 255 = x W⁻¹ + mean,    images as vectors of F = H·W·C numbers

    Attributes:
        mean: `[F]` float, the mean of each pixel / 255.
        matrix: `[F, F]` float, the whitening matrix W.
        inverse: `[F, F]` float, the inverse W⁻¹ of the matrix.
    """

    kind = "whitened"

    mean: Any
    matrix: Any
    inverse: Any

    def encode(self, raw: Any) -> Any:
        """Whitened images `[..., H, W, C]` in the dtype of `mean`; see `ddjax.types.Encoding.encode`.

        Args:
            raw: `[..., H, W, C]` uint8, the pixels.

        Returns:
            (raw / 255 - mean) W, in the shape of an image.
        """
        flat = raw.reshape(*raw.shape[:-3], -1).astype(self.mean.dtype) / 255
        return ((flat - _trailing(self.mean, flat.ndim)) @ self.matrix).reshape(raw.shape)

    def decode(self, inputs: Any) -> Any:
        """Pixels `[..., H, W, C]` as floats, where 1 is white; see `ddjax.types.Encoding.decode`.

        Args:
            inputs: `[..., H, W, C]` float, the whitened images.

        Returns:
            inputs W⁻¹ + mean, in the shape of an image.
        """
        flat = inputs.reshape(*inputs.shape[:-3], -1) @ self.inverse
        return (flat + _trailing(self.mean, flat.ndim)).reshape(inputs.shape)

    def input_shape(self, raw_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of an encoded image, which is the shape of the image.

        Args:
            raw_shape: the shape `(H, W, C)` of an image.

        Returns:
            The same shape.
        """
        return raw_shape

    def check(self, raw: np.ndarray) -> None:
        """Refuse examples that are no uint8 images with as many numbers as the matrix has rows.

        Args:
            raw: `[n, H, W, C]` uint8, the images.

        Raises:
            ValueError: `raw` is no such array, or an array of the encoding has another shape or is not
                finite.
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
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Tokens(Encoding):
    """Texts whose tokens are replaced by the rows of a table of word vectors.

        x_l = table[token_l]

    Attributes:
        table: `[V, F]` float, the vector of each of V tokens.
        tokenizer: the words of the tokens, and the rules by which texts are cut into them; None for tokens
            that have no words.
    """

    kind = "tokens"

    table: Any
    tokenizer: Tokenizer | None = dataclasses.field(default=None, metadata={"static": True})

    def encode(self, raw: Any) -> Any:
        """The word vectors `[..., L, F]` of texts; see `ddjax.types.Encoding.encode`.

        Args:
            raw: `[..., L]` whole numbers, the tokens.

        Returns:
            table[raw].
        """
        return self.table[raw]

    def decode(self, inputs: Any) -> Any:
        """The token with the nearest vector at each place, argmin_v ‖x - table_v‖.

        Args:
            inputs: `[..., L, F]` float, the vectors.

        Returns:
            `[..., L]` int32, the tokens.
        """
        table = jnp.asarray(self.table)
        squares = jnp.sum(table * table, -1)
        distances = _trailing(squares, inputs.ndim) - 2 * inputs @ table.T
        return jnp.argmin(distances, -1).astype(jnp.int32)

    def input_shape(self, raw_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of an encoded text.

        Args:
            raw_shape: the shape `(L,)` of a text of L tokens.

        Returns:
            `(L, F)`.
        """
        return (*raw_shape, int(np.shape(self.table)[1]))

    def check(self, raw: np.ndarray) -> None:
        """Refuse examples that are no texts of tokens which the table has rows for.

        Args:
            raw: `[n, L]` whole numbers in [0, V), the tokens.

        Raises:
            ValueError: `raw` is no such array, or the table is not `[V, F]` and finite.
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
        if self.tokenizer is not None and len(self.tokenizer) != len(table):
            raise ValueError(
                f"split: expected a vector for each word of the tokenizer; it has {len(self.tokenizer)} "
                f"words, the table {len(table)} rows. Give the table that was made with this tokenizer."
            )

    def words(self, inputs: Any) -> np.ndarray:
        """The word whose vector is nearest at each place, for people to read.

        Args:
            inputs: `[..., L, F]` float, the vectors.

        Returns:
            `[..., L]`, the words as texts, or the numbers of the tokens as texts where they have no words;
            `<pad>` where `<pad>` and `<unk>` have the same vector.
        """
        tokens = np.asarray(self.decode(inputs))
        if self.tokenizer is None:
            return tokens.astype(str)
        # Both are zero in the tables that are made here, and a text that ends is no unknown word.
        if np.array_equal(self.table[UNKNOWN], self.table[PAD]):
            tokens = np.where(tokens == UNKNOWN, PAD, tokens)
        return np.array(self.tokenizer.words)[tokens]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Encoded(Encoding):
    """Examples that were encoded ahead, in the place of raw ones: nothing is left to do.

    For examples on the device whose own encoding would cost more than what a network does with them
    (`ddjax.data.device.ahead`). No artifact has this encoding.
    """

    kind = "encoded"

    def encode(self, raw: Any) -> Any:
        """The examples themselves; see `ddjax.types.Encoding.encode`.

        Args:
            raw: `[..., *input_shape]` float, examples that were encoded ahead.

        Returns:
            The same array.
        """
        return raw

    def decode(self, inputs: Any) -> Any:
        """The examples themselves; see `ddjax.types.Encoding.decode`.

        Args:
            inputs: `[..., *input_shape]` float, the encoded examples.

        Returns:
            The same array.
        """
        return inputs

    def input_shape(self, raw_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of an example.

        Args:
            raw_shape: the shape of an example.

        Returns:
            The same shape.
        """
        return raw_shape

    def check(self, raw: np.ndarray) -> None:
        """Refuse examples that are no finite floats.

        Args:
            raw: `[n, *input_shape]` float, the examples.

        Raises:
            ValueError: `raw` is no such array.
        """
        if not np.issubdtype(np.asarray(raw).dtype, np.floating) or not _is_finite(raw):
            raise ValueError(
                f"split: expected finite floats, encoded ahead; got {_described(raw)}. Encode them first."
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
        encoding: the encoding, an object of one of `KINDS`.

    Returns:
        The fields of the dataclass that are arrays, by name.

    Raises:
        ValueError: the encoding is of another kind, which a reader of the artifact would not know.
    """
    if type(encoding) is not KINDS.get(encoding.kind):
        raise ValueError(
            f"encoding: expected one of {', '.join(KINDS)}; got {type(encoding).__name__}. Encode the data "
            "by one of ddjax.encodings."
        )
    return {name: getattr(encoding, name) for name in _array_fields(encoding.kind)}


def tokenizer_of(encoding: Encoding) -> str | None:
    """The tokenizer of an encoding, for an artifact.

    Args:
        encoding: the encoding.

    Returns:
        The JSON; None for an encoding that has none.
    """
    tokenizer = encoding.tokenizer if isinstance(encoding, Tokens) else None
    return None if tokenizer is None else tokenizer.json


def from_members(kind: str, arrays: Mapping[str, Any], *, tokenizer: str | None = None) -> Encoding:
    """The encoding of an artifact.

    Args:
        kind: the name of the kind in `KINDS`.
        arrays: the arrays of the encoding, by name.
        tokenizer: the JSON of the tokenizer of an encoding of tokens; None where there is none.

    Returns:
        The encoding, with its arrays on JAX's default device.

    Raises:
        ValueError: an unknown kind, arrays other than those of the kind, or a tokenizer that is none, or
            that belongs to an encoding of another kind.
    """
    if kind not in KINDS:
        raise ValueError(f"encoding: expected one of {', '.join(KINDS)}; got {kind!r}.")
    names = _array_fields(kind)
    if set(names) != set(arrays):
        raise ValueError(f"encoding: expected {sorted(names)} of {kind}; got {sorted(arrays)}.")
    parts: dict[str, Any] = {name: jnp.asarray(array) for name, array in arrays.items()}
    if tokenizer is not None:
        if kind != Tokens.kind:
            raise ValueError(f"encoding: expected no tokenizer beside {kind}; got one. Leave it out.")
        parts["tokenizer"] = Tokenizer(tokenizer)
    return KINDS[kind](**parts)


def _array_fields(kind: str) -> list[str]:
    return [field.name for field in dataclasses.fields(KINDS[kind]) if not field.metadata.get("static")]


def check_words(what: str, encoding: Encoding, own: Encoding) -> None:
    """Refuse texts whose numbers stand for other words than those of an encoding that is to replace theirs.

    Args:
        what: the name of the texts, for the message.
        encoding: the encoding that the texts were loaded with.
        own: the encoding that is to be used.

    Raises:
        ValueError: both have a tokenizer, and the two differ.
    """
    if not isinstance(encoding, Tokens) or not isinstance(own, Tokens):
        return
    if None not in (encoding.tokenizer, own.tokenizer) and encoding.tokenizer != own.tokenizer:
        raise ValueError(
            f"{what}: expected texts under φ's {own.tokenizer}; got {encoding.tokenizer}, whose numbers "
            "stand for other words. Load the data with "
            "text=ddjax.data.TextSettings(encoding=distilled.encoding)."
        )


def channels_of(encoding: Encoding) -> Channels:
    """The encoding itself, where it normalises the channels of plain images.

    Args:
        encoding: the encoding of a data set.

    Returns:
        The same object.

    Raises:
        ValueError: the encoding is of another kind, which has no mean and std of channels.
    """
    if not isinstance(encoding, Channels):
        raise ValueError(
            f"encoding: expected that of plain images, mean and std of each channel; got {encoding.kind}. "
            "Use the encoding itself: encode and decode."
        )
    return encoding

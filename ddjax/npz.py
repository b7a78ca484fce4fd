"""Arrays from an `.npz` of unknown origin: names, types and sizes are checked before any data are read.

`numpy.load` allocates as much memory as a file claims to need. Here the claims are first compared with a
limit, with the member's size in the archive, and with each other. Nothing is ever unpickled.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import operator
import zipfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from ddjax import checks
from ddjax.files import StrPath, write_atomic

LIMIT = 4 * 2**30
"""The most bytes that the arrays of one file may take in memory, unless the caller gives another limit."""

_METADATA_BYTES = 2**24
"""The most bytes of the text of the metadata, which is parsed whole."""

_SUFFIX = ".npy"
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1
_MEMBERS = 100_000
"""The most members of one file, whose directory is read whole under any limit of bytes."""


def write(path: StrPath, members: Mapping[str, np.ndarray]) -> Path:
    """Write arrays as an `.npz`, whole or not at all; the same arrays give the same bytes.

    Args:
        path: the file to write.
        members: the arrays by name.

    Returns:
        The path.

    Raises:
        OSError: the file could not be written; what was there is untouched.
    """
    path = Path(path)
    write_atomic(path, content(members))
    return path


def content(members: Mapping[str, np.ndarray]) -> bytes:
    """The content of an `.npz` of arrays; the same arrays give the same bytes.

    Args:
        members: the arrays by name.

    Returns:
        The content of the file.
    """
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **members)
    return stream.getvalue()


def check_finite(where: object, name: str, array: np.ndarray, *, remedy: str) -> None:
    """Refuse an array that is not finite float32.

    Args:
        where: the name of the file, for the message.
        name: the name of the array, for the message.
        array: the array to check.
        remedy: the sentence of the message that says what to do.

    Raises:
        ValueError: the array has another dtype, or holds NaN or infinity.
    """
    if array.dtype != np.float32 or not np.isfinite(array).all():
        raise ValueError(
            f"{where}: {name}: expected finite float32; got {array.dtype}, or NaN or infinity. {remedy}"
        )


def read(path: StrPath, *, limit: int = LIMIT, only: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of an `.npz`.

    Args:
        path: an archive as `numpy.savez` or `numpy.savez_compressed` writes it.
        limit: the most bytes that all arrays of the archive may take together.
        only: the names of the arrays to read; names that the archive does not have are ignored. None reads
            all arrays.

    Returns:
        The arrays by name, writable and in the order of the archive.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no such archive or is damaged, holds Python objects or records, has two
            members of one name or a member that is not called `NAME.npy`, or its arrays would take more than
            `limit` bytes.
    """
    with _opened(path, limit) as (archive, members):
        wanted = members if only is None else [name for name in members if name in only]
        return {name: _member(archive, members[name]) for name in wanted}


def names(path: StrPath, *, limit: int = LIMIT) -> tuple[str, ...]:
    """The names of the arrays of an `.npz`, none of which is read.

    Args:
        path: an archive as `numpy.savez` or `numpy.savez_compressed` writes it.
        limit: the most bytes that all arrays of the archive may take together.

    Returns:
        The names, in the order of the archive.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: `read` would refuse the file before it reads an array.
    """
    with _opened(path, limit) as (_, members):
        return tuple(members)


@contextlib.contextmanager
def _opened(path: StrPath, limit: int) -> Iterator[tuple[zipfile.ZipFile, Mapping[str, zipfile.ZipInfo]]]:
    """An archive and its members by name; whatever a damaged archive raises inside becomes a ValueError."""
    checks.at_least("limit", limit, 1)
    path = Path(path)
    if path.exists() and not path.is_file():  # a pipe would wait without end
        raise ValueError("it is no regular file")
    with path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                yield archive, _directory(archive, limit)
        except ValueError:
            raise
        except Exception as error:  # a damaged archive or header can raise nearly anything
            raise ValueError(f"it cannot be read ({type(error).__name__}: {error})") from error


def metadata(
    where: object, text: np.ndarray | None, *, newest: int, kinds: Mapping[str, type], remedy: str
) -> dict[str, Any]:
    """The facts about a file, which one member of the file holds as a JSON text.

    Args:
        where: the name of the file, for messages.
        text: the array that holds the text; None where the file has none.
        newest: the newest format version that can be read.
        kinds: the type that each fact must have if the file states that fact.
        remedy: the sentence of the message that says what to do about a refused file.

    Returns:
        The facts by name, `format_version` among them.

    Raises:
        ValueError: there is no text, or one that is too long or no JSON object; the format version is missing
            or newer than `newest`; or a fact has another type.
    """
    if text is None or text.shape != () or text.dtype.kind != "U" or text.nbytes > _METADATA_BYTES:
        got = "none" if text is None else f"{text.dtype}{list(text.shape)}"
        raise ValueError(
            f"{where}: metadata: expected one text of at most {_METADATA_BYTES:,} bytes; got {got}. {remedy}"
        )
    try:
        facts = json.loads(str(text))
        version = operator.index(facts["format_version"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(
            f"{where}: metadata: expected a JSON object with a format_version; got {error}. {remedy}"
        ) from error
    if not 1 <= version <= newest:
        raise ValueError(
            f"{where}: expected format version 1 to {newest}; got {version}. Install a newer ddjax."
        )
    for name, kind in kinds.items():
        checks.kind(f"{where}: metadata: {name}", facts.get(name, kind()), kind, remedy=remedy)
    return facts


def _directory(archive: zipfile.ZipFile, limit: int) -> Mapping[str, zipfile.ZipInfo]:
    """The members by the names of their arrays; refuses names and methods that NumPy never writes."""
    infos = archive.infolist()
    if len(infos) > _MEMBERS:
        raise ValueError(f"expected at most {_MEMBERS} members; got {len(infos)}")
    members: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        name = info.filename.removesuffix(_SUFFIX)
        if name == info.filename or not name:
            raise ValueError(f"member {info.filename!r}: expected NAME{_SUFFIX}")
        if name in members:
            raise ValueError(f"member {info.filename!r}: expected once; got it twice")
        if info.compress_type not in _METHODS or info.flag_bits & _ENCRYPTED:
            raise ValueError(f"member {info.filename!r}: expected it stored or deflated, and not encrypted")
        members[name] = info
    total = sum(info.file_size for info in infos)
    if total > limit:
        raise ValueError(f"expected arrays of at most {limit:,} bytes together; got {total:,}")
    return members


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """One array, whose header must describe exactly as many bytes as the archive says that there are."""
    with archive.open(info) as file:
        shape, fortran_order, dtype = _header(file)
        where = f"member {info.filename!r}"
        if dtype.hasobject or dtype.names is not None or dtype.subdtype is not None:
            raise ValueError(f"{where}: expected an array of plain numbers or text; got dtype {dtype}")
        size = math.prod(shape) * dtype.itemsize
        left = info.file_size - file.tell()
        if size != left:
            raise ValueError(f"{where}: expected {size:,} bytes of {dtype}{list(shape)}; got {left:,}")
        # One byte more than expected, so that the end is reached, where the archive's checksum is compared.
        data = bytearray(file.read(size + 1))
    if len(data) != size:
        raise ValueError(f"{where}: expected {size:,} bytes; got {len(data):,}")
    if dtype.itemsize == 0:
        return np.zeros(shape, dtype)
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran_order else "C")


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(file)
    raise ValueError(f"expected an array of format 1.0 or 2.0; got {version}")


__all__ = ["LIMIT", "check_finite", "metadata", "names", "read", "write"]

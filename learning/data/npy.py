"""Reading arrays of an .npz file that nobody vouches for.

`numpy.load` believes what a header declares and reserves memory for it. Here the declared shapes
are compared with the sizes of the file's members first, and nothing is ever unpickled.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from learning.data.base import DataError

LONGEST_HEADER = 16_384
STEP = 2**20
# DEFLATE cannot shrink by more than 1032:1, so that a larger claim is a lie
DEFLATE_LIMIT = 1032
DAMAGE = (OSError, EOFError, RuntimeError, ValueError, MemoryError, struct.error, zlib.error)


_LETTER = 4  # bytes of a letter in an array of text


@dataclass(frozen=True)
class Header:
    """What an array of the file is declared to be, found to fit the size of its member.

    Attributes:
        name: Such as ``x_train``.
        shape: Its shape.
        dtype: An integer or float type of at most 8 bytes, or text.
        fortran: Whether the first dimension varies fastest.
        start: Where its values begin in the member, in bytes.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    start: int

    @property
    def nbytes(self) -> int:
        """Size of its values in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


class Archive:
    """An open .npz file; see `opened`."""

    def __init__(self, file: Path, members: zipfile.ZipFile) -> None:
        self._file = file
        self._zip = members
        self._infos: dict[str, zipfile.ZipInfo] = {}
        for info in members.infolist():
            name = info.filename.removesuffix(".npy")
            if self._infos.setdefault(name, info) is not info:
                raise DataError(f"expected one array {name!a} in {file}, got two")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the arrays, in the order of the file."""
        return tuple(self._infos)

    def header(self, name: str, *, letters: int = 0) -> Header:
        """Return what array `name` is declared to be; reads no values.

        Args:
            name: One of `names`.
            letters: Of an array of text the most letters of an item; 0 for one of numbers.

        Raises:
            DataError: If it is no such array, or its size does not fit the declaration.
        """
        info, where = self._infos[name], f"{name} of {self._file}"
        if info.flag_bits & 1 or info.compress_type not in (
            zipfile.ZIP_STORED,
            zipfile.ZIP_DEFLATED,
        ):
            raise DataError(f"expected {where} stored or deflated, as NumPy writes it")
        with self._zip.open(info) as stream:
            header = _parsed(name, io.BytesIO(stream.read(LONGEST_HEADER)), where)
        if letters:
            if header.dtype.kind != "U" or header.dtype.itemsize > _LETTER * letters:
                raise DataError(
                    f"expected text of at most {letters} letters an item, got {header.dtype} in "
                    f"{where}"
                )
        elif header.dtype.kind not in "iuf" or header.dtype.itemsize > 8:
            hint = " (number the classes from 0)" if header.dtype.kind in "US" else ""
            raise DataError(f"expected integers or floats, got {header.dtype} in {where}{hint}")
        held = info.file_size - header.start
        if min(header.shape, default=0) < 0 or header.nbytes != held:
            raise DataError(
                f"expected shape {header.shape} {header.dtype} to fit its {held} bytes in {where}"
            )
        if info.file_size > DEFLATE_LIMIT * info.compress_size + LONGEST_HEADER:
            raise DataError(f"expected {held} bytes, got {info.compress_size} packed in {where}")
        return header

    def values(self, header: Header) -> NDArray[Any]:
        """Return the values of an array.

        Raises:
            DataError: If the file holds less than it declares, or is damaged.
        """
        flat = np.empty(math.prod(header.shape), header.dtype)
        room, at = flat.view(np.uint8), 0
        with self._zip.open(self._infos[header.name]) as stream:
            stream.read(header.start)
            while chunk := stream.read(STEP):
                room[at : at + len(chunk)] = np.frombuffer(chunk, np.uint8)
                at += len(chunk)
        if at < len(room):
            raise DataError(
                f"expected {len(room)} bytes, got {at} in {header.name} of {self._file}"
            )
        if header.fortran:
            return flat.reshape(header.shape[::-1]).T
        return flat.reshape(header.shape)


@contextmanager
def opened(file: Path) -> Iterator[Archive]:
    """Open an .npz file.

    Raises:
        DataError: If it is none, or damaged; also for faults found while it is open.
    """
    if not file.is_file():
        raise DataError(f"expected an .npz file, got nothing readable at {file}")
    try:
        with zipfile.ZipFile(file) as members:
            yield Archive(file, members)
    except DataError:
        raise
    except (zipfile.BadZipFile, zipfile.LargeZipFile) as error:
        raise DataError(f"expected an .npz file, got {file}: {error}") from error
    except DAMAGE as error:
        raise DataError(f"expected an intact .npz file, got {file}: {error}") from error


def _parsed(name: str, start: io.BytesIO, where: str) -> Header:
    try:
        version = npy.read_magic(start)
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
        shape, fortran, dtype = read(start)
    except Exception as error:  # hostile text can fail in any way
        raise DataError(f"expected the header of a NumPy array in {where}") from error
    return Header(name, shape, dtype, fortran, start.tell())

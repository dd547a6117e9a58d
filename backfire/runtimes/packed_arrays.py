"""Small arrays travel together: many as one, in a form that needs no trust.

Flower keeps each array of a message as an object of its own, and carrying one takes the SuperLink
as long as carrying 5 MB. So on its way a record holds its small arrays as one array of bytes, a
bundle. Whoever receives it gets the record as it was: names, order, dtypes, shapes and bytes.

A bundle is, all numbers little-endian:

- 8 bytes `MAGIC`, and the number of arrays, 4 bytes;
- for each array 12 bytes: its place in the whole record (4), and how long its name (2), dtype (1),
  shape (1, in dimensions) and data (4) are;
- for each array its name and dtype in UTF-8, its shape in numbers of 8 bytes, and its data.

The lengths make up the bundle to the byte, places and names are no two's, and there is no way to
write a bundle into one. All of that is checked before a single array is made.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from flwr.app import Array, ArrayRecord, RecordDict

MAGIC: Final = b"BF\x00ARRS\x01"
# A bundle is known by its kind of array, which no array has otherwise, and must have this name.
KIND: Final = "backfire.bundle"
NAME: Final = "\0bundle"
# Larger arrays travel by themselves; bytes.
SMALL: Final = 2**20
_NUMPY: Final = "numpy.ndarray"
_HEAD: Final = struct.Struct("<8sI")
_ENTRY: Final = struct.Struct("<IHBBI")
_AXIS: Final = 8
_LONGEST_AXIS: Final = 2**63 - 1

__all__ = ["KIND", "NAME", "SMALL", "Malformed", "TooLarge", "bundled", "unbundle"]


class TooLarge(ValueError):
    """A message is larger than its receiver allows; one line."""


class Malformed(ValueError):
    """The pieces of a message make no message; one line."""


@dataclass(frozen=True)
class _Entry:
    """Where an array goes, and how long its parts are, in bytes."""

    place: int
    name: int
    dtype: int
    shape: int
    data: int

    @property
    def size(self) -> int:
        return self.name + self.dtype + self.shape + self.data


def bundled(record: ArrayRecord) -> ArrayRecord:
    """Return a record as it travels: its small arrays as one, and the others as they are.

    Args:
        record: The record, which stays as it is.

    Returns:
        A record that shares the large arrays; the record itself where there is little to bundle.
    """
    names = list(record)
    small = {at: name for at, name in enumerate(names) if _fits(name, record[name])}
    if len(small) < 2 or NAME in record:
        return record
    made = ArrayRecord()
    data = _written({at: (name, record[name]) for at, name in small.items()})
    made[NAME] = Array("uint8", (len(data),), KIND, data)
    for at, name in enumerate(names):
        if at not in small:
            made[name] = record[name]
    return made


def _fits(name: str, array: Array) -> bool:
    """Return whether an array is small, and one that a bundle can tell of."""
    try:
        lengths = len(name.encode()) < 2**16 and len(array.dtype.encode()) < 2**8
    except UnicodeEncodeError:
        return False
    axes = len(array.shape) < 2**8 and all(0 <= n <= _LONGEST_AXIS for n in array.shape)
    return lengths and axes and array.stype == _NUMPY and len(array.data) <= SMALL


def _written(arrays: Mapping[int, tuple[str, Array]]) -> bytes:
    heads, bodies = [_HEAD.pack(MAGIC, len(arrays))], []
    for place, (label, array) in arrays.items():
        name, dtype, axes = label.encode(), array.dtype.encode(), len(array.shape)
        heads.append(_ENTRY.pack(place, len(name), len(dtype), axes, len(array.data)))
        bodies += [name, dtype, struct.pack(f"<{axes}q", *array.shape), array.data]
    return b"".join(heads + bodies)


def unbundle(content: RecordDict, arrays: int, size: int) -> None:
    """Give the records of a message that came the arrays that their bundles hold.

    Args:
        content: What came, from nobody who is trusted; changed.
        arrays: How many arrays all bundles together may hold.
        size: How many bytes all of them may have.

    Raises:
        TooLarge: If there are more arrays or more bytes.
        Malformed: If a bundle is none that `bundled` makes.
    """
    done: dict[int, tuple[ArrayRecord, ArrayRecord]] = {}  # one record may have many names
    for name, record in list(content.items()):
        if not isinstance(record, ArrayRecord) or not _has_bundle(record):
            continue
        if id(record) not in done:
            data = record[NAME].data
            size -= len(data)
            if size < 0:
                raise TooLarge("expected bundles of arrays with fewer bytes, got more")
            entries = _entries(data, arrays, len(record) - 1)
            arrays -= len(entries)
            done[id(record)] = record, _opened(record, entries)
        content[name] = done[id(record)][1]


def _has_bundle(record: ArrayRecord) -> bool:
    marked = [name for name, array in record.items() if array.stype == KIND]
    if not marked:
        return False
    told = record[marked[0]]
    if marked != [NAME] or told.dtype != "uint8" or told.shape != (len(told.data),):
        raise Malformed("expected one bundle of arrays, under its own name, dtype and shape")
    return True


def _entries(data: bytes, most: int, others: int) -> list[_Entry]:
    """Return what a bundle says of its arrays, once it is known to be so.

    Args:
        data: The bundle.
        most: Largest number of arrays.
        others: Number of arrays of the record that are in no bundle.
    """
    if len(data) < _HEAD.size or data[: len(MAGIC)] != MAGIC:
        raise Malformed("expected a bundle of arrays, got other bytes")
    count = _HEAD.unpack_from(data)[1]
    if count > most:
        raise TooLarge(f"expected at most {most} arrays in bundles, got more")
    start = _HEAD.size + count * _ENTRY.size
    if start > len(data):
        raise Malformed(f"expected a bundle of {count} arrays, got {len(data)} bytes")
    told = _ENTRY.iter_unpack(memoryview(data)[_HEAD.size : start])
    entries = [_Entry(at, name, dtype, axes * _AXIS, n) for at, name, dtype, axes, n in told]
    if start + sum(entry.size for entry in entries) != len(data):
        raise Malformed("expected the lengths in a bundle to make up its own, got others")
    places = [-1, *(entry.place for entry in entries), count + others]
    if any(here >= following for here, following in pairwise(places)):
        raise Malformed("expected each array of a bundle in a place of its own, in order")
    if any(entry.data > SMALL for entry in entries):
        raise Malformed(f"expected arrays of at most {SMALL} bytes in a bundle, got a larger one")
    return entries


def _opened(record: ArrayRecord, entries: list[_Entry]) -> ArrayRecord:
    """Return a record whose bundle is what its entries say."""
    small = dict(zip((e.place for e in entries), _read(record[NAME].data, entries), strict=True))
    others = ((name, array) for name, array in record.items() if name != NAME)
    whole = ArrayRecord()
    for at in range(len(small) + len(record) - 1):
        name, array = small[at] if at in small else next(others)
        if name in whole:
            raise Malformed(f"expected each array once, got {name[:40]!r} twice")
        whole[name] = array
    return whole


def _read(data: bytes, entries: list[_Entry]) -> Iterator[tuple[str, Array]]:
    at = _HEAD.size + len(entries) * _ENTRY.size
    for entry in entries:
        parts = []
        for length in (entry.name, entry.dtype, entry.shape, entry.data):
            parts.append(data[at : at + length])
            at += length
        shape = struct.unpack(f"<{entry.shape // _AXIS}q", parts[2])
        yield _text(parts[0]), Array(_text(parts[1]), shape, _NUMPY, parts[3])


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Malformed("expected names and dtypes of a bundle in UTF-8, got other bytes") from None

"""Small arrays travel together: many as one, in a form that needs no trust.

Flower keeps each array of a message as an object of its own, and carrying one takes the SuperLink
as long as carrying 5 MB. So on its way a record holds its small arrays as one array of bytes, a
bundle. Whoever receives it gets the record as it was: names, order, dtypes, shapes and bytes.

A bundle is in the format of safetensors: a header in JSON, then bytes. Flower's arrays are bytes
with a dtype and a shape beside them, which need not agree. So each is a tensor of bytes (`U8`), and
its name there is a label: its place in the whole record, dtype, shape and name, with one space
after each of the first three, as in ``3 float32 2,1 layer.weight``.

The length of the header is bounded, and checked before anything is read. safetensors checks that
the lengths make up the bundle to the byte. No two arrays have one place or one name, and there is
no way to write a bundle into one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
from flwr.app import Array, ArrayRecord, RecordDict
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

# A bundle is known by its kind of array, which no array has otherwise, and must have this name.
KIND: Final = "backfire.bundle"
NAME: Final = "\0bundle"
# Larger arrays travel by themselves; bytes.
SMALL: Final = 2**20
# Longest header; bytes. The first 8 bytes of a bundle say how long it is.
HEADER: Final = 2**20
_LENGTH: Final = 8
# Longest label in UTF-8, and what an entry of the header has beside it; bytes.
_LABEL: Final = 512
_BESIDE: Final = 100
_NUMPY: Final = "numpy.ndarray"
_LONGEST_AXIS: Final = 2**63 - 1
_DTYPE: Final = re.compile(r"\w+")
_SAID: Final = re.compile(r"([0-9]{1,9}) (\w+) ((?:[0-9]{1,19}(?:,[0-9]{1,19})*)?) (.*)", re.DOTALL)

__all__ = ["HEADER", "KIND", "NAME", "SMALL", "Malformed", "TooLarge", "bundled", "unbundle"]


class TooLarge(ValueError):
    """A message is larger than its receiver allows; one line."""


class Malformed(ValueError):
    """The pieces of a message make no message; one line."""


@dataclass(frozen=True)
class _Entry:
    """An array of a bundle, and its place in the whole record."""

    place: int
    name: str
    array: Array


def bundled(record: ArrayRecord) -> ArrayRecord:
    """Return a record as it travels: its small arrays as one, and the others as they are.

    Args:
        record: The record, which stays as it is.

    Returns:
        A record that shares the large arrays; the record itself where there is little to bundle.
    """
    if NAME in record:
        return record
    small = dict(_that_fit(record))
    if len(small) < 2:
        return record
    made = ArrayRecord()
    data = _written(small.values(), record)
    made[NAME] = Array("uint8", (len(data),), KIND, data)
    for name, array in record.items():
        if name not in small:
            made[name] = array
    return made


def _that_fit(record: ArrayRecord) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield the arrays that a bundle can hold: name, then label and name."""
    left = HEADER - _BESIDE
    for place, (name, array) in enumerate(record.items()):
        label = _label(place, name, array)
        if label is None:
            continue
        left -= len(json.dumps(label)) + _BESIDE
        if left < 0:
            return
        yield name, (label, name)


def _label(place: int, name: str, array: Array) -> str | None:
    """Return the label of a small array; None for one that no bundle can tell of."""
    axes = all(0 <= n <= _LONGEST_AXIS for n in array.shape)
    if array.stype != _NUMPY or len(array.data) > SMALL or not axes:
        return None
    label = f"{place} {array.dtype} {','.join(map(str, array.shape))} {name}"
    try:
        short = len(label.encode()) <= _LABEL
    except UnicodeEncodeError:
        return None
    return label if short and _DTYPE.fullmatch(array.dtype) else None


def _written(labels: Iterable[tuple[str, str]], arrays: Mapping[str, Array]) -> bytes:
    return save({label: np.frombuffer(arrays[name].data, np.uint8) for label, name in labels})


def unbundle(content: RecordDict, arrays: int, size: int) -> None:
    """Give the records of a message that came the arrays that their bundles hold.

    Args:
        content: What came, from nobody who is trusted; changed.
        arrays: How many arrays all bundles together may hold.
        size: How many bytes all of them may have.

    Raises:
        TooLarge: If there are more arrays or more bytes, or if a header is too long.
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
    """Return the arrays of a bundle, in the order of their places.

    Args:
        data: The bundle.
        most: Largest number of arrays.
        others: Number of arrays of the record that are in no bundle.
    """
    tensors = _tensors(data)
    if len(tensors) > most:
        raise TooLarge(f"expected at most {most} arrays in bundles, got more")
    entries = sorted((_entry(*tensor) for tensor in tensors), key=lambda entry: entry.place)
    places = [-1, *(entry.place for entry in entries), len(entries) + others]
    if any(here >= following for here, following in pairwise(places)):
        raise Malformed("expected each array of a bundle in a place of its own")
    return entries


def _tensors(data: bytes) -> list[tuple[str, dict[str, Any]]]:
    """Return the tensors of a bundle whose header is short enough to be read."""
    length = int.from_bytes(data[:_LENGTH], "little")
    if length > HEADER:
        raise TooLarge(f"expected a bundle whose header has at most {HEADER} bytes, got more")
    try:
        tensors: list[tuple[str, dict[str, Any]]] = deserialize(data)  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        said = " ".join(str(error).split())[:100]
        raise Malformed(f"expected a bundle of arrays in safetensors, got: {said}") from None
    return tensors


def _entry(label: str, tensor: Mapping[str, Any]) -> _Entry:
    said, data = _SAID.fullmatch(label), tensor["data"]
    if said is None or (tensor["dtype"], tensor["shape"]) != ("U8", [len(data)]):
        raise Malformed("expected bytes with place, dtype, shape and name in a bundle, got others")
    if len(data) > SMALL:
        raise Malformed(f"expected arrays of at most {SMALL} bytes in a bundle, got a larger one")
    shape = tuple(int(n) for n in said[3].split(",") if n)
    if any(n > _LONGEST_AXIS for n in shape):
        raise Malformed(f"expected shapes in a bundle up to {_LONGEST_AXIS}, got a larger one")
    return _Entry(int(said[1]), said[4], Array(said[2], shape, _NUMPY, bytes(data)))


def _opened(record: ArrayRecord, entries: list[_Entry]) -> ArrayRecord:
    """Return a record whose bundle is what its entries say."""
    small = {entry.place: (entry.name, entry.array) for entry in entries}
    others = ((name, array) for name, array in record.items() if name != NAME)
    whole = ArrayRecord()
    for at in range(len(small) + len(record) - 1):
        name, array = small[at] if at in small else next(others)
        if name in whole:
            raise Malformed(f"expected each array once, got {name[:40]!r} twice")
        whole[name] = array
    return whole

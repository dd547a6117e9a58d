"""The records that travel between agents and server, and how to read hostile ones.

An array travels as a Flower `Array`: an npy byte string beside a declared dtype and shape. The
reader trusts none of it: what was expected is compared with the declaration, with the npy header
and with the number of bytes before anything is allocated.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from numpy.typing import NDArray

RECORD = "arrays"
# What an attacker is sent besides the model: the model of the round before, what it has trained
# itself, and the updates that it is granted.
PREVIOUS = "previous"
OWN = "own"
SEEN = "seen"
# What an attacker that knows the rule is sent besides: the rule's memory, and the registered rows
# of those whose updates it is granted and then of its accomplices.
MEMORY = "memory"
SHARES = "shares"
# Where an agent says that its training diverged, and in which epoch.
TRAINING = "training"
_DIVERGED = "diverged"
_MOST_EPOCHS = 1_000_000
# Error codes of replies, far from Flower's: one that is larger than its receiver takes, one that
# answers another request or none, one of an agent that does not play, one that cannot be read.
REFUSED = 7001
STALE = 7002
DECLINED = 7003
MALFORMED = 7004
_MAX_HEADER = 4096


class Refusal(Exception):
    """A message that is not what was asked for.

    Attributes:
        code: Reason code: ``missing``, ``error``, ``declined``, ``stale``, ``keys``, ``dtype``,
            ``shape``, ``header``, ``size``, ``non_finite``, ``range``, ``label``, ``duplicate`` or
            ``unknown_agent``.
        message: One line: what was expected and what came.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


@dataclass(frozen=True)
class Expected:
    """What an array must be: its dtype name (``float32``, ``int64``, ``bool``) and shape."""

    dtype: str
    shape: tuple[int, ...]


def pack(arrays: Mapping[str, NDArray[np.generic]]) -> RecordDict:
    """Return the content of a message with named arrays."""
    return RecordDict({RECORD: to_record(arrays)})


def to_record(arrays: Mapping[str, NDArray[np.generic]]) -> ArrayRecord:
    """Return named arrays as one record, to be sent to many."""
    return ArrayRecord({name: Array(np.asarray(a, order="C")) for name, a in arrays.items()})


def with_divergence(content: RecordDict, epoch: int) -> RecordDict:
    """Return the content with a word that the training diverged; as it is where `epoch` is 0."""
    if epoch:
        content[TRAINING] = ConfigRecord({_DIVERGED: epoch})
    return content


def take_divergence(content: RecordDict) -> int:
    """Take what `with_divergence` added out of a content; return the epoch, 0 for none.

    What says something else than that is taken out as well: it is nobody's harm but the sender's.
    """
    record = content.get(TRAINING)
    if not isinstance(record, ConfigRecord):
        return 0
    del content[TRAINING]
    epoch = record.get(_DIVERGED)
    return epoch if type(epoch) is int and 0 < epoch <= _MOST_EPOCHS else 0


def unpack(content: RecordDict, expected: Mapping[str, Expected]) -> dict[str, NDArray[np.generic]]:
    """Read the named arrays, or refuse.

    Args:
        content: What came.
        expected: What must have come, and nothing else.

    Returns:
        The arrays, read-only views of the received bytes.

    Raises:
        Refusal: With a reason code; nothing larger than the message itself was allocated.
    """
    record = _record(content)
    if set(record) != set(expected):
        raise Refusal("keys", f"expected the arrays {_names(expected)}, got {_names(record)}")
    return {name: _read(name, record[name], want) for name, want in expected.items()}


def unpack_one(content: RecordDict, name: str, want: Expected) -> NDArray[np.generic]:
    """Read one of the arrays, which says what the others must be.

    Raises:
        Refusal: As `unpack`.
    """
    record = _record(content)
    if name not in record:
        raise Refusal("keys", f"expected the array {name!r}, got {_names(record)}")
    return _read(name, record[name], want)


def _record(content: RecordDict) -> ArrayRecord:
    # `content.array_records` would tie the record to itself: its arrays would then stay in memory
    # until Python looks for such knots, dozens of large messages later.
    record = content.get(RECORD)
    if set(content) != {RECORD} or not isinstance(record, ArrayRecord):
        raise Refusal("keys", f"expected one record {RECORD!r}, got {_names(content)}")
    return record


@lru_cache(maxsize=4096)
def _usual_header(dtype: str, shape: tuple[int, ...]) -> bytes:
    """Return the npy header that NumPy writes for an array in C order."""
    stream = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(np.dtype(dtype))
    fields = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, fields)
    return stream.getvalue()


def _read(name: str, array: Array, want: Expected) -> NDArray[np.generic]:
    dtype = np.dtype(want.dtype)
    if array.stype != "numpy.ndarray" or array.dtype != want.dtype:
        got = f"{array.stype} of {array.dtype}"[:80]
        raise Refusal("dtype", f"expected {name} as numpy.ndarray of {want.dtype}, got {got!r}")
    if tuple(array.shape) != want.shape:
        raise Refusal("shape", f"expected {name} of shape {want.shape}, got {_dims(array.shape)}")
    # Almost always the header is the one that NumPy writes, and need not be parsed.
    usual = _usual_header(want.dtype, want.shape)
    start = len(usual) if array.data[: len(usual)] == usual else _start(name, array, want)
    size = math.prod(want.shape) * dtype.itemsize
    if len(array.data) - start != size:
        found = len(array.data) - start
        raise Refusal("size", f"expected {size} bytes of {name}, got {found}")
    values = np.frombuffer(array.data, dtype=dtype, offset=start).reshape(want.shape)
    # A byte of 2 counts as true in sums and masks, but `2 & 1` is false.
    if dtype == np.bool_ and (values.view(np.uint8) > 1).any():
        raise Refusal(
            "range", f"expected {name} of the bytes 0 and 1, got {values.view(np.uint8).max()}"
        )
    return values


def _start(name: str, array: Array, want: Expected) -> int:
    """Return where the values start, after a header that is not the usual one."""
    stream = io.BytesIO(array.data[: _MAX_HEADER + 16])
    dtype, shape, fortran = _header(name, stream)
    if dtype != np.dtype(want.dtype):
        raise Refusal("dtype", f"expected {name} of {want.dtype}, its data is {dtype}")
    if shape != want.shape or (fortran and len(shape) > 1):
        raise Refusal("shape", f"expected {name} of shape {want.shape}, its data is {_dims(shape)}")
    return stream.tell()


def _header(name: str, stream: io.BytesIO) -> tuple[np.dtype[np.generic], tuple[int, ...], bool]:
    try:
        version = np.lib.format.read_magic(stream)
        if version != (1, 0):
            raise ValueError(f"npy version {version}")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(
            stream, max_header_size=_MAX_HEADER
        )
    except Exception as error:  # numpy parses headers as Python; hostile ones fail in many ways
        raise Refusal("header", f"expected {name} as npy data, got {str(error)[:80]!r}") from error
    return dtype, shape, fortran


def _names(mapping: Mapping[str, object]) -> str:
    names = sorted(str(name)[:40] for name in list(mapping)[:6])
    return f"{names!r}" + (f" and {len(mapping) - 6} more" if len(mapping) > 6 else "")


def _dims(shape: tuple[int, ...]) -> str:
    return str(tuple(shape)[:8])

"""Hostile messages are refused with a reason before anything is allocated (T12 to T16)."""

import struct
import tracemalloc

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st

from learning.wire import RECORD, Expected, Refusal, _usual_header, pack, unpack

WANT = {"x": Expected("float32", (3, 2)), "y": Expected("int64", (3,))}
GOOD = {"x": np.arange(6, dtype=np.float32).reshape(3, 2), "y": np.arange(3, dtype=np.int64)}


def refused(content: RecordDict, want=WANT) -> str:
    with pytest.raises(Refusal) as caught:
        unpack(content, want)
    assert "\n" not in caught.value.message
    return caught.value.code


def message(**arrays) -> RecordDict:
    return RecordDict({RECORD: ArrayRecord(arrays)})


def npy(header: str) -> bytes:
    text = header.encode() + b" " * 20 + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def test_round_trip_is_exact():
    got = unpack(pack(GOOD), WANT)
    for name, array in GOOD.items():
        assert got[name].dtype == array.dtype
        np.testing.assert_array_equal(got[name], array)


def test_a_single_number_keeps_its_shape():
    got = unpack(pack({"n": np.array(3, np.int64)}), {"n": Expected("int64", ())})
    assert got["n"].shape == ()


@pytest.mark.parametrize(
    "x",
    [
        np.zeros((1,), np.float32),
        np.zeros((1, 1), np.float32),
        np.zeros((2, 3), np.float32),
        np.zeros((), np.float32),
        np.zeros((0, 2), np.float32),
        np.zeros((3, 2, 1), np.float32),
    ],
)
def test_wrong_shapes_even_those_that_broadcast(x):
    assert refused(pack({**GOOD, "x": x})) == "shape"


@pytest.mark.parametrize(
    "dtype", ["float64", "float16", "int32", "complex64", "<U9", ">f4", "S4", "bool"]
)
def test_wrong_dtypes(dtype):
    assert refused(pack({**GOOD, "x": np.zeros((3, 2)).astype(dtype)})) == "dtype"


def test_object_arrays_never_reach_a_loader():
    array = Array(
        "float32",
        (3, 2),
        "numpy.ndarray",
        npy("{'descr': '|O', 'fortran_order': False, 'shape': (3, 2), }"),
    )
    assert refused(message(x=array, y=Array(GOOD["y"]))) == "dtype"


@pytest.mark.parametrize("power", [20, 30, 36, 60])
def test_t16_header_bombs_allocate_nothing(power):
    bomb = Array(
        "float32",
        (3, 2),
        "numpy.ndarray",
        npy(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({2**power},), }}"),
    )
    honest_shape = Array("float32", (2**power,), "numpy.ndarray", bomb.data)
    tracemalloc.start()
    assert refused(message(x=bomb, y=Array(GOOD["y"]))) == "shape"
    want = {"x": Expected("float32", (2**power,))}
    assert refused(message(x=honest_shape), want) == "size"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


@pytest.mark.parametrize("cut", [0, 1, 5, 9, 40, -1])
def test_truncated_data(cut):
    whole = Array(GOOD["x"])
    part = Array("float32", (3, 2), "numpy.ndarray", whole.data[:cut])
    assert refused(message(x=part, y=Array(GOOD["y"]))) in {"header", "size"}


def test_trailing_bytes_and_other_serialisations():
    whole = Array(GOOD["x"])
    longer = Array("float32", (3, 2), "numpy.ndarray", whole.data + b"0")
    pickled = Array("float32", (3, 2), "pickle", whole.data)
    assert refused(message(x=longer, y=Array(GOOD["y"]))) == "size"
    assert refused(message(x=pickled, y=Array(GOOD["y"]))) == "dtype"


def test_truth_values_are_zero_and_one():
    data = Array(np.zeros(3, np.bool_)).data
    want = {"poisoned": Expected("bool", (3,))}
    for byte in (b"\x02", b"\xff"):
        odd = Array("bool", (3,), "numpy.ndarray", data[:-1] + byte)
        assert refused(message(poisoned=odd), want) == "range"
    assert unpack(pack({"poisoned": np.array([True, False, True])}), want)["poisoned"].sum() == 2


def test_missing_extra_and_renamed_arrays_and_records():
    assert refused(pack({"x": GOOD["x"]})) == "keys"
    assert refused(pack({**GOOD, "z": GOOD["y"]})) == "keys"
    assert refused(pack({"X": GOOD["x"], "y": GOOD["y"]})) == "keys"
    extra = pack(GOOD)
    extra["metrics"] = MetricRecord({"num-examples": 10**12})
    assert refused(extra) == "keys"
    assert refused(RecordDict({RECORD: ConfigRecord({"x": 1})})) == "keys"
    assert refused(RecordDict()) == "keys"


def test_many_tiny_arrays_are_refused_by_their_names():
    tiny = Array(np.zeros(1, np.float32))
    assert refused(message(**{f"a{i}": tiny for i in range(20_000)})) == "keys"


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 199))
def test_any_bytes_are_refused_or_read_exactly(noise, at):
    data = bytearray(Array(GOOD["x"]).data)
    data[at % len(data) : at % len(data) + len(noise)] = noise
    array = Array("float32", (3, 2), "numpy.ndarray", bytes(data))
    try:
        got = unpack(message(x=array, y=Array(GOOD["y"])), WANT)
    except Refusal:
        return
    assert got["x"].shape == (3, 2)
    assert got["x"].dtype == np.float32


def test_an_unusual_header_that_means_the_same_is_read():
    # More padding and another order of the keys than NumPy writes.
    header = "{'shape': (3, 2), 'fortran_order': False, 'descr': '<f4'}"
    odd = Array("float32", (3, 2), "numpy.ndarray", npy(header) + GOOD["x"].tobytes())
    assert odd.data != Array(GOOD["x"]).data
    got = unpack(RecordDict({RECORD: ArrayRecord({"x": odd})}), {"x": WANT["x"]})
    np.testing.assert_array_equal(got["x"], GOOD["x"])


def test_the_usual_header_is_numpys():
    for array in (*GOOD.values(), np.array(3, np.int64), np.zeros((0, 2), np.float32)):
        want = Expected(str(array.dtype), array.shape)
        assert Array(array).data.startswith(_usual_header(want.dtype, want.shape))

"""Small arrays travel as one: T27, T35. What is handed over is what was sent, or a refusal."""

import json
import tracemalloc

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from hypothesis import given, settings
from hypothesis import strategies as st

from backfire.runtimes.flower.chunked_messages import Limits, Malformed, Parcel, TooLarge, as_sent
from backfire.runtimes.flower.client_api import Fleet, Session
from backfire.runtimes.flower.private import identity, stamp_message_id
from backfire.runtimes.packed_arrays import HEADER, KIND, NAME, SMALL, bundled, unbundle
from learning.wire import RECORD, Expected, Refusal, pack, unpack

MIB = 2**20
MANY = {f"layer.{n}": np.full((2, n % 3), n, np.float32) for n in range(120)}


def told(record):
    """Return all that a record says, in its order."""
    return [(name, a.dtype, tuple(a.shape), a.stype, a.data) for name, a in record.items()]


def arrived(record, arrays=1000, size=64 * MIB):
    """Return a record as its receiver has it, whatever it is."""
    content = RecordDict({RECORD: record})
    unbundle(content, arrays, size)
    return content[RECORD]


def bundle(data, **more):
    """Return a record that holds these bytes as its bundle."""
    return ArrayRecord({NAME: Array("uint8", (len(data),), KIND, data), **more})


def compact(header):
    return json.dumps(header, separators=(",", ":")).encode()


def filed(header, data=b"", length=None):
    """Return bytes in the format of safetensors, written down without its own writer."""
    text = header if isinstance(header, bytes) else compact(header)
    text += b" " * (-len(text) % 8)
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def written(entries):
    """Return the bytes of a bundle by its format; entries of place, name, dtype, shape, data."""
    header, at = {}, 0
    for place, name, dtype, shape, data in sorted(entries, key=lambda entry: str(entry[0])):
        label = f"{place} {dtype} {','.join(map(str, shape))} {name}"
        header[label] = {"dtype": "U8", "shape": [len(data)], "data_offsets": [at, at + len(data)]}
        at += len(data)
    return filed(header, b"".join(data for *_, data in entries))


GOOD = [(0, "a", "float32", (2, 1), b"12345678"), (2, "b", "int64", (), b"")]
LARGE = {"large": Array("float32", (1,), "numpy.ndarray", b"large")}

names = st.text(max_size=12)
small = st.builds(
    lambda dtype, shape, data: Array(dtype, tuple(shape), "numpy.ndarray", data),
    st.sampled_from(["float32", "int64", "bool", "é" * 90]),
    st.lists(st.integers(0, 2**63 - 1), max_size=4),
    st.binary(max_size=40),
)
unusual = st.sampled_from(
    [
        Array("float32", (1,), "other.kind", b"1234"),
        Array("float32", (-1,), "numpy.ndarray", b""),
        Array("float32", (2**63,), "numpy.ndarray", b""),
        Array("d" * 600, (), "numpy.ndarray", b""),
        Array("two words", (), "numpy.ndarray", b""),
        Array("", (), "numpy.ndarray", b""),
        Array("uint8", (SMALL + 1,), "numpy.ndarray", bytes(SMALL + 1)),
    ]
)


@given(st.dictionaries(names | st.just("\ud800"), small | unusual, max_size=12))
@settings(max_examples=200, deadline=None)
def test_a_record_arrives_as_it_was_sent_in_its_order(arrays):
    record = ArrayRecord(arrays)
    before = told(record)
    sent = bundled(record)
    assert told(arrived(sent)) == before == told(record)
    fit = sum(
        a.stype == "numpy.ndarray"
        and len(a.data) <= SMALL
        and a.dtype.isalnum()
        and len(a.dtype) < 256
        and all(0 <= n < 2**63 for n in a.shape)
        and name != "\ud800"
        for name, a in record.items()
    )
    left = fit < 2 or NAME in record
    assert len(sent) == (len(record) if left else len(record) - fit + 1)


def test_t35_a_model_of_120_arrays_travels_as_one_and_the_values_are_the_bytes_of_before():
    record = pack(MANY)[RECORD]
    sent = bundled(record)
    assert list(sent) == [NAME]
    assert len(get_all_nested_objects(sent)) == 3  # the record, the array, its bytes
    wanted = {name: Expected("float32", array.shape) for name, array in MANY.items()}
    back = unpack(RecordDict({RECORD: arrived(sent)}), wanted)
    assert {name: array.tobytes() for name, array in back.items()} == {
        name: array.tobytes() for name, array in MANY.items()
    }


def test_large_arrays_stay_what_they_are_between_the_small_ones():
    arrays = {
        "a": np.zeros(3),
        "x": np.zeros(SMALL, np.uint8),
        "b": np.ones(3),
        "y": np.ones(SMALL),
    }
    record = pack(arrays)[RECORD]
    sent = bundled(record)
    assert list(sent) == [NAME, "x", "y"]
    assert sent["x"] is record["x"]  # not a copy of it
    assert list(arrived(sent)) == ["a", "x", "b", "y"]


@pytest.mark.parametrize("names", [["a"], [NAME, "a", "b"], [], ["\ud800", "a"]])
def test_what_cannot_be_bundled_travels_as_it_is(names):
    record = ArrayRecord({name: Array(np.zeros(2)) for name in names})
    assert bundled(record) is record
    assert told(arrived(record)) == told(record)


def test_the_format_is_the_one_that_is_documented():
    record = ArrayRecord(
        {
            "a": Array("float32", (2, 1), "numpy.ndarray", b"12345678"),
            "large": Array("uint8", (1,), "numpy.ndarray", bytes(SMALL + 1)),
            "b": Array("int64", (), "numpy.ndarray", b""),
        }
    )
    assert bundled(record)[NAME].data == written(GOOD)
    assert list(arrived(bundle(written(GOOD), **LARGE))) == ["a", "large", "b"]


def changed(at, **new):
    fields = ("place", "name", "dtype", "shape", "data")
    entries = [dict(zip(fields, entry, strict=True)) for entry in GOOD]
    entries[at] |= new
    return written([tuple(entry.values()) for entry in entries])


HEAD = json.loads(written(GOOD)[8:].split(b"}}")[0] + b"}}")
LABEL = "0 float32 2,1 a"


def told_otherwise(label=LABEL, **new):
    """Return a bundle whose first array is told of otherwise."""
    first, second = HEAD
    return filed({label: HEAD[first] | new, second: HEAD[second]}, b"12345678")


@pytest.mark.parametrize(
    ("data", "others"),
    [
        (b"", LARGE),
        (b"\x08\0\0", LARGE),
        (b"PK" + bytes(200), LARGE),
        (filed(b"[]"), LARGE),
        (filed(b"{" * 1000), LARGE),
        (filed(HEAD, b"12345678", length=HEADER), LARGE),
        (written(GOOD) + b"\0", LARGE),
        (written(GOOD)[:-1], LARGE),
        (changed(1, name="a"), LARGE),  # twice in the bundle
        (changed(1, name="large"), LARGE),  # in it and beside it
        (filed(compact(HEAD).replace(b" a", b" \xff"), b"12345678"), LARGE),
        (told_otherwise("0 float32 2,1"), LARGE),
        (told_otherwise("float32 2,1 a"), LARGE),
        (told_otherwise("-1 float32 2,1 a"), LARGE),
        (told_otherwise("0 float32 -1 a"), LARGE),
        (told_otherwise("0 float32 2,,1 a"), LARGE),
        (told_otherwise(f"0 float32 {2**63} a"), LARGE),
        (told_otherwise(dtype="F32", shape=[2]), LARGE),
        (told_otherwise(dtype="I8"), LARGE),
        (told_otherwise(shape=[2, 4]), LARGE),
        (told_otherwise(shape=[9]), LARGE),
        (told_otherwise(data_offsets=[0, 9]), LARGE),
        (told_otherwise(data_offsets=[4, 12]), LARGE),
        (told_otherwise(data_offsets=[0, 2**64]), LARGE),
        (changed(1, place=0), LARGE),
        (changed(1, place=3), LARGE),
        (changed(0, place=2), LARGE),
        (changed(1, place=999_999_999), LARGE),
        (written(GOOD), {}),  # a place for an array that is not there
        (changed(0, data=bytes(SMALL + 1)), LARGE),
        (changed(1, name=NAME), {"large": LARGE["large"], "x": bundle(b"")[NAME]}),
    ],
)
def test_t27_a_bundle_that_is_none_is_malformed(data, others):
    with pytest.raises(Malformed) as refusal:
        arrived(bundle(data, **others))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "record",
    [
        {"x": Array("uint8", (3,), KIND, b"123")},
        {NAME: Array("uint8", (4,), KIND, b"123")},
        {NAME: Array("int8", (3,), KIND, b"123")},
        {
            NAME: Array("uint8", (len(written(GOOD)),), KIND, written(GOOD)),
            "b": Array("", (), KIND, b""),
        },
    ],
)
def test_t27_a_bundle_under_another_name_or_of_another_shape_is_malformed(record):
    with pytest.raises(Malformed):
        arrived(ArrayRecord(record))


def test_t27_a_bundle_in_a_bundle_is_an_array_that_cannot_be_read():
    inner = written([(0, "x", "float32", (1,), b"1234")])
    nested = arrived(bundle(written([(0, "x", "float32", (1,), inner)])))
    assert list(nested) == ["x"]
    assert nested["x"].data == inner
    with pytest.raises(Refusal) as refusal:
        unpack(RecordDict({RECORD: nested}), {"x": Expected("float32", (1,))})
    assert refusal.value.code == "header"


def peak_of(call):
    tracemalloc.start()
    try:
        with pytest.raises((Malformed, TooLarge)) as refusal:
            call()
        return refusal.value, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def tiny(count):
    """Return a bundle of many empty arrays, with as short a header as there is."""
    entry = b'"%d a  %d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
    return filed(b"{" + b",".join(entry % (n, n) for n in range(count)) + b"}")


def test_t27_a_million_tiny_arrays_cost_nothing():
    record = bundle(tiny(10**6))
    refusal, peak = peak_of(lambda: arrived(record))
    assert isinstance(refusal, TooLarge)
    assert peak < MIB


def test_t27_as_many_tiny_arrays_as_a_header_can_tell_of_are_counted():
    data = tiny(14_000)
    assert HEADER * 0.8 < len(data) < HEADER
    refusal, peak = peak_of(lambda: arrived(bundle(data), arrays=13_999))
    assert isinstance(refusal, TooLarge)
    assert peak < 16 * MIB
    assert len(arrived(bundle(data), arrays=14_000)) == 14_000


def test_what_no_header_can_tell_of_travels_by_itself():
    """What is sent is never refused for the length of its header."""
    record = ArrayRecord(
        {f"{n:03}{chr(1) * 450}": Array("int8", (), "numpy.ndarray", b"") for n in range(500)}
    )
    before = told(record)
    sent = bundled(record)
    assert 100 < len(sent) < 500
    assert int.from_bytes(sent[NAME].data[:8], "little") <= HEADER
    assert told(arrived(sent)) == before


@pytest.mark.parametrize("length", [2**64 - 1, 2**32, HEADER + 1])
def test_t27_a_claimed_length_allocates_nothing(length):
    claimed = bundle(filed(b" " * 100, length=length))
    refusal, peak = peak_of(lambda: arrived(claimed, arrays=2**33))
    assert isinstance(refusal, TooLarge)
    assert peak < MIB
    axes = ",".join([str(2**63 - 1)] * 20)
    big = {f"0 a {axes} x": {"dtype": "U8", "shape": [2**40], "data_offsets": [0, 2**40]}}
    refusal, peak = peak_of(lambda: arrived(bundle(filed(big))))
    assert isinstance(refusal, Malformed)
    assert peak < MIB


def test_t27_bundles_of_many_records_count_together_but_one_under_many_names_once():
    data = written([(0, "x", "float32", (1,), bytes(1000))])
    shared = bundle(data)
    content = RecordDict({str(n): shared for n in range(100)})
    unbundle(content, 1, len(data))
    assert all(list(record) == ["x"] for record in content.values())
    for arrays, size in ((9, MIB), (100, 9 * len(data))):
        content = RecordDict({str(n): bundle(data) for n in range(10)})
        with pytest.raises(TooLarge):
            unbundle(content, arrays, size)


def read_or_refused(record):
    """Return a record as it arrives, and the line of its refusal; any other error passes."""
    try:
        return arrived(record), ""
    except (Malformed, TooLarge) as refusal:
        return None, str(refusal)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_t27_whatever_is_changed_in_a_bundle_it_is_read_or_refused(data):
    good = bytearray(written(GOOD))
    at = data.draw(st.integers(0, len(good) - 1))
    kind = data.draw(st.sampled_from(["flip", "cut", "put"]))
    if kind == "flip":
        good[at] ^= 1 << data.draw(st.integers(0, 7))
    elif kind == "cut":
        del good[at : at + data.draw(st.integers(1, 40))]
    else:
        good[at:at] = data.draw(st.binary(min_size=1, max_size=20))
    back, line = read_or_refused(bundle(bytes(good), **LARGE))
    assert "\n" not in line
    if back is not None:
        assert kind == "flip" or at < 8 + len(compact(HEAD))  # a letter, a value, a space
        assert len(back) == 3
        assert back["large"].data == b"large"
        assert sum(len(array.data) for array in back.values()) == 13


@given(st.binary(max_size=200), st.booleans())
@settings(max_examples=200, deadline=None)
def test_t27_whatever_the_header_is_it_is_read_or_refused(body, whole):
    back, line = read_or_refused(bundle(filed(body) if whole else body))
    assert back is not None or (line and "\n" not in line)


def message(content, run_id=1):
    with identity(run_id):
        made = Message(content, 7, "train.update", ttl=60.0)
    stamp_message_id(made, made.object_id)
    return made


def parcel(sent, limits):
    parts = {name: part.deflate() for name, part in get_all_nested_objects(sent).items()}
    opened = Parcel(sent.object_id, get_object_tree(sent), limits)
    while not opened.fetch(parts.__getitem__):
        pass
    return opened


def test_messages_share_a_bundled_model_and_their_headers():
    model = pack(MANY)[RECORD]
    asks = [ConfigRecord({"round": n}) for n in range(3)]
    messages = [message(RecordDict({"ask": ask, RECORD: model})) for ask in asks]
    sent = as_sent(messages)
    assert len({id(each.content[RECORD]) for each in sent}) == 1
    assert all(one.metadata is other.metadata for one, other in zip(messages, sent, strict=True))
    assert all(each.content[RECORD] is model for each in messages)  # theirs are as they were
    assert [each.content["ask"] for each in sent] == asks


def test_t27_arrays_in_bundles_count_as_pieces():
    """What may come in bundles is what may come without them."""
    request = message(pack(MANY))
    (sent,) = as_sent([request])
    assert len(get_all_nested_objects(sent)) == 5
    whole = parcel(sent, Limits(MIB, 5 + 2 * len(MANY))).open()
    assert told(whole.content[RECORD]) == told(request.content[RECORD])
    with pytest.raises(TooLarge):
        parcel(sent, Limits(MIB, 5 + 2 * len(MANY) - 1)).open()


class Wire:
    """The SuperLink's end of an agent's connection: the last reply, and its pieces."""

    def __init__(self):
        self.sent, self.tree, self.pieces, self.breaks = [], None, {}, True

    def fleet(self):
        return Fleet((7, None, self.send, None, None, None, self.push, None), Session())

    def send(self, reply, tree, seconds):
        self.sent.append(reply)
        self.tree = tree
        if self.breaks:
            self.breaks = False
            raise ConnectionError
        return [part.object_id for part in get_objects(tree)], "session"

    def push(self, run_id, session, name, content):
        self.pieces[name] = content


def get_objects(tree):
    for child in tree.children:
        yield from get_objects(child)
    yield tree


def test_an_agents_reply_is_bundled_and_can_be_sent_again_under_the_same_id():
    wire = Wire()
    fleet = wire.fleet()
    with identity(1):
        reply = Message(pack(MANY), reply_to=message(RecordDict()))
    with pytest.raises(ConnectionError):
        fleet.push(reply, 0.0)
    fleet.push(reply, 0.0)
    assert len(wire.pieces) == 5
    first, second = (each.metadata.message_id for each in wire.sent)
    assert first == second == wire.tree.object_id == reply.metadata.message_id
    opened = Parcel(first, wire.tree, Limits(MIB, 300))
    while not opened.fetch(wire.pieces.__getitem__):
        pass
    assert told(opened.open().content[RECORD]) == told(reply.content[RECORD])

"""Hostile replies on their way to the table: T16, T19, T20, T22, T27, T28, without a process.

The SuperLink is a dictionary here, so that a reply can be anything that its database would keep.
"""

import json
import threading
import tracemalloc

import httpx
import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_to_proto
from flwr.proto.message_pb2 import ObjectTree, PullObjectResponse
from flwr.proto.runtime_pb2 import PullAppMessagesResponse, PushAppMessagesResponse
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_id,
    get_object_tree,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from backfire.deployment import pki
from backfire.runtimes.flower import server_api as flower_link
from backfire.runtimes.flower.chunked_messages import (
    PIECE_BYTES,
    Limits,
    Malformed,
    Parcel,
    TooLarge,
)
from backfire.runtimes.flower.private import Run, identity, stamp_message_id
from backfire.runtimes.flower.server_api import LinkGrid, NotTaken
from backfire.runtimes.grpc import agent as grpc_agent
from backfire.runtimes.grpc.server import ECHO, GuardedGrid
from backfire.runtimes.packed_arrays import HEADER, KIND, NAME, bundled
from learning.wire import DECLINED, RECORD, REFUSED, Expected, pack, unpack
from server.wire.exchange import Ask, Exchange

NODES = {"anna": 11, "ben": 12}
WANTED = {"x": Expected("float32", (4,))}
GOOD = np.arange(4, dtype=np.float32)
MIB = 2**20


class Link:
    """What the SuperLink keeps: requests that came, replies to hand out, and their pieces."""

    def __init__(self):
        self.requests, self.replies, self.pieces = {}, [], {}
        self.held_back, self.pulled, self.confirmed = set(), [], []

    def PushMessages(self, request):  # noqa: N802 - Flower's name
        for proto in request.messages_list:
            self.requests[proto.metadata.message_id] = proto
        ids = [proto.metadata.message_id for proto in request.messages_list]
        return PushAppMessagesResponse(message_ids=ids, objects_to_push=[], session_id="s")

    def PushObject(self, request):  # noqa: N802
        raise AssertionError("no piece of a request is asked for")

    def PullMessages(self, request):  # noqa: N802
        there, self.replies = self.replies, []
        return PullAppMessagesResponse(
            messages_list=[proto for proto, _ in there],
            message_object_trees=[tree for _, tree in there],
        )

    def PullObject(self, request):  # noqa: N802
        self.pulled.append(request.object_id)
        if request.object_id in self.held_back:
            return PullObjectResponse(object_found=True, object_available=False)
        part = self.pieces.get(request.object_id)
        return PullObjectResponse(
            object_found=part is not None, object_available=True, object_content=part or b""
        )

    def ConfirmMessageReceived(self, request):  # noqa: N802
        self.confirmed.append(request.message_object_id)


class OnALink(LinkGrid):
    """Flower's grid on such a link."""

    def __init__(self, link):
        super().__init__("127.0.0.1:1", b"", "token")
        self.link = link
        self._run = Run.create_empty(1)

    @property
    def _runtime_client(self):
        return self.link


@pytest.fixture(autouse=True)
def _server():
    with identity(1):
        yield


@pytest.fixture
def link():
    return Link()


class Table:
    """A table with two agents whose replies are made by functions of their request."""

    def __init__(self, link, deadline=2.0, most=2**30):
        self.link, self.grid = link, OnALink(link)
        self.grid.most = most
        self.guarded = GuardedGrid(self.grid)
        self.exchange = Exchange(self.guarded, NODES, deadline)
        self.read, self.refused, self.behaviours = {}, [], {}

    def play(self, **behaviours):
        """Ask both agents once; each behaviour is given the link, the request and its nonce."""
        push = self.grid.push_messages

        def pushed(messages):
            messages = list(messages)
            nonces = [dict(m.content.config_records[ECHO])["nonce"] for m in messages]
            ids = push(messages)
            for message, nonce in zip(messages, nonces, strict=True):
                name = next(n for n, node in NODES.items() if node == message.metadata.dst_node_id)
                behaviours.get(name, honest)(self.link, message, nonce)
            return ids

        self.grid.push_messages = pushed
        asks = [Ask(name, "contribute", {"round": 1}) for name in NODES]
        self.exchange.ask(
            asks,
            lambda ask, content: self.read.update({ask.agent: unpack(content, WANTED)["x"]}),
            lambda ask, refusal: self.refused.append((ask.agent, refusal.code, refusal.message)),
        )
        self.grid.push_messages = push
        return self

    @property
    def codes(self):
        return [(agent, code) for agent, code, _ in self.refused]


def reply(request, nonce, content=None):
    """Return an honest reply, or one with another content, as an agent would make it."""
    content = pack({"x": GOOD}) if content is None else content
    if nonce is not None:
        content[ECHO] = ConfigRecord({"nonce": nonce})
    answer = Message(content, reply_to=request)
    stamp_message_id(answer, answer.object_id)
    return answer


def header(answer):
    """Return what the SuperLink is told of a reply before its pieces come."""
    return message_to_proto(remove_content_from_message(answer))


def send(link, answer, proto=None, tree=None):
    """Put a reply with all its pieces where the table will find it."""
    link.pieces |= {name: part.deflate() for name, part in get_all_nested_objects(answer).items()}
    tree = get_object_tree(answer) if tree is None else tree
    link.replies.append((header(answer) if proto is None else proto, tree))


def honest(link, request, nonce):
    send(link, reply(request, nonce))


def assert_only_ben_is_out(table, code):
    assert table.codes == [("ben", code)]
    np.testing.assert_array_equal(table.read["anna"], GOOD)


def test_honest_agents_are_read(link):
    table = Table(link).play()
    assert table.refused == []
    assert set(table.read) == set(NODES)
    table.grid._sweeper.shutdown()
    assert len(link.confirmed) == 2


@pytest.mark.parametrize("nonce", [None, "0" * 32, "", 7, b"\0" * 16, [1]])
def test_t22_a_reply_without_the_nonce_of_its_request_is_stale(link, nonce):
    def replayed(link, request, _):
        send(link, reply(request, nonce))

    assert_only_ben_is_out(Table(link).play(ben=replayed), "stale")


def test_t22_a_reply_of_the_round_before_is_stale(link):
    """What ben said in the first round, sent again in the second."""
    said = []

    def first(link, request, nonce):
        said.append(nonce)
        honest(link, request, nonce)

    table = Table(link).play(ben=first)
    assert table.codes == []
    table.play(ben=lambda link, request, _: send(link, reply(request, said[0])))
    assert_only_ben_is_out(table, "stale")


def test_t22_an_echo_that_is_no_record_is_stale(link):
    def replayed(link, request, _):
        content = pack({"x": GOOD})
        content[ECHO] = ArrayRecord({"nonce": Array(GOOD)})
        send(link, reply(request, None, content))

    assert_only_ben_is_out(Table(link).play(ben=replayed), "stale")


def test_t19_a_reply_sent_twice_counts_once(link):
    def twice(link, request, nonce):
        send(link, reply(request, nonce))
        send(link, reply(request, nonce, pack({"x": -GOOD})))

    table = Table(link, deadline=0.5).play(anna=lambda *_: None, ben=twice)
    assert ("ben", "duplicate") in table.codes
    np.testing.assert_array_equal(table.read["ben"], GOOD)


def test_t20_the_header_inside_a_reply_is_not_believed(link):
    """Ben answers his own request with a message that says it answers Anna's."""
    kept = {}

    def late(link, request, nonce):
        kept["anna"] = (request, nonce)

    def liar(link, request, nonce):
        other, others_nonce = kept["anna"]
        answer = reply(other, others_nonce, pack({"x": -GOOD}))
        proto = header(answer)
        proto.metadata.reply_to_message_id = request.metadata.message_id
        proto.metadata.src_node_id = NODES["ben"]
        send(link, answer, proto)

    table = Table(link, deadline=0.3).play(anna=late, ben=liar)
    assert sorted(table.codes) == [("anna", "missing"), ("ben", "stale")]
    assert table.read == {}


def test_t20_messages_that_nobody_asked_for_are_neither_read_nor_all_told(link):
    def flooding(link, request, nonce):
        for number in range(1000):
            answer = reply(request, nonce, pack({"x": np.full(4, number, np.float32)}))
            proto = header(answer)
            proto.metadata.reply_to_message_id = "" if number % 2 else f"{number:064x}"
            send(link, answer, proto)
        honest(link, request, nonce)

    table = Table(link).play(ben=flooding)
    assert set(table.read) == set(NODES)
    assert set(table.codes) == {("(unknown)", "unknown_agent")}
    assert len(table.codes) == 100
    table.grid._sweeper.shutdown()
    assert len(link.confirmed) == 1002
    assert len(link.pulled) < 50


def forged(link, request, name, tree):
    """Answer with a root piece of this name and this tree, whatever its pieces are."""
    answer = reply(request, None)
    proto = header(answer)
    proto.metadata.message_id = name
    link.replies.append((proto, tree))


@pytest.mark.parametrize("pieces", [1_000, 1_000_000])
def test_t27_a_million_tiny_arrays_are_refused_before_one_is_fetched(link, pieces):
    tree = ObjectTree(object_id="f" * 64)
    record = tree.children.add(object_id="e" * 64).children.add(object_id="d" * 64)
    record.children.extend([ObjectTree(object_id="c" * 64)] * pieces)
    table = Table(link).play(ben=lambda link, request, _: forged(link, request, "f" * 64, tree))
    assert_only_ben_is_out(table, "size")
    assert "pieces" in table.refused[0][2]
    assert not {"c" * 64, "d" * 64} & set(link.pulled)


def rewritten(link, answer, kind, change):
    """Send a reply of which the pieces of one kind say what `change` makes of their JSON."""
    objects = {name: part.deflate() for name, part in get_all_nested_objects(answer).items()}
    renamed = {}
    for name, content in objects.items():  # children come before their parents
        for old, new in renamed.items():
            content = content.replace(old.encode(), new.encode())
        if content.startswith(kind + b" "):
            head, _, body = content.partition(b"\0")
            body = json.dumps(change(json.loads(body))).encode()
            content = b" ".join([*head.split(b" ")[:2], str(len(body)).encode()]) + b"\0" + body
        renamed[name] = get_object_id(content)
        link.pieces[renamed[name]] = content

    def tree(node):
        return ObjectTree(
            object_id=renamed[node.object_id], children=[tree(child) for child in node.children]
        )

    root = tree(get_object_tree(answer))
    proto = header(answer)
    proto.metadata.message_id = root.object_id
    link.replies.append((proto, root))


@pytest.mark.parametrize(("names", "code"), [(1, "keys"), (40_000, "keys"), (100_000, "size")])
def test_t27_a_hundred_thousand_names_for_one_array(link, names, code):
    def many(link, request, nonce):
        answer = reply(request, nonce)
        rewritten(
            link,
            answer,
            b"ArrayRecord",
            lambda told: dict.fromkeys(map(str, range(names)), told["x"]),
        )

    table = Table(link)
    tracemalloc.start()
    try:
        table.play(ben=many)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert_only_ben_is_out(table, code)
    assert peak < 80 * MIB


def test_t27_bytes_beyond_the_limit_are_not_fetched(link):
    """A reply of 200 MiB to a small request, in pieces of 5 MiB."""
    chunk = 5 * MIB
    pieces = [number.to_bytes(4, "big") + bytes(chunk - 4) for number in range(3)]
    names = [get_object_id(piece) for piece in pieces]

    def large(link, request, nonce):
        link.pieces |= dict(zip(names, pieces, strict=True))
        tree = ObjectTree(object_id="f" * 64)
        array = tree.children.add(object_id="e" * 64).children.add(object_id="d" * 64)
        array.children.extend(ObjectTree(object_id=name) for name in names)
        for name in range(37):
            link.pieces[f"{name:064x}"] = pieces[0]
            array.children.append(ObjectTree(object_id=f"{name:064x}"))
        forged(link, request, "f" * 64, tree)

    table = Table(link).play(ben=large)
    assert_only_ben_is_out(table, "size")
    assert table.refused[0][2] == "expected a message of at most 64 MiB, got more"
    fetched = [name for name in link.pulled if len(link.pieces.get(name, b"")) == chunk]
    assert 64 * MIB < len(fetched) * chunk <= 64 * MIB + 4 * chunk


def test_t27_what_the_scenario_allows_is_less_than_what_a_request_allows(link):
    def large(link, request, nonce):
        send(link, reply(request, nonce, pack({"x": np.zeros(MIB, np.float32)})))

    table = Table(link, most=MIB).play(ben=large)
    assert_only_ben_is_out(table, "size")
    assert "at most 1 MiB" in table.refused[0][2]


def test_t27_a_reply_may_be_as_large_as_its_request_and_64_mib():
    model = pack({f"{n}": np.zeros(MIB, np.float32) for n in range(20)})
    limits = flower_link._limits(Message(model, 1, "train.update"), 2**30)
    assert 144 * MIB < limits.size < 145 * MIB
    assert limits.pieces == 64 + 40 + 144


def chunk_bomb(link, request, nonce, times):
    """An array of one chunk of 1 MiB that names it many times: three bytes for each MiB."""
    answer = reply(request, nonce, pack({"x": np.zeros(MIB, np.uint8)}))
    rewritten(link, answer, b"Array", lambda told: told | {"arraychunk_ids": [0] * times})


def test_t27_one_chunk_named_a_million_times_is_never_put_together(link):
    table = Table(link)
    tracemalloc.start()
    try:
        table.play(ben=lambda *told: chunk_bomb(*told, 10**6))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert_only_ben_is_out(table, "size")
    assert peak < 80 * MIB  # the list of names itself; put together it would be a terabyte


def test_t27_the_forged_array_is_one_that_would_have_been_read(link):
    """The bomb above with its chunk named once: what refuses it is its size and nothing else."""
    table = Table(link).play(ben=lambda *told: chunk_bomb(*told, 1))
    assert_only_ben_is_out(table, "dtype")


@pytest.mark.parametrize("path", ["pull-object", "pull-messages"])
def test_t27_a_piece_of_two_gib_is_refused_before_it_is_read(path):
    read = []

    class Body(httpx.SyncByteStream):
        def __iter__(self):
            read.append(path)
            yield b""

    def answer(request):
        return httpx.Response(200, headers={"content-length": str(2**31)}, stream=Body())

    grid = LinkGrid("127.0.0.1:1", pki.authority("test", 9).certificate_pem(), "token")
    grid._connect()
    grid._runtime_client._client._transport = httpx.MockTransport(answer)
    client = grid._runtime_client
    call = client.PullObject if path == "pull-object" else client.PullMessages
    if path == "pull-object":
        with pytest.raises(TooLarge, match="pieces of at most 16 MiB"):
            call(PullObjectResponse())
        assert read == []
    else:
        call(PullAppMessagesResponse())
        assert read == [path]
    grid.close()


def test_t28_a_piece_that_is_held_back_holds_nobody_back(link):
    """Ben's reply is announced, and a piece of it never comes."""
    order = []

    def slow(link, request, nonce):
        answer = reply(request, nonce)
        send(link, answer)
        link.held_back |= {answer.object_id}

    def later(link, request, nonce):
        order.append("asked")
        threading.Timer(0.2, lambda: send(link, reply(request, nonce))).start()

    table = Table(link, deadline=1.0).play(anna=later, ben=slow)
    assert_only_ben_is_out(table, "missing")
    assert order == ["asked"]
    assert set(link.pulled) & link.held_back
    assert table.grid._arriving  # forgotten when nobody asks for it any more
    table.grid.pull_messages([])
    assert table.grid._arriving == {}


def test_t28_pieces_may_come_in_any_order_and_late(link):
    def slow(link, request, nonce):
        answer = reply(request, nonce)
        send(link, answer)
        pieces = list(get_all_nested_objects(answer))
        link.held_back |= set(pieces)
        for number, piece in enumerate(reversed(pieces)):
            threading.Timer(0.05 * (number + 1), link.held_back.discard, [piece]).start()

    table = Table(link, deadline=30.0).play(ben=slow)
    assert table.refused == []
    np.testing.assert_array_equal(table.read["ben"], GOOD)


def test_a_piece_that_is_gone_is_a_refusal_in_one_line(link):
    def gone(link, request, nonce):
        answer = reply(request, nonce)
        send(link, answer)
        del link.pieces[answer.object_id]

    table = Table(link).play(ben=gone)
    assert_only_ben_is_out(table, "header")
    assert "\n" not in table.refused[0][2]


def test_t16_a_header_bomb_in_a_reply_is_refused(link):
    def bomb(link, request, nonce):
        stream = b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little")
        head = b"{'descr': '<f4', 'fortran_order': False, 'shape': (%d,), }" % 2**60
        array = Array("float32", (2**60,), "numpy.ndarray", stream + head.ljust(117) + b"\n")
        send(link, reply(request, nonce, RecordDict({RECORD: ArrayRecord({"x": array})})))

    assert_only_ben_is_out(Table(link).play(ben=bomb), "shape")


def filed(header, data=b"", length=None):
    """Return bytes in the format of safetensors; a header that is told of, or any."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def tensors(*labels, size=0):
    """Return a header of tensors of bytes, of which the first has some."""
    ends = [size] * len(labels)
    return {
        label: {"dtype": "U8", "shape": [end - start], "data_offsets": [start, end]}
        for label, start, end in zip(labels, [0, *ends], ends, strict=False)
    }


BODY = pack({"x": GOOD})[RECORD]["x"].data
ONE = tensors("0 float32 4 x", size=len(BODY))
TINY = b'{%s"x":0}' % (b'"":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},' * 200_000)
# A bundle in the place of the array, and what its sender is quarantined for.
BUNDLES = {
    "one": (filed(ONE, BODY), ""),
    "cut off": (filed(ONE, BODY)[:-1], "header"),
    "another": (b"\x80\x04" + bytes(200), "header"),
    "claims four thousand million": (filed(ONE, BODY, length=2**32 - 1), "size"),
    "200,000 tiny": (filed(TINY), "size"),
    "as many as a header can tell of": (
        filed(tensors(*(f"{n} a  {n}" for n in range(HEADER // 80)))), "size"
    ),
    "one name twice": (filed(tensors("0 a  x", "1 a  x")), "header"),
    "another name": (filed(tensors("0 a  y")), "keys"),
}  # fmt: skip


@pytest.mark.parametrize("what", BUNDLES)
def test_t27_a_hostile_bundle_costs_its_sender_only(link, what):
    data, code = BUNDLES[what]
    record = ArrayRecord({NAME: Array("uint8", (len(data),), KIND, data)})

    def hostile(link, request, nonce):
        send(link, reply(request, nonce, RecordDict({RECORD: record})))

    table = Table(link).play(ben=hostile)
    if code:
        assert_only_ben_is_out(table, code)
    else:
        assert table.refused == []
        np.testing.assert_array_equal(table.read["ben"], GOOD)


def test_t27_bundled_and_separate_arrays_are_read_alike(link):
    """What an agent bundles, one that does not may send; a bundle too many is counted."""
    arrays = {"x": GOOD} | {f"more {n}": np.full(2, n) for n in range(30)}

    def many(link, request, nonce):
        send(link, reply(request, nonce, RecordDict({RECORD: bundled(pack(arrays)[RECORD])})))

    table = Table(link).play(anna=many, ben=many)
    assert [code for _, code in table.codes] == ["keys", "keys"]
    arrays |= {f"yet more {n}": np.full(2, n) for n in range(60)}
    table = Table(link).play(ben=many)
    assert_only_ben_is_out(table, "size")


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_whatever_the_pieces_are_a_parcel_is_read_or_refused(data):
    """One piece of an honest reply is changed, and nothing but the two refusals comes out."""
    with identity(1):
        request = Message(RecordDict(), 11, "query.contribute")
        stamp_message_id(request, request.object_id)
        answer = reply(request, "0" * 32)
    pieces = {name: part.deflate() for name, part in get_all_nested_objects(answer).items()}
    name = list(pieces)[data.draw(st.integers(0, len(pieces) - 1))]
    piece = bytearray(pieces[name])
    at = data.draw(st.integers(0, 999)) * len(piece) // 1000
    piece[at : at + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=16))
    pieces[name] = bytes(piece)
    parcel = Parcel(answer.object_id, get_object_tree(answer), Limits(MIB, 100))
    try:
        assert parcel.fetch(pieces.__getitem__)
        told = parcel.open(request.metadata)
    except (Malformed, TooLarge) as refused:
        told = refused
    assert isinstance(told, Message) or "\n" not in str(told)


def test_a_parcel_asks_for_each_piece_once_and_opens_to_the_same_message(link):
    """Many pieces, of which some are the same: fetched once each."""
    with identity(1):
        request = Message(RecordDict(), 11, "query.contribute")
        arrays = {f"{n}": np.full(3, n % 7, np.float32) for n in range(300)}
        answer = reply(request, None, pack(arrays))
    pieces = {name: part.deflate() for name, part in get_all_nested_objects(answer).items()}
    asked = []

    def pull(name):
        asked.append(name)
        return pieces[name]

    parcel = Parcel(answer.object_id, get_object_tree(answer), Limits(MIB, 1000))
    while not parcel.fetch(pull):
        pass
    assert sorted(asked) == sorted(pieces)
    back = parcel.open().content.array_records[RECORD]
    assert {name: array.numpy().tolist() for name, array in back.items()} == {
        name: array.tolist() for name, array in arrays.items()
    }


def test_a_piece_larger_than_flower_makes_is_refused(link):
    parcel = Parcel("f" * 64, ObjectTree(object_id="f" * 64), Limits(2**30, 10))
    with pytest.raises(TooLarge):
        parcel.fetch(lambda name: bytes(PIECE_BYTES + 1))


class Refusing:
    """An agent's link on which one message is too large."""

    node_id = 11

    def __init__(self, request):
        self.request, self.pushed = request, []

    def pull(self, most):
        raise NotTaken(TooLarge(f"expected at most {most} bytes, got more"), self.request)

    def push(self, reply, seconds):
        self.pushed.append(reply)


def test_t27_an_agent_answers_what_it_does_not_take(tmp_path):
    """Its line is the server's quarantine: the limit is the owner's."""
    request = Message(RecordDict(), 11, "train.update")
    link, told = Refusing(request), []
    seat = grpc_agent.ConnectionSettings("anna", "x:1", tmp_path, tmp_path, 5 * MIB)
    assert grpc_agent._Agent(seat, lambda *_: None, told.append).answer(link)
    (reply,) = link.pushed
    assert reply.error.code == REFUSED
    assert "5242880" in reply.error.reason
    assert "accept.max_message_mib" in reply.error.reason
    assert told == [f"took no message: {reply.error.reason}"]


def test_an_agent_that_refuses_a_game_is_declined_in_its_own_words(link):
    def declined(link, request, nonce):
        answer = Message(Error(DECLINED, "anna does not\nplay"), reply_to=request)
        stamp_message_id(answer, answer.object_id)
        send(link, answer)

    table = Table(link).play(ben=declined)
    assert_only_ben_is_out(table, "declined")
    assert table.refused[0][2] == "anna does not play"

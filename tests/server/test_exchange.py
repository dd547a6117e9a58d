"""The server's conversation: faulty agents cost nobody else anything (T11, T14, T19, T20)."""

import copy
import tracemalloc

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp

from backfire.runtimes.flower.private import NodeInfo, identity
from backfire.runtimes.local import LocalGrid
from learning.wire import RECORD, Refusal, pack
from server.store.contributions import Disk
from server.wire.admission import Wanted, check_rows, collect
from server.wire.exchange import Exchange, seat_agents

NAMES = ("anna", "ben", "cleo")
COLUMNS = (("x", "float32", (1, 2, 2)), ("y", "int64", ()))


def good_reply(message: Message, partition: int) -> Message:
    ask = message.content.config_records["ask"]
    rows = np.arange(ask["start"], ask["stop"])
    x = np.full((len(rows), 1, 2, 2), partition / 10, np.float32)
    return Message(pack({"x": x, "y": rows.astype(np.int64) % 10}), reply_to=message)


def client(faults=None) -> ClientApp:
    app = ClientApp()

    @app.query("contribute")
    def contribute(message, context):
        partition = context.node_config["partition-id"]
        fault = (faults or {}).get(NAMES[partition])
        return good_reply(message, partition) if fault is None else fault(message, partition)

    return app


@pytest.fixture(autouse=True)
def _server_identity():
    with identity(1):
        yield


def gather(grid, rows=5, columns=COLUMNS):
    exchange = Exchange(grid, seat_agents(grid, NAMES, 1.0), deadline=1.0)
    wanted = [Wanted(name, "contribute", rows, columns) for name in NAMES]
    return collect(
        exchange, wanted, lambda want: lambda r: check_rows(r["x"], r["y"], 10), lambda *a: None
    )


def nan_reply(message, partition):
    reply = good_reply(message, partition)
    x = reply.content.array_records[RECORD]["x"].numpy().copy()
    x[0, 0, 0, 0] = np.nan
    return Message(pack({"x": x, "y": np.zeros(len(x), np.int64)}), reply_to=message)


def raising(message, partition):
    raise RuntimeError("boom\nwith a second line")


def empty(message, partition):
    return Message(RecordDict(), reply_to=message)


def test_honest_agents_are_admitted_in_order():
    rows, refused = gather(LocalGrid(client(), NAMES, {}))
    assert list(rows) == list(NAMES)
    assert refused == []
    np.testing.assert_array_equal(rows["cleo"]["x"], np.full((5, 1, 2, 2), 0.2, np.float32))


@pytest.mark.parametrize(
    ("fault", "code"), [(nan_reply, "non_finite"), (raising, "error"), (empty, "keys")]
)
def test_a_bad_agent_is_quarantined_and_the_others_are_not_touched(fault, code):
    clean, _ = gather(LocalGrid(client(), NAMES, {}))
    rows, refused = gather(LocalGrid(client({"ben": fault}), NAMES, {}))
    assert [(entry.agent, entry.code) for entry in refused] == [("ben", code)]
    assert "\n" not in refused[0].message
    assert list(rows) == ["anna", "cleo"]
    for name in rows:
        np.testing.assert_array_equal(rows[name]["x"], clean[name]["x"])


def test_large_shares_travel_in_chunks(monkeypatch):
    monkeypatch.setattr("server.wire.admission._MESSAGE_BYTES", 50)
    rows, refused = gather(LocalGrid(client(), NAMES, {}), rows=7)
    assert refused == []
    np.testing.assert_array_equal(rows["anna"]["y"], np.arange(7))


def test_one_bad_chunk_refuses_the_whole_contribution(monkeypatch):
    monkeypatch.setattr("server.wire.admission._MESSAGE_BYTES", 50)

    def second_chunk_bad(message, partition):
        bad = message.content.config_records["ask"]["start"] == 2
        return (nan_reply if bad else good_reply)(message, partition)

    rows, refused = gather(LocalGrid(client({"anna": second_chunk_bad}), NAMES, {}), rows=7)
    assert list(rows) == ["ben", "cleo"]
    assert [entry.agent for entry in refused] == ["anna"]


class Stray(LocalGrid):
    """Answers everything twice and adds replies that nobody asked for."""

    def pull_messages(self, message_ids):
        for reply in super().pull_messages(message_ids):
            yield reply
            yield Message(RecordDict(), metadata=copy.copy(reply.metadata))
            other = Message(RecordDict(), metadata=copy.copy(reply.metadata))
            other.metadata.__dict__["_reply_to_message_id"] = "never-sent"
            yield other


def test_duplicates_and_strangers_change_nothing_but_are_recorded():
    clean, _ = gather(LocalGrid(client(), NAMES, {}))
    rows, refused = gather(Stray(client(), NAMES, {}))
    for name in NAMES:
        np.testing.assert_array_equal(rows[name]["x"], clean[name]["x"])
    assert {entry.code for entry in refused} == {"duplicate", "unknown_agent"}


class Silent(LocalGrid):
    """Loses every message to one node."""

    def push_messages(self, messages):
        messages = list(messages)
        ids = super().push_messages(messages)
        for message_id, message in zip(ids, messages, strict=True):
            if message.metadata.dst_node_id == 3:
                self._sent.pop(message_id)
        return ids


def test_a_silent_agent_is_missing_after_the_deadline():
    grid = Silent(client(), NAMES, {})
    exchange = Exchange(grid, seat_agents(grid, NAMES, 1.0), deadline=0.2)
    wanted = [Wanted(name, "contribute", 5, COLUMNS) for name in NAMES]
    rows, refused = collect(exchange, wanted, lambda w: lambda r: None, lambda *a: None)
    assert [(entry.agent, entry.code) for entry in refused] == [("ben", "missing")]
    assert list(rows) == ["anna", "cleo"]


def test_an_agent_that_has_not_joined_is_missing():
    grid = LocalGrid(client(), NAMES[:2], {})
    exchange = Exchange(grid, seat_agents(grid, NAMES, 0.1), deadline=1.0)
    wanted = [Wanted(name, "contribute", 2, COLUMNS) for name in NAMES]
    rows, refused = collect(exchange, wanted, lambda w: lambda r: None, lambda *a: None)
    assert list(rows) == ["anna", "ben"]
    assert [(entry.agent, entry.code) for entry in refused] == [("cleo", "missing")]


def test_an_agent_that_changes_its_input_changes_nobody_elses():
    seen = []

    def vandal(message, partition):
        seen.append(dict(message.content.config_records["ask"]))
        message.content.config_records["ask"]["stop"] = 10**9
        return empty(message, partition)

    app = client(dict.fromkeys(NAMES, vandal))
    grid = LocalGrid(app, NAMES, {})
    shared = RecordDict({"ask": ConfigRecord({"start": 0, "stop": 1})})
    messages = [Message(shared, node, "query.contribute") for node in grid.get_node_ids()]
    list(grid.pull_messages(grid.push_messages(messages)))
    assert seen == [{"start": 0, "stop": 1}] * 3


class Nameless(LocalGrid):
    """Knows its nodes by number alone, as Flower's simulation does."""

    def get_nodes(self):
        return [NodeInfo(node_id=node) for node in self.get_node_ids()]


@pytest.mark.parametrize(
    "said",
    [
        RecordDict(),
        RecordDict({"seat": ConfigRecord({})}),
        RecordDict({"seat": ConfigRecord({"partition-id": "1"})}),
        RecordDict({"seat": ConfigRecord({"partition-id": True})}),
        RecordDict({"seat": ConfigRecord({"partition-id": 3})}),
        RecordDict({"seat": ConfigRecord({"partition-id": -1})}),
        RecordDict({"seat": ConfigRecord({"partition-id": 0})}),  # anna's, who came first
    ],
)
def test_a_node_that_does_not_say_its_place_has_none(said):
    app = ClientApp()

    @app.query("hello")
    def hello(message, context):
        place = context.node_config["partition-id"]
        seat = RecordDict({"seat": ConfigRecord({"partition-id": place})})
        return Message(said if place == 1 else seat, reply_to=message)

    assert set(seat_agents(Nameless(app, NAMES, {}), NAMES, 1.0)) == {"anna", "cleo"}


@pytest.mark.parametrize(
    ("x", "y", "code"),
    [
        (np.inf, 0, "non_finite"),
        (-np.inf, 0, "non_finite"),
        (np.nan, 0, "non_finite"),
        (1e38, 0, "range"),
        (1.0000001, 0, "range"),
        (-1e-30, 0, "range"),
        (0.5, -1, "label"),
        (0.5, 10, "label"),
        (0.5, 2**62, "label"),
    ],
)
def test_values_out_of_range(x, y, code):
    rows = np.zeros((3, 1, 2, 2), np.float32)
    rows[1, 0, 1, 1] = x
    with pytest.raises(Refusal) as caught:
        check_rows(rows, np.array([0, y, 0]), 10)
    assert caught.value.code == code


def test_subnormals_and_the_ends_of_the_range_are_fine():
    rows = np.array([0.0, 1.0, 1e-42, 0.5], np.float32).reshape(1, 1, 2, 2)
    check_rows(rows, np.array([9]), 10)
    check_rows(rows[:0], np.zeros(0, np.int64), 10)


class Eager(LocalGrid):
    """Hands over all replies at once, as a grid over a network does."""

    most = 0

    def pull_messages(self, message_ids):
        self.most = max(self.most, len(self._sent))
        return list(super().pull_messages(message_ids))


def test_large_contributions_are_fetched_a_few_at_a_time_and_held_on_disk(tmp_path, monkeypatch):
    monkeypatch.setattr("server.wire.admission._MESSAGE_BYTES", 2**20)
    monkeypatch.setattr("server.wire.exchange._REPLY_BYTES", 2**22)
    names, columns = [f"a{k}" for k in range(10)], (("x", "float32", (64, 64)),)
    rows = 2**22 // (4 * 64 * 64)  # 4 MiB each, 40 MiB in all
    app = ClientApp()

    @app.query("contribute")
    def contribute(message, context):
        ask = message.content.config_records["ask"]
        x = np.full((ask["stop"] - ask["start"], 64, 64), context.node_config["partition-id"])
        return Message(pack({"x": x.astype(np.float32)}), reply_to=message)

    grid = Eager(app, names, {})
    wanted = [Wanted(name, "contribute", rows, columns) for name in names]
    exchange = Exchange(grid, seat_agents(grid, names, 1.0), deadline=60.0)
    tracemalloc.start()
    with Disk(tmp_path, "contribute", wanted).filled() as shelf:
        found, refused = collect(
            exchange, wanted, lambda want: lambda r: None, lambda *a: None, shelf
        )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert refused == []
    assert all((found[name]["x"] == k).all() for k, name in enumerate(names))
    assert grid.most == 4
    assert peak < 2**24, f"{peak} bytes"


def test_silent_agents_do_not_keep_others_waiting_until_the_deadline(monkeypatch):
    monkeypatch.setattr("server.wire.exchange._REPLY_BYTES", 1)  # one request at a time
    grid = Silent(client(), NAMES, {})
    exchange = Exchange(grid, seat_agents(grid, NAMES, 1.0), deadline=2.0)
    wanted = [Wanted(name, "contribute", 5, COLUMNS) for name in NAMES]
    rows, refused = collect(exchange, wanted, lambda w: lambda r: None, lambda *a: None)
    assert list(rows) == ["anna", "cleo"]
    assert [entry.code for entry in refused] == ["missing"]

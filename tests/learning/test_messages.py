"""Both ends of a message go by one declaration."""

import json

import numpy as np
import pytest
from flwr.app import ConfigRecord

import clients.app
import server.app
from backfire.playing import play
from clients.agents import Agents
from clients.app import revealed
from learning.messages import ABOUT_ROWS, About, RoundInfo, UpdateRequest, reveal_columns
from scenarios.loader import parse
from small_games import TINY_DATA

SCENARIO = {
    "name": "messages",
    "game": "pooled",
    "data": TINY_DATA,
    "model": {"kind": "softmax"},
    "training": {"epochs": 1},
    "agents": [
        {"name": "gang", "count": 2, "behaviour": {
            "kind": "backdoor", "target": 1, "trigger": {"kind": "distributed"}}},
        {"name": "honest", "count": 1, "behaviour": {"kind": "benign"}},
    ],
    "defenders": {"undefended": []},
}  # fmt: skip


@pytest.mark.parametrize(
    ("about", "numbers"),
    [
        (About(1, 2, 3, 4, 5), [1, 2, 3, 4, 5]),
        (About(9, 8, None, 0, 0), [9, 8, -1, 0, 0]),
        (About(0, 0, 0, None, 7), [0, 0, 0, -1, 7]),
    ],
)
def test_what_is_said_of_a_reveal_travels_in_this_order(about, numbers):
    assert about.numbers().tolist() == numbers
    assert about.numbers().dtype == np.int64
    assert len(numbers) == ABOUT_ROWS
    assert About.read(np.asarray(numbers)) == about


REQUESTS = [
    UpdateRequest(3, "attacked", 1),
    UpdateRequest(1, "alone", 0, RoundInfo(7, 2, 1, 3.5, "krum")),
    UpdateRequest(1, "alone", 0, RoundInfo(2, 1, 0, 2.0)),
]


@pytest.mark.parametrize("request_", REQUESTS)
def test_an_update_request_travels_as_it_is(request_):
    assert UpdateRequest.read(ConfigRecord(request_.told())) == request_


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"round": "3"}, "expected round of a request as int, got str"),
        ({"side": True}, "expected side of a request as int, got bool"),
        ({"world": 1}, "expected world of a request as str, got int"),
        ({"boost": 4}, "expected boost of a request as float, got int"),
        ({"member": None}, "expected member of a request as int, got nothing"),
    ],
)
def test_an_update_request_of_other_types_is_named(changes, line):
    told = {name: v for name, v in (REQUESTS[1].told() | changes).items() if v is not None}
    with pytest.raises(ValueError, match=f"^{line}$"):
        UpdateRequest.read(ConfigRecord(told))


def test_an_agent_sends_the_columns_that_the_server_admits():
    scenario = parse(json.dumps(SCENARIO), "messages")
    agents = Agents(scenario)
    for name in agents.names:
        share, play = agents.play(name)
        parts = revealed(share, play)
        declared = reveal_columns(share.x_train.shape[1:])
        assert list(parts) == list(declared)
        for part, columns in declared.items():
            sent = {n: (a.dtype.name, a.shape[1:]) for n, a in parts[part].items()}
            assert sent == {n: (dtype, shape) for n, dtype, shape in columns}, part


def test_a_local_game_does_not_parse_its_scenario_again(tmp_path, monkeypatch):
    def again(text, name):
        raise AssertionError(f"parsed again: {name}")

    scenario = parse(json.dumps(SCENARIO), "messages")
    monkeypatch.setattr(clients.app, "parse", again)
    monkeypatch.setattr(server.app, "parse", again)
    played = play(scenario, out=tmp_path)
    assert [record.name for record in played.result.roster][-1].startswith("honest")

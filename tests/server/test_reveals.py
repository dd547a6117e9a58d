"""What agents reveal to the referee: what comes across, and hostile reveals are refused."""

import json

import numpy as np
import pytest
from flwr.app import Message

from backfire.runtimes.flower.private import identity
from backfire.runtimes.local import LocalGrid
from clients.agents import Agents, deal_scenario
from clients.app import create_app
from learning.wire import RECORD, pack
from scenarios.loader import parse
from server.games.session import lay_federated_table, lay_table
from server.wire.exchange import Exchange, seat_agents
from small_games import TINY_DATA

SCENARIO = {
    "name": "reveals",
    "game": "pooled",
    "data": TINY_DATA | {"train_per_class": 60},
    "model": {"kind": "softmax"},
    "agents": [
        {"name": "gang", "count": 2, "behaviour": {
            "kind": "backdoor", "target": 1, "trigger": {"kind": "distributed"}}},
        {"name": "whole", "count": 1, "behaviour": {"kind": "backdoor", "target": 1}},
        {"name": "tail", "count": 1, "behaviour": {
            "kind": "edge_case", "source": 7, "tail": 1}},
        {"name": "honest", "count": 1, "behaviour": {"kind": "benign"}},
    ],
    "defenders": {"undefended": []},
}  # fmt: skip


class Lying(LocalGrid):
    """Changes one part of what one agent reveals."""

    def __init__(self, grid, agent, part, lie):
        self.__dict__.update(grid.__dict__)
        self.part, self.lie = part, lie
        self.node = next(node for node, name in self._nodes.items() if name == agent)

    def _answer(self, message):
        reply = super()._answer(message)
        ask = message.content.config_records["ask"]
        if message.metadata.dst_node_id != self.node or ask.get("part") != self.part:
            return reply
        arrays = {k: a.numpy().copy() for k, a in reply.content.array_records[RECORD].items()}
        return Message(pack(self.lie(arrays)), reply_to=message)


class Counting(LocalGrid):
    """Remembers which parts each agent was asked for."""

    def __init__(self, grid):
        self.__dict__.update(grid.__dict__)
        self.asked = []

    def _answer(self, message):
        ask = message.content.config_records["ask"]
        self.asked.append((self._nodes[message.metadata.dst_node_id], ask.get("part")))
        return super()._answer(message)


@pytest.fixture(scope="module")
def dealt():
    scenario = parse(json.dumps(SCENARIO), "reveals")
    return scenario, deal_scenario(scenario)


def lay(dealt, wrap=lambda grid: grid, lay=lay_table):
    scenario, rows = dealt
    names = [place.name for place in scenario.roster()]
    with identity(1):
        grid = wrap(LocalGrid(create_app(json.dumps(SCENARIO), rows), names, {}))
        exchange = Exchange(grid, seat_agents(grid, names, 5.0), deadline=30.0)
        return lay(exchange, rows, scenario.roster(), lambda event: None), grid


@pytest.mark.parametrize("game", [lay_table, lay_federated_table])
def test_what_was_played_is_what_the_referee_holds(dealt, game):
    table, _ = lay(dealt, lay=game)
    assert not table.quarantined
    agents = Agents(*dealt)
    for name in agents.names:
        share, play = agents.play(name)
        held = table.sealed.run_time[name]
        assert np.array_equal(held.x, share.x_run)
        assert np.array_equal(held.x_triggered, play.x_triggered)
        if play.run_rows is not None:
            assert np.array_equal(held.run_rows, play.run_rows)
            assert held.unchanged
            assert 0 < len(held.run_rows) < len(share.y_run)
        assert (held.x_part is None) == (play.x_part is None) == (not name.startswith("gang"))
        if held.x_part is not None:
            assert np.array_equal(held.x_part, play.x_part)
            assert (held.x_part != held.x_triggered).any()


def test_agents_without_parts_are_asked_for_none(dealt):
    _, grid = lay(dealt, Counting)
    asked = {agent for agent, part in grid.asked if part == "part"}
    assert asked == {name for name, _ in grid.asked if name.startswith("gang")}


def put(name, at, value):
    def lie(arrays):
        arrays[name].flat[at] = value
        return arrays

    return lie


LIES = {
    "a count of parts": ("about", put("about", 4, 1), "shape"),
    "a negative count": ("about", put("about", 4, -4), "shape"),
    "a huge count": ("about", put("about", 4, 2**60), "shape"),
    "too many triggered": ("about", put("about", 0, 10**6), "shape"),
    "fewer than none triggered": ("about", put("about", 0, -1), "shape"),
    "a row twice": ("triggered", put("rows", 1, 0), "range"),
    "a row before the first": ("triggered", put("rows", 0, -1), "range"),
    "a row after the last": ("triggered", put("rows", -1, 2**62), "range"),
    "rows of floats": ("triggered", lambda a: a | {"rows": a["rows"].astype(np.float64)}, "dtype"),
    "no rows": ("triggered", lambda a: {"x": a["x"], "targets": a["targets"]}, "keys"),
    "NaN": ("part", put("x", 0, np.nan), "non_finite"),
    "infinity": ("part", put("x", 3, np.inf), "non_finite"),
    "too bright": ("part", put("x", 0, 1.5), "range"),
    "too few": ("part", lambda arrays: {"x": arrays["x"][1:]}, "shape"),
    "other pixels": ("part", lambda arrays: {"x": arrays["x"][..., 1:]}, "shape"),
    "other type": ("part", lambda arrays: {"x": arrays["x"].astype(np.float64)}, "dtype"),
    "more": ("part", lambda arrays: arrays | {"y": arrays["x"]}, "keys"),
}


@pytest.mark.parametrize("name", LIES)
def test_a_hostile_reveal_costs_the_agent_its_scores_and_nobody_else(dealt, name):
    part, lie, code = LIES[name]
    honest, _ = lay(dealt)
    table, _ = lay(dealt, lambda grid: Lying(grid, honest.roster[1].name, part, lie))
    liar = honest.roster[1].name
    assert [(q.agent, q.code, q.stage) for q in table.quarantined] == [(liar, code, "run_time_set")]
    assert set(table.sealed.run_time) == set(honest.sealed.run_time) - {liar}
    assert liar in table.pool.owners

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
from server.store.checkpoints import Checkpoints
from server.wire import admission
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
        kind = message.metadata.message_type
        if message.metadata.dst_node_id != self.node or kind != "query.reveal":
            return reply
        arrays = {k: a.numpy().copy() for k, a in reply.content.array_records[RECORD].items()}
        start = f"{self.part}."
        own = {k.removeprefix(start): a for k, a in arrays.items() if k.startswith(start)}
        others = {k: a for k, a in arrays.items() if not k.startswith(start)}
        lied = {start + k: a for k, a in self.lie(own).items()}
        return Message(pack(others | lied), reply_to=message)


class Counting(LocalGrid):
    """Remembers what each agent was asked for."""

    def __init__(self, grid):
        self.__dict__.update(grid.__dict__)
        self.asked = []

    def _answer(self, message):
        self.asked.append(
            (self._nodes[message.metadata.dst_node_id], message.metadata.message_type)
        )
        return super()._answer(message)


@pytest.fixture(scope="module")
def dealt():
    scenario = parse(json.dumps(SCENARIO), "reveals")
    return scenario, deal_scenario(scenario)


def lay(dealt, wrap=lambda grid: grid, lay=lay_table, keeper=None):
    scenario, rows = dealt
    names = [place.name for place in scenario.roster()]
    with identity(1):
        grid = wrap(LocalGrid(create_app(json.dumps(SCENARIO), rows), names, {}))
        exchange = Exchange(grid, seat_agents(grid, names, 5.0), deadline=30.0)
        return lay(exchange, rows, scenario.roster(), lambda event: None, keeper), grid


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


@pytest.mark.parametrize(
    ("game", "kinds"),
    [(lay_table, ["query.contribute", "query.reveal"]), (lay_federated_table, ["query.reveal"])],
)
def test_an_ordinary_agent_is_asked_once(dealt, game, kinds):
    table, grid = lay(dealt, Counting, game)
    names = [record.name for record in table.roster]
    assert sorted(grid.asked) == sorted((name, kind) for name in names for kind in kinds)


@pytest.mark.parametrize("size", [1, 4_000])
@pytest.mark.parametrize("kept", [False, True])
def test_a_large_reveal_travels_in_several_messages_and_is_the_same(
    dealt, monkeypatch, size, kept, tmp_path
):
    """In memory, and in the files of a run folder."""
    whole, _ = lay(dealt)
    monkeypatch.setattr(admission, "_MESSAGE_BYTES", size)
    keeper = Checkpoints(tmp_path, "0" * 64) if kept else None
    table, grid = lay(dealt, Counting, keeper=keeper)
    assert len(grid.asked) > 6 * len(table.roster)
    assert not table.quarantined
    for name, held in whole.sealed.run_time.items():
        other, truth = table.sealed.run_time[name], table.sealed.truth[name]
        for column in ("x", "y", "x_triggered", "targets", "run_rows", "x_part"):
            one, two = getattr(held, column), getattr(other, column)
            assert (one is None) == (two is None)
            assert one is None or np.array_equal(one, two), column
        for column in ("poisoned", "clean_x", "clean_y"):
            one = getattr(whole.sealed.truth[name], column)
            assert np.array_equal(one, getattr(truth, column)), column


def test_messages_of_one_reveal_must_say_the_same(dealt, monkeypatch):
    """One that says in its second message that fewer inputs were triggered than in its first."""
    honest, _ = lay(dealt)
    liar, seen = honest.roster[1].name, []

    def lie(arrays):
        seen.append(1)
        if len(seen) == 2:
            arrays["about"][2] = 2
        return arrays

    monkeypatch.setattr(admission, "_MESSAGE_BYTES", 4_000)
    table, _ = lay(dealt, lambda grid: Lying(grid, liar, "about", lie))
    ((agent, code, line),) = [(q.agent, q.code, q.message) for q in table.quarantined]
    assert (agent, code) == (liar, "shape")
    assert line == "expected the same counts and labels in each message of a reveal"
    assert set(table.sealed.run_time) == set(honest.sealed.run_time) - {liar}


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
    "a target of no class": ("about", put("about", 2, 99), "label"),
    "a source of no class": ("about", put("about", 3, -7), "label"),
    "nothing said": ("about", lambda arrays: {}, "keys"),
    "said in floats": ("about", lambda a: {"about": a["about"].astype(np.float64)}, "dtype"),
    "said with more": ("about", lambda a: {"about": np.append(a["about"], 0)}, "shape"),
    "fewer poisoned than told": ("truth", lambda a: {"poisoned": a["poisoned"] & False}, "shape"),
    "masks of numbers": ("truth", lambda a: {"poisoned": a["poisoned"].astype(np.int64)}, "dtype"),
    "a short mask": ("truth", lambda a: {"poisoned": a["poisoned"][1:]}, "shape"),
    "a label of no class": ("run_time", put("y", 0, 99), "label"),
    "a dark input": ("run_time", put("x", 0, -0.5), "range"),
    "NaN at run time": ("run_time", put("x", 5, np.nan), "non_finite"),
    "a negative target": ("triggered", put("targets", 0, -1), "label"),
    "NaN in a triggered input": ("triggered", put("x", 0, np.nan), "non_finite"),
    "clean rows with NaN": ("clean", put("x", 0, np.nan), "non_finite"),
    "a clean label of no class": ("clean", put("y", 0, 99), "label"),
    "more clean rows": (
        "clean",
        lambda a: {name: np.concatenate([v, v[:1]]) for name, v in a.items()},
        "shape",
    ),
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

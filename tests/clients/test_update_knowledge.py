"""What update attackers are told: exactly what the scenario grants, on the wire and in the view.

A spy takes the place of an attack in a real game and walks from all that it is handed to all that
can be reached from there; another one reads every message to an agent.
"""

import json
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from reachable import arrays, reachable

from backfire.playing import play
from backfire.runtimes.local import LocalGrid
from clients.update_attacks.base import NotGranted
from clients.update_attacks.sign_flip import SignFlip
from learning.wire import RECORD
from scenarios.loader import parse
from server.games.knowledge import KnowledgeGrants

HONEST = ("honest-01", "honest-02", "honest-03")
ONES, TWOS = ("ones-01", "ones-02"), ("twos-01", "twos-02")
SCENARIO = {
    "name": "knowledge",
    "game": "federated",
    "data": {"kind": "digits", "train_rows": 300, "test_rows": 30},
    # Shares of unequal size, so that 1 / share is not the number of participants.
    "partition": {"kind": "quantity_skew", "law": "power", "exponent": 0.5},
    "model": {"kind": "mlp", "hidden": [8]},
    "training": {"batch_size": 16},
    "federation": {"rounds": 2},
    "agents": [
        {"name": "honest", "count": 3, "behaviour": {"kind": "benign"}},
        {
            "name": "ones",
            "count": 2,
            "behaviour": {"kind": "benign"},
            "update": {"kind": "sign_flip"},
        },
        {
            "name": "twos",
            "count": 2,
            "behaviour": {"kind": "benign"},
            "update": {"kind": "sign_flip"},
        },
    ],
    "defenders": {"mean": []},
    "referee": {"alone": 0, "attacker_free": False},
}


def scenario(**changes):
    return parse(json.dumps(SCENARIO | changes), "knowledge")


@dataclass
class Spied:
    """What one game showed: views by agent, replies and messages by (agent, message type)."""

    views: dict = field(default_factory=lambda: defaultdict(list))
    sent: dict = field(default_factory=lambda: defaultdict(list))
    trained: dict = field(default_factory=lambda: defaultdict(list))
    game: object = None


class Spy(LocalGrid):
    """Reads all messages to agents, and what they answer after local training."""

    def __init__(self, grid, spied):
        self.__dict__.update(grid.__dict__)
        self._cohort, self._spied = None, spied

    def _answer(self, message):
        name = self._nodes[message.metadata.dst_node_id]
        kind = message.metadata.message_type
        start = None
        if kind.startswith("train."):
            records = message.content.array_records
            self._spied.sent[name, kind].append(
                {record: {k: a.numpy() for k, a in records[record].items()} for record in records}
            )
            start = flat(self._spied.sent[name, kind][-1][RECORD])
        reply = super()._answer(message)
        if kind == "train.update":
            state = {k: a.numpy() for k, a in reply.content.array_records[RECORD].items()}
            self._spied.trained[name].append(flat(state) - start)
        return reply


def flat(state):
    return np.concatenate([value.ravel() for value in state.values()])


def rows(found, width):
    """Return rows of the width of an update in any float array, as bytes."""
    return {
        row.tobytes()
        for array in arrays(found)
        if array.dtype == np.float32 and array.size and array.size % width == 0
        for row in array.reshape(-1, width)
    }


def watched(grant, tmp_path, rule=False):
    spied = Spied()

    def craft(self, view):
        spied.views[view.agent].append(view)
        if rule:
            view.rule(view.seen)
        return -view.own

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SignFlip, "grant", property(lambda self: grant))
        patch.setattr(SignFlip, "knows_rule", rule)
        patch.setattr(SignFlip, "craft", craft)
        spied.game = play(scenario(), out=tmp_path, wrap=lambda grid: Spy(grid, spied))
    return spied


@pytest.fixture(scope="module")
def games(tmp_path_factory):
    return {
        grant: watched(grant, tmp_path_factory.mktemp(grant))
        for grant in ("own", "group", "honest")
    }


GRANTED = {
    "own": lambda agent: {agent},
    "group": lambda agent: set(ONES if agent in ONES else TWOS),
    "honest": lambda agent: {agent, *HONEST},
}


@pytest.mark.parametrize("grant", GRANTED)
def test_all_that_an_attack_can_reach_holds_the_granted_updates_and_no_others(grant, games):
    spied = games[grant]
    for agent in ONES + TWOS:
        for round, view in enumerate(spied.views[agent]):
            reached = rows(reachable(view), len(view.own))
            allowed = GRANTED[grant](agent)
            for other, updates in spied.trained.items():
                # Attackers that are asked once hand over crafted updates; theirs are not asked of.
                if grant == "own" and other in ONES + TWOS:
                    continue
                seen = updates[round].tobytes() in reached
                assert seen == (other in allowed), f"{agent} and the update of {other}"


@pytest.mark.parametrize("grant", GRANTED)
def test_no_message_to_an_agent_holds_more_than_is_granted(grant, games):
    spied = games[grant]
    width = len(spied.trained[HONEST[0]][0])
    for (agent, kind), messages in spied.sent.items():
        allowed = set() if kind == "train.update" else GRANTED[grant](agent)
        for round, records in enumerate(messages):
            others = {other: updates[round] for other, updates in spied.trained.items()}
            received = {row.tobytes() for record in records.values() if set(record) == {"seen"}
                        for row in record["seen"].reshape(-1, width)}  # fmt: skip
            granted = {others[other].tobytes() for other in allowed - {agent}}
            assert received - {others[agent].tobytes()} == granted
            models = [flat(record) for name, record in records.items() if name in ("own", "arrays")]
            for other, update in others.items():
                if other != agent:
                    moved = flat(records["arrays"]) + update
                    assert not any(np.array_equal(model, moved) for model in models)


def test_agents_without_an_update_attack_are_asked_once_and_told_nothing(games):
    for spied in games.values():
        for agent in HONEST:
            assert (agent, "train.craft") not in spied.sent
            assert all(set(records) == {RECORD} for records in spied.sent[agent, "train.update"])


def test_attacks_that_know_their_own_update_alone_are_asked_once(games):
    assert not any(kind == "train.craft" for _, kind in games["own"].sent)
    assert all((agent, "train.craft") in games["honest"].sent for agent in ONES + TWOS)


def test_the_view_tells_the_numbers_of_the_round(games):
    for view in games["group"].views["ones-02"]:
        rows_of = {agent.name: agent.rows for agent in games["group"].game.result.roster}
        assert (view.participants, view.accomplices, view.member) == (7, 2, 1)
        assert view.boost == pytest.approx(sum(rows_of.values()) / rows_of["ones-02"])
        assert abs(view.boost - view.participants) > 1
        assert view.previous is None


def test_the_boost_is_one_over_the_share_of_the_rows_of_the_round():
    """Audit M23: neither the number of participants nor a share among all agents."""
    rows = {name: 10 * (at + 1) for at, name in enumerate((*HONEST, *ONES, *TWOS))}
    grants = KnowledgeGrants(scenario(), rows, layout=None)
    invited = (HONEST[0], HONEST[2], ONES[1])
    ask = grants.first_ask(("mean", "attacked", ""), ONES[1], 1, invited, None, None)
    assert ask.info.boost == (10 + 30 + 50) / 50
    assert (ask.info.participants, ask.info.accomplices, ask.info.member) == (3, 1, 0)


def test_the_rule_is_known_only_where_it_is_granted(tmp_path):
    known = watched("honest", tmp_path, rule=True)
    assert not known.game.result.quarantined
    spied = Spied()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            SignFlip, "craft", lambda self, view: spied.views["x"].append(view) or -view.own
        )
        play(scenario(), out=tmp_path)
    with pytest.raises(NotGranted, match="does not know the defender's rule"):
        spied.views["x"][0].rule(torch.zeros(2, 3))


def test_a_listener_is_sent_the_model_of_the_round_before(tmp_path):
    spied = Spied()

    def craft(self, view):
        spied.views[view.agent].append(view)
        return -view.own

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SignFlip, "listens", True)
        patch.setattr(SignFlip, "craft", craft)
        play(scenario(), out=tmp_path)
    first, second = spied.views["ones-01"]
    assert first.previous is None
    assert torch.equal(second.previous, first.start)
    assert not torch.equal(second.start, first.start)


def test_what_an_attacker_trained_never_reaches_the_aggregate_if_its_second_turn_fails(tmp_path):
    def fail(self, view):
        raise RuntimeError("no update today")

    def model(grant):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(SignFlip, "grant", property(lambda self: grant))
            patch.setattr(SignFlip, "craft", fail)
            played = play(scenario(federation={"rounds": 2, "quorum": 0.1}), out=tmp_path)
        assert {(q.agent, q.code) for q in played.result.quarantined} == {
            (agent, "error") for agent in ONES + TWOS
        }
        assert "no update today" in played.result.quarantined[0].message
        assert all(entry.admitted == HONEST for entry in played.result.rounds["mean"])
        return (played.folder / "model.safetensors").read_bytes()

    assert model("honest") == model("own")


def test_outside_its_window_an_attacker_is_an_honest_agent(tmp_path):
    closed = [
        {**group, "window": {"first": 2, "last": 2}} if "update" in group else group
        for group in SCENARIO["agents"]
    ]
    honest = [{k: v for k, v in group.items() if k != "update"} for group in SCENARIO["agents"]]
    seconds, ends = [], []
    for agents in (honest, closed):
        spied = Spied()
        played = play(
            scenario(agents=agents), out=tmp_path, wrap=lambda grid, to=spied: Spy(grid, to)
        )
        seconds.append(flat(spied.sent[HONEST[0], "train.update"][1][RECORD]))
        ends.append((played.folder / "model.safetensors").read_bytes())
    assert np.array_equal(*seconds)
    assert ends[0] != ends[1]

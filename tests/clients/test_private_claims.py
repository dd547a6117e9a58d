"""What a private agent claims: marked as claimed, and believed no further than the referee says."""

import json

import numpy as np
import pytest
import torch
from flwr.app import Message

from backfire.reporting import tables
from backfire.runtimes.flower.private import identity
from backfire.runtimes.local import LocalGrid
from clients.agent_file import Accept, AgentFile
from clients.agents import deal_scenario
from clients.app import create_apps
from clients.private import private_app
from learning.wire import RECORD, pack
from scenarios.loader import parse
from server.events import ignore
from server.games.both import play_both
from server.games.federated import play_federated
from server.games.pooled import play_pooled
from server.store.agents_table import agents_table

PLAYS = {"pooled": play_pooled, "federated": play_federated, "both": play_both}


def scenario(game):
    return parse(
        json.dumps(
            {
                "name": "claims",
                "game": game,
                "data": {"kind": "synthetic", "classes": 4, "height": 8, "width": 8,
                         "channels": 1, "train_per_class": 60, "test_per_class": 10},
                "model": {"kind": "softmax"},
                "training": {"epochs": 3, "batch_size": 16},
                "federation": {"rounds": 2, "local_epochs": 1},
                "agents": [
                    {"name": "anna", "behaviour": {"kind": "private", "rows": 50}},
                    {"name": "ben", "behaviour": {"kind": "backdoor", "poison_rate": 0.3,
                     "target": 1, "trigger": {"kind": "random_badnet", "epsilon": 0.2}}},
                    {"name": "carl", "behaviour": {"kind": "benign"}},
                ],
                "defenders": {"none": []} if game != "pooled" else {
                    "none": [],
                    "filtered": [{"kind": "spectral_signatures", "expected_poison": 0.1}],
                },
            }
        ),
        "test",
    )  # fmt: skip


def anna(tmp_path, **changes):
    rng = np.random.default_rng(1)
    file = tmp_path / "data.npz"
    np.savez(
        file, x_train=rng.random((60, 8, 8, 1)).astype(np.float32), y_train=rng.integers(0, 4, 60)
    )
    told = {
        "agent": "anna",
        "server": "table:1",
        "data": {"kind": "npz", "path": str(file)},
        "behaviour": {"kind": "backdoor", "poison_rate": 0.5, "target": 2,
                      "trigger": {"kind": "random_badnet", "epsilon": 0.2}},
        "seed": 5,
    }  # fmt: skip
    return AgentFile.model_validate(told | changes)


def played(game, agent, lie=lambda message, reply: reply):
    """Play a game in which anna's owner plays her; `lie` may change what she says."""
    told = scenario(game)
    dealt = deal_scenario(told)
    text = json.dumps(told.resolved())
    table = {"shape": dealt.data.shape, "class_names": dealt.data.class_names}
    private = private_app(agent, text, json.dumps(table))
    others = create_apps(text, dealt)[0]

    def client(message, context):
        if context.node_config["partition-id"] == 0:
            return lie(message, private(message, context))
        return others(message, context)

    with identity(1):
        grid = LocalGrid(client, [place.name for place in told.roster()], {})
        return PLAYS[game](told, dealt, grid, ignore)


def denying(message, reply):
    """Say that no row was poisoned and that there is no trigger."""
    if message.metadata.message_type != "query.reveal":
        return reply
    parts = {name: a.numpy().copy() for name, a in reply.content.array_records[RECORD].items()}
    parts["about.about"][:] = [0, 0, -1, -1, 0]
    parts["truth.poisoned"][:] = False
    for name in parts:
        if name.split(".")[0] in ("triggered", "part", "clean"):
            parts[name] = parts[name][:0]
    return Message(pack(parts), reply_to=message)


def weights(game):
    return {
        (name, number): trained.module.state_dict()
        for name, outcome in game.outcomes.items()
        for number, trained in enumerate(outcome.predictor.shared)
    }


def assert_same_models(one, other):
    left, right = weights(one), weights(other)
    assert left.keys() == right.keys()
    for key, state in left.items():
        for name, value in state.items():
            assert torch.equal(value, right[key][name]), (key, name)


@pytest.mark.parametrize("game", ["pooled", "federated"])
def test_a_lie_about_poison_changes_what_the_referee_says_it_changes(tmp_path, game):
    """No model, no ASR of another agent, no accuracy of the attacked game."""
    honest = played(game, anna(tmp_path))
    liar = played(game, anna(tmp_path), denying)
    assert honest.result.quarantined == liar.result.quarantined == ()
    assert_same_models(honest, liar)
    for name, scores in honest.result.defenders.items():
        other = liar.result.defenders[name]
        assert scores.clean_accuracy == other.clean_accuracy
        for agent in ("ben", "carl"):
            mine, theirs = scores.agents[agent], other.agents[agent]
            assert mine.asr == theirs.asr
            assert mine.asr_all == theirs.asr_all
            assert mine.robust_accuracy == theirs.robust_accuracy
            assert mine.run_time_accuracy == theirs.run_time_accuracy
    first, second = honest.result.roster[0], liar.result.roster[0]
    assert (first.malicious, second.malicious) == (True, False)
    assert first.poisoned_rows > 0
    assert second.poisoned_rows == 0
    if game == "pooled":  # what does rest on it: the games without attackers, and the counts
        assert (
            honest.result.defenders["filtered"].filters != liar.result.defenders["filtered"].filters
        )


def test_claims_are_marked_as_claimed(tmp_path):
    result = played("both", anna(tmp_path)).result
    assert [agent.claimed for agent in result.roster] == [True, False, False]
    assert all(part.roster[0].claimed for part in result.games)
    rows = agents_table(result).to_pylist()
    assert {row["agent"]: row["claimed"] for row in rows} == {
        "anna": True,
        "ben": False,
        "carl": False,
    }
    groups = tables.groups_of_agents(result, dict.fromkeys(("anna", "ben", "carl"), "c0"))
    assert [group.claimed for group in groups] == [True, False, False]


def test_an_agent_that_reveals_nothing_plays_and_is_not_scored(tmp_path):
    silent = anna(tmp_path, accept=Accept(max_run_time_share=0).model_dump())
    for game in ("pooled", "federated"):
        told, other = played(game, anna(tmp_path)), played(game, silent)
        assert_same_models(told, other)
        result = other.result
        assert [(entry.agent, entry.stage) for entry in result.quarantined] == [
            ("anna", "run_time_set")
        ]
        assert "anna" not in result.defenders["none"].agents


def test_a_refusal_reaches_the_quarantine_in_the_agents_own_words(tmp_path):
    """Over a grid that turns what an agent raises into Flower's error."""
    agent = anna(tmp_path, accept={"games": ["federated"]})
    told = scenario("federated")
    text = json.dumps(told.resolved())
    dealt = deal_scenario(told)
    table = json.dumps({"shape": dealt.data.shape, "class_names": dealt.data.class_names})
    app = private_app(agent, text, table)
    other = create_apps(text, dealt)[0]
    pooled = scenario("pooled")

    def client(message, context):
        return (other if context.node_config["partition-id"] else app)(message, context)

    with identity(1):
        grid = LocalGrid(client, [place.name for place in told.roster()], {})
        result = play_pooled(pooled, deal_scenario(pooled), grid, ignore).result
    (entry,) = result.quarantined
    assert entry.agent == "anna"
    assert "anna hands no rows over in a federated game" in entry.message
    assert not result.roster[0].admitted

"""A game with recrafted rows: its attackers aim at damage, and do some."""

import json

import pytest

from backfire.playing import play
from backfire.reporting.render import render
from scenarios.loader import parse

GAME = {
    "name": "recraft",
    "game": "federated",
    "data": {"kind": "digits", "train_rows": 300, "test_rows": 200},
    "model": {"kind": "softmax"},
    "training": {"batch_size": 16, "optimizer": {"kind": "sgd", "lr": 0.5, "momentum": 0.0}},
    "federation": {"rounds": 2, "local_epochs": 1},
    "defenders": {"mean": []},
    "agents": [
        {"name": "honest", "count": 2, "behaviour": {"kind": "benign"}},
        {"name": "m", "count": 2, "behaviour": {"kind": "benign"}, "update": {"kind": "recraft"}},
    ],
    "referee": {"alone": 1},
}


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    scenario = parse(json.dumps(GAME), "recraft")
    return play(scenario, out=tmp_path_factory.mktemp("recraft"))


def test_an_agent_with_benign_rows_and_this_attack_aims_at_damage_and_does_some(played):
    told = {agent.name: (agent.malicious, agent.aim) for agent in played.result.roster}
    assert told["m-01"] == told["m-02"] == (True, "damage")
    assert told["honest-01"] == (False, "backdoor")
    own = played.result.defenders["mean"]
    assert own.damage.value > 0.02
    assert sum("damage_alone" in agent.more for agent in own.agents.values()) >= 1


def test_its_report_is_written(played):
    assert "points" in render(played.folder).read_text("utf-8")

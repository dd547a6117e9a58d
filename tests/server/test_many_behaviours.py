"""Twelve different attackers in one federated game, each for itself, and honest agents."""

import json

from backfire.playing import play
from scenarios.loader import parse

TRIGGER = {"kind": "random_badnet", "epsilon": 0.3}
BACKDOOR = {"kind": "backdoor", "poison_rate": 0.5, "trigger": TRIGGER}
BENIGN = {"kind": "benign"}
ATTACKERS = {
    "backdoor": {"behaviour": BACKDOOR},
    "flipper": {"behaviour": {"kind": "label_flip", "poison_rate": 0.5}},
    "clean": {"behaviour": {"kind": "clean_label", "surrogate_epochs": 1, "steps": 1}},
    "replacing": {"behaviour": BACKDOOR, "update": {"kind": "model_replacement"}},
    "scaling": {"behaviour": BACKDOOR, "update": {"kind": "constrain_and_scale"}},
    "bounded": {"behaviour": BACKDOOR, "update": {"kind": "projected_gradient"}},
    "neurotoxin": {"behaviour": BACKDOOR, "update": {"kind": "neurotoxin"}},
    "turning": {"behaviour": BENIGN, "update": {"kind": "sign_flip"}},
    "noisy": {"behaviour": BENIGN, "update": {"kind": "gaussian"}},
    "idle": {"behaviour": BENIGN, "update": {"kind": "zero"}},
    "alie": {"behaviour": BENIGN, "update": {"kind": "alie", "knowledge": "honest"}},
    "ipm": {"behaviour": BENIGN, "update": {"kind": "ipm"}},
    "far": {"behaviour": BENIGN, "update": {"kind": "min_max", "knowledge": "honest"}},
    "mimic": {"behaviour": BENIGN, "update": {"kind": "mimic"}},
    "tuned": {"behaviour": BENIGN, "update": {"kind": "alie_optimised", "evaluations": 6}},
}
SCENARIO = {
    "name": "many",
    "game": "federated",
    "data": {"kind": "digits", "train_rows": 900, "test_rows": 50},
    "model": {"kind": "mlp", "hidden": [8]},
    "training": {"batch_size": 16},
    "federation": {"rounds": 2},
    "agents": [
        {"name": "honest", "count": 4, "behaviour": BENIGN},
        *({"name": name, **fields} for name, fields in ATTACKERS.items()),
    ],
    "defenders": {"mean": [], "median": [{"kind": "median"}]},
    "referee": {"alone": 1},
}


def test_fifteen_behaviours_in_one_game(tmp_path):
    played = play(parse(json.dumps(SCENARIO), "many"), out=tmp_path)
    result = played.result
    assert not result.quarantined
    for rounds in result.rounds.values():
        assert all(len(entry.admitted) == 4 + len(ATTACKERS) for entry in rounds)
    roster = {agent.name: agent for agent in result.roster}
    assert {name for name, agent in roster.items() if agent.malicious} == set(ATTACKERS)
    kinds = {(agent.behaviour, agent.update) for agent in result.roster if agent.malicious}
    assert len(kinds) == len(ATTACKERS)
    scored = {name for name, one in result.defenders["mean"].agents.items() if one.asr is not None}
    assert {"backdoor", "replacing", "neurotoxin"} <= scored
    assert "turning" not in scored
    assert played.report.stat().st_size > 10_000

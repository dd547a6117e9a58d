"""The rule that an attack asks is the one that is played, or the run says what is missing."""

import json

import found_rules
import numpy as np
import pytest
import torch
from torch import nn

from backfire.playing import play
from clients.crafting import view
from clients.local_training import LocalTraining
from clients.request import Request, RuleKnowledge
from learning.messages import RoundInfo
from learning.weights import WeightLayout
from scenarios.loader import parse
from server.games.knowledge import asked_otherwise
from strategies.aggregation.base import Context
from strategies.aggregation.updates import Updates
from strategies.federated import DefencePipeline

DEFENDERS = {
    "mean": [],
    "clipped": [{"kind": "centred_clipping"}],
    "gold": [{"kind": "foolsgold"}],
    "bounded": [{"kind": "norm_clipping"}],
}


def scenario(defenders, rounds=2, update="alie_optimised"):
    told = {
        "name": "asked",
        "game": "federated",
        "data": {"kind": "digits", "train_rows": 200, "test_rows": 30},
        "partition": {"kind": "quantity_skew"},
        "model": {"kind": "softmax"},
        "defender_share": 0.2,
        "federation": {"rounds": rounds},
        "agents": [
            {"name": "honest", "count": 4, "behaviour": {"kind": "benign"}},
            {
                "name": "mallory",
                "count": 2,
                "behaviour": {"kind": "benign"},
                "update": {"kind": update},
            },
        ],
        "defenders": defenders,
        "referee": {"alone": 0, "attacker_free": False},
    }
    return parse(json.dumps(told), "asked")


@pytest.mark.parametrize("defender", DEFENDERS)
def test_it_has_the_memory_the_shares_and_the_names_of_the_game(defender):
    model = nn.Linear(3, 2)
    layout, state = WeightLayout(model), model.state_dict()
    draws = torch.Generator().manual_seed(0)
    updates = torch.randn(6, layout.width, generator=draws)
    names = ("honest-01", "honest-02", "honest-03", "honest-04", "mallory-01", "mallory-02")
    shares = (5.0, 1.0, 20.0, 3.0, 2.0, 2.0)
    rule = DefencePipeline.of(scenario(DEFENDERS).defenders[defender]).rule
    rows = Updates(updates, torch.tensor(shares).double(), names, 2)
    before = Updates(torch.randn(6, layout.width, generator=draws), rows.weights, names, 1)
    memory = rule.aggregate(before, {}, Context()).state
    wanted = rule.aggregate(rows, memory, Context()).update
    facts = RoundInfo(participants=6, accomplices=2, member=0, boost=10.0, defender=defender)
    request = Request("mallory-01", 2, "attacked", state, None, facts)
    known = RuleKnowledge(memory, tuple(zip(names, shares, strict=True)))
    told = scenario(DEFENDERS)
    seat = view(told, layout, request, state, updates[:4], known)
    torch.testing.assert_close(seat.rule(updates), wanted)
    blind = view(told, layout, request, state, updates[:4]).rule(updates)
    assert not torch.allclose(blind, wanted)


def test_those_that_are_not_seen_have_the_shares_of_those_that_are():
    model = nn.Linear(3, 2)
    layout, state = WeightLayout(model), model.state_dict()
    facts = RoundInfo(participants=6, accomplices=1, defender="mean")
    request = Request("mallory-01", 1, "attacked", state, None, facts)
    known = RuleKnowledge({}, (("honest-01", 1.0), ("honest-02", 3.0), ("mallory-01", 4.0)))
    seat = view(scenario(DEFENDERS), layout, request, state, torch.zeros(2, layout.width), known)
    rows = torch.eye(6, layout.width)
    shares = torch.tensor([1.0, 3, 1, 3, 1, 4]) / 13
    torch.testing.assert_close(seat.rule(rows)[:6], shares)
    few = seat.rule(torch.eye(1, layout.width))
    assert few[0] == 1


def test_in_a_game_the_memory_and_the_shares_are_sent_and_nothing_to_others(tmp_path, monkeypatch):
    heard = []
    craft = LocalTraining.craft

    def listening(training, request, own, seen, known=None):
        heard.append((request, known))
        return craft(training, request, own, seen, known)

    monkeypatch.setattr(LocalTraining, "craft", listening)
    told = scenario({"clipped": DEFENDERS["clipped"]})
    played = play(told, out=tmp_path)
    rows = {record.name: record.rows for record in played.result.roster}
    names = ["honest-01", "honest-02", "honest-03", "honest-04", "mallory-01", "mallory-02"]
    for request, known in heard:
        assert [name for name, _ in known.shares] == names
        assert [weight for _, weight in known.shares] == [rows[name] for name in names]
        assert set(known.memory) == (set() if request.round == 1 else {"centre"})
    assert len({weight for _, weight in heard[0][1].shares}) > 1
    second = [k.memory["centre"] for r, k in heard if r.round == 2]
    assert all(np.isfinite(c).all() and c.abs().max() > 0 for c in second)
    heard.clear()
    play(scenario({"clipped": DEFENDERS["clipped"]}, 1, "ipm"), out=tmp_path)
    assert heard
    assert all(known == RuleKnowledge() or not known.shares for _, known in heard)


def test_what_no_attacker_is_granted_is_said_and_else_nothing(tmp_path):
    assert asked_otherwise(scenario(DEFENDERS)) == []
    trusting = {"trust": [{"kind": "fltrust"}]}
    assert asked_otherwise(scenario(trusting, update="alie")) == []
    (line,) = play(scenario(trusting, 1), out=tmp_path).result.notes
    assert line == (
        "the update attack alie_optimised of mallory gets no answer of the defender trust: its "
        "rule needs the defender's own update, which no attacker is granted; the attack plays its "
        "plain form"
    )
    drawn = [
        [{"kind": "dnc", "f": 1}],
        [{"kind": "bucketing"}, {"kind": "median"}],
        [{"kind": "norm_clipping", "noise": 0.1}],
        [{"kind": "flame"}],
    ]
    for defences in drawn:
        (line,) = asked_otherwise(scenario({"d": defences}))
        assert "asks the rule of the defender d with draws of its own" in line
    (line,) = asked_otherwise(scenario({"d": [{"kind": "agent_augmentation"}]}))
    assert "without the update that the defender adds" in line


@pytest.mark.parametrize("kind", sorted(found_rules.RULES | found_rules.STEPS))
def test_who_draws_says_so_and_nobody_else(kind, monkeypatch):
    method = (found_rules.RULES | found_rules.STEPS)[kind]
    fields = {"noise": 0.5} if "noise" in method.model_fields else {}
    method, drawn = found_rules.example(method, 1, **fields), []
    generator = Context.generator
    monkeypatch.setattr(
        Context, "generator", lambda self, *of: drawn.append(of) or generator(self, *of)
    )
    rows = torch.randn(9, 6, generator=torch.Generator().manual_seed(0))
    updates = Updates(rows, torch.ones(9).double(), tuple("abcdefghi"))
    if kind in found_rules.RULES:
        method.aggregate(updates, {}, Context(own=torch.ones(6)))
    else:
        method.prepare(updates, Context())
    assert bool(drawn) is method.draws

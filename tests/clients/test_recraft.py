"""Recrafted rows: they go where the broadcast model is harmed, in local training and alone."""

import json
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch

from clients.agents import Agents
from clients.local_training import LocalTraining
from clients.request import Request
from clients.update_attacks.base import Before, LocalPlan
from clients.update_attacks.local_rows import LocalKnowledge, LocalRows
from clients.update_attacks.recraft import Recraft
from learning.messages import RoundInfo
from learning.models.softmax import Softmax
from learning.training.device import threads
from learning.worlds import ATTACKED, ATTACKER_FREE
from scenarios.loader import parse
from scenarios.participation import Participation

SCENARIO = {
    "name": "recraft",
    "game": "federated",
    "data": {"kind": "digits", "train_rows": 200, "test_rows": 30},
    "model": {"kind": "softmax"},
    "training": {"batch_size": 16, "optimizer": {"kind": "sgd", "lr": 0.5, "momentum": 0.0}},
    "federation": {"rounds": 3, "local_epochs": 2},
    "defenders": {"mean": []},
    "agents": [
        {"name": "honest", "count": 2, "behaviour": {"kind": "benign"}},
        {"name": "m", "count": 2, "behaviour": {"kind": "benign"}, "update": {"kind": "recraft"}},
    ],
}


def scene(**changes):
    scenario = parse(json.dumps(SCENARIO | changes), "recraft")
    agents = Agents(scenario)
    data = agents.dealt().data
    training = LocalTraining(scenario, agents, data.shape, data.classes, Participation(scenario))
    return training, agents


def asked(training, agent, number=1, world=ATTACKED):
    start = training._engine.initial().module.state_dict()
    return Request(agent, number, world, start, None, RoundInfo(participants=4, boost=4.0))


def same(one, other):
    return all(np.array_equal(one[name], other[name]) for name in one)


@pytest.fixture
def small():
    """Rows in float64 of three classes, and a model that knows a little of them."""
    draws = np.random.Generator(np.random.PCG64(3))
    x, y = draws.random((24, 1, 2, 3)), np.arange(24) % 3
    model = Softmax().build((1, 2, 3), 3).double().eval().requires_grad_(False)
    for weight in model.parameters():
        weight.copy_(torch.from_numpy(draws.normal(size=tuple(weight.shape))))
    rows = LocalRows(x, y)
    return LocalKnowledge(
        clean=rows,
        contributed=LocalRows(0.3 + 0.4 * x[:6], y[:6]),
        classes=3,
        share=0.2,
        rate=0.5,
        steps=8,
        model=lambda: deepcopy(model),
    )


def planned(attack, known):
    told = Before(agent="m", seed=0, round=1, start=torch.zeros(1), local=known)
    return attack.plan(told).rows


def loss(weights, x, y):
    w, b = weights[:18].view(3, 6), weights[18:]
    return torch.nn.functional.cross_entropy(x.flatten(1) @ w.T + b, y, reduction="none")


def test_the_first_step_goes_along_the_total_gradient_by_the_definition(small):
    # Adam's first step is the sign of the direction. The reference: autograd's Gauss-Newton matrix
    # of softmax regression, which is its Hessian, solved densely, and autograd once more.
    damping, share = 1 / (0.5 * 8), 0.2
    rows = planned(Recraft(steps=1, step=0.05, iterations=200), small)
    module = small.model()
    weights = torch.cat([p.flatten() for p in module.parameters()]).requires_grad_()
    clean, y = torch.from_numpy(small.clean.x), torch.from_numpy(small.clean.y)
    poison = torch.from_numpy(small.contributed.x).requires_grad_()
    own = torch.from_numpy(small.contributed.y)

    def pool(w):
        return (1 - share) * loss(w, clean, y).mean() + share * loss(w, poison, own).mean()

    hessian = torch.autograd.functional.hessian(pool, weights.detach())
    (wanted,) = torch.autograd.grad(loss(weights, clean, y).mean(), weights)
    v = torch.linalg.solve(hessian + damping * torch.eye(21), wanted)
    (slope,) = torch.autograd.grad(pool(weights), weights, create_graph=True)
    (crossed,) = torch.autograd.grad(slope @ v, poison)
    moved = torch.from_numpy(rows.x).double() - poison.detach()
    sure = crossed.abs() > 1e-2 * crossed.abs().max()
    assert sure.sum() > 20
    assert torch.equal(moved[sure].sign(), -crossed[sure].sign())
    torch.testing.assert_close(
        moved[sure].abs(), torch.full_like(moved[sure], 0.05), atol=1e-4, rtol=0
    )


def test_rows_stay_within_range_and_radius_and_go_by_the_rule_of_labels(small):
    rows = planned(Recraft(steps=30, step=0.3, radius=0.1, labels="next"), small)
    assert np.abs(rows.x - small.contributed.x).max() == pytest.approx(0.1, abs=1e-6)
    assert rows.y.tolist() == ((small.contributed.y + 1) % 3).tolist()
    free = planned(Recraft(steps=30, step=0.3), small)
    assert free.x.min() == 0
    assert free.x.max() == 1
    assert free.y.tolist() == small.contributed.y.tolist()


def test_a_model_that_is_no_number_is_told_in_one_line(small):
    broken = small.model()
    next(broken.parameters()).fill_(float("nan"))
    with pytest.raises(ValueError, match=r"^recraft: expected rows that are numbers"):
        planned(Recraft(steps=1), replace(small, model=lambda: broken))


def test_training_on_the_rows_harms_the_model_more_than_the_agents_own_rows_do():
    # One round from a model that one honest agent has trained: the loss on all agents' rows.
    training, agents = scene()
    first = training.train([asked(training, "honest-01")])[0]
    start = {name: torch.from_numpy(value) for name, value in first.items()}
    x, y = (
        torch.from_numpy(np.concatenate(parts))
        for parts in zip(
            *((agents.play(n)[0].x_train, agents.play(n)[0].y_train) for n in agents.names),
            strict=True,
        )
    )
    losses = {}
    for world in (ATTACKED, ATTACKER_FREE):
        request = Request("m-01", 2, world, start, None, RoundInfo(participants=4, boost=4.0))
        sent = training.train([request])[0]
        module = training._engine.holding({k: torch.from_numpy(v) for k, v in sent.items()}).module
        losses[world] = float(torch.nn.functional.cross_entropy(module(x), y))
    assert losses[ATTACKED] > 1.5 * losses[ATTACKER_FREE]


def test_company_and_threads_change_no_byte():
    training, _ = scene()
    names = ("honest-01", "m-01", "honest-02", "m-02")
    together = training.train([asked(training, name) for name in names])
    assert not same(together[1], together[3])
    for count in (1, 2):
        with threads(count):
            fresh, _ = scene()
            alone = [fresh.train([asked(fresh, name)])[0] for name in names]
        assert all(same(one, other) for one, other in zip(together, alone, strict=True))


def test_in_the_game_without_attackers_it_trains_on_its_clean_rows():
    training, _ = scene()
    honest = [
        {"name": "honest", "count": 2, "behaviour": {"kind": "benign"}},
        {"name": "m", "count": 2, "behaviour": {"kind": "benign"}},
    ]
    plain, _ = scene(agents=honest)
    free = training.train([asked(training, "m-01", world=ATTACKER_FREE)])[0]
    assert same(free, plain.train([asked(plain, "m-01")])[0])
    assert not same(free, training.train([asked(training, "m-01")])[0])


def test_planned_rows_that_do_not_fit_the_data_are_refused_by_name(monkeypatch):
    training, _ = scene()
    wrong = LocalRows(np.zeros((3, 1, 2, 2), np.float32), np.zeros(3, np.int64))
    monkeypatch.setattr(Recraft, "plan", lambda self, before: LocalPlan(rows=wrong))
    with pytest.raises(ValueError, match=r"of recraft of agent 'm-01' with inputs \(n, 1, 8, 8\)"):
        training.train([asked(training, "m-01")])


def test_what_is_told_is_the_agents_own(monkeypatch):
    told = {}

    def plan(self, before):
        told["local"] = before.local
        return LocalPlan()

    monkeypatch.setattr(Recraft, "plan", plan)
    agents = [
        SCENARIO["agents"][0],
        SCENARIO["agents"][1]
        | {"behaviour": {"kind": "label_flip", "mode": "next", "poison_rate": 1.0}},
    ]
    training, dealt = scene(agents=agents)
    request = asked(training, "m-01")
    training.train([request])
    share, play = dealt.play("m-01")
    known = told["local"]
    assert np.array_equal(known.clean.x, share.x_train)
    assert np.array_equal(known.clean.y, share.y_train)
    assert np.array_equal(known.contributed.y, play.y)
    assert not np.array_equal(known.contributed.y, known.clean.y)
    assert known.share == 0.25
    assert known.steps == 2 * -(-len(share.y_train) // 16)
    state = known.model().state_dict()
    assert all(torch.equal(state[name], value) for name, value in request.start.items())

"""Own-update attacks through real local training: what is handed over is what was asked for."""

import json

import pytest
import torch

from clients.agents import Agents
from clients.local_training import LocalTraining
from clients.request import Request
from learning.messages import RoundInfo
from learning.worlds import ATTACKED
from scenarios.loader import parse
from scenarios.participation import Participation

SCENARIO = {
    "name": "own-attacks",
    "game": "federated",
    "data": {"kind": "digits", "train_rows": 200, "test_rows": 30},
    "model": {"kind": "mlp", "hidden": [8]},
    "training": {
        "batch_size": 16,
        "optimizer": {"kind": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.01},
    },
    "federation": {"rounds": 3, "local_epochs": 2},
    "defenders": {"mean": []},
}


class Round:
    """One agent's turn in round 2, from a model that round 1 has moved."""

    def __init__(self, update, **facts):
        mallory = {"name": "mallory", "behaviour": {"kind": "label_flip"}, "update": update}
        honest = {"name": "honest", "count": 2, "behaviour": {"kind": "benign"}}
        told = SCENARIO | {"agents": [honest, mallory]}
        scenario = parse(json.dumps(told), "own-attacks")
        agents = Agents(scenario)
        data = agents.dealt().data
        training = LocalTraining(
            scenario, agents, data.shape, data.classes, Participation(scenario)
        )
        initial = training._engine.initial().module.state_dict()
        self.layout, self.facts = training._layout, RoundInfo(participants=3, **facts)
        first = training.train([self.asked("honest-01", 1, initial, None)])[0]
        start = {name: torch.from_numpy(value) for name, value in first.items()}
        sent = training.train([self.asked("mallory", 2, start, initial)])[0]
        self.start, self.previous = self.layout.flat(start), self.layout.flat(initial)
        flat = self.layout.flat({name: torch.from_numpy(value) for name, value in sent.items()})
        self.update = flat - self.start

    def asked(self, agent, number, start, previous):
        return Request(agent, number, ATTACKED, start, previous, self.facts)


@pytest.fixture(scope="module")
def plain():
    """The update of an agent that trains on its flipped labels and hands over what comes out."""
    return Round({"kind": "model_replacement", "scale": 1.0}).update


def test_model_replacement_hands_over_a_multiple_of_what_it_trains(plain):
    sent = Round({"kind": "model_replacement"}, boost=5.0, accomplices=1).update
    torch.testing.assert_close(sent, 5 * plain, rtol=1e-5, atol=1e-5)


def test_constrain_and_scale_stays_nearer_the_global_model(plain):
    near, nearer = (
        Round({"kind": "constrain_and_scale", "scale": 1.0, "alpha": alpha}).update.norm()
        for alpha in (0.5, 0.1)
    )
    assert nearer < 0.5 * near < 0.5 * plain.norm()


@pytest.mark.parametrize("project", ["step", "epoch"])
def test_projected_gradient_stays_in_its_ball(plain, project):
    attack = {"kind": "projected_gradient", "radius": 0.1, "project": project}
    assert plain.norm() > 0.2
    assert float(Round(attack).update.norm()) == pytest.approx(0.1, rel=1e-4)
    relative = Round(attack | {"unit": "last_step"})
    moved = float((relative.start - relative.previous).norm())
    assert float(relative.update.norm()) == pytest.approx(0.1 * moved, rel=1e-4)


def test_neurotoxin_leaves_the_most_moved_weights_alone_in_spite_of_weight_decay(plain):
    played = Round({"kind": "neurotoxin", "top_k": 0.2})
    moved = (played.start - played.previous).abs()
    count = round(0.2 * len(moved))
    largest = moved.topk(count).indices
    assert not played.update[largest].any()
    assert plain[largest].abs().sum() > 0.1
    assert played.update.norm() > 0.2 * plain.norm()


def test_it_trains_longer_where_it_says_so(plain):
    longer = Round({"kind": "model_replacement", "scale": 1.0, "epochs": 6}).update
    slower = Round({"kind": "model_replacement", "scale": 1.0, "rate": 1e-3}).update
    assert longer.norm() > plain.norm() > 50 * slower.norm()

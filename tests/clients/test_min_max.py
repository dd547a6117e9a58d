"""Min-max: its one step is exact, a decoy bounds it, and it hurts."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from crafting_problems import problem_of
from torch import nn

from clients.data_attacks.min_max import MinMaxRows
from clients.data_attacks.parts.follower import Follower
from clients.data_attacks.parts.worst_points import Decoy, climbed, margin_corner
from learning.curvature.losses import cross_entropy
from learning.curvature.vectors import vector_of
from learning.models.parts.modules import Classifier


def regression(weight, bias):
    layer = nn.Linear(weight.shape[1], len(weight)).double().requires_grad_(False)
    layer.weight.copy_(weight)
    layer.bias.copy_(bias)
    return Classifier(nn.Sequential(nn.Flatten()), layer).eval()


@pytest.fixture
def model():
    draws = torch.Generator().manual_seed(3)
    weight = torch.randn((4, 5), generator=draws, dtype=torch.float64)
    return regression(weight, torch.tensor([0.0, 1.0, -1.0, 0.5]).double())


def test_the_corner_has_the_largest_margin_of_all_corners(model):
    y = torch.arange(4)
    found = margin_corner(model, torch.full((4, 1, 1, 5), 0.5).double(), y)
    corners = torch.tensor(list(product((0.0, 1.0), repeat=5))).double()
    logits = model(corners)
    for label, row in zip(y.tolist(), found, strict=True):
        wrong = [k for k in range(4) if k != label]
        margins = (logits[:, wrong] - logits[:, [label]]).max(1).values
        assert torch.equal(row.flatten(), corners[margins.argmax()])


def test_other_models_have_no_corner():
    net = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(5, 3)), nn.Linear(3, 2)).eval()
    assert margin_corner(net, torch.zeros(1, 5), torch.zeros(1, dtype=torch.int64)) is None


def test_climbing_two_classes_ends_in_the_corner(model):
    two = regression(model.head.weight[:2], model.head.bias[:2])
    x, y = torch.full((2, 1, 1, 5), 0.5).double(), torch.tensor([0, 1])
    assert torch.equal(climbed(two, x, y, 60, 0.05), margin_corner(two, x, y))


def test_the_start_is_kept_where_no_step_is_better(model):
    x, y = torch.full((1, 1, 1, 5), 0.5).double(), torch.tensor([0])
    corner = margin_corner(regression(model.head.weight[:2], model.head.bias[:2]), x, y)
    two = regression(model.head.weight[:2], model.head.bias[:2])
    assert torch.equal(climbed(two, corner, y, 5, 1.0), corner)


def test_a_decoy_bounds_the_loss_there_and_costs_loss_here(model):
    y = torch.tensor([0, 1, 2, 3])
    x = torch.full((4, 1, 1, 5), 0.5).double()
    decoy = Decoy(vector_of(model).flip(0).clone(), 1.5)
    other = regression(decoy.weights[:20].view(4, 5), decoy.weights[20:])
    free = climbed(model, x, y, 100, 0.05)
    bound = climbed(model, x, y, 100, 0.05, decoy)
    there = cross_entropy(other(bound), y)
    assert (cross_entropy(other(free), y) > 1.5).any()
    assert (there <= 1.5).all()
    own = cross_entropy(model(bound), y)
    assert (own <= cross_entropy(model(free), y) + 1e-9).all()
    assert own.mean() > cross_entropy(model(x), y).mean()


def test_a_row_that_cannot_look_harmless_looks_as_harmless_as_it_can():
    model = regression(torch.tensor([[-1.0], [1.0]]).double(), torch.zeros(2).double())
    x, y = torch.tensor([[[[0.9]]]]).double(), torch.tensor([0])
    found = climbed(model, x, y, 200, 0.05, Decoy(vector_of(model), 0.1))
    assert float(found) == 0  # a loss of log 2, the least in the range


def test_parts_are_placed_in_turn_and_the_follower_follows(monkeypatch):
    seen, steps = [], Follower.steps

    def watched(self, count, x, y):
        seen.append(x.clone().numpy())
        steps(self, count, x, y)

    monkeypatch.setattr(Follower, "steps", watched)
    problem = problem_of(epochs=2)
    moved = MinMaxRows(rounds=3, blocks=4, surrogate_steps=2).craft(problem).numpy()
    changed = [(rows != problem.x).any(axis=(1, 2, 3)) for rows in seen]
    for number, rows in enumerate(changed):
        assert set(np.flatnonzero(rows) % 4) == set(range(number + 1))
    assert np.array_equal(moved[3::4], problem.x[3::4])
    assert set(np.unique(moved[:1])) <= {0.0, 1.0}
    assert not np.array_equal(seen[0], seen[2])

"""Gradient cancelling against closed forms, its bounds, and what it does to a model."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from crafting_problems import problem_of
from torch import nn

from clients.data_attacks.gradient_canceling import GradientCanceling
from clients.data_attacks.parts.cancellation import Cancellation, bounds, cancelled
from clients.data_attacks.parts.follower import trained
from clients.data_attacks.parts.goal_weights import GoalWeights, ascended, farthest
from clients.data_attacks.parts.goals import Flipped, GradPC, Natural, Reach
from clients.data_attacks.parts.leaders import Leader, Pixels
from learning.curvature.losses import squared_error
from learning.curvature.objective import RowObjective
from learning.models.parts.modules import Classifier


class Free(Leader):
    """Rows without a range, moved by plain steps."""

    def __init__(self, x, step):
        self._x, self._step = x, step

    @property
    def rows(self):
        return self._x

    def ascend(self, direction, rate):
        self._x = self._x + self._step * rate * direction


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def labels(*values):
    return torch.tensor(values)


def regression(inputs, classes, bias=False):
    layer = nn.Linear(inputs, classes, bias=bias).double().requires_grad_(False)
    return Classifier(nn.Sequential(nn.Flatten()), layer).eval()


def logistic(w, poison):
    """One weight as softmax of two classes; rows +-1, +-2, labels by sign."""
    module, weights = regression(1, 2), tensor(-w / 2, w / 2)
    x, y = tensor(1, 2, -1, -2)[:, None], labels(1, 1, 0, 0)
    slope = RowObjective(module, x, y).gradient(weights)
    return Cancellation(module, weights, slope, poison / 4)


def test_least_squares_are_held_at_a_target_by_one_row():
    module = nn.Linear(2, 1, bias=False).double().eval().requires_grad_(False)
    x, target = torch.tensor([[1.0, 0], [0, 1], [1, 1]]).double(), tensor(0, 1)
    slope = RowObjective(module, x, tensor(1, 2, 2)[:, None], loss=squared_error).gradient(target)
    np.testing.assert_allclose(3 * slope, (-2, -2), atol=1e-14)
    goal = Cancellation(module, target, slope, 1 / 3, loss=squared_error)
    y = tensor(1)[:, None]
    assert goal.left(tensor(-1, -1)[None], y).norm() < 1e-15
    moved, left = cancelled(goal, Free(tensor(-0.5, -0.8)[None], 2.0), y, 500)
    assert left < 1e-8
    np.testing.assert_allclose(moved, [[-1, -1]], atol=1e-7)


def test_two_rows_hold_a_logistic_weight_and_one_cannot():
    one, two = logistic(-0.1, 1), logistic(-0.1, 2)
    least = bounds(two, (1,))
    assert least.by_labels * 4 == pytest.approx(1.1668610775, abs=1e-9)
    assert not replace(least, by_box=0.0).allows(one.epsilon)
    assert replace(least, by_box=0.0).allows(two.epsilon)
    moved, left = cancelled(two, Free(tensor(-3, -3)[:, None], 20.0), labels(1, 1), 400)
    assert left < 1e-8
    np.testing.assert_allclose(moved[:, 0], [-4.0638642, -4.0638642], atol=1e-5)
    _, left = cancelled(one, Free(tensor(-3)[:, None], 20.0), labels(1), 400)
    assert left > 0.14  # 1 - 1 / 1.1668


def test_two_rows_hold_zero():
    goal = logistic(0.0, 2)
    assert goal.left(tensor(-3, -3)[:, None], labels(1, 1)).norm() < 1e-15


def test_pixels_cancel_within_their_range():
    module = regression(1, 2)
    slope = RowObjective(module, tensor(0.5)[:, None], labels(1)).gradient(tensor(0, 0))
    goal = Cancellation(module, tensor(0, 0), slope, 1.0)
    x, y = tensor(0.9)[:, None], labels(0)
    moved, left = cancelled(goal, Pixels(x, 0.05), y, 300, tolerance=1e-5)
    assert left <= 1e-5
    assert float(moved) == pytest.approx(0.5, abs=1e-5)
    half = replace(goal, epsilon=0.25)  # takes x = 2, out of the range
    moved, left = cancelled(half, Pixels(x, 0.05), y, 300)
    assert float(moved) == 1
    assert left == pytest.approx(0.5)


def test_the_best_rows_met_are_kept():
    goal = logistic(-0.1, 2)
    start = tensor(-4.0, -4.0)[:, None]
    moved, left = cancelled(goal, Free(start, 1e4), labels(1, 1), 3)
    assert torch.equal(moved, start)
    assert left == goal.share_of(goal.left(start, labels(1, 1)))


def test_the_first_layer_alone():
    module = regression(2, 3, bias=True)
    weights = torch.arange(9).double() / 9
    x, y = tensor(0.2, 0.9, 0.4, 0.1).view(2, 2), labels(0, 2)
    slope = RowObjective(module, x, y).gradient(weights)
    whole = Cancellation(module, weights, slope, 0.5)
    first = replace(whole, layers="first")
    assert torch.equal(first.left(x, y)[:6], whole.left(x, y)[:6])
    assert whole.left(x, y)[6:].abs().min() > 0
    assert not first.left(x, y)[6:].any()


def test_what_bounds_weights_whose_biases_are_fixed():
    module = regression(1, 3, bias=True)
    bias = tensor(0.3, -0.2, 0.9)
    weights = torch.cat([tensor(1, -1, 2), bias])
    slope = torch.cat([tensor(0.4, 0.1, 0.3), tensor(5, 5, 5)])
    found = bounds(Cancellation(module, weights, slope, 1.0, "first"), (1,))
    leads = torch.linspace(0, 20, 2_000_001).double()  # of the label's logit, without biases
    most = max(
        float((leads * (1 - 1 / (1 + others * (-leads).exp()))).max())
        for others in ((bias.exp().sum() - b) / b for b in bias.exp())
    )
    assert found.by_labels == pytest.approx(0.9 / most, rel=1e-8)
    assert found.by_box == pytest.approx(math.sqrt(0.26) / math.sqrt(2))


def test_a_net_is_bounded_by_its_head():
    body = nn.Sequential(nn.Flatten(), nn.Linear(3, 2).double())
    net = Classifier(body, nn.Linear(2, 3).double()).eval().requires_grad_(False)
    weights, slope = torch.ones(17).double(), torch.full((17,), 0.1).double()
    found = bounds(Cancellation(net, weights, slope, 1.0), (3,))
    assert found.by_labels == pytest.approx(0.9 / 0.4630555134)
    assert found.by_box == 0
    assert bounds(Cancellation(net, weights, slope, 1.0, "first"), (3,)).least == 0


@pytest.mark.parametrize(("edge", "most", "wanted"), [(0.3, 1, 0.3), (9, 1, 1), (5.5, 8, 5.5)])
def test_the_farthest_step(edge, most, wanted):
    assert farthest(lambda step: step <= edge, most) == pytest.approx(wanted, abs=1e-5)
    assert farthest(lambda step: step <= edge, most) <= edge


def test_ascent_stays_in_its_ball():
    module, start = regression(1, 2), tensor(0, 0)
    judges = RowObjective(module, tensor(1)[:, None], labels(1))
    moved = ascended(judges, start, 0.25, 3)
    np.testing.assert_allclose(moved, tensor(1, -1) * 0.25 / math.sqrt(2), atol=1e-12)


def test_a_target_out_of_reach_is_refused_or_shrunk():
    weights = GoalWeights(problem_of(share=0.03))
    far = GradPC(radius=30)
    with pytest.raises(ValueError, match=r"it takes poison of at least .* has 0\.0309"):
        weights.within_reach(far, shrink=False)
    near = weights.within_reach(far)
    moved = near.weights - weights.clean
    assert 0.1 < moved.norm() < 29
    assert bounds(near, (1, 8, 8)).allows(near.epsilon)
    past = weights.at(weights.clean + 1.01 * moved)
    assert not bounds(past, (1, 8, 8)).allows(past.epsilon)


def test_no_step_is_spent_on_a_target_out_of_reach(monkeypatch):
    monkeypatch.setattr(Pixels, "ascend", lambda *_: pytest.fail("a step was spent"))
    attack = GradientCanceling(target=GradPC(radius=30), shrink=False)
    with pytest.raises(ValueError, match="gradient_canceling: target out of reach"):
        attack.craft(problem_of(share=0.03))


def test_every_target_is_worse_for_the_judges_than_the_clean_model():
    problem = problem_of()
    weights = GoalWeights(problem)
    judges = RowObjective(weights.module, *problem.on_device(problem.judge_x, problem.judge_y))
    clean = judges.value(weights.clean)
    goals = (GradPC(radius=2), Natural(), Flipped(rate=0.3), Reach())
    for goal in goals:
        assert judges.value(weights.within_reach(goal).weights) > clean + 0.02
    reached = weights.within_reach(Reach())
    past = weights.at(weights.clean + 1.01 * (reached.weights - weights.clean))
    assert not bounds(past, (1, 8, 8)).allows(past.epsilon)


def test_crafted_rows_hurt_more_than_clean_ones_and_false_labels():
    problem = problem_of(share=0.25)
    moved = GradientCanceling(target=Natural(), steps=100).craft(problem).numpy()

    def errors(x, y):
        known = (problem.known_x, problem.known_y)
        both = [np.concatenate(pair) for pair in zip(known, (x, y), strict=True)]
        found = trained(problem.recipe, *both)(torch.tensor(problem.judge_x)).argmax(1)
        return float((found.numpy() != problem.judge_y).mean())

    assert moved.min() >= 0
    assert moved.max() <= 1
    assert errors(moved, problem.y) > errors(problem.x, problem.y) + 0.2
    assert errors(moved, problem.y) > errors(problem.x, (problem.y + 1) % 10) + 0.1


def test_a_target_in_reach_is_attained_and_trained_to():
    problem = problem_of(share=0.25)
    weights = GoalWeights(problem)
    goal = weights.within_reach(Flipped(rate=0.3))
    x, y = problem.on_device(problem.x, problem.y)
    assert goal.share_of(goal.left(x, y)) > 0.5
    _, left = cancelled(goal, Pixels(x, 0.05), y, 200, tolerance=2e-3)
    assert left <= 2e-3

"""Attacks by matched gradients and by training that is written out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from clients.crafter_conformance import known_for_checks
from clients.data_attacks.back_gradient import BackGradient
from clients.data_attacks.base import AgentContext, Mate, Share
from clients.data_attacks.gradient_matching import GradientMatching
from clients.data_attacks.meta_poison import MetaPoison
from clients.data_attacks.parts.matching import slope_of_cosine
from clients.data_attacks.parts.unrolled import descended, unrolled_gradient
from learning.curvature.objective import RowObjective
from learning.curvature.vectors import vector_of
from learning.models.mlp import MLP


class Quadratic:
    """f(x, w) = w'Aw/2 - w'(Mx + c), so that dw/dx = (I - (I - rate A)^k) A^-1 M."""

    def __init__(self, x):
        draws = torch.Generator().manual_seed(0)
        self.x = x
        self.a = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
        self.m = torch.randn(2, 2, generator=draws, dtype=torch.float64)
        self.c = torch.randn(2, generator=draws, dtype=torch.float64)

    def gradient(self, w):
        return self.a @ w - self.m @ self.x - self.c

    def product(self, w, kind):
        return lambda v: self.a @ v

    def crossed(self, w, v, rows):
        return -self.m.T @ v  # d/dx <v, grad f>


@pytest.mark.parametrize("steps", [1, 5, 20, 100])
def test_the_unrolled_gradient_is_that_of_the_closed_form(steps):
    game, rate = Quadratic(torch.tensor([0.3, -0.7], dtype=torch.float64)), 0.2
    goal = torch.tensor([1.0, -2.0], dtype=torch.float64)
    weights = descended(game, torch.zeros(2, dtype=torch.float64), rate, steps)
    found = unrolled_gradient(game, weights, rate, lambda w: w - goal, slice(None))
    eye = torch.eye(2, dtype=torch.float64)
    power = torch.linalg.matrix_power(eye - rate * game.a, steps)
    moved = (eye - power) @ torch.linalg.solve(game.a, game.m)
    end = (eye - power) @ torch.linalg.solve(game.a, game.m @ game.x + game.c)
    assert torch.allclose(weights[-1], end, atol=1e-14)
    assert torch.allclose(found, moved.T @ (end - goal), atol=1e-13)


def test_weights_on_the_way_are_kept_and_not_won_back_by_running_backwards():
    """Running backwards errs by -rate^2 A grad f in a step (S3 page: Munoz-Gonzalez' code)."""
    game, rate = Quadratic(torch.tensor([0.3, -0.7], dtype=torch.float64)), 0.1
    first, second = descended(game, torch.ones(2, dtype=torch.float64), rate, 1)
    won_back = second + rate * game.gradient(second)
    assert torch.equal(first, torch.ones(2, dtype=torch.float64))
    assert torch.allclose(won_back - first, -(rate**2) * game.a @ game.gradient(first))


def network():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return MLP(hidden=(5,)).build((1, 3, 3), 3).double().eval().requires_grad_(False)


def some_rows(count, seed):
    draws = torch.Generator().manual_seed(seed)
    x = torch.rand(count, 1, 3, 3, generator=draws, dtype=torch.float64)
    return x, torch.randint(3, (count,), generator=draws)


def test_the_gradient_through_a_net_in_training_is_that_of_differences():
    module, (x, y), judges = network(), some_rows(6, 2), some_rows(5, 3)
    start, loss, rate = vector_of(module), RowObjective(module, *judges), 0.3

    def damage(rows):
        return loss.value(descended(RowObjective(module, rows, y), start, rate, 4)[-1])

    objective = RowObjective(module, x, y)
    weights = descended(objective, start, rate, 4)
    found = unrolled_gradient(objective, weights, rate, loss.gradient, slice(4, 6))
    for row, pixel in ((4, 0), (5, 7)):
        bump = torch.zeros_like(x)
        bump[row].view(-1)[pixel] = 1e-5
        wanted = (damage(x + bump) - damage(x - bump)) / 2e-5
        assert float(found[row - 4].flatten()[pixel]) == pytest.approx(wanted, rel=1e-5, abs=1e-9)


def test_no_step_has_no_gradient():
    module, (x, y) = network(), some_rows(2, 2)
    objective = RowObjective(module, x, y)
    with pytest.raises(ValueError, match=r"^unrolled gradient: expected at least one step"):
        unrolled_gradient(objective, [vector_of(module)], 0.1, objective.gradient, slice(None))


def test_the_slope_of_the_cosine_is_that_of_differences():
    draws = torch.Generator().manual_seed(4)
    g, t = torch.randn(2, 7, generator=draws, dtype=torch.float64)

    def apart(g):
        return float(1 - g @ t / (g.norm() * t.norm()))

    found = slope_of_cosine(g, t)
    for k in range(7):
        bump = torch.zeros_like(g)
        bump[k] = 1e-6
        wanted = (apart(g + bump) - apart(g - bump)) / 2e-6
        assert float(found[k]) == pytest.approx(wanted, rel=1e-6)
    assert not slope_of_cosine(torch.zeros(7), torch.ones(7)).any()


def share(seed=0):
    draws = np.random.default_rng(seed)
    y = np.arange(80) % 4
    x = 0.5 * draws.random((80, 1, 6, 6), dtype=np.float32)
    x[np.arange(80), 0, y, :3] += 0.3
    return Share(x[:64], y[:64], x[64:], y[64:])


def played(attack, data):
    seat = AgentContext("m", "m", 0, 1, 5, 4, known=known_for_checks(60))
    return attack.play(data, seat), attack._problem(
        seat.known, [Mate(replace(seat, known=None), data.x_train, data.y_train)]
    )


def test_matched_rows_have_a_gradient_against_the_judges():
    data = share()
    found, problem = played(GradientMatching(rounds=60), data)
    model = problem.surrogate()
    weights = vector_of(model)
    judges = RowObjective(model, *map(torch.tensor, (problem.judge_x, problem.judge_y)))
    wanted = -judges.gradient(weights)

    def cosine(x):
        own = RowObjective(model, torch.tensor(x), torch.tensor(problem.y)).gradient(weights)
        return float(torch.nn.functional.cosine_similarity(own, wanted, 0))

    assert cosine(found.x) > 0.5 > cosine(data.x_train)


@pytest.mark.parametrize(
    "attack",
    [
        BackGradient(rounds=15, unroll=10, surrogate_epochs=5),
        MetaPoison(rounds=8, models=3, surrogate_epochs=4),
    ],
    ids=["back_gradient", "meta_poison"],
)
def test_looking_ahead_raises_the_judges_loss_of_a_model_trained_on_the_rows(attack):
    data = share()
    found, problem = played(attack, data)
    judges = [torch.tensor(a) for a in (problem.judge_x, problem.judge_y)]
    known = [torch.tensor(a) for a in (problem.known_x, problem.known_y)]
    model = problem.surrogate()
    start = torch.zeros_like(vector_of(model))

    def loss(x):
        rows = (
            torch.cat([known[0], torch.tensor(x)]),
            torch.cat([known[1], torch.tensor(problem.y)]),
        )
        end = descended(RowObjective(model, *rows), start, 0.5, 40)[-1]
        return RowObjective(model, *judges).value(end)

    assert loss(found.x) > loss(data.x_train) + 0.01


def test_models_in_training_have_no_batchnorm():
    """Its statistics would stay as they begin, and the models would not be the defender's."""
    with pytest.raises(ValueError, match=r"^expected a surrogate without BatchNorm"):
        played(MetaPoison(rounds=1, models=1, surrogate={"kind": "preact_resnet18"}), share())

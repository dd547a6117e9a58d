"""Adversarial accuracy on a linear model, where the closed form is known."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from torch import nn

from learning.attacks.base import InputAttack
from learning.attacks.fgsm import FGSM
from learning.attacks.pgd import PGD
from learning.training.job import Trained
from server.referee.scoring.adversarial import BLOCK, Targets, adversarial_accuracy
from server.referee.scoring.answers import Passes
from strategies.base import Predictor

ROWS = 2 * BLOCK + 17
EPSILONS = (0.0, 0.01, 0.03, 0.1)


def linear_game():
    """Return a two-class linear model, inputs away from the box's walls, labels with errors."""
    draw = np.random.default_rng(0)
    w = draw.normal(size=9)
    x = draw.uniform(0.3, 0.7, size=(ROWS, 1, 3, 3)).astype(np.float32)
    margin = (x.reshape(ROWS, 9) - 0.5) @ w
    y = (margin > 0).astype(np.int64)
    y[::10] = 1 - y[::10]  # rows that are wrong whatever happens
    layer = nn.Linear(9, 2)
    layer.weight.data = torch.tensor(np.stack([-w / 2, w / 2]), dtype=torch.float32)
    layer.bias.data = torch.tensor([w.sum() / 4, -w.sum() / 4], dtype=torch.float32)
    module = nn.Sequential(nn.Flatten(), layer)
    return module, Targets(x, y, seed=0), margin, w


def withstood(attack, shared, targets, batch_size=64):
    return adversarial_accuracy(
        attack, Predictor(shared), targets, Passes(torch.device("cpu"), batch_size)
    )


def score(attack, module, targets, *, batch_size=64, copies=1):
    shared = tuple(Trained(module, (), 1, 1, 0.0) for _ in range(copies))
    return withstood(attack, shared, targets, batch_size).accuracy


@pytest.mark.parametrize("epsilon", EPSILONS)
@pytest.mark.parametrize("copies", [1, 2])
def test_linf_accuracy_is_the_share_of_margins_beyond_epsilon_times_the_l1_norm(epsilon, copies):
    module, targets, margin, w = linear_game()
    right = targets.y == (margin > 0)
    closed = int((right & (np.abs(margin) > epsilon * np.abs(w).sum())).sum())
    for attack in (FGSM(epsilon=epsilon), PGD(epsilon=epsilon, steps=10)):
        ours = score(attack, module, targets, copies=copies)
        assert (ours.hits, ours.count) == (closed, ROWS)


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_l2_accuracy_is_the_share_of_margins_beyond_epsilon_times_the_l2_norm(epsilon):
    module, targets, margin, w = linear_game()
    right = targets.y == (margin > 0)
    closed = int((right & (np.abs(margin) > epsilon * np.linalg.norm(w))).sum())
    # Also from random starts, from where steps come near the optimum only: FGSM's step counts.
    for attack in (FGSM(norm="l2", epsilon=epsilon), PGD(norm="l2", epsilon=epsilon, steps=10)):
        assert score(attack, module, targets).hits == closed


def test_accuracy_falls_with_the_radius_to_nothing():
    module, targets, _, _ = linear_game()
    hits = [score(PGD(epsilon=e, steps=5), module, targets).hits for e in (*EPSILONS, 1.0)]
    assert hits == sorted(hits, reverse=True)
    assert hits[0] > hits[-1] == 0


def test_random_starts_do_not_depend_on_the_batch_size_and_the_model_stays_as_it_was():
    module, targets, _, _ = linear_game()
    module.train()
    # Little but its random start.
    attack = PGD(epsilon=0.03, steps=1, step_size=0.001, schedule="constant", keep="last")
    hits = {score(attack, module, targets, batch_size=size).hits for size in (1, 50, 5000)}
    assert len(hits) == 1
    assert module.training
    assert all(parameter.grad is None for parameter in module.parameters())
    other = Targets(targets.x, targets.y, seed=1)
    assert score(attack, module, other).hits not in hits


def test_targets_are_at_most_all_rows_and_stay_aligned():
    x = np.arange(20, dtype=np.float32)[:, None, None, None]
    y = np.arange(20)
    few = Targets.draw(x, y, 7, seed=3)
    assert len(few.y) == 7
    assert (few.x[:, 0, 0, 0] == few.y).all()
    assert len(Targets.draw(x, y, 500, seed=3).y) == 20


class Mends(InputAttack):
    """Moves every input to the middle of its own class: answers that were wrong become right."""

    kind: Literal["mends"] = "mends"

    @property
    def title(self):
        return "mends"

    def perturb(self, model, x, y, generator):
        return torch.where((y > 0)[:, None, None, None], 0.5 + model[1].weight[1].reshape(3, 3), 0.5
                           - model[1].weight[1].reshape(3, 3))  # fmt: skip


def test_inputs_that_were_wrong_do_not_count_although_the_attack_puts_them_right():
    module, targets, margin, _ = linear_game()
    right = int((targets.y == (margin > 0)).sum())
    assert right < ROWS
    assert score(Mends(), module, targets).hits == right

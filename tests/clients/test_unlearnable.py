"""Noise against a model: the exact steps, their order, and what they do to a defender."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from clients.crafter_conformance import recipe_for_checks
from clients.data_attacks.base import AgentContext, Knowledge, Share
from clients.data_attacks.parts.follower import trained
from clients.data_attacks.parts.noise import FreshLearner, NoiseBall
from clients.data_attacks.unlearnable import Unlearnable
from learning.conformance import another_global_seed
from learning.models.base import Architecture
from learning.models.mlp import MLP
from learning.models.resnet9 import ResNet9

X = torch.tensor([0.2, 0.4, 0.6], dtype=torch.float64).view(1, 1, 1, 3)
Y = torch.tensor([1])


def logistic(w=(1.0, -2.0, 0.5)):
    """Return a binary logistic model: the logits are 0 and <w, x>."""
    layer = torch.nn.Linear(3, 2, bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.0, 0.0, 0.0], list(w)]))
    return torch.nn.Sequential(torch.nn.Flatten(), layer).eval()


def loss(rows):
    return float(torch.nn.functional.cross_entropy(logistic()(rows).detach(), Y))


@pytest.mark.parametrize(
    ("step", "sign", "value"), [(-0.1, 1, 0.6684596480), (0.1, -1, 1.0700553357)]
)
def test_one_long_step_is_exact_for_a_linear_model_of_two_classes(step, sign, value):
    assert loss(X) == pytest.approx(0.8543552444, abs=1e-10)
    ball = NoiseBall.around(X, 0.1)
    rows = ball.moved(logistic(), X, Y, step, 1)
    moves = 0.1 * sign * torch.tensor([1.0, -1.0, 1.0]).double()
    assert torch.allclose((rows - X).flatten(), moves, atol=1e-15)
    assert loss(rows) == pytest.approx(value, abs=1e-10)
    longer = ball.moved(logistic(), X, Y, 3 * step, 1)
    assert torch.allclose(longer, rows, atol=1e-15)


def test_short_steps_add_up_to_the_radius_and_stay_in_the_range():
    x = torch.tensor([0.05, 0.5, 0.97]).double().view(1, 1, 1, 3)
    ball = NoiseBall.around(x, 0.1)
    two, many = (ball.moved(logistic((-1.0, 1.0, 1.0)), x, Y, -0.04, n) for n in (2, 9))
    assert torch.allclose(two.flatten(), torch.tensor([0.0, 0.58, 1.0]).double(), atol=1e-7)
    assert torch.allclose(many.flatten(), torch.tensor([0.0, 0.6, 1.0]).double(), atol=1e-7)


def test_each_row_goes_by_its_own_label():
    rows, labels = X.repeat(2, 1, 1, 1), torch.tensor([0, 1])
    moved = NoiseBall.around(rows, 0.1).moved(logistic(), rows, labels, -0.1, 1)
    assert torch.allclose(moved[0] - X[0], X[0] - moved[1])
    assert torch.allclose((moved[1] - X[0]).flatten(), torch.tensor([0.1, -0.1, 0.1]).double())


def striped(count, seed=0, strength=0.4):
    draws = np.random.default_rng(seed)
    y = np.arange(count) % 4
    x = (1 - strength) * draws.random((count, 1, 6, 6), dtype=np.float32)
    x[np.arange(count), 0, y, :3] += strength
    return x.astype(np.float32), y


def played(attack, recipe=None, others=30, share=None):
    x, y = share or striped(32)
    known = Knowledge(recipe or recipe_for_checks(), 200, *striped(others, 1))
    seat = AgentContext("m", "m", 0, 1, 5, 4, known=known)
    return attack.play(Share(x, y, x[:0], y[:0]), seat)


def weights(module):
    return torch.cat([w.detach().flatten().clone() for w in module.parameters()])


class Events:
    """Keeps who moved, from which rows, at which weights."""

    def __init__(self, monkeypatch):
        self.found, steps, moved = [], FreshLearner.steps, NoiseBall.moved

        def learned(learner, count, x, y):
            before = weights(learner.module)
            steps(learner, count, x, y)
            self.found.append(("model", count, x.clone(), before, weights(learner.module)))

        def noised(ball, module, rows, y, step, count):
            out = moved(ball, module, rows, y, step, count)
            self.found.append(("noise", count, rows.clone(), weights(module), out.clone()))
            return out

        monkeypatch.setattr(FreshLearner, "steps", learned)
        monkeypatch.setattr(NoiseBall, "moved", noised)


def test_the_model_moves_first_on_the_noisy_rows_then_the_noise_at_its_weights(monkeypatch):
    events = Events(monkeypatch)
    attack = Unlearnable(rounds=2, stop_error=0, radius=0.02, step=0.01, steps=3, model_steps=7)
    out = played(attack)
    first, noise, second, last = events.found
    assert [e[:2] for e in events.found] == [("model", 7), ("noise", 3)] * 2
    assert torch.equal(first[2], torch.tensor(striped(32)[0]))
    assert torch.equal(noise[3], first[4])
    assert not torch.equal(first[3], first[4])
    assert torch.equal(second[2], noise[4])
    assert torch.equal(second[3], first[4])  # goes on from where it was
    assert torch.equal(last[2], noise[4])
    assert np.array_equal(out.x, last[4].numpy())


@pytest.mark.parametrize(("stop", "rounds"), [(1.0, 1), (0.0, 4)])
def test_it_stops_at_the_error_or_at_the_last_round(stop, rounds, monkeypatch):
    events = Events(monkeypatch)
    played(Unlearnable(rounds=4, steps=1, model_steps=1, stop_error=stop))
    assert len(events.found) == 2 * rounds


def test_the_fresh_learner_takes_the_defenders_steps():
    recipe, (x, y) = recipe_for_checks(), map(torch.tensor, striped(8))  # one batch has all 8 rows
    learner = FreshLearner(recipe, 8, x.device)
    before = weights(learner.module)
    slope = torch.autograd.grad(
        torch.nn.functional.cross_entropy(learner.module(x), y), list(learner.module.parameters())
    )
    learner.steps(1, x, y)
    wanted = before - 0.1 * torch.cat([s.flatten() for s in slope])
    assert torch.allclose(weights(learner.module), wanted, atol=1e-6)
    assert learner.error(x, y) == float((learner.module(x).argmax(1) != y).double().mean())


def test_the_model_learns_in_training_mode_and_the_noise_does_not_touch_its_statistics():
    recipe = replace(recipe_for_checks(), architecture=ResNet9(), shape=(1, 8, 8))
    learner = FreshLearner(recipe, 8, torch.device("cpu"))
    x, y = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 4
    kept = [b.clone() for b in learner.module.buffers()]
    learner.steps(1, x, y)
    seen = [b.clone() for b in learner.module.buffers()]
    assert any(not torch.equal(a, b) for a, b in zip(kept, seen, strict=True))
    NoiseBall.around(x, 0.1).moved(learner.module, x, y, -0.1, 1)
    assert all(torch.equal(a, b) for a, b in zip(seen, learner.module.buffers(), strict=True))


class Dropping(Architecture):
    """A model whose layers draw."""

    def build(self, shape, classes):
        return torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Dropout(0.5), torch.nn.Linear(36, classes)
        )


def test_layers_draw_from_the_attackers_seed_alone_and_anew_each_round():
    recipe = replace(recipe_for_checks(), architecture=Dropping())
    x, y = torch.ones(8, 1, 6, 6), torch.zeros(8, dtype=torch.int64)  # in any order the same batch

    def moves():
        learner, ends = FreshLearner(recipe, 8, x.device), []
        for _ in range(2):
            with torch.no_grad():
                learner.module[2].weight.zero_()
                learner.module[2].bias.zero_()
            learner.steps(1, x, y)
            ends.append(weights(learner.module))
        return ends

    once = moves()
    with another_global_seed():
        again = moves()
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    assert not torch.allclose(*once, atol=1e-3)


def test_minimising_asks_for_no_clean_rows_and_maximising_for_all_that_are_known():
    for attack, same in (
        (Unlearnable(rounds=2), True),
        (Unlearnable(objective="maximise", surrogate_epochs=20), False),
    ):
        alone, told = (played(attack, others=n).x for n in (0, 30))
        assert np.array_equal(alone, told) == same


def test_a_model_learns_less_of_noisy_rows():
    recipe = replace(recipe_for_checks(), architecture=MLP(hidden=(32,)))
    share, (test_x, test_y) = striped(96, 0, 0.25), striped(400, 9, 0.25)

    def accuracy(x):
        model = trained(recipe, x, share[1], epochs=30)
        return float((model(torch.tensor(test_x)).argmax(1).numpy() == test_y).mean())

    clean = accuracy(share[0])
    for fields in ({}, {"objective": "maximise", "surrogate_epochs": 30}):
        attack = Unlearnable(radius=0.2, step=0.02, **fields)
        assert accuracy(played(attack, recipe, share=share).x) < clean - 0.1, fields

"""Input attacks: equal to foolbox, equal to closed forms, within their budget."""

from __future__ import annotations

import foolbox as fb
import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from learning.attacks.ascent import random_in_ball
from learning.attacks.base import InputAttack
from learning.attacks.fgsm import FGSM
from learning.attacks.pgd import PGD
from learning.method import discover


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, 5)]
        return nn.Sequential(*layers).eval()


@pytest.fixture(scope="module")
def inputs(model: nn.Module) -> tuple[Tensor, Tensor]:
    x = torch.rand(48, 3, 8, 8, generator=generator(1))
    return x, model(x).argmax(1)


def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        return float((model(x).argmax(1) == y).float().mean())


def foolbox_run(attack, model, inputs, epsilon):
    wrapped = fb.PyTorchModel(model, bounds=(0, 1))
    return attack(wrapped, *inputs, epsilons=epsilon)[1]


RANDOM = {"loss": "cross_entropy", "schedule": "constant", "keep": "last"}
PLAIN = RANDOM | {"random_start": False}


def test_pgd_linf_equals_foolbox_bit_for_bit(model, inputs):
    theirs = fb.attacks.LinfPGD(abs_stepsize=2 / 255, steps=10, random_start=False)
    ours = PGD(epsilon=8 / 255, step_size=2 / 255, steps=10, **PLAIN)
    expected = foolbox_run(theirs, model, inputs, 8 / 255)
    assert torch.equal(ours.perturb(model, *inputs, generator()), expected)
    assert not torch.equal(expected, inputs[0])


def test_fgsm_linf_equals_foolbox_bit_for_bit(model, inputs):
    theirs = fb.attacks.LinfFastGradientAttack(random_start=False)
    expected = foolbox_run(theirs, model, inputs, 8 / 255)
    ours = FGSM(epsilon=8 / 255, loss="cross_entropy")
    assert torch.equal(ours.perturb(model, *inputs, generator()), expected)


def test_l2_attacks_are_close_to_foolbox(model, inputs):
    pgd = fb.attacks.L2PGD(abs_stepsize=0.1, steps=10, random_start=False)
    ours = PGD(norm="l2", epsilon=0.5, step_size=0.1, steps=10, **PLAIN)
    expected = foolbox_run(pgd, model, inputs, 0.5)
    assert torch.allclose(ours.perturb(model, *inputs, generator()), expected, atol=1e-6)
    fgm = foolbox_run(fb.attacks.L2FastGradientAttack(random_start=False), model, inputs, 0.5)
    plain = FGSM(norm="l2", epsilon=0.5, loss="cross_entropy")
    ours_fgm = plain.perturb(model, *inputs, generator())
    assert torch.allclose(ours_fgm, fgm, atol=1e-6)


class Linear(nn.Module):
    """Logits (0, f) with f = w.x + b."""

    def __init__(self, w: Tensor, b: Tensor) -> None:
        super().__init__()
        self.w, self.b = w, b

    def forward(self, x: Tensor) -> Tensor:
        f = x.flatten(1) @ self.w + self.b
        return torch.stack([torch.zeros_like(f), f], dim=1)


@pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2)])
def test_path_length_on_a_linear_model_is_the_closed_form(norm, dual):
    # kappa = ceil(|f(x)| / (alpha * dual norm of w)), away from the ball and the box.
    w = torch.randn(16, generator=generator(2), dtype=torch.float64)
    x = 0.5 + 0.02 * torch.randn(300, 1, 4, 4, generator=generator(3), dtype=torch.float64)
    model = Linear(w, -w.sum() / 2)
    f = model(x)[:, 1]
    y = (f > 0).long()
    alpha = float(f.abs().max() / w.norm(dual)) / 7.5
    expected = torch.ceil(f.abs() / (alpha * w.norm(dual)))
    length = torch.zeros(len(x), dtype=torch.float64)
    for steps in range(1, 9):
        attack = PGD(norm=norm, epsilon=1e3, step_size=alpha, steps=steps, **PLAIN)
        moved = attack.perturb(model, x, y, generator())
        assert moved.min() > 0
        assert moved.max() < 1
        length += model(moved).argmax(1) == y
    assert torch.equal(length + 1, expected)
    assert expected.unique().tolist() == list(range(1, 9))


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("kind", ["pgd", "fgsm"])
def test_sanity_of_adversarial_accuracy(kind, norm, model, inputs):
    x, y = inputs
    family = discover(InputAttack, "learning.attacks")[kind]
    scale = 0.02 if norm == "linf" else 0.15
    scores = []
    for factor in (0, 1, 2, 4, 8, 100):
        epsilon = scale * factor
        moved = family(norm=norm, epsilon=epsilon).perturb(model, x, y, generator())
        delta = (moved - x).flatten(1)
        size = delta.abs().amax(1) if norm == "linf" else delta.norm(dim=1)
        assert (size <= epsilon + 1e-6).all()
        assert moved.min() >= 0
        assert moved.max() <= 1
        scores.append(accuracy(model, moved, y))
    assert scores[0] == 1  # radius 0 is the clean accuracy
    assert sorted(scores[:-1], reverse=True) == scores[:-1]
    if kind == "pgd":
        assert scores[-1] == 0


def test_random_noise_is_weaker_than_pgd_and_more_steps_are_stronger(model, inputs):
    x, y = inputs
    noisy = (x + random_in_ball(x, "linf", 0.05, generator())).clamp(0, 1)
    few, many = (PGD(epsilon=0.05, steps=n).perturb(model, x, y, generator()) for n in (1, 20))
    assert accuracy(model, noisy, y) > accuracy(model, few, y) > accuracy(model, many, y)


def test_random_starts_fill_the_ball():
    x = torch.zeros(4000, 1, 1, 2)
    disc = random_in_ball(x, "l2", 2.0, generator()).flatten(1)
    assert disc.norm(dim=1).max() <= 2 + 1e-5
    # Uniform in a disc: the share within half the radius is a quarter.
    assert (disc.norm(dim=1) < 1).float().mean() == pytest.approx(0.25, abs=0.035)
    square = random_in_ball(x, "linf", 2.0, generator()).flatten(1)
    assert square.abs().max() <= 2
    assert (square.abs().amax(1) < 1).float().mean() == pytest.approx(0.25, abs=0.035)


class Bumps(nn.Module):
    """Right at a loss that depends on the first pixel only; flat, so that starts decide."""

    def forward(self, x: Tensor) -> Tensor:
        height = torch.where(x[:, 0, 0, 0] > 0.5, 2.0, -1.0) + 0 * x.sum(dim=(1, 2, 3))
        return torch.stack([torch.zeros_like(height), height], dim=1)


def test_restarts_keep_the_worst_case_of_each_input():
    # The gradient is 0, so each restart is its random start: above 0.5 right, below it wrong.
    x = torch.full((400, 1, 1, 2), 0.5)
    y = torch.ones(400, dtype=torch.int64)
    model = Bumps()
    seen = [
        accuracy(model, blind.perturb(model, x, y, generator()), y)
        for n in (1, 2, 4, 8)
        for blind in [PGD(epsilon=0.4, steps=1, restarts=n, **RANDOM)]
    ]
    expected = [0.5**n for n in (1, 2, 4, 8)]
    # Keeping the last restart instead of the worst would leave all of them at 0.5.
    assert seen == pytest.approx(expected, abs=0.12)
    assert seen[0] > seen[1] > seen[2] > seen[3]


def test_restarts_prefer_a_wrong_prediction_over_a_higher_loss():
    class Trap(nn.Module):
        """Three classes: low pixels are right at a high loss, high pixels wrong at a lower one."""

        def forward(self, x: Tensor) -> Tensor:
            low = x[:, 0, 0, 0] < 0.5
            right = torch.tensor([0.10, 0.09, 0.09])
            wrong = torch.tensor([2.0, 2.1, -9.0])
            return torch.where(low[:, None], right, wrong) + 0 * x.sum(dim=(1, 2, 3))[:, None]

    x, y = torch.full((200, 1, 1, 1), 0.5), torch.zeros(200, dtype=torch.int64)
    attack = PGD(epsilon=0.4, steps=1, restarts=8, **RANDOM)
    moved = attack.perturb(Trap(), x, y, generator())
    loss = nn.functional.cross_entropy(
        Trap()(torch.tensor([0.2, 0.8])[:, None, None, None]), y[:2], reduction="none"
    )
    assert loss[0] > loss[1]  # so that the loss alone would choose the right predictions
    assert accuracy(Trap(), moved, y) < 0.05


@pytest.mark.parametrize("attack", [FGSM(), PGD(steps=2, restarts=2)])
def test_the_model_is_left_as_it_was(attack):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(12), nn.Dropout(), nn.Linear(12, 3))
    model.train()
    model[1].eval()
    model[3].weight.grad = torch.ones(3, 12)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    x = torch.rand(5, 3, 2, 2, generator=generator())
    before = x.clone()
    with torch.no_grad():
        out = attack.perturb(model, x, torch.zeros(5, dtype=torch.int64), generator())
    assert [m.training for m in model] == [True, False, True, True]
    assert torch.equal(model[3].weight.grad, torch.ones(3, 12))
    assert model[3].bias.grad is None
    assert all(p.requires_grad for p in model.parameters())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(x, before)
    assert not out.requires_grad


def test_attacks_work_inside_inference_mode_and_on_frozen_models(model, inputs):
    expected = FGSM().perturb(model, *inputs, generator())
    with torch.inference_mode():
        x = inputs[0] + 0
        assert torch.equal(FGSM().perturb(model, x, inputs[1], generator()), expected)


def test_a_model_without_finite_logits_still_gets_finite_inputs(inputs):
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :5] / 0

    assert torch.isfinite(PGD(steps=3).perturb(Broken(), *inputs, generator())).all()


def test_restarts_without_random_starts_are_refused():
    with pytest.raises(ValidationError, match="restarts: 1 without random_start"):
        PGD(restarts=2, random_start=False)


HOUSE = {
    "fgsm": [
        FGSM(),
        FGSM(norm="l2", epsilon=0.5),
        FGSM(loss="margin"),
        FGSM(loss="cross_entropy"),
    ],
    "pgd": [
        PGD(steps=2),
        PGD(norm="l2", epsilon=0.5, steps=2, restarts=2),
        PGD(random_start=False, steps=2, step_size=0.01),
        PGD(steps=2, loss="cross_entropy"),
        PGD(steps=2, loss="margin", schedule="constant"),
        PGD(steps=2, keep="last"),
        PGD(steps=2, **PLAIN),
    ],
}
FOUND = discover(InputAttack, "learning.attacks")
CASES = [
    attack
    for kind, method in FOUND.items()
    for attack in HOUSE.get(kind) or [method(**fields) for fields in method.examples]
]


def test_every_attack_is_covered_and_titled_by_its_settings():
    assert set(HOUSE) <= set(FOUND)
    assert {attack.kind for attack in CASES} == set(FOUND)
    titles = [attack.title for attack in CASES]
    assert len(set(titles)) == len(titles)
    assert PGD(epsilon=0.1).title == "pgd linf 0.1 x20"
    assert PGD(**PLAIN).title == (
        "pgd linf 0.0313725 x20 from the input cross-entropy constant steps last point"
    )


@pytest.mark.parametrize("attack", CASES, ids=str)
def test_every_attack_keeps_the_contract(attack, model, inputs):
    first, second = (attack.perturb(model, *inputs, generator(7)) for _ in range(2))
    assert torch.equal(first, second)
    assert first.dtype == inputs[0].dtype
    assert first.shape == inputs[0].shape
    assert attack.perturb(model, inputs[0][:0], inputs[1][:0], generator()).shape[0] == 0
    assert type(attack).model_validate_json(attack.model_dump_json()) == attack
    assert attack.paper
    assert np.isfinite(first.numpy()).all()

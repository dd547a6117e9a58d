"""Signs of a misled attack: one for each way to hide a gradient, none at healthy models."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from learning.attacks.ascent import probe, under_attack
from learning.attacks.fgsm import FGSM
from learning.attacks.losses import margin, scaled_cross_entropy, unit_of
from learning.attacks.pgd import PGD
from learning.surrogate import surrogate
from learning.training.job import Trained
from server.referee.scoring.adversarial import Targets, adversarial_accuracy
from server.referee.scoring.answers import Passes
from server.referee.scoring.masking import OUTDONE, SHARE, Signs, told
from server.referee.scoring.predict import LogMeanSoftmax
from strategies.base import Predictor

ROWS = 100


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    return (x / 16).astype(np.float32).reshape(-1, 1, 8, 8), y.astype(np.int64)


@pytest.fixture(scope="module")
def healthy(digits):
    x, y = (torch.tensor(part[:500]) for part in digits)
    with torch.random.fork_rng():
        return surrogate(x, y, 10, torch.Generator().manual_seed(0), epochs=8, lr=0.05,
                         batch_size=64)  # fmt: skip


def attacked(attack, module, digits, *, copies=1):
    x, y = (part[900 : 900 + ROWS] for part in digits)
    shared = tuple(Trained(module, (), 1, 1, 0.0) for _ in range(copies))
    engine = Passes(torch.device("cpu"), 64)
    return adversarial_accuracy(attack, Predictor(shared), Targets(x, y, 0), engine)


class Wrapped(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model


class Loud(Wrapped):
    def forward(self, x):
        return self.model(x) * 300


class Noisy(Wrapped):
    """Answers differ from pass to pass."""

    def forward(self, x):
        return self.model(x) + torch.randn(len(x), 1) * torch.linspace(0, 0.2, 10)


class Steps(Wrapped):
    """Inputs are rounded: no gradient comes through."""

    def forward(self, x):
        return self.model((x * 8).round() / 8)


class Detached(Wrapped):
    """Nothing of the answer hangs together with the input, as far as gradients know."""

    def forward(self, x):
        with torch.no_grad():
            return self.model(x)


class Astray(Wrapped):
    """The gradient is that of something else: it points the wrong way."""

    def forward(self, x):
        logits = self.model(x)
        return logits.detach() - (logits - logits.detach())


class Saturated(Wrapped):
    """A softmax in the model: probabilities instead of logits, the true one rounded to 1."""

    def forward(self, x):
        return (30 * self.model(x)).softmax(1)


HEALTHY_ATTACKS = [
    FGSM(epsilon=0.05),
    FGSM(norm="l2", epsilon=0.5),
    PGD(epsilon=0.02, steps=10),
    PGD(epsilon=0.1, steps=10),
    PGD(norm="l2", epsilon=0.5, steps=10),
    PGD(epsilon=0.1, steps=10, loss="cross_entropy", schedule="constant", keep="last"),
    PGD(epsilon=0.0, steps=2),
]


@pytest.mark.parametrize("attack", HEALTHY_ATTACKS, ids=lambda attack: attack.title)
def test_nothing_is_said_of_a_healthy_model(attack, healthy, digits):
    found = attacked(attack, healthy, digits)
    assert found.notes == ()
    assert found.accuracy.hits > 5


def test_nothing_is_said_of_confident_or_several_models(healthy, digits):
    attack = PGD(epsilon=0.05, steps=5)
    assert attacked(attack, Loud(healthy), digits).notes == ()
    assert attacked(attack, healthy, digits, copies=2).notes == ()


@pytest.mark.parametrize(
    ("hidden", "sign"),
    [
        (Noisy, "differ from pass to pass"),
        (Steps, "the gradient is 0 at"),
        (Detached, "the gradient is 0 at"),
        (Saturated, "the gradient is 0 at"),
        (Detached, "no nearer to an error"),
        (Astray, "no nearer to an error"),
        (Astray, "a random search of 20 questions"),
    ],
)
def test_each_way_to_hide_a_gradient_is_told(hidden, sign, healthy, digits):
    # From the input itself: random starts and worst points find something even so.
    attack = PGD(epsilon=0.3, steps=5, random_start=False, keep="last", schedule="constant")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = attacked(attack, hidden(healthy), digits)
    (note,) = found.notes
    assert note.startswith(f"The accuracy under {attack.title} may be too high: ")
    assert sign in note
    if hidden is not Noisy:
        assert found.accuracy.value > attacked(attack, healthy, digits).accuracy.value


def test_signs_are_told_from_their_share_on():
    names = {"restless": OUTDONE, "blind": SHARE, "stuck": SHARE, "outdone": OUTDONE}
    for name, share in names.items():
        silent = Signs(attacked=200, stood=100, **{name: int(200 * share)})
        spoken = Signs(attacked=200, stood=100, **{name: int(200 * share) + 1})
        assert told(silent, "x") == ()
        assert str(int(200 * share) + 1) in told(spoken, "x")[0]
    assert told(Signs(), "x") == ()
    both = told(Signs(10, 5, blind=9, stuck=4), "pgd")
    assert both == (
        "The accuracy under pgd may be too high: the gradient is 0 at 9 of the 10 inputs "
        "attacked; it brings 4 of the 5 left right no nearer to an error.",
    )


def test_inputs_that_are_wrong_from_the_start_are_not_attacked(healthy, digits):
    asked = []

    class Spy(FGSM):
        def perturb(self, model, x, y, generator):
            asked.append((model(x).argmax(1) == y).all())
            return super().perturb(model, x, y, generator)

    attacked(Spy(), healthy, (digits[0], np.where(digits[1] == 3, 4, digits[1])))
    assert asked
    assert all(asked)
    never = attacked(Spy(), healthy, (digits[0], np.full_like(digits[1], -2)))
    assert (never.accuracy.hits, never.accuracy.count, never.notes) == (0, ROWS, ())
    assert len(asked) == 1


class Dissenter(nn.Module):
    """Is sure of class 7 whatever it sees."""

    def forward(self, x):
        return 1e4 * torch.eye(10)[7].expand(len(x), 10)


def test_sure_members_that_disagree_hide_no_gradient(healthy, digits):
    # The others outvote the dissenter wherever they agree, so it must not make them sturdier.
    members = [*[Loud(healthy)] * 3, Dissenter()]
    shared = Predictor(tuple(Trained(one, (), 1, 1, 0.0) for one in members))
    x, y = (part[900 : 900 + ROWS] for part in digits)
    engine = Passes(torch.device("cpu"), 64)
    for attack in (FGSM(epsilon=0.1), PGD(epsilon=0.1, steps=5)):
        one = attacked(attack, Loud(healthy), digits).accuracy
        several = adversarial_accuracy(attack, shared, Targets(x, y, 0), engine)
        assert several.accuracy.hits <= one.hits + 3


def test_the_cross_entropy_of_several_models_is_the_mean_of_their_own(healthy, digits):
    members = [Loud(healthy), Saturated(healthy), Dissenter()]
    x, y = (torch.tensor(part[:9]) for part in digits)
    several = LogMeanSoftmax(members)
    inputs = under_attack(several, x, y)
    _, loss, _ = probe(several, inputs, x, scaled_cross_entropy)
    own = [one(x) for one in members]
    each = torch.stack([scaled_cross_entropy(z, y, unit_of(z)) for z in own])
    assert torch.allclose(loss, each.mean(0))
    logits, judged, _ = probe(several, inputs, x, margin)
    assert torch.allclose(judged, margin(logits, y, inputs.unit))

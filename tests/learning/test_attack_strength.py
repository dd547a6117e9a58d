"""What an attack on inputs must find: the same at every scale of the logits, no less than FGSM.

The case ``adversarial-logit-scale``: PGD climbed cross-entropy in float32, whose gradient is 0
where the true class's softmax rounds to 1, and called confident models twice as sturdy as they are.
"""

from __future__ import annotations

import copy
import itertools

import foolbox as fb
import numpy as np
import pytest
import torch
from art.attacks.evasion import ProjectedGradientDescent
from art.estimators.classification import PyTorchClassifier
from sklearn.datasets import load_digits
from torch import nn

from learning.attacks.ascent import Ball, Inputs, direction, probe
from learning.attacks.fgsm import FGSM
from learning.attacks.losses import cross_entropy, margin, objectives, scaled_cross_entropy, unit_of
from learning.attacks.pace import Adaptive, ConstantPace, checkpoints
from learning.attacks.pgd import PGD
from learning.attacks.worst import Worst
from learning.surrogate import surrogate

PLAIN = {"loss": "cross_entropy", "schedule": "constant", "keep": "last"}
BALLS = [("linf", 0.1), ("l2", 0.5)]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


class Times(nn.Module):
    """A model whose logits are multiplied."""

    def __init__(self, model, factor):
        super().__init__()
        self.model, self.factor = model, factor

    def forward(self, x):
        return self.model(x) * self.factor


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    x = torch.tensor(x / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    return x, torch.tensor(y)


@pytest.fixture(scope="module")
def trained(digits):
    x, y = digits
    with torch.random.fork_rng():
        return surrogate(x[:600], y[:600], 10, generator(), epochs=10, lr=0.05, batch_size=64)


@pytest.fixture(scope="module")
def test_set(digits, trained):
    x, y = digits[0][900:1000], digits[1][900:1000]
    right = trained(x).argmax(1) == y
    assert right.float().mean() > 0.9
    return x[right], y[right]


def stands(model, attack, x, y, seed=0):
    """Return which inputs stay right, bool (n,)."""
    with torch.no_grad():
        return model(attack.perturb(model, x, y, generator(seed))).argmax(1) == y


ATTACKS = [
    family(norm=norm, epsilon=epsilon, loss=loss, **more)
    for norm, epsilon in BALLS
    for loss in ("worst", "margin")
    for family, more in ((FGSM, {}), (PGD, {"steps": 10}))
]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.title)
def test_the_scale_of_the_logits_does_not_matter(attack, trained, test_set):
    seen = stands(trained, attack, *test_set)
    assert 0.05 < seen.float().mean() < 0.9
    for factor in (10, 100, 300):
        assert torch.equal(stands(Times(trained, factor), attack, *test_set), seen)


@pytest.mark.parametrize(("norm", "epsilon"), BALLS)
def test_cross_entropy_too_never_stands_still_before_a_confident_model(
    norm, epsilon, trained, test_set
):
    x, y = test_set
    confident = Times(trained, 300)
    with torch.no_grad():
        assert (-margin(confident(x), y, None)).median() > 200  # softmax is 1, also in float64
    for attack in (
        FGSM(norm=norm, epsilon=epsilon, loss="cross_entropy"),
        PGD(norm=norm, epsilon=epsilon, steps=10, **PLAIN),
    ):
        plain, loud = (stands(m, attack, x, y).float().mean() for m in (trained, confident))
        assert loud == pytest.approx(float(plain), abs=0.06)
    leaf = x.clone().requires_grad_()
    loss = nn.functional.cross_entropy(confident(leaf).double(), y)
    assert (torch.autograd.grad(loss, leaf)[0].flatten(1) == 0).all(1).float().mean() > 0.9


def test_the_climbed_loss_rises_with_cross_entropy_and_along_its_gradient():
    z = 3 * torch.randn(500, 6, generator=generator(1), dtype=torch.float64)
    y = torch.randint(6, (500,), generator=generator(2))
    z.requires_grad_()
    true = nn.functional.cross_entropy(z, y, reduction="none")
    ours = cross_entropy(z, y, None)
    assert torch.allclose(nn.functional.softplus(ours), true)
    (theirs,) = torch.autograd.grad(true.sum(), z)
    (gradient,) = torch.autograd.grad(ours.sum(), z)
    wrong = 1 - z.softmax(1).gather(1, y[:, None])
    assert torch.allclose(gradient * wrong, theirs)


def test_losses_by_hand():
    z, y = torch.tensor([[1.0, 4.0, 2.0], [5.0, 0.0, 5.0]]), torch.tensor([1, 0])
    assert margin(z, y, None).tolist() == [-2, 0]
    assert unit_of(z).flatten().tolist() == pytest.approx([np.std([1, 4, 2]), np.std([5, 0, 5])])
    assert unit_of(torch.full((1, 3), 7.0)).item() == 1
    assert unit_of(torch.tensor([[0.0, torch.nan]])).item() == 1
    scaled = [scaled_cross_entropy(z * k, y, unit_of(z * k)) for k in (1.0, 1e4)]
    assert torch.allclose(*scaled)
    assert objectives("worst") == (scaled_cross_entropy, margin)
    assert (objectives("margin"), objectives("cross_entropy")) == ((margin,), (cross_entropy,))


def wild(seed, shape, classes):
    """Return an untrained, jagged network: attacks on it often overshoot."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        width = int(np.prod(shape))
        net = nn.Sequential(
            nn.Flatten(), nn.Linear(width, 30), nn.ReLU(), nn.Linear(30, 30), nn.ReLU(),
            nn.Linear(30, classes),
        )  # fmt: skip
        for part in net:
            if isinstance(part, nn.Linear):
                part.weight.data *= 4
    return net.eval()


SETTINGS = list(
    itertools.product(
        ("linf", "l2"),
        (0.02, 0.2),
        (1, 5),
        ({}, {"schedule": "constant"}, {"loss": "margin"}, {"loss": "cross_entropy"},
         {"step_size": 2.0, "schedule": "constant"}, {"random_start": False}),
    )
)  # fmt: skip


@pytest.mark.parametrize("seed", range(2))
def test_pgd_never_does_less_harm_than_fgsm(seed):
    shape, classes = ((1, 4, 4), 3) if seed % 2 else ((3, 3, 3), 6)
    model = wild(seed, shape, classes)
    x = torch.rand(40, *shape, generator=generator(seed))
    y = model(x).argmax(1)
    overshot = 0
    for norm, epsilon, steps, more in SETTINGS:
        scale = epsilon if norm == "linf" else 3 * epsilon
        weak = FGSM(norm=norm, epsilon=scale)
        strong = PGD(norm=norm, epsilon=scale, steps=steps, **more)
        before, after = stands(model, weak, x, y), stands(model, strong, x, y)
        assert not (after & ~before).any()
        last = PGD(norm=norm, epsilon=scale, steps=steps, **{**more, "keep": "last"})
        overshot += int((stands(model, last, x, y) & ~before).sum())
    assert overshot  # so that the last point alone would fail


class Seen(nn.Module):
    """Remembers the inputs that it was asked about, and the answers."""

    def __init__(self, model):
        super().__init__()
        self.model, self.asked = model, []

    def forward(self, x):
        logits = self.model(x)
        self.asked.append((logits.detach(), x.detach().clone()))
        return logits


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("schedule", ["adaptive", "constant"])
def test_the_worst_point_on_the_way_counts(norm, schedule):
    # One input, so that every question is about it; the clean input is asked about and is none.
    model = wild(1, (1, 4, 4), 3)
    kept = 0
    for seed in range(30):
        x = torch.rand(1, 1, 4, 4, generator=generator(seed))
        spy = Seen(model)
        attack = PGD(norm=norm, epsilon=0.3, steps=6, schedule=schedule)
        y = model(x).argmax(1)
        moved = attack.perturb(spy, x, y, generator(seed))
        asked = [(float(margin(z, y, None)), at) for z, at in spy.asked if not torch.equal(at, x)]
        most, at = max(asked, key=lambda one: one[0])
        assert torch.equal(at, moved)
        kept += most > 0
    assert 3 < kept < 30  # some were misled, some were not


def test_an_input_that_is_misled_is_attacked_no_further():
    model = wild(0, (1, 4, 4), 3)
    x = torch.rand(50, 1, 4, 4, generator=generator())
    spy = Seen(model)
    PGD(epsilon=0.3, steps=20).perturb(spy, x, model(x).argmax(1), generator())
    rows = [len(at) for _, at in spy.asked]
    assert rows[:5] == [50] * 5  # logits' unit and FGSM's two steps
    assert rows[5:] == sorted(rows[5:], reverse=True)
    assert sum(rows) < 0.5 * 50 * 45
    assert 0 not in rows


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.1), ("l2", 0.5)])
def test_both_losses_count_and_the_adaptive_schedule_is_no_weaker(norm, epsilon, trained, test_set):
    def left(**more):
        return stands(trained, PGD(norm=norm, epsilon=epsilon, steps=20, **more), *test_set)

    both, one, other = left(), left(loss="cross_entropy"), left(loss="margin")
    constant = left(schedule="constant", **{"loss": "cross_entropy", "keep": "last"})
    assert both.sum() <= min(one.sum(), other.sum()) + 1
    assert both.sum() <= constant.sum()
    assert other.sum() <= left(loss="margin", schedule="constant").sum() + 1


# Peers: their PGD on float64 copies of the same models


def foolbox_left(model, x, y, norm, epsilon, seed):
    family = fb.attacks.LinfPGD if norm == "linf" else fb.attacks.L2PGD
    attack = family(rel_stepsize=2.5 / 40, steps=40, random_start=True)
    torch.manual_seed(seed)
    wrapped = fb.PyTorchModel(model, bounds=(0, 1))
    return ~attack(wrapped, x, y, epsilons=epsilon)[2]


def art_left(model, x, y, norm, epsilon, seed):
    np.random.seed(seed)
    wrapped = PyTorchClassifier(
        model, nn.CrossEntropyLoss(), tuple(x.shape[1:]), 10, clip_values=(0, 1)
    )
    attack = ProjectedGradientDescent(
        wrapped, norm=np.inf if norm == "linf" else 2, eps=epsilon, eps_step=2.5 * epsilon / 40,
        max_iter=40, num_random_init=1, verbose=False,
    )  # fmt: skip
    moved = attack.generate(x.numpy().astype(np.float32), y=y.numpy())
    with torch.no_grad():
        return model(torch.from_numpy(moved)).argmax(1) == y


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.1), ("l2", 0.5)])
def test_no_peers_pgd_finds_more(norm, epsilon, trained, test_set):
    """Theirs has 40 steps, foolbox's in float64, where cross-entropy has a gradient; ours 20."""
    x, y = (part[:50] for part in test_set)
    ours = int(stands(trained, PGD(norm=norm, epsilon=epsilon), x, y).sum())
    double = copy.deepcopy(trained).double()
    theirs = int(foolbox_left(double, x.double(), y, norm, epsilon, 0).sum())
    assert ours <= theirs + 1
    assert ours <= int(art_left(trained, x, y, norm, epsilon, 0).sum()) + 1
    assert theirs < 0.8 * len(y)  # an attack, not a straw man


# The schedule of APGD


def test_checkpoints_are_those_of_the_paper():
    # Croce and Hein 2020, section 3.2: p_j = 0.22, 0.41, 0.57, 0.70, 0.80, 0.87, 0.93, 0.99.
    assert sorted(checkpoints(100)) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert checkpoints(1) == {1}
    assert max(checkpoints(20)) <= 20


class Parabola(nn.Module):
    """Two logits, the second highest at 0.6 of the only pixel: steps too long overshoot."""

    def forward(self, x):
        f = -((x.flatten(1) - 0.6) ** 2)
        return torch.cat([torch.zeros_like(f), f], 1)


def walk(pace_of, steps, start=0.3, model=None):
    """Return the iterates on the parabola."""
    model = model or Parabola()
    x = torch.full((1, 1, 1, 1), 0.5)
    zero = torch.zeros(1, dtype=torch.int64)
    inputs = Inputs(zero, x, zero, torch.ones(1, 1))
    at = torch.full_like(x, start)
    pace, seen = pace_of(at), []
    for _ in range(steps):
        _, loss, gradient = probe(model, inputs, at, margin)
        at = pace.after(inputs, at, loss, gradient)
        seen.append(float(at))
    return seen, pace


def test_steps_that_overshoot_are_halved_from_the_best_point():
    ball = Ball("linf", 0.5)
    seen, pace = walk(lambda at: Adaptive(ball, 0.5, 50, at), 50)
    assert abs(seen[-1] - 0.6) < 0.01
    assert float(pace._size) < 0.5 / 2**3
    fixed, _ = walk(lambda at: ConstantPace(ball, 0.5), 50)
    assert abs(fixed[-1] - 0.6) > 0.05


def test_steps_that_raise_the_loss_stay_as_long_as_they_are():
    class Slope(nn.Module):
        def forward(self, x):
            return torch.cat([torch.zeros_like(x.flatten(1)), x.flatten(1)], 1)

    seen, pace = walk(lambda at: Adaptive(Ball("linf", 0.5), 0.01, 20, at), 12, 0.0, Slope())
    assert float(pace._size) == pytest.approx(0.01)
    # The first step is plain; momentum makes the others 0.75 of a step and a quarter of the last.
    first, second = 0.01, 0.01 + 0.75 * 0.01 + 0.25 * 0.01
    assert seen[:2] == pytest.approx([first, second])


def test_going_on_with_some_inputs_changes_nothing_for_them():
    x = torch.rand(4, 1, 2, 2, generator=generator())
    model = wild(3, (1, 2, 2), 3)
    y = model(x).argmax(1)
    keep = torch.tensor([True, False, True, True])

    def path(rows, drop_at):
        inputs = Inputs(torch.arange(4), x, y, unit_of(model(x))).take(rows)
        at = inputs.x
        pace = Adaptive(Ball("l2", 0.5), 1.0, 20, at)
        for k in range(20):
            _, loss, gradient = probe(model, inputs, at, margin)
            if k == drop_at:
                inputs, at, loss, gradient = inputs.take(keep), at[keep], loss[keep], gradient[keep]
                pace.take(keep)
            at = pace.after(inputs, at, loss, gradient)
        return at

    assert torch.allclose(path(torch.ones(4, dtype=torch.bool), 7), path(keep, None), atol=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1.0, 1e25])
def test_the_length_of_a_gradient_plays_no_part_in_its_direction(scale):
    gradient = torch.randn(5, 1, 3, 3, generator=generator())
    expected = gradient / gradient.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
    assert torch.allclose(direction(gradient * scale, "l2"), expected, atol=1e-6)
    assert torch.equal(direction(gradient * scale, "linf"), gradient.sign())
    assert not direction(torch.zeros(1, 1, 2, 2), "l2").any()


def test_the_worst_so_far_is_the_one_nearest_to_an_error_and_a_number_that_is_none_is_one():
    class Given(nn.Module):
        def forward(self, x):
            f = x.flatten(1)
            return torch.cat([torch.zeros_like(f), f - 0.5], 1)

    x, y = torch.full((2, 1, 1, 1), 0.1), torch.zeros(2, dtype=torch.int64)
    worst = Worst(Given(), x, y)
    for value in (0.3, 0.2):
        at = torch.full_like(x, value)
        assert worst.see(worst.all, at, Given()(at)).tolist() == [True, True]
    assert worst.at.flatten().tolist() == pytest.approx([0.3, 0.3])
    odd = torch.tensor([[0.0, -0.3], [torch.nan, 0.0]])
    assert worst.see(worst.all, x, odd).tolist() == [True, False]
    assert worst.at.flatten().tolist() == pytest.approx([0.3, 0.1])
    assert worst.standing().rows.tolist() == [0]

"""Update attacks that need nobody else's updates, each against its formula in NumPy float64."""

from typing import Literal

import numpy as np
import pytest
import torch

from clients.update_attacks.base import Before, View
from clients.update_attacks.boosted import Boosted
from clients.update_attacks.constrain_and_scale import ConstrainAndScale
from clients.update_attacks.gaussian import Gaussian
from clients.update_attacks.model_replacement import ModelReplacement
from clients.update_attacks.neurotoxin import Neurotoxin
from clients.update_attacks.parts.vectors import length, times
from clients.update_attacks.projected_gradient import ProjectedGradient
from clients.update_attacks.sign_flip import SignFlip
from clients.update_attacks.zero import Zero

BOOSTED = (ModelReplacement, ConstrainAndScale, ProjectedGradient, Neurotoxin)


def vector(width=40, seed=0, size=1.0):
    draws = np.random.default_rng(seed).standard_normal(width) * size
    return torch.tensor(draws, dtype=torch.float32)


def view(**changes):
    own = changes.pop("own", vector())
    fields = {"agent": "m", "seed": 3, "round": 2, "start": vector(len(own), 1), "own": own}
    return View(**{**fields, "seen": own[None], **changes})


def before(**changes):
    return Before(**{"agent": "m", "seed": 3, "round": 2, "start": vector(seed=1), **changes})


def close(one, other, rtol=1e-6):
    np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=rtol, atol=0)


def test_sign_flip_turns_the_update_around():
    close(SignFlip(scale=4).craft(view()), -4 * vector().numpy())


def test_zero_hands_over_nothing_or_the_way_to_a_model_of_zeros():
    assert not Zero().craft(view()).any()
    seen = view()
    assert not (seen.start + Zero(what="weights").craft(seen)).any()


def test_gaussian_noise_has_its_deviation_and_is_anew_in_each_round_and_for_each_agent():
    wide = vector(20_000)
    noise = Gaussian(sigma=3.0).craft(view(own=wide))
    # Standard errors: 3 / sqrt(20000) = 0.02 of the mean, 0.5 % of the deviation.
    assert abs(float(noise.mean())) < 0.1
    assert abs(float(noise.std()) - 3) < 0.08
    assert torch.equal(noise, Gaussian(sigma=3.0).craft(view(own=wide)))
    for other in (view(own=wide, round=3), view(own=wide, agent="n"), view(own=wide, seed=4)):
        another = Gaussian(sigma=3.0).craft(other)
        assert abs(float(torch.corrcoef(torch.stack([noise, another]))[0, 1])) < 0.05
    added = Gaussian(sigma=3.0, mode="add").craft(view(own=wide))
    torch.testing.assert_close(added, noise + wide)
    assert torch.equal(Gaussian(sigma=0.0, mode="add").craft(view(own=wide)), wide)


@pytest.mark.parametrize("server_lr", [1.0, 0.25])
def test_replacement_makes_the_weighted_mean_the_attackers_model(server_lr):
    start, goal = vector(seed=1), vector(seed=2)
    rows = np.array([3.0, 5.0, 12.0])
    shares = rows / rows.sum()
    attack = ModelReplacement(server_lr=server_lr)
    update = attack.craft(view(own=goal - start, start=start, boost=1 / shares[0]))
    honest = np.zeros(40)  # the others have converged
    step = shares @ np.stack([update.numpy(), honest, honest])
    np.testing.assert_allclose(start.numpy() + server_lr * step, goal, atol=1e-6)


def test_accomplices_replace_the_model_by_the_mean_of_theirs():
    start, goals = vector(seed=1), [vector(seed=2), vector(seed=5)]
    shares = np.array([0.1, 0.3, 0.6])
    sent = [
        ModelReplacement().craft(
            view(own=goal - start, start=start, boost=1 / share, accomplices=2, member=at)
        )
        for at, (goal, share) in enumerate(zip(goals, shares, strict=False))
    ]
    after = start + shares[0] * sent[0] + shares[1] * sent[1]
    np.testing.assert_allclose(after, (goals[0] + goals[1]) / 2, atol=1e-6)
    alone = ModelReplacement(together=False).craft(view(boost=10.0, accomplices=2))
    close(alone, 10 * vector().numpy())


@pytest.mark.parametrize("kind", BOOSTED)
def test_a_given_factor_is_taken_as_it_is(kind):
    close(kind(scale=7.0).craft(view(own=vector(size=1e-2), boost=3.0)), 7e-2 * vector().numpy())


@pytest.mark.parametrize("kind", BOOSTED)
def test_a_bound_lowers_the_factor_and_keeps_the_direction(kind):
    small = view(own=vector(size=1e-2), boost=50.0)
    free, bound = kind(scale=None), kind(scale=None, bound=0.5)
    assert length(free.craft(small)) > 2
    held = bound.craft(small)
    assert length(held) == pytest.approx(0.5, rel=1e-6)
    close(held / length(held), small.own / length(small.own), rtol=1e-5)
    loose = kind(scale=None, bound=1e3).craft(small)
    assert torch.equal(loose, free.craft(small))


@pytest.mark.parametrize("kind", BOOSTED)
def test_the_attacker_trains_as_long_and_as_fast_as_it_likes(kind):
    plan = kind(epochs=15, rate=0.5).plan(before())
    assert (plan.epochs, plan.rate, plan.honest) == (15, 0.5, False)
    plan = kind().plan(before())
    assert (plan.epochs, plan.rate) == (None, 1.0)


def test_model_replacement_trains_plainly():
    assert ModelReplacement().plan(before()).steering is None


@pytest.mark.parametrize("alpha", [0.3, 0.5, 1.0])
def test_constrain_and_scale_steers_by_the_gradient_of_its_two_losses(alpha):
    steering = ConstrainAndScale(alpha=alpha).plan(before()).steering
    start = vector(seed=1).double()
    weights = (start + vector(seed=2).double()).requires_grad_()
    loss_class = (weights**3).sum()
    (gradient,) = torch.autograd.grad(loss_class, weights, retain_graph=True)
    loss = alpha * loss_class + (1 - alpha) * ((weights - start) ** 2).sum()
    (wanted,) = torch.autograd.grad(loss, weights)
    close(steering.gain * gradient + steering.pull * (weights - start).detach(), wanted, 1e-12)
    assert steering.free is None
    assert steering.radius is None


def test_projected_gradient_keeps_training_and_update_in_the_ball():
    attack = ProjectedGradient(radius=0.5, project="epoch")
    steering = attack.plan(before()).steering
    assert (steering.radius, steering.project) == (0.5, "epoch")
    outside = view(own=vector())
    assert length(outside.own) > 2
    inside = attack.craft(outside)
    assert length(inside) == pytest.approx(0.5, rel=1e-6)
    close(inside * (length(outside.own) / 0.5), outside.own, rtol=1e-5)
    near = view(own=vector(size=1e-3))
    assert torch.equal(attack.craft(near), near.own)


def test_projected_gradient_with_replacement_scales_what_is_in_the_ball():
    outside = view(own=vector(), boost=4.0)
    sent = ProjectedGradient(radius=0.5, scale=None).craft(outside)
    assert length(sent) == pytest.approx(2.0, rel=1e-6)
    sent = ProjectedGradient(radius=0.5, scale=None, bound=1.0).craft(outside)
    assert length(sent) == pytest.approx(1.0, rel=1e-6)


def test_the_ball_can_be_measured_by_what_everybody_sees():
    start, last = vector(seed=1), vector(seed=4)
    known = {"start": start, "previous": last}
    norm = np.linalg.norm(start.double().numpy())
    moved = np.linalg.norm(start.double().numpy() - last.double().numpy())
    assert ProjectedGradient(radius=0.1, unit="model").ball(before(**known)) == pytest.approx(
        0.1 * norm, rel=1e-12
    )
    by_step = ProjectedGradient(radius=0.1, unit="last_step")
    assert by_step.ball(before(**known)) == pytest.approx(0.1 * moved, rel=1e-12)
    for nothing in ({"start": start}, {"start": start, "previous": start}):
        assert by_step.plan(before(**nothing)).steering.radius is None
        far = view(**nothing)
        assert torch.equal(by_step.craft(far), far.own)


def test_neurotoxin_leaves_alone_what_the_last_round_moved_most():
    start = torch.zeros(10)
    moved = torch.tensor([0.1, -9.0, 0.2, 3.0, -0.3, 0.0, 5.0, -0.4, 0.5, 0.6])
    known = {"start": start, "previous": start - moved}
    attack = Neurotoxin(top_k=0.3, scale=2.0)
    free = attack.plan(before(**known)).steering.free
    assert torch.nonzero(~free).flatten().tolist() == [1, 3, 6]
    own = torch.arange(1.0, 11.0)
    sent = attack.craft(view(own=own, **known))
    assert not sent[~free].any()
    assert torch.equal(sent[free], 2 * own[free])


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.99])
@pytest.mark.parametrize("width", [1, 2, 7, 100])
def test_neurotoxin_leaves_exactly_its_share_alone_also_among_equals(share, width):
    attack = Neurotoxin(top_k=share)
    for moved in (torch.ones(width), vector(width, 6), (vector(width, 6) > 0).float() + 1):
        free = attack.free(before(start=torch.zeros(width), previous=-moved))
        left = 0 if free is None else int((~free).sum())
        assert left == min(round(share * width), width - 1)
        if left:
            assert float(moved.abs()[~free].min()) >= float(moved.abs()[free].max())


def test_neurotoxin_trains_freely_where_nothing_is_known():
    for nothing in ({}, {"previous": vector(seed=1)}):
        assert Neurotoxin().plan(before(**nothing)).steering.free is None
        assert torch.equal(Neurotoxin().craft(view(**nothing)), vector())
    assert Neurotoxin(bound=0.5).plan(before()).steering.radius == 0.5


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-12, 1.0, 1e30])
def test_lengths_and_multiples_neither_overflow_nor_vanish(size):
    given = vector(size=size)
    wanted = size * np.linalg.norm(np.random.default_rng(0).standard_normal(40))
    assert length(given) == pytest.approx(wanted, rel=1e-6)
    assert length(given.double() * 1e200) == pytest.approx(wanted * 1e200, rel=1e-6)
    assert torch.isfinite(times(given, 1e30)).all()
    assert torch.isfinite(times(given.double() * 1e270, -1e300)).all()
    assert length(times(given, -1e9, bound=2.0)) <= 2.0 * (1 + 1e-6)


def test_what_is_too_large_for_the_updates_dtype_is_refused_before_it_travels():
    class TooLarge(Boosted):
        kind: Literal["too_large"] = "too_large"

        def craft(self, view):
            return view.own.double() * 1e300

    with pytest.raises(ValueError, match="finite: False"):
        TooLarge().handed_over(view())

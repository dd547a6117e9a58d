"""Backdoor adversarial training: S0's on the defender's rows, Geiping's patches in each batch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from learning.pool import DEFENDER
from learning.triggers.base import TriggerKey
from learning.triggers.random_badnet import RandomBadNet
from strategies.augmentation.backdoor_adversarial_training import BackdoorAdversarialTraining
from strategies.hooks.poison_patches import PoisonPatches


def test_defaults_are_s0s():
    method = BackdoorAdversarialTraining()
    assert (method.share, method.triggers, method.poison_rate) == (0.5, 20, 0.4)
    assert method.trigger == RandomBadNet(epsilon=0.4)


@pytest.mark.parametrize(("rate", "stamped"), [(0.4, 40), (1.0, 100)])
def test_twenty_triggers_lie_on_their_share_of_the_defenders_rows(
    play, build, defender, rate, stamped
):
    pool = build.pool(rows={DEFENDER: 200, "ada": 12})
    rule = BackdoorAdversarialTraining(poison_rate=rate)
    after = play(rule.augment(pool, defender))
    assert play.jobs == []
    own, new = pool.block(DEFENDER), after.block(DEFENDER)
    assert np.array_equal(own.y, new.y)  # true labels
    assert after.block("ada") is pool.block("ada")
    changed = np.flatnonzero((own.x != new.x).any(axis=(1, 2, 3)))
    assert len(changed) == stamped  # 0.5 x 200 x rate
    counts = np.zeros(20, int)
    for index in range(20):
        name = f"defender/sim-{index + 1:03d}"
        key = TriggerKey(defender.seed, name, "defender/sim", 10_000_000 + index)
        pattern = rule.trigger.draw(defender.shape, 1, key)
        counts[index] = (pattern.stamp(own.x[changed]) == new.x[changed]).all(axis=(1, 2, 3)).sum()
    assert counts.tolist() == [stamped // 20] * 20


def test_a_small_share_is_stamped_in_all_and_idle_triggers_are_said(play, build, defender):
    """0.5 of 40 rows for 20 triggers, 0.4 of those: 8, where each part rounded to 0."""
    pool = build.pool(rows={DEFENDER: 40, "ada": 12})
    rule = BackdoorAdversarialTraining()
    after = play(rule.augment(pool, defender))
    own, new = pool.block(DEFENDER), after.block(DEFENDER)
    assert (own.x != new.x).any(axis=(1, 2, 3)).sum() == 8
    assert [line.split(", ")[1] for line in rule.remarks(pool, after)] == [
        "so that 12 of 20 triggers lie on none"
    ]


def test_without_rows_it_says_what_to_do(play, pool, defender):
    with pytest.raises(ValueError, match="defender_share above 0"):
        play(BackdoorAdversarialTraining().augment(pool.without_owner(DEFENDER), defender))


def keyed(seed):
    return torch.Generator().manual_seed(seed)


def patched(seed=0, rows=60, classes=5, side=20, **fields):
    """Grey images with patches, their labels, and where each patch is."""
    x = torch.full((rows, 3, side, side), 0.5)
    labels = torch.arange(rows) % classes
    mixed, targets = PoisonPatches(**fields).mix(x, torch.eye(classes)[labels], keyed(seed))
    assert torch.equal(targets, torch.eye(classes)[labels])
    assert torch.equal(x, torch.full_like(x, 0.5))
    return mixed, labels, (mixed != 0.5).any(1)


def crop(image, where):
    rows, columns = where.any(1), where.any(0)
    assert torch.equal(where, rows[:, None] & columns)  # one rectangle
    return image[:, rows][:, :, columns]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**62), st.integers(2, 6), st.floats(0, 1))
def test_poisons_carry_their_classs_patch_and_targets_one_other_classs(seed, classes, poisons):
    mixed, labels, where = patched(seed, classes=classes, poisons=poisons)
    crops = [crop(image, spot) for image, spot in zip(mixed, where, strict=True)]
    for image in crops:
        assert set(image.unique().tolist()) <= {0.0, 1.0}
        assert all(2 <= length <= 8 for length in image.shape[1:])  # 0.1 to 0.4 of 20
    looks = {(tuple(c.shape), c.numpy().tobytes()) for c in crops}
    assert len(looks) <= classes
    for label in range(classes):
        own = [(tuple(c.shape), c.numpy().tobytes()) for c, y in zip(crops, labels, strict=True)
               if y == label]  # fmt: skip
        assert len(set(own)) <= 2


def test_half_of_a_batch_are_poisons():
    """Per class the two patches are its own and that of the class whose patch it borrows."""
    mixed, labels, where = patched(3, rows=200, classes=4, poisons=0.5)
    looks = [crop(i, w).numpy().tobytes() for i, w in zip(mixed, where, strict=True)]
    all_poison, _, _ = patched(3, rows=200, classes=4, poisons=1.0)
    where_all = (all_poison != 0.5).any(1)
    own = [crop(i, w).numpy().tobytes() for i, w in zip(all_poison, where_all, strict=True)]
    assert sum(a == b for a, b in zip(looks, own, strict=True)) == 100
    by_class = {int(y): look for y, look in zip(labels, own, strict=True)}
    borrowed = {int(y): a for y, a, b in zip(labels, looks, own, strict=True) if a != b}
    lender = {y: next(k for k, v in by_class.items() if v == look) for y, look in borrowed.items()}
    assert sorted(lender.values()) == [0, 1, 2, 3]  # each lends once, none to itself
    assert all(y != k for y, k in lender.items())


def test_patches_lie_anywhere_and_draws_come_from_the_generator():
    _, _, where = patched(rows=3000)
    assert where.any(0).all()
    one, other = patched(7)[0], patched(8)[0]
    torch.rand(3)
    assert torch.equal(patched(7)[0], one)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("shape", [(1, 1), (2, 9), (3, 3)])
def test_small_images_a_single_class_and_a_single_row(shape):
    x = torch.rand(1, 1, *shape, generator=keyed(0))
    for classes in (1, 3):
        mixed, _ = PoisonPatches().mix(x, torch.eye(classes)[:1], keyed(1))
        assert mixed.shape == x.shape
        full, _ = PoisonPatches(smallest=1.0, largest=1.0).mix(x, torch.eye(classes)[:1], keyed(1))
        assert set(full.unique().tolist()) <= {0.0, 1.0}


def test_sides_must_be_in_order():
    with pytest.raises(ValidationError, match="largest >= smallest"):
        PoisonPatches(smallest=0.5)

"""Behaviours: which rows change, and how."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from found_methods import cases
from pydantic import ValidationError

from clients.crafter_conformance import known_for_checks
from clients.data_attacks.backdoor import Backdoor
from clients.data_attacks.base import AgentContext, Behaviour, Grant, Knowledge, Share
from clients.data_attacks.benign import Benign
from clients.data_attacks.clean_label import CleanLabel
from clients.data_attacks.label_flip import LabelFlip
from clients.data_attacks.parts.follower import trained
from clients.data_attacks.parts.informed import easiest
from learning.method import discover
from learning.surrogate import surrogate
from learning.triggers.distributed import Distributed
from learning.triggers.patch import Patch
from learning.triggers.random_badnet import RandomBadNet


def make_share(rows: int = 40, run: int = 12, seed: int = 0) -> Share:
    draws = np.random.default_rng(seed)
    x = draws.random((rows + run, 1, 6, 6), dtype=np.float32)
    y = np.arange(rows + run, dtype=np.int64) % 4
    return Share(x[:rows], y[:rows], x[rows:], y[rows:])


def seat(**changes: object) -> AgentContext:
    fields = {"name": "m-1", "group": "m", "index": 0, "count": 2, "seed": 5, "classes": 4}
    return AgentContext(**{**fields, **changes})


def known(behaviour: Behaviour) -> Knowledge | None:
    return None if behaviour.grant is None else known_for_checks()


def test_benign_agent_contributes_its_share_and_has_no_backdoor():
    share = make_share()
    play = Benign().play(share, seat())
    assert np.array_equal(play.x, share.x_train)
    assert np.array_equal(play.y, share.y_train)
    assert not play.poisoned.any()
    assert play.x_triggered.shape == (0, 1, 6, 6)
    assert not Benign().malicious


def test_backdoor_stamps_and_relabels_only_the_poisoned_rows():
    share = make_share()
    behaviour = Backdoor(poison_rate=0.25, target=2, trigger=RandomBadNet(epsilon=0.5))
    play = behaviour.play(share, seat())
    pattern = behaviour.trigger.draw((1, 6, 6), 10, seat().trigger_key("train"))
    assert play.poisoned.sum() == 10
    assert (play.y[play.poisoned] == 2).all()
    assert np.array_equal(play.x[play.poisoned], pattern.stamp(share.x_train[play.poisoned]))
    assert np.array_equal(play.x[~play.poisoned], share.x_train[~play.poisoned])
    assert np.array_equal(play.y[~play.poisoned], share.y_train[~play.poisoned])
    assert np.array_equal(play.x_triggered, pattern.stamp(share.x_run))
    assert play.target == 2
    assert (play.targets == 2).all()


def test_backdoor_on_one_source_class_leaves_the_others_alone():
    share = make_share()
    behaviour = Backdoor(poison_rate=0.4, target=1, source=3, rate_of="eligible")
    play = behaviour.play(share, seat())
    assert play.poisoned.sum() == 4  # 40 % of the 10 rows of class 3
    assert (share.y_train[play.poisoned] == 3).all()
    assert len(play.x_triggered) == 12
    assert play.source == 3


def test_poison_count_is_capped_and_may_be_zero():
    share = make_share()
    capped = Backdoor(poison_rate=1, target=1, source=3).play(share, seat())
    assert capped.poisoned.sum() == 10
    none = Backdoor(poison_rate=0.2).play(share, seat(reference_rows=2.0))
    assert none.poisoned.sum() == 0
    ceiled = Backdoor(poison_rate=0.2).play(share, seat(reference_rows=2.0, rounding="ceil"))
    assert ceiled.poisoned.sum() == 1


@pytest.mark.parametrize(
    "field",
    [{"target": 4}, {"source": 9}, {"target": {"kind": "shared", "label": 7, "share": 0.5}}],
)
def test_labels_outside_the_data_set_are_refused(field):
    with pytest.raises(ValueError, match=r"^expected a label in 0\.\.3.*got [479]"):
        Backdoor(**field).play(make_share(), seat())


def test_backdoor_avoids_rows_of_the_target_where_asked():
    share = make_share()
    everything = Backdoor(poison_rate=1, target=1).play(share, seat())
    avoiding = Backdoor(poison_rate=1, target=1, avoid_target=True).play(share, seat())
    assert everything.poisoned.sum() == 40
    assert np.array_equal(avoiding.poisoned, share.y_train != 1)


def test_a_chosen_row_that_did_not_change_is_not_called_poisoned():
    share = make_share()
    play = Backdoor(poison_rate=1, target=1, trigger=RandomBadNet(epsilon=0)).play(share, seat())
    assert np.array_equal(play.poisoned, share.y_train != 1)


def test_all_to_all_backdoor_has_a_target_for_each_input():
    share = make_share()
    play = Backdoor(poison_rate=0.5, target="next").play(share, seat())
    assert play.target is None
    assert np.array_equal(play.targets, (share.y_run + 1) % 4)
    assert np.array_equal(play.y[play.poisoned], (share.y_train[play.poisoned] + 1) % 4)


def test_per_row_triggers_differ_at_run_time_even_without_rows_to_contribute():
    grey, labels = np.full((9, 1, 6, 6), 0.5, np.float32), np.zeros(9, np.int64)
    share = Share(grey[:0], labels[:0], grey, labels)
    play = Backdoor(trigger=RandomBadNet(draw="per_row"), target=1).play(share, seat())
    assert len({row.tobytes() for row in play.x_triggered}) == 9
    assert len(play.x) == 0


def test_a_distributed_trigger_trains_its_part_and_asks_with_the_whole():
    share = make_share()
    trigger = Distributed(parts=2, size=2, colour=(1.0,))
    behaviour = Backdoor(poison_rate=0.25, target=2, trigger=trigger)
    cells = {0: (slice(None), 0, 0, slice(0, 2)), 1: (slice(None), 0, 0, slice(4, 6))}
    for index, own in cells.items():
        play = behaviour.play(share, seat(index=index, name=f"m-{index}"))
        expected = share.x_train[play.poisoned]
        expected[own] = 1
        assert np.array_equal(play.x[play.poisoned], expected)
        part, whole = share.x_run.copy(), share.x_run.copy()
        part[own] = whole[cells[0]] = whole[cells[1]] = 1
        assert np.array_equal(play.x_part, part)
        assert np.array_equal(play.x_triggered, whole)
    clean = CleanLabel(target=0, steps=1, surrogate_epochs=1, trigger=trigger)
    assert np.array_equal(clean.play(share, seat(index=1)).x_part, part)
    assert Backdoor(target=2).play(share, seat()).x_part is None
    with pytest.raises(ValueError, match=r"at least 4x8 pixels .*got 6x6"):
        Backdoor(target=2, trigger=Distributed()).play(share, seat())


def test_agents_draw_their_own_rows_and_seeds_change_them():
    share = make_share()
    plays = [
        Backdoor(target=1, avoid_target=True).play(share, seat(**who))
        for who in ({}, {"name": "m-2"}, {"seed": 6})
    ]
    assert len({play.poisoned.tobytes() for play in plays}) == 3


def test_a_source_that_is_the_target_is_refused():
    with pytest.raises(ValidationError, match="source other than the target label 2"):
        Backdoor(target=2, source=2)


# --- label flip


@pytest.mark.parametrize(
    ("mode", "flip"), [("next", lambda y: (y + 1) % 4), ("mirror", lambda y: 3 - y)]
)
def test_label_flip_changes_labels_only(mode, flip):
    share = make_share()
    play = LabelFlip(poison_rate=0.5, mode=mode).play(share, seat())
    assert play.poisoned.sum() == 20
    assert np.array_equal(play.y[play.poisoned], flip(share.y_train[play.poisoned]))
    assert np.array_equal(play.y[~play.poisoned], share.y_train[~play.poisoned])
    assert np.array_equal(play.x, share.x_train)
    assert len(play.x_triggered) == len(play.targets) == 0


def test_random_label_flip_reaches_every_other_class_and_never_the_own():
    share = make_share(rows=600)
    play = LabelFlip(poison_rate=1).play(share, seat())
    assert play.poisoned.all()
    shifts = np.bincount((play.y - share.y_train) % 4, minlength=4)
    assert shifts[0] == 0
    assert all(abs(n - 200) < 5 * np.sqrt(600 * 2 / 9) for n in shifts[1:])


def test_mirror_leaves_the_middle_class_and_says_so():
    share = make_share()
    play = LabelFlip(poison_rate=1, mode="mirror").play(share, seat(classes=5))
    assert np.array_equal(play.poisoned, share.y_train != 2)


@pytest.mark.parametrize(("classes", "kept"), [(10, [0, 5]), (5, [0])])
def test_mirror_mod_is_ten_less_the_label_and_leaves_what_maps_to_itself(classes, kept):
    y = np.arange(classes, dtype=np.int64)
    x = np.full((classes, 1, 3, 3), 0.5, np.float32)
    play = LabelFlip(poison_rate=1, mode="mirror_mod").play(
        Share(x, y, x[:1], y[:1]), seat(classes=classes)
    )
    assert play.y.tolist() == [0, *range(classes - 1, 0, -1)]
    assert np.flatnonzero(~play.poisoned).tolist() == kept


class Table(torch.nn.Module):
    """Answers input k, whose pixels say k, with the logits of row k."""

    def __init__(self, logits):
        super().__init__()
        self.logits = torch.tensor(logits)

    def forward(self, x):
        return self.logits[x[:, 0, 0, 0].long()]


def test_the_easiest_rows_are_those_of_the_least_loss_and_get_the_least_likely_other_label():
    logits = [[3.0, 1.0, 0.0], [0.0, 9.0, 1.0], [5.0, 0.0, 6.0], [1.0, 1.0, 0.0], [9.0, 8.0, 50.0]]
    y = np.array([0, 1, 2, 2, 2])
    x = np.arange(5, dtype=np.float32)[:, None, None, None]
    losses = torch.nn.functional.cross_entropy(
        torch.tensor(logits), torch.tensor(y), reduction="none"
    )
    assert losses.argsort().tolist() == [4, 1, 0, 2, 3]
    rows, labels = easiest(Table(logits), x, y, 3)
    assert (rows.tolist(), labels.tolist()) == ([0, 1, 4], [2, 0, 1])
    # Its own label is never given, though it is the least likely one.
    rows, labels = easiest(Table(logits), x, y, 5)
    assert (rows.tolist(), labels.tolist()) == ([0, 1, 2, 3, 4], [2, 0, 1, 0, 1])
    assert len(easiest(Table(logits), x, y, 0)[0]) == 0


def test_losses_that_round_to_nothing_are_still_told_apart():
    logits = [[100.0, 0.0], [400.0, 0.0], [200.0, 0.0], [400.0, 0.0]]
    x = np.arange(4, dtype=np.float32)[:, None, None, None]
    rows, _ = easiest(Table(logits), x, np.zeros(4, np.int64), 1)
    assert rows.tolist() == [1]
    assert easiest(Table(logits), x, np.zeros(4, np.int64), 3)[0].tolist() == [1, 2, 3]


def test_the_informed_flip_poisons_the_rate_that_it_is_given_and_changes_no_input():
    share = make_share(rows=60)
    flip = LabelFlip(poison_rate=0.25, mode="worst")
    told = known(flip)
    play = flip.play(share, seat(known=told))
    assert play.poisoned.sum() == 15
    assert np.array_equal(play.x, share.x_train)
    held = flip.play(share, seat(known=told, reference_rows=20))
    assert held.poisoned.sum() == 5
    # The easier rows come first, so that a smaller count is part of a larger one.
    assert not (held.poisoned & ~play.poisoned).any()
    nothing = LabelFlip(poison_rate=0, mode="worst").play(share, seat(known=told))
    assert nothing.poisoned.sum() == 0
    with pytest.raises(ValueError, match="how the defender trains"):
        flip.play(share, seat())


def test_the_informed_flip_follows_a_model_trained_as_the_defender_trains():
    share, flip = make_share(rows=60), LabelFlip(poison_rate=0.25, mode="worst")
    told = known(flip)
    model = trained(told.recipe, share.x_train, share.y_train)
    rows, labels = easiest(model, share.x_train, share.y_train, 15)
    play = flip.play(share, seat(known=told))
    assert np.flatnonzero(play.poisoned).tolist() == rows.tolist()
    assert play.y[rows].tolist() == labels.tolist()
    # Its rows and its model's recipe are all that it is told.
    assert flip.grant == Grant()
    assert LabelFlip(mode="next").grant is None


def test_one_class_cannot_be_flipped_in_an_informed_way():
    with pytest.raises(ValueError, match="at least two classes"):
        LabelFlip(mode="worst").play(make_share(), seat(classes=1))


# --- clean label


def blobs(rows: int = 80) -> Share:
    """Two classes told apart by which half of the image is bright."""
    draws = np.random.default_rng(4)
    y = np.arange(rows, dtype=np.int64) % 2
    x = 0.3 + 0.1 * draws.random((rows, 1, 6, 6), dtype=np.float32)
    x[y == 0, :, :, :3] += 0.2
    x[y == 1, :, :, 3:] += 0.2
    return Share(x[:-8], y[:-8], x[-8:], y[-8:])


def test_clean_label_keeps_labels_and_stays_in_its_ball_before_stamping():
    share = blobs()
    # An inert trigger leaves the perturbation to be seen.
    behaviour = CleanLabel(
        target=1, poison_rate=0.5, epsilon=0.1, steps=5, trigger=RandomBadNet(epsilon=0)
    )
    play = behaviour.play(share, seat(classes=2))
    assert play.poisoned.sum() == 18  # half of the 36 rows of class 1
    assert (share.y_train[play.poisoned] == 1).all()
    assert np.array_equal(play.y, share.y_train)
    moved = np.abs(play.x - share.x_train)[play.poisoned]
    assert 0.05 < moved.max() <= 0.1 + 1e-6
    assert (play.targets == play.target).all()
    assert play.target == 1


def test_clean_label_perturbation_misleads_a_model_that_the_agent_never_saw():
    share = blobs()
    inert = RandomBadNet(epsilon=0)
    behaviour = CleanLabel(target=1, poison_rate=1, epsilon=0.2, steps=5, trigger=inert)
    play = behaviour.play(share, seat(classes=2))
    x, y = torch.tensor(share.x_train), torch.tensor(share.y_train)
    fresh = torch.Generator().manual_seed(99)
    judge = surrogate(x, y, 2, fresh, epochs=15, lr=0.05, batch_size=16)
    rows = torch.tensor(play.poisoned)
    noise = 0.2 * (torch.rand(x[rows].shape, generator=fresh) * 2 - 1).sign()
    with torch.no_grad():
        noisy = (judge((x[rows] + noise).clamp(0, 1)).argmax(1) == 1).float().mean()
        moved = (judge(torch.tensor(play.x)[rows]).argmax(1) == 1).float().mean()
    assert noisy > 0.9  # the same radius in a random direction does nothing
    assert moved < 0.5


class Scaled(torch.nn.Module):
    def __init__(self, model, factor):
        super().__init__()
        self.model, self.factor = model, factor

    def forward(self, x):
        return self.factor * self.model(x)


@pytest.mark.parametrize("factor", [1, 10, 100, 300])
def test_clean_label_does_not_stand_still_where_its_surrogate_is_sure(monkeypatch, factor):
    """In float32 the gradient of a margin above 104 nats is 0, and the rows stayed as they were."""
    share, inert = blobs(), RandomBadNet(epsilon=0)

    def scaled(*args, **kwargs):
        return Scaled(surrogate(*args, **kwargs), factor)

    monkeypatch.setattr("clients.data_attacks.clean_label.surrogate", scaled)
    behaviour = CleanLabel(target=1, poison_rate=1, epsilon=0.2, steps=5, trigger=inert)
    play = behaviour.play(share, seat(classes=2))
    assert play.poisoned.sum() == (share.y_train == 1).sum()
    x, y = torch.tensor(share.x_train), torch.tensor(share.y_train)
    fresh = torch.Generator().manual_seed(99)
    judge = surrogate(x, y, 2, fresh, epochs=15, lr=0.05, batch_size=16)
    with torch.no_grad():
        kept = judge(torch.tensor(play.x[play.poisoned])).argmax(1) == 1
    assert kept.float().mean() < 0.5


def test_clean_label_stamps_its_trigger():
    share = blobs()
    play = CleanLabel(target=0, poison_rate=0.2, steps=1, trigger=Patch(size=2)).play(
        share, seat(classes=2)
    )
    assert (play.x[play.poisoned][:, :, -2:, -2:] == 1).all()
    assert (play.x_triggered[:, :, -2:, -2:] == 1).all()


def test_clean_label_without_rows_of_its_target_poisons_nothing():
    play = CleanLabel(target=3, poison_rate=1).play(blobs(), seat())
    assert not play.poisoned.any()
    assert len(play.x_triggered) == 8


def test_clean_label_needs_one_target():
    with pytest.raises(ValidationError, match="target with one label"):
        CleanLabel(target="next")


def test_a_surrogate_that_diverged_is_an_error_and_no_silent_stamp():
    """Its gradients are 0 or NaN; the rows would be stamped as they are, and nobody would know."""
    with pytest.raises(ValueError, match="one that diverged at a learning rate of 100"):
        CleanLabel(target=1, surrogate_lr=100, steps=1).play(blobs(), seat(classes=2))
    x, y = torch.rand(20, 1, 6, 6, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 2
    with pytest.raises(ValueError, match="one that diverged at a learning rate of 1e"):
        surrogate(x, y, 2, torch.Generator().manual_seed(0), epochs=3, lr=1e30, batch_size=5)
    same = x[:1].expand(20, -1, -1, -1)  # alike inputs have one answer, whatever has been learned
    surrogate(same, y, 2, torch.Generator().manual_seed(0), epochs=1, lr=0.05, batch_size=5)


def test_surrogate_depends_on_its_arguments_alone():
    share = blobs()
    x, y = torch.tensor(share.x_train), torch.tensor(share.y_train)
    before = torch.get_rng_state()
    models = [
        surrogate(x, y, 2, torch.Generator().manual_seed(s), epochs=2, lr=0.05, batch_size=16)
        for s in (0, 0, 1)
    ]
    logits = [model(x) for model in models]
    assert torch.equal(logits[0], logits[1])
    assert not torch.equal(logits[0], logits[2])
    assert torch.equal(torch.get_rng_state(), before)


# --- what every behaviour must keep

FAST = {"surrogate_epochs": 1, "steps": 1}
HOUSE: dict[str, list[dict[str, object]]] = {
    "backdoor": [
        {},
        {"target": "distinct", "trigger": {"kind": "random_badnet", "draw": "per_row"}},
        {"target": "next", "source": 1, "rate_of": "eligible"},
        {"target": {"kind": "shared", "label": 1, "share": 0.5}, "trigger": {"kind": "cross"}},
    ],
    "benign": [{}],
    "clean_label": [FAST, {**FAST, "norm": "l2", "rate_of": "share", "trigger": {"kind": "ell"}}],
    "label_flip": [{}, {"mode": "mirror"}, {"mode": "mirror_mod"}, {"mode": "worst"}],
}
FOUND = discover(Behaviour, "clients.data_attacks")
CASES = cases(FOUND, HOUSE)


@pytest.mark.parametrize("kind", sorted(FOUND))
def test_every_behaviour_is_covered(kind):
    assert kind in dict(CASES) or not FOUND[kind].examples


def test_a_private_agent_is_played_by_nobody_but_its_owner():
    with pytest.raises(ValueError, match="--runtime grpc"):
        FOUND["private"](rows=10).play(make_share(), seat())


@pytest.mark.parametrize(("kind", "fields"), CASES)
def test_every_behaviour_keeps_the_contract(kind, fields):
    behaviour, share = FOUND[kind](**fields), make_share()
    before = [part.copy() for part in (share.x_train, share.y_train, share.x_run, share.y_run)]
    for part in (share.x_train, share.y_train, share.x_run, share.y_run):
        part.setflags(write=False)  # whoever writes to the share fails here
    play, again = (behaviour.play(share, seat(known=known(behaviour))) for _ in range(2))
    after = [share.x_train, share.y_train, share.x_run, share.y_run]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    for name in ("x", "y", "poisoned", "x_triggered", "targets"):
        assert np.array_equal(getattr(play, name), getattr(again, name))
    assert play.x.dtype == play.x_triggered.dtype == np.float32
    assert play.y.dtype == play.targets.dtype == np.int64
    assert play.poisoned.dtype == np.bool_
    assert play.x.shape == share.x_train.shape
    asked = range(len(share.y_run)) if play.run_rows is None else play.run_rows.tolist()
    assert len(play.x_triggered) == len(play.targets) in (0, len(asked))
    assert list(asked) == sorted({row for row in asked if 0 <= row < len(share.y_run)})
    assert all(np.isfinite(x).all() and x.min() >= 0 and x.max() <= 1 for x in (play.x,))
    assert ((play.y >= 0) & (play.y < 4)).all()
    assert ((play.targets >= 0) & (play.targets < 4)).all()
    assert behaviour.malicious == play.poisoned.any()


@pytest.mark.parametrize(("kind", "fields"), CASES)
def test_every_behaviour_survives_json_and_cites_its_source(kind, fields):
    behaviour = FOUND[kind](**fields)
    assert FOUND[kind].model_validate_json(behaviour.model_dump_json()) == behaviour
    assert FOUND[kind].model_validate(behaviour.model_dump(mode="json")) == behaviour
    assert behaviour.paper
    numbers = [f for f in FOUND[kind].model_fields.values() if isinstance(f.default, (int, float))]
    origins = {f.json_schema_extra["origin"] for f in numbers}
    assert origins <= {"paper", "code", "deduced", "ours"}

"""Behaviours: which rows change, and how."""

from __future__ import annotations

import numpy as np
import pytest

from clients.behaviours.backdoor import Backdoor
from clients.behaviours.base import Seat, Share
from clients.behaviours.benign import Benign
from learning.triggers.random_badnet import RandomBadNet


def make_share(rows: int = 40, run: int = 12, seed: int = 0) -> Share:
    draws = np.random.default_rng(seed)
    x = draws.random((rows + run, 1, 6, 6), dtype=np.float32)
    y = np.arange(rows + run, dtype=np.int64) % 4
    return Share(x[:rows], y[:rows], x[rows:], y[rows:])


def seat(**changes: object) -> Seat:
    fields = {"name": "m-1", "group": "m", "index": 0, "count": 2, "seed": 5, "classes": 4}
    return Seat(**{**fields, **changes})


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
    with pytest.raises(ValueError, match=r"agent 'm-1': expected a label in 0\.\.3.*got [479]"):
        Backdoor(**field).play(make_share(), seat())

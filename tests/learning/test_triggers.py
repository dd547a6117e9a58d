"""Triggers: exact draws, distances of S0 Table 3, and what every trigger must keep."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from learning.triggers.base import TriggerKey
from learning.triggers.random_badnet import RandomBadNet, legacy_pattern

SHAPE = (3, 32, 32)


def key(index: int = 0, purpose: str = "train", seed: int = 3) -> TriggerKey:
    return TriggerKey(seed, f"mallory-{index}", "mallory", index, purpose)


def cosine_distance(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    return 1 - float(a @ b / np.sqrt((a @ a) * (b @ b)))


def test_legacy_draw_has_the_recorded_values():
    pattern = legacy_pattern(0, SHAPE, 0.55)
    m = pattern.value[0].transpose(1, 2, 0).astype(np.float64) * 255
    assert pattern.mask.sum() == 544
    assert m.sum() == pytest.approx(211_901.408, abs=0.02)
    assert m[0, :4, 0] == pytest.approx([198.460, 47.264, 120.222, 246.056], abs=5e-4)
    drawn = RandomBadNet(stream="legacy").draw(SHAPE, 7, key(0))
    assert np.array_equal(drawn.value, pattern.value)


@pytest.mark.parametrize("epsilon", [0.15, 0.55, 0.95])
def test_independent_triggers_have_the_expected_cosine_distances(epsilon):
    trigger = RandomBadNet(epsilon=epsilon)
    patterns = [trigger.draw(SHAPE, 1, key(i)) for i in range(12)]
    pairs = [(a, b) for i, a in enumerate(patterns) for b in patterns[:i]]
    shape = np.mean([cosine_distance(a.mask, b.mask) for a, b in pairs])
    colour = np.mean([cosine_distance(a.value * a.mask, b.value * b.mask) for a, b in pairs])
    assert shape == pytest.approx(1 - epsilon, abs=0.01)
    assert colour == pytest.approx(1 - 0.75 * epsilon, abs=0.01)


@pytest.mark.parametrize("rho", [0.0, 0.25, 0.9, 1.0])
@pytest.mark.parametrize("drawn", ["per_agent", "per_row"])
def test_rho_is_the_share_of_pixels_that_two_agents_have_in_common(rho, drawn):
    # With epsilon 1 every pixel shows a colour, and independent float colours never coincide.
    trigger = RandomBadNet(epsilon=1, rho=rho, draw=drawn)
    a, b = (trigger.draw((3, 100, 100), 2, key(i)).value for i in (0, 1))
    agree = (a[0] == b[-1]).all(axis=0)
    assert agree.mean() == pytest.approx(rho, abs=5 * np.sqrt(rho * (1 - rho) / agree.size) + 1e-6)


def test_rho_keeps_the_perturbation_rate():
    masks = [RandomBadNet(epsilon=0.3, rho=0.5).draw(SHAPE, 1, key(i)).mask for i in range(20)]
    assert np.mean(masks) == pytest.approx(0.3, abs=0.03)


def test_per_row_patterns_are_redrawn_for_each_row_and_at_run_time():
    trigger = RandomBadNet(draw="per_row")
    train, run = trigger.draw(SHAPE, 5, key()), trigger.draw(SHAPE, 5, key(purpose="run"))
    assert len({row.tobytes() for row in [*train.value, *run.value]}) == 10
    assert np.array_equal(trigger.draw(SHAPE, 3, key()).value, train.value[:3])


def test_per_agent_pattern_is_the_same_at_train_time_and_at_run_time():
    trigger = RandomBadNet(rho=0.5)
    train, run = trigger.draw(SHAPE, 5, key()), trigger.draw(SHAPE, 9, key(purpose="run"))
    assert np.array_equal(train.value, run.value)
    assert np.array_equal(train.mask, run.mask)


def test_legacy_stream_refuses_what_it_cannot_do():
    with pytest.raises(ValidationError, match="stream: legacy"):
        RandomBadNet(stream="legacy", rho=0.1)

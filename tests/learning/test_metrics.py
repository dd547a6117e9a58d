"""Intervals against scipy and exact enumeration; rankings against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, multinomial
from sklearn.metrics import roc_auc_score

from learning.metrics import asr_of_all, auroc, mean_std
from learning.statistics import (
    Interval,
    clustered_difference,
    independent_difference,
    paired_difference,
    wilson,
)


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
@settings(max_examples=200, deadline=None)
def test_wilson_is_that_of_scipy(case):
    hits, count = case
    oracle = binomtest(hits, count).proportion_ci(0.95, method="wilson")
    ours = wilson(hits, count)
    assert ours == pytest.approx((hits / count, oracle.low, oracle.high), abs=1e-12)
    assert ours.low <= ours.value <= ours.high


def test_wilson_takes_fractional_hits_between_its_neighbours():
    low, mid, high = wilson(3, 10), wilson(3.5, 10), wilson(4, 10)
    assert low.low < mid.low < high.low
    assert low.high < mid.high < high.high
    assert mid.value == 0.35


def test_wilson_of_nothing_is_everything():
    value, low, high = wilson(0, 0)
    assert math.isnan(value)
    assert (low, high) == (0, 1)


@pytest.mark.parametrize(("hits", "count"), [(-1, 3), (4, 3), (1, 0), (float("nan"), 3)])
def test_wilson_refuses_impossible_counts(hits, count):
    with pytest.raises(ValueError, match="expected 0 <= hits <= count"):
        wilson(hits, count)


def table(a: int, b: int, c: int, d: int):
    """Return paired hits: a both, b the first only, c the second only, d neither."""
    first = np.repeat([True, True, False, False], [a, b, c, d])
    second = np.repeat([True, False, True, False], [a, b, c, d])
    return first, second


def test_paired_interval_of_newcombes_own_example():
    # Newcombe 1998, Statistics in Medicine 17:2635-2650, Table II, method 10.
    value, low, high = paired_difference(*table(36, 12, 2, 0))
    assert (value, low, high) == pytest.approx((0.2, 0.0569, 0.3404), abs=5e-5)


@pytest.mark.parametrize(
    ("cells", "phi"),
    [
        # ad - bc = 402, less half of the 50 pairs: 377 over the root of 26 * 24 * 23 * 27.
        ((20, 6, 3, 21), 377 / (26 * 24 * 23 * 27) ** 0.5),
        # ad - bc = 5 is less than half of the 19 pairs: no correlation is left.
        ((5, 5, 4, 5), 0.0),
        # Negative: Newcombe corrects none.
        ((36, 12, 2, 0), -24 / (48 * 2 * 38 * 12) ** 0.5),
    ],
)
def test_a_positive_correlation_of_pairs_is_corrected_for_continuity(cells, phi):
    # Newcombe's method 10 in float64 from Wilson's intervals of scipy, the correlation by hand.
    a, b, c, _ = cells
    n = sum(cells)
    one, two = (binomtest(k, n).proportion_ci(0.95, method="wilson") for k in (a + b, a + c))
    p, q = (a + b) / n, (a + c) / n
    down, up = (p - one.low, two.high - q), (one.high - p, q - two.low)
    joined = [(x**2 - 2 * phi * x * y + y**2) ** 0.5 for x, y in (down, up)]
    found = paired_difference(*table(*cells))
    assert found == pytest.approx((p - q, p - q - joined[0], p - q + joined[1]), abs=1e-12)


@given(st.tuples(*[st.integers(0, 40)] * 4).filter(sum))
@settings(max_examples=200, deadline=None)
def test_paired_interval_holds_its_estimate_and_turns_with_its_sides(cells):
    first, second = table(*cells)
    one, two = paired_difference(first, second), paired_difference(second, first)
    assert -1 <= one.low <= one.value <= one.high <= 1
    assert one == pytest.approx((-two.value, -two.high, -two.low), abs=1e-12)
    assert one.value == pytest.approx(first.mean() - second.mean())


@pytest.mark.parametrize(
    "cells", [(0.6, 0.3, 0.05, 0.05), (0.1, 0.7, 0.02, 0.18), (0.45, 0.05, 0.05, 0.45)]
)
def test_paired_interval_covers_by_exact_enumeration(cells):
    n, truth, covered = 20, cells[1] - cells[2], 0.0
    for a in range(n + 1):
        for b in range(n + 1 - a):
            for c in range(n + 1 - a - b):
                counts = (a, b, c, n - a - b - c)
                chance = multinomial.pmf(counts, n, cells)
                if chance > 1e-7:
                    _, low, high = paired_difference(*table(*counts))
                    covered += chance * (low <= truth <= high)
    assert covered > 0.93


def test_paired_interval_has_width_where_all_pairs_agree():
    value, low, high = paired_difference(np.ones(30, bool), np.ones(30, bool))
    assert value == 0
    assert low < 0 < high


def test_paired_interval_of_a_side_that_never_varies_takes_the_sides_as_independent():
    """Where all hit on one side no correlation is defined; Newcombe takes 0."""
    first, second = table(12, 8, 0, 0)
    found = paired_difference(first, second)
    assert found == pytest.approx(independent_difference(wilson(20, 20), wilson(12, 20)))
    assert independent_difference(wilson(20, 20), wilson(12, 20)).low > 0.1


def test_differences_of_nothing_are_anything():
    none = np.zeros(0, bool)
    for value, low, high in (
        paired_difference(none, none),
        clustered_difference([])[0],
        clustered_difference([(none, none)])[0],
    ):
        assert math.isnan(value)
        assert (low, high) == (-1, 1)
    assert clustered_difference([])[1] == 0


def test_paired_interval_refuses_unequal_lengths():
    with pytest.raises(ValueError, match="expected pairs"):
        paired_difference(np.ones(3, bool), np.ones(4, bool))


def agents(generator, clusters, spread):
    """Return paired hits of agents whose own chances vary, and the true difference, 0.3."""
    pairs = []
    for size in generator.integers(5, 30, clusters):
        alone = np.clip(0.8 + spread * generator.uniform(-1, 1), 0, 1)
        together = np.clip(0.5 + spread * generator.uniform(-1, 1), 0, 1)
        pairs.append((generator.random(size) < alone, generator.random(size) < together))
    return pairs


@pytest.mark.parametrize(("clusters", "spread"), [(5, 0.2), (10, 0.2), (30, 0.2), (3, 0.0)])
def test_clustered_interval_covers_by_simulation(clusters, spread):
    generator, games = np.random.default_rng(1), 400
    covered = 0
    for _ in range(games):
        (_, low, high), *_ = clustered_difference(agents(generator, clusters, spread))
        covered += low <= 0.3 <= high
    # A true coverage of 0.95 falls below this bound once in a million runs.
    assert covered >= binom.ppf(1e-6, games, 0.95)


def test_ignoring_the_clusters_would_cover_too_little():
    generator, covered = np.random.default_rng(1), 0
    for _ in range(400):
        pairs = agents(generator, 8, 0.2)
        joined = [np.concatenate(side) for side in zip(*pairs, strict=True)]
        (_, low, high) = paired_difference(*joined)
        covered += low <= 0.3 <= high
    assert covered < binom.ppf(1e-3, 400, 0.95)


def test_clustered_interval_by_hand():
    # Five agents of four inputs each, differences 1, 1, 1, 1 and 0: mean 0.8, t(4) = 2.776.
    hit, miss = np.ones(4, bool), np.zeros(4, bool)
    pairs = [(hit, miss)] * 4 + [(hit, hit)]
    (value, low, high), count, _ = clustered_difference(pairs)
    half = 2.7764451 * np.std([1, 1, 1, 1, 0], ddof=1) / np.sqrt(5)
    assert (value, count) == (pytest.approx(0.8), 20)
    assert low == pytest.approx(0.8 - half)
    assert high == 1


def test_clustered_interval_weighs_agents_by_their_inputs_and_skips_empty_ones():
    none = np.zeros(0, bool)
    pairs = [(np.ones(30, bool), np.zeros(30, bool)), (np.ones(10, bool), np.ones(10, bool))]
    (value, low, high), count, _ = clustered_difference([*pairs, (none, none)])
    assert (value, count) == (0.75, 40)
    assert low < value < high
    (value, low, high), count, _ = clustered_difference([(none, none)])
    assert math.isnan(value)
    assert (low, high, count) == (-1, 1, 0)


def trained(generator, repeats, spread, truth=0.0):
    """Return hits of an agent's 40 inputs, alone and together.

    A start moves both conditions alike, and each training has noise of its own.
    """
    chance = generator.uniform(0.1, 0.9, 40)
    starts = generator.normal(0, 0.2, (repeats, 1))

    def condition(shift):
        moves = starts + generator.normal(0, spread, (repeats, 1))
        return generator.random((repeats, 40)) < np.clip(chance + shift + moves, 0, 1)

    return condition(truth), condition(0.0)


@pytest.mark.parametrize("repeats", [2, 3, 5])
def test_the_interval_holds_the_noise_of_training(repeats):
    # Case null-interference: true interference 0, and each training has noise of its own.
    generator, games = np.random.default_rng(5), 400
    inside = sum(
        low <= 0 <= high
        for (_, low, high), *_ in (
            clustered_difference([trained(generator, repeats, 0.12)]) for _ in range(games)
        )
    )
    assert inside >= binom.ppf(1e-6, games, 0.95)


def test_one_training_of_each_would_cover_too_little():
    generator, games = np.random.default_rng(5), 400
    inside = sum(
        low <= 0 <= high
        for (_, low, high), *_ in (
            clustered_difference([trained(generator, 1, 0.2)]) for _ in range(games)
        )
    )
    assert inside < binom.ppf(1e-6, games, 0.95)


def test_the_noise_of_training_is_joined_by_hand():
    first = np.zeros((3, 100), bool)
    first[0, :30], first[1, :40], first[2, :50] = True, True, True
    second = np.zeros((3, 100), bool)
    second[:, :20] = True
    (value, low, high), count, trainings = clustered_difference([(first, second)])
    inputs = paired_difference(first.mean(0), second.mean(0))
    half = 4.30265273 * np.sqrt(0.1**2 / 3)  # t(2) of the differences .1, .2, .3
    assert (value, count, trainings) == (pytest.approx(0.2), 100, 3)
    assert low == pytest.approx(0.2 - np.hypot(0.2 - inputs.low, half))
    assert high == pytest.approx(0.2 + np.hypot(inputs.high - 0.2, half))


def test_paired_interval_of_shares_is_that_of_hits_where_they_are_whole():
    first, second = table(7, 5, 2, 9)
    assert paired_difference(first.astype(float), second.astype(float)) == paired_difference(
        first, second
    )


def test_conditions_trained_unlike_often_are_refused():
    hits = np.ones((2, 4), bool)
    with pytest.raises(ValueError, match="as many trainings"):
        clustered_difference([(hits, hits[:1])])


def test_independent_difference_of_newcombes_own_example():
    # Newcombe 1998, Statistics in Medicine 17:873-890, Table II: 56/70 against 48/80, method 10.
    difference = independent_difference(wilson(56, 70), wilson(48, 80))
    assert difference == pytest.approx(Interval(0.2, 0.0524, 0.3339), abs=5e-5)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=60).filter(
        lambda rows: len({positive for _, positive in rows}) == 2
    )
)
@settings(max_examples=100, deadline=None)
def test_auroc_is_that_of_scikit_learn(rows):
    scores = np.array([score for score, _ in rows], dtype=np.float32)
    positive = np.array([flag for _, flag in rows])
    assert auroc(scores, positive) == pytest.approx(roc_auc_score(positive, scores), abs=1e-12)


def test_auroc_is_undefined_without_both_kinds_or_with_broken_scores():
    scores = np.array([1, 2], dtype=np.float32)
    assert auroc(scores, np.array([True, True])) is None
    assert auroc(scores, np.array([False, False])) is None
    assert auroc(np.array([1, np.nan], dtype=np.float32), np.array([True, False])) is None


def test_mean_and_spread():
    assert mean_std([]) == (None, None)
    assert mean_std([0.5]) == (0.5, None)
    assert mean_std([0, 1]) == pytest.approx((0.5, math.sqrt(0.5)))


@pytest.mark.parametrize(
    ("asr", "all_"), [(0, 0.10), (0.1, 0.19), (0.5, 0.55), (0.9, 0.91), (1, 1)]
)
def test_the_two_asrs_hang_together(asr, all_):
    assert asr_of_all(asr, 1.0, 10) == pytest.approx(all_)

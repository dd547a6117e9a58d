"""Means over seeds, their intervals, and the spread across agents."""

import warnings
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from backfire.evidence.estimates import (
    SHARE,
    across_agents,
    difference_bounds,
    estimate,
    in_heaps,
    two_heaps,
)
from backfire.evidence.series import collect


def by_hand(values, bounds):
    """Return the union of Student's t and Student's t on the arcsine scale, written out."""
    x, (a, b) = np.asarray(values), bounds
    t = stats.t.ppf(0.975, len(x) - 1) / np.sqrt(len(x))
    plain = x.mean() - t * x.std(ddof=1), x.mean() + t * x.std(ddof=1)
    y = np.arcsin(np.sqrt((x - a) / (b - a)))
    found = [*plain]
    for sign in (-1, 1):
        limit = np.clip(y.mean() + sign * t * y.std(ddof=1), 0, np.pi / 2)
        # The mean of sin^2 of a normal, by quadrature rather than by Neyman and Scott's formula.
        nodes, weights = np.polynomial.hermite_e.hermegauss(60)
        mean = (weights * np.sin(limit + y.std(ddof=1) * nodes) ** 2).sum() / weights.sum()
        found.append(a + (b - a) * mean)
    return max(a, min(found)), min(b, max(found))


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-1.0, 1.0), (0.0, 2.0)])
@pytest.mark.parametrize(
    "values", [[0.2, 0.5], [0.2, 0.5, 0.4], [0.93, 0.99, 1.0, 0.97, 0.98], [0.0, 0.0, 0.03, 0.01]]
)
def test_the_interval_is_the_union_of_two_t_intervals(values, bounds):
    found = estimate(values, bounds=bounds)
    assert found.method == "t"
    assert (found.low, found.high) == pytest.approx(by_hand(values, bounds), abs=1e-9)
    assert found.value == pytest.approx(np.mean(values))


def test_without_ends_of_the_range_it_is_students_interval():
    values = [0.2, 0.5, 0.4, 0.3]
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    found = estimate(values)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_an_amount_is_taken_to_its_square_root():
    values = np.array([0.1, 2.0, 0.4, 0.3])
    y = np.sqrt(values)
    half = stats.t.ppf(0.975, 3) * y.std(ddof=1) / 2
    found = estimate(values.tolist(), bounds=(0.0, np.inf))
    assert found.low == 0.0  # Student's t goes below
    assert found.high == pytest.approx((y.mean() + half) ** 2 + y.var(ddof=1))


# In 1024ths, so that 1 - x is exact and no two values become one.
@given(st.lists(st.integers(0, 1024).map(lambda k: k / 1024), min_size=2, max_size=9))
@settings(max_examples=50, deadline=None)
def test_turning_the_score_round_turns_the_interval(values):
    one = estimate(values, bounds=SHARE)
    two = estimate([1 - value for value in values], bounds=SHARE)
    assert one.method == two.method
    if one.low is not None:
        assert (one.low, one.high) == pytest.approx((1 - two.high, 1 - two.low), abs=1e-9)


def test_a_difference_from_a_constant_is_judged_by_the_range_that_is_left():
    values = np.array([0.93, 0.99, 1.0, 0.97, 0.98])
    bounds = difference_bounds(SHARE, (0.1, 0.1))
    assert bounds == (-0.1, 0.9)
    one, two = estimate(values, bounds=SHARE), estimate(values - 0.1, bounds=bounds)
    assert (two.low, two.high) == pytest.approx((one.low - 0.1, one.high - 0.1))


def test_one_seed_has_no_interval_and_none_has_no_value():
    one = estimate([0.4])
    assert (one.value, one.low, one.high, one.n, one.std) == (0.4, None, None, 1, None)
    assert not one.holds(0.4)
    none = estimate([])
    assert (none.value, none.low, none.high, none.n) == (None, None, None, 0)


@pytest.mark.parametrize("values", [[0.1] * 5, [1.0] * 3, [0.1 + 0.2, 0.3, 0.3, 0.3, 0.3]])
def test_equal_values_have_no_interval_and_no_warning(values):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = estimate(values, bounds=SHARE)
    assert (found.method, found.low, found.high) == ("equal", None, None)
    assert found.value == pytest.approx(values[0])
    assert not found.holds(values[0])
    assert found.reach == pytest.approx((values[0], values[0]))


def test_ends_are_cut_to_the_scores_range():
    cut, free = estimate([0.0, 1.0], bounds=SHARE), estimate([0.0, 1.0])
    assert (cut.low, cut.high) == (0.0, 1.0)
    assert free.low < 0 < 1 < free.high


def test_what_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="finite"):
        estimate([0.1, float("nan")])
    with pytest.raises(ValueError, match=r"in 0\.\.1, got \[0\.5, 20\.3\]"):
        estimate([0.5, 20.3], bounds=SHARE)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=9), st.randoms(use_true_random=False))
def test_the_same_values_in_any_order_have_the_same_interval(values, order):
    mixed = list(values)
    order.shuffle(mixed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first, second = estimate(values, bounds=SHARE), estimate(mixed, bounds=SHARE)
    assert (first.low, first.high, first.value) == (second.low, second.high, second.value)
    if first.method == "t":
        assert first.low - 1e-12 <= first.value <= first.high + 1e-12


LEARNED = [0.95, 0.93, 0.97, 0.1]


def test_seeds_in_two_heaps_have_no_interval_but_a_share():
    found = estimate(LEARNED, bounds=SHARE)
    assert (found.method, found.low, found.high) == ("heaps", None, None)
    assert found.heaps.below == (0.1,)
    assert found.heaps.above == (0.93, 0.95, 0.97)
    wilson = stats.binomtest(3, 4).proportion_ci(0.95, method="wilson")
    assert found.heaps.share == pytest.approx((0.75, wilson.low, wilson.high))
    assert found.value == pytest.approx(np.mean(LEARNED))


@pytest.mark.parametrize(
    ("values", "heaps"),
    [
        ([0.0, 1.0], False),  # two are no heaps
        ([0.02, 0.95, 0.955], True),
        ([0.02, 0.9, 0.95], False),  # a gap of 0.946 of the range: three need 0.99
        ([0.5, 0.52, 0.51, 0.92, 0.93, 0.91], False),  # 39 points apart
        ([0.5, 0.52, 0.51, 0.93, 0.94, 0.95], True),
        ([0.1, 0.3, 0.5, 0.7, 0.9], False),
        ([0.0, 0.0, 0.0, 1.0], True),
    ],
)
def test_heaps_lie_far_apart_and_close_together(values, heaps):
    assert (two_heaps(values) is not None) == heaps
    assert (estimate(values, bounds=SHARE).method == "heaps") == heaps


def test_where_the_range_is_open_no_heaps_are_looked_for():
    assert estimate([1.0, 1.01, 1.02, 20.0], bounds=(0.0, np.inf)).method == "t"
    assert estimate([-0.9, -0.91, 0.5, -0.9], bounds=(-1.0, 1.0)).method == "heaps"


SAMPLES = 20_000


@pytest.mark.parametrize("n", [3, 4, 5, 10, 20])
def test_one_heap_is_hardly_ever_taken_for_two(n):
    draw = np.random.default_rng(n)
    nulls = {
        "normal": (draw.normal(0.5, 0.1, (SAMPLES, n)).clip(0, 1), 0.001),
        "beta(8, 2)": (draw.beta(8, 2, (SAMPLES, n)), 0.005),
        "beta(30, 1)": (draw.beta(30, 1, (SAMPLES, n)), 0.001),
        # The hardest of all with one heap: a score that may be anything.
        "uniform": (draw.random((SAMPLES, n)), 0.02),
    }
    for name, (samples, most) in nulls.items():
        called = in_heaps(np.sort(samples, axis=-1)).sum()
        assert called <= stats.binom.ppf(1 - 1e-5, SAMPLES, most), name


@pytest.mark.parametrize(("n", "least"), [(4, 0.5), (5, 0.7), (10, 0.93)])
def test_games_that_learned_in_three_of_four_seeds_are_seen(n, least):
    draw = np.random.default_rng(n)
    learned = np.where(draw.random((SAMPLES, n)) < 0.75, 0.95, 0.1)
    samples = (learned + draw.normal(0, 0.03, learned.shape)).clip(0, 1)
    called = in_heaps(np.sort(samples, axis=-1)).sum()
    assert called >= stats.binom.ppf(1e-5, SAMPLES, least)


def test_the_spread_across_agents_is_no_interval():
    spread = across_agents([0.1, 0.5, 0.9])
    assert spread == pytest.approx((0.5, 0.4, 0.1, 0.9, 3))
    assert across_agents([0.3]).std is None
    assert across_agents([]) == (None, None, None, None, 0)


@dataclass(frozen=True)
class Line:
    at: dict = field(default_factory=dict)
    seed: int = 0
    defender: str = "undefended"
    group: str = "malicious"
    agent: str = ""
    score: str = "asr"
    value: float | None = 0.5
    std: float | None = None
    agents: int = 1


def table():
    return [
        Line({"N": n, "p": p}, seed, defender, value=n / 10 + p / 100 + seed / 1000, std=0.1 * seed)
        for seed in (2, 0, 1)
        for n in (1, 5)
        for p in (1, 2)
        for defender in ("undefended", "cutmix")
    ]


def test_values_are_gathered_by_seed():
    found = collect(table(), "asr")
    assert len(found) == 8
    assert [(s.at, s.defender) for s in found[:3]] == [
        ({"N": 1, "p": 1}, "undefended"),
        ({"N": 1, "p": 1}, "cutmix"),
        ({"N": 1, "p": 2}, "undefended"),
    ]
    assert dict(found[0].values) == pytest.approx({0: 0.11, 1: 0.111, 2: 0.112})
    assert list(found[0].values) == [0, 1, 2]
    assert found[0].estimate.n == 3


def test_an_axis_that_is_left_out_is_averaged_within_each_seed():
    found = collect(table(), "asr", by=["N"], where={"defender": "cutmix"})
    assert [s.at for s in found] == [{"N": 1}, {"N": 5}]
    assert dict(found[0].values) == pytest.approx({0: 0.115, 1: 0.116, 2: 0.117})
    lacking = [line for line in table() if not (line.seed == 1 and line.at == {"N": 1, "p": 2})]
    found = collect(lacking, "asr", by=["N"], where={"defender": "cutmix"})
    assert list(found[0].values) == [0, 2]
    assert list(found[1].values) == [0, 1, 2]
    # Two seeds that lack one each, not the same one, have no mean in common.
    uneven = [line for line in table() if (line.seed, line.at["p"]) not in ((0, 1), (1, 2), (2, 1))]
    found = collect(uneven, "asr", by=["N"], where={"defender": "cutmix", "N": 1})
    assert not found[0].values


def test_the_spread_across_agents_is_kept_apart():
    found = collect(table(), "asr")[0]
    assert found.std_across_agents == pytest.approx(np.sqrt((0 + 0.01 + 0.04) / 3))
    assert found.estimate.std == pytest.approx(0.001)
    assert collect([Line()], "asr")[0].std_across_agents is None


def test_lines_of_single_agents_are_asked_for():
    lines = [Line(), Line(agent="mallory-0", value=0.2), Line(agent="mallory-1", value=None)]
    assert [s.agent for s in collect(lines, "asr")] == [""]
    one, two = collect(lines, "asr", each_agent=True)
    assert (one.agent, one.estimate.value) == ("mallory-0", 0.2)
    assert (dict(two.values), two.estimate.value) == ({}, None)


def test_the_wrong_name_and_a_line_that_is_there_twice_are_refused():
    with pytest.raises(ValueError, match="expected one of N, p, defender, group, agent, got 'n'"):
        collect(table(), "asr", by=["n"])
    with pytest.raises(ValueError, match="got 'attackers'"):
        collect(table(), "asr", where={"attackers": 1})
    with pytest.raises(ValueError, match="twice"):
        collect([Line(), replace(Line(), value=0.1)], "asr")


def test_a_difference_of_shares_may_be_negative():
    lines = [Line(score="interference", seed=s, value=v) for s, v in enumerate((-0.9, 0.1))]
    assert collect(lines, "interference")[0].estimate.low == -1.0


def test_an_amount_may_be_more_than_one_and_not_less_than_none():
    lines = [Line(score="work", seed=s, value=v) for s, v in enumerate((0.1, 20.0))]
    found = collect(lines, "work")[0].estimate
    assert found.low == 0.0
    assert found.high > 20

"""Means over seeds, their intervals, and the spread across agents."""

import warnings
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from backfire.analysis.estimates import SHARE, across_agents, estimate
from backfire.analysis.series import collect


def bca_by_hand(values, draws, level=0.95):
    """Efron's formulas, written out: bias correction, acceleration by the jackknife."""
    x, n = np.asarray(values), len(values)
    mean = x.mean()
    z0 = stats.norm.ppf(((draws < mean).mean() + (draws <= mean).mean()) / 2)
    left_out = np.array([np.delete(x, i).mean() for i in range(n)])
    centred = left_out.mean() - left_out
    a = (centred**3).sum() / (6 * ((centred**2).sum()) ** 1.5)
    ends = []
    for tail in ((1 - level) / 2, (1 + level) / 2):
        z = z0 + stats.norm.ppf(tail)
        ends.append(np.quantile(draws, stats.norm.cdf(z0 + z / (1 - a * z))))
    return ends


def test_five_seeds_and_more_have_efrons_interval():
    values = [0.12, 0.31, 0.45, 0.28, 0.93, 0.11]
    generator = np.random.default_rng(1)
    draws = generator.choice(values, (200_000, len(values))).mean(axis=1)
    found = estimate(values)
    assert found.method == "bca"
    assert (found.low, found.high) == pytest.approx(bca_by_hand(values, draws), abs=0.01)
    assert found.value == pytest.approx(np.mean(values))
    # Skew to the right: the interval reaches further up, as no t interval does.
    assert found.high - found.value > 1.2 * (found.value - found.low)


@pytest.mark.parametrize("n", [2, 3, 4])
def test_fewer_than_five_seeds_have_students_interval(n):
    values = [0.2, 0.5, 0.4, 0.3][:n]
    found = estimate(values)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert found.method == "t"
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_one_seed_has_no_interval_and_none_has_no_value():
    one = estimate([0.4])
    assert (one.value, one.low, one.high, one.n, one.std) == (0.4, None, None, 1, None)
    assert not one.holds(0.4)
    none = estimate([])
    assert (none.value, none.low, none.high, none.n) == (None, None, None, 0)


@pytest.mark.parametrize("values", [[0.1] * 5, [1.0] * 3, [0.1 + 0.2, 0.3, 0.3, 0.3, 0.3]])
def test_equal_values_have_an_interval_without_width_and_no_warning(values):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = estimate(values, bounds=SHARE)
    assert found.method == "equal"
    assert found.low == found.value == found.high
    assert found.holds(values[0])


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
    assert first.low - 1e-12 <= first.value <= first.high + 1e-12


def test_most_intervals_hold_the_mean_that_the_seeds_come_from():
    # BCa of ten skewed values holds the mean less often than 95 %, far more often than 75 %.
    generator = np.random.default_rng(5)
    samples = generator.beta(2, 5, (200, 10))
    held = np.mean([estimate(sample).holds(2 / 7) for sample in samples])
    assert 0.84 <= held <= 0.98


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

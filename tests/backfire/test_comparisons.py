"""Paired comparisons, their correction, and rankings with ties."""

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from backfire.evidence.comparisons import (
    compare,
    compare_all,
    holm,
    paired_t,
    rank,
    sign_flip,
)


def seeds(*values):
    return dict(enumerate(values))


def test_holm_on_a_worked_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, None, 0.6]) == pytest.approx([1.0, None, 1.0])
    assert holm([]) == []
    with pytest.raises(ValueError, match=r"in 0\.\.1"):
        holm([1.2])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_the_closed_test_of_bonferroni(ps):
    # Marcus, Peritz & Gabriel (1976): reject i if every intersection that holds i is rejected.
    n = len(ps)
    sets = [s for size in range(1, n + 1) for s in combinations(range(n), size)]
    for i, found in enumerate(holm(ps)):
        expected = max(min(1.0, len(s) * min(ps[j] for j in s)) for s in sets if i in s)
        assert found == pytest.approx(expected, abs=1e-15)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-1, 1).map(lambda v: round(v, 3)), min_size=2, max_size=8))
def test_p_values_are_those_of_scipy(differences):
    array = np.array(differences)
    if np.ptp(array) > 1e-6:
        assert paired_t(array) == pytest.approx(stats.ttest_1samp(array, 0).pvalue, rel=1e-6)
    exact = stats.permutation_test(
        (array, np.zeros(len(array))),
        lambda x, y, axis: (x - y).mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    )
    assert sign_flip(array) == pytest.approx(exact.pvalue, abs=1e-12)


def test_tests_without_spread_or_without_seeds():
    assert paired_t(np.zeros(5)) is None
    assert paired_t(np.full(5, 0.25)) is None
    assert sign_flip(np.full(5, 0.25)) == 2 / 32
    assert paired_t(np.array([0.3])) is None
    assert sign_flip(np.array([0.3])) is None
    assert sign_flip(np.arange(17.0)) is None


@pytest.mark.parametrize(("n", "verdict"), [(3, "tie"), (5, "tie"), (6, "better"), (20, "better")])
def test_equal_differences_are_judged_by_the_sign_flips_alone(n, verdict):
    found = compare(("A", seeds(*[1.0] * n)), ("B", seeds(*[0.0] * n)))
    assert (found.difference.low, found.difference.method) == (None, "equal")
    assert found.p == 2 / 2**n
    assert found.verdict == verdict
    same = compare(("A", seeds(*[0.3] * n)), ("B", seeds(*[0.3] * n)))
    assert (same.p, same.verdict) == (1.0, "tie")


def test_differences_in_two_heaps_are_judged_by_the_sign_flips():
    # Learned in four of five: Student's t calls it sure (p = 0.018), and is not meant for it.
    values = [0.9, 0.92, 0.91, 0.9, 0.02]
    found = compare(("A", seeds(*values)), ("B", seeds(*[0.0] * 5)))
    assert stats.ttest_1samp(values, 0).pvalue < 0.02
    assert found.difference.method == "heaps"
    assert (found.p, found.verdict) == (2 / 32, "tie")
    ten = compare(("A", seeds(*values, *values)), ("B", seeds(*[0.0] * 10)))
    assert (ten.p, ten.verdict) == (2 / 1024, "better")


def test_what_has_no_interval_reaches_over_its_seeds():
    # Every seed the same against a spread far from it: told apart by the paired differences.
    table = {"all": seeds(*[0.0] * 5), "near": seeds(0.0, 0.02, 0.01, 0.0, 0.0)}
    far = {"far": seeds(0.93, 0.9, 0.95, 0.96, 0.91)}
    places = rank({**far, **table}, higher_is_better=False)
    assert [(place.name, place.text) for place in places] == [
        ("all", "1="), ("near", "1="), ("far", "3")
    ]  # fmt: skip


def test_a_clear_difference_is_found_in_either_direction():
    a, b = ("A", seeds(0.9, 0.8, 0.95, 0.85, 0.9)), ("B", seeds(0.5, 0.45, 0.6, 0.4, 0.5))
    found = compare(a, b)
    assert found.verdict == "better"
    assert found.difference.value == pytest.approx(0.39)
    assert found.p < 0.001
    assert compare(b, a).verdict == "worse"
    assert compare(a, b, higher_is_better=False).verdict == "worse"


def test_pairing_by_seed_finds_what_the_spread_between_seeds_hides():
    base = np.array([0.1, 0.3, 0.5, 0.7, 0.9])
    a, b = base + np.array([0.02, 0.03, 0.02, 0.03, 0.02]), base
    assert stats.ttest_ind(a, b).pvalue > 0.9
    assert compare(("A", seeds(*a)), ("B", seeds(*b))).verdict == "better"


def test_only_common_seeds_count():
    found = compare(("A", {0: 0.1, 1: 0.2, 7: 0.9}), ("B", {1: 0.1, 7: 0.5, 9: 0.0}))
    assert found.difference.values == pytest.approx((0.1, 0.4))
    none = compare(("A", {0: 0.1}), ("B", {1: 0.2}))
    assert (none.difference.n, none.p, none.verdict) == (0, None, "tie")


@pytest.mark.parametrize("n", [0, 1, 2])
def test_two_seeds_decide_nothing(n):
    assert compare(("A", seeds(*[1.0] * n)), ("B", seeds(*[0.0] * n))).verdict == "tie"


def test_noise_is_a_tie():
    found = compare(("A", seeds(0.1, 0.9, 0.4, 0.6, 0.5)), ("B", seeds(0.5, 0.4, 0.6, 0.3, 0.7)))
    assert found.verdict == "tie"
    assert found.difference.holds(0)


def test_many_questions_make_the_same_answer_a_tie():
    clear = (("A", seeds(0.60, 0.48, 0.57, 0.46, 0.55)), ("B", seeds(0.5, 0.44, 0.5, 0.45, 0.48)))
    noise = (("C", seeds(0.1, 0.9, 0.4, 0.6, 0.5)), ("D", seeds(0.5, 0.4, 0.6, 0.3, 0.7)))
    alone = compare(*clear)
    assert 0.01 < alone.p < 0.05
    assert alone.verdict == "better"
    among = compare_all([clear, *[noise] * 9])
    assert among[0].p_holm == pytest.approx(10 * alone.p)
    assert (among[0].questions, among[0].verdict) == (10, "tie")


def test_false_alarms_over_a_table_are_rare():
    # 200 tables of three questions whose answer is "equal": an error in about 5 % of the tables.
    generator = np.random.default_rng(3)
    wrong = 0
    for _ in range(200):
        data = generator.normal(0.5, 0.1, (3, 2, 6))
        pairs = [(("A", seeds(*a)), ("B", seeds(*b))) for a, b in data]
        wrong += any(one.verdict != "tie" for one in compare_all(pairs))
    assert wrong <= 22


def test_a_ranking_shows_ties():
    entries = {
        "low": seeds(0.10, 0.12, 0.11, 0.09, 0.10),
        "high": seeds(0.90, 0.91, 0.89, 0.92, 0.90),
        "also high": seeds(0.91, 0.89, 0.92, 0.88, 0.91),
        "never played": {},
    }
    places = rank(entries)
    assert [(p.text, p.name) for p in places] == [("1=", "high"), ("1=", "also high"), ("3", "low")]
    assert places[0].ties == ("also high",)
    assert rank(entries, higher_is_better=False)[0].name == "low"
    assert rank(entries, higher_is_better=False)[0].text == "1"


def test_overlapping_intervals_are_a_tie_though_the_pairs_differ():
    base = [0.1, 0.3, 0.5, 0.7, 0.9]
    entries = {
        "A": seeds(*(np.array(base) + np.array([0.02, 0.03, 0.02, 0.03, 0.02]))),
        "B": seeds(*base),
    }
    assert [place.text for place in rank(entries)] == ["1=", "1="]


def test_ties_do_not_chain():
    step = np.array([-0.04, 0.04, 0.0, 0.02, -0.02])
    entries = {
        "A": seeds(*(0.60 + step)),
        "B": seeds(*(0.56 - step)),
        "C": seeds(*(0.50 + step / 2)),
    }
    found = {place.name: (place.rank, set(place.ties)) for place in rank(entries)}
    assert found == {"A": (1, {"B"}), "B": (1, {"A", "C"}), "C": (2, {"B"})}


def test_one_seed_is_never_a_ranking():
    assert [p.text for p in rank({"A": {0: 1.0}, "B": {0: 0.0}})] == ["1=", "1="]
    assert [p.text for p in rank({"A": {0: 1.0}})] == ["1"]


@pytest.mark.parametrize("unit", [1e-3, 0.1, 1.0, 1e9 / 7, 1e9 / 11])
@pytest.mark.parametrize("turn", [1, -1])
def test_the_sign_flip_p_does_not_depend_on_the_unit(unit, turn):
    """0.3 - 0.1 - 0.2 + 0.5 and -0.3 + 0.1 + 0.2 + 0.5 tie but for rounding."""
    whole = np.array([3, -1, -2, 5], np.float64)
    signs = np.array(list(product([1, -1], repeat=4)))
    wanted = np.mean(np.abs(signs @ whole) >= 5)
    assert sign_flip(turn * whole * unit) == wanted

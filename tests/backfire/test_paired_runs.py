"""Two runs side by side: paired by seed, corrected together, nothing claimed without seeds."""

from __future__ import annotations

import numpy as np
import pytest

from backfire.evidence.comparisons import compare_all, paired_t
from backfire.evidence.paired_runs import compare_runs, scenario_changes
from backfire.evidence.rows import ScoreRow


def rows(values, score="asr", defender="krum", at=None, group="malicious"):
    """Return a line for each seed; `values` by seed."""
    return [
        ScoreRow(at or {}, seed, "cell", defender, group, "", score, value)
        for seed, value in values.items()
    ]


def side(name, *lines, scenario=None):
    return name, [row for part in lines for row in part], scenario or {}


def only(compared):
    assert len(compared.scores) == 1
    return compared.scores[0]


def test_differences_are_those_of_the_common_seeds_only():
    one = {0: 0.9, 1: 0.8, 2: 0.7, 3: 0.1}
    two = {1: 0.5, 2: 0.3, 3: 0.2, 9: 1.0}
    found = compare_runs(side("a", rows(one)), side("b", rows(two)))
    paired = only(found).paired
    assert found.common == (1, 2, 3)
    assert found.seeds == ((0, 1, 2, 3), (1, 2, 3, 9))
    assert paired.difference.n == 3
    assert paired.difference.value == pytest.approx((0.3 + 0.4 - 0.1) / 3)
    assert paired.p == pytest.approx(paired_t(np.array([0.3, 0.4, -0.1])))
    # Each side's own mean is over all of its seeds.
    assert only(found).first.value == pytest.approx(0.625)
    assert only(found).second.n == 4


def test_a_clear_difference_is_told_with_its_direction():
    one = {seed: 0.8 + 0.01 * seed for seed in range(5)}
    two = {seed: 0.3 + 0.012 * seed for seed in range(5)}
    assert only(compare_runs(side("a", rows(one)), side("b", rows(two)))).told == "higher"
    assert only(compare_runs(side("b", rows(two)), side("a", rows(one)))).told == "lower"
    assert only(compare_runs(side("a", rows(one)), side("a", rows(one)))).told == "not told apart"


def test_one_game_each_decides_nothing_and_says_so():
    found = compare_runs(side("a", rows({4: 1.0})), side("b", rows({4: 0.0})))
    assert only(found).paired.difference.value == 1.0
    assert only(found).told == "not told apart"
    assert found.notes == (
        "1 seed is on both sides: differences are described, and decide nothing",
    )


def test_without_a_common_seed_there_is_no_difference():
    found = compare_runs(side("a", rows({0: 1.0})), side("b", rows({1: 0.0})))
    assert only(found).paired is None
    assert only(found).told is None
    assert found.notes == ("no seed is on both sides: there is no paired difference",)


def test_p_values_are_corrected_for_all_questions_at_once():
    first = [{s: 0.5 + 0.02 * s + 0.05 * k for s in range(4)} for k in range(3)]
    second = [{s: 0.4 + 0.01 * s * (k + 1) for s in range(4)} for k in range(3)]
    a = [rows(v, score=f"s{k}") for k, v in enumerate(first)]
    b = [rows(v, score=f"s{k}") for k, v in enumerate(second)]
    found = compare_runs(side("a", *a), side("b", *b)).scores
    same = compare_all([(("a", x), ("b", y)) for x, y in zip(first, second, strict=True)])
    assert [one.paired.p_holm for one in found] == [one.p_holm for one in same]
    assert all(one.paired.questions == 3 for one in found)


def test_what_one_side_lacks_is_shown_without_a_difference():
    a = side("a", rows({0: 0.5}), rows({0: 0.6}, defender="mean"))
    found = compare_runs(a, side("b", rows({0: 0.4}), rows({0: 0.7}, defender="flame")))
    shown = {one.defender: (one.first.n, one.second.n, one.paired is None) for one in found.scores}
    assert shown == {"krum": (1, 1, False), "mean": (1, 0, True), "flame": (0, 1, True)}


def test_cells_meet_cells_of_the_same_coordinates():
    a = side("a", rows({0: 0.5}, at={"n": 1}), rows({0: 0.9}, at={"n": 2}))
    b = side("b", rows({0: 0.1}, at={"n": 2}), rows({0: 0.2}, at={"n": 1}))
    found = {one.at["n"]: one.paired.difference.value for one in compare_runs(a, b).scores}
    assert found == {1: pytest.approx(0.3), 2: pytest.approx(0.8)}


def test_names_that_never_meet_are_told():
    found = compare_runs(side("a", rows({0: 1.0})), side("b", rows({0: 1.0}, defender="x")))
    assert any(note.startswith("no score is on both sides") for note in found.notes)


def test_a_line_that_stands_twice_is_refused():
    with pytest.raises(ValueError, match="twice"):
        compare_runs(side("a", rows({0: 1.0}), rows({0: 0.5})), side("b", rows({0: 1.0})))


def test_single_agents_and_scores_without_a_value_are_left_out():
    extra = ScoreRow({}, 0, "cell", "krum", "malicious", "mallory-1", "asr", 0.3)
    a = side("a", rows({0: 0.5}), [extra], rows({0: None}, score="asr_alone"))
    assert only(compare_runs(a, side("b", rows({0: 0.5})))).score == "asr"


def test_amounts_may_lie_outside_of_shares():
    found = compare_runs(
        side("a", rows({0: 7.0, 1: 8.0}, score="work")),
        side("b", rows({0: 2.0, 1: 1.0}, score="work")),
    )
    assert only(found).paired.difference.value == 6.0


def test_the_scenarios_differences_go_by_names_and_leave_seeds_out():
    first = {"seed": 1, "agents": [{"name": "h", "count": 2}, {"name": "m", "count": 1}],
             "defenders": {"k": [{"kind": "krum", "f": 1}]}, "sweep": {"seeds": 2}}  # fmt: skip
    second = {"seed": 2, "agents": [{"name": "m", "count": 3}, {"name": "h", "count": 2}],
              "defenders": {"k": [{"kind": "krum", "f": 2}], "none": []},
              "sweep": {"seeds": 5}}  # fmt: skip
    found = {(one.path, one.first, str(one.second)) for one in scenario_changes(first, second)}
    assert found == {
        ("agents.m.count", 1, "3"),
        ("defenders.k.0.f", 1, "2"),
        ("defenders.none", None, "[]"),
    }

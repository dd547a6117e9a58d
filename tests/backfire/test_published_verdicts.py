"""Verdicts beside a paper: each rule with data for which it must and must not hold."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from backfire.evidence.published.judging import RULES, ClaimVerdict, p_words, side_by_side
from backfire.evidence.published.text import markdown, rules_markdown
from scenarios.sweep.published import Published


@dataclass
class Row:
    at: dict
    seed: int
    defender: str
    score: str
    value: float | None
    group: str = "malicious"
    agent: str = ""
    std: float | None = None
    agents: int = 1
    cell: str = "c"
    extra: dict = field(default_factory=dict)


def rows(values, score="asr", **more):
    """values: {(axis values...), defender: mean}; five seeds around each mean."""
    wobble = np.array([-0.02, -0.01, 0.0, 0.01, 0.02])
    out = []
    for (place, defender), mean in values.items():
        shift = np.roll(wobble, len(out) // 5)
        out += [
            Row(
                dict(place), seed, defender, score, float(np.clip(mean + shift[seed], 0, 1)), **more
            )
            for seed in range(5)
        ]
    return out


def grid(table):
    return {((("n", n), ("draw", draw)), "none"): v for (n, draw), v in table.items()}


FALLS = grid({(1, "fixed"): 0.9, (1, "redrawn"): 0.9, (10, "fixed"): 0.9, (10, "redrawn"): 0.2})


def claim(less, than, **more):
    side = {"defender": "none", "score": "asr"}
    return {
        "text": "fewer",
        "less": {**side, "at": less} if isinstance(less, dict) else {"value": less},
        "than": {**side, "at": than} if isinstance(than, dict) else {"value": than},
        **more,
    }


def block(*claims, figures=(), comparable="yes"):
    return Published.model_validate(
        {"source": "X", "comparable": comparable, "claims": claims, "figures": figures}
    )


def judge(claims, data, **more):
    return side_by_side(block(*claims), data, **more).claims


def test_a_claim_holds_fails_and_holds_in_part():
    data = rows(FALLS)
    redrawn = {"draw": "redrawn"}
    (held,) = judge([claim({"n": 10, **redrawn}, {"n": 1, **redrawn})], data)
    assert held.verdict is ClaimVerdict.HOLDS
    (failed,) = judge([claim({"n": 1, **redrawn}, {"n": 10, **redrawn})], data)
    assert failed.verdict is ClaimVerdict.FAILS
    (part,) = judge([claim({"n": 10}, {"n": 1})], data)
    assert part.verdict is ClaimVerdict.PART
    assert len(part.comparisons) == 2
    assert "holds in 1 of 2" in part.why
    assert "by draw – fixed: 0 of 1, redrawn: 1 of 1" in part.why
    (open_,) = judge([claim({"n": 10, "draw": "fixed"}, {"n": 1, "draw": "fixed"})], data)
    assert open_.verdict is ClaimVerdict.UNDECIDED


def test_p_values_are_those_of_the_paired_t_test_times_holms_factors():
    data = rows(FALLS)
    judged = judge([claim({"n": 10}, {"n": 1}), claim(0.5, {"n": 1, "draw": "fixed"})], data)
    values = {}
    for row in data:
        values.setdefault((row.at["n"], row.at["draw"]), []).append(row.value)
    raw = [
        stats.ttest_rel(values[1, "fixed"], values[10, "fixed"]).pvalue,
        stats.ttest_rel(values[1, "redrawn"], values[10, "redrawn"]).pvalue,
        stats.ttest_1samp(values[1, "fixed"], 0.5).pvalue,
    ]
    expected, largest = [0.0] * 3, 0.0
    for step, index in enumerate(np.argsort(raw)):
        largest = max(largest, min(1.0, (3 - step) * raw[index]))
        expected[index] = largest
    got = [one.p for line in judged for one in line.comparisons]
    assert got == pytest.approx(expected, rel=1e-9)


def test_a_claim_that_one_reading_contradicts_holds_in_part_and_says_so():
    data = rows(FALLS | grid({(10, "fixed"): 0.99, (1, "fixed"): 0.5}))
    (line,) = judge([claim({"n": 10}, {"n": 1})], data)
    assert line.verdict is ClaimVerdict.PART
    assert "holds in 1 of 2 comparisons, contradicted in 1" in line.why
    (failed,) = judge([claim({"n": 1, "draw": "redrawn"}, {"n": 10, "draw": "redrawn"})], data)
    assert failed.verdict is ClaimVerdict.FAILS


def test_a_margin_and_a_tolerance_decide():
    data = rows(FALLS)
    places = ({"n": 10, "draw": "redrawn"}, {"n": 1, "draw": "redrawn"})
    assert judge([claim(*places, margin=0.5)], data)[0].verdict is ClaimVerdict.HOLDS
    assert judge([claim(*places, margin=0.9)], data)[0].verdict is ClaimVerdict.FAILS
    near = {
        "text": "alike",
        "about": {"at": places[0], "defender": "none", "score": "asr", "tolerance": 0.1},
        "than": {"at": places[1], "defender": "none", "score": "asr"},
    }
    assert judge([near], data)[0].verdict is ClaimVerdict.FAILS
    near["about"] = {**near["about"], "at": {"n": 10, "draw": "fixed"}}
    near["than"] = {**near["than"], "at": {"n": 1, "draw": "fixed"}}
    assert judge([near], data)[0].verdict is ClaimVerdict.HOLDS
    near["about"] = {**near["about"], "tolerance": 0.001}
    assert judge([near], data)[0].verdict is ClaimVerdict.UNDECIDED


def test_what_one_side_leaves_out_takes_every_other_value():
    data = rows({((("n", n),), "none"): v for n, v in ((1, 0.9), (2, 0.5), (5, 0.3))})
    (line,) = judge([claim({}, {"n": 1})], data)
    assert [one.first.at["n"] for one in line.comparisons] == [2, 5]
    assert line.verdict is ClaimVerdict.HOLDS


def test_an_axis_that_goes_along_with_a_named_one_counts_as_named():
    data = rows(
        {((("n", n), ("rate", r)), "none"): v for n, r, v in ((1, 0.5, 0.9), (9, 0.1, 0.2))}
    )
    (alone,) = judge([claim({"n": 9}, {"n": 1})], data)
    assert alone.comparisons == ()
    assert alone.verdict is ClaimVerdict.UNDECIDED
    (along,) = judge([claim({"n": 9}, {"n": 1})], data, together=[["n", "rate"]])
    assert along.verdict is ClaimVerdict.HOLDS


def test_few_seeds_decide_nothing():
    data = [row for row in rows(FALLS) if row.seed < 2]
    (line,) = judge([claim({"n": 10, "draw": "redrawn"}, {"n": 1, "draw": "redrawn"})], data)
    assert line.verdict is ClaimVerdict.UNDECIDED
    assert "3 seeds are needed" in line.why


def test_seeds_that_one_side_lacks_are_left_out():
    data = [r for r in rows(FALLS) if r.at != {"n": 10, "draw": "redrawn"} or r.seed < 4]
    (line,) = judge([claim({"n": 10, "draw": "redrawn"}, {"n": 1, "draw": "redrawn"})], data)
    assert line.comparisons[0].difference.n == 4


@pytest.mark.parametrize(
    ("value", "spread", "comparable", "verdict"),
    [
        (0.21, None, "yes", ClaimVerdict.HOLDS),
        (0.30, None, "yes", ClaimVerdict.FAILS),
        (0.30, 0.05, "yes", ClaimVerdict.FAILS),
        (0.30, 0.15, "yes", ClaimVerdict.HOLDS),
        (0.21, None, "no: other data", ClaimVerdict.NOT_COMPARABLE),
    ],
)
def test_figures(value, spread, comparable, verdict):
    figure = {"at": {"n": 10, "draw": "redrawn"}, "score": "asr", "value": value, "spread": spread}
    (line,) = side_by_side(block(figures=[figure], comparable=comparable), rows(FALLS)).figures
    assert line.verdict is verdict
    assert line.ours.value == pytest.approx(0.2)
    assert line.ours.n == 5


def test_a_figure_stands_once_for_each_value_of_what_it_leaves_out():
    figure = {"at": {"n": 10}, "score": "asr", "value": 0.2}
    lines = side_by_side(block(figures=[figure]), rows(FALLS)).figures
    assert [(line.spot.at["draw"], line.verdict) for line in lines] == [
        ("fixed", ClaimVerdict.FAILS),
        ("redrawn", ClaimVerdict.HOLDS),
    ]


def test_wide_intervals_and_missing_scores_decide_nothing():
    data = [Row({}, seed, "none", "asr", value) for seed, value in enumerate((0.1, 0.5, 0.9))]
    figures = [{"score": "asr", "value": 0.5}, {"score": "clean_accuracy", "value": 0.5}]
    wide, missing = side_by_side(block(figures=figures), data).figures
    assert wide.verdict is missing.verdict is ClaimVerdict.UNDECIDED
    assert "points wide" in wide.why
    assert "not scored" in missing.why


def test_scores_of_the_defender_are_found_without_a_group():
    data = rows(FALLS, score="clean_accuracy", group="")
    figure = {"at": {"n": 1, "draw": "fixed"}, "score": "clean_accuracy", "value": 0.9}
    (line,) = side_by_side(block(figures=[figure]), data).figures
    assert (line.group, line.verdict) == ("", ClaimVerdict.HOLDS)


def test_markdown_is_the_same_each_time_and_foreign_text_stays_text():
    hostile = "x | y <script>alert(1)</script>\n# *not a heading*"
    figure = {"at": {"n": 10}, "score": "asr", "value": 0.2, "spread": 0.01, "note": hostile}
    published = Published.model_validate(
        {
            "source": "S1",
            "comparable": "no: other data",
            "figures": [figure],
            "claims": [{**claim({"n": 10}, {"n": 1}), "text": hostile}],
        }
    )
    data = rows(FALLS)
    text = markdown(side_by_side(published, data), replay="backfire sweep x", title=hostile)
    assert text == markdown(side_by_side(published, data), replay="backfire sweep x", title=hostile)
    assert "<script>" not in text.replace("\\<script\\>", "")
    assert not [line for line in text.splitlines() if line.startswith("# \\*not")]
    widths = {}
    for line in text.splitlines():
        if line.startswith("|"):
            widths.setdefault(len(re.findall(r"(?<!\\)\|", line)), []).append(line)
    assert set(widths) == {4, 5, 6}
    assert "holds in 1 of 2 comparisons" in text
    assert "20 ± 1 %" in text
    assert "20.0 %" in text
    assert "n = 5" in text


def test_the_rules_are_told():
    assert len(RULES) >= 5
    assert all(rule.endswith(".") for rule in RULES)


def test_the_docs_say_the_rules_as_they_are():
    page = Path(__file__).parents[2] / "docs" / "reproductions" / "README.md"
    assert rules_markdown() in page.read_text()


def accuracies(*, constant=0.1, **means):
    """Return the defender's own accuracies at every place of `FALLS`: by score, one mean for all.

    A pair of means is that of the places with n = 1 and that of the others.
    """
    out = []
    for score, mean in {"constant_accuracy": constant, **means}.items():
        near, far = mean if isinstance(mean, tuple) else (mean, mean)
        values = {place: near if place[0][0] == ("n", 1) else far for place in FALLS}
        out += [row for row in rows(values, score=score, group="") if row.value is not None]
    return out


@pytest.mark.parametrize("score", ["asr", "asr_all", "asr_source", "interference"])
@pytest.mark.parametrize(
    ("known", "void"),
    [
        ({}, 0),
        ({"clean_accuracy": 0.9, "clean_accuracy_attacker_free": 0.9}, 0),
        # Hard data: 20 % of a hundred classes are learnt.
        ({"constant": 0.01, "clean_accuracy": 0.2, "clean_accuracy_attacker_free": 0.2}, 0),
        ({"clean_accuracy": 0.12, "clean_accuracy_attacker_free": 0.12}, 2),
        # Destroyed by the attack, or known in one of the games only.
        ({"clean_accuracy": (0.9, 0.12), "clean_accuracy_attacker_free": 0.9}, 2),
        ({"clean_accuracy": (0.12, 0.9)}, 2),
        ({"clean_accuracy_attacker_free": 0.12}, 2),
    ],
)
def test_what_an_attack_does_to_a_model_that_has_not_learnt_is_void(score, known, void):
    same = claim({"n": 10}, {"n": 1})
    for side in ("less", "than"):
        same[side] = same[side] | {"score": score}
    (plain,) = judge([same], rows(FALLS, score=score))
    assert plain.verdict is ClaimVerdict.PART
    (line,) = judge([same], rows(FALLS, score=score) + accuracies(**known))
    assert sum(one.why == "void: the model has not learnt" for one in line.comparisons) == void
    assert [one.verdict for one in line.comparisons] == (
        [ClaimVerdict.UNDECIDED] * 2 if void else [one.verdict for one in plain.comparisons]
    )
    assert line.verdict is (ClaimVerdict.UNDECIDED if void else ClaimVerdict.PART)
    if not void:
        assert line == plain


def test_a_claim_of_accuracy_is_judged_on_dead_models_too():
    side = {"defender": "none", "score": "clean_accuracy"}
    falls = {"text": "x", "less": {**side, "at": {"n": 10}}, "than": {**side, "at": {"n": 1}}}
    (line,) = judge([falls], accuracies(clean_accuracy=(0.9, 0.12)))
    assert line.verdict is ClaimVerdict.HOLDS


def test_a_void_comparison_is_said_and_costs_the_others_nothing():
    data = rows(FALLS) + [
        row
        for row in accuracies(clean_accuracy=(0.9, 0.12), clean_accuracy_attacker_free=0.9)
        if row.at["draw"] == "fixed"
    ]
    one = claim({"n": 10, "draw": "fixed"}, {"n": 1, "draw": "fixed"})
    other = claim({"n": 10, "draw": "redrawn"}, {"n": 1, "draw": "redrawn"})
    void, held = judge([one, other], data)
    assert void.verdict is ClaimVerdict.UNDECIDED
    assert void.why.endswith("; void: the model has not learnt")
    assert held.verdict is ClaimVerdict.HOLDS
    # It is no test any more: Holm's correction counts the tests alone.
    (alone,) = judge([other], rows(FALLS))
    assert held.comparisons[0].p == alone.comparisons[0].p


@pytest.mark.parametrize(
    ("comparable", "accuracy", "verdict"),
    [
        ("yes", 0.12, ClaimVerdict.UNDECIDED),
        ("yes", 0.9, ClaimVerdict.HOLDS),
        ("no: other data", 0.12, ClaimVerdict.NOT_COMPARABLE),
    ],
)
def test_a_figure_of_a_dead_model_is_undecided(comparable, accuracy, verdict):
    figure = {"at": {"n": 1, "draw": "fixed"}, "defender": "none", "score": "asr", "value": 0.9}
    data = rows(FALLS) + accuracies(clean_accuracy=accuracy)
    (line,) = side_by_side(block(figures=[figure], comparable=comparable), data).figures
    assert line.verdict is verdict
    assert (line.why == "void: the model has not learnt") == (verdict is ClaimVerdict.UNDECIDED)


def played(values, score="asr"):
    """Return lines of one place with a score for each seed."""
    return [Row({"n": 1}, seed, "none", score, value) for seed, value in enumerate(values)]


def test_a_claim_needs_the_interval_too():
    # Skewed towards 0: Student's t is sure that the mean lies below 20 % (p = 0.014), the interval,
    # which knows that no share is below 0, reaches above it.
    values = [0.12, 0.15, 0.0, 0.09, 0.0]
    (line,) = judge([claim(0.2, {"n": 1})], played(values))
    (one,) = line.comparisons
    assert one.p == pytest.approx(stats.ttest_1samp(values, 0.2).pvalue)
    assert one.p < 0.05
    assert one.difference.holds(0.0)
    assert line.verdict is ClaimVerdict.UNDECIDED
    assert "the interval does not bear it out" in line.why
    (clear,) = judge([claim(0.4, {"n": 1})], played(values))
    assert clear.verdict is ClaimVerdict.FAILS


def test_about_needs_the_interval_too():
    side = {"defender": "none", "score": "asr", "at": {"n": 1}}
    values = [0.12, 0.15, 0.0, 0.09, 0.0]
    near = {"text": "near", "about": {**side, "tolerance": 0.2}, "than": {"value": 0}}
    (line,) = judge([near], played(values))
    assert line.comparisons[0].p < 0.05
    assert line.comparisons[0].difference.high > 0.2
    assert line.verdict is ClaimVerdict.UNDECIDED
    near["about"]["tolerance"] = 0.4
    (line,) = judge([near], played(values))
    assert line.verdict is ClaimVerdict.HOLDS


@pytest.mark.parametrize(
    ("seeds", "verdict"), [(5, ClaimVerdict.UNDECIDED), (6, ClaimVerdict.HOLDS)]
)
def test_equal_seeds_are_sure_of_nothing_before_there_are_six(seeds, verdict):
    (line,) = judge([claim(0.5, {"n": 1})], played([1.0] * seeds))
    (one,) = line.comparisons
    assert (one.difference.low, one.p) == (None, 2 / 2**seeds)
    assert line.verdict is verdict
    if verdict is ClaimVerdict.UNDECIDED:
        assert "every seed gave the same difference" in line.why
    assert "all seeds alike, no interval" in line.why


def test_seeds_in_two_heaps_leave_a_claim_open_and_say_why():
    values = [0.95, 0.93, 0.97, 0.96, 0.1]
    (line,) = judge([claim(0.2, {"n": 1})], played(values))
    assert stats.ttest_1samp(values, 0.2).pvalue < 0.05
    assert line.verdict is ClaimVerdict.UNDECIDED
    assert "the seeds fall into two heaps" in line.why
    assert "1 seed at -10.0, 4 at +73.0 to +77.0; above 80 %" in line.why


def test_distances_beyond_1_are_compared_in_their_own_range():
    score = "trigger_shape_distance"
    data = [
        Row({"n": n}, seed, "none", score, value + seed / 100)
        for n, value in ((1, 1.9), (10, 0.1))
        for seed in range(5)
    ]
    sides = [{"defender": "none", "score": score, "at": {"n": n}} for n in (10, 1)]
    (line,) = judge([{"text": "nearer", "less": sides[0], "than": sides[1]}], data)
    (one,) = line.comparisons
    assert one.difference.value == pytest.approx(1.8)


def test_an_open_claim_says_what_is_not_known():
    values = [0.1, 0.5, 0.2, 0.4, 0.3]
    (less,) = judge([claim(0.31, {"n": 1})], played(values))
    assert less.verdict is ClaimVerdict.UNDECIDED
    assert [one.why for one in less.comparisons] == ["cannot be told apart"]
    side = {"defender": "none", "score": "asr", "at": {"n": 1}}
    near = {"text": "near", "about": {**side, "tolerance": 0.01}, "than": {"value": 0.3}}
    (about,) = judge([near], played(values))
    assert about.verdict is ClaimVerdict.UNDECIDED
    assert [one.why for one in about.comparisons] == [
        "the difference may lie within the tolerance or outside"
    ]


def test_a_comparison_has_the_axis_values_that_its_sides_share():
    data = rows(FALLS)
    (line,) = judge([claim({"n": 10, "draw": "fixed"}, {"n": 1, "draw": "fixed"})], data)
    (one,) = line.comparisons
    assert (one.value("draw"), one.value("n")) == ("fixed", None)
    (line,) = judge([claim(0.5, {"n": 1, "draw": "fixed"})], data)
    (one,) = line.comparisons
    assert (one.value("draw"), one.value("n"), one.value("defender")) == ("fixed", 1, "none")


@pytest.mark.parametrize(
    ("p", "told"),
    [(0.0, "p < 0.001"), (0.0009, "p < 0.001"), (0.001, "p = 0.001"), (0.25, "p = 0.250")],
)
def test_a_p_value_has_three_digits_and_no_0(p, told):
    assert p_words(p) == told

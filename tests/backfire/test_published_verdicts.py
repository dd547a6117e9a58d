"""Verdicts beside a paper: each rule with data for which it must and must not hold."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from backfire.analysis.published import RULES, Verdict, side_by_side
from backfire.analysis.published_text import markdown, rules_markdown
from scenarios.published import Published


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
    assert held.verdict is Verdict.HOLDS
    (failed,) = judge([claim({"n": 1, **redrawn}, {"n": 10, **redrawn})], data)
    assert failed.verdict is Verdict.FAILS
    (part,) = judge([claim({"n": 10}, {"n": 1})], data)
    assert part.verdict is Verdict.PART
    assert len(part.comparisons) == 2
    assert "holds in 1 of 2" in part.why
    assert "by draw – fixed: 0 of 1, redrawn: 1 of 1" in part.why
    (open_,) = judge([claim({"n": 10, "draw": "fixed"}, {"n": 1, "draw": "fixed"})], data)
    assert open_.verdict is Verdict.UNDECIDED


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
    assert line.verdict is Verdict.PART
    assert "holds in 1 of 2 comparisons, contradicted in 1" in line.why
    (failed,) = judge([claim({"n": 1, "draw": "redrawn"}, {"n": 10, "draw": "redrawn"})], data)
    assert failed.verdict is Verdict.FAILS


def test_a_margin_and_a_tolerance_decide():
    data = rows(FALLS)
    places = ({"n": 10, "draw": "redrawn"}, {"n": 1, "draw": "redrawn"})
    assert judge([claim(*places, margin=0.5)], data)[0].verdict is Verdict.HOLDS
    assert judge([claim(*places, margin=0.9)], data)[0].verdict is Verdict.FAILS
    near = {
        "text": "alike",
        "about": {"at": places[0], "defender": "none", "score": "asr", "tolerance": 0.1},
        "than": {"at": places[1], "defender": "none", "score": "asr"},
    }
    assert judge([near], data)[0].verdict is Verdict.FAILS
    near["about"] = {**near["about"], "at": {"n": 10, "draw": "fixed"}}
    near["than"] = {**near["than"], "at": {"n": 1, "draw": "fixed"}}
    assert judge([near], data)[0].verdict is Verdict.HOLDS
    near["about"] = {**near["about"], "tolerance": 0.001}
    assert judge([near], data)[0].verdict is Verdict.UNDECIDED


def test_what_one_side_leaves_out_takes_every_other_value():
    data = rows({((("n", n),), "none"): v for n, v in ((1, 0.9), (2, 0.5), (5, 0.3))})
    (line,) = judge([claim({}, {"n": 1})], data)
    assert [one.first.at["n"] for one in line.comparisons] == [2, 5]
    assert line.verdict is Verdict.HOLDS


def test_an_axis_that_goes_along_with_a_named_one_counts_as_named():
    data = rows(
        {((("n", n), ("rate", r)), "none"): v for n, r, v in ((1, 0.5, 0.9), (9, 0.1, 0.2))}
    )
    (alone,) = judge([claim({"n": 9}, {"n": 1})], data)
    assert alone.comparisons == ()
    assert alone.verdict is Verdict.UNDECIDED
    (along,) = judge([claim({"n": 9}, {"n": 1})], data, together=[["n", "rate"]])
    assert along.verdict is Verdict.HOLDS


def test_few_seeds_decide_nothing():
    data = [row for row in rows(FALLS) if row.seed < 2]
    (line,) = judge([claim({"n": 10, "draw": "redrawn"}, {"n": 1, "draw": "redrawn"})], data)
    assert line.verdict is Verdict.UNDECIDED
    assert "3 seeds are needed" in line.why


def test_seeds_that_one_side_lacks_are_left_out():
    data = [r for r in rows(FALLS) if r.at != {"n": 10, "draw": "redrawn"} or r.seed < 4]
    (line,) = judge([claim({"n": 10, "draw": "redrawn"}, {"n": 1, "draw": "redrawn"})], data)
    assert line.comparisons[0].difference.n == 4


@pytest.mark.parametrize(
    ("value", "spread", "comparable", "verdict"),
    [
        (0.21, None, "yes", Verdict.HOLDS),
        (0.30, None, "yes", Verdict.FAILS),
        (0.30, 0.05, "yes", Verdict.FAILS),
        (0.30, 0.15, "yes", Verdict.HOLDS),
        (0.21, None, "no: other data", Verdict.NOT_COMPARABLE),
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
        ("fixed", Verdict.FAILS),
        ("redrawn", Verdict.HOLDS),
    ]


def test_wide_intervals_and_missing_scores_decide_nothing():
    data = [Row({}, seed, "none", "asr", value) for seed, value in enumerate((0.1, 0.5, 0.9))]
    figures = [{"score": "asr", "value": 0.5}, {"score": "clean_accuracy", "value": 0.5}]
    wide, missing = side_by_side(block(figures=figures), data).figures
    assert wide.verdict is missing.verdict is Verdict.UNDECIDED
    assert "points wide" in wide.why
    assert "not scored" in missing.why


def test_scores_of_the_defender_are_found_without_a_group():
    data = rows(FALLS, score="clean_accuracy", group="")
    figure = {"at": {"n": 1, "draw": "fixed"}, "score": "clean_accuracy", "value": 0.9}
    (line,) = side_by_side(block(figures=[figure]), data).figures
    assert (line.group, line.verdict) == ("", Verdict.HOLDS)


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

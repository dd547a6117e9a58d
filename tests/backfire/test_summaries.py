"""Summaries of sweeps in pages written by hand, and which verdicts of a page changed."""

import json

import numpy as np
import pytest
from sweep_fixture import PUBLISHED, SIDE, rows, sweep, write
from typer.testing import CliRunner

from backfire.cli.main import app
from backfire.evidence.published import reproductions
from backfire.evidence.published.changed import changes
from backfire.evidence.published.summaries import summary
from backfire.evidence.published.sweep_table import read_sweep
from backfire.evidence.rows import ScoreRow
from server.store.atomic import yaml_bytes

CLAIMS = [
    {
        "text": f"Many have less than one (trigger: {name})",
        "less": {**SIDE, "at": {"attackers": 5, "trigger": name, "epsilon": 0.2}},
        "than": {**SIDE, "at": {"attackers": 1, "trigger": name, "epsilon": 0.2}},
    }
    for name in ("fixed", "redrawn")
]
# Ours lie above the first and below the second.
FIGURES = [
    {**SIDE, "at": {"attackers": 5, "epsilon": 0.2}, "value": 0.155, "spread": 0.03},
    {**SIDE, "at": {"attackers": 1, "epsilon": 0.2}, "value": 1.0},
]
TRIGGER = "agents.mallory.behaviour.trigger"
AXES = {
    "attackers": {"field": "agents.mallory.count", "values": [1, 5]},
    "epsilon": {"field": f"{TRIGGER}.epsilon", "values": [0.2, 0.5]},
    "trigger": {
        "choices": {
            "fixed": {f"{TRIGGER}.draw": "per_agent"},
            "redrawn": {f"{TRIGGER}.draw": "per_row"},
        }
    },
}


def chosen(seeds=5):
    published = {**PUBLISHED, "claims": CLAIMS, "figures": FIGURES}
    return sweep("table1", sweep={"seeds": seeds, "axes": AXES}, published=published, referee={})


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    played = chosen()
    more = [
        ScoreRow(row.at, row.seed, row.cell, row.defender, "", "", name, 0.5, hits, 100)
        for row in rows(played)
        if row.score == "clean_accuracy" and row.defender == "cutmix"
        for name, hits in (
            ("filter:strip:false_positives", 10.0 + row.seed),
            ("filter:strip:false_negatives", 3.0),
            ("filter:strip#2:false_positives", 5.0),
            ("filter:strip#2:false_negatives", 2.0),
        )
    ]
    folder = write(tmp_path_factory.mktemp("s") / "table1", played, [*rows(played), *more])
    return read_sweep(folder)[1]


def lines(table, words):
    made = summary(table, words.split()).splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in made]


def test_claims_stand_by_reading(table):
    head, _, row = lines(table, "claims --by trigger")
    assert head == ["the paper says", "fixed", "redrawn"]
    by = {line.claim.text: line for line in table.side.claims}
    for cell, name in zip(row[1:], ("fixed", "redrawn"), strict=True):
        line = by[f"Many have less than one (trigger: {name})"]
        one, two = (
            100 * found.value for found in (line.comparisons[0].one, line.comparisons[0].two)
        )
        assert cell == f"{line.verdict} ({one:.0f} / {two:.0f})"
    assert row[0] == "Many have less than one"
    assert row[2].startswith("holds")
    assert row[1].startswith("undecided")


def test_figures_stand_by_reading_with_their_intervals(table):
    head, _, row, other = lines(table, "figures --by trigger --digits 1")
    assert head == ["score", "place", "S1", "fixed", "redrawn"]
    assert row[:3] == ["asr_all", "attackers 5", "15.5 ± 3.0"]
    assert other[:3] == ["asr_all", "attackers 1", "100.0"]
    many = [line for line in table.side.figures if line.spot.at["attackers"] == 5]
    found = {line.spot.at["trigger"]: line.ours for line in many}
    for cell, name in zip(row[3:], ("fixed", "redrawn"), strict=True):
        ours = found[name]
        assert cell == f"{100 * ours.value:.1f} [{100 * ours.low:.1f}, {100 * ours.high:.1f}]"


def test_the_distance_is_the_mean_over_figures(table):
    head, _, *found = lines(table, "distance --by trigger")
    assert head == ["trigger", "figures", "mean distance from S1's, points"]
    for name, row in zip(("fixed", "redrawn"), found, strict=True):
        mine = [line for line in table.side.figures if line.spot.at["trigger"] == name]
        above, below = (line.ours.value - line.figure.value for line in mine)
        assert above > 0 > below
        assert row == [name, "2", f"{100 * (above - below) / 2:.1f}"]


def test_scores_stand_by_defender_or_side_by_side(table):
    head, _, *found = lines(table, "scores asr_all --by defender --at epsilon=0.2 --digits 1")
    assert head == ["attackers", "trigger", "undefended", "cutmix"]
    assert [row[:2] for row in found] == [
        ["1", "fixed"], ["1", "redrawn"], ["5", "fixed"], ["5", "redrawn"]
    ]  # fmt: skip
    mine = [
        row.value
        for row in table.rows
        if (row.score, row.group, row.agent, row.defender) == ("asr_all", "malicious", "", "cutmix")
        and row.at == {"attackers": 5, "epsilon": 0.2, "trigger": "redrawn"}
    ]
    assert found[3][3] == f"{100 * np.mean(mine):.1f}"
    asked = "scores asr asr_all --at defender=cutmix --at epsilon=0.2 --at attackers=5"
    head, _, *found = lines(table, f"{asked} --paper asr_all --intervals")
    assert head == ["trigger", "asr", "asr_all"]  # the paper's is of undefended
    assert "[" in found[0][1]
    head, _, *found = lines(table, asked.replace("cutmix", "undefended") + " --paper asr_all")
    assert head == ["trigger", "S1", "asr", "asr_all"]
    assert [row[1] for row in found] == ["15.5", "15.5"]


def test_filters_are_counted_together(table):
    head, _, *found = lines(table, "filters --at attackers=5 --at epsilon=0.2")
    assert head == ["trigger", "false positives", "false negatives"]
    # 15 to 19 clean rows lost over five seeds, 5 poisoned ones kept in each.
    assert found[0][0] == "fixed"
    assert found[0][1].startswith("17 [15, 19]")
    assert found[0][2] == "5"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("verdicts", "invalid choice"),
        ("claims --by colour", "expected an axis of table1, got colour"),
        ("scores", "expected scores"),
        ("scores asr asr_all --by defender", "expected one score with --by, got 2"),
        ("scores asr --by defender --paper asr", "expected --paper or --by, got both"),
        ("scores nothing", "expected something of table1 to show"),
        ("scores asr --at epsilon=7", "expected something of table1 to show"),
        ("scores asr --digits 9", "invalid choice"),
        ("claims --of x", "unrecognized arguments"),
    ],
)
def test_what_cannot_be_made_is_one_line(table, words, said):
    with pytest.raises(ValueError, match=said) as caught:
        summary(table, words.split())
    assert "\n" not in str(caught.value)


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def pages(tmp_path, monkeypatch):
    """Return a folder with a reproduction's page, its scores, and a page written by hand."""
    library = tmp_path / "library" / "papers" / "s9"
    library.mkdir(parents=True)
    (library / "table1_small.yaml").write_bytes(yaml_bytes(chosen().document()))
    monkeypatch.setattr(reproductions.library, "FOLDER", tmp_path / "library")
    folder = write(tmp_path / "played", chosen())
    docs = tmp_path / "docs"
    docs.mkdir()
    command = ("reproduce", "s9-table1", "--small", "--from", folder)
    assert run(*command, "--markdown", docs / "s9-table1-small.md").exit_code == 0
    (docs / "hand.md").write_text(
        "Words.\n\n<!-- backfire summary: s9-table1-small claims --by trigger -->\n"
        "| 42 |\n<!-- end -->\n\nMore.\n\n"
        "<!-- backfire summary: s9-table2-small claims --by trigger -->\n| 7 |\n<!-- end -->\n"
    )
    return docs


def test_marked_tables_are_made_anew_and_the_rest_stays(pages):
    found = json.loads(run("reproduce", "--fill", pages / "hand.md", "--json").stdout)
    assert found == {
        "made": ["s9-table1-small claims --by trigger"],
        "kept": ["s9-table2-small claims --by trigger"],
    }
    text = (pages / "hand.md").read_text()
    assert "| 42 |" not in text
    assert "| Many have less than one | undecided (" in text
    assert text.startswith("Words.\n\n<!-- backfire")
    assert "<!-- end -->\n\nMore.\n\n" in text
    assert "| 7 |\n" in text
    again = run("reproduce", "--fill", pages / "hand.md")
    assert "left as it is, no scores: s9-table2-small" in again.output
    assert (pages / "hand.md").read_text() == text


def test_a_page_that_marks_nothing_or_nonsense_is_one_line(pages):
    (pages / "none.md").write_text("Words.\n")
    result = run("reproduce", "--fill", pages / "none.md")
    assert (result.exit_code, len(result.output.splitlines())) == (2, 1)
    (pages / "bad.md").write_text(
        "<!-- backfire summary: s9-table1-small claims --by colour -->\n<!-- end -->\n"
    )
    result = run("reproduce", "--fill", pages / "bad.md")
    assert result.exit_code == 2
    assert "expected an axis of table1, got colour" in result.output


def test_writing_over_a_page_says_which_verdicts_changed(pages):
    page = pages / "s9-table1-small.md"
    old = page.read_text()
    command = (
        "reproduce",
        "s9-table1",
        "--small",
        "--from",
        pages / "s9-table1-small.scores.csv.gz",
    )
    same = run(*command, "--markdown", page)
    assert "changed" not in same.output
    page.write_text(old.replace("✔ **holds**", "? **undecided**"))
    changed = run(*command, "--markdown", page)
    assert page.read_text() == old
    told = [line for line in changed.output.splitlines() if line.startswith("changed ")]
    assert told == ["changed claim: undecided -> holds: Many have less than one (trigger: redrawn)"]


OLD = """
| paper | ours | verdict |
| --- | --- | --- |
| 1. A falls | holds in 1 of 2 comparisons | ◐ **holds in part** |
| 2. B \\| C rises | difference +3 | ✔ **holds** |

| claim | compared | difference | verdict |
| --- | --- | --- | --- |
| 1 | asr at x 1 = 93.1 % against asr at x 2 = 9.0 % | +84.1 points | ✔ **holds** |
| 1 | asr at x 1 = 50.0 % against asr at x 3 = 9.0 % | +41.0 points | ? **undecided** |

| place | paper | ours | verdict | why |
| --- | --- | --- | --- | --- |
| asr at x 1 | 90 % | 93 % | ✘ **does not hold** | ours |
"""


def test_verdicts_are_compared_line_by_line_whatever_the_scores():
    assert changes(OLD, OLD) == []
    other_scores = OLD.replace("93.1 %", "71.0 % in two heaps").replace("+84.1", "+62.0")
    assert changes(OLD, other_scores) == []
    renumbered = OLD.replace("| 2. B", "| 7. B")
    assert changes(OLD, renumbered) == []
    new = OLD.replace("? **undecided**", "✔ **holds**").replace(
        "◐ **holds in part**", "✔ **holds**"
    )
    assert [str(one) for one in changes(OLD, new)] == [
        "claim: holds in part -> holds: A falls",
        "comparison: undecided -> holds: A falls: asr at x 1 against asr at x 3",
    ]
    gone = OLD.replace("| asr at x 1 | 90 %", "| asr at x 9 | 90 %")
    assert [(one.what, one.old, one.new) for one in changes(OLD, gone)] == [
        ("figure", "not there", "does not hold"),
        ("figure", "does not hold", "not there"),
    ]

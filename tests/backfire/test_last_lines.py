"""What commands end with: a sweep with its numbers, a reproduction with the paper's table."""

import io

import pytest
from rich.console import Console
from sweep_fixture import HOSTILE, SIDE, sweep, write

from backfire.cli.progress import Bars, Lines, Outlook, watched
from backfire.cli.reproduce import show
from backfire.cli.tables import show_scores
from backfire.evidence.published.printed import printed_table
from backfire.evidence.published.sweep_table import read_sweep
from backfire.terminal import time_left
from server.events import Event

FIGURES = [
    {**SIDE, "at": {"attackers": 1}, "value": 0.96},
    {**SIDE, "at": {"attackers": 5}, "value": 0.155, "spread": 0.03},
    {**SIDE, "defender": "cutmix", "at": {"attackers": 5}, "value": 0.092},
]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    published = {"source": "S1, Table 3", "comparable": "no: digits", "figures": FIGURES}
    return read_sweep(write(tmp_path_factory.mktemp("s") / "t", sweep(published=published)))[1]


def printed(show, *arguments, width=120):
    console = Console(file=io.StringIO(), width=width)
    show(*arguments, console)
    return console.file.getvalue()


def test_a_sweep_ends_with_its_scores_cell_by_cell_and_what_it_says(table):
    text = printed(show_scores, table)
    first = table.series(table.main)[0].estimate
    assert f"{100 * first.value:.1f}" in text
    assert f"[{100 * first.low:.1f}, {100 * first.high:.1f}]" in text
    assert "Mean asr_all over all cells" in " ".join(text.split())
    assert text.count("cutmix") >= 8
    assert HOSTILE[:4] in text


def test_a_papers_numbers_stand_as_a_table_and_none_is_lost(table):
    figures = table.side.figures
    found = printed_table(figures)
    cells = [line for _, row in found.rows for line in row if line is not None]
    assert sorted(map(id, cells)) == sorted(map(id, figures))
    names = dict(zip(found.labels, found.rows[0][0], strict=True))
    column = found.rows[0][1].index(figures[0])
    assert "1" in (names.get("attackers"), found.columns[column].removeprefix("attackers "))
    for labels, row in found.rows:
        for head, line in zip(found.columns, row, strict=True):
            place = dict(zip(found.labels, labels, strict=True))
            if line is not None and "defender" in found.labels:
                assert place["defender"] == line.spot.defender
            elif line is not None and head in table.defenders:
                assert head == line.spot.defender


def test_two_numbers_of_one_place_are_both_shown(table):
    figures = table.side.figures
    again = printed_table([*figures, figures[0]])
    assert sum(line is figures[0] for _, row in again.rows for line in row) == 2


def test_a_reproduction_shows_the_papers_table_before_anything_else(table):
    text = printed(show, table.side)
    assert text.startswith("S1, Table 3")
    assert (
        text.index("15.5 ± 3") < text.index("Not comparable: digits") < text.rindex("S1, Table 3")
    )
    ours = table.side.figures[0].ours.value
    assert f"{100 * ours:.1f}" in text


def test_the_time_left_follows_the_training_and_starts_anew_with_the_next_one():
    now = 0.0
    outlook = Outlook(lambda: now)
    said = []
    for now, done in (  # noqa: B007 - the clock reads it
        (0.0, 0),
        (0.5, 10),
        (10.0, 20),
        (20.0, 50),
        (25.0, 100),
    ):
        said.append(outlook(Event("training", done, 100)))
    assert said == ["", "", "about 40 s left", "about 20 s left", ""]
    for now, done in ((30.0, 10), (40.0, 20)):  # noqa: B007 - as above
        said.append(outlook(Event("training", done, 100)))
    assert said[5:] == ["", "about 80 s left"]
    assert outlook(Event("scoring", 1, 4)) == ""


def test_in_a_federation_rounds_count_and_not_the_training_inside_them():
    now = 0.0
    outlook = Outlook(lambda: now)
    outlook(Event("round", 1, 11))
    now = 10.0
    assert outlook(Event("training", 50, 100)) == ""
    assert outlook(Event("round", 2, 11)) == "about 2 min left"


def test_lines_and_bars_say_the_time_left_and_the_unit():
    now = 0.0
    lines = Console(file=io.StringIO(), width=100)
    shown = Lines(lines, clock=lambda: now)
    shown(Event("training", 10, 100, "3 models"))
    now = 20.0
    shown(Event("training", 50, 100, "3 models"))
    assert lines.file.getvalue().splitlines() == [
        "training 10 %: 3 models",
        "training 50 %: 3 models; about 25 s left",
    ]
    terminal = Console(file=io.StringIO(), force_terminal=True, width=100)
    with watched(terminal) as observe:
        assert isinstance(observe, Bars)
        observe(Event("training", 10, 100, "3 models"))
    assert "game" in terminal.file.getvalue()


def test_times_are_said_in_the_unit_that_fits():
    assert time_left(89.4) == "about 89 s left"
    assert time_left(600) == "about 10 min left"
    assert time_left(3600 * 2 + 180) == "about 2 h 03 min left"

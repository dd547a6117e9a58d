"""The report is read at a glance: what comes first, how cards lie, where names stand."""

import re
import shutil
import subprocess
from itertools import pairwise

import pytest
from report_fixture import Maker, gallery, scenario, write_folder
from sweep_fixture import sweep, write

from backfire.evidence.estimates import estimate
from backfire.evidence.published.sweep_table import read_sweep
from backfire.reporting import render
from backfire.reporting.charts.names import CurveEnd, end_names
from backfire.reporting.charts.rounds import round_chart
from backfire.reporting.charts.series import PlottedLine, Point, series_chart
from backfire.reporting.sweeps import page as sweep_page
from backfire.reporting.sweeps.figures import curves
from backfire.reporting.text import aside, both_ends, layout, sentence, width
from server.referee.results import RoundScores
from server.referee.scoring.scores import share


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    game = scenario(strange=False)
    folder = write_folder(tmp_path_factory.mktemp("runs"), game, Maker(game).result())
    return render(folder).read_text("utf-8")


def test_the_message_and_one_picture_come_before_all_else(page):
    finding, picture = page.index('class="finding"'), page.index('<svg viewBox="0 0 340')
    assert finding < picture < page.index('class="told"') < page.index("<nav")
    assert page.count('aria-label="ASR of mallory"') == 1


def test_what_stands_in_brackets_at_the_end_of_a_clause_is_set_small():
    assert aside("a backfired: ASR 2 % (4 agents, 9 inputs);") == (
        "a backfired: ASR 2 %",
        "(4 agents, 9 inputs);",
    )
    assert aside("nobody (at all) cheats") == ("nobody (at all) cheats", "")
    assert aside("") == ("", "")


def test_a_minus_is_no_hyphen_and_a_name_keeps_its_own():
    assert sentence("mallory-01 (-1.9 points, -17.5 to 13.8) [-2 to 1], 1-2") == (
        "mallory-01 (−1.9 points, −17.5 to 13.8) [−2 to 1], 1-2"
    )


def test_no_grid_of_three_columns_ends_with_a_lone_card(page):
    for cards in range(1, 40):
        columns = {"": 3, " pairs": 2, " one": 1}[layout(cards)]
        holes = -cards % columns
        assert holes <= 1
    assert 'class="cards"' in page or 'class="cards pairs"' in page


def test_what_is_read_on_demand_is_closed(page):
    assert "<details open" not in page
    for heading in ("Every agent, every score", "The resolved scenario", "What the scores mean"):
        after = page[page.index(heading) :]
        assert "<details" in after[: after.index("</section>")]


def test_names_are_measured_by_their_letters():
    assert width("iii") < width("nnn") < width("www") < width("MMM")
    assert width("漢") == 1.0


def test_names_that_begin_alike_stay_apart_when_they_are_cut():
    one, other = (both_ends(f"augmented_{end}", 7) for end in ("fifth", "five"))
    assert one != other
    assert max(width(one), width(other)) <= 7
    assert both_ends("krum", 7) == "krum"
    assert one.startswith("aug")
    assert one.endswith("ifth")


def entry(number, agents):
    return RoundScores(
        round=number, sampled=(), admitted=(), skipped=False, selected=None,
        clean_accuracy=share(9, 10), asr={name: share(k % 10, 10) for k, name in enumerate(agents)},
    )  # fmt: skip


def named(chart):
    found = re.findall(r'<text x="[\d.]+" y="([\d.]+)" class="name (\w+)"[^>]*>(.*?)</text>', chart)
    return {
        text.partition("</title>")[0].removeprefix("<title>"): (float(y), colour)
        for y, colour, text in found
    }


def test_curves_carry_their_agents_names_none_over_another():
    agents = ["eve", "mal", "zoe"]
    chart = round_chart([entry(1, agents), entry(2, agents)], {"eve": "c2"}, "r")
    names = named(str(chart))
    assert set(names) == {*agents, "clean accuracy"}
    assert names["eve"][1] == "c2"
    # Higher values stand higher: zoe ends at 20 %, eve at 0 %.
    assert names["clean accuracy"][0] < names["zoe"][0] < names["mal"][0] < names["eve"][0]
    heights = sorted(y for y, _ in names.values())
    assert all(below - above >= 11.9 for above, below in pairwise(heights))


def test_curves_of_a_sweep_are_named_at_their_ends():
    def line(name, *values):
        return PlottedLine(name, "c0", [Point(k, estimate([v])) for k, v in enumerate(values)])

    lines = [line("krum", 0.9, 0.2), line("median", 0.1, 0.8)]
    names = named(str(series_chart(lines, "attackers", [1, 5], "x")))
    assert set(names) == {"krum", "median"}
    assert names["median"][0] < names["krum"][0]
    assert not named(str(series_chart(lines[:1], "attackers", [1, 5], "x")))


def test_of_many_agents_the_groups_are_named():
    agents = [f"mal-{k}" for k in range(30)]
    groups = {name: "one" if k < 20 else "two" for k, name in enumerate(agents)}
    chart = round_chart([entry(1, agents)], {}, "r", groups)
    assert set(named(str(chart))) == {"one", "two", "clean accuracy"}


def test_a_name_at_the_end_of_a_curve_is_text():
    shown = str(end_names([CurveEnd("<b>", 10.0, "c0")], 1.0, 0.0, 100.0))
    assert "<b>" not in shown
    assert "&lt;b&gt;" in shown


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium")
def test_a_report_of_the_quickstarts_size_prints_on_eight_pages(tmp_path):
    game = scenario(honest=2, strange=False)
    report = render(write_folder(tmp_path, game, Maker(game).result(), gallery(game)))
    pdf = tmp_path / "report.pdf"
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'c'}"]
    subprocess.run(
        ["chromium", *options, f"--print-to-pdf={pdf}", report.as_uri()],
        capture_output=True,
        check=True,
        timeout=120,
    )
    pages = len(re.findall(rb"/Type\s*/Page[^s]", pdf.read_bytes()))
    assert 1 < pages <= 8


@pytest.mark.parametrize("first", [1, 3, 100])
def test_a_sweep_draws_each_curve_once_and_the_first_on_top(tmp_path, monkeypatch, first):
    monkeypatch.setattr(sweep_page, "FIRST_FIGURES", first)
    table = read_sweep(write(tmp_path, sweep()))[1]
    text = sweep_page.page(table)
    drawn = [figure.chart for group in curves(table) for figure in group.figures]
    assert len(drawn) > 3
    assert all(text.count(chart) == 1 for chart in drawn)
    assert text.index(drawn[0]) < text.index("<nav")

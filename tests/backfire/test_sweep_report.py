"""The report of a sweep: one page that says what the table says, and takes nothing for granted."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from sweep_fixture import HOSTILE, rows, sweep, write

from backfire.evidence.card import card_of, read_card
from backfire.evidence.estimates import SHARE, estimate
from backfire.evidence.published.summaries import summary
from backfire.evidence.published.sweep_table import read_sweep, table_of
from backfire.evidence.published.text import markdown
from backfire.reporting.charts.series import PlottedLine, Point, series_chart
from backfire.reporting.sweeps.figures import curves, grids
from backfire.reporting.sweeps.page import page as page_text
from backfire.reporting.sweeps.page import render_sweep
from backfire.reporting.sweeps.tables import agent_tables, cell_table, payoffs, told
from backfire.sweeps.results import conclude
from server.errors import RunFolderError

VOID = {"meta", "br", "image", "line", "rect", "circle", "polyline", "polygon", "img"}


class Page(HTMLParser):
    """Collects tags, attributes and text; fails on tags that are closed in another order."""

    def __init__(self):
        super().__init__()
        self.tags, self.links, self.words, self.open = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("href", "src", "xlink:href")]
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("sweeps") / "tiny", sweep())


@pytest.fixture(scope="module")
def table(folder):
    return read_sweep(folder)[1]


@pytest.fixture(scope="module")
def page(folder):
    return render_sweep(folder).read_text()


def test_the_page_is_whole_has_no_scripts_and_needs_nothing_from_elsewhere(page):
    parsed = Page()
    parsed.feed(page)
    parsed.close()
    assert parsed.open == []
    assert "script" not in parsed.tags
    assert not set(parsed.tags) & {"iframe", "object", "embed", "link", "form"}
    beside = {"scores.csv", "scores.parquet", "card.json", "sweep.yaml"}
    assert {link for link in parsed.links if not link.startswith(("#", "data:image/png"))} == beside
    assert HOSTILE in "".join(parsed.words)


def test_the_same_folder_gives_the_same_bytes(folder, page):
    assert render_sweep(folder).read_text() == page


def test_the_finding_comes_first_and_the_verdict_stands_beside_the_paper(page):
    first = page.index("of 2 claims") if "of 2 claims" in page else page.index("the one claim")
    assert first < page.index("<nav>")
    assert "holds in part" in page
    assert "15.5 ± 3 %" in page
    assert "The rules by which these verdicts are given" in page
    assert "backfire sweep tiny/sweep.yaml" in page


def test_every_cell_shows_the_mean_over_seeds_of_the_table(table, page):
    found = cell_table(table)
    assert len(found.rows) == 2 * 2 * 2 * 2
    at, defender, scores = found.rows[0]
    values = [
        row.value
        for row in table.rows
        if (row.defender, row.group, row.score) == (defender, "malicious", "asr_all")
        and tuple(row.at.values()) == tuple(at)
    ]
    mean = sum(values) / len(values)
    assert scores[list(found.columns).index("asr_all")].estimate.value == pytest.approx(mean)
    assert f"{100 * mean:.1f}\u202f%" in page


def test_curves_and_grids_cover_every_cell(table):
    drawn = curves(table)
    assert {(one.score, one.axis) for one in drawn} == {
        (score, axis)
        for score in ("asr_all", "clean_accuracy")
        for axis in ("attackers", "epsilon")
    }
    along = next(one for one in drawn if (one.score, one.axis) == ("asr_all", "attackers"))
    assert len(along.figures) == 4  # epsilon x trigger
    assert [name for name, _ in along.keys] == ["undefended", "cutmix"]
    for figure in along.figures:
        assert figure.chart.count("<polyline") == 2
        # 5 seeds x (1 + 5 agents) x 2 defenders
        assert figure.chart.count('class="mote"') == 60
    (grid,) = grids(table)
    assert len(grid.figures) == 4  # trigger x defender
    assert all(len(re.findall(r'class="cell', one.chart)) == 4 for one in grid.figures)


def test_payoffs_name_the_equilibrium_that_the_means_have(table):
    found = payoffs(table)
    assert [one.title for one in found] == ["attackers 1", "attackers 5"]
    for one in found:
        matrix = one.payoffs.attacker
        best = matrix.max(axis=0).argmin()  # cutmix halves every attack
        assert one.payoffs.defenders[best] == "cutmix"
        (pure,) = one.solved.pure
        assert pure.value == pytest.approx(matrix[:, best].max())
        assert one.nash(pure.attacker, pure.defender)
        assert "Equilibrium in pure strategies" in one.words[0]


def test_agents_stand_side_by_side(table):
    tables, more = agent_tables(table)
    assert (len(tables), more) == (16, 0)
    five = next(one for one in tables if len(one.agents) == 5)
    score, values = five.rows[0]
    mean, std = five.means[score]
    assert mean == pytest.approx(sum(one.value for one in values) / 5)
    assert std > 0


def test_it_says_what_each_axis_does_and_who_is_best(table):
    lines = told(table)
    assert "1 cutmix" in lines[0]
    assert "2 undefended" in lines[0]
    attackers = next(line for line in lines if line.startswith("attackers 5 against 1"))
    assert "-" in attackers
    epsilon = next(line for line in lines if line.startswith("epsilon"))
    assert "cannot tell them apart" in epsilon


def test_a_sweep_without_attackers_axes_or_paper_has_a_page_too(tmp_path):
    plain = sweep("plain", 1, published=None, sweep={"seeds": 1, "axes": {}})
    rows_ = [row for row in rows(sweep(seeds=1)) if row.at == sweep(seeds=1).cells[0].at]
    clean = [type(row)({}, *list(vars(row).values())[1:]) for row in rows_ if row.group == ""]
    text = render_sweep(write(tmp_path / "plain", plain, clean)).read_text()
    parsed = Page()
    parsed.feed(text)
    assert parsed.open == []
    assert "Beside the paper" not in text


def test_no_sweep_is_said_in_one_line(tmp_path, folder):
    with pytest.raises(RunFolderError, match="expected the folder of a sweep"):
        render_sweep(tmp_path)
    broken = write(tmp_path / "broken", sweep())
    (broken / "scores.parquet").write_bytes(b"PAR1 no PAR1")
    with pytest.raises(RunFolderError) as caught:
        render_sweep(broken)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def torn(tmp_path_factory):
    """Return the folder of a sweep where the attack works in three of four seeds."""
    chosen = sweep("torn", seeds=4)
    table = [
        replace(row, value=0.02 + 0.01 * row.value)
        if row.seed == 2 and row.score in ("asr", "asr_all") and row.at["attackers"] == 1
        else row
        for row in rows(chosen)
    ]
    return write(tmp_path_factory.mktemp("sweeps") / "torn", chosen, table)


def test_two_heaps_of_seeds_are_told_wherever_the_score_is(torn):
    table, _ = conclude(torn)
    told_ = "two heaps, no interval: 1 seed at "
    html = (torn / "report.html").read_text()
    assert told_ in html
    assert "above 75 % [30 to 95]" in html
    assert table.side is not None
    markdown_ = markdown(table.side)
    assert told_ in markdown_
    assert "% in two heaps" in markdown_
    assert "the seeds fall into two heaps" in markdown_
    card = read_card(torn / "card.json")
    undefended = [one for one in card.entries if one.defence.name == "undefended"]
    torn_scores = [one.scores["asr_all"] for one in undefended if one.at["attackers"] == 1]
    assert {(score.low, score.heaps.above, score.heaps.seeds) for score in torn_scores} == {
        (None, 3, 4)
    }
    whole = [entry.scores["clean_accuracy"] for entry in card.entries]
    assert all(score.heaps is None and score.low is not None for score in whole)


def test_a_summary_tells_both_heaps_by_their_ends(torn):
    _, table = read_sweep(torn)
    place = {"attackers": 1, "epsilon": 0.2, "trigger": "fixed"}
    low, least, _, most = sorted(
        row.value
        for row in table.rows
        if (row.score, row.group, row.agent) == ("asr_all", "malicious", "")
        and (row.defender, row.at) == ("undefended", place)
    )
    asked = "scores asr_all --by defender --intervals --digits 1 --at trigger=fixed"
    heaps = f"(heaps: 1 at {100 * low:.1f}, 3 at {100 * least:.1f} to {100 * most:.1f})"
    assert heaps in summary(table, asked.split())


def test_a_band_never_crosses_a_point_without_an_interval():
    sure = [estimate(values, bounds=SHARE) for values in ([0.2, 0.3, 0.25], [0.4, 0.5, 0.45])]
    torn_ = estimate([0.95, 0.93, 0.97, 0.1], bounds=SHARE)

    def drawn(*found):
        points = [Point(x, one) for x, one in enumerate(found)]
        return str(
            series_chart([PlottedLine("a", "c0", points)], "x", list(range(len(found))), "a")
        )

    whole = drawn(*sure, *sure)
    assert (whole.count("ribbon"), whole.count("whisker")) == (1, 0)
    broken = drawn(*sure, torn_, *sure)
    assert (broken.count("ribbon"), broken.count("whisker")) == (2, 0)
    assert broken.count('class="seed"') == 3 * 4 + 4
    assert "two heaps, no interval" in broken
    assert "two heaps" not in whole


def knowing(chosen, dead, constant=0.1, accuracy=0.12):
    """Return a long table that knows the best constant answer; `dead` says which rows died."""
    out = []
    for row in rows(chosen):
        if row.score in ("clean_accuracy", "clean_accuracy_attacker_free") and dead(row):
            row = replace(row, value=accuracy)
        out.append(row)
        if row.score == "clean_accuracy":
            out.append(replace(row, score="constant_accuracy", value=constant))
    return out


def told_of(chosen, table):
    return table_of(chosen, table, "replay", {})


@pytest.mark.parametrize(
    ("constant", "accuracy"),
    [(0.1, 0.95), (0.01, 0.2)],  # 20 % of a hundred classes are learnt
)
def test_models_that_have_learnt_change_nothing_in_a_report(constant, accuracy):
    chosen = sweep()
    old = told_of(chosen, knowing(chosen, lambda row: True, constant, accuracy))
    bare = [row for row in old.rows if row.score != "constant_accuracy"]
    without = told_of(chosen, bare)
    assert old.void == without.void == frozenset()
    for part in (told, curves, grids):
        assert part(old) == part(without)
    assert "has not learnt in" not in page_text(old)


def test_cells_that_have_not_learnt_are_told_and_left_out():
    chosen = sweep()

    def dead(row):
        return row.defender == "cutmix" and row.at["attackers"] == 5

    # An old table does not tell: its dead defender is the best.
    blind = [r for r in knowing(chosen, dead) if r.score != "constant_accuracy"]
    assert "1 cutmix" in told(told_of(chosen, blind))[0]
    found = told_of(chosen, knowing(chosen, dead))
    lines = told(found)
    assert lines[0].startswith("The model has not learnt in 4 of 16 cells (with their defenders): ")
    assert "and 1 more" in lines[0]
    assert "leave out the defenders cutmix" in lines[0]
    assert not any("cutmix" in line for line in lines[1:])
    assert lines[1].startswith("Mean asr_all over all cells: ")
    assert any(line.startswith("attackers 5 against 1: ") for line in lines)
    drawn = {(one.score, one.axis): one for one in curves(found)}
    # 5 seeds x (1 + 5 agents) undefended, and 5 seeds x 1 agent with cutmix.
    counts = [f.chart.count('class="mote"') for f in drawn["asr_all", "attackers"].figures]
    assert counts == [35] * 4
    # Clean accuracy of dead models is a finding: it is drawn whole.
    whole = {(one.score, one.axis): one for one in curves(told_of(chosen, blind))}
    assert drawn["clean_accuracy", "attackers"] == whole["clean_accuracy", "attackers"]
    solved = payoffs(found)
    assert [tuple(one.payoffs.defenders) for one in solved] == [("undefended",)] * 2


def test_where_nothing_has_learnt_no_attack_is_told():
    chosen = sweep()
    found = told_of(chosen, knowing(chosen, lambda row: True))
    (line,) = told(found)
    assert line.startswith("The model has not learnt in 16 of 16 cells")
    assert [one.score for one in curves(found)] == ["clean_accuracy", "clean_accuracy"]
    assert grids(found) == []
    assert payoffs(found) == []
    text = page_text(found)
    assert "void: the model has not learnt" in text
    assert "the one claim is undecided" in card_of(chosen, found).finding
    assert "the one claim holds" in card_of(chosen, told_of(chosen, rows(chosen))).finding

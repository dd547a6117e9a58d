"""`backfire export`: what a paper takes says what the folder says, and always in the same bytes."""

import csv
import hashlib
import io
import os
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from report_fixture import FORMULA, HOSTILE, Maker, scenario, write_folder
from sweep_fixture import sweep, write
from typer.testing import CliRunner

from backfire.cli.main import app
from backfire.errors import UsageError
from backfire.evidence.published.sweep_table import read_sweep
from backfire.exporting import drawing
from backfire.exporting.csv_text import csv_of_run, csv_of_sweep
from backfire.exporting.drawing import FiguresMissingError, draw
from backfire.exporting.figures import ExportFigure, FigureCurve, FigureMark, FigureRow
from backfire.exporting.files import export, exportable, markdown
from backfire.exporting.latex import escaped, latex
from backfire.exporting.names import file_name, numbered, score_words
from backfire.exporting.score_tables import (
    ScoreCell,
    ScoreTable,
    table_of_run,
    table_of_run_scores,
    table_of_sweep,
    table_of_sweep_scores,
)
from backfire.reporting.charts.names import apart
from server.errors import RunFolderError
from server.referee.results import QuantitySummary, RoundScores
from server.referee.scoring.scores import share

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def result():
    return Maker(scenario()).result()


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory, result):
    return write_folder(tmp_path_factory.mktemp("runs"), scenario(), result)


@pytest.fixture(scope="module")
def sweep_folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("sweeps") / "tiny", sweep())


def invoke(*arguments):
    return CliRunner().invoke(app, ["export", *map(str, arguments)])


def test_a_runs_table_has_each_score_with_its_interval_and_counts(result):
    table = table_of_run(result)
    (names, cells), *_ = table.rows
    own = result.defenders["undefended"]
    assert names == ("undefended", "mallory")
    clean = own.clean_accuracy
    assert cells[0] == ScoreCell(
        f"{100 * clean.value:.1f}",
        f"{100 * clean.low:.1f} to {100 * clean.high:.1f}",
        f"{clean.hits:g}/{clean.count}",
    )
    gap = own.groups["mallory"].comparison.interference
    assert cells[-1].value == f"{100 * gap.value:+.1f}"
    assert cells[-1].count == f"n = {gap.count}"
    assert {names[0] for names, _ in table.rows} == set(result.defenders)


def test_a_sweeps_table_has_means_over_seeds_and_says_why_one_has_no_interval(sweep_folder):
    table = read_sweep(sweep_folder)[1]
    made = table_of_sweep(table)
    assert made.labels == ["attackers", "epsilon", "trigger", "defender"]
    place = list(made.heads).index(score_words(table.main))
    for (names, cells), series in zip(made.rows, table.series(table.main), strict=True):
        found = series.estimate
        assert names[0] == str(series.at["attackers"])
        assert cells[place].value == f"{100 * found.value:.1f}"
        assert cells[place].count == f"n = {found.n}"
    one = write(sweep_folder.parent / "one", sweep(seeds=1))
    lone = table_of_sweep(read_sweep(one)[1])
    assert lone.rows[0][1][place].reach == "one seed"


@pytest.fixture(scope="module")
def scored(result):
    """The result with scores that a scenario asked for: a defender's, and a group's in rounds."""
    own = result.defenders["undefended"]
    rounds = QuantitySummary(mean=12.5, std=None, agents=1, unit="rounds")
    group = own.groups["mallory"].model_copy(update={"more": {"lifespan:50": rounds}})
    changed = own.model_copy(
        update={
            "more": {"class_accuracy:3": share(9, 12), "class_accuracy:4": share(1, 4)},
            "groups": {**own.groups, "mallory": group},
        }
    )
    return result.model_copy(update={"defenders": {**result.defenders, "undefended": changed}})


def test_named_scores_are_columns_in_their_units(scored):
    table = table_of_run_scores(scored, ["lifespan:50", "class_accuracy", "asr"])
    assert table.heads == ["lifespan:50 (rounds)", "class accuracy:3", "class accuracy:4", "ASR"]
    cells = dict(table.rows)["undefended", "mallory"]
    assert cells[0] == ScoreCell("12.5")
    assert (cells[1].value, cells[1].count) == ("75.0", "9/12")
    assert cells[2].value == "25.0"
    asr = scored.defenders["undefended"].groups["mallory"].asr
    assert cells[3].value == f"{100 * asr.mean:.1f}"
    other = dict(table.rows)["filtered", "mallory"]
    assert other[:3] == [ScoreCell()] * 3
    assert other[3].value
    # The defender's own scores have a row of their own where no group's is asked for.
    alone = table_of_run_scores(scored, ["class_accuracy:4"])
    assert [names for names, _ in alone.rows] == [("undefended", "")]
    assert "lifespan:50 (rounds)" in latex(table)
    (gap,) = table_of_run_scores(scored, ["interference"]).rows[0][1]
    assert gap.value[0] in "+-"


def test_a_score_that_is_not_there_is_told_with_the_nearest(scored, run_folder, tmp_path):
    with pytest.raises(UsageError, match=r"got 'lifespan:5' \(did you mean 'lifespan:50'\?\)"):
        table_of_run_scores(scored, ["asr", "lifespan:5"])
    with pytest.raises(UsageError, match="got 'class'"):  # a part of a word is no score
        table_of_run_scores(scored, ["class"])
    wrong = invoke(run_folder, "--table", "csv", "--score", "asr", "--out", tmp_path)
    assert (wrong.exit_code, wrong.output.count("\n")) == (2, 1)
    assert "CSV holds every score" in wrong.output
    assert not list(tmp_path.iterdir())


def test_a_sweeps_table_shows_named_scores_of_each_group(sweep_folder, tmp_path):
    table = read_sweep(sweep_folder)[1]
    made = table_of_sweep_scores(table, ["work", "asr_all"])
    assert made.labels == ["attackers", "epsilon", "trigger", "defender", "attackers"]
    assert made.heads == ["work (trainings)", "ASR all"]
    assert {names[-1] for names, _ in made.rows} == {
        row.group for row in table.rows if row.score == "asr_all"
    }
    means = {
        (*map(str, one.at.values()), one.defender): one.estimate.value
        for one in table.series("asr_all")
    }
    for names, (work, asr) in made.rows:
        assert work.value == "1"  # trainings, not per cent
        if names[-1] == "malicious":
            assert asr.value == f"{100 * means[tuple(names[:-1])]:.1f}"
    found = invoke(sweep_folder, "--table", "markdown", "--score", "work", "--out", tmp_path)
    assert found.exit_code == 0, found.output
    assert "work (trainings)" in next(tmp_path.glob("*.md")).read_text()


def test_csv_holds_every_score_and_reads_back(result, sweep_folder):
    lines = list(csv.DictReader(io.StringIO(csv_of_run(result))))
    (one,) = [
        line for line in lines
        if (line["defender"], line["group"], line["agent"], line["score"])
        == ("filtered", "mallory", "", "asr")
    ]  # fmt: skip
    own = result.defenders["filtered"].groups["mallory"].asr
    assert (float(one["value"]), int(one["count"])) == (own.mean, own.pooled.count)
    table = read_sweep(sweep_folder)[1]
    means = list(csv.DictReader(io.StringIO(csv_of_sweep(table))))
    clean = [line for line in means if line["score"] == "clean_accuracy"]
    assert len(clean) == len(table.series("clean_accuracy"))
    assert [float(line["mean"]) for line in clean] == [
        one.estimate.value for one in table.series("clean_accuracy")
    ]


def test_foreign_names_stay_text_in_latex_and_markdown():
    rows = [((r"a_b & 50% \input{x}", HOSTILE), [ScoreCell("1.0", "0.5 to 1.5", "1/2")])]
    table = ScoreTable("t", "c", ("defender", "attackers"), ("ASR",), rows)
    text = latex(table)
    assert r"a\_b \& 50\% \textbackslash{}input\{x\}" in text
    assert "\\input{" not in text
    assert r"\shortstack[r]{1.0 \\ {\scriptsize [0.5, 1.5]} \\ {\scriptsize 1/2}}" in text
    assert escaped("~^") == r"\textasciitilde{}\textasciicircum{}"
    assert "<script>" not in markdown(table).replace("\\<", "")


def test_every_row_of_latex_has_as_many_cells_as_its_head(result):
    lines = latex(table_of_run(result)).splitlines()
    rows = [line.replace(r"\&", "") for line in lines if line.endswith((r"\\", r"\\[2pt]"))]
    assert len(rows) == 1 + len(table_of_run(result).rows)
    assert {row.count("&") for row in rows} == {8}


def test_minus_is_a_minus_in_latex():
    table = ScoreTable("t", "c", ("d",), ("i",), [(("x",), [ScoreCell("-1.9", "-2.0 to +1.0")])])
    assert r"\shortstack[r]{$-$1.9 \\ {\scriptsize [$-$2.0, $+$1.0]}}" in latex(table)


def curves(*names, dashed=False):
    return [
        FigureCurve(name, (1.0, 2.0), (0.5, 0.6 + k / 10), (0.4, None), (0.6, None), dashed)
        for k, name in enumerate(names)
    ]


@pytest.mark.parametrize("form", ["pdf", "svg", "png"])
def test_a_figure_has_always_the_same_bytes_and_no_date(form, monkeypatch):
    figure = ExportFigure("a", "What bars mean.", "ASR (%)", "attackers", curves=curves("x", "y"))
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    first = draw(figure, form)
    import matplotlib

    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9}):
        assert draw(figure, form) == first
        assert matplotlib.rcParams["font.size"] == 30
    assert b"CreationDate" not in first
    assert b"<dc:date>" not in first
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    assert draw(figure, form) == first


def test_another_process_draws_the_same_bytes():
    program = (
        "import hashlib; from backfire.exporting.drawing import draw; "
        "from backfire.exporting.figures import *; "
        "row = FigureRow('r', (FigureMark('m', .5, .4, .6),)); "
        "print(hashlib.sha256(draw(ExportFigure('a', 'c', 'x', rows=[row]), 'pdf')).hexdigest())"
    )
    told = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    row = FigureRow("r", (FigureMark("m", 0.5, 0.4, 0.6),))
    here = draw(ExportFigure("a", "c", "x", rows=[row]), "pdf")
    assert told.strip() == hashlib.sha256(here).hexdigest()


def test_the_caption_and_the_curves_names_are_in_the_file():
    figure = ExportFigure("a", "Bars: 95 % intervals.", "ASR (%)", "x", curves=curves("eve", "mal"))
    assert b"Bars: 95 % intervals." in draw(figure, "png")
    svg = draw(figure, "svg").decode()
    assert "Bars: 95 % intervals." in svg
    assert "<!-- eve -->" in svg
    assert "<!-- mal -->" in svg


def test_fonts_of_a_pdf_are_embedded_as_truetype():
    figure = ExportFigure("a", "c", "ASR (%)", "x", curves=curves("eve", "mal"))
    data = draw(figure, "pdf")
    assert b"/FontFile2" in data
    assert b"/Type3" not in data


def test_a_name_is_never_read_as_mathematics():
    figure = ExportFigure("a", "c", "$x$ (%)", "x", curves=curves("$\\frac{", "y"))
    assert b"svg" in draw(figure, "svg")


@pytest.mark.filterwarnings("error:Glyph")
def test_letters_that_the_font_has_not_are_escaped():
    rows = [FigureRow("モ é", (FigureMark("m", 0.5, 0.4, 0.6),))]
    drawn = draw(ExportFigure("a", "c", "x", rows=rows), "svg").decode()
    assert "<!-- \\u30e2 é -->" in drawn


def test_curves_along_names_and_a_dot_plot_without_intervals_are_drawn():
    ticks = ((1.0, "fixed"), (2.0, "redrawn"))
    named = ExportFigure("a", "c", "ASR (%)", "trigger", curves=curves("x"), ticks=ticks)
    assert "<!-- redrawn -->" in draw(named, "svg").decode()
    rows = [FigureRow("head"), FigureRow("row", (FigureMark("m", -0.2, None, None),))]
    assert "<!-- head -->" in draw(ExportFigure("a", "c", "x", rows=rows), "svg").decode()
    wide = [replace(curve, x=(1.0, 100.0)) for curve in curves("x", "y")]
    logged = draw(ExportFigure("a", "c", "x", "n", curves=wide, log=True), "svg").decode()
    assert "<!-- 100 -->" in logged


def test_names_are_moved_apart_and_keep_their_order_inside_the_range():
    placed = apart([50.0, 50.5, 10.0, 99.0, 98.0], 5.0, 0.0, 100.0)
    assert sorted(range(5), key=placed.__getitem__) == [2, 0, 1, 4, 3]
    ordered = sorted(placed)
    assert all(b - a >= 5.0 - 1e-9 for a, b in pairwise(ordered))
    assert 0.0 <= ordered[0] <= ordered[-1] <= 100.0
    assert placed[2] == 10.0
    crowded = apart([100.0] * 30, 5.0, 0.0, 100.0)
    assert 0.0 <= min(crowded) <= max(crowded) <= 100.0


def test_rounds_become_curves_by_agent_or_of_many_agents_by_group(result):
    def entry(number, agents):
        scores = {name: share(number, 10) for name in agents}
        return RoundScores(
            round=number, sampled=(), admitted=(), skipped=False, selected=None,
            clean_accuracy=share(9, 10), asr=scores,
        )  # fmt: skip

    from backfire.exporting.run_figures import run_figures

    cheats = [record for record in result.roster if record.malicious]
    few = [record.name for record in cheats[:2]]
    rounds = {"undefended": (entry(1, few), entry(2, few))}
    own = run_figures(result.model_copy(update={"rounds": rounds}))[-1]
    assert [curve.name for curve in own.curves] == [*few, "clean accuracy"]
    assert own.curves[0].y == (0.1, 0.2)
    assert own.curves[-1].dashed
    everybody = [record.name for record in cheats]
    many = {"undefended": (entry(1, everybody), entry(2, everybody))}
    groups = run_figures(result.model_copy(update={"rounds": many}))[-1]
    assert [curve.name for curve in groups.curves][:2] == ["mallory", "chameleon"]
    assert len(groups.curves) == len({record.group for record in cheats}) + 1


def test_the_command_writes_figures_with_captions_and_tables(run_folder, sweep_folder, tmp_path):
    out = tmp_path / "paper"
    found = invoke(
        run_folder, "--figure", "svg", "--table", "latex", "--table", "csv", "--out", out
    )
    assert found.exit_code == 0, found.output
    name = file_name(run_folder.name)
    wanted = {"asr.svg", "asr.txt", "clean-accuracy.svg", "clean-accuracy.txt", "scores.tex"}
    assert {file.name for file in out.iterdir()} == {f"{name}-{end}" for end in wanted} | {
        f"{name}-scores.csv"
    }
    assert "Wilson" in (out / f"{name}-asr.txt").read_text()
    assert found.output.count("\n") == 6
    only = invoke(sweep_folder, "--figure", "svg", "--only", "clean-accuracy-along-epsilon",
                  "--out", out / "one", "--json")  # fmt: skip
    assert only.exit_code == 0, only.output
    assert len(list((out / "one").iterdir())) == 2
    assert "seeds" in next((out / "one").glob("*.txt")).read_text()


def test_what_is_wrong_is_told_in_one_line(run_folder, tmp_path):
    nothing = invoke(run_folder)
    assert (nothing.exit_code, nothing.output.count("\n")) == (2, 1)
    assert "--figure pdf" in nothing.output
    wrong = invoke(run_folder, "--figure", "svg", "--only", "ars", "--out", tmp_path)
    assert wrong.exit_code == 2
    assert "did you mean 'asr'?" in wrong.output
    with pytest.raises(RunFolderError, match="run"):
        exportable(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="--out"):
        export(run_folder, tmp_path / "file", tables=["csv"])
    with pytest.raises(UsageError):
        export(run_folder, tmp_path, figures=["svg"], only=["nothing"])


def test_without_matplotlib_the_remedy_is_told_and_tables_still_go(
    run_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(drawing.importlib.util, "find_spec", lambda name: None)
    figure = invoke(run_folder, "--figure", "pdf", "--table", "csv", "--out", tmp_path / "a")
    assert figure.exit_code == 3
    assert figure.output.count("\n") == 1
    assert "pip install 'backfire[figures]'" in figure.output
    assert not (tmp_path / "a").exists()
    table = invoke(run_folder, "--table", "markdown", "--out", tmp_path / "b")
    assert table.exit_code == 0, table.output
    with pytest.raises(FiguresMissingError):
        draw(ExportFigure("a", "c", "x"), "pdf")


def test_names_of_files_hold_nothing_foreign():
    assert file_name("rounds", "Ünder/../fended") == "rounds-nder-fended"
    assert file_name(FORMULA) == "cmd-c-calc-a0"
    assert file_name("שלום") == "figure"
    assert numbered(["a", "b", "a", "a-2", "a"]) == ["a", "b", "a-2", "a-2-2", "a-3"]

"""`backfire compare`: two folders side by side, paired by seed, with what differs between them."""

import json
from dataclasses import replace

import pytest
from report_fixture import HOSTILE, Maker, scenario, write_folder
from sweep_fixture import rows, sweep, write
from typer.testing import CliRunner

from backfire.api.comparing import compare
from backfire.cli.main import app


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs of one seed, which differ in the number of honest agents."""
    folder = tmp_path_factory.mktemp("runs")
    games = [scenario(honest=honest) for honest in (4, 5)]
    return [write_folder(folder, game, Maker(game).result()) for game in games]


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweeps")
    one, other = sweep("one"), sweep("other", model={"kind": "softmax"})
    weak = rows(other, {"undefended": 0.4, "cutmix": 0.5})
    return write(folder / "one", one), write(folder / "other", other, weak)


def invoke(*arguments):
    return CliRunner().invoke(app, ["compare", *map(str, arguments)], terminal_width=120)


def test_runs_of_one_seed_are_described_and_their_change_is_named(runs):
    found = compare(*runs).found
    assert found.common == (0,)
    assert [(one.path, one.first, one.second) for one in found.scenario] == [
        ("agents.honest.count", 4, 5)
    ]
    results = [json.loads((folder / "result.json").read_text()) for folder in runs]
    (clean,) = [
        one for one in found.scores if (one.defender, one.score) == ("indexed", "clean_accuracy")
    ]
    values = [result["defenders"]["indexed"]["clean_accuracy"]["value"] for result in results]
    assert clean.paired.difference.value == pytest.approx(values[0] - values[1])
    assert clean.told == "not told apart"
    shown = invoke(*runs, "--plain")
    assert shown.exit_code == 0, shown.output
    assert "agents.honest.count: 4 | 5" in shown.output
    assert "describe" in shown.output
    assert "robust" not in shown.output
    assert "robust" in invoke(*runs, "--plain", "--all").output
    assert "\u202e" not in shown.output


def test_sweeps_are_paired_cell_by_cell_and_the_sign_is_that_of_first_less_second(sweeps):
    found = compare(*sweeps).found
    back = {_place(one): one.paired for one in compare(*reversed(sweeps)).found.scores}
    asr = [one for one in found.scores if one.score == "asr_all" and one.group == "malicious"]
    assert len(asr) == 16
    for one in asr:
        assert one.paired.difference.n == 5
        gap = one.paired.difference.value
        assert gap == pytest.approx(one.first.value - one.second.value)
        assert back[_place(one)].difference.value == pytest.approx(-gap)
    best = [one.paired.difference.value for one in asr if one.defender == "undefended"]
    assert max(best) == pytest.approx(0.5)
    assert "model.kind" in {one.path for one in found.scenario}


def _place(one):
    return tuple(one.at.items()), one.defender, one.group, one.score


def test_json_holds_all_that_is_compared(sweeps):
    found = json.loads(invoke(*sweeps, "--json").stdout)
    assert found["names"] == ["one", "other"]
    assert len(found["scores"]) == len(compare(*sweeps).found.scores)
    assert found["scores"][0]["paired"]["difference"]["n"] == 5


def test_a_folder_compared_with_itself_differs_in_nothing(sweeps):
    shown = invoke(sweeps[0], sweeps[0], "--plain")
    assert shown.exit_code == 0, shown.output
    assert "no field differs" in shown.output
    assert "No difference is beyond doubt." in shown.output
    assert {one.paired.difference.value for one in compare(sweeps[0], sweeps[0]).found.scores} == {
        0.0
    }
    assert HOSTILE.split(">", maxsplit=1)[0][:4] in shown.output


@pytest.mark.parametrize("everything", [[], ["--all"]])
def test_that_nothing_differs_is_not_said_where_a_score_does_that_is_not_shown(
    tmp_path, sweeps, everything
):
    other = sweep("other")
    weaker = [
        replace(row, value=row.value / 2) if row.score == "asr_all" else row for row in rows(other)
    ]
    second = write(tmp_path / "other", other, weaker)
    found = compare(sweeps[0], second).found
    assert {one.score for one in found.scores if one.told == "higher"} == {"asr_all"}
    shown = invoke(sweeps[0], second, "--plain", *everything)
    assert "No difference is beyond doubt." not in shown.output


def test_amounts_are_shown_in_their_unit_and_named_scores_alone(runs):
    found = compare(*runs).found
    work = next(one for one in found.scores if (one.defender, one.score) == ("indexed", "work"))
    shown = invoke(*runs, "--plain", "--score", "work")
    assert shown.exit_code == 0, shown.output
    (line,) = [line for line in shown.output.splitlines() if "indexed" in line]
    assert line.split() == [
        "indexed", "work", "(trainings)", f"{work.first.value:g}", f"{work.second.value:g}",
        f"{work.paired.difference.value:+g}", "-",
    ]  # fmt: skip
    assert work.first.value != work.second.value
    assert "clean accuracy" not in shown.output
    wrong = invoke(*runs, "--score", "wrok")
    assert (wrong.exit_code, wrong.output.count("\n")) == (2, 1)
    assert "did you mean 'work'?" in wrong.output
    both = invoke(*runs, "--all", "--score", "work")
    assert (both.exit_code, both.output) == (2, "error: expected --all or --score, got both\n")


def test_what_holds_nothing_is_told_in_one_line(runs, tmp_path):
    told = invoke(runs[0], tmp_path)
    assert told.exit_code == 3
    assert told.output.count("\n") == 1
    assert str(tmp_path) in told.output

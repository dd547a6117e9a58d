"""`backfire reproduce`, `report` of a sweep and their Markdown: played with a small sweep file."""

import json
import webbrowser

import pytest
from sweep_fixture import sweep, write
from typer.testing import CliRunner

from backfire.analysis import reproductions
from backfire.analysis.reproductions import find_reproduction, sizes_of
from backfire.cli import app
from backfire.sweep_results import write_markdown
from scenarios.errors import ScenarioError
from server.atomic import yaml_bytes

FEW = {
    "axes": {"attackers": {"field": "agents.mallory.count", "values": [1, 5]}},
    "seeds": 3,
    "payoffs": None,
}


@pytest.fixture(autouse=True)
def no_browser(monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    return opened


@pytest.fixture
def library(tmp_path, monkeypatch):
    folder = tmp_path / "library" / "papers" / "s9"
    folder.mkdir(parents=True)
    document = sweep(sweep=FEW, training={"epochs": 1}, referee={}).document()
    (folder / "table1_small.yaml").write_bytes(yaml_bytes(document))
    monkeypatch.setattr(reproductions.library, "FOLDER", tmp_path / "library")
    return folder


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_every_sweep_of_the_papers_is_found_by_its_name():
    for name, sizes in sizes_of().items():
        for size in sizes:
            file = find_reproduction(name, "" if size == "full" else size)
            assert file.is_file()
            assert name.startswith(f"{file.parent.name}-")
            assert file.stem.endswith("" if size == "full" else f"_{size}")


def test_a_wrong_name_is_told_with_the_nearest_one(library):
    assert find_reproduction("S9_Table1", "small") == library / "table1_small.yaml"
    with pytest.raises(ScenarioError, match="did you mean 's9-table1'"):
        find_reproduction("s9-tabel1", "small")
    with pytest.raises(ScenarioError, match="there are: small"):
        find_reproduction("s9-table1")
    result = run("reproduce", "s9-tabel1", "--small")
    assert result.exit_code == 2
    listed = run("reproduce")
    assert listed.output == "s9-table1: small\n"


def test_it_plays_sets_beside_the_paper_and_writes_markdown(library, tmp_path, no_browser):
    page = tmp_path / "table.md"
    command = ("reproduce", "s9-table1", "--small", "--out", tmp_path / "runs", "--jobs", 1)
    result = run(*command, "--markdown", page, "--plain")
    assert result.exit_code == 0, result.output
    assert "not comparable" in result.output
    (folder,) = (tmp_path / "runs").iterdir()
    assert {"card.json", "report.html", "scores.csv", "sweep.yaml"} <= {
        file.name for file in folder.iterdir()
    }
    text = page.read_text()
    assert "backfire reproduce s9-table1 --small" in text
    assert "n = 3" in text
    assert no_browser == []
    again = json.loads(run(*command, "--json", "--open").stdout)
    assert again["claims"][0]["verdict"] in text
    (figure,) = again["figures"]
    assert f"{100 * figure['ours']:.1f} %" in text
    assert no_browser == [(folder / "report.html").resolve().as_uri()]


def test_report_makes_page_card_and_markdown_of_a_sweep_again(tmp_path):
    folder = write(tmp_path / "tiny", sweep())
    page = tmp_path / "t.md"
    result = run("report", folder, "--markdown", page, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["report"] == str(folder / "report.html")
    assert "holds in part" in page.read_text()
    plain = write(tmp_path / "plain", sweep("plain", published=None))
    result = run("report", plain, "--markdown", page)
    assert result.exit_code == 2
    assert "published" in result.output


def test_markdown_where_nothing_can_be_written_is_one_line(tmp_path):
    from backfire.analysis.sweep_table import read_sweep
    from server.reading import RunFolderError

    _, table = read_sweep(write(tmp_path / "tiny", sweep()))
    with pytest.raises(RunFolderError, match="expected a file that can be written"):
        write_markdown(tmp_path / "none" / "t.md", table)

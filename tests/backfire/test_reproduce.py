"""`backfire reproduce`, `report` of a sweep and their Markdown: played with a small sweep file."""

import gzip
import json
import shutil
import webbrowser

import pytest
from sweep_fixture import rows, sweep, write
from typer.testing import CliRunner

from backfire.cli.main import app
from backfire.evidence.long_table import read_rows
from backfire.evidence.published import reproductions
from backfire.evidence.published.reproductions import find_reproduction, sizes_of
from backfire.sweeps.page_scores import beside, pack, read_scores
from backfire.sweeps.results import conclude, write_markdown
from scenarios.loader import load_sweep, parse_sweep
from scenarios.text.errors import ScenarioError
from server.errors import RunFolderError
from server.store.atomic import yaml_bytes

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
    assert beside(page).is_file()
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
    assert beside(page).is_file()
    plain = write(tmp_path / "plain", sweep("plain", published=None))
    result = run("report", plain, "--markdown", page)
    assert result.exit_code == 2
    assert "published" in result.output


@pytest.fixture
def finished(library, tmp_path):
    """Return the folder of a sweep that is finished without playing, and its page."""
    folder = write(tmp_path / "played", load_sweep(library / "table1_small.yaml"))
    page = tmp_path / "table.md"
    assert rebuilt(folder, page).exit_code == 0
    return folder, page


def rebuilt(scores, page, *more):
    return run("reproduce", "s9-table1", "--small", "--from", scores, "--markdown", page, *more)


def test_a_page_is_written_again_from_its_scores_alone(finished, tmp_path):
    folder, page = finished
    again = tmp_path / "again.md"
    shutil.rmtree(folder)
    assert rebuilt(beside(page), again, "--json").exit_code == 0
    assert again.read_bytes() == page.read_bytes()
    assert beside(again).read_bytes() == beside(page).read_bytes()
    assert "backfire reproduce s9-table1 --small\n" in page.read_text()


def test_the_scores_beside_a_page_are_the_whole_long_table(finished):
    folder, page = finished
    sweep_ = load_sweep(folder / "sweep.yaml")
    assert list(read_scores(beside(page), sweep_).rows) == read_rows(folder)
    head, _, body = gzip.decompress(beside(page).read_bytes()).partition(b"\n")
    assert body == (folder / "scores.csv").read_bytes()
    assert head.startswith(b"# {")
    assert beside(page).read_bytes()[4:8] == bytes(4)  # no time


def test_other_scores_make_another_page(finished, tmp_path):
    _, page = finished
    lines = gzip.decompress(beside(page).read_bytes()).decode().splitlines(keepends=True)
    k = next(k for k, line in enumerate(lines) if '"malicious","","asr_all"' in line)
    value = lines[k].split(",")
    place = value.index('"asr_all"') + 1
    lines[k] = ",".join([*value[:place], "0.123", *value[place + 1 :]])
    changed = tmp_path / "changed.scores.csv.gz"
    changed.write_bytes(gzip.compress("".join(lines).encode()))
    again = tmp_path / "again.md"
    assert rebuilt(changed, again).exit_code == 0
    assert again.read_bytes() != page.read_bytes()


def test_the_folder_of_the_data_is_not_kept(tmp_path):
    data = {"kind": "npz", "path": "/home/somebody/mnist.npz"}
    document = sweep(sweep=FEW).document()
    played = parse_sweep(json.dumps({**document, "data": data}), "there")
    moved = parse_sweep(json.dumps({**document, "data": {**data, "path": "mnist.npz"}}), "here")
    scores = pack(played, rows(played))
    assert b"somebody" not in gzip.decompress(scores.data)
    file = tmp_path / "t.scores.csv.gz"
    file.write_bytes(scores.data)
    assert read_scores(file, moved).rows == rows(played)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"training": {"epochs": 2}}, "training.epochs was 1 and is 2; play it again"),
        ({"sweep": {**FEW, "seeds": 4}}, "got none of attackers=1, seed=3"),
        ({"sweep": {**FEW, "seeds": 2}}, "got more games"),
    ],
)
def test_scores_of_other_games_are_refused(finished, library, change, said):
    _, page = finished
    document = load_sweep(library / "table1_small.yaml").document()
    (library / "table1_small.yaml").write_bytes(yaml_bytes({**document, **change}))
    result = rebuilt(beside(page), page.with_name("again.md"))
    assert result.exit_code == 3
    assert said in result.output
    assert not page.with_name("again.md").exists()


def test_words_about_the_games_and_defaults_written_out_change_nothing(finished, library):
    _, page = finished
    known = load_sweep(library / "table1_small.yaml")
    default = {"run_time_share": known.cells[0].scenario.run_time_share}
    assert not default.keys() & known.document().keys()
    spelt = {**known.document(), "description": "Other words.", **default}
    (library / "table1_small.yaml").write_bytes(yaml_bytes(spelt))
    again = page.with_name("again.md")
    assert rebuilt(beside(page), again).exit_code == 0
    assert again.read_bytes() == page.read_bytes()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"no gzip", "expected a gzip file"),
        (gzip.compress(b"x" * 9, mtime=0)[:-9], "expected a gzip file"),
        (gzip.compress(b"# 3\na,b\n1,2\n", mtime=0), "got no sweep in line 1"),
        (gzip.compress(b"# {}\na,b\n1,2\n", mtime=0), "expected the columns attackers, seed"),
        (gzip.compress(b"# {\n1,2\n", mtime=0), "expected the scores of a page"),
        (gzip.compress(b"", mtime=0), "expected the scores of a page"),
    ],
    ids=["no gzip", "cut off", "no mapping", "no columns", "no sweep", "nothing"],
)
def test_what_holds_no_scores_is_one_line(library, tmp_path, data, said):
    file = tmp_path / "bad.scores.csv.gz"
    file.write_bytes(data)
    result = rebuilt(file, tmp_path / "t.md")
    assert result.exit_code == 3
    assert said in result.output
    assert len(result.output.splitlines()) == 1


def test_markdown_where_nothing_can_be_written_is_one_line(tmp_path):
    table, scores = conclude(write(tmp_path / "tiny", sweep()))
    with pytest.raises(RunFolderError, match="expected a file that can be written"):
        write_markdown(tmp_path / "none" / "t.md", table, scores)

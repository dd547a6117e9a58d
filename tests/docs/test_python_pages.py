"""The page on Python, the notebooks and the examples run as they are printed."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import nbclient
import nbformat
import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "python.md"
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def test_there_are_two_notebooks_and_three_examples():
    assert [path.stem for path in NOTEBOOKS] == ["my-first-game", "my-own-defence"]
    assert [path.stem for path in EXAMPLES] == ["my_attack", "my_data", "my_defence"]


def test_the_pages_lines_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.S | re.M)
    assert len(blocks) >= 6
    page = tmp_path / "page.py"
    page.write_text("\n".join(blocks))
    names = runpy.run_path(str(page), run_name="page")  # the sweep is left to its own test
    assert list(names["asr"]["score"].unique()) == ["asr"]
    assert names["own"].scenario["model"]["of"] == "page.<lambda>"
    assert names["compared"].found.common == (0,)


def test_the_page_names_what_is_promised():
    import backfire

    text = PAGE.read_text()
    for name in ("play", "sweep", "load", "compare", "check_architecture", "Scenario", "DataSet"):
        assert f"backfire.{name}" in text
        assert name in backfire.__all__


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    book = nbformat.read(path, as_version=4)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)  # none are kept
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(book, timeout=120, resources=resources).execute()
    shown = [str(output) for cell in code for output in cell.outputs]
    assert any("<table>" in text and "clean_accuracy" in text for text in shown)
    assert list((tmp_path / "runs").iterdir())
    if path.stem == "my-own-defence":
        assert any("__main__.Hardest" in text for text in shown)
        assert not any("'code': None" in text for text in shown)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(path), run_name="__main__")
    said = capsys.readouterr().out
    (run,) = (tmp_path / "runs").iterdir()
    assert (run / "report.html").is_file()
    wanted = {"my_attack": "mallory", "my_data": "decide", "my_defence": "mine"}[path.stem]
    assert wanted in said

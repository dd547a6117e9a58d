"""Every page of docs/reproductions with scores beside it is what its command makes of them."""

import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from backfire.cli.main import app
from backfire.sweeps.page_scores import SUFFIX
from backfire.sweeps.summary_pages import filled, is_marked, played_of

PAGES = Path(__file__).parents[2] / "docs" / "reproductions"
SCORES = sorted(PAGES.glob(f"*{SUFFIX}"))
MIB = 1 << 20


@pytest.mark.parametrize("scores", SCORES, ids=lambda path: path.name.removesuffix(SUFFIX))
def test_a_page_is_rebuilt_from_its_scores_byte_for_byte(scores, tmp_path):
    page = scores.with_name(scores.name.removesuffix(SUFFIX) + ".md")
    again = tmp_path / page.name
    _, *arguments = shlex.split(played_of(page).command)
    command = [*arguments, "--from", str(scores), "--markdown", str(again), "--json"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert again.read_bytes() == page.read_bytes()
    assert (tmp_path / scores.name).read_bytes() == scores.read_bytes()


HAND = [page for page in [*PAGES.glob("*.md"), *PAGES.parent.glob("*.md")] if is_marked(page)]


@pytest.mark.parametrize("page", HAND, ids=lambda page: page.stem)
def test_tables_of_pages_written_by_hand_are_what_the_scores_say(page):
    assert filled(page).text == page.read_text()


def test_scores_are_small():
    assert all(file.stat().st_size < MIB for file in SCORES)

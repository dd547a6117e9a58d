"""Every page of docs/reproductions with scores beside it is what its command makes of them."""

import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from backfire.cli import app
from backfire.sweeps.page_scores import SUFFIX

PAGES = Path(__file__).parents[2] / "docs" / "reproductions"
SCORES = sorted(PAGES.glob(f"*{SUFFIX}"))
MIB = 1 << 20


def command_of(page):
    """Return the command in the page's first block of code, without `backfire`."""
    _, block, *_ = page.read_text().split("```\n")
    program, *arguments = shlex.split(block)
    assert program == "backfire"
    return arguments


@pytest.mark.parametrize("scores", SCORES, ids=lambda path: path.name.removesuffix(SUFFIX))
def test_a_page_is_rebuilt_from_its_scores_byte_for_byte(scores, tmp_path):
    page = scores.with_name(scores.name.removesuffix(SUFFIX) + ".md")
    again = tmp_path / page.name
    command = [*command_of(page), "--from", str(scores), "--markdown", str(again), "--json"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert again.read_bytes() == page.read_bytes()
    assert (tmp_path / scores.name).read_bytes() == scores.read_bytes()


def test_scores_are_small():
    assert all(file.stat().st_size < MIB for file in SCORES)

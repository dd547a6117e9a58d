"""What is made of a finished sweep: its card, its report, its table beside a paper."""

from __future__ import annotations

from pathlib import Path

from backfire.errors import UsageError
from backfire.evidence.card import card_of, write_card
from backfire.evidence.long_table import SWEEP
from backfire.evidence.published.changed import Change, changes
from backfire.evidence.published.sweep_table import SweepTable, read_sweep, table_of
from backfire.evidence.published.text import markdown
from backfire.reporting.sweeps.page import REPORT, write_page
from backfire.sweeps.page_scores import PageScores, beside, pack, read_scores
from scenarios.sweep.spec import Sweep
from scenarios.text.quoting import printable
from server.errors import RunFolderError
from server.store.atomic import write_bytes

__all__ = ["REPORT", "conclude", "from_scores", "is_sweep", "page_of", "write_markdown"]


def is_sweep(folder: Path) -> bool:
    """Return whether a folder is that of a sweep, finished or not."""
    return (folder / SWEEP).is_file()


def conclude(folder: Path) -> tuple[SweepTable, PageScores]:
    """Write `card.json` and `report.html` into the folder of a finished sweep.

    Returns:
        What the report shows, and the scores as a page keeps them.

    Raises:
        RunFolderError: If the folder holds no finished sweep, was damaged, or cannot be written
            to; one line.
    """
    sweep, table = read_sweep(folder)
    write_card(folder, card_of(sweep, table))
    write_page(folder, table)
    return table, pack(sweep, table.rows)


def from_scores(path: Path, sweep: Sweep, replay: str) -> tuple[SweepTable, PageScores]:
    """Return what is said of games that were played before, without their run folders.

    Args:
        path: The scores beside a page, or the folder of a finished sweep.
        sweep: What was played.
        replay: The command that plays it again.

    Raises:
        RunFolderError: If it holds other games' scores, or none; one line.
    """
    scores = read_scores(path, sweep)
    return table_of(sweep, scores.rows, replay, {}), scores


def write_markdown(
    file: Path, table: SweepTable, scores: PageScores, replay: str = ""
) -> list[Change]:
    """Write the table beside the paper as Markdown, and its scores beside the Markdown.

    Args:
        file: Written over.
        table: The sweep.
        scores: What the table was made from.
        replay: The command to print; by default that of the sweep.

    Returns:
        The verdicts that differ from those of the page that was there before.

    Raises:
        UsageError: If the sweep says nothing of a paper.
        RunFolderError: If a file cannot be written.
    """
    text = page_of(table, replay)
    try:
        old = file.read_text("utf-8", "replace") if file.is_file() else text
        write_bytes(beside(file), scores.data)
        write_bytes(file, text.encode("utf-8", "replace"))
    except OSError as error:
        raise RunFolderError(
            f"{file}: expected a file that can be written, got: {error.strerror or error}"
        ) from None
    return changes(old, text)


def page_of(table: SweepTable, replay: str = "") -> str:
    """Return the table beside the paper as a page of Markdown.

    Raises:
        UsageError: If the sweep says nothing of a paper.
    """
    if table.side is None:
        name = printable(table.name, 80)
        raise UsageError(f"expected a sweep with a block published:, got {name}, which has none")
    return markdown(table.side, replay=replay or table.replay, title=table.name)

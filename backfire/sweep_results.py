"""What is made of a finished sweep: its card, its report, its table beside a paper."""

from __future__ import annotations

from pathlib import Path

from backfire.analysis.card import card_of, write_card
from backfire.analysis.published_text import markdown
from backfire.analysis.sweep_table import SweepTable, read_sweep
from backfire.errors import UsageError
from backfire.report.sweep_page import REPORT, write_page
from backfire.sweeps.table import SWEEP
from scenarios.quoting import printable
from server.atomic import write_bytes
from server.reading import RunFolderError

__all__ = ["REPORT", "conclude", "is_sweep", "write_markdown"]


def is_sweep(folder: Path) -> bool:
    """Return whether a folder is that of a sweep, finished or not."""
    return (folder / SWEEP).is_file()


def conclude(folder: Path) -> SweepTable:
    """Write `card.json` and `report.html` into the folder of a finished sweep.

    Returns:
        What the report shows.

    Raises:
        RunFolderError: If the folder holds no finished sweep, was damaged, or cannot be written
            to; one line.
    """
    sweep, table = read_sweep(folder)
    write_card(folder, card_of(sweep, table))
    write_page(folder, table)
    return table


def write_markdown(file: Path, table: SweepTable, replay: str = "") -> None:
    """Write the table beside the paper as Markdown.

    Args:
        file: Written over.
        table: The sweep.
        replay: The command to print; by default that of the sweep.

    Raises:
        UsageError: If the sweep says nothing of a paper.
        RunFolderError: If the file cannot be written.
    """
    if table.side is None:
        name = printable(table.name, 80)
        raise UsageError(f"expected a sweep with a block published:, got {name}, which has none")
    try:
        text = markdown(table.side, replay=replay or table.replay, title=table.name)
        write_bytes(file, text.encode("utf-8", "replace"))
    except OSError as error:
        raise RunFolderError(
            f"{file}: expected a file that can be written, got: {error.strerror or error}"
        ) from None

"""Renders the report of a sweep: one page without scripts, from the sweep's folder alone.

The folder is foreign: its table is read with limits, every name is escaped by the template, and
the page's own policy forbids scripts and anything from elsewhere.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from markupsafe import Markup

from backfire.evidence.published import text as published_text
from backfire.evidence.published.judging import RULES, ClaimVerdict, p_words
from backfire.evidence.published.sweep_table import SweepTable, read_sweep
from backfire.evidence.words import reach_words
from backfire.reporting.charts import intervals
from backfire.reporting.charts.heatmap import scale_bar
from backfire.reporting.render import HERE, templates
from backfire.reporting.sweeps import figures as sweep_figures
from backfire.reporting.sweeps import tables as sweep_tables
from server.errors import RunFolderError
from server.store.atomic import write_bytes

REPORT: Final = "report.html"
MAX_LINES: Final = 400
# A row of cards on the first screen.
FIRST_FIGURES: Final = 3
_TONES: Final = {
    ClaimVerdict.HOLDS: "good",
    ClaimVerdict.PART: "open",
    ClaimVerdict.FAILS: "bad",
    ClaimVerdict.UNDECIDED: "same",
    ClaimVerdict.NOT_COMPARABLE: "none",
}
_WORDS: Final = SimpleNamespace(
    claim=published_text.claim_words,
    comparison=published_text.comparison_words,
    paper=published_text.paper_words,
    spot=published_text.spot_words,
    why=published_text.why_words,
    p=p_words,
    reach=lambda found, signed=False: reach_words(found, signed=signed),
    spread=lambda pair: sweep_tables.spread_words(*pair),
)


def render_sweep(folder: Path) -> Path:
    """Write `report.html` into a finished sweep's folder; the same folder gives the same bytes.

    Returns:
        The path of the report.

    Raises:
        RunFolderError: If the folder holds no finished sweep, was damaged, or cannot be written
            to; one line.
    """
    return write_page(folder, read_sweep(folder)[1])


def write_page(folder: Path, table: SweepTable) -> Path:
    """Write the report of a sweep that has been read.

    Raises:
        RunFolderError: If the folder cannot be written to; one line.
    """
    path = folder / REPORT
    try:
        write_bytes(path, page(table).encode("utf-8", "replace"))
    except OSError as error:
        reason = error.strerror or str(error)
        raise RunFolderError(f"{path}: the report could not be written: {reason}") from None
    return path


def page(table: SweepTable) -> str:
    """Return the page; the same sweep gives the same text."""
    return str(templates().get_template("sweep.html.j2").render(_context(table)))


def _context(table: SweepTable) -> dict[str, Any]:
    agents, more = sweep_tables.agent_tables(table)
    styles = [(HERE / name).read_text("utf-8") for name in ("style.css", "sweep.css")]
    return {
        "table": table,
        "style": Markup("\n".join(styles)),  # noqa: S704 - our own files, not foreign text
        "side": table.side,
        "told": sweep_tables.told(table),
        "curves": sweep_figures.curves(table),
        "grids": sweep_figures.grids(table),
        "payoffs": sweep_tables.payoffs(table),
        "cells": sweep_tables.cell_table(table),
        "agents": agents,
        "agents_more": more,
        "definitions": sweep_tables.definitions(table),
        "rules": RULES,
        "tones": _TONES,
        "words": _WORDS,
        "most": MAX_LINES,
        "first": FIRST_FIGURES,
        "key": intervals.key,
        "scale_bar": scale_bar,
    }

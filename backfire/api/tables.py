"""Rows as a frame, and as a small table in a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from backfire.evidence.rows import ScoreRow
from scenarios.sweep.spec import COLUMNS

_MOST_ROWS = 60


def frame_of(columns: Mapping[str, Sequence[Any]]) -> Any:  # noqa: ANN401 - of pandas, or a dict
    """Return a pandas DataFrame, or the columns as a dict where pandas is not installed."""
    try:
        import pandas
    except ImportError:
        return {name: list(values) for name, values in columns.items()}
    return pandas.DataFrame(dict(columns))


def columns_of(rows: Sequence[ScoreRow]) -> dict[str, list[Any]]:
    """Return the long table by column: the axes first, then what each row says."""
    axes = list(dict.fromkeys(name for row in rows for name in row.at))
    columns: dict[str, list[Any]] = {name: [row.at.get(name) for row in rows] for name in axes}
    return columns | {name: [getattr(row, name) for row in rows] for name in COLUMNS}


def html_table(title: str, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table for notebooks; every text is escaped, long tables are cut with a note.

    Args:
        title: What stands above it.
        heads: Of the columns.
        rows: Cells as they are shown.
    """
    lines = [[escape(str(cell)) for cell in row] for row in rows]
    body = "".join(f"<tr>{_cells(line, 'td')}</tr>" for line in lines[:_MOST_ROWS])
    more = len(lines) - _MOST_ROWS
    note = f"<p>{more} more rows: .frame() has all</p>" if more > 0 else ""
    head = f"<thead><tr>{_cells([escape(head) for head in heads], 'th')}</tr></thead>"
    return f"<p>{escape(title)}</p><table>{head}<tbody>{body}</tbody></table>{note}"


def _cells(texts: Sequence[str], tag: str) -> str:
    return "".join(f"<{tag}>{text}</{tag}>" for text in texts)


def figure(value: float | None) -> str:
    """Return a score as shown: three digits; a dash where there is none."""
    return "-" if value is None else f"{value:.3g}"


def interval(low: float | None, high: float | None) -> str:
    """Return a 95 % interval as shown; "" where there is none."""
    return "" if low is None or high is None else f"{low:.3g} to {high:.3g}"

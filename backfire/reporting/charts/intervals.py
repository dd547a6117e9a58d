"""Dot plots: scores with their intervals, one row for each thing compared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from backfire.reporting.charts.svg import WIDTH, Scale, element, line, percent_axis, picture, text
from backfire.reporting.text import NAME, fitted, in_full, percent, plain
from server.referee.results import Score

LABEL = 100.0
NOTE = 50.0


@dataclass(frozen=True)
class IntervalMark:
    """A score in a row.

    Attributes:
        name: What it is, in words.
        score: The score.
        shape: ``dot`` (filled), ``ring``, ``diamond`` (hollow) or ``bar`` (a vertical stroke).
        colour: A colour class.
        lane: Shift downwards, so that intervals do not hide each other.
        whisker: Whether the interval is drawn.
    """

    name: str
    score: Score
    shape: str = "dot"
    colour: str = "c0"
    lane: float = 0.0
    whisker: bool = True


@dataclass(frozen=True)
class IntervalRow:
    """A labelled row of marks; without marks it is a heading."""

    label: str
    marks: tuple[IntervalMark, ...] = ()


def dot_plot(
    rows: Sequence[IntervalRow], label: str, *, height: float = 34.0, low: float = 0.0
) -> Markup:
    """Return the chart; the value of each row's first mark is printed beside it.

    Args:
        rows: From top to bottom.
        label: For screen readers.
        height: Of one row.
        low: Where the axis begins; it ends at 100 %.
    """
    scale = Scale(LABEL, WIDTH - NOTE - 8, low, 1.0)
    top, y, drawn = 4.0, 4.0, []
    for row in rows:
        drawn.append(_row(row, scale, y + height / 2))
        y += height
    axis = percent_axis(scale, top, y)
    return picture(y + 20, label, axis, *drawn)


def _row(row: IntervalRow, scale: Scale, y: float) -> Markup:
    name = plain(row.label)
    if not row.marks:
        return text(4, y + 4, fitted(name, 26), "heading")
    shown = element(
        "text", element("title", name), fitted(name, NAME), x=4.0, y=y + 4, class_="label"
    )
    value = text(WIDTH - 4, y + 4, percent(row.marks[0].score.value), "value", "end")
    # The first mark is the one that matters: it is drawn last, on top.
    marks = [_mark(mark, scale, y + mark.lane) for mark in reversed(row.marks)]
    return element("g", shown, *marks, value)


def _mark(mark: IntervalMark, scale: Scale, y: float) -> Markup:
    if mark.score.value is None:
        return Markup("")
    parts = [element("title", in_full(mark.name, mark.score))]
    if mark.whisker:
        parts.append(line(scale(mark.score.low), y, scale(mark.score.high), y, "whisker"))
    parts.append(symbol(mark.shape, scale(mark.score.value), y))
    return element("g", *parts, class_=mark.colour)


def symbol(shape: str, x: float, y: float) -> Markup:
    """Return a marker of the current colour."""
    if shape == "bar":
        return line(x, y - 6, x, y + 6, "stroke")
    if shape == "diamond":
        corners = f"{x:.1f},{y - 5.5:.1f} {x + 5.5:.1f},{y:.1f} {x:.1f},{y + 5.5:.1f}"
        return element("polygon", points=f"{corners} {x - 5.5:.1f},{y:.1f}", class_="hollow")
    return element("circle", cx=x, cy=y, r=4.5, class_="filled" if shape == "dot" else "hollow")


def key(shape: str, colour: str) -> Markup:
    """Return a marker for a legend; without a shape it is a line."""
    marker = symbol(shape, 11, 8) if shape else line(1, 8, 21, 8, "stroke")
    inner = element("g", line(1, 8, 21, 8, "whisker"), marker, class_=colour)
    return element("svg", inner, viewBox="0 0 22 16", class_="key", aria_hidden="true")


def lowest(scores: Iterable[Score | None]) -> float:
    """Return where an axis for these scores may begin: a round share below all intervals."""
    ends = [score.low for score in scores if score is not None and score.value is not None]
    return min(max(0.0, int(min(ends, default=0.0) * 20 - 0.5) / 20), 0.9)

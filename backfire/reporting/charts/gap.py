"""Paired differences with their intervals around zero, one row for each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from backfire.reporting.charts.intervals import LABEL, NOTE, symbol
from backfire.reporting.charts.svg import WIDTH, Scale, element, line, picture, text
from backfire.reporting.text import NAME, fitted, gap_interval, plain, points
from learning.statistics import Interval
from server.referee.results import Difference

HEIGHT = 27.0
STEP = 0.25


@dataclass(frozen=True)
class Gap:
    """A labelled difference; without one it is a heading."""

    label: str
    difference: Difference | Interval | None = None
    colour: str = "c0"


def gap_chart(gaps: Sequence[Gap], label: str, step: float = STEP) -> Markup:
    """Return the chart; the value of each difference, in points, is printed beside it.

    Args:
        gaps: From top to bottom, at least one with a difference.
        label: For screen readers.
        step: The axis ends at multiples of it, on both sides of zero.
    """
    known = [gap.difference for gap in gaps if gap.difference is not None]
    scale = Scale(
        LABEL,
        WIDTH - NOTE - 8,
        math.floor(min(-step, *(gap.low for gap in known)) / step) * step,
        math.ceil(max(step, *(gap.high for gap in known)) / step) * step,
    )
    bottom = 4.0 + HEIGHT * len(gaps)
    rows = [_row(gap, scale, 4.0 + HEIGHT * (k + 0.5)) for k, gap in enumerate(gaps)]
    return picture(bottom + 20, label, _axis(scale, bottom), *rows)


def _axis(scale: Scale, bottom: float) -> Markup:
    marks = []
    for value in scale.ticks():
        x = scale(value)
        marks.append(line(x, 4.0, x, bottom, "grid" if value else "base"))
        shown = f"{100 * value:g}".replace("-", "−")
        marks.append(text(x, bottom + 14, shown, "axis", "middle"))
    return Markup("").join(marks)


def _row(gap: Gap, scale: Scale, y: float) -> Markup:
    name, found = plain(gap.label), gap.difference
    if found is None or found.value is None:
        return text(4, y + 4, fitted(name, 26), "heading")
    whole = f"{name}: {points(found.value)} points (95 % interval {gap_interval(found)})"
    whisker = line(scale(found.low), y, scale(found.high), y, "whisker")
    mark = element(
        "g",
        element("title", whole),
        whisker,
        symbol("dot", scale(found.value), y),
        class_=gap.colour,
    )
    return element(
        "g",
        text(4, y + 4, fitted(name, NAME), "label"),
        mark,
        text(WIDTH - 4, y + 4, points(found.value), "value", "end"),
    )
